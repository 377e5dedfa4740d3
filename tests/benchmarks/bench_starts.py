r"""The loss that L2 PGD reaches from different random starts.

  python -m tests.benchmarks.bench_starts --epsilon=32 \
    --workdir=runs/study/phantom_robust_2_0

All start along a normal direction: 'surface' at epsilon, 'any radius' at a
uniform share of it (torchattacks' start), 'near' at a uniform share of a tenth
of it (this project's). 'image' starts at the film. Differences are in per cent
of the loss from the surface, with intervals over patients. docs/attacks.md has
the result.
"""

import jax
import numpy as np
from absl import app, flags

from cxr import data, inference, losses, sharding
from cxr.attacks import ascent, batched
from cxr.statistics import bootstrap, intervals

_WORKDIR = flags.DEFINE_string('workdir', None, 'Of a run.', required=True)
_EPSILON = flags.DEFINE_float('epsilon', 32.0, 'Radius of the ball, in 1/255.')
_STEPS = flags.DEFINE_list('steps', '2,3,10,40', 'Numbers of gradients.')
_RESTARTS = flags.DEFINE_integer('restarts', 1, 'Starts, the best counts.')
_FILMS = flags.DEFINE_integer('films', 256, 'Validation films attacked.')


def along(radius):
  """A `sample` at epsilon times radius(key) from the image."""

  def sample(key, image, epsilon):
    direction_key, radius_key = jax.random.split(key)
    noise = ascent.ball('l2').direction(
      jax.random.normal(direction_key, image.shape)
    )
    moved = image + epsilon * radius(radius_key) * noise
    return ascent.ball('l2').project(moved, image, epsilon)

  return sample


STARTS = {
  'surface': along(lambda key: 1.0),
  'image': along(lambda key: 0.0),
  'any radius': along(jax.random.uniform),
  'near': ascent.ball('l2').sample,
}


def gain_over(first, second, of_patient):
  """The second loss over the first, in per cent, as a bootstrap's statistic."""

  def statistic(weight):
    weight = of_patient @ weight
    gain = bootstrap.divide((second - first) @ weight, first @ weight)
    return 100 * gain[:, None]

  return statistic


def main(_):
  config, model, variables, _ = inference.load_model(_WORKDIR.value)
  films = data.load(config)['validation']
  subject = inference.Subject(
    config, model, variables, sharding.make_mesh(), {'validation': films}
  )
  index = inference.subset(films, _FILMS.value)
  label = films.label[index]
  patient, count = bootstrap.index_patients(films.patient[index])
  of_patient = np.eye(count)[patient]
  print(f'{len(index)} films, {count} patients')

  def reached(start, num_steps):
    ascent.BALLS['l2'] = ascent.ball('l2')._replace(sample=STARTS[start])
    attack = batched.make_host_attack(
      lambda variables, image: model.apply(variables, image)[0],
      losses.sigmoid_cross_entropy,
      batched.Options(
        norm='l2',
        epsilon=_EPSILON.value / 255,
        num_steps=num_steps,
        restarts=_RESTARTS.value,
      ),
    )
    logits = inference.predict_split(
      subject,
      'validation',
      index=index,
      attack=inference.by_index(attack, jax.random.key(0)),
    )
    return np.asarray(losses.sigmoid_cross_entropy(logits, label))

  for num_steps in map(int, _STEPS.value):
    loss = {
      start: reached(start, num_steps).reshape(len(index), -1).mean(1)
      for start in STARTS
    }
    for start, other in loss.items():
      gain = intervals.sample(
        gain_over(loss['surface'], other, of_patient), count
      )
      low, high = intervals.student_interval(
        gain.values, intervals.over_patients(gain), num_patients=count
      )
      print(
        f'{num_steps} steps, {start}: loss {other.mean():.4f}, '
        f'{gain.values[0]:+.2f} % ({low[0]:+.2f} to {high[0]:+.2f})'
      )


if __name__ == '__main__':
  app.run(main)
