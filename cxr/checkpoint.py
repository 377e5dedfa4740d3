"""TrainState <-> disk, and the workdir's config and lock.

A workdir holds one run: config.json says which, checkpoints/ how far it is.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator

import jax
from jax.sharding import SingleDeviceSharding
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from cxr import sharding
from cxr.models import architectures
from cxr.training import train_state
from input_pipeline.findings import FINDINGS

# What may differ between two starts in one workdir: it does not move weights.
FREE_FIELDS = (
  'evaluate.',
  'explain.',
  'data.prepared_dir',
  'data.cache',
  'data.workers',
  'data.dir',
  'train.log_every',
)


def checkpointer(
  workdir: str, *, best_metric: str, writes: bool = False
) -> ocp.training.Checkpointer:
  """Keeps the latest checkpoint and the one whose `best_metric` is highest.

  Only who `writes` may sweep out half-written checkpoints: they could be those
  of a run that is at work.
  """
  folder = os.path.abspath(os.path.join(workdir, 'checkpoints'))
  policies = ocp.training.preservation_policies
  keep = policies.AnyPreservationPolicy(
    [
      policies.LatestN(1),
      policies.BestN(
        get_metric_fn=lambda metrics: _rank(metrics, best_metric),
        n=1,
        keep_checkpoints_without_metrics=False,
      ),
    ]
  )
  try:
    return ocp.training.Checkpointer(
      folder, preservation_policy=keep, cleanup_tmp_directories=writes
    )
  except ValueError as e:
    # It reads each checkpoint's metrics at once.
    raise ValueError(
      f'A checkpoint in {folder} is damaged ({e}); delete its folder, the '
      'newest as a rule, and --mode=train goes on from the one before it.'
    ) from e


def _rank(metrics, name: str) -> float:
  value = (metrics or {}).get(name)
  return float('-inf') if value is None else value


def save(
  saver,
  state: train_state.TrainState,
  metrics: dict[str, float],
  config: ConfigDict,
):
  """Writes the state under its step; NaN metrics do not rank.

  Raises:
    OSError: it could not be written; those before it stay as they are.
  """
  try:
    saver.save(
      int(state.step),
      state,
      metrics={k: float(v) for k, v in metrics.items() if v == v},
      custom_metadata=_made_for(config),
      force=True,
      overwrite=True,
    )
  except (OSError, ValueError) as e:
    # TensorStore's own: 'RESOURCE_EXHAUSTED: … No space left on device'.
    full = 'No space left' in str(e)
    reason = 'no space is left' if full else str(e).splitlines()[0][:200]
    raise OSError(
      f'The checkpoint of step {int(state.step)} could not be written: '
      f'{reason}. The last one before it is kept; the same command goes on '
      'from there.'
    ) from e


def _made_for(config: ConfigDict) -> dict:
  """What the arrays do not say of themselves."""
  fields = flat(config)
  names = [n for n in fields if n.startswith('model.')]
  return {n: fields[n] for n in (*names, 'data.image_size')} | {
    'findings': list(FINDINGS)
  }


def _check_made_for(saver, step: int, config: ConfigDict, workdir: str):
  """Raises ValueError where a checkpoint is of another model or other films."""
  with _told(saver, step, workdir):
    there = saver.metadata(step).custom_metadata or {}
  here = _made_for(config)
  differ = [
    f'{name} ({there[name]!r} there, {here.get(name)!r} here)'
    for name in there
    if there[name] != here.get(name)
  ]
  if differ:
    raise ValueError(
      f'The checkpoint of step {step} in {workdir} is of another model: '
      f'{"; ".join(differ)}.'
    )


def step_of(saver, which: str, *, best_metric: str) -> int | None:
  """The step of the 'best' or 'latest' checkpoint; None where there is none."""
  found = list(saver.checkpoints)
  if not found:
    return None
  if which == 'latest':
    return max(c.step for c in found)
  # Ties go to the earlier one: a plateau's later half is the more overfitted.
  return max(found, key=lambda c: (_rank(c.metrics, best_metric), -c.step)).step


def restore(
  saver,
  step: int,
  like: train_state.TrainState,
  config: ConfigDict,
  workdir: str,
):
  """The state of `step`, laid out over devices as `like` is.

  Raises:
    ValueError: it is another model's.
  """
  _check_made_for(saver, step, config, workdir)
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
    like,
  )
  with _told(saver, step, workdir):
    return saver.load(step, abstract)


@contextlib.contextmanager
def _told(saver, step: int, workdir: str) -> Iterator[None]:
  """Orbax raises nearly anything on a damaged checkpoint; we say what it is."""
  try:
    yield
  except Exception as e:
    others = [c.step for c in saver.checkpoints if c.step < step]
    before = f'from step {max(others)}' if others else 'from the start'
    folder = os.path.join(workdir, 'checkpoints', str(step))
    raise ValueError(
      f'The checkpoint in {folder} cannot be read '
      f'({type(e).__name__}: {str(e).strip().splitlines()[0][:200]}); delete '
      f'that folder and --mode=train goes on {before}.'
    ) from e


def write_config(workdir: str, config: ConfigDict) -> None:
  """Stores the config; raises ValueError where another run's config is there.

  Fields that do not move the weights (evaluate, explain, paths, cache) are
  taken from the new config.
  """
  path = os.path.join(workdir, 'config.json')
  if os.path.exists(path):
    old, new = flat(read_config(workdir)), flat(config)
    differ = [
      f'{name} ({old.get(name)!r} there, {new.get(name)!r} here)'
      for name in sorted(old.keys() | new.keys())
      if old.get(name) != new.get(name) and not name.startswith(FREE_FIELDS)
    ]
    if differ:
      raise ValueError(
        f'{workdir} holds another run: {"; ".join(differ[:6])}. '
        'Choose another --workdir or delete that one.'
      )
  # Else one process would read what another has just replaced.
  sharding.wait_for_all('config')
  if jax.process_index():
    return
  os.makedirs(workdir, exist_ok=True)
  temporary = path + '.tmp'
  with open(temporary, 'w') as f:
    json.dump(config.to_dict(), f, indent=2)
    f.write('\n')
  os.replace(temporary, path)


def read_config(workdir: str) -> ConfigDict:
  """The config stored in a workdir. Raises FileNotFoundError, ValueError."""
  path = os.path.join(workdir, 'config.json')
  if not os.path.exists(path):
    raise FileNotFoundError(
      f'No run in {workdir} (no config.json); run --mode=train first.'
    )
  try:
    with open(path) as f:
      stored = json.load(f)
  except ValueError as e:
    raise ValueError(f'{path} is not readable JSON ({e}).') from e
  if not isinstance(stored, dict):
    raise ValueError(f'{path} holds no config: {str(stored)[:80]!r}.')
  return ConfigDict(_tuples(stored))


def _tuples(value):
  """JSON has no tuples; a config has no lists."""
  if isinstance(value, dict):
    return {k: _tuples(v) for k, v in value.items()}
  return tuple(value) if isinstance(value, list) else value


def flat(config: ConfigDict, prefix: str = '') -> dict[str, object]:
  """The fields by dotted name."""
  fields = {}
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      fields |= flat(value, f'{prefix}{name}.')
    else:
      fields[prefix + name] = value
  return fields


def load_model(workdir: str, config: ConfigDict | None = None):
  """A trained model: (config, model, variables, step).

  Raises FileNotFoundError where the workdir has no run or no checkpoint.
  """
  config = config or read_config(workdir)
  model = architectures.make_model(config.model, num_findings=len(FINDINGS))
  saver = checkpointer(workdir, best_metric=config.train.best_metric)
  step = step_of(
    saver, config.evaluate.checkpoint, best_metric=config.train.best_metric
  )
  if step is None:
    raise FileNotFoundError(
      f'No checkpoint in {workdir}; run --mode=train first.'
    )
  _check_made_for(saver, step, config, workdir)
  # As it was saved, but here: the devices it came from may be others.
  here = SingleDeviceSharding(jax.local_devices()[0])
  with _told(saver, step, workdir):
    abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
      saver.metadata(step).metadata,
    )
    stored = saver.load(step, abstract)
  saver.close()
  state = train_state.TrainState(
    **{
      f.name: stored.get(f.name)
      for f in dataclasses.fields(train_state.TrainState)
    }
  )
  variables = train_state.variables(
    state, batch_stats=config.evaluate.batch_stats
  )
  return config, model, variables, step


def read_calibration(workdir: str, step: int, batch_stats: str) -> dict | None:
  """The workdir's calibration.json; None where it is absent or was fitted with
  other weights or statistics. Raises ValueError where it is damaged."""
  path = os.path.join(workdir, 'calibration.json')
  if not os.path.exists(path):
    return None
  try:
    with open(path) as f:
      stored = json.load(f)
    of = stored['step'], stored['batch_stats']
    return stored if of == (step, batch_stats) else None
  except (ValueError, KeyError, TypeError) as e:
    raise ValueError(
      f'{path} is damaged ({e}); write it again with --mode=report.'
    ) from e


def lock(workdir: str):
  """Holds the workdir for this process; raises ValueError where it is held."""
  os.makedirs(workdir, exist_ok=True)
  handle = open(os.path.join(workdir, 'lock'), 'w')
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    handle.close()
    raise ValueError(
      f'Another run is at work in {workdir}; wait for it or choose another '
      '--workdir.'
    ) from None
  return handle
