"""--mode=evaluate: a trained model -> its stored rows, estimates and page.

The work of the devices is kept part by part (parts.py). The parts are joined in
the tables predictions.csv, boxes.csv and measures.csv; readers.csv holds what
readers said of the test films. All estimates are computed from the tables, and
written to metrics.json and calibration.json; the model card and the report show
them. --mode=report starts at the tables.
"""

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from cxr import (
  data,
  files,
  inference,
  platforms,
  run_files,
  sharding,
  stored_rows,
)
from cxr.estimates import reader_estimates, readings, run_tables, summary
from cxr.evaluation import (
  attack_flags,
  classify,
  film_measures,
  localize,
  other_films,
  provenance,
)
from cxr.evaluation.parts import Parts
from cxr.exporting import boxes_and_masks
from cxr.inference import Subject
from cxr.localization import thresholds
from cxr.measures import map_sanity, measure_table
from cxr.reporting import card, pages, part_robustness
from cxr.scored_maps import examples
from input_pipeline import synonyms
from input_pipeline.sources import film_table

# What config.evaluate.export may ask for; exporting/boxes_and_masks.py.
EXPORTS = ('coco', 'chexlocalize')


def evaluate(config: ConfigDict, workdir: str, output: str = '') -> None:
  """Evaluates the workdir's checkpoint and writes all results.

  Args:
    config: of the run, with what this evaluation has otherwise.
    workdir: of the run.
    output: receives the results of an evaluation on other films, with the
      run's own calibration and operating points; '': the workdir does.

  Raises:
    FileNotFoundError: the workdir has no checkpoint.
    ValueError: the config or the data do not fit.
  """
  subject, step = open_subject(config, workdir, _needed(workdir, output))
  config, splits = subject.config, subject.splits
  if not output and run_files.read_weights_from(workdir):
    splits = provenance.without_seen(workdir, splits)
    subject = subject._replace(splits=splits)
  validation = {}
  if output:
    subject, validation, seen = other_films.prepare(subject, workdir)
    splits = subject.splits
    other_films.tell_of_replaced(output, subject.test)
    if jax.process_index() == 0:
      other_films.claim(output, workdir, seen)
  elif not run_files.read_weights_from(workdir):
    provenance.check_films(workdir, config, splits)
  run, workdir = workdir, output or workdir
  parts = Parts(workdir, subject, step=step)

  blocks, audits = classify.classify(subject, parts)
  blocks = validation | blocks
  boxes, grids, boxed_maps = localize.localize(subject, parts)
  logits = blocks[stored_rows.Condition('test')].logit
  examples.write_examples(
    os.path.join(workdir, 'examples.npz'), subject, boxes, logits
  )
  localize.write_coarse_maps(workdir, subject, parts)
  measured = film_measures.measure(
    subject._replace(boxed_maps=boxed_maps), parts
  )
  checks = attack_flags.checked(subject, parts)
  if jax.process_index() == 0:
    path = lambda name: os.path.join(workdir, name)
    stored_rows.write_predictions(
      path('predictions.csv'), blocks, findings=subject.findings
    )
    stored_rows.write_boxes(path('boxes.csv'), boxes)
    measure_table.write(path('measures.csv'), measured)
    read = readings.of_split(subject.test)
    readings.write(path('readers.csv'), read)
    record = provenance.record(run, config, parts.weights, splits)
    details = {
      'step': step,
      'batch_stats': config.evaluate.batch_stats,
      'audits': audits,
      'attack_checks': checks,
      'map_size': {name: grid[:2] for name, grid in grids.items()},
      'rows': run_tables.row_counts(blocks, boxes, measured, read),
      **record,
    }
    if output:
      details['films'] = other_films.named(config)
      other_films.write_origin(output, run, details['data'])
    # It says how many rows the tables have, which is asked as they are read.
    files.write_json(path('evaluation.json'), details, indent=2)
    estimates = _estimates(config, workdir, record['data'])
    _write_results(config, workdir, details, estimates)
    _export(subject, parts, boxes, logits)
  # Who leaves first waits five minutes for the others, and no longer.
  sharding.wait_for_all('results')


def _needed(workdir: str, output: str) -> tuple[str, ...]:
  """The splits that must have films."""
  if output:
    return ('test',)
  if run_files.read_weights_from(workdir):
    return ('validation', 'test')
  return film_table.SPLITS


def open_subject(
  config: ConfigDict, workdir: str, needed: Sequence[str]
) -> tuple[Subject, int]:
  """(a run's model and its films, the step of its weights).

  Args:
    config: of the run, with what this evaluation has otherwise.
    workdir: of the run.
    needed: the splits that must have films.

  Raises:
    FileNotFoundError, ValueError: the weights or the films cannot be read.
  """
  mesh = sharding.make_mesh()
  config, model, variables, step = inference.load_model(
    workdir, config, platforms.of(mesh)
  )
  splits = data.with_findings(
    data.load(config, needed),
    run_files.read_findings(workdir),
    synonyms.read(config.data.synonyms),
  )
  variables = sharding.replicate(mesh, variables)
  return Subject(config, model, variables, mesh, splits), step


def _export(subject: Subject, parts: Parts, boxes, logits) -> None:
  """Boxes for other tools; maps and masks were written as they were made."""
  evaluate = subject.config.evaluate
  if not evaluate.export:
    return
  folder = localize.export_folder(subject, parts)
  if 'coco' in evaluate.export:
    films = data.boxed_films(subject.test)
    rule = thresholds.main_rule(evaluate.rules)
    boxes_and_masks.write_coco(
      folder,
      films,
      boxes.where(rule=rule),
      logits[:, subject.mapped_columns],
      subject.config.data.image_size,
    )
  logging.info('Files for other tools: %s', folder)


def summarize(config: ConfigDict, workdir: str) -> None:
  """Writes metrics.json, calibration.json, card and page from the csv files.

  Raises:
    FileNotFoundError, ValueError: the workdir was not evaluated, or by a
      version that wrote less.
  """
  details = run_files.read(
    workdir, 'evaluation.json', 'step', 'batch_stats', 'audits', 'map_size'
  )
  # An older evaluation kept its record in the training's data.json.
  details['data'] = details.get('data') or run_files.read(
    workdir, 'data.json', 'splits'
  )
  estimates = _estimates(config, workdir, details['data'])
  _write_results(config, workdir, details, estimates)


def _estimates(
  config: ConfigDict, workdir: str, described: Mapping[str, Any]
) -> dict:
  """What follows from the tables; `described` is the record of the films."""
  elsewhere = described.get('weights_from', {})
  return summary.summarize(
    workdir,
    num_resamples=config.evaluate.num_resamples,
    seed=config.seed,
    given=elsewhere.get('operating_points', {}),
  )


def _write_results(
  config: ConfigDict, workdir: str, details: dict, estimates: dict
) -> None:
  """Writes metrics.json, calibration.json, card and page.

  Args:
    config: of the evaluation.
    workdir: of its results.
    details: what evaluation.json holds.
    estimates: of `_estimates`.
  """
  described = details['data']
  for entry in estimates['robustness']:
    entry |= details['audits'].get(
      f'{entry["attack"]} {entry["epsilon"]:g}', {}
    )
  estimates['localization']['map_size'] = details['map_size']
  flags = details.get('attack_checks', [])
  flags = flags + attack_flags.of_estimates(estimates['robustness'])
  given = {}
  if 'given' in estimates['calibration']:
    points = estimates['calibration']['given']
    points['from'] = described['weights_from']['operating_points_from']
    given = {'given': {key: points[key] for key in ('from', 'threshold')}}
  metrics = {
    'data': described,
    'evaluation': {
      'weights': details.get('weights'),
      'version': details.get('version'),
      'config': details.get('config'),
      'films': details.get('films'),  # where they are of another data set
      'maps': details.get('maps'),  # where they are from elsewhere
      'num_resamples': config.evaluate.num_resamples,
      'resampling_seed': config.seed,
    },
    'versions': versions(),
    'step': details['step'],
    'warnings': map_sanity.warnings(estimates['measures']),
    **estimates,
    'attack_checks': flags,
  }
  reader_estimates.warn(estimates['readers'])
  for warning in part_robustness.check_warnings(metrics):
    logging.warning('%s', warning)
  files.write_json(os.path.join(workdir, 'metrics.json'), metrics, indent=2)
  if 'fitted' in estimates['calibration']:
    files.write_json(
      os.path.join(workdir, 'calibration.json'),
      {
        'step': details['step'],
        'batch_stats': details['batch_stats'],
        **estimates['calibration']['fitted'],
        **given,
      },
      indent=2,
    )
  if not details.get('films'):  # the run has its card
    card.write(workdir)
  pages.write(workdir)


def versions() -> dict[str, str]:
  """The versions of Python and of the libraries, and the kind of device."""
  packages = 'jax', 'flax', 'optax', 'numpy', 'scipy', 'tensorflow-cpu'
  found = {'python': platform.python_version()}
  for name in packages:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue  # another build of it, under another name
  return found | {'device': jax.devices()[0].device_kind}
