"""Attacks that leave something as it is, where the best one is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxr.attacks import ascent, constrained

RNG = np.random.default_rng(0)
EPSILON = 0.1


def run(value_fn, residual_fn, image, *, num_steps=60, **options):
  """The result; the start is the image, so the key is not used."""
  options = {'tolerance': 1e-3, 'norm': 'l2'} | options
  steps = constrained.make_steps(
    value_fn,
    residual_fn,
    image,
    epsilon=EPSILON,
    step_size=2.5 * EPSILON / num_steps,
    **options,
  )
  return jax.jit(
    lambda: ascent.run(steps, jax.random.key(0), num_steps=num_steps)
  )()


def test_a_linear_value_ends_where_lagrange_says():
  """Of <w, x> with A x held, in an L2 ball: along w less its part in A."""
  image = jnp.full((4, 5), 0.5)
  w, a = (jnp.float32(RNG.normal(size=s)) for s in ((4, 5), (3, 4, 5)))
  held = lambda x: jnp.tensordot(a, x - image, 2)
  result = run(lambda x: (w * x).sum(), held, image)
  rows = np.asarray(a).reshape(3, -1)
  free = np.ravel(w) - rows.T @ np.linalg.solve(
    rows @ rows.T, rows @ np.ravel(w)
  )
  expected = EPSILON * free / np.linalg.norm(free)
  assert float(jnp.abs(held(result)).max()) <= 1e-3
  gained = float((w * (result - image)).sum())
  assert gained == pytest.approx(float(np.ravel(w) @ expected), rel=0.02)


def test_what_is_held_is_held_though_nothing_may_be_gained():
  """A residual that no step keeps: the result is the image."""
  image = jnp.full((3, 3), 0.5)
  wild = lambda x: jnp.abs(x - image).sum()[None] * 1e6
  result = run(jnp.sum, wild, image, norm='linf')
  np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_a_residual_that_is_not_linear_keeps_its_tolerance(norm):
  image = jnp.float32(RNG.uniform(0.3, 0.7, (4, 4)))
  weight = jnp.float32(RNG.normal(size=(4, 4)))
  clean = jnp.stack([jnp.sin(9 * image).sum(), (image**2).sum()])
  held = lambda x: jnp.stack([jnp.sin(9 * x).sum(), (x**2).sum()]) - clean
  value = lambda x: (weight * x).sum()
  result = run(value, held, image, tolerance=0.05, norm=norm)
  assert float(jnp.abs(held(result)).max()) <= 0.05
  assert float(value(result) - value(image)) > 0.1
  moved = np.asarray(result - image)
  assert np.abs(moved).max() <= EPSILON + 1e-6
  assert norm == 'linf' or np.linalg.norm(moved) <= EPSILON + 1e-6


def test_correlation_is_pearsons_and_a_constant_map_has_none():
  a, b = RNG.normal(size=(2, 6, 7)).astype(np.float32)
  found = float(constrained.correlation(jnp.asarray(a), jnp.asarray(b)))
  assert found == pytest.approx(
    np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-5
  )
  constant = jnp.ones((6, 7))
  value, gradient = jax.value_and_grad(constrained.correlation)(
    constant, jnp.asarray(b)
  )
  assert value == 0 and np.isfinite(gradient).all()


def test_top_takes_the_share_of_the_pixels_and_all_that_tie():
  heatmap = jnp.arange(20.0).reshape(4, 5)
  top = constrained.top(heatmap, 0.1)
  assert top.sum() == 2 and top[3, 3] == top[3, 4] == 1
  assert constrained.top(jnp.ones((4, 5)), 0.1).all()
