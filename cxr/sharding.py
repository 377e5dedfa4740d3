"""Devices and processes: a mesh with one axis, 'data', and arrays on it.

No other module asks how many devices there are.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def join_processes(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  """Joins the processes of one job.

  Args:
    coordinator: HOST:PORT of process 0. This and the rest may be None on a
      cluster that JAX knows.
    num_processes: of the job.
    process_id: of this process, from 0.

  Raises:
    ValueError: JAX cannot find out what is None, or the values do not fit.
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
  """Waits until every process calls this with the same `name`."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def make_mesh(num_devices: int | None = None) -> jax.sharding.Mesh:
  """A mesh of all devices of all processes, or of the first `num_devices`."""
  devices = jax.devices()[:num_devices]
  # Auto axes: the default, Explicit, refuses `split` and `vmap` under jit.
  return jax.make_mesh(
    (len(devices),), ('data',), axis_types=(AxisType.Auto,), devices=devices
  )


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
  """Every device has the whole array."""
  return NamedSharding(mesh, PartitionSpec())


def over_data(mesh: jax.sharding.Mesh) -> NamedSharding:
  """Each device has its share of the leading axis."""
  return NamedSharding(mesh, PartitionSpec('data'))


def each_share(mesh: jax.sharding.Mesh, fn: Callable) -> Callable:
  """One program in which each device runs `fn` over its own films.

  A loop over films that lie over the devices would gather them in every turn,
  and each device would do the work of all. Here there is nothing to gather.

  Args:
    mesh: the devices.
    fn: (whole, *shares) -> arrays; the leading axis of the shares and of what
      it returns is that of the films.

  Returns:
    The same function of the whole batch; every device has all of `whole`.
  """
  whole, share = PartitionSpec(), PartitionSpec('data')

  def on_mesh(first, *films):
    return jax.shard_map(
      fn,
      mesh=mesh,
      in_specs=(whole, *[share] * len(films)),
      out_specs=share,
      # A loop's first value would have to be marked as its last is.
      check_vma=False,
    )(first, *films)

  return jax.jit(on_mesh)


def check_batch(
  mesh: jax.sharding.Mesh, batch_size: int, *, field: str, accumulate: int = 1
) -> None:
  """Raises ValueError where a batch has no equal share for every device.

  Args:
    mesh: the devices.
    batch_size: films.
    field: the config's name for it, for the message.
    accumulate: passes that the batch is split into; each is shared out.
  """
  parts = mesh.size * accumulate
  if batch_size % parts:
    over = f'the device count ({mesh.size})'
    if accumulate > 1:
      over += f' times accumulate ({accumulate})'
    raise ValueError(
      f'{field} ({batch_size}) must be divisible by {over}; '
      f'try {max(1, batch_size // parts) * parts}.'
    )


def shard(mesh: jax.sharding.Mesh, batch: dict) -> dict[str, jax.Array]:
  """Lays a batch over the devices; `batch` is this process's share of it."""
  sharding = over_data(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
    for name, value in batch.items()
  }


def replicate(mesh: jax.sharding.Mesh, tree):
  """Lays arrays, the same in every process, whole on every device."""
  # By way of the host: from device to device would cross processes.
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(
      replicated(mesh), np.asarray(x)
    ),
    tree,
  )


def round_up(mesh: jax.sharding.Mesh, batch_size: int) -> int:
  """The next batch size that the mesh divides, for batches that are padded."""
  return -(-batch_size // mesh.size) * mesh.size


def to_host(array) -> np.ndarray:
  """A global array as a whole, in every process."""
  if jax.process_count() == 1 or array.is_fully_replicated:
    return np.asarray(array)
  return multihost_utils.process_allgather(array, tiled=True)
