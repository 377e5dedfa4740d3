"""Passes over samples against the same sum or map at once."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from cxr.attribution import passes


def _sample(x, i, weight):
  return weight * (x + i), weight


@pytest.mark.parametrize('from_host', [False, True])
@pytest.mark.parametrize('chunk', [1, 3, 5, 9])
def test_a_weighted_sum_by_hand(chunk, from_host):
  weight = np.array([1.0, 0, 2, 0.5, 1])
  total, weights = passes.weighted_sum(
    _sample, (jnp.float32(10),), weight, chunk=chunk, from_host=from_host
  )
  assert total == 10 + 2 * 12 + 0.5 * 13 + 14 and weights == 4.5


@pytest.mark.parametrize('from_host', [False, True])
@pytest.mark.parametrize('chunk', [1, 3, 7, 9])
def test_map_chunks_is_vmap(chunk, from_host):
  xs = jnp.arange(7.0)
  squares = passes.map_chunks(jnp.square, xs, chunk=chunk, from_host=from_host)
  np.testing.assert_array_equal(squares, xs**2)
  if not from_host:
    jitted = jax.jit(lambda xs: passes.map_chunks(jnp.square, xs, chunk=chunk))
    np.testing.assert_array_equal(jitted(xs), xs**2)


def test_a_pass_holds_at_least_one():
  with pytest.raises(ValueError, match='chunk .0. must be at least 1'):
    passes.map_chunks(jnp.square, jnp.arange(2.0), chunk=0)
