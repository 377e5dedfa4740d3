"""The device mesh: one axis, 'data'. Nothing else knows how many devices."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def join_processes(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  """Joins the processes of one job; what is None JAX finds out on a cluster.

  Raises:
    ValueError: no cluster tells what is None, or the values do not fit.
  """
  try:
    jax.distributed.initialize(coordinator, num_processes, process_id)
  except (ValueError, TypeError) as e:
    raise ValueError(
      f'--distributed cannot join the processes ({e}). Where JAX knows no '
      'cluster, give each process --coordinator=HOST:PORT --num_processes=N '
      '--process_id=I, I from 0 to N - 1.'
    ) from e
  # The devices meet here, where all processes are: Gloo, the CPUs' carrier,
  # gives up after 30 s if one still compiles when the others want to meet.
  # Once they have, they wait for each other without a limit.
  mesh = make_mesh()
  here = shard(mesh, {'one': np.ones(jax.local_device_count(), np.float32)})
  total = jax.jit(jnp.sum, out_shardings=replicated(mesh))(here['one'])
  jax.block_until_ready(total)
  wait_for_all('joined')


def wait_for_all(name: str) -> None:
  """Until every process is here; `name` is the place, the same for all."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


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


def replicate(mesh, tree):
  """Arrays that every process has alike -> the same on every device."""
  # By way of the host: from device to device would cross processes.
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(
      replicated(mesh), np.asarray(x)
    ),
    tree,
  )


def round_up(mesh, batch_size: int) -> int:
  """The next size that the mesh divides: evaluation pads, so it may."""
  return -(-batch_size // mesh.size) * mesh.size


def to_host(array) -> np.ndarray:
  """A global array, whole, on every process."""
  if jax.process_count() == 1:
    return np.asarray(array)
  return multihost_utils.process_allgather(array, tiled=True)
