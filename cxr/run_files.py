"""The small files of a workdir: config, lock, and the JSON of an evaluation.

A workdir holds one run. Reports, comparisons and studies need these files
alone, so neither JAX nor Orbax is imported here; `inference` reads the weights.

A folder that --mode=export wrote is read as a workdir is. It has
model.safetensors in the place of checkpoints, and the run's config under 'run'
in its config.json.
"""

import fcntl
import os
from collections.abc import Mapping
from typing import TextIO

from ml_collections import ConfigDict

from configs import default
from cxr import files
from cxr.shipped import networks
from input_pipeline.findings import FINDINGS

# Fields that no weight depends on: they may differ between two starts in one
# workdir.
FREE_FIELDS = (
  'evaluate.',
  'explain.',
  'data.prepared_dir',
  'data.cache',
  'data.workers',
  'data.dir',
  'train.log_every',
)
# Fields of the model that say how weights are applied, and none of their
# shapes. With another output_stride the maps have another grid, and the logits
# are not quite those that were learned.
FREE_MODEL_FIELDS = ('model.dtype', 'model.output_stride', 'model.remat')
# Fields that may be others when trained weights are used.
FREE_AFTER_TRAINING = (*FREE_FIELDS, *FREE_MODEL_FIELDS, 'data.', 'seed')
# Of a run that an evaluation made of weights from elsewhere.
WEIGHTS_FROM = 'weights.json'
# Sections that a config of every version has.
_SECTIONS = ('data', 'model', 'train', 'evaluate')


def is_exported(workdir: str) -> bool:
  """Whether the folder holds exported weights, and so no run."""
  return os.path.exists(os.path.join(workdir, networks.WEIGHTS))


def check_config(workdir: str, config: ConfigDict) -> None:
  """Raises ValueError where the workdir holds a run of another config."""
  if not os.path.exists(os.path.join(workdir, 'config.json')):
    return
  old, new = flat(read_config(workdir)), flat(config)
  differ = [
    f'{name} ({old[name]!r} there, {new.get(name)!r} here)'
    for name in sorted(old)  # it lacks fields that are younger than the run
    if old[name] != new.get(name) and not name.startswith(FREE_FIELDS)
  ]
  if differ:
    raise ValueError(
      f'{workdir} holds another run: {"; ".join(differ[:6])}. '
      'Choose another --workdir or delete that one.'
    )


def write_config(workdir: str, config: ConfigDict) -> None:
  """Stores the config in the workdir; call `check_config` before."""
  os.makedirs(workdir, exist_ok=True)
  files.write_json(
    os.path.join(workdir, 'config.json'), config.to_dict(), indent=2
  )


def read_config(workdir: str) -> ConfigDict:
  """The config that is stored in a workdir.

  Fields that are newer than the run have their default, as the run was made.

  Raises:
    FileNotFoundError: there is none.
    ValueError: its file is damaged.
  """
  path = os.path.join(workdir, 'config.json')
  if not os.path.exists(path):
    raise FileNotFoundError(
      f'No run in {workdir} (no config.json); run --mode=train first.'
    )
  way_out = 'Put a copy of it back, or train again in another --workdir.'
  if is_exported(workdir):
    way_out = 'Export the run again: --mode=export --workdir=RUN.'
  try:
    stored = files.read_json(path)
  except ValueError as e:
    raise ValueError(f'{e} {way_out}') from e
  stored = of_run(stored)
  if not isinstance(stored, dict) or not {'name', *_SECTIONS} <= stored.keys():
    raise ValueError(f'{path} holds no config: {str(stored)[:80]!r}. {way_out}')
  for section in _SECTIONS:
    if not isinstance(stored[section], dict):
      raise ValueError(f'{path} has no fields in {section}. {way_out}')
  config = ConfigDict(_tuples(stored))
  known = flat(config)
  for name, value in flat(default.get_config()).items():
    # Unless a field stands where a section should: `validate` says so.
    if not f'{name}.'.startswith(tuple(f'{other}.' for other in known)):
      *sections, field = name.split('.')
      section = config
      for part in sections:
        if part not in section:
          section[part] = ConfigDict()
        section = section[part]
      section[field] = value
  return config


def of_run(stored):
  """The config of the run, of what a config.json holds: an export's has it
  beside what it says to other programs."""
  return stored.get('run', stored) if isinstance(stored, dict) else stored


def _tuples(value):
  """Lists become tuples: JSON has no tuples, and a config has no lists."""
  if isinstance(value, dict):
    return {k: _tuples(v) for k, v in value.items()}
  return tuple(value) if isinstance(value, list) else value


def flat(
  config: ConfigDict | Mapping[str, object], prefix: str = ''
) -> dict[str, object]:
  """The fields of a config, or of the JSON of one, by dotted name.

  >>> flat({'data': {'source': 'nih'}, 'seed': 0})
  {'data.source': 'nih', 'seed': 0}
  """
  fields = {}
  for name, value in config.items():
    if isinstance(value, ConfigDict | Mapping):
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
  evaluated = '--mode=evaluate writes it.'
  if name == 'data.json':
    evaluated = (
      'The command that trained the run writes it where it is absent (with '
      '--mode=fit it does no more).'
    )
  if not os.path.exists(path):
    raise FileNotFoundError(f'No {name} in {workdir}. {evaluated}')
  try:
    stored = files.read_json(path)
  except ValueError as e:
    raise ValueError(f'{e} Remove it. {evaluated}') from e
  if not isinstance(stored, dict):
    raise ValueError(
      f'{path} holds no fields: {str(stored)[:80]!r}. Remove it. {evaluated}'
    )
  missing = [field for field in fields if field not in stored]
  if missing:
    raise ValueError(
      f'{path} has no {missing[0]!r}: an older version wrote it, or it was '
      f'changed. Remove it. {evaluated}'
    )
  return stored


def read_findings(workdir: str) -> tuple[str, ...]:
  """The findings of a workdir's run, in the order of its network's logits.

  Runs that were trained before findings were data know NIH's fourteen.

  Raises:
    ValueError: data.json, where training wrote them, is damaged.
  """
  path = os.path.join(workdir, 'data.json')
  if not os.path.exists(path):
    return FINDINGS
  stored = read(workdir, 'data.json')
  return tuple(stored.get('findings', FINDINGS))


def read_weights_from(workdir: str) -> dict:
  """Where the weights of a run come from that was not trained here.

  {} of a run that was trained. What is in it says `foreign/run_of_weights.py`.

  Raises:
    ValueError: weights.json is damaged.
  """
  if not os.path.exists(os.path.join(workdir, WEIGHTS_FROM)):
    return {}
  return read(workdir, WEIGHTS_FROM, 'init_from', 'sha256', 'findings')


def read_calibration(workdir: str, step: int, batch_stats: str) -> dict | None:
  """The workdir's calibration.json.

  Args:
    workdir: of the run.
    step: of the checkpoint that it should belong to.
    batch_stats: the statistics that it should belong to.

  Returns:
    None where it is absent or was fitted with other weights or statistics.

  Raises:
    ValueError: it is damaged.
  """
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


def lock(workdir: str) -> TextIO:
  """Locks the workdir for this process, until the file returned is closed.

  Raises:
    ValueError: another process holds it.
  """
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
