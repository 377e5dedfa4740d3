"""Each platform's form of an operation against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from cxr import layers


def reference(x, kernel, stride, dilation):
  pad = dilation * (kernel.shape[0] - 1) // 2
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    ((pad, pad), (pad, pad)),
    rhs_dilation=(dilation, dilation),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision='highest',
  )


def value_and_gradients(fn, *args):
  """The output, and the gradients of a generic function of it."""

  def scalar(*args):
    y = fn(*args)
    return jnp.sum(y * jnp.cos(jnp.arange(y.size).reshape(y.shape)))

  return fn(*args), *jax.grad(scalar, tuple(range(len(args))))(*args)


def arrays(size, h, w, c, d, seed=0):
  a, b = jax.random.split(jax.random.key(seed))
  x = jax.random.normal(a, (2, h, w, c))
  return x, jax.random.normal(b, (size, size, c, d)) / (size * c**0.5)


CASES = [
  # size, height, width, channels in and out, stride, dilation
  (1, 5, 6, 3, 4, 1, 1),
  (1, 5, 6, 3, 4, 2, 1),
  (3, 6, 5, 3, 4, 1, 1),
  (3, 6, 5, 3, 4, 2, 1),
  (3, 7, 8, 3, 4, 1, 2),
  (3, 7, 8, 3, 4, 1, 4),
  (3, 2, 2, 3, 4, 1, 1),
  (3, 1, 2, 3, 4, 2, 1),
  (7, 16, 12, 1, 4, 2, 1),
  (7, 9, 11, 1, 4, 2, 1),
  (7, 4, 4, 1, 4, 2, 1),
]


@pytest.mark.parametrize('platform', ['cpu', 'gpu'])
@pytest.mark.parametrize('size, h, w, c, d, stride, dilation', CASES)
def test_convolve(monkeypatch, platform, size, h, w, c, d, stride, dilation):
  monkeypatch.setattr(jax, 'default_backend', lambda: platform)
  x, kernel = arrays(size, h, w, c, d)
  found = value_and_gradients(
    lambda x, k: layers.convolve(x, k, stride=stride, dilation=dilation),
    x,
    kernel,
  )
  expected = value_and_gradients(
    lambda x, k: reference(x, k, stride, dilation), x, kernel
  )
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize('size, h, w, c, d, stride, dilation', CASES)
def test_patches(size, h, w, c, d, stride, dilation):
  """The matrix product is right where it is not chosen, too."""
  x, kernel = arrays(size, h, w, c, d, seed=1)
  found = value_and_gradients(
    lambda x, k: layers._convolve_patches(x, k, stride, dilation), x, kernel
  )
  expected = value_and_gradients(
    lambda x, k: reference(x, k, stride, dilation), x, kernel
  )
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize(
  'x, kernel, dilation',
  [
    ((2, 2, 2, 8), (3, 3, 8, 8), 1),
    ((2, 4, 4, 512), (3, 3, 512, 512), 1),
    ((2, 28, 28, 8), (3, 3, 8, 8), 1),
    ((2, 28, 28, 8), (1, 1, 8, 8), 1),
  ],
)
def test_platform_decides(monkeypatch, x, kernel, dilation):
  """On an accelerator every convolution is XLA's."""
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  text = str(
    jax.make_jaxpr(
      lambda x, k: layers.convolve(x, k, dilation=dilation),
    )(jnp.zeros(x), jnp.zeros(kernel))
  )
  assert 'conv_general_dilated' in text
  assert 'dot_general' not in text


@pytest.mark.parametrize('platform', ['cpu', 'gpu'])
@pytest.mark.parametrize('h, w', [(8, 8), (7, 9), (2, 1)])
def test_max_pool(monkeypatch, platform, h, w):
  monkeypatch.setattr(jax, 'default_backend', lambda: platform)
  # Negative values: a padding of 0 would win. Distinct: no ties in gradients.
  x = -1 - jax.random.permutation(jax.random.key(0), 2 * h * w * 3)
  x = x.reshape(2, h, w, 3).astype(jnp.float32)
  found = value_and_gradients(layers.max_pool, x)
  expected = value_and_gradients(
    lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))), x
  )
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_array_equal(a, b)


def test_max_pool_shares_no_gradient_beyond_one():
  """After a ReLU ties are common; the gradient's sum must not grow."""
  x = jnp.zeros((1, 8, 8, 1))
  gradient = jax.grad(lambda x: layers.max_pool(x).sum())(x)
  assert float(gradient.sum()) == pytest.approx(16)


def test_average_pool():
  x = jnp.arange(16.0).reshape(1, 4, 4, 1)
  np.testing.assert_allclose(
    layers.average_pool(x)[0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]]
  )


def test_vmap_of_single_images():
  """An attack on one image under vmap sees what the batch sees."""
  x, kernel = arrays(3, 2, 2, 4, 4)
  one = lambda image: layers.convolve(image[None], kernel)[0]
  np.testing.assert_allclose(
    jax.vmap(one)(x), layers.convolve(x, kernel), atol=1e-6
  )


def test_first_stage():
  assert layers.first_stage('image', 3) == 0
  assert layers.first_stage('stage2', 3) == 2
  assert layers.first_stage('features', 3) == 3
  with pytest.raises(ValueError, match=r'start \(stage4\) must be one of'):
    layers.first_stage('stage4', 3)
