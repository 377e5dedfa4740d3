"""A model whose logits and attacks are known by hand, and films for it.

A film of 16 by 16 pixels; finding k's logit is the sum of row k less 8.
"""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from configs import default
from cxr import inference, sharding
from input_pipeline import pipeline
from input_pipeline.findings import BOXED, FINDINGS

SIZE = 16
K = len(FINDINGS)
EPSILON = 5.0  # in 1/255


class Rows(nn.Module):
  """`grain` above 0: pixels in steps of so many 1/255, without gradient."""

  grain: float = 0.0

  def __call__(self, image, train=False, start='image'):
    x = image
    if self.grain:
      x = jnp.round(image * 255 / self.grain) * self.grain / 255
    return x[:, :K, :, 0].sum(-1) - 8, {'features': image}

  def cells(self, endpoint):
    return 1, 0

  def head(self, params):
    raise NotImplementedError  # it has no CAM


def split(name, level, label, boxes=()):
  """Films whose rows all have the `level` of the film, in 1/255."""
  n = len(level)
  image = np.broadcast_to(
    np.asarray(level, np.uint8)[:, None, None, None], (n, SIZE, SIZE, 1)
  )
  film, finding, box = zip(*boxes, strict=True) if boxes else ((), (), ())
  return pipeline.Split(
    name=name,
    image=image,
    label=np.broadcast_to(np.float32(label)[:, None], (n, K)).copy(),
    image_name=np.array([f'{name}{i}.png' for i in range(n)]),
    patient=np.arange(n),
    view=np.full(n, 'PA'),
    age=np.full(n, 50.0),
    sex=np.full(n, 'F'),
    box=np.array(box, np.float64).reshape(-1, 4),
    box_image=np.array(film, np.int64),
    box_finding=np.array(finding, np.int64),
    findings=FINDINGS,
    boxed=BOXED,
  )


# Called from 150 on: the lowest positive validation film.
VALIDATION = split('validation', [100, 120, 150, 200], [0, 0, 1, 1])
LEVELS = [154, 156, 146, 144, 250, 30]
LABELS = [1, 0, 1, 0, 1, 0]


def row_box(k):
  return (k / SIZE, 0.0, (k + 1) / SIZE, 1.0)


def make(grain=0.0, boxes=(), num_devices=1):
  config = default.get_config('smoke')
  config.data.image_size = SIZE
  config.evaluate.batch_size = 4
  config.evaluate.epsilons = (1.0, EPSILON, 9.0)
  config.evaluate.num_steps = 10
  config.evaluate.methods = ('gradient',)
  config.evaluate.smooth = 0.0
  config.evaluate.measure_films = 0
  config.evaluate.check_films = 6
  return inference.Subject(
    config,
    Rows(grain),
    {},
    sharding.make_mesh(num_devices),
    {
      'validation': VALIDATION,
      'test': split('test', LEVELS, LABELS, boxes),
    },
  )
