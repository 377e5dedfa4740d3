"""The small files of a workdir: config, lock, and the JSON of an evaluation.

A workdir holds one run. What reads figures alone (compare, study) imports this
and neither JAX nor Orbax; the weights are read by `inference` and `checkpoint`.
"""

import fcntl
import os

from ml_collections import ConfigDict

from cxr import files

# Fields that may differ between two starts in one workdir: they move no weight.
FREE_FIELDS = (
  'evaluate.',
  'explain.',
  'data.prepared_dir',
  'data.cache',
  'data.workers',
  'data.dir',
  'train.log_every',
)


def check_config(workdir: str, config: ConfigDict) -> None:
  """Raises ValueError where the workdir holds another run's config."""
  if not os.path.exists(os.path.join(workdir, 'config.json')):
    return
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


def write_config(workdir: str, config: ConfigDict) -> None:
  """Stores the config; `check_config` first, it may be another run's."""
  os.makedirs(workdir, exist_ok=True)
  files.write_json(
    os.path.join(workdir, 'config.json'), config.to_dict(), indent=2
  )


def read_config(workdir: str) -> ConfigDict:
  """The config stored in a workdir. Raises FileNotFoundError, ValueError."""
  path = os.path.join(workdir, 'config.json')
  if not os.path.exists(path):
    raise FileNotFoundError(
      f'No run in {workdir} (no config.json); run --mode=train first.'
    )
  stored = files.read_json(path)
  if not isinstance(stored, dict):
    raise ValueError(f'{path} holds no config: {str(stored)[:80]!r}.')
  return ConfigDict(_tuples(stored))


def _tuples(value):
  """JSON has no tuples; a config has no lists."""
  if isinstance(value, dict):
    return {k: _tuples(v) for k, v in value.items()}
  return tuple(value) if isinstance(value, list) else value


def flat(config: ConfigDict, prefix: str = '') -> dict[str, object]:
  """The fields by dotted name: {'data.source': 'nih', …}."""
  fields = {}
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      fields |= flat(value, f'{prefix}{name}.')
    else:
      fields[prefix + name] = value
  return fields


def read(workdir: str, name: str, *fields: str) -> dict:
  """A JSON file that an evaluation left in the workdir.

  Args:
    workdir: of the run.
    name: 'data.json', 'metrics.json' or another file of the evaluation.
    *fields: that it must have.

  Raises:
    FileNotFoundError: it is absent.
    ValueError: it is damaged, or was written by a version that wrote less.
  """
  path = os.path.join(workdir, name)
  if not os.path.exists(path):
    raise FileNotFoundError(
      f'No {name} in {workdir}; run --mode=evaluate first.'
    )
  try:
    stored = files.read_json(path)
  except ValueError as e:
    raise ValueError(f'{e} Run --mode=evaluate again.') from e
  missing = [field for field in fields if field not in stored]
  if missing:
    raise ValueError(
      f'{path} has no {missing[0]!r}: an older version wrote it; run '
      '--mode=evaluate again.'
    )
  return stored


def read_calibration(workdir: str, step: int, batch_stats: str) -> dict | None:
  """The workdir's calibration.json; None where it is absent or was fitted with
  other weights or statistics. Raises ValueError where it is damaged."""
  path = os.path.join(workdir, 'calibration.json')
  if not os.path.exists(path):
    return None
  try:
    stored = files.read_json(path)
    fitted_with = stored['step'], stored['batch_stats']
  except (ValueError, KeyError, TypeError) as e:
    raise ValueError(
      f'{path} is damaged ({e}); write it again with --mode=report.'
    ) from e
  return stored if fitted_with == (step, batch_stats) else None


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
