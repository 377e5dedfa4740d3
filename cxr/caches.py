"""Where training films wait for their batch: config.data.cache.

'device': laid over the memory of the devices; 'memory': the host's; 'none': on
disk. 'auto' is the first of these that the films fit into. Which one it is
changes the time that a step takes and nothing else.
"""

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from input_pipeline import pipeline

# Of a device's memory; the rest is the step's own.
_SHARE = 1 / 3


def resolve(
  config: ConfigDict, films: pipeline.Split, mesh: jax.sharding.Mesh
) -> ConfigDict:
  """A copy of the config whose data.cache is not 'auto'.

  Args:
    config: of the run.
    films: the training films, as `data.load` gave them: in memory or on disk.
    mesh: whose devices they may be laid over.
  """
  config = config.copy_and_resolve_references()
  if config.data.cache != 'auto':
    return config
  on_host = 'memory' if isinstance(films.image, np.ndarray) else 'none'
  config.data.cache = 'device' if _fit(films, mesh) else on_host
  where = {
    'device': "in the devices' memory",
    'memory': "in the host's memory",
    'none': 'on disk',
  }
  logging.info(
    "%d training films wait %s (config.data.cache='auto').",
    len(films.label),
    where[config.data.cache],
  )
  return config


def _fit(films: pipeline.Split, mesh: jax.sharding.Mesh) -> bool:
  """Whether every device of every process has room for its share.

  The memory of a CPU is the host's, where the films are already.
  """
  share = np.prod(films.image.shape, dtype=np.int64) / mesh.size
  rooms = [_room(device) for device in mesh.local_devices]
  fits = all(room is not None and share <= _SHARE * room for room in rooms)
  if jax.process_count() > 1:
    # One program runs on all, so that all must choose alike.
    fits = multihost_utils.process_allgather(np.array(fits)).all()
  return bool(fits)


def _room(device: jax.Device) -> int | None:
  """The bytes that are left on a device; None where it does not tell."""
  stats = device.memory_stats() or {}
  if 'bytes_limit' not in stats:
    return None
  return stats['bytes_limit'] - stats.get('bytes_in_use', 0)
