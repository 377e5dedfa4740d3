"""How bias and ReLU join cuDNN's convolution, on a program for an H100.

The program that trains does not fold its BatchNorm; this is what it would gain.
"""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import SingleDeviceSharding

from tests.accelerators import kernels, machines

CHANNELS = 512, 128  # of a bottleneck block, outside and inside


@jax.custom_vjp
def relu(x):
  """ReLU whose gradient reads its output, so that nothing else reads x."""
  return jnp.maximum(x, 0)


def _backward(y, gradient):
  # XLA makes x > 0 of y > 0, but not of this.
  return (jnp.where(y != 0, gradient, jnp.zeros_like(gradient)),)


relu.defvjp(lambda x: (relu(x), relu(x)), _backward)


def convolve(x, kernel):
  pad = kernel.shape[0] // 2
  return lax.conv_general_dilated(
    x,
    kernel,
    (1, 1),
    ((pad, pad), (pad, pad)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def normalised(x, kernel, mean, variance, scale, bias):
  """As Flax does it: in float32, behind the convolution."""
  y = convolve(x, kernel.astype(x.dtype)).astype(jnp.float32)
  return ((y - mean) * scale * lax.rsqrt(variance + 1e-5) + bias).astype(
    x.dtype
  )


def folded(x, kernel, mean, variance, scale, bias):
  factor = scale * lax.rsqrt(variance + 1e-5)
  y = convolve(x, (kernel * factor).astype(x.dtype))
  return y + (bias - mean * factor).astype(x.dtype)


@pytest.mark.parametrize(
  'convolution, activation, joined, gigabytes',
  [
    (normalised, jax.nn.relu, 0, 1.60),
    (folded, jax.nn.relu, 0, 1.45),
    (folded, relu, 6, 1.24),
  ],
)
def test_the_gradient_of_two_blocks(convolution, activation, joined, gigabytes):
  if reason := machines.missing('gpu'):
    pytest.skip(f'No program for a gpu is made: {reason}.')
  (device,) = machines.mesh('gpu', 1).devices

  def array(*shape, dtype=jnp.float32):
    sharding = SingleDeviceSharding(device)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

  def layer(size, before, after):
    return array(size, size, before, after), *[array(1, 1, 1, after)] * 4

  wide, narrow = CHANNELS
  block = (
    layer(1, wide, narrow),
    layer(3, narrow, narrow),
    layer(1, narrow, wide),
  )

  def score(x, blocks, weight):
    for first, second, third in blocks:
      y = activation(convolution(x, *first))
      y = activation(convolution(y, *second))
      x = activation(convolution(y, *third) + x)
    return jnp.sum(x.astype(jnp.float32).mean((1, 2)) * weight)

  film = array(64, 28, 28, wide, dtype=jnp.bfloat16)
  text = (
    jax.jit(jax.grad(score))
    .lower(film, [block, block], array(1, wide))
    .compile()
    .as_text()
  )
  assert text.count('"activation_mode":"kRelu"') == joined
  moved = sum(k.num_bytes * k.times for k in kernels.kernels(text))
  assert moved / 1e9 == pytest.approx(gigabytes, rel=0.05)
