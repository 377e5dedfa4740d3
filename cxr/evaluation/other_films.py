"""Results without weights, in a folder of their own: on films of another data
set, or of maps from elsewhere.

Such a folder is read as a workdir is by report, compare and study. The run's
own folder is not written to. Its calibration and its operating points hold, so
the logits of its validation films are copied out of its own evaluation.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cxr import data, files, run_files, stored_rows
from cxr.evaluation import parts, provenance
from cxr.inference import Subject
from cxr.reporting import wording
from cxr.stored_rows import Condition, Predictions
from input_pipeline import pipeline

_VALIDATION = Condition('validation')
_RECORD = 'run.json'  # of which run, and what was left out
STORE = 'placed-maps.bin'  # maps from elsewhere, while they are scored


def check_run(workdir: str) -> None:
  """Raises ValueError where the folder has results and no weights.

  `report`, `compare` and `study` need none.
  """
  record = os.path.join(workdir, _RECORD)
  if os.path.exists(record):
    stored = files.read_json(record)
    if 'maps' in stored:
      raise ValueError(
        f'{workdir} holds the scores of maps from elsewhere ({stored["maps"]}) '
        'and no weights; report, compare and study read it.'
      )
    run = stored.get('workdir')
    raise ValueError(
      f'{workdir} holds an evaluation on other films and no weights; those are '
      f'in the run: --workdir={run}.'
    )


def check_source(config: ConfigDict, workdir: str) -> None:
  """Refuses to mix films of another layout with those of the training."""
  trained = run_files.read_config(workdir).data.source
  if config.data.source != trained:
    raise ValueError(
      f'config.data.source is {config.data.source!r}, and {workdir} was '
      f'trained on {trained!r}; an evaluation on other films has a folder of '
      'its own: add --output=FOLDER.'
    )


def check_output(output: str, workdir: str) -> None:
  """Raises ValueError where the folder holds something else.

  An evaluation of the same run there goes on, or is made anew.
  """
  if os.path.realpath(output) == os.path.realpath(workdir):
    raise ValueError(
      f'--output ({output}) is the folder of the run; give another, or none '
      "to evaluate the run's own films."
    )
  _check_holds(output, 'workdir', workdir)


def check_scores(output: str, maps: str) -> None:
  """Raises ValueError where the folder holds something else than scores of
  these maps, which are made anew."""
  if not output:
    raise ValueError('--mode=score needs --output=FOLDER for its results.')
  _check_holds(output, 'maps', maps)


def _check_holds(output: str, kind: str, path: str) -> None:
  """Raises ValueError unless the folder is new, or its record says that it is
  of this run ('workdir') or of these maps ('maps')."""
  if os.path.exists(output) and not os.path.isdir(output):
    raise ValueError(f'--output ({output}) is a file; give a folder.')
  # What was killed at its very start has left no more than these.
  started = {'lock', STORE}
  if not os.path.exists(output) or not {*os.listdir(output)} - started:
    return
  record = os.path.join(output, _RECORD)
  stored = files.read_json(record) if os.path.exists(record) else {}
  own = stored.get(kind)
  if not own or os.path.realpath(own) != os.path.realpath(path):
    holds = 'other files'
    if os.path.exists(os.path.join(output, 'config.json')):
      holds = 'a run'
    if 'maps' in stored:
      holds = f'the scores of {stored["maps"]}'
    elif 'workdir' in stored:
      holds = f'the evaluation of {stored["workdir"]}'
    raise ValueError(
      f'--output ({output}) holds {holds}; choose another folder, or remove it.'
    )


def tell_of_replaced(output: str, test: pipeline.Split) -> None:
  """Says that the folder's results of other films are replaced."""
  path = os.path.join(output, 'data.json')
  if not os.path.exists(path):
    return
  old = run_files.read(output, 'data.json', 'splits')['splits'].get('test', {})
  if old.get('content_sha256', test.content) != test.content:
    logging.warning(
      '%s holds an evaluation of %s other films, which is replaced; to keep '
      'it, stop and choose another --output.',
      output,
      old.get('images', 'some'),
    )


def as_tests(
  config: ConfigDict, workdir: str, overrides: Mapping[str, Any]
) -> ConfigDict:
  """The config by which films without a split are test films, all of them.

  Films of the training's own folder stay divided as they were.
  """
  stored = run_files.read_config(workdir).data
  own = config.data.source == stored.source and os.path.realpath(
    config.data.dir
  ) == os.path.realpath(files.find(stored.dir))
  if own or 'data.test_fraction' in overrides:
    return config
  config = config.copy_and_resolve_references()
  config.data.test_fraction = 1.0
  return config


class Prepared(NamedTuple):
  """What an evaluation on other films begins with."""

  subject: Subject  # with the films that the run has not seen
  validation: dict[Condition, Predictions]  # of the run's own films
  seen: tuple[str, ...]  # the films that were left out for it


def prepare(subject: Subject, workdir: str) -> Prepared:
  """Takes out the films that the weights learned from or were chosen by.

  Raises:
    FileNotFoundError, ValueError: the run was not evaluated, or with other
      weights; or it has seen all of the films.
  """
  validation = _validation(subject, workdir)
  tests = {
    name: split
    for name, split in subject.splits.items()
    if name not in ('train', 'validation')
  }
  everything = tests['test']
  seen = _seen(everything, subject.config, workdir)
  left_out = dict(getattr(subject.splits, 'left_out', {}))
  if seen.any():
    names = ', '.join(everything.image_name[seen][:3].tolist())
    sentence = f'test films, such as {names}, are films that {workdir} was '
    sentence += 'trained or validated on'
    if seen.all():
      raise ValueError(f'All {sentence}; give other films.')
    logging.warning(
      f'{seen.sum():,} of the {len(seen):,} {sentence}: they are left out, and '
      f'listed in {_RECORD}.'
    )
    tests = {name: data.without(split, seen) for name, split in tests.items()}
    left_out['seen by the run'] = int(seen.sum())
  tests = pipeline.Splits(tests)
  tests.left_out = left_out
  return Prepared(
    subject._replace(
      splits=tests, validated=(validation.logit, validation.label)
    ),
    {_VALIDATION: validation},
    tuple(sorted(everything.image_name[seen].tolist())),
  )


def named(config: ConfigDict) -> str:
  """The films of this evaluation as a page names them.

  Examples:
    >>> from configs import default
    >>> config = default.get_config()
    >>> config.data.source, config.data.dir = 'rsna', '/data/pneumonia/'
    >>> named(config)
    'RSNA Pneumonia 2018 (pneumonia)'
  """
  source = wording.SOURCES.get(config.data.source, config.data.source)
  folder = os.path.basename(os.path.normpath(config.data.dir))
  return f'{source} ({folder})' if config.data.dir else source


def claim(output: str, workdir: str, seen: Sequence[str]) -> None:
  """Writes whose evaluation the folder holds, and which films it leaves out."""
  record = {'workdir': os.path.abspath(workdir), 'seen': list(seen)}
  files.write_json(os.path.join(output, _RECORD), record, indent=2)


def claim_maps(output: str, maps: str) -> None:
  """Writes of which maps the folder holds the scores."""
  record = {'maps': os.path.abspath(maps)}
  files.write_json(os.path.join(output, _RECORD), record, indent=2)


def write_origin(output: str, workdir: str, described: Mapping) -> None:
  """Writes what the folder needs beside results to be read as a run's.

  Args:
    output: the folder.
    workdir: of the run.
    described: its films, and those that the weights learned from.
  """
  path = lambda name: os.path.join(output, name)
  trained = run_files.read_config(workdir).to_dict()
  files.write_json(path('config.json'), trained, indent=2)
  files.write_json(path('data.json'), described, indent=2)


def _validation(subject: Subject, workdir: str) -> Predictions:
  path = os.path.join(workdir, 'predictions.csv')
  way = f'evaluate it first: --mode=evaluate --workdir={workdir}.'
  if not os.path.exists(path):
    raise FileNotFoundError(
      f'{workdir} was not evaluated on its own validation films, which its '
      f'operating points come from; {way}'
    )
  evaluated = run_files.read(workdir, 'evaluation.json', 'batch_stats')
  weights = parts.hash_weights(subject.variables)
  statistics = subject.config.evaluate.batch_stats
  if evaluated.get('weights', weights) != weights or (
    evaluated['batch_stats'] != statistics
  ):
    raise ValueError(
      f'{workdir} was evaluated with other weights or statistics of '
      f'BatchNorm than these, and its operating points are of those; {way}'
    )
  findings, blocks = stored_rows.read_predictions(path)
  if _VALIDATION not in blocks or findings != subject.findings:
    raise ValueError(
      f'{path} has no predictions of the validation films; {way}'
    )
  return blocks[_VALIDATION]


def _seen(test: pipeline.Split, config: ConfigDict, workdir: str) -> np.ndarray:
  """Which test films are among the run's training and validation films."""
  seen = provenance.seen_elsewhere(workdir, test)
  stored = run_files.read_config(workdir)
  if stored.data.source == 'phantom' != config.data.source:
    return seen  # drawn films
  as_trained = provenance.as_trained(stored, config)
  as_trained.data.cache = 'none'
  try:
    splits = data.load(as_trained)
  except (OSError, ValueError) as error:
    logging.warning(
      'Whether the weights learned from some of these films cannot be seen: %s',
      error,
    )
    return seen
  logging.info('Looking for films that the weights have seen.')
  names = ['train', 'validation']
  if run_files.read_weights_from(workdir):
    names.remove('train')  # the weights come from elsewhere
  return functools.reduce(
    np.logical_or,
    [provenance.shared_films(splits[name], test) for name in names],
    seen,
  )
