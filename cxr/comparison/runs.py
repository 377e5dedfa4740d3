"""The runs that --mode=compare and --mode=study set side by side.

They must be evaluated on the same test films and be different trainings; where
they were evaluated with other settings, this is said beside their estimates.
"""

import glob
import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from absl import logging

from cxr import run_files
from cxr.reporting import wording
from cxr.statistics import bootstrap

# Fields of config.evaluate that change the meaning of no estimate.
_NO_FIGURE = (
  'batch_size',
  'check_films',
  'chunk',
  'export',
  'measures',
  'num_resamples',
  'save_maps',
)
# What the settings hold beside fields of config, and how it is told.
_FILMS, _VERSION = 'test films', 'version'
_TOLD = {
  _FILMS: 'The runs were tested on films of the same names, but with other '
  'pixels, boxes or rows of the label file',
  _VERSION: 'The runs were evaluated by versions of the program that draw and '
  'score some maps otherwise (--mode=evaluate makes them alike)',
}
# Fields of config.model that an evaluation may have otherwise than training.
_OF_MODEL = ('dtype', 'output_stride')


class Run(NamedTuple):
  """An evaluated run, and what it is told apart by."""

  workdir: str
  seed: int
  config: dict[str, object]  # of the training, by dotted name
  settings: dict[str, object]  # of the evaluation, its version and its films
  recorded: bool  # the settings are the evaluation's own record
  weights: str  # a hash; of maps from elsewhere that of the maps
  trained_on: str  # a hash of the training films and their labels
  trained_films: int
  tested_on: str  # a hash of the names of the test films
  findings: tuple[str, ...]  # in the order of the logits
  methods: tuple[str, ...] = ()  # of its own maps
  is_maps: bool = False  # the scores of maps from elsewhere
  num_resamples: int = bootstrap.NUM_RESAMPLES  # of its intervals


def find(names: Sequence[str]) -> tuple[str, ...]:
  """The workdirs that names and patterns stand for, each once, in order.

  A name with *, ? or [ is a pattern, unless there is a folder of this name.

  Raises:
    FileNotFoundError: a pattern that matches no run.
    ValueError: a folder that is named twice; one that a pattern matches again
      is counted once.
  """
  found, named = {}, set()  # by real path
  for name in names:
    if os.path.isdir(name) or not glob.has_magic(name):
      real = os.path.realpath(name)
      if real in named:
        raise ValueError(
          f'--workdirs names {found[real]} and {name}, which are one folder: '
          'the run is named more than once.'
        )
      named.add(real)
      matched = [name]
    else:
      matched = [
        path
        for path in sorted(glob.glob(name))
        if os.path.exists(os.path.join(path, 'config.json'))
      ]
      if not matched:
        raise FileNotFoundError(f'--workdirs: no run matches {name}.')
    for path in matched:
      known = found.setdefault(os.path.realpath(path), path)
      if known != path:
        logging.info('%s is %s: it counts once.', path, known)
  return tuple(found.values())


def distinct_names(workdirs: Sequence[str]) -> list[str]:
  """Names of runs: the last part of each folder, or as many as tell them apart.

  Examples:
    >>> distinct_names(['runs/a', 'runs/b/'])
    ['a', 'b']
    >>> distinct_names(['monday/run', 'friday/run'])
    ['monday/run', 'friday/run']
  """
  parts = [pathlib.Path(os.path.abspath(workdir)).parts for workdir in workdirs]
  for count in range(1, max(map(len, parts)) + 1):
    names = ['/'.join(part[-count:]) for part in parts]
    if len(set(names)) == len(names):
      break
  return names


def read(workdir: str) -> Run:
  """What a run is told apart by.

  Raises:
    FileNotFoundError: it was not trained, or not evaluated.
    ValueError: one of its files is damaged.
  """
  config = run_files.read_config(workdir)
  for name in ('predictions.csv', 'boxes.csv'):
    if not os.path.exists(os.path.join(workdir, name)):
      raise FileNotFoundError(
        f'No {name} in {workdir}; run --mode=evaluate first.'
      )
  trained = run_files.read(workdir, 'data.json', 'splits')['splits']
  metrics = run_files.read(workdir, 'metrics.json')
  tested = metrics.get('data', {}).get('splits', {}).get('test')
  evaluation = metrics.get('evaluation') or {}
  own = evaluation.get('config')
  train = trained.get('train', {})
  localized = metrics.get('localization', {})
  settings = dict(own['evaluate'] if own else config.evaluate)
  for field in _OF_MODEL:
    used = (own or {}).get('model', {}).get(field, config.model.get(field))
    as_trained = used == config.model.get(field)
    settings[f'model.{field}'] = 'as trained' if as_trained else used
  settings[_VERSION] = evaluation.get('version')
  if tested and tested.get('content_sha256'):
    settings[_FILMS] = tested['content_sha256'][:8]
  return Run(
    workdir,
    config.seed,
    run_files.flat(config),
    {
      name: list(value) if isinstance(value, tuple) else value
      for name, value in settings.items()
      if name not in _NO_FIGURE
    },
    own is not None,
    evaluation['weights']
    if evaluation.get('maps')
    else _hash_of_clean_logits(os.path.join(workdir, 'predictions.csv')),
    train.get('content_sha256') or train.get('sha256', ''),
    train.get('images', 0),
    (tested or trained['test'])['sha256'],
    run_files.read_findings(workdir),
    tuple(filter(wording.is_own, localized.get('methods', {}))),
    bool(evaluation.get('maps')),
    evaluation.get('num_resamples', bootstrap.NUM_RESAMPLES),
  )


def num_resamples(runs: Sequence[Run]) -> int:
  """The resamples of runs that stand together: as many as the most careful
  evaluation among them took (config.evaluate.num_resamples)."""
  return max(run.num_resamples for run in runs)


def _hash_of_clean_logits(path: str) -> str:
  """Tells weights apart in runs of every version, however evaluated."""
  digest = hashlib.sha256()
  with open(path, 'rb') as f:
    for line in f:
      if line.startswith(b'test,clean,'):
        digest.update(line)
  return digest.hexdigest()


def check_same_test_films(runs: Sequence[Run]) -> None:
  """Raises ValueError where runs were tested on different films."""
  hashes = {run.workdir: run.tested_on for run in runs}
  if len(set(hashes.values())) > 1:
    raise ValueError(
      'The runs were tested on different films ('
      + ', '.join(f'{w}: {h[:8]}' for w, h in hashes.items())
      + '); compare runs on the same test list.'
    )


def same_weights(runs: Sequence[Run]) -> tuple[Run, Run] | None:
  """The first two runs that hold the same weights."""
  known = {}
  for run in runs:
    if run.weights in known:
      return known[run.weights], run
    known[run.weights] = run
  return None


def differing_settings(runs: Sequence[Run]) -> dict[str, list]:
  """Field of config.evaluate -> its value in each run, where these differ.

  A field that one of the runs is older than is passed over; so are the films
  (their pixels and labels) of networks of different sizes or findings.
  """
  first, *others = (run.settings for run in runs)
  made_for = {(run.config.get('data.image_size'), run.findings) for run in runs}
  passed_over = {_FILMS} if len(made_for) > 1 else ()
  return {
    name: [run.settings[name] for run in runs]
    for name in first
    if name not in passed_over
    and all(name in other for other in others)
    and any(other[name] != first[name] for other in others)
  }


def told(settings: Mapping[str, Sequence], names: Sequence[str]) -> list[str]:
  """A sentence on each setting in which the evaluations differ.

  Args:
    settings: by `differing_settings`.
    names: of the runs, in the same order.
  """
  evaluated = 'The runs were evaluated with different config.'
  return [
    _TOLD.get(
      field, evaluated + (field if '.' in field else f'evaluate.{field}')
    )
    + ': '
    + ', '.join(
      f'{_spelled(value)} ({name})'
      for name, value in zip(names, values, strict=True)
    )
    + '. Estimates that depend on it differ by this, too.'
    for field, values in settings.items()
  ]


def told_of_maps(opened: Sequence[Run], names: Sequence[str]) -> list[str]:
  """Sentences on runs that are scores of maps from elsewhere.

  Args:
    opened: the runs.
    names: of them, in the same order.
  """
  maps = [name for run, name in zip(opened, names, strict=True) if run.is_maps]
  if not maps:
    return []
  verb = 'are' if len(maps) > 1 else 'is'
  sentences = [
    f'{wording.listed(maps)} {verb} maps from elsewhere: nothing is known here '
    'of the network that made them.'
  ]
  if not set.intersection(*(set(run.methods) for run in opened)):
    methods = '; '.join(
      f'{name}: {", ".join(run.methods) or "none"}'
      for run, name in zip(opened, names, strict=True)
    )
    sentences.append(
      f'The runs share no method, so that only controls stand beside each '
      f'other ({methods}). Maps are compared by the name of their method: '
      'score them again with --method=NAME.'
    )
  return sentences


def _spelled(value) -> str:
  if value is None:
    return 'an older one'
  if isinstance(value, list):
    return ' and '.join(map(_spelled, value)) or 'none'
  return f'{value:g}' if isinstance(value, float) else str(value)
