"""Attacks against known optima, bounds, and independent code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxr.attacks import apgd, ascent, pgd, square

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
    'apgd': of_steps(apgd.apgd, num_steps=30),
    'square': of_steps(square.square, num_steps=2000),
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


@pytest.mark.parametrize('num_steps', [2, 3, 10])
def test_random_start_costs_an_l2_attack_nothing(num_steps):
  """Noise of the start takes its share of the radius from what the steps add:
  from the surface 2 to 5 % of the gain were lost on a linear model.
  """
  weight = jax.random.normal(jax.random.key(1), (32, 32, 1))
  image, epsilon = jnp.full(weight.shape, 0.5), 0.5

  def attack(key):
    return pgd.pgd(
      lambda x: (weight * x).sum(),
      key,
      image,
      epsilon=epsilon,
      step_size=2.5 * epsilon / num_steps,
      num_steps=num_steps,
      norm='l2',
    )

  found = jax.jit(jax.vmap(attack))(jax.random.split(KEY, 8))
  gain = jax.vmap(lambda x: ((x - image) * weight).sum())(found)
  assert gain.min() > 0.999 * epsilon * jnp.linalg.norm(weight.ravel())


def test_l2_starts_are_near_the_image_and_differ():
  image, epsilon = jnp.full((32, 32, 1), 0.5), 0.5
  sample = functools.partial(
    ascent.ball('l2').sample, image=image, epsilon=epsilon
  )
  start = jax.vmap(sample)(jax.random.split(KEY, 64))
  delta = (np.asarray(start, np.float64) - 0.5).reshape(64, -1)
  length = np.linalg.norm(delta, axis=1)
  assert 0 < length.min() < 0.01 * epsilon
  assert 0.09 * epsilon < length.max() < 0.1 * epsilon + 1e-6
  far = length > 0.01 * epsilon
  direction = delta[far] / length[far, None]
  cosine = direction @ direction.T - np.eye(far.sum())
  assert np.abs(cosine).max() < 0.2


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
    ours = apgd.apgd(loss_fn, key, image, **arguments)
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
  a, b = jnp.zeros((1, 1, 1)), jnp.ones((1, 1, 1))
  for loss_a, loss_b, best in (
    (1, 2, 1),
    (1, 1, 0),
    (jnp.nan, -1, 1),
    (-1, jnp.nan, 0),
  ):
    candidates = (a, jnp.float32(loss_a)), (b, jnp.float32(loss_b))
    assert ascent.better(*candidates)[0] == best


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
    # Starts in the L2 ball are near the image.
    for found, share in ((starts, 0 if norm == 'l2' else 0.5), (inside, 0.5)):
      assert found.min() >= 0 and found.max() <= 1
      largest = perturbation(image, found, norm).max()
      assert share * epsilon < largest <= epsilon + 1e-7
