"""What exported weights take along of their run, so that they can be used as
the run itself is: explained with, evaluated, and known for what they are.

  data.json         the films that they learned from, as counts
  seen_films.npz    hashes of these and of the validation films, so that no
                    evaluation measures on them; no film can be made of a hash
  calibration.json  operating points
  metrics.json      of the evaluation on the test films, the AUROCs
  MODEL_CARD.md     all of it, in words

A file that the run has not got is left out, and the log says what that costs.
"""

import os
import shutil

from absl import logging
from ml_collections import ConfigDict

from cxr import data, files, film_hashes, run_files

SEEN_FILMS = 'seen_films.npz'
_CARD = 'MODEL_CARD.md'


def portable(config: ConfigDict) -> dict:
  """The run's config without the folders of the machine that it was made on."""
  config = config.copy_and_resolve_references()
  base = lambda path: os.path.basename(os.path.normpath(path)) if path else ''
  config.data.dir = base(config.data.dir)
  config.data.synonyms = base(config.data.synonyms)
  config.data.prepared_dir = 'data/prepared'
  config.model.init_from = base(config.model.init_from)
  config.model.init_pixels = ''  # the exported file says its own, and its
  config.model.init_findings = ()  # findings
  return config.to_dict()


def write(workdir: str, output_dir: str, config: ConfigDict, step: int) -> dict:
  """Writes the files of the run that belong to the weights of a step.

  Args:
    workdir: of the run, or of weights that were exported from one.
    output_dir: of the export.
    config: of the run.
    step: of the checkpoint that is exported.

  Returns:
    What metrics.json holds; {} where the run was not evaluated at this step.
  """
  into = lambda name: os.path.join(output_dir, name)
  for name in ('data.json', 'calibration.json'):
    path = os.path.join(workdir, name)
    if name != 'calibration.json' or run_files.read_calibration(
      workdir, step, config.evaluate.batch_stats
    ):
      _copy(path, into(name))
  _write_seen(workdir, into(SEEN_FILMS), config)
  metrics = _metrics(workdir, step)
  if metrics:
    files.write_json(into('metrics.json'), metrics, indent=2)
    _copy(os.path.join(workdir, _CARD), into(_CARD))
  return metrics


def _copy(source: str, target: str) -> None:
  if os.path.exists(source):
    with files.replacing(target) as temporary:
      shutil.copyfile(source, temporary)


def _metrics(workdir: str, step: int) -> dict:
  """The AUROCs on test films, as they are and under attack."""
  if not os.path.exists(os.path.join(workdir, 'metrics.json')):
    return {}
  metrics = run_files.read(workdir, 'metrics.json', 'step', 'classification')
  if metrics['step'] != step:
    return {}
  test = metrics['classification'].get('test', {})
  return {
    'step': step,
    'classification': {'test': {k: test[k] for k in ('auroc',) if k in test}},
    'robustness': metrics.get('robustness', []),
    'versions': metrics.get('versions', {}),
  }


def _write_seen(workdir: str, path: str, config: ConfigDict) -> None:
  """Writes the hashes of the films that the weights have seen."""
  # Weights from elsewhere did not learn from the films of their run.
  if run_files.is_exported(workdir) or run_files.read_weights_from(workdir):
    _copy(os.path.join(workdir, SEEN_FILMS), path)
    return
  reason = f'{workdir} has no data.json'
  if os.path.exists(os.path.join(workdir, 'data.json')):
    stored = config.copy_and_resolve_references()
    stored.data.cache = 'none'
    try:
      splits = data.load(stored)
      data.check_same_films(workdir, splits)
    except (OSError, ValueError) as error:
      reason = str(error)
    else:
      of_split = lambda name: film_hashes.of_split(splits[name])
      seen = film_hashes.Seen(of_split('train'), of_split('validation'))
      film_hashes.write(path, seen)
      return
  logging.warning(
    'The films that the weights learned from are not at hand, so that an '
    'evaluation of the exported weights cannot leave them out: %s',
    reason,
  )
