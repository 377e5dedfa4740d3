"""Convolution in the forms that run fastest on a CPU.

Every form gives the same numbers up to the order of summation.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cxr.models import max_pooling

Films = Float[Array | np.ndarray, 'b h w c']


def convolve(
  x: Films,
  kernel: Float[Array | np.ndarray, 'n n c d'],
  stride: int,
  dilation: int,
  one_device: bool = False,
) -> Float[Array, 'b u v d']:
  """The convolution of `layers.convolve`, in the form that is fastest.

  `one_device`: all films lie on one, so a loop may take some at a time.
  """
  _, h, w, c = x.shape
  size, _, _, d = kernel.shape
  # Seconds of XLA's convolution over those of the form chosen, medians of
  # interleaved runs on one core with AVX-512, batch 8 to 64; a range is over
  # layers of ResNets at 64 to 224 pixels:
  if size == 1:  # forward 1.0-1.5, input gradient 1.1-1.3, filter's 3-6
    return _matmul(x[:, ::stride, ::stride], kernel)
  how = {'stride': stride, 'dilation': dilation}
  xla = functools.partial(convolve_xla, **how)
  patches = functools.partial(_convolve_patches, **how)
  if min(h, w) < size:  # 512 channels on 2x2: 42, 64, 1.3
    return patches(x, kernel)
  if (size, stride, c) == (7, 2, 1) and h % 2 == w % 2 == 0:
    # 0.9-1.0, 1.0-3.5, 1.3
    of_kernel = functools.partial(
      _by_pixels, size=size, one_device=one_device, **how
    )
    return _with_filter_gradient(_convolve_stem, of_kernel)(x, kernel)
  if min(c, d) < 32 or h * w > 56**2:
    return xla(x, kernel)
  # 1.0-1.3, 1.3-1.8 where patches are chosen.
  form = patches if min(c, d) >= 512 and h * w <= 64 else xla
  # Filter gradient 1.0-3.3, the most on dilated maps of 28x28.
  if stride == 1:
    of_kernel = functools.partial(
      _by_pairs, size=size, dilation=dilation, one_device=one_device
    )
  else:
    of_kernel = functools.partial(_by_taps, size=size, **how)
  return _with_filter_gradient(form, of_kernel)(x, kernel)


def _padding(size, dilation):
  return dilation * (size - 1) // 2


def convolve_xla(x, kernel, stride, dilation):
  """XLA's own form, the one of every other platform.

  Float32 is float32: an accelerator would round it to TF32 or bfloat16 first.
  """
  pad = _padding(kernel.shape[0], dilation)
  return lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride, stride),
    padding=((pad, pad), (pad, pad)),
    rhs_dilation=(dilation, dilation),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision='highest' if x.dtype == jnp.float32 else None,
  )


def _matmul(x, kernel):
  *grid, c = x.shape
  d = kernel.shape[-1]
  return (x.reshape(-1, c) @ kernel.reshape(c, d)).reshape(*grid, d)


def _convolve_patches(x, kernel, stride, dilation):
  """One matrix product of all neighbourhoods with the kernel (im2col)."""
  return _matmul(_patches(x, kernel.shape[0], stride, dilation), kernel)


def _patches(x, size, stride, dilation):
  """The neighbourhood of every output pixel: 'b u v size*size*c'."""
  pad = _padding(size, dilation)
  shifted = max_pooling.shifted(
    x, size, stride, dilation, pad, jnp.zeros((), x.dtype)
  )
  return jnp.concatenate(shifted, axis=-1)


def _convolve_stem(x, kernel):
  """7x7 at stride 2, as 4x4 at stride 1 on 2x2 pixels laid side by side."""
  b, h, w, c = x.shape
  kernel = jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0)))
  kernel = kernel.reshape(4, 2, 4, 2, c, -1).transpose(0, 2, 1, 3, 4, 5)
  x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
  return lax.conv_general_dilated(
    x.reshape(b, h // 2, w // 2, 4 * c),
    kernel.reshape(4, 4, 4 * c, -1),
    window_strides=(1, 1),
    padding=((2, 1), (2, 1)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def _with_filter_gradient(form, of_kernel):
  """`form(x, kernel)` whose filter gradient is `of_kernel(x, gradient)`."""

  def forward(x, kernel):
    return form(x, kernel), (x, kernel)

  def backward(residuals, gradient):
    x, kernel = residuals
    _, of_input = jax.vjp(lambda x: form(x, kernel), x)
    return *of_input(gradient), of_kernel(x, gradient)

  convolution = jax.custom_vjp(form)
  convolution.defvjp(forward, backward)
  return convolution


def _by_pixels(x, gradient, size, stride, dilation, one_device=False):
  """The filter gradient of one channel, one matrix product for all taps.

  What each tap sees is a row: as columns of one number each, XLA copies them
  ten times as slowly.
  """
  _, u, v, d = gradient.shape
  pad = _padding(size, dilation)
  zero = jnp.zeros((), x.dtype)

  def product(x, gradient):
    taps = max_pooling.shifted(x, size, stride, dilation, pad, zero)
    rows = jnp.stack([tap.reshape(-1) for tap in taps])
    return rows @ gradient.reshape(-1, d)

  copies = u * v * size * size * x.dtype.itemsize
  total = _by_films(product, x, gradient, copies, one_device)
  return total.reshape(size, size, 1, d)


def _by_taps(x, gradient, size, stride, dilation):
  """The filter gradient, a matrix product for every tap."""
  c, d = x.shape[-1], gradient.shape[-1]
  pad = _padding(size, dilation)
  shifted = max_pooling.shifted(
    x, size, stride, dilation, pad, jnp.zeros((), x.dtype)
  )
  rows = gradient.reshape(-1, d)
  taps = jnp.stack([tap.reshape(-1, c).T @ rows for tap in shifted])
  return taps.reshape(size, size, c, d)


def _by_pairs(x, gradient, size, dilation, one_device=False):
  """The filter gradient at stride 1, one matrix product for all taps.

  A tap moves the image against the gradient: across, the image is moved, down,
  the gradient. So 2 size copies stand for size^2 pairs.
  """
  _, h, w, c = x.shape
  d = gradient.shape[-1]
  offsets = dilation * (np.arange(size) - size // 2)

  def pairs(x, gradient):
    across = [_moved(x, 2, -int(o)) for o in offsets]
    down = [_moved(gradient, 1, int(o)) for o in offsets]
    across = jnp.concatenate(across, axis=-1).reshape(-1, size * c)
    return across.T @ jnp.concatenate(down, axis=-1).reshape(-1, size * d)

  copies = h * w * size * (c + d) * x.dtype.itemsize
  total = _by_films(pairs, x, gradient, copies, one_device)
  return total.reshape(size, c, size, d).transpose(2, 0, 1, 3)


# Bytes that stay in the cache: 10 to 40 % faster on maps of 28x28 and 56x56.
_CACHE = 10_000_000


def _by_films(product, x, gradient, copies, one_device):
  """`product(x, gradient)`, summed over some films at a time.

  Over as many as keep what it copies, so many bytes a film, in the cache.
  """
  b = x.shape[0]
  fits = (n for n in range(1, b + 1) if b % n == 0 and n * copies <= _CACHE)
  films = max(fits, default=1)
  if films == b or not one_device:
    # On several devices the loop would gather what lies with each.
    return product(x, gradient)
  some = [a.reshape(-1, films, *a.shape[1:]) for a in (x, gradient)]
  zero = jnp.zeros(jax.eval_shape(product, x, gradient).shape, x.dtype)
  return lax.scan(lambda t, xg: (t + product(*xg), None), zero, some)[0]


def _moved(x, axis, by):
  """`x` moved along an axis; what leaves is lost, zeros come in."""
  edges = [(0, 0, 0)] * x.ndim
  edges[axis] = (by, -by, 0)
  return lax.pad(x, jnp.zeros((), x.dtype), edges)
