"""How far maps move: hand counts."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from cxr.attribution import stability


def test_stability_of_a_map_that_ignores_the_noise_and_of_one_that_is_noise():
  image = jax.random.uniform(jax.random.key(0), (2, 9, 9, 1), minval=0.4)
  key = jax.random.key(1)
  fixed = lambda x: np.broadcast_to(np.arange(81.0).reshape(9, 9), (2, 9, 9))
  np.testing.assert_allclose(stability.stability(fixed, key, image), 1)
  raw = lambda x: np.asarray(x[..., 0])
  still = stability.stability(raw, key, image, noise=0.001)
  shaken = stability.stability(raw, key, image, noise=1.0, num_samples=8)
  assert still.shape == (2,)
  assert (still > 0.99).all()
  assert (shaken < 0.6).all()


def test_noisy_copies_stay_in_range_and_have_their_spread():
  image = jnp.full((2, 40, 40, 1), 0.5)
  options = {'noise': 0.01, 'num_samples': 3}
  copies = list(stability.noisy_copies(jax.random.key(0), image, **options))
  assert len(copies) == 3
  for copy in copies:
    assert float((copy - image).std()) == pytest.approx(0.01, rel=0.05)
  options['noise'] = 5.0
  (copy, *_) = stability.noisy_copies(jax.random.key(0), image, **options)
  assert float(copy.min()) == 0 and float(copy.max()) == 1


def test_relative_change_by_hand():
  before = np.array([[[1.0, -2.0], [4.0, 0.0]]])
  after = np.array([[[2.0, -2.0], [2.0, 0.1]]])
  found = stability.relative_change(before, after, (1, 2), least=0.05)
  assert found == pytest.approx(np.sqrt(1 + 0.25 + 4))
  by_finding = np.stack([before, 3 * before], -1), np.stack([after] * 2, -1)
  assert stability.relative_change(*by_finding, (1, 2)).shape == (1, 2)


def test_the_worst_sample_that_leaves_the_answer_counts():
  of_map = np.array([0.1, 10.0, 1.0]).reshape(3, 1, 1)
  of_cause = np.array([1.0, 1.0, 0.1]).reshape(3, 1, 1)
  counted = np.ones((3, 1, 1), bool)
  log = lambda *a: stability.log_ratio(*a).item()
  assert log(of_map, of_cause, counted) == 1
  counted[1] = False
  assert log(of_map, of_cause, counted) == 1  # 1 / .1
  counted[2] = False
  assert log(of_map, of_cause, counted) == -1
  of_map[1] = np.nan  # does not count
  assert log(of_map, of_cause, counted) == -1
  of_map[0] = np.nan
  assert np.isnan(log(of_map, of_cause, counted))
  of_map[0], counted[0] = 1, False
  assert np.isnan(log(of_map, of_cause, counted))


def test_no_sample_is_refused():
  image = jnp.ones((1, 2, 2, 1))
  with pytest.raises(ValueError, match='num_samples'):
    stability.stability(lambda x: x, jax.random.key(0), image, num_samples=0)
