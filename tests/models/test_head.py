"""Pooling against NumPy; the mean is the network that it always was."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from scipy import special

from cxr.models import head
from tests.models import test_resnet


def cells():
  values = np.random.default_rng(0).normal(size=(2, 4, 5, 3))
  return jnp.asarray(values, jnp.float32)


def test_log_sum_exp_is_scipys():
  x = cells()
  expected = special.logsumexp(8.0 * np.asarray(x), axis=(1, 2)) - np.log(20)
  pooled = head.pool(x, 'lse', sharpness=8.0)
  np.testing.assert_allclose(pooled, expected / 8, rtol=1e-5)


def test_log_sum_exp_lies_between_the_mean_and_the_maximum():
  x = cells()
  soft = head.pool(x, 'lse', sharpness=1e-3)
  hard = head.pool(x, 'lse', sharpness=900.0)
  np.testing.assert_allclose(soft, x.mean((1, 2)), atol=1e-3)
  np.testing.assert_allclose(hard, x.max((1, 2)), atol=4e-3)


@pytest.mark.parametrize('share, count', [(1e-6, 1), (0.1, 2), (1.0, 20)])
def test_top_is_the_mean_of_the_highest(share, count):
  x = cells()
  ordered = np.sort(np.asarray(x).reshape(2, 20, 3), axis=1)
  expected = ordered[:, -count:].mean(1)
  pooled = head.pool(x, 'top', share=share)
  np.testing.assert_allclose(pooled, expected, rtol=1e-5)


def test_only_the_highest_cells_learn():
  top = lambda x: head.pool(x, 'top', share=0.1).sum()
  gradient = jax.grad(top)(cells())
  assert (np.asarray(gradient) > 0).sum((1, 2)).tolist() == [[2] * 3] * 2


@pytest.mark.parametrize('pooling', head.KINDS)
def test_a_network_pools_the_cells_of_its_map(pooling):
  model, variables = test_resnet.build(num_filters=2, pooling=pooling)
  logits, endpoints = test_resnet.apply(model, variables, test_resnet.images(2))
  kernel, bias = model.head(variables['params'])
  of_cells = endpoints['features'] @ kernel + bias[None, None, None]
  np.testing.assert_allclose(
    logits, head.pool(of_cells, pooling), rtol=1e-4, atol=1e-5
  )
