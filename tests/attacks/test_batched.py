"""Attacks on batches: films apart, devices, keys, and PyTorch as an oracle."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxr import losses, sharding
from cxr.attacks import batched
from tests.attacks.test_pgd import KEY, NORMS, perturbation


class Net(nn.Module):
  """A small convolutional network with BatchNorm."""

  @nn.compact
  def __call__(self, image, train=False):
    x = nn.Conv(4, (3, 3), strides=2, padding=((1, 1), (1, 1)))(image - 0.5)
    x = nn.BatchNorm(use_running_average=not train)(x)
    x = nn.Conv(5, (3, 3), padding=((1, 1), (1, 1)))(nn.softplus(x))
    return nn.Dense(3)(nn.softplus(x).mean((1, 2)))


def apply_fn(variables, image):
  return Net().apply(variables, image)


@jax.jit
def film_losses(variables, image, label):
  return losses.sigmoid_cross_entropy(apply_fn(variables, image), label)


@functools.cache
def network():
  image = jax.random.uniform(jax.random.key(1), (5, 8, 8, 1))
  variables = jax.jit(Net().init)(jax.random.key(0), image)
  statistics = jax.tree.map(lambda x: x + 0.3, variables['batch_stats'])
  variables = {'params': variables['params'], 'batch_stats': statistics}
  label = jnp.array(
    np.random.default_rng(0).integers(0, 2, (5, 3)), jnp.float32
  )
  return variables, image, label.at[0, 1].set(jnp.nan)


def make(method='pgd', make_attack=batched.make_host_attack, **options):
  options = {'epsilon': 0.05, 'num_steps': 5, **options}
  return make_attack(
    apply_fn,
    losses.sigmoid_cross_entropy,
    batched.Options(method=method, **options),
  )


@pytest.mark.parametrize('method', batched.METHODS)
def test_attack_of_a_network(method):
  variables, image, label = network()
  before = jax.tree.map(np.array, variables)
  keys = jax.random.split(KEY, len(image))
  attack = make(method, num_steps=100 if method == 'square' else 5)
  found = attack(variables, keys, image, label)
  assert found.shape == image.shape and found.dtype == image.dtype
  assert perturbation(image, found, 'linf').max() <= 0.05 + 1e-7
  clean = film_losses(variables, image, label)
  assert (film_losses(variables, found, label) > clean).all()

  # BatchNorm's statistics are bit-identical, and so are the parameters.
  jax.tree.map(np.testing.assert_array_equal, before, variables)

  # An image's result depends neither on its place nor on its company, and a
  # radius may be given for each.
  other = np.array([3, 3, 0, 1, 1])
  radius = np.array([0.05, 0, 0, 0.05, 0.05], np.float32)
  moved = attack(variables, keys[other], image[other], label[other], radius)
  np.testing.assert_allclose(moved[0], found[3], atol=1e-6)
  np.testing.assert_allclose(moved[3:], found[other[3:]], atol=1e-6)
  np.testing.assert_array_equal(moved[1:3], image[other[1:3]])


def test_a_batch_is_its_images_and_the_host_changes_nothing():
  variables, image, label = network()
  keys = jax.random.split(KEY, len(image))
  options = {'num_steps': 2, 'restarts': 2, 'norm': 'l2'}
  attack = make(**options)
  found = attack(variables, keys, image, label)
  pure = jax.jit(make(make_attack=batched.make_attack, **options))
  np.testing.assert_allclose(
    pure(variables, keys, image, label), found, atol=1e-6
  )
  alone = attack(variables, keys[3:4], image[3:4], label[3:4])
  np.testing.assert_allclose(alone, found[3:4], atol=1e-6)


@pytest.mark.parametrize('method', ['pgd', 'square'])
def test_films_over_devices_are_films_on_one(method):
  variables, image, label = network()
  image, label = image[:4], label[:4]
  keys = jax.random.split(KEY, 4)
  attack = make(method, num_steps=2)
  one = attack(variables, keys, image, label)
  mesh = sharding.make_mesh(4)
  put = lambda x: jax.device_put(x, sharding.over_data(mesh))
  everywhere = jax.device_put(variables, sharding.replicated(mesh))
  four = attack(everywhere, put(keys), put(image), put(label))
  assert len(four.sharding.device_set) == 4
  np.testing.assert_allclose(four, one, atol=1e-6)


def test_epsilon_override_scales_the_step():
  variables, image, label = network()
  options = {'random_start': False, 'num_steps': 3}
  attack = make(epsilon=0.02, step_size=0.01, **options)
  other = make(epsilon=0.04, step_size=0.02, **options)
  np.testing.assert_allclose(
    attack(variables, KEY, image, label, 0.04),
    other(variables, KEY, image, label),
    atol=1e-7,
  )
  still = attack(variables, KEY, image, label, 0.0)
  np.testing.assert_array_equal(still, image)


def test_no_gradient_passes_through_an_attack():
  variables, image, label = network()
  attack = make(make_attack=batched.make_attack, num_steps=1)

  @jax.jit
  @jax.grad
  def gradient(variables):
    return attack(variables, KEY, image, label).sum()

  assert not any(np.any(x) for x in jax.tree.leaves(gradient(variables)))


def test_targeted_attack_moves_its_finding_and_holds_the_others():
  variables, image, _ = network()
  logits = jax.jit(apply_fn)
  clean = logits(variables, image)

  def loss_fn(logits, target):
    # The label may be a pytree, here with a price for each image.
    hold = losses.make_targeted(1, 'plant', hold_weight=target['price'])
    return hold(logits, target['clean'])

  options = batched.Options(epsilon=0.1, num_steps=20, norm='l2')
  attack = batched.make_host_attack(apply_fn, loss_fn, options)

  def moved(price):
    target = {'clean': clean, 'price': jnp.full(len(image), price)}
    found = attack(variables, KEY, image, target)
    return np.asarray(logits(variables, found) - clean)

  planted, held = moved(0.0), moved(1e4)
  assert (planted[:, 1] > 0).all() and (held[:, 1] > 0).all()
  others = [0, 2]
  assert np.abs(held[:, others]).max() < 0.2 * np.abs(planted[:, others]).max()


@pytest.mark.parametrize(
  'options, match',
  [
    ({'epsilon': -0.1}, 'epsilon .-0.1'),
    ({'epsilon': float('nan')}, 'epsilon'),
    ({'num_steps': 0}, 'num_steps .0'),
    ({'restarts': 0}, 'restarts .0'),
    ({'step_size': -1.0}, 'step_size .-1'),
    ({'momentum': -1.0}, 'momentum .-1'),
    ({'norm': 'l1'}, "'l1'.*linf, l2"),
    ({'method': 'cw'}, "'cw'.*square"),
  ],
)
def test_options_are_checked(options, match):
  with pytest.raises(ValueError, match=match):
    make(**options)


def test_keys_are_checked():
  variables, image, label = network()
  attack = make()
  with pytest.raises(ValueError, match='typed keys'):
    attack(variables, jax.random.PRNGKey(0), image, label)
  with pytest.raises(ValueError, match=r'5 images.*\(2,\)'):
    attack(variables, jax.random.split(KEY, 2), image, label)


@pytest.mark.parametrize('norm', NORMS)
def test_ten_steps_equal_plain_pytorch(norm):
  torch = pytest.importorskip('torch', reason='the oracle is PyTorch')
  variables, image, label = network()
  label = jnp.nan_to_num(label)
  epsilon, step_size = (0.03, 0.007) if norm == 'linf' else (0.4, 0.1)
  attack = make(
    epsilon=epsilon,
    step_size=step_size,
    norm=norm,
    num_steps=10,
    random_start=False,
  )
  found = attack(variables, KEY, image, label)

  tensor = lambda x: torch.tensor(np.array(x))
  params = variables['params']
  weights = [tensor(params[f'Conv_{i}']['kernel']) for i in (0, 1)]
  weights = [weight.permute(3, 2, 0, 1) for weight in weights]
  biases = [tensor(params[f'Conv_{i}']['bias']) for i in (0, 1)]
  statistics = variables['batch_stats']['BatchNorm_0']
  functional = torch.nn.functional

  def loss_fn(x):
    x = functional.conv2d(x - 0.5, weights[0], biases[0], 2, 1)
    x = functional.batch_norm(
      x,
      tensor(statistics['mean']),
      tensor(statistics['var']),
      tensor(params['BatchNorm_0']['scale']),
      tensor(params['BatchNorm_0']['bias']),
    )
    x = functional.conv2d(functional.softplus(x), weights[1], biases[1], 1, 1)
    x = functional.softplus(x).mean((2, 3)) @ tensor(
      params['Dense_0']['kernel']
    )
    return functional.binary_cross_entropy_with_logits(
      x + tensor(params['Dense_0']['bias']), tensor(label), reduction='sum'
    )

  clean = tensor(image).permute(0, 3, 1, 2)
  x = clean.clone()
  for _ in range(10):
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(loss_fn(x), x)
    with torch.no_grad():
      if norm == 'linf':
        x = x + step_size * gradient.sign()
        x = torch.clamp(x, clean - epsilon, clean + epsilon).clamp(0, 1)
      else:
        length = gradient.flatten(1).norm(dim=1)[:, None, None, None]
        x = x + step_size * gradient / length
        delta = x - clean
        length = delta.flatten(1).norm(dim=1)[:, None, None, None]
        x = (clean + delta * (epsilon / length).clamp(max=1)).clamp(0, 1)
  np.testing.assert_allclose(found, x.permute(0, 2, 3, 1), atol=1e-5)


@pytest.mark.parametrize('options', [{}, {'num_steps': 3}, {'restarts': 2}])
def test_a_short_attack_can_be_unrolled(options):
  # On a CPU, XLA runs convolutions inside a `while` several times slower.
  attack = batched.make_attack(
    lambda variables, image: (image * variables).sum((1, 2)),
    lambda logits, label: logits.sum(),
    batched.Options(epsilon=0.1, **{'num_steps': 1} | options),
    unroll=True,
  )
  image, label = jnp.full((2, 3, 3, 1), 0.5), jnp.zeros((2, 1))
  program = str(
    jax.make_jaxpr(attack)(jnp.ones(()), jax.random.key(0), image, label)
  )
  assert 'while' not in program and 'scan' not in program
