"""What each kernel of a compiled program computes and moves.

A kernel is an instruction that runs by itself: a fusion with all that it calls,
a convolution, a copy. Its bytes are those of its operands and results, read and
written once, as they lie in the device's memory: padded to its tiles on a TPU,
none where they stay in the chip's own memory.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.accelerators import compiled_text

# They name or hold what is there already.
_FREE = {
  'after-all',
  'bitcast',
  'call',
  'conditional',
  'constant',
  'get-tuple-element',
  'opt-barrier',
  'parameter',
  'partition-id',
  'tuple',
  'while',
}
_CALLS = re.compile(r'(?:calls|to_apply)=%?([\w.\-]+)')
_RUNS = re.compile(r'(?:body=%?([\w.\-]+)|branch_computations=\{([^}]*)\})')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_ARRAY = re.compile(r'([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?')
# The first tile of a layout, and the memory space of the chip's own memory.
_TILE = re.compile(r'T\((?:(\d+),)?(\d+)\)')
_ON_CHIP = re.compile(r'S\([1-9]\d*\)')


class Kernel(NamedTuple):
  """A kernel; operations and bytes are those of one run."""

  name: str
  op_name: str  # where it stands in the model; '' where unknown
  times: int  # runs of it
  operations: dict[str, float]  # of convolutions and products, by operand type
  num_bytes: int


def kernels(text: str) -> list[Kernel]:
  """The kernels of a program, in its order.

  A kernel that does not say where it stands has its loop's op_name.

  Raises:
    ValueError: a loop does not say how many turns it takes.
  """
  computations = compiled_text.parse(text)

  def walk(name: str, times: int, around: str) -> Iterator[Kernel]:
    for instruction in computations[name].values():
      op_name = _OP_NAME.search(instruction.text)
      op_name = op_name[1] if op_name else around
      if instruction.kind not in _FREE and not instruction.kind.endswith(
        '-done'
      ):
        yield Kernel(
          instruction.name,
          op_name,
          times,
          _operations(name, instruction, computations),
          _moved(instruction, computations[name]),
        )
      if instruction.kind == 'call':
        (other,) = _CALLS.findall(instruction.text)
        yield from walk(other, times, op_name)
      if instruction.kind in ('while', 'conditional'):
        turns = 1
        if instruction.kind == 'while':
          turns = compiled_text.turns(instruction, computations)
        for names in _RUNS.findall(instruction.text):
          for other in re.findall(r'[\w.\-]+', ' '.join(names)):
            yield from walk(other, times * turns, op_name)

  return list(walk(next(iter(computations)), 1, ''))


def _operations(name, instruction, computations) -> dict[str, float]:
  """Those of the instruction and of what it calls."""
  found = {}
  count = compiled_text.operations_of(instruction, computations[name])
  if count:
    # Of what is multiplied: sums may be wider.
    operand = computations[name][instruction.operands[0]]
    found[operand.shapes[0][0]] = count
  for other in _CALLS.findall(instruction.text):
    for inner in computations.get(other, {}).values():
      of_inner = _operations(other, inner, computations)
      for dtype, operations in of_inner.items():
        found[dtype] = found.get(dtype, 0) + operations
  return found


def _moved(instruction, block) -> int:
  results = _results(instruction)
  if instruction.kind.endswith('-start'):
    results = results[:1]  # the rest is its operand and a counter
  moved = sum(results)
  for name in instruction.operands:
    if name in block:
      moved += sum(_results(block[name]))
  return moved


def _results(instruction) -> list[int]:
  """The bytes that each result of an instruction takes of the memory."""
  head, _, _ = instruction.text.partition(f' {instruction.kind}(')
  arrays = _ARRAY.findall(head.partition(' = ')[2])
  return [_stored(*array) for array in arrays]


def _stored(dtype: str, dimensions: str, layout: str) -> int:
  if _ON_CHIP.search(layout):
    return 0
  shape = [int(d) for d in dimensions.split(',') if d]
  order = [int(d) for d in layout.partition(':')[0].split(',') if d]
  tile = _TILE.search(layout)
  if tile and order:
    # Minor dimensions first; the tile pads the first two.
    for axis, side in zip(order, (tile[2], tile[1]), strict=False):
      shape[axis] = -(-shape[axis] // int(side or 1)) * int(side or 1)
  return math.prod(shape) * compiled_text.bytes_of(dtype)
