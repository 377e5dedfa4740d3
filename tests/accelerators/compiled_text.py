"""What a compiled program does, read from its text.

XLA's own count takes one turn of a loop for all of them, and gives calls of
cuDNN no operation. Here both count.
"""

import collections
import math
import re
from typing import NamedTuple

import numpy as np

_COMPUTATION = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) \(.*\{$')
_INSTRUCTION = re.compile(
  r'^\s+(?:ROOT )?%?([\w.\-]+) = (\(?[^=]*?) ([a-z][\w\-]*)\((.*)$'
)
_SHAPE = re.compile(r'([a-z]\w*)\[([\d,]*)\]')
_CALLED = re.compile(r'(?:calls|to_apply|body)=%?([\w.\-]+)')
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
_COMMENT = re.compile(r'/\*.*?\*/')
_TURNS = re.compile(r'known_trip_count"?:\{"n":"(\d+)"')
_BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's32': 4, 'u32': 4}
COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'all-to-all',
  'collective-permute',
  'reduce-scatter',
)
TO_HOST = {'infeed', 'outfeed', 'send', 'recv'}


def bytes_of(dtype: str) -> int:
  """The bytes of one number of a type."""
  return _BYTES.get(dtype, 4)


class Instruction(NamedTuple):
  """One line of a program; `shapes` of its results: (type, dimensions)."""

  name: str
  kind: str
  shapes: list[tuple[str, tuple[int, ...]]]
  operands: list[str]
  text: str

  @property
  def num_bytes(self) -> int:
    return sum(bytes_of(t) * math.prod(d) for t, d in self.shapes)


def parse(text: str) -> dict[str, dict[str, Instruction]]:
  """The instructions of every computation, by name; the first is the entry."""
  computations, current, entry = {}, None, ''
  for line in _COMMENT.sub('', text).splitlines():
    if match := _COMPUTATION.match(line):
      current = computations.setdefault(match[1], {})
      entry = match[1] if line.startswith('ENTRY') else entry
    elif current is not None and (match := _INSTRUCTION.match(line)):
      name, result, kind, rest = match.groups()
      shapes = [
        (t, tuple(int(d) for d in dims.split(',') if d))
        for t, dims in _SHAPE.findall(result)
      ]
      operands = re.findall(r'%([\w.\-]+)', rest.split(')', 1)[0])
      current[name] = Instruction(name, kind, shapes, operands, line)
  first = computations.pop(entry)
  return {entry: first} | computations


def instructions(text: str) -> list[tuple[Instruction, int, dict]]:
  """Every instruction that runs, how often, and those beside it by name.

  Raises:
    ValueError: a loop does not say how many turns it takes.
  """
  computations = parse(text)
  found = []

  def walk(name, times):
    for instruction in computations[name].values():
      found.append((instruction, times, computations[name]))
      repeated = 1
      if instruction.kind == 'while':
        repeated = turns(instruction, computations)
      called = _CALLED.findall(instruction.text)
      for branches in _BRANCHES.findall(instruction.text):
        called += re.findall(r'[\w.\-]+', branches)
      for other in called:
        if other in computations:
          walk(other, times * repeated)

  walk(next(iter(computations)), 1)
  return found


def turns(loop: Instruction, computations: dict) -> int:
  """How often a loop turns; it counts from 0."""
  if known := _TURNS.search(loop.text):
    return int(known[1])
  # A TPU's program says it in the condition alone.
  condition = re.search(r'condition=%?([\w.\-]+)', loop.text)[1]
  called = [i.text for i in _with_called(condition, computations)]
  limits = [
    re.search(r' s32\[\]\S* constant\((\d+)\)', line) for line in called
  ]
  limits = [int(limit[1]) for limit in limits if limit]
  if len(limits) != 1:
    raise ValueError(f'A loop of unknown length: {loop.text[:200]}')
  return limits[0]


def _with_called(name: str, computations: dict) -> list[Instruction]:
  found = []
  for instruction in computations[name].values():
    found.append(instruction)
    for other in _CALLED.findall(instruction.text):
      found += _with_called(other, computations)
  return found


def kinds(text: str) -> set[str]:
  """The kinds of its instructions."""
  return {i.kind for block in parse(text).values() for i in block.values()}


def collectives(text: str) -> dict[str, list[int]]:
  """By kind, the bytes of every result that crosses devices, turn by turn."""
  crossing = collections.defaultdict(list)
  for instruction, times, _ in instructions(text):
    kind = instruction.kind.removesuffix('-start')
    if kind in COLLECTIVES:
      crossing[kind] += [instruction.num_bytes] * times
  return dict(crossing)


def crossing_numbers(text: str) -> dict[str, int]:
  """By type, how many numbers cross devices, turn by turn."""
  crossing = collections.Counter()
  for instruction, times, _ in instructions(text):
    if instruction.kind.removesuffix('-start') in COLLECTIVES:
      for dtype, dimensions in instruction.shapes:
        crossing[dtype] += math.prod(dimensions) * times
  return dict(crossing)


def rounded_products(text: str) -> list[str]:
  """The lines of a program in StableHLO, before XLA, whose products of float32
  numbers may be rounded first."""
  product = re.compile(r'stablehlo\.(?:dot_general|convolution)\b')
  return [
    line
    for line in text.splitlines()
    if product.search(line)
    and 'bf16' not in line
    and line.count('HIGHEST') != 2
  ]


class Product(NamedTuple):
  """A convolution or a product of matrices; `operations` in all its turns."""

  instruction: Instruction
  operations: float

  @property
  def dtype(self) -> str:
    return self.instruction.shapes[0][0]

  @property
  def layer(self) -> str:
    """What it was in the model: 'ResNet/layer1_0/conv1/...'; '' if unknown."""
    name = re.search(r'op_name="[^"]*?(ResNet[^"]*)"', self.instruction.text)
    return name[1] if name else ''

  @property
  def is_exact(self) -> bool:
    """Whether float32 operands are not rounded first."""
    return 'operand_precision={highest,highest}' in self.instruction.text


def products(text: str) -> list[Product]:
  """Every convolution and product of matrices."""
  found = []
  for instruction, times, block in instructions(text):
    operations = operations_of(instruction, block)
    if operations:
      found.append(Product(instruction, times * operations))
  return found


def operations(text: str) -> float:
  """Additions and multiplications in convolutions and products of matrices."""
  return sum(product.operations for product in products(text))


def loops(text: str) -> list[int]:
  """The turns of the loops that have a convolution in them."""
  found = []
  computations = parse(text)
  for block in computations.values():
    for instruction in block.values():
      if instruction.kind == 'while':
        body = _CALLED.search(instruction.text)[1]
        if any(
          'dim_labels' in i.text for i in _with_called(body, computations)
        ):
          found.append(turns(instruction, computations))
  return found


def operations_of(instruction: Instruction, block: dict) -> float:
  """Those of a convolution or a product of matrices; 0 of all else.

  Products with what a window pads or dilates its operands with are left out, as
  XLA leaves them out of its own count.
  """
  shape = lambda i: block[instruction.operands[i]].shapes[0][1]
  labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', instruction.text)
  if instruction.kind in ('convolution', 'custom-call') and labels:
    result = instruction.shapes[0][1]
    film, kernel, out = shape(0), shape(1), result
    # Their window and labels are those of the convolution forwards.
    if 'convBackwardInput' in instruction.text:
      film, out = result, shape(0)
    elif 'convBackwardFilter' in instruction.text:
      kernel, out = result, shape(1)
    of_film, of_kernel, of_out = labels.groups()
    count = 2 * math.prod(out[of_out.index(axis)] for axis in 'bf')
    count *= kernel[of_kernel.index('i')]
    axes = sorted(axis for axis in of_out if axis.isdigit())
    for axis, window in zip(axes, _windows(instruction.text), strict=True):
      places = film[of_film.index(axis)], out[of_out.index(axis)]
      count *= _pairs(*places, **window)
    return count
  if instruction.kind == 'dot':
    axes = re.search(r'lhs_contracting_dims=\{([\d,]*)\}', instruction.text)
    left = shape(0)
    contracted = [left[int(a)] for a in axes[1].split(',') if a]
    return 2 * math.prod(instruction.shapes[0][1]) * math.prod(contracted)
  return 0


def _windows(text: str) -> list[dict[str, int]]:
  """Of a convolution, by axis: what `_pairs` takes."""
  window = re.search(r'window=\{([^}]*)\}', text)
  if not window:
    return []
  fields = dict(field.split('=') for field in window[1].split())
  sizes = fields['size'].split('x')
  of = lambda name, default: fields.get(name, 'x'.join([default] * len(sizes)))
  columns = (
    of(name, default).split('x')
    for name, default in (
      ('size', '1'),
      ('stride', '1'),
      ('pad', '0_0'),
      ('lhs_dilate', '1'),
      ('rhs_dilate', '1'),
    )
  )
  return [
    {
      'size': int(size),
      'stride': int(stride),
      'low': int(pad.split('_')[0]),
      'film_step': int(film_step),
      'kernel_step': int(kernel_step),
    }
    for size, stride, pad, film_step, kernel_step in zip(*columns, strict=True)
  ]


def _pairs(
  before: int,
  after: int,
  *,
  size: int,
  stride: int,
  low: int,
  film_step: int,
  kernel_step: int,
) -> int:
  """Along an axis, the pairs of a place of the result and a place of the window
  that read a number of the film, neither padding nor a hole of its dilation."""
  place = np.arange(after)[:, None] * stride - low
  place = place + np.arange(size) * kernel_step
  inside = (place >= 0) & (place <= (before - 1) * film_step)
  return int((inside & (place % film_step == 0)).sum())
