"""Baseline and robust networks, trained on packed films on this device.

  python -m tests.benchmarks.gpu_train --films=build/films.npz

A ResNet-50 with cells of 8 pixels at 128 pixels: more than a CPU can train. Of
every seed one line of JSON: AUROC of the validation films, clean and under the
attack that validations make, films a second, seconds. The films lie in the
device's memory. Validation chose nothing here: the networks are the last ones.
"""

import json
import time

from absl import app, flags

from cxr import jax_setup
from tests.benchmarks import bare, packed_films

_FILMS = flags.DEFINE_string('films', 'build/films.npz', 'Of gpu_films.py.')
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Networks of each kind.')
_EPOCHS = flags.DEFINE_float('epochs', 15.0, 'Of each training.')
_ARCH = flags.DEFINE_string('arch', 'resnet50', 'Network.')
_FILTERS = flags.DEFINE_integer('filters', 64, 'Of the first stage.')
_DTYPE = flags.DEFINE_string('dtype', 'bfloat16', 'Of the computation.')
_EPSILON = flags.DEFINE_float('epsilon', 2.0, 'In 1/255.')
_TRY = flags.DEFINE_bool(
  'try', False, 'A few films, one seed, a small network: seconds on a CPU.'
)
_BATCH = 64


def make_config(kind: str, seed: int, image_size: int):
  from configs import baseline, robust

  module = {'baseline': baseline, 'robust': robust}[kind]
  config = module.get_config('nih_small')
  config.seed = seed
  config.data.image_size = image_size
  config.data.cache = 'device'
  config.model.arch = 'resnet18' if _TRY.value else _ARCH.value
  config.model.num_filters = 8 if _TRY.value else _FILTERS.value
  config.model.num_stages = 2 if _TRY.value else 4
  config.model.dtype = _DTYPE.value
  config.attack.epsilon = _EPSILON.value
  config.attack.num_steps = 3
  config.train.num_epochs = 1.0 if _TRY.value else _EPOCHS.value
  config.train.batch_size = 16 if _TRY.value else _BATCH
  config.train.robust_films = 16 if _TRY.value else 512
  config.evaluate.batch_size = 16 if _TRY.value else 128
  config.evaluate.num_steps = 2 if _TRY.value else 10
  return config


def train(config, splits) -> dict:
  """Trains one network; its scores on the validation films, and its speed."""
  import jax

  from cxr import data, sharding
  from cxr.training import configured_step, setup, validation

  mesh = sharding.make_mesh(1)
  made = setup.make_setup(config, splits['train'], mesh)
  init_key, step_key, attack_key = jax.random.split(
    jax.random.key(config.seed), 3
  )
  state = setup.initial_state(made, init_key)
  step = configured_step.make_jit_step(made, step_key)
  batches = data.train_batches(config, made.films, mesh, start_step=0)
  state, metrics = step(state, next(batches))  # compiles
  jax.block_until_ready(state)
  since = time.perf_counter()
  for _ in range(made.plan.num_steps - 1):
    state, metrics = step(state, next(batches))
  jax.block_until_ready(state)
  seconds = time.perf_counter() - since
  validate = validation.make_validate(made, splits['validation'], attack_key)
  scores = validate(state)
  return {
    'loss': round(float(metrics['train/loss']), 4),
    **{
      name: round(scores[name], 4)
      for name in ('val/auroc', 'val/robust_auroc')
      if name in scores
    },
    'films_per_second': round(
      (made.plan.num_steps - 1) * config.train.batch_size / seconds, 1
    ),
    'seconds': round(seconds, 1),
  }


def main(argv):
  del argv
  bare.install()
  import jax

  jax_setup.set_precision()

  splits = packed_films.read(_FILMS.value, 64 if _TRY.value else 0)
  size = splits['train'].image.shape[1]
  device = jax.devices()[0].device_kind
  for seed in range(1 if _TRY.value else _SEEDS.value):
    for kind in ('baseline', 'robust'):
      found = train(make_config(kind, seed, size), splits)
      print(
        json.dumps({'device': device, 'kind': kind, 'seed': seed, **found}),
        flush=True,
      )


if __name__ == '__main__':
  app.run(main)
