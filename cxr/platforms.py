"""Which form of a computation is fast on which devices, said in one place.

What counts is the devices that a program is made for, not those of the process
that makes it: a program can be made for a machine that is elsewhere. Ask
`of(mesh)`, or take ANY for a program whose devices are not known. Every form of
one computation gives the same numbers up to the order of summation.
"""

from typing import NamedTuple

import jax


class Forms(NamedTuple):
  """The forms that a program is made of.

  Attributes:
    own_convolution: products of matrices in the place of XLA's convolutions
      (models/cpu_convolution.py).
    own_max_pool: shifted maxima in the place of XLA's window reduction
      (models/max_pooling.py).
    warp: the form of the augmentation's warp (training/augment.py).
    unrolled: short loops around convolutions are written out.
    host_loops: longer ones are driven from the host, one program a turn.
    in_host_memory: what a program needs is the host's own memory, so the
      operating system kills a process that asks too much.
    one_device: the films of a batch lie on one device, so a loop may take some
      of them at a time.
  """

  own_convolution: bool = False
  own_max_pool: bool = False
  warp: str = 'loop'
  unrolled: bool = False
  host_loops: bool = False
  in_host_memory: bool = False
  one_device: bool = False


ANY = Forms()
FORMS = {
  # XLA runs a convolution inside a loop on one core, and its gradient of a
  # window's maximum is slow.
  'cpu': Forms(
    own_convolution=True,
    own_max_pool=True,
    unrolled=True,
    host_loops=True,
    in_host_memory=True,
  ),
  # XLA's gradient of a window's maximum is an atomic scatter: slow, and the
  # order of its sums, so their last bits, differ from run to run.
  # A warp in a loop moves .55 ms of bytes for .22 (docs/scale.md).
  'gpu': Forms(own_max_pool=True, warp='gathers'),
  # It gathers pixel by pixel.
  'tpu': Forms(warp='products'),
}
_NAMES = {'cuda': 'gpu', 'rocm': 'gpu'}


def of(mesh: jax.sharding.Mesh) -> Forms:
  """The forms that are fast on the devices of a mesh; ANY on unknown ones."""
  name = mesh.devices.flat[0].platform
  forms = FORMS.get(_NAMES.get(name, name), ANY)
  return forms._replace(one_device=mesh.size == 1)
