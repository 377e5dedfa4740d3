"""Losses against closed forms and counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from cxr import losses

NAN = float('nan')


@pytest.fixture
def logits():
  return np.array([[-200.0, -3.0, 0.0], [0.5, 4.0, 200.0]], np.float32)


@pytest.fixture
def label():
  return np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]], np.float32)


def entropy(logits, label):
  return np.where(label == 1, np.logaddexp(0, -logits), np.logaddexp(0, logits))


def wang(logits, label):
  """W-CEL: cross-entropy under the batch's own weights."""
  return losses.sigmoid_cross_entropy(
    logits, label, **losses.batch_weights(label)
  )


def test_cross_entropy_is_stable_and_right(logits, label):
  expected = entropy(logits.astype(np.float64), label).mean(-1)
  found = losses.sigmoid_cross_entropy(jnp.array(logits), jnp.array(label))
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  gradient = jax.grad(lambda z: losses.sigmoid_cross_entropy(z, label).sum())
  expected = (special.expit(logits) - label) / 3
  np.testing.assert_allclose(gradient(logits), expected, atol=1e-7)


@pytest.mark.parametrize('shape', [(3,), (5, 3), (2, 5, 3)])
def test_cross_entropy_keeps_leading_axes(shape):
  zeros = jnp.zeros(shape)
  found = losses.sigmoid_cross_entropy(zeros, zeros, positive_weight=2.0)
  assert found.shape == shape[:-1]
  np.testing.assert_allclose(found, np.log(2), rtol=1e-6)


def test_smoothed_label():
  found = losses.sigmoid_cross_entropy(jnp.array([2.0]), jnp.array([0.75]))
  expected = 0.75 * np.logaddexp(0, -2) + 0.25 * np.logaddexp(0, 2)
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_weights_multiply_their_kind(logits, label):
  weight = np.array([2.0, 3.0, 5.0], np.float32)
  found = losses.sigmoid_cross_entropy(
    jnp.array(logits), jnp.array(label), positive_weight=weight
  )
  expected = entropy(logits, label) * np.where(label == 1, weight, 1)
  np.testing.assert_allclose(found, expected.mean(-1), rtol=1e-6)
  found = losses.sigmoid_cross_entropy(
    jnp.array(logits), jnp.array(label), negative_weight=7.0
  )
  expected = entropy(logits, label) * np.where(label == 1, 1, 7)
  np.testing.assert_allclose(found, expected.mean(-1), rtol=1e-6)


def test_unknown_labels_have_no_loss_and_no_gradient():
  logits = jnp.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
  label = jnp.array([[1.0, NAN, 0.0], [NAN, NAN, NAN]])
  found = losses.sigmoid_cross_entropy(logits, label)
  expected = (np.logaddexp(0, -1) + np.logaddexp(0, 3)) / 2
  np.testing.assert_allclose(found, [expected, 0], rtol=1e-6)
  for loss in (losses.sigmoid_cross_entropy, wang, losses.margin):
    gradient = jax.grad(lambda z, loss=loss: loss(z, label).sum())(logits)
    assert np.isfinite(gradient).all()
    assert (np.asarray(gradient) == 0).tolist() == [
      [False, True, False],
      [True, True, True],
    ]


def test_batch_weights_by_hand():
  label = jnp.array([[1.0, 0.0, NAN], [0.0, 0.0, 0.0]])
  # |P| = 1, |N| = 4.
  weights = losses.batch_weights(label)
  assert weights == {'positive_weight': 5, 'negative_weight': 1.25}


def test_cross_entropy_under_batch_weights_by_hand():
  label = jnp.array([[1.0, 0.0], [0.0, 0.0]])
  logits = jnp.array([[1.0, -2.0], [3.0, 0.0]])
  first = 4 * np.logaddexp(0, -1) + 4 / 3 * np.logaddexp(0, -2)
  second = 4 / 3 * (np.logaddexp(0, 3) + np.logaddexp(0, 0))
  found = wang(logits, label)
  np.testing.assert_allclose(found, [first / 2, second / 2], rtol=1e-6)


@pytest.mark.parametrize('value', [0.0, 1.0, NAN])
def test_batch_of_one_kind_is_defined(value):
  label = jnp.full((2, 3), value)
  loss = wang(jnp.ones((2, 3)), label)
  # The kind that there is has weight 1.
  expected = {0.0: np.logaddexp(0, 1), 1.0: np.logaddexp(0, -1)}
  np.testing.assert_allclose(loss, expected.get(value, 0.0), rtol=1e-6)


def test_finding_weights_by_hand():
  label = np.array(
    [[1, 0, 1, NAN, 0], [0, 0, 1, NAN, 1], [0, 0, 1, NAN, 0], [0, 0, 1, 0, 0]],
    np.float32,
  )
  weights = losses.finding_weights(label, cap=2.5)
  assert weights.dtype == np.float32
  np.testing.assert_allclose(weights, [2.5, 1, 1, 1, 2.5])
  np.testing.assert_allclose(losses.finding_weights(label, cap=10.0)[0], 3)
  with pytest.raises(ValueError, match='cap .*0'):
    losses.finding_weights(label, cap=0.0)


def test_bernoulli_kl_closed_form():
  reference = np.array([[-3.0, 0.0, 2.0], [40.0, -40.0, 1.0]], np.float32)
  logits = np.array([[1.0, 0.5, 2.0], [-40.0, -40.0, 1.5]], np.float32)
  p, q = (special.expit(x.astype(np.float64)) for x in (reference, logits))
  expected = (special.rel_entr(p, q) + special.rel_entr(1 - p, 1 - q)).mean(-1)
  found = losses.bernoulli_kl(jnp.array(logits), jnp.array(reference))
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(losses.bernoulli_kl(logits, logits), 0, atol=1e-7)


def test_margin_by_hand():
  logits = jnp.array([[2.0, -1.0, 5.0]])
  label = jnp.array([[1.0, 0.0, NAN]])
  np.testing.assert_allclose(losses.margin(logits, label), [-1.5])
  for finding, expected in enumerate((-2.0, -1.0, 0.0)):
    found = losses.margin(logits, label, finding=finding)
    np.testing.assert_allclose(found, [expected])
  # One finding is enough, and a traced column serves as well.
  np.testing.assert_allclose(losses.margin(logits[:, :1], label[:, :1]), [-2])
  traced = jax.jit(lambda j: losses.margin(logits, label, finding=j))(0)
  np.testing.assert_allclose(traced, [-2])


def linear(kernel, seen=None):
  def forward(image):
    if seen is not None:
      seen.append(image.shape)
    return image.reshape(len(image), -1) @ kernel, 'aux'

  return forward


@pytest.fixture
def problem():
  keys = jax.random.split(jax.random.key(0), 4)
  kernel = jax.random.normal(keys[0], (4, 3))
  image = jax.random.uniform(keys[1], (5, 2, 2, 1))
  adversarial = jax.random.uniform(keys[2], (5, 2, 2, 1))
  label = jax.random.bernoulli(keys[3], 0.5, (5, 3)).astype(jnp.float32)
  return kernel, image, adversarial, label


@pytest.mark.parametrize('name', losses.OBJECTIVES)
def test_objectives_closed_form(problem, name):
  kernel, image, adversarial, label = problem
  seen = []
  objective = losses.make_objective(name, clean_weight=0.3, beta=2.0)
  loss, (logits, aux) = objective(
    linear(kernel, seen), image, adversarial, label
  )
  z, z_adversarial = linear(kernel)(image)[0], linear(kernel)(adversarial)[0]
  clean = losses.sigmoid_cross_entropy(z, label)
  attacked = losses.sigmoid_cross_entropy(z_adversarial, label)
  p, q = special.expit(z), special.expit(z_adversarial)
  kl = (special.rel_entr(p, q) + special.rel_entr(1 - p, 1 - q)).mean(-1)
  expected = {
    'clean': clean,
    'adversarial': attacked,
    'mixed': 0.3 * clean + 0.7 * attacked,
    'trades': clean + 2 * kl,
  }[name]
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  assert aux == 'aux' and len(seen) == 1
  for kind, expected in (('clean', z), ('adversarial', z_adversarial)):
    if kind in logits:
      np.testing.assert_allclose(logits[kind], expected, rtol=1e-5)


@pytest.mark.parametrize('name', losses.OBJECTIVES)
def test_objective_hands_weights_to_its_loss(problem, name):
  kernel, image, adversarial, label = problem
  # TRADES's second term compares logits and has no weights: left out.
  objective = losses.make_objective(name, beta=0.0)
  given = linear(kernel), image, adversarial, label
  loss, _ = objective(*given, positive_weight=3.0, negative_weight=3.0)
  np.testing.assert_allclose(loss, 3 * objective(*given)[0], rtol=1e-6)


def test_mixed_gives_clean_and_adversarial_in_turn(problem):
  _, image, adversarial, label = problem
  batches = []

  def forward(batch):
    batches.append(batch)
    return jnp.zeros((len(batch), 3)), None

  losses.make_objective('mixed')(forward, image, adversarial, label)
  np.testing.assert_array_equal(batches[0][0::2], image)
  np.testing.assert_array_equal(batches[0][1::2], adversarial)


def test_trades_learns_through_both_logits(problem):
  kernel, image, adversarial, label = problem
  objective = losses.make_objective('trades', beta=1.0)

  def total(kernel):
    return objective(linear(kernel), image, adversarial, label)[0].sum()

  gradient = jax.grad(total)(kernel)

  def expected(kernel):
    z, z_adversarial = linear(kernel)(image)[0], linear(kernel)(adversarial)[0]
    loss = losses.sigmoid_cross_entropy(z, label)
    return (loss + losses.bernoulli_kl(z_adversarial, z)).sum()

  np.testing.assert_allclose(gradient, jax.grad(expected)(kernel), rtol=1e-4)


def test_adversarial_films_are_data(problem):
  kernel, image, adversarial, label = problem
  for name in ('adversarial', 'mixed', 'trades'):
    objective = losses.make_objective(name)

    def total(film, objective=objective):
      return objective(linear(kernel), image, film, label)[0].sum()

    assert not np.any(jax.grad(total)(adversarial))


@pytest.mark.parametrize(
  'options, match',
  [
    ({'name': 'madry'}, "'madry'.*trades"),
    ({'name': 'mixed', 'clean_weight': 1.5}, 'clean_weight .1.5'),
    ({'name': 'trades', 'beta': -1.0}, 'beta .-1'),
  ],
)
def test_objective_rejects(options, match):
  with pytest.raises(ValueError, match=match):
    losses.make_objective(**options)


def test_targeted_loss_by_hand():
  logits, clean = jnp.array([1.0, 2.0, 5.0]), jnp.array([0.0, 7.0, 3.0])
  hide = losses.make_targeted(1, 'hide', hold_weight=2.0)
  np.testing.assert_allclose(hide(logits, clean), -2 - 2 * (1 + 4) / 2)
  plant = losses.make_targeted(1, 'plant', hold_weight=0.0)
  np.testing.assert_allclose(plant(logits, clean), 2)
  single = losses.make_targeted(0, 'hide')
  np.testing.assert_allclose(single(logits[:1], clean[:1]), -1)
  with pytest.raises(ValueError, match="'remove'.*hide, plant"):
    losses.make_targeted(1, 'remove')
