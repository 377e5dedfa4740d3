"""What kernels take at the least, at the published figures of a chip."""

from typing import NamedTuple

from tests.accelerators import kernels


class Chip(NamedTuple):
  """A chip's figures as its maker publishes them; `kernel`: seconds to start
  one, an assumption."""

  name: str
  devices: int  # that the program is made for
  operations: dict[str, float]  # a second, by type, without sparsity
  num_bytes: float  # a second
  kernel: float = 0.0


CHIPS = {
  # Six passes of bfloat16 make a float32 product.
  'tpu': Chip('TPU v5e', 8, {'bf16': 197e12, 'f32': 197e12 / 6}, 819e9),
  'gpu': Chip('H100 SXM', 1, {'bf16': 989e12, 'f32': 67e12}, 3.35e12, 2e-6),
}


class Cost(NamedTuple):
  """Of one device: operations, bytes, seconds."""

  kernels: float = 0.0
  operations: float = 0.0
  num_bytes: float = 0.0
  by_operations: float = 0.0
  by_bytes: float = 0.0
  at_least: float = 0.0  # the longer of the two, kernel by kernel

  def __add__(self, other):
    return Cost(*(a + b for a, b in zip(self, other, strict=True)))

  def __mul__(self, factor: float):
    return Cost(*(factor * value for value in self))


def cost(kernel: kernels.Kernel, chip: Chip) -> Cost:
  """Of one run of a kernel."""
  by_operations = sum(
    count / chip.operations.get(dtype, chip.operations['f32'])
    for dtype, count in kernel.operations.items()
  )
  by_bytes = kernel.num_bytes / chip.num_bytes
  return Cost(
    1,
    sum(kernel.operations.values()),
    kernel.num_bytes,
    by_operations,
    by_bytes,
    max(by_operations, by_bytes) + chip.kernel,
  )
