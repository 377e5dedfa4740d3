"""APGD and Square beside torchattacks': the losses that they reach.

  python -m tests.benchmarks.bench_attacks

The same convolutional network with random weights and one true class of five,
as both sides can attack it; the same films, radius, steps and cross-entropy.
Starts and proposals are random on both sides, so films differ either way and
the mean over them counts. torchattacks' Square goes on after a film is fooled,
as ours does: its margin is taken for positive throughout.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torchattacks
from absl import app, flags
from torch.nn import functional

from cxr.attacks import batched

_FILMS = flags.DEFINE_integer('films', 32, 'Films attacked.')
_SIZE = flags.DEFINE_integer('image_size', 28, 'Pixels.')
_STEPS = flags.DEFINE_integer('num_steps', 50, 'Gradients of APGD.')
_METHODS = flags.DEFINE_multi_enum(
  'method', ['apgd', 'square'], ['apgd', 'square'], 'Attacks.'
)
_NORMS = flags.DEFINE_multi_enum(
  'norm', ['linf', 'l2'], ['linf', 'l2'], 'Norms.'
)
_QUERIES = flags.DEFINE_integer('queries', 1000, 'Values of Square.')
_RADII = {'linf': 8 / 255, 'l2': 0.5}
_CLASSES = 5


def _weights(rng, size):
  side = size // 4
  shapes = {
    'first': (3, 3, 1, 8),
    'second': (3, 3, 8, 16),
    'head': (side * side * 16, _CLASSES),
  }
  return {
    name: (rng.normal(size=shape) * (2 / np.prod(shape[:-1])) ** 0.5).astype(
      np.float32
    )
    for name, shape in shapes.items()
  }


def _logits(weights, image):
  x = image
  for name in ('first', 'second'):
    x = jax.lax.conv_general_dilated(
      x,
      weights[name],
      (2, 2),
      ((1, 1), (1, 1)),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    x = jax.nn.relu(x)
  return 3 * x.reshape(len(x), -1) @ weights['head']


def _torch_model(weights):
  weights = {name: torch.from_numpy(w) for name, w in weights.items()}

  class Model(torch.nn.Module):
    def forward(self, x):
      for name in ('first', 'second'):
        kernel = weights[name].permute(3, 2, 0, 1)
        x = torch.relu(functional.conv2d(x, kernel, None, 2, 1))
      return 3 * x.permute(0, 2, 3, 1).flatten(1) @ weights['head']

  return Model().eval()


def _loss(logits, label):
  return jax.nn.logsumexp(logits) - logits[label]


def _ours(weights, image, label, method, norm):
  steps = {'apgd': _STEPS.value, 'square': _QUERIES.value}[method]
  options = batched.Options(
    epsilon=_RADII[norm], method=method, norm=norm, num_steps=steps
  )
  attack = batched.make_compiled_attack(
    _logits, _loss, options, from_host=jax.devices()[0].platform == 'cpu'
  )
  return attack(weights, jax.random.key(0), image, label)


def _theirs(model, image, label, method, norm):
  options = {'norm': {'linf': 'Linf', 'l2': 'L2'}[norm], 'eps': _RADII[norm]}
  image = torch.from_numpy(image).permute(0, 3, 1, 2)
  label = torch.from_numpy(label).long()
  torch.manual_seed(0)
  if method == 'apgd':
    attack = torchattacks.APGD(model, steps=_STEPS.value, **options)
    x = attack.attack_single_run(image, label)[0]
  else:
    attack = torchattacks.Square(
      model, n_queries=_QUERIES.value, loss='ce', **options
    )

    def margin_and_loss(x, y):
      loss = functional.cross_entropy(model(x), y, reduction='none')
      return torch.ones(len(x)), -loss

    attack.margin_and_loss = margin_and_loss
    attack.init_hyperparam(image)
    x = attack.attack_single_run(image, label)[1]
  return x.detach().permute(0, 2, 3, 1).numpy()


def main(argv):
  del argv
  rng = np.random.default_rng(0)
  size = _SIZE.value
  weights = _weights(rng, size)
  model = _torch_model(weights)
  shape = (_FILMS.value, size, size, 1)
  image = rng.uniform(size=shape).astype(np.float32)
  label = np.asarray(_logits(weights, image)).argmax(1)
  losses = jax.jit(
    lambda image: jax.vmap(_loss)(_logits(weights, image), jnp.asarray(label))
  )
  with torch.inference_mode():
    other = model(torch.from_numpy(image).permute(0, 3, 1, 2)).numpy()
  gap = np.abs(other - _logits(weights, image)).max()
  print(
    f'{_FILMS.value} films of {size} px, clean loss '
    f'{losses(image).mean():.4f}, logits apart by {gap:.1g} at most'
  )
  for method in _METHODS.value:
    for norm in _NORMS.value:
      ours = np.asarray(losses(_ours(weights, image, label, method, norm)))
      theirs = np.asarray(losses(_theirs(model, image, label, method, norm)))
      difference = ours - theirs
      error = difference.std(ddof=1) / len(difference) ** 0.5
      print(
        f'{method:7}{norm:5} loss {ours.mean():.4f}, torchattacks '
        f'{theirs.mean():.4f}, difference {difference.mean():+.4f} '
        f'(standard error {error:.4f}); not below it by 0.001 on '
        f'{(difference > -1e-3).mean():.0%} of the films',
        flush=True,
      )


if __name__ == '__main__':
  app.run(main)
