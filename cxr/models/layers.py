"""The layers and the base class that the networks share.

Images are 'b h w c', kernels 'kh kw c d'. Padding is explicit: 'SAME' pads
strided convolutions asymmetrically, and torchvision's weights then give logits
5-9 % off. Which forms of convolution and pooling a network is made of is said
by its `forms` (cxr/platforms.py).
"""

import functools
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cxr import platforms
from cxr.models import cpu_convolution, max_pooling

Films = Float[Array | np.ndarray, 'b h w c']


def convolve(
  x: Films,
  kernel: Float[Array | np.ndarray, 'n n c d'],
  *,
  stride: int = 1,
  dilation: int = 1,
  forms: platforms.Forms = platforms.ANY,
) -> Float[Array, 'b u v d']:
  """Square convolution, padded so that stride 1 keeps the map's size.

  Differentiable in reverse mode, to any order; a CPU's form not in forward
  mode.
  """
  if forms.own_convolution:
    return cpu_convolution.convolve(
      x, kernel, stride, dilation, forms.one_device
    )
  return cpu_convolution.convolve_xla(x, kernel, stride, dilation)


def normalize(
  image: Float[Array | np.ndarray, 'b h w _'],
  mean: float | tuple[float, ...],
  std: float | tuple[float, ...],
) -> Films:
  """(image - mean) / std; the one channel becomes as many as there are means.

  Networks of photographs read three channels, each normalised by its own mean,
  and zeros beyond the border are another gray in each: one channel cannot stand
  for them there.
  """
  if isinstance(mean, tuple):
    by_channel = lambda x: jnp.asarray(x, image.dtype).reshape(1, 1, 1, -1)
    mean, std = by_channel(mean), by_channel(std)
  return (image - mean) / std


def max_pool(
  x: Films, forms: platforms.Forms = platforms.ANY
) -> Float[Array, 'b u v c']:
  """Maximum over 3x3 windows at stride 2, padded by 1.

  Of equal values the first in the window has the gradient, on every platform.
  """
  if forms.own_max_pool:
    return max_pooling.max_pool(x)
  return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))


def average_pool(
  x: Films,
) -> Float[Array, 'b u v c']:
  """Mean over 2x2 windows at stride 2; an odd last row or column is left."""
  return nn.avg_pool(x, (2, 2), (2, 2))


def rectify(
  x: Float[Array, '... c'], softplus: float | None = None
) -> Float[Array, '... c']:
  """ReLU; or, with a `softplus` of beta, log(1 + exp(beta x)) / beta.

  The softplus has derivatives of every order, and comes to ReLU as beta grows.
  """
  if softplus is None:
    return nn.relu(x)
  return nn.softplus(softplus * x) / softplus


def draw_kernel(
  key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, 'n n c d']:
  """variance_scaling(2, 'fan_out', 'normal'), of which it has the bits.

  The numbers are drawn in one row: a program that counts along four axes takes
  XLA four times as long to compile, and a network has tens of kernels.
  """
  height, width, _, num_filters = shape
  variance = jnp.array(2.0 / (height * width * num_filters), dtype)
  drawn = jax.random.normal(key, (math.prod(shape),), dtype)
  return drawn.reshape(shape) * jnp.sqrt(variance)


class Conv(nn.Module):
  """A square convolution without bias; initialised as torchvision's."""

  num_filters: int
  size: int
  stride: int = 1
  dilation: int = 1
  dtype: DTypeLike = jnp.float32
  forms: platforms.Forms = platforms.ANY

  @nn.compact
  def __call__(self, x: Films) -> Float[Array, 'b u v d']:
    kernel = self.param(
      'kernel',
      draw_kernel,
      (self.size, self.size, x.shape[-1], self.num_filters),
    )
    return convolve(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      stride=self.stride,
      dilation=self.dilation,
      forms=self.forms,
    )


def conv_and_norm(dtype, forms: platforms.Forms, train: bool):
  """Constructors of the network's convolution and normalisation."""
  conv = functools.partial(Conv, dtype=dtype, forms=forms)
  norm = functools.partial(
    nn.BatchNorm,
    use_running_average=not train,
    momentum=0.9,
    epsilon=1e-5,
    dtype=dtype,
  )
  return conv, norm


class Network(nn.Module):
  """What every network here says of itself beside its logits.

  Attributes:
    HEAD: the name of the linear layer at its end.
  """

  HEAD = ''

  def head(
    self, params: Mapping
  ) -> tuple[Float[Array | np.ndarray, 'd k'], Float[Array | np.ndarray, ' k']]:
    """The (kernel, bias) with which logits = mean(features) @ kernel + bias."""
    return params[self.HEAD]['kernel'], params[self.HEAD]['bias']

  def cells(self, endpoint: str) -> tuple[float, float]:
    """Where the cells of an endpoint look: (stride, offset), in pixels.

    Cell i is centred at pixel offset + stride * i, pixels counted from 0 by
    their centres.

    Raises:
      ValueError: the network has no such endpoint.
    """
    raise NotImplementedError

  def dense(self) -> 'Network':
    """The network of the same weights on a grid twice as fine.

    One stride less is taken, and what follows is dilated. Every second cell,
    from the first, has the features that it had; between them the network looks
    from where its stride had skipped. Their mean, and so the logits, are no
    longer quite those that the model learned.

    Raises:
      ValueError: the network has no stride to give up, or is not dilated.

    References:
      Giusti et al. 2013, arXiv 1302.1700; Chen et al. 2018 (DeepLab), arXiv
      1606.00915.
    """
    raise ValueError(
      'dense_cam needs a ResNet with a stride to turn into a dilation '
      '(model.output_stride of 8 or more); choose cam.'
    )

  def smooth(self, beta: float) -> 'Network':
    """The network of the same weights with a softplus for every ReLU.

    ReLU's second derivative is 0, and so a gradient map seems not to depend on
    the film's pixels. Attacks on maps take their steps by this network's, and
    measure the maps of the real one (Ghorbani et al. 2019, arXiv 1710.10547;
    Dombrowski et al. 2019, arXiv 1906.07983).
    """
    return self.clone(softplus=beta)


def first_stage(start: str, num_stages: int) -> int:
  """How many stages lie before the endpoint `start`."""
  order = {'image': 0, 'features': num_stages}
  order |= {f'stage{i}': i for i in range(1, num_stages + 1)}
  if start not in order:
    raise ValueError(f'start ({start}) must be one of {", ".join(order)}.')
  return order[start]
