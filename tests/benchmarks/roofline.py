"""A step of training on an accelerator that is not here, calculated.

  python -m tests.benchmarks.roofline --platform=tpu
  python -m tests.benchmarks.roofline --platform=gpu --arch=resnet18

XLA compiles the step for eight chips of a TPU v5e or for an H100 (docs/scale.md
says which packages that takes, and no device). Of every kernel of that program
its operations and the bytes that it moves are counted, and what these take at
the chip's published figures. A kernel takes the longer of the two at least, and
a part of the step the sum over its kernels. No time here is measured.

A TPU's compiler is asked for little effort, which takes it a minute; all of it
(`--full`) takes six. The kernels that compute are the same, but with little
effort no array stays in the chip's own memory from one to the next. With all of
it arrays are copied there ahead of their use, beside other kernels. Here copies
count one after the other, so that neither sum bounds the time on a chip.
"""

import collections
import pathlib
import sys

import jax
from absl import app, flags

# As a script, too: its own folder would stand in the place of the root.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from configs import robust
from cxr import jax_setup
from cxr.training import configured_step
from tests.accelerators import chips, compiled_text, kernels, machines

_PLATFORM = flags.DEFINE_enum('platform', 'tpu', ['tpu', 'gpu'], 'Of which.')
_ARCH = flags.DEFINE_string('arch', '', "By default the ':nih' preset's.")
_STRIDE = flags.DEFINE_integer(
  'output_stride', 0, "Pixels of a cell; 0: the preset's."
)
_SIZE = flags.DEFINE_integer('image_size', 224, 'Pixels.')
_FILTERS = flags.DEFINE_integer('filters', 64, 'Of the first stage.')
_BATCH = flags.DEFINE_integer('batch_size', 64, 'Films, on all devices.')
_DTYPE = flags.DEFINE_enum(
  'dtype', 'bfloat16', ['bfloat16', 'float32'], 'Of the computation.'
)
_STEPS = flags.DEFINE_list(
  'steps', ['0', '3', '7'], 'Of the attack; the program has one loop of them.'
)
_FULL = flags.DEFINE_bool('full', False, "The compiler's whole effort.")
_LARGEST = flags.DEFINE_integer('largest', 5, 'Kernels to list.')

PARTS = 'augmentation', 'attack', 'update'
# Training films of NIH ChestX-ray14's official list less a tenth for
# validation, and the preset's epochs.
FILMS, EPOCHS = 77_872, 30


def part_of(kernel: kernels.Kernel) -> str:
  """The part of the step by its scope; 'other' is of no part."""
  scopes = kernel.op_name.split('/')
  return next((scope for scope in scopes if scope in PARTS), 'other')


def make_program(config, mesh) -> jax.stages.Compiled:
  """The program that a training runs at every step."""
  made = machines.make_setup(config, mesh)
  batch = machines.batch_of(made, config.train.batch_size)
  batch = {name: batch[name] for name in ('image', 'label')}
  step = configured_step.jitted(made, jax.random.key(0))
  lowered = step.lower(machines.state_of(made), batch, {})
  return lowered.compile(None if _FULL.value else machines.QUICKLY)


def costs(text: str, chip: chips.Chip, turns: int) -> dict[str, chips.Cost]:
  """By part; the attack's is of one of its `turns` steps, and the random start
  that it begins with counts with the rest."""
  found = collections.defaultdict(chips.Cost)
  for kernel in kernels.kernels(text):
    part = part_of(kernel)
    # Once: the random start, the projection.
    if part == 'attack' and kernel.times < turns:
      part = 'start of the attack'
    times = kernel.times / turns if part == 'attack' else kernel.times
    found[part] = found[part] + chips.cost(kernel, chip) * times
  return found


def _line(name: str, of_part: chips.Cost) -> str:
  return (
    f'{name:20}{of_part.kernels:9,.0f}{of_part.operations / 1e12:9.2f}'
    f'{of_part.num_bytes / 1e9:9.2f}{of_part.by_operations * 1e3:15.2f}'
    f'{of_part.by_bytes * 1e3:10.2f}{of_part.at_least * 1e3:10.2f}'
  )


def print_costs(
  found: dict[str, chips.Cost], chip: chips.Chip, batch_size: int
) -> None:
  print(
    f'{"":20}{"kernels":>9}{"TFLOP":>9}{"GB":>9}{"ms: operations":>15}'
    f'{"bytes":>10}{"at least":>10}'
  )
  for name, of_part in found.items():
    name = 'a step of the attack' if name == 'attack' else name
    print(_line(name, of_part))
  for steps in map(int, _STEPS.value):
    parts = dict(found)
    if not steps:
      parts.pop('start of the attack', None)
    step = sum(
      (c * (steps if n == 'attack' else 1) for n, c in parts.items()),
      chips.Cost(),
    )
    films = batch_size / step.at_least
    hours = FILMS * EPOCHS / films / 3600
    print(
      f'{_line(f"all, k = {steps}", step)}   {films:,.0f} films/s, '
      f'{films / chip.devices:,.0f} a device; {EPOCHS} epochs of NIH: '
      f'{hours:.1f} h'
    )


def print_crossing(text: str) -> None:
  """What crosses devices in a step."""
  for kind, sizes in compiled_text.collectives(text).items():
    print(f'{len(sizes)} x {kind}, {sum(sizes) / 1e6:.1f} MB in all.')
  numbers = compiled_text.crossing_numbers(text)
  if numbers:
    said = (
      f'{count * compiled_text.bytes_of(dtype) / 1e6:.1f} MB of {dtype}'
      for dtype, count in numbers.items()
    )
    print(f'Of these {", ".join(said)}.')


def print_largest(text: str, chip: chips.Chip) -> None:
  """The kernels that take longest in all their runs."""
  found = [(chips.cost(k, chip) * k.times, k) for k in kernels.kernels(text)]
  found.sort(key=lambda pair: -pair[0].at_least)
  print('largest:')
  for of_kernel, kernel in found[: _LARGEST.value]:
    bound = 'bytes'
    if of_kernel.by_operations > of_kernel.by_bytes:
      bound = 'operations'
    print(
      f'{of_kernel.at_least * 1e3:9.2f} ms by {bound}, {kernel.times} x '
      f'{kernel.name} in {kernel.op_name or "?"}'
    )


def main(argv):
  del argv
  chip = chips.CHIPS[_PLATFORM.value]
  reason = machines.missing(_PLATFORM.value)
  if reason:
    raise SystemExit(f'No program for a {_PLATFORM.value} is made: {reason}.')
  jax_setup.set_precision()
  config = robust.get_config('nih')
  config.data.image_size = _SIZE.value
  config.model.arch = _ARCH.value or config.model.arch
  config.model.output_stride = _STRIDE.value or config.model.output_stride
  config.model.num_filters = _FILTERS.value
  config.model.dtype = _DTYPE.value
  config.train.batch_size = _BATCH.value
  config.attack.num_steps = turns = 3
  print(
    f'{config.model.arch}, {_FILTERS.value} filters, {_SIZE.value} px, stride '
    f'{config.model.output_stride}, {_DTYPE.value}, {_BATCH.value} films on '
    f'{chip.devices} x {chip.name} '
    f'({chip.operations["bf16"] / 1e12:,.0f} TFLOP/s in bfloat16, '
    f'{chip.num_bytes / 1e9:,.0f} GB/s each).\n'
    'Calculated from the compiled program; of one device unless it says more.'
  )
  program = make_program(config, machines.mesh(_PLATFORM.value, chip.devices))
  memory, text = program.memory_analysis(), program.as_text()
  held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
  print(f'Memory of a device: {held / 1e9:.2f} GB.')
  print_costs(costs(text, chip, turns), chip, config.train.batch_size)
  print_crossing(text)
  print_largest(text, chip)


if __name__ == '__main__':
  app.run(main)
