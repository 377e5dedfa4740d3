"""The device mesh: one axis, 'data'. Nothing else knows how many devices."""

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def make_mesh(num_devices: int | None = None) -> jax.sharding.Mesh:
  """All devices of all processes (or the first `num_devices`) in a row."""
  devices = jax.devices()[:num_devices]
  # Auto axes: the default, Explicit, refuses `split` and `vmap` under jit.
  return jax.make_mesh(
    (len(devices),), ('data',), axis_types=(AxisType.Auto,), devices=devices
  )


def replicated(mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def over_data(mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec('data'))


def check_batch(mesh, batch_size: int, *, field: str, accumulate: int = 1):
  """Raises ValueError where a batch cannot be laid evenly over the mesh.

  `accumulate`: passes that the batch is split into, each of them laid so.
  """
  ways = mesh.size * accumulate
  if batch_size % ways:
    over = f'the device count ({mesh.size})'
    if accumulate > 1:
      over += f' times accumulate ({accumulate})'
    raise ValueError(
      f'{field} ({batch_size}) must be divisible by {over}; '
      f'try {max(1, batch_size // ways) * ways}.'
    )


def shard(mesh, batch: dict) -> dict:
  """This process's share of a batch -> global arrays over 'data'."""
  sharding = over_data(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
    for name, value in batch.items()
  }


def round_up(mesh, batch_size: int) -> int:
  """The next size that the mesh divides: evaluation pads, so it may."""
  return -(-batch_size // mesh.size) * mesh.size


def to_host(array) -> np.ndarray:
  """A global array, whole, on every process."""
  if jax.process_count() == 1:
    return np.asarray(array)
  return multihost_utils.process_allgather(array, tiled=True)
