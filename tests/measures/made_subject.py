"""A linear model on made films, for measures: its gradient is its weights."""

import types

import jax
import numpy as np
from flax import linen as nn
from jax import numpy as jnp

from configs import default
from cxr import sharding
from cxr.inference import Subject
from cxr.measures import named_measures
from input_pipeline import pipeline
from input_pipeline.findings import BOXED, FINDINGS
from input_pipeline.phantom import draw

SIZE = 48
N = 9


class Linear(nn.Module):
  """A weight for each pixel: the gradient is the weights."""

  @nn.compact
  def __call__(self, x, train=False, start='image'):
    logits = nn.Dense(len(FINDINGS), name='fc')(x.reshape(len(x), -1))
    return logits, {'features': x}

  def cells(self, endpoint):
    return 1, 0

  def head(self, params):
    raise NotImplementedError  # it has no CAM

  def smooth(self, beta):
    return self  # it has no ReLU


def split(name, image, label):
  n = len(image)
  return pipeline.Split(
    name=name,
    image=np.asarray(image, np.uint8),
    label=np.asarray(label, np.float32),
    image_name=np.array([f'{i:03d}.png' for i in range(n)]),
    patient=np.arange(n) // 2,
    view=np.full(n, 'PA'),
    age=np.full(n, 50.0),
    sex=np.full(n, 'F'),
    box=np.zeros((0, 4)),
    box_image=np.zeros(0, int),
    box_finding=np.zeros(0, int),
    findings=FINDINGS,
    boxed=BOXED,
  )


def films(n=N):
  """A bright body on a dark ground."""
  rng = np.random.default_rng(0)
  image = rng.integers(0, 3, (n, SIZE, SIZE, 1))
  image[:, 8:40, 8:40] += rng.integers(100, 200, (n, 32, 32, 1))
  return image


def labels(*findings):
  label = np.zeros((len(findings), len(FINDINGS)))
  label[np.arange(len(findings)), findings] = 1
  return label


def make_subject(kernel, splits=None, *, mesh=1, **options):
  """`kernel` 'h w 14' of the linear model."""
  config = default.get_config('smoke')
  config.data.image_size = SIZE
  config.evaluate.methods = options.pop('methods', ('gradient',))
  config.evaluate.batch_size = 4
  config.evaluate.update(options)
  mesh = sharding.make_mesh(mesh)
  variables = {
    'params': {
      'fc': {
        'kernel': jnp.asarray(kernel, jnp.float32).reshape(SIZE**2, -1),
        'bias': jnp.zeros(len(FINDINGS)),
      }
    }
  }
  variables = jax.device_put(variables, sharding.replicated(mesh))
  splits = splits or {'test': split('test', films(), labels(*range(N)))}
  return Subject(config, Linear(), variables, mesh, splits)


def weights(scale=0.01):
  rng = np.random.default_rng(1)
  return scale * rng.normal(size=(SIZE, SIZE, len(FINDINGS)))


def taken(name, subject):
  """The measures of all methods and controls, as in an evaluation."""
  kind = named_measures.MEASURES[name]
  methods = subject.config.evaluate.methods
  return kind.compute(subject, (*kind.before, *methods, *kind.after))


def by_key(found):
  assert len({m.key for m in found}) == len(found)
  return {m.key: m.value for m in found}


def caused():
  """Films with one finding each, and the same without a cause."""
  base = np.full((4, SIZE, SIZE, 1), 100)
  finding = [0, 1, 1, 12]
  lesion = np.zeros_like(base)
  lesion[:, 5:15, 20:30] = 40
  grating = np.stack(
    [np.rint(20 * draw.grating(FINDINGS[k], SIZE, phase=1.0)) for k in finding]
  )[..., None]
  label = labels(*finding, 3, 4)
  label[4, 5] = 1  # two findings: left out
  image = np.concatenate([base + lesion + grating, base[:2]])
  return types.SimpleNamespace(
    lesion=lesion,
    grating=grating,
    splits={
      'test': split('test', image, label),
      'test_without_shortcut': split(
        '', np.concatenate([base + lesion, base[:2]]), label
      ),
      'test_without_lesions': split(
        '', np.concatenate([base + grating, base[:2]]), label
      ),
    },
  )
