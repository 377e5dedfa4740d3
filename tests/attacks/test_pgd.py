"""Attacks against known optima, bounds, and independent code."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxr import losses, sharding
from cxr.attacks import adaptive, ascent, checks, pgd

NORMS = ('linf', 'l2')
SHAPE = (6, 5, 1)
KEY = jax.random.key(7)


def linear_attacks(norm):
  """Every attack as (loss_fn, key, image, epsilon) -> image."""

  def with_options(**options):
    def attack(loss_fn, key, image, epsilon):
      step_size = epsilon / 4
      return pgd.pgd(
        loss_fn,
        key,
        image,
        epsilon=epsilon,
        step_size=step_size,
        norm=norm,
        **options,
      )

    return attack

  def of_steps(function, **options):
    def attack(loss_fn, key, image, epsilon):
      return function(
        loss_fn, key, image, epsilon=epsilon, norm=norm, **options
      )

    return attack

  return {
    'fgsm': lambda loss_fn, key, image, epsilon: pgd.fgsm(
      loss_fn, image, epsilon=epsilon, norm=norm
    ),
    'pgd': with_options(num_steps=60),
    'pgd from the image': with_options(num_steps=8, random_start=False),
    'pgd with momentum': with_options(num_steps=60, momentum=0.9),
    'pgd with restarts': with_options(num_steps=60, restarts=2, keep_best=True),
    'apgd': of_steps(adaptive.apgd, num_steps=30),
    'square': of_steps(adaptive.square, num_steps=2000),
  }


ATTACKS = tuple(linear_attacks('linf'))


def perturbation(image, adversarial, norm):
  """The norm of each film's perturbation in float64."""
  delta = np.asarray(adversarial, np.float64) - np.asarray(image, np.float64)
  order = {'linf': np.inf, 'l2': 2}[norm]
  return np.linalg.norm(delta.reshape(len(delta), -1), order, axis=1)


@functools.cache
def linear_model():
  random = np.random.default_rng(0)
  weight = random.normal(size=SHAPE).astype(np.float32)
  # One image inside, where the ball alone binds; one where [0, 1] does too.
  inside = random.uniform(0.3, 0.7, SHAPE)
  ragged = random.uniform(size=SHAPE).round(1)
  return weight, np.stack([inside, ragged]).astype(np.float32)


@functools.cache
def attack_linear_model(name, norm):
  """(epsilon) -> both images attacked, compiled once."""
  weight, images = linear_model()
  attack = linear_attacks(norm)[name]
  attack = functools.partial(attack, lambda image: (weight * image).sum())
  attack = jax.jit(jax.vmap(attack, in_axes=(0, 0, None)))
  return functools.partial(attack, jax.random.split(KEY, 2), images)


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('name', ATTACKS)
def test_linear_model_ends_at_its_optimum(name, norm):
  weight, images = linear_model()
  epsilon = 0.2
  found = attack_linear_model(name, norm)(epsilon)
  assert found.min() >= 0 and found.max() <= 1
  assert perturbation(images, found, norm).max() <= epsilon + 1e-7
  if norm == 'linf':
    best = np.clip(images + epsilon * np.sign(weight), 0, 1)
    np.testing.assert_allclose(found, best, atol=1e-6)
  else:
    best = images[0] + epsilon * weight / np.linalg.norm(weight)
    gain = (weight * (np.asarray(found) - images)).sum((1, 2, 3))
    share = gain[0] / (weight * (best - images[0])).sum()
    # Random search comes near; a gradient finds it.
    assert share > (0.7 if name == 'square' else 0.99999)
    if name != 'square':
      np.testing.assert_allclose(found[0], best, atol=3e-4)
    assert gain[1] > 0


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('name', ATTACKS)
def test_epsilon_zero_is_the_image(name, norm):
  images = linear_model()[1]
  np.testing.assert_array_equal(attack_linear_model(name, norm)(0.0), images)


@pytest.mark.parametrize('norm', NORMS)
def test_apgd_is_never_worse_than_pgd(norm):
  """Concave quadratics, with tops from deep in the ball to outside of it."""
  num, size, epsilon, num_steps = 32, 12, 0.1, 40
  random = np.random.default_rng(3)
  curvature = random.uniform(0.5, 1, (num, size, 1, 1)).astype(np.float32)
  image = random.uniform(0.3, 0.7, (num, size, 1, 1)).astype(np.float32)
  radius = epsilon * np.linspace(0.05, 2, num)[:, None, None, None]
  radius = radius / (size**0.5 if norm == 'l2' else 1)
  top = (image + radius * random.normal(size=image.shape)).astype(np.float32)
  arguments = {'epsilon': epsilon, 'num_steps': num_steps, 'norm': norm}
  step_sizes = jnp.array([epsilon / 4, 2.5 * epsilon / num_steps])

  @jax.jit
  @jax.vmap
  def gaps(key, curvature, top, image):
    loss_fn = lambda x: -(curvature * jnp.square(x - top)).sum()
    ours = adaptive.apgd(loss_fn, key, image, **arguments)
    attack = functools.partial(
      pgd.pgd, loss_fn, key, image, keep_best=True, **arguments
    )
    theirs = jax.vmap(lambda size: loss_fn(attack(step_size=size)))(step_sizes)
    return loss_fn(ours) - theirs

  found = gaps(jax.random.split(KEY, num), curvature, top, image)
  assert found.min() > -1e-6
  if norm == 'linf':
    assert (found > 1e-5).mean() > 0.5


def wavy(image):
  """A loss with many tops."""
  return jnp.sin(40 * image).sum() + jnp.cos(31 * image[0]).sum()


@pytest.mark.parametrize('norm', NORMS)
def test_restarts_and_best_steps_are_never_worse(norm):
  images = linear_model()[1]
  keys = jax.random.split(KEY, 2)

  @jax.jit
  @jax.vmap
  def attacked_losses(key, image):
    attack = functools.partial(
      pgd.pgd,
      wavy,
      key,
      image,
      epsilon=0.2,
      step_size=0.1,
      num_steps=11,
      norm=norm,
    )
    best = attack(keep_best=True)
    return wavy(attack()), wavy(best), wavy(attack(keep_best=True, restarts=4))

  last, best, restarted = attacked_losses(keys, images)
  assert (best >= last).all() and (restarted >= best).all()
  assert (restarted > last).all()


def test_momentum_by_hand():
  gradients = np.array([[1.0, -2.0], [-5.0, 1.0], [1.0, 1.0]], np.float32)

  def loss_fn(image):
    # Step i sees the i-th gradient: the images are 0, .1, .2 in the corner.
    step = jnp.round(jax.lax.stop_gradient(image[0, 0, 0]) * 10)
    return (
      jnp.asarray(gradients)[step.astype(int)] * image[0, 1:, 0]
    ).sum() + (100 * image[0, 0, 0])

  found = pgd.pgd(
    loss_fn,
    KEY,
    jnp.zeros((1, 3, 1)).at[0, 1:].set(0.5),
    epsilon=0.4,
    step_size=0.1,
    num_steps=3,
    random_start=False,
    momentum=1.0,
  )
  velocity = np.zeros(2)
  expected = np.full(2, 0.5)
  for gradient in gradients:
    velocity += gradient / np.abs([*gradient, 100]).mean()
    expected += 0.1 * np.sign(velocity)
  np.testing.assert_allclose(found[0, 1:, 0], expected, atol=1e-6)


def test_a_broken_candidate_loses():
  a, b, nan = jnp.zeros((1, 1, 1)), jnp.ones((1, 1, 1)), jnp.nan
  assert ascent.better((a, 1.0), (b, 2.0))[0] == 1
  assert ascent.better((a, 1.0), (b, 1.0))[0] == 0
  assert ascent.better((a, jnp.array(nan)), (b, jnp.array(-1.0)))[0] == 1
  assert ascent.better((a, -1.0), (b, nan))[0] == 0


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


def make(method='pgd', **options):
  options = {'epsilon': 0.05, 'num_steps': 5, **options}
  return pgd.make_attack(
    apply_fn, losses.sigmoid_cross_entropy, method=method, **options
  )


@pytest.mark.parametrize('method', pgd.METHODS)
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


def test_a_batch_is_its_images_and_jit_changes_nothing():
  variables, image, label = network()
  keys = jax.random.split(KEY, len(image))
  attack = make(num_steps=2, restarts=2, norm='l2')
  found = attack(variables, keys, image, label)
  inside = jax.jit(attack)(variables, keys, image, label)
  np.testing.assert_allclose(inside, found, atol=1e-6)
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


@pytest.mark.parametrize('norm', NORMS)
def test_a_ball_holds_whole_films(norm):
  """Rounding grows with the pixels: 224 by 224 of them, at the usual radii."""
  ball = ascent.ball(norm)
  random = np.random.default_rng(0)
  image = random.uniform(size=(4, 224, 224, 1)).astype(np.float32)
  side = {'linf': 1, 'l2': 224}[norm]
  for epsilon in (side * 0.5 / 255, side * 4 / 255):
    far = image + random.normal(size=image.shape).astype(np.float32)
    starts = jax.vmap(lambda key, x, e=epsilon: ball.sample(key, x, e))(
      jax.random.split(KEY, 4), image
    )
    inside = jax.vmap(lambda a, x, e=epsilon: ball.project(a, x, e))(far, image)
    for found in (starts, inside):
      assert found.min() >= 0 and found.max() <= 1
      largest = perturbation(image, found, norm).max()
      assert epsilon / 2 < largest <= epsilon + 1e-7


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
  attack = make(num_steps=1)

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
    hold = pgd.targeted_loss(1, 'plant', hold_weight=target['price'])
    return hold(logits, target['clean'])

  attack = pgd.make_attack(
    apply_fn, loss_fn, epsilon=0.1, num_steps=20, norm='l2'
  )

  def moved(price):
    target = {'clean': clean, 'price': jnp.full(len(image), price)}
    found = attack(variables, KEY, image, target)
    return np.asarray(logits(variables, found) - clean)

  planted, held = moved(0.0), moved(1e4)
  assert (planted[:, 1] > 0).all() and (held[:, 1] > 0).all()
  others = [0, 2]
  assert np.abs(held[:, others]).max() < 0.2 * np.abs(planted[:, others]).max()


def test_targeted_loss_by_hand():
  logits, clean = jnp.array([1.0, 2.0, 5.0]), jnp.array([0.0, 7.0, 3.0])
  hide = pgd.targeted_loss(1, 'hide', hold_weight=2.0)
  np.testing.assert_allclose(hide(logits, clean), -2 - 2 * (1 + 4) / 2)
  plant = pgd.targeted_loss(1, 'plant', hold_weight=0.0)
  np.testing.assert_allclose(plant(logits, clean), 2)
  single = pgd.targeted_loss(0, 'hide')
  np.testing.assert_allclose(single(logits[:1], clean[:1]), -1)
  with pytest.raises(ValueError, match="'remove'.*hide, plant"):
    pgd.targeted_loss(1, 'remove')


def test_worst_case_is_the_worst_per_image():
  variables, image, label = network()
  candidates = [make('fgsm'), make('square', num_steps=1)]
  worst = pgd.worst_case(candidates, apply_fn, losses.sigmoid_cross_entropy)

  def loss(image):
    return film_losses(variables, image, label)

  keys = jax.random.split(KEY, 5)
  found = loss(worst(variables, keys, image, label))
  each = [loss(attack(variables, keys, image, label)) for attack in candidates]
  expected = np.max([*each, loss(image)], 0)
  np.testing.assert_allclose(found, expected, atol=1e-6)


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
def test_make_attack_rejects(options, match):
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


def test_audit_measures():
  image = np.full((3, 2, 2, 1), 0.5, np.float32)
  adversarial = image.copy()
  adversarial[0, 0, 0] += 0.25
  adversarial[1] -= 0.125
  audit = checks.audit(image, adversarial, epsilon=0.2)
  assert audit == {
    'max_perturbation': 0.25,
    'excess': pytest.approx(0.05),
    'nan': 0,
    'min': 0.375,
    'max': 0.75,
  }
  broken = adversarial.copy()
  broken[0, 1, 1] = np.nan
  second = checks.audit(image, broken, epsilon=0.5, norm='l2')
  assert second['max_perturbation'] == 0.25 and second['excess'] == 0
  assert second['nan'] == 1
  merged = checks.merge_audits([audit, second])
  assert merged['nan'] == 1 and merged['excess'] == audit['excess']
  empty = checks.audit(image[:1], broken[:1] * np.nan, epsilon=1.0)
  assert empty['max_perturbation'] is None and empty['min'] is None
  assert checks.merge_audits([empty, audit])['max'] == 0.75
  assert checks.told(merged) == (
    'max perturbation: 0.25000, nan in tensor: 1, max: 0.75000, min: 0.37500'
  )
  assert 'max perturbation: none, nan in tensor: 4' in checks.told(empty)
  with pytest.raises(ValueError, match="'l1'"):
    checks.audit(image, image, epsilon=1.0, norm='l1')


def test_flags():
  logits = np.zeros((3, 4, 2))
  assert not checks.randomized_output(logits)['raised']
  logits[1, 2, 0] = 0.01
  flag = checks.randomized_output(logits)
  assert flag['raised'] and flag['value'] == pytest.approx(0.01)

  gradient = np.ones((10, 2, 2, 1))
  assert checks.zero_gradient(gradient)['value'] == 0
  gradient[0], gradient[1, 0], gradient[2] = 0, np.nan, 1e-20
  flag = checks.zero_gradient(gradient)
  assert flag['raised'] and flag['value'] == pytest.approx(0.3)

  white, black = np.array([1.0, 2, 3, 4]), np.array([1.0, 2.5, 0, 4.0001])
  flag = checks.black_box_wins(white, black)
  assert flag['raised'] and flag['value'] == 0.25
  assert not checks.black_box_wins(white, white)['raised']

  assert checks.not_converged(0.6, 0.55)['raised']
  assert not checks.not_converged(0.6, 0.595)['raised']
  unknown = checks.not_converged(float('nan'), 0.5)
  assert unknown['raised'] and unknown['value'] is None

  epsilon = np.array([4.0, 0, 1, 2])
  flag = checks.larger_epsilon_weaker(epsilon, [0.3, 0.9, 0.5, 0.2])
  assert flag['raised'] and flag['value'] == pytest.approx(0.1)
  falling = [0.1, 0.9, 0.5, 0.2]
  assert not checks.larger_epsilon_weaker(epsilon, falling)['raised']


@pytest.mark.parametrize('options', [{}, {'num_steps': 3}, {'restarts': 2}])
def test_a_short_attack_is_unrolled_on_a_cpu(options):
  # XLA runs convolutions inside a `while` several times slower there.
  attack = pgd.make_attack(
    lambda variables, image: (image * variables).sum((1, 2)),
    lambda logits, label: logits.sum(),
    epsilon=0.1,
    **{'num_steps': 1} | options,
  )
  image, label = jnp.full((2, 3, 3, 1), 0.5), jnp.zeros((2, 1))
  program = str(
    jax.make_jaxpr(attack)(jnp.ones(()), jax.random.key(0), image, label)
  )
  assert 'while' not in program and 'scan' not in program
