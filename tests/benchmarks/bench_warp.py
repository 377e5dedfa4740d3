r"""Whether augmentation's warp and BatchNorm's statistics fit plain films.

  python -m tests.benchmarks.bench_warp --workdir=runs/warp

Trains the baseline and the robust network of configs/experiments/phantom.py
(epsilon 2/255) with the present warp and with a bilinear one, three seeds of
each, and compares their AUROC on validation films, plain, without the shortcut
and under PGD of 10 steps, with two kinds of BatchNorm statistics:

  running: those of training, of warped films
  plain: recomputed on the training films as they are

A run that the folder holds already is not trained again. Some 40 minutes of one
core; docs/training.md has the result.
"""

import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from configs.experiments import phantom
from cxr import data, inference, losses
from cxr.attacks import batched
from cxr.statistics import bootstrap, intervals, rankings
from cxr.training import augment, train
from input_pipeline import pipeline
from input_pipeline.phantom import draw, plan

_WORKDIR = flags.DEFINE_string('workdir', 'runs/warp', 'Of all runs.')
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Training seeds of each group.')

EPSILON = {'baseline': 0.5, 'robust': 2.0}  # of the attack, in 1/255


def bilinear(image, rows, columns):
  """A stand-in for the warp's interpolation."""
  return jax.scipy.ndimage.map_coordinates(
    image, [rows, columns], order=1, mode='nearest'
  )


LANCZOS = augment._FORMS
WARPS = {'bilinear': dict.fromkeys(LANCZOS, bilinear), 'lanczos': LANCZOS}


def make_config(group: str, seed: int):
  config = phantom.get_config(group)
  config.seed, config.attack.epsilon = seed, 2.0
  config.train.robust_films = 0
  return config


def trained(warp: str, group: str, seed: int) -> inference.Subject:
  """The run's model and films; trained where the folder does not have it."""
  workdir = os.path.join(_WORKDIR.value, f'{warp}_{group}_{seed}')
  config = make_config(group, seed)
  augment._FORMS = WARPS[warp]
  os.makedirs(workdir, exist_ok=True)
  train.train(config, workdir)
  config, model, variables, _ = inference.load_model(workdir)
  return inference.Subject(config, model, variables, None, data.load(config))


def plain_statistics(subject: inference.Subject, batch_size: int = 64) -> dict:
  """BatchNorm's statistics of the training films as they are."""
  films = subject.splits['train']
  empty = jax.tree.map(jnp.zeros_like, subject.variables['batch_stats'])

  @jax.jit
  def of_batch(image):
    variables = subject.variables | {'batch_stats': empty}
    _, updated = subject.model.apply(
      variables, data.to_unit(image), train=True, mutable=['batch_stats']
    )
    # From 0, an update is a tenth of what the batch has.
    return jax.tree.map(lambda x: 10 * x, updated['batch_stats'])

  order = np.random.default_rng(0).permutation(len(films.label))
  order = order[: len(order) // batch_size * batch_size]
  batches = [
    of_batch(films.image[np.sort(index)])
    for index in order.reshape(-1, batch_size)
  ]
  mean = jax.tree.map(lambda *x: jnp.stack(x).mean(0), *batches)
  between = jax.tree.map(lambda *x: jnp.stack(x).var(0), *batches)

  def join(mean, between):
    if 'var' in mean:
      return mean | {'var': mean['var'] + between['mean']}
    return {name: join(mean[name], between[name]) for name in mean}

  return join(mean, between)


def without_shortcut(config, films: pipeline.Split) -> np.ndarray:
  """The films drawn again, without their gratings."""
  options = config.data.phantom.to_dict()
  entries = plan.make_plan(options.pop('num_films'), options['seed'])
  by_name = {entry.name: entry for entry in entries}
  options['image_size'] = config.data.image_size
  drawn = [
    draw.draw_film(by_name[str(name)], renderings=True, **options)
    for name in films.image_name
  ]
  return np.stack([film.without_shortcut for film in drawn])[..., None]


def logits(subject: inference.Subject, group: str, plain: np.ndarray) -> dict:
  """(statistics, condition) -> logits of the validation films."""
  films = subject.splits['validation']
  apply_fn = lambda variables, image: subject.model.apply(variables, image)[0]
  attack = jax.jit(
    batched.make_attack(
      apply_fn,
      losses.sigmoid_cross_entropy,
      batched.Options(epsilon=EPSILON[group] / 255, num_steps=10),
    )
  )
  image, without = map(data.to_unit, (jnp.array(films.image[:]), plain))
  found = {}
  for name, statistics in (
    ('running', subject.variables['batch_stats']),
    ('plain', plain_statistics(subject)),
  ):
    variables = subject.variables | {'batch_stats': statistics}
    attacked = attack(variables, jax.random.key(0), image, films.label)
    for condition, shown in (
      ('films', image),
      ('no shortcut', without),
      ('attacked', attacked),
    ):
      found[name, condition] = np.asarray(apply_fn(variables, shown))
  return found


def difference(first: Sequence, second: Sequence, films: pipeline.Split) -> str:
  """Of two groups' mean AUROC, second less first, with its interval."""
  patient, count = bootstrap.index_patients(films.patient)
  sampled = []
  for pair in zip(first, second, strict=True):
    one, other = (
      bootstrap.with_mean(rankings.make_auroc(x, films.label, patient, count))
      for x in pair
    )
    mean = lambda w, one=one, other=other: (other(w) - one(w))[:, :1]
    sampled.append(intervals.sample(mean, count))
  value = np.mean([run.values for run in sampled], axis=0)
  low, high = intervals.student_interval(
    value, intervals.over_seeds([sampled]), num_patients=count
  )
  return f'{value[0]:+.4f} ({low[0]:+.4f} to {high[0]:+.4f})'


def main(_):
  config = make_config('baseline', 0)
  films = data.load(config)['validation']
  plain = without_shortcut(config, films)
  print(f'{len(films.label)} films, {len(set(films.patient))} patients')
  for group in EPSILON:
    runs = {
      warp: [
        logits(trained(warp, group, seed), group, plain)
        for seed in range(_SEEDS.value)
      ]
      for warp in WARPS
    }
    for condition in ('films', 'no shortcut', 'attacked'):
      today = [run['running', condition] for run in runs['bilinear']]
      for warp, statistics in (
        ('bilinear', 'plain'),
        ('lanczos', 'running'),
        ('lanczos', 'plain'),
      ):
        other = [run[statistics, condition] for run in runs[warp]]
        print(
          f'{group}, {condition}: {warp}, {statistics} statistics, less '
          f'bilinear, running: {difference(today, other, films)}'
        )


if __name__ == '__main__':
  app.run(main)
