"""How cost grows with devices and with films.

  python -m tests.benchmarks.bench_scale

A table of 1, 2, 4 virtual CPU devices and 1x, 4x, 16x films of noise: the time
of a film in an adversarial training step and in prediction, and the peak
memory, with the films on the host and laid over the devices. Every cell has a
process of its own, so that its peak is its own, and all take turns, so that
another load on the machine strikes all; the median of the turns counts.

Virtual devices share the cores: they show what laying a batch over devices
costs, not what devices gain.
"""

import multiprocessing
import resource
import time

import numpy as np
from absl import app, flags

from cxr import inference

_DEVICES = flags.DEFINE_multi_integer('devices', [1, 2, 4], 'Virtual devices.')
_TIMES = flags.DEFINE_multi_integer('times', [1, 4, 16], 'Times --films.')
_FILMS = flags.DEFINE_integer('films', 1000, 'Films at 1x.')
_SIZE = flags.DEFINE_integer('image_size', 64, 'Pixels.')
_STEPS = flags.DEFINE_integer('steps', 4, 'Steps in a turn.')
_TURNS = flags.DEFINE_integer('turns', 5, 'Turns.')
_BATCH = 32


def _split(films: int, size: int):
  """Noise in the form of a prepared split."""
  from input_pipeline import pipeline

  rng = np.random.default_rng(0)
  text = np.full(films, '')
  return pipeline.Split(
    name='train',
    image=rng.integers(0, 256, (films, size, size, 1), np.uint8),
    label=(rng.random((films, 14)) < 0.1).astype(np.float32),
    image_name=text,
    patient=np.arange(films),
    view=text,
    age=np.full(films, np.nan),
    sex=text,
    box=np.zeros((0, 4)),
    box_image=np.zeros(0, np.int64),
    box_finding=np.zeros(0, np.int64),
  )


def _work(pipe, cache, devices, films, size, steps):
  """Answers each request with seconds a film (trained, predicted)."""
  import jax

  jax.config.update('jax_num_cpu_devices', devices)

  from configs import robust
  from cxr import data, sharding, train_state
  from cxr.training import configured_step, setup

  config = robust.get_config('smoke')
  config.data.cache = cache
  config.data.image_size = size
  config.train.batch_size = _BATCH
  split = _split(films, size)
  mesh = sharding.make_mesh()
  made = setup.make_setup(config, split, mesh)
  key = jax.random.key(0)
  state = setup.initial_state(made, key)
  step_fn = configured_step.make_jit_step(made, key)
  batches = data.train_batches(config, split, mesh, start_step=0)
  few = np.arange(steps * _BATCH)

  def turn():
    nonlocal state
    begun = time.perf_counter()
    for _ in range(steps):
      state, _ = step_fn(state, next(batches))
    jax.block_until_ready(state)
    trained = time.perf_counter()
    variables = train_state.variables(state)
    subject = inference.Subject(
      config, made.model, variables, mesh, {'train': split}
    )
    inference.predict_split(subject, 'train', batch_size=_BATCH, index=few)
    predicted = time.perf_counter()
    return np.array([trained - begun, predicted - trained]) / len(few)

  turn()
  pipe.send(None)
  while pipe.recv():
    pipe.send(turn())
  pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]}')
  context = multiprocessing.get_context('spawn')
  workers = {}
  for cache in ('memory', 'device'):
    for devices in _DEVICES.value:
      for times in _TIMES.value:
        pipe, theirs = context.Pipe()
        films = times * _FILMS.value
        process = context.Process(
          target=_work,
          args=(theirs, cache, devices, films, _SIZE.value, _STEPS.value),
          daemon=True,
        )
        process.start()
        theirs.close()
        # One after the other, so that the compilers do not meet.
        pipe.recv()
        workers[cache, devices, films] = pipe, process
  taken = {cell: [] for cell in workers}
  for _ in range(_TURNS.value):
    for cell, (pipe, _) in workers.items():
      pipe.send(True)
      taken[cell].append(pipe.recv())
  print('cache   devices   films   train ms/film   predict ms/film   peak GiB')
  for cell, (pipe, process) in workers.items():
    pipe.send(False)
    peak = pipe.recv() / 2**30
    process.join()
    train, predict = 1000 * np.median(taken[cell], axis=0)
    cache, devices, films = cell
    print(
      f'{cache:7}{devices:8}{films:8}{train:16.2f}{predict:18.2f}{peak:11.2f}'
    )


if __name__ == '__main__':
  app.run(main)
