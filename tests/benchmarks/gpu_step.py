"""The step of training on this device, beside what its program must take.

  python -m tests.benchmarks.gpu_step --arch=resnet50 --num_steps=3

prints the seconds of a step, their share of the two ceilings (operations and
bytes of the compiled program at the card's published figures, as roofline.py
counts them) and the five operations that a trace says took longest.
"""

import collections
import glob
import gzip
import json
import os
import tempfile
import time

import numpy as np
from absl import app, flags

from cxr import jax_setup
from tests.benchmarks import bare

_ARCH = flags.DEFINE_string('arch', 'resnet50', 'Network.')
_FILTERS = flags.DEFINE_integer('filters', 64, 'Of the first stage.')
_SIZE = flags.DEFINE_integer('image_size', 224, 'Pixels.')
_BATCH = flags.DEFINE_integer('batch_size', 128, 'Films.')
_STEPS = flags.DEFINE_integer('num_steps', 3, 'Of the attack; 0: none.')
_STRIDE = flags.DEFINE_integer('output_stride', 8, 'Pixels of a cell.')
_DTYPE = flags.DEFINE_string('dtype', 'bfloat16', 'Of the computation.')
_ROUNDS = flags.DEFINE_integer('rounds', 10, 'Steps that are timed.')
_LARGEST = 5


def make_config():
  from configs import baseline, robust

  config = (robust if _STEPS.value else baseline).get_config('nih')
  config.data.image_size = _SIZE.value
  config.data.cache = 'device'
  config.model.arch, config.model.num_filters = _ARCH.value, _FILTERS.value
  config.model.output_stride = _STRIDE.value
  config.model.dtype = _DTYPE.value
  config.attack.num_steps = max(_STEPS.value, 1)
  config.train.batch_size = _BATCH.value
  return config


def traced(folder: str) -> list[tuple[str, float]]:
  """(operation, seconds) of a trace, the longest first."""
  (path,) = glob.glob(f'{folder}/**/*.trace.json.gz', recursive=True)
  with gzip.open(path) as f:
    events = json.load(f)['traceEvents']
  seconds = collections.Counter()
  for event in events:
    name = event.get('args', {}).get('hlo_op')
    if event.get('ph') == 'X' and name:
      seconds[name] += event.get('dur', 0) / 1e6
  return seconds.most_common(_LARGEST)


def main(argv):
  del argv
  bare.install()
  import jax

  from cxr import data, sharding
  from cxr.training import configured_step, setup
  from input_pipeline import pipeline
  from input_pipeline.findings import FINDINGS
  from tests.accelerators import chips, kernels

  jax_setup.set_precision()
  config, mesh = make_config(), sharding.make_mesh(1)
  n, size = 2 * _BATCH.value, _SIZE.value
  rng = np.random.default_rng(0)
  empty = np.zeros(0, np.int64)
  films = pipeline.Split(
    name='train',
    image=rng.integers(0, 256, (n, size, size, 1), np.uint8),
    label=(rng.random((n, len(FINDINGS))) < 0.1).astype(np.float32),
    image_name=np.arange(n).astype(str),
    patient=np.arange(n),
    view=np.full(n, ''),
    age=np.full(n, np.nan),
    sex=np.full(n, ''),
    box=np.zeros((0, 4)),
    box_image=empty,
    box_finding=empty,
  )
  made = setup.make_setup(config, films, mesh)
  state = setup.initial_state(made, jax.random.key(0))
  on_device = data.on_device(films, mesh)
  batch = sharding.shard(mesh, {'index': np.arange(_BATCH.value)})
  step = configured_step.jitted(made, jax.random.key(1))
  program = step.lower(state, batch, on_device).compile()

  def run(state, count):
    for _ in range(count):
      state, _ = program(state, batch, on_device)
    return jax.block_until_ready(state)

  state = run(state, 2)
  since = time.perf_counter()
  state = run(state, _ROUNDS.value)
  seconds = (time.perf_counter() - since) / _ROUNDS.value
  text = program.as_text()
  chip = chips.CHIPS['gpu']
  cost = sum(
    (chips.cost(k, chip) * k.times for k in kernels.kernels(text)),
    chips.Cost(),
  )
  print(
    f'{_ARCH.value}, {size} px, stride {_STRIDE.value}, {_DTYPE.value}, batch '
    f'{_BATCH.value}, k = {_STEPS.value}, {jax.devices()[0].device_kind}: '
    f'{seconds * 1e3:.1f} ms, {_BATCH.value / seconds:,.0f} films/s; '
    f'{cost.operations / 1e12:.2f} TFLOP, {cost.num_bytes / 1e9:.1f} GB; of '
    f"{chip.name}'s {chip.operations['bf16'] / 1e12:,.0f} TFLOP/s "
    f'{cost.by_operations / seconds:.1%}, of {chip.num_bytes / 1e9:,.0f} GB/s '
    f'{cost.by_bytes / seconds:.1%}, of both, kernel by kernel, '
    f'{cost.at_least / seconds:.1%}',
    flush=True,
  )
  places = {k.name: k.op_name for k in kernels.kernels(text)}
  with tempfile.TemporaryDirectory(dir=os.environ.get('OUT')) as folder:
    with jax.profiler.trace(folder):
      run(state, 2)
    for name, taken in traced(folder):
      print(f'{taken / 2 * 1e3:9.2f} ms  {name} in {places.get(name, "?")}')


if __name__ == '__main__':
  app.run(main)
