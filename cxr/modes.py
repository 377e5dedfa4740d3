"""What each --mode does with the flags."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
from absl import logging
from ml_collections import ConfigDict

from configs import default
from cxr import configuration, files, run_files, sharding
from cxr.comparison import compare, study
from cxr.evaluation import evaluate, map_export, other_films
from cxr.explaining import explain
from cxr.exporting import export
from cxr.foreign import run_of_weights, score
from cxr.foreign.map_places import Place
from cxr.reporting import terminal
from cxr.shipped import networks
from cxr.training import profile, train
from input_pipeline import memory


class Request(NamedTuple):
  """What the command line asks for; a notebook names what it needs."""

  config: ConfigDict | None = None  # None: configs/default.py
  overrides: Mapping[str, Any] = {}  # of --config.x=y, by dotted name
  workdir: str = ''
  workdirs: tuple[str, ...] = ()
  images: str = ''
  output: str = ''
  profile: str = ''  # START,STEPS
  maps: str = ''  # for 'score', as are the next three
  place: Place = Place()
  predictions: str = ''
  predictions_are: str = ''
  config_chosen: bool = True  # by the user: its run is meant without a workdir


def run(mode: str, request: Request) -> None:
  """Does what a mode of `MODES` is for; '~' in paths is the home folder.

  modes.run('evaluate', modes.Request(workdir='runs/robust'))
  """
  home = os.path.expanduser
  chosen = request.config is not None and request.config_chosen
  config = request.config or default.get_config()
  config.update_from_flattened_dict(
    configuration.expand_paths(run_files.flat(config))
  )
  if request.profile and mode not in ('train', 'fit'):
    raise ValueError(
      f'--profile traces steps of a training, and --mode={mode} has none; '
      'leave it out.'
    )
  workdir = networks.folder(home(request.workdir))
  if mode not in ('explain', 'export'):
    for named in (request.workdir, *request.workdirs):
      _check_is_run(mode, named)
  MODES[mode](
    request._replace(
      config=config,
      config_chosen=chosen,
      overrides=configuration.expand_paths(request.overrides),
      workdir=workdir,
      workdirs=tuple(map(home, request.workdirs)),
      images=home(request.images),
      maps=home(request.maps),
      predictions=home(request.predictions),
      output=home(request.output),
    )
  )


def _check_is_run(mode: str, named: str) -> None:
  """Raises ValueError where the folder holds exported weights alone."""
  folder = networks.folder(os.path.expanduser(named))
  if folder and run_files.is_exported(folder):
    raise ValueError(
      f'{named} holds weights and no run, and --mode={mode} needs a run. '
      '--mode=explain and export take these weights as they are; to evaluate '
      f'them, --mode=evaluate --config.model.init_from={named} '
      '--workdir=FOLDER, a new one.'
    )


# Bytes that a run needs beside the cached films and the training step: for the
# libraries, what they compile, and an evaluation. Measured on the phantom.
_RUN_BYTES = 1_500_000_000


def _train(request: Request) -> None:
  """Trains, evaluates and reports."""
  with _trained(request) as workdir:
    evaluate.evaluate(request.config, workdir)
  _done_with_results(workdir)


def _fit(request: Request) -> None:
  """Trains only, for choices that must be made before test films are seen."""
  with _trained(request) as workdir:
    _done(workdir, 'checkpoints')


@contextlib.contextmanager
def _trained(request: Request) -> Iterator[str]:
  """Trains to the end; yields the workdir, which stays locked meanwhile."""
  config, span = request.config, profile.parse(request.profile)
  configuration.validate(config)
  _warn(config)
  _check_memory()
  workdir = request.workdir or os.path.join('runs', config.name)
  other_films.check_run(workdir)
  run_of_weights.check_trained(workdir)
  with _locked(workdir):
    train.train(config, workdir, span=span)
    yield workdir


def _evaluate(request: Request) -> None:
  config, workdir = _stored(_with_run_of_weights(request))
  other_films.check_run(workdir)
  if request.output:
    config = other_films.as_tests(config, workdir, request.overrides)
    other_films.check_output(request.output, workdir)
  else:
    other_films.check_source(config, workdir)
  _warn(config)
  _check_memory()
  results = request.output or workdir
  with _locked(results):
    evaluate.evaluate(config, workdir, request.output)
  _done_with_results(results)


def _with_run_of_weights(request: Request) -> Request:
  """Makes the run of config.model.init_from, where the workdir has none.

  Where it has that run, the same command goes on with it.
  """
  config, overrides = request.config, dict(request.overrides)
  if not config.model.init_from:
    return request
  workdir = request.workdir or os.path.join('runs', config.name)
  if not os.path.exists(os.path.join(workdir, 'config.json')):
    other_films.check_run(workdir)
    _check_memory()
    with _locked(workdir):
      start = run_of_weights.find(config, overrides, workdir)
      configuration.validate(start.config)
      run_of_weights.make_run(start, workdir)
    sharding.wait_for_all('run')
  elif 'model.init_from' in overrides:
    run_of_weights.check_same_file(workdir, config)
  else:
    return request
  # The file may have another path today.
  overrides.pop('model.init_from', None)
  return request._replace(workdir=workdir, overrides=overrides)


def _score(request: Request) -> None:
  """Scores maps from elsewhere on the test films."""
  if not request.maps:
    raise ValueError(
      '--mode=score needs --maps=FILE.npz or --maps=FOLDER (docs/maps.md).'
    )
  given = score.Given(
    request.maps, request.place, request.predictions, request.predictions_are
  )
  other_films.check_scores(request.output, request.maps)
  source = score.open_source(given)
  config = score.with_defaults(request.config, request.overrides, source)
  configuration.validate(config)
  with _locked(request.output):
    score.score(config, given, source, request.output)
  _done_with_results(request.output)


def _report(request: Request) -> None:
  config, workdir = _stored(request)
  with _locked(workdir):
    evaluate.summarize(config, workdir)
  _done_with_results(workdir)


def _compare(request: Request) -> None:
  if len(request.workdirs) < 2:
    raise ValueError(
      f'--mode=compare needs two runs or more ({len(request.workdirs)} '
      'given): --workdirs=runs/baseline,runs/robust.'
    )
  compare.compare(request.workdirs, request.output)


def _study(request: Request) -> None:
  study.study(request.workdirs, request.output)


def _explain(request: Request) -> None:
  unnamed = not request.workdir and not request.config_chosen
  if unnamed:
    request = request._replace(workdir=networks.folder(networks.DEFAULT))
  config, workdir = _stored(request)
  other_films.check_run(workdir)
  if not request.images:
    raise ValueError('--mode=explain needs --images=FILE or --images=FOLDER.')
  if unnamed:
    logging.info(
      'No --workdir is given, so that %s explains, a network that comes with '
      'the code. Others are %s; your own is --workdir=runs/NAME.',
      networks.DEFAULT,
      ', '.join(networks.others()),
    )
  explain.explain(config, workdir, request.images, request.output)


def _export(request: Request) -> None:
  config, workdir = _stored(request)
  other_films.check_run(workdir)
  folder = export.export(config, workdir, request.output)
  if config.evaluate.save_maps:
    map_export.write_maps(config, workdir, folder)


def _stored(request: Request) -> tuple[ConfigDict, str]:
  """The config stored in the workdir, with the overrides of the command line.

  Raises:
    FileNotFoundError: there is no run.
    ValueError: an override is of a field that the weights were made with.
  """
  workdir = request.workdir or os.path.join('runs', request.config.name)
  config = run_files.read_config(workdir)
  stored = run_files.flat(config)
  for name, value in request.overrides.items():
    free = name.startswith(run_files.FREE_AFTER_TRAINING)
    fixed = not free or name == 'data.image_size'
    if fixed and name in stored and value != stored[name]:
      raise ValueError(
        f'config.{name} ({value!r} here) is {stored[name]!r} in {workdir}, '
        'whose weights were made with it; train another run.'
      )
  config.update_from_flattened_dict(request.overrides)
  for name in ('dir', 'prepared_dir'):
    # It may have been made in the project's folder, and this is another.
    if isinstance(config.data[name], str):
      config.data[name] = files.find(config.data[name])
  configuration.validate(config)
  return config, workdir


def _warn(config: ConfigDict) -> None:
  for sentence in configuration.describe_faint_attacks(config):
    logging.warning('%s', sentence)


def _check_memory() -> None:
  memory.require(
    _RUN_BYTES - memory.held(),
    'A run',
    'end other programs or take a larger machine',
  )


@contextlib.contextmanager
def _locked(workdir: str) -> Iterator[None]:
  """Keeps other processes out of the workdir; process 0 locks for its job."""
  if jax.process_index():
    yield
    return
  with run_files.lock(workdir):
    yield


def _done_with_results(workdir: str) -> None:
  """The last lines of an evaluated run: what was found, and where it stands."""
  for line in terminal.lines(run_files.read(workdir, 'metrics.json')):
    logging.info('%s', line)
  _done(workdir, 'report.html')


def _done(workdir: str, name: str) -> None:
  logging.info('Done: %s', os.path.join(workdir, name))


MODES = {
  'train': _train,
  'fit': _fit,
  'evaluate': _evaluate,
  'score': _score,
  'report': _report,
  'compare': _compare,
  'study': _study,
  'explain': _explain,
  'export': _export,
}
