"""Residual networks in torchvision's topology and parameter names.

An image 'b h w 1' in [0, 1] goes in; `(logits, endpoints)` comes out. The
first line normalises, so whatever perturbs the image perturbs pixels. The
logits are `mean(features) @ kernel + bias` over the feature grid, so the class
activation map `features @ kernel` is exact.

The stem has stride 4; stages 1 to 4 have strides 1, 2, 2, 2, so `num_stages`
stages reach a stride of 4, 8, 16, 32. A smaller `output_stride` is had by
dilation: a stage whose stride would pass it keeps its grid, and every later
3x3 convolution looks as far as it would have on the coarser one. The dilated
network holds the same weights and, at every n-th position, the same features
as the strided one.

References:
  He et al., Deep Residual Learning for Image Recognition, 2015; the stride in
    the 3x3 convolution of a bottleneck ('v1.5') as in torchvision.
  Yu, Koltun, Funkhouser, Dilated Residual Networks, 2017.
"""

import math
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cxr import platforms
from cxr.models import head, layers

STEM_STRIDE = 4
BLOCKS = {
  'resnet18': ('basic', (2, 2, 2, 2)),
  'resnet34': ('basic', (3, 4, 6, 3)),
  'resnet50': ('bottleneck', (3, 4, 6, 3)),
  'resnet101': ('bottleneck', (3, 4, 23, 3)),
  'resnet152': ('bottleneck', (3, 8, 36, 3)),
}


def stage_grid(
  num_stages: int, output_stride: int | None
) -> list[tuple[int, int]]:
  """The (stride, dilation) of every stage; dilation as the stage ends.

  Args:
    num_stages: 1 to 4.
    output_stride: pixels per feature cell, a power of two between 4 and what
      `num_stages` reach by striding (4, 8, 16, 32); None for the latter.

  Raises:
    ValueError: no such network exists.
  """
  if num_stages not in (1, 2, 3, 4):
    raise ValueError(f'num_stages ({num_stages}) must be 1, 2, 3 or 4.')
  reached = STEM_STRIDE * 2 ** (num_stages - 1)
  allowed = [STEM_STRIDE * 2**i for i in range(num_stages)]
  if output_stride is None:
    output_stride = reached
  if output_stride not in allowed:
    raise ValueError(
      f'output_stride ({output_stride}) must be one of {allowed} with '
      f'num_stages={num_stages}: the stem has stride {STEM_STRIDE} and each '
      'later stage doubles it or is dilated.'
    )
  grid = [(1, 1)]
  reached, dilation = STEM_STRIDE, 1
  for _ in range(num_stages - 1):
    if 2 * reached <= output_stride:
      reached *= 2
      grid.append((2, dilation))
    else:
      dilation *= 2
      grid.append((1, dilation))
  return grid


class BasicBlock(nn.Module):
  """Two 3x3 convolutions beside a shortcut."""

  num_filters: int
  stride: int
  dilations: tuple[int, int]  # of the first 3x3 in the block, and after it
  dtype: DTypeLike
  forms: platforms.Forms
  softplus: float | None
  expansion = 1

  @nn.compact
  def __call__(self, x, train):
    conv, norm = layers.conv_and_norm(self.dtype, self.forms, train)
    before, after = self.dilations
    y = conv(self.num_filters, 3, self.stride, before, name='conv1')(x)
    y = layers.rectify(norm(name='bn1')(y), self.softplus)
    y = conv(self.num_filters, 3, dilation=after, name='conv2')(y)
    y = norm(name='bn2', scale_init=nn.initializers.zeros)(y)
    y += _shortcut(x, y, self.stride, conv, norm)
    return layers.rectify(y, self.softplus)


class Bottleneck(nn.Module):
  """1x1 to fewer channels, 3x3, 1x1 to four times as many, a shortcut."""

  num_filters: int
  stride: int
  dilations: tuple[int, int]
  dtype: DTypeLike
  forms: platforms.Forms
  softplus: float | None
  expansion = 4

  @nn.compact
  def __call__(self, x, train):
    conv, norm = layers.conv_and_norm(self.dtype, self.forms, train)
    before, _ = self.dilations
    y = conv(self.num_filters, 1, name='conv1')(x)
    y = layers.rectify(norm(name='bn1')(y), self.softplus)
    y = conv(self.num_filters, 3, self.stride, before, name='conv2')(y)
    y = layers.rectify(norm(name='bn2')(y), self.softplus)
    y = conv(self.num_filters * self.expansion, 1, name='conv3')(y)
    y = norm(name='bn3', scale_init=nn.initializers.zeros)(y)
    y += _shortcut(x, y, self.stride, conv, norm)
    return layers.rectify(y, self.softplus)


def _shortcut(x, y, stride, conv, norm):
  if stride == 1 and x.shape[-1] == y.shape[-1]:
    return x
  x = conv(y.shape[-1], 1, stride, name='downsample_0')(x)
  return norm(name='downsample_1')(x)


class ResNet(layers.Network):
  """ResNet-18, 34, 50, 101 or 152 for single-channel images.

  The last normalisation of every block starts at scale 0, so that each block
  begins as the identity (Goyal et al. 2017): the short trainings of small
  networks start faster and the deep ones more safely.

  Attributes:
    arch: a key of `BLOCKS`.
    num_findings: the number of logits.
    num_filters: channels of the stem and the first stage; 64 is torchvision's.
    num_stages: 1 to 4 stages.
    output_stride: pixels per feature cell; see `stage_grid`.
    input_mean: subtracted from the image in [0, 1]; a number, or one for each
      channel that the first convolution reads.
    input_std: what the difference is divided by; as many numbers.
    dtype: of the computation; the first convolution, parameters, statistics,
      features and logits are float32 in any case, and so are their products on
      an accelerator.
    remat: recompute every block in the backward pass: memory for some 30 %
      more time.
    forms: of convolution and pooling; see cxr/platforms.py.
    softplus: its beta, where it stands for ReLU; see `smooth`.
  """

  arch: str
  num_findings: int
  num_filters: int = 64
  num_stages: int = 4
  output_stride: int | None = None
  input_mean: float | tuple[float, ...] = 0.5
  input_std: float | tuple[float, ...] = 0.25
  dtype: DTypeLike = jnp.float32
  remat: bool = False
  pooling: tuple[str, float, float] = ('mean', 4.0, 0.1)
  forms: platforms.Forms = platforms.ANY
  softplus: float | None = None

  HEAD = 'fc'

  def cells(self, endpoint: str) -> tuple[float, float]:
    # Every convolution and the pooling are padded alike on both sides: an
    # output is centred on the input that its window is centred on.
    strides = [s for s, _ in stage_grid(self.num_stages, self.output_stride)]
    last = layers.first_stage(endpoint, self.num_stages)
    return STEM_STRIDE * math.prod(strides[:last]) if last else 1, 0

  def dense(self) -> 'ResNet':
    grid = stage_grid(self.num_stages, self.output_stride)
    stride = STEM_STRIDE * math.prod(stride for stride, _ in grid)
    if stride == STEM_STRIDE:
      return super().dense()
    return self.clone(output_stride=stride // 2)

  @nn.compact
  def __call__(
    self,
    image: Float[Array | np.ndarray, 'b h w c'],
    train: bool = False,
    start: str = 'image',
  ) -> tuple[Float[Array, 'b k'], Mapping[str, Array]]:
    """Logits, and the arrays on the way to them.

    Args:
      image: pixels in [0, 1], 'b h w 1'; or the endpoint that `start` names.
      train: normalise by the batch's statistics; `batch_stats` must be mutable.
      start: 'image', or the endpoint that is given in its place. The layers
        up to it are skipped.

    Returns:
      logits 'b k', and endpoints: 'stage1' to the last, and 'features'
      'b u v d', the last stage in float32, which the head pools.

    Raises:
      ValueError: `start` is no endpoint.
    """
    kind, num_blocks = BLOCKS[self.arch]
    block = {'basic': BasicBlock, 'bottleneck': Bottleneck}[kind]
    if self.remat:
      block = nn.remat(block, static_argnums=(2,))
    conv, norm = layers.conv_and_norm(self.dtype, self.forms, train)
    grid = stage_grid(self.num_stages, self.output_stride)
    first = layers.first_stage(start, self.num_stages)

    x, endpoints = image, {}
    if first == 0:
      # In float32 whatever the dtype: in bfloat16 half of the pixels would not
      # see a step of .125/255.
      x = layers.normalize(x, self.input_mean, self.input_std)
      x = conv(self.num_filters, 7, 2, name='conv1', dtype=jnp.float32)(x)
      x = layers.rectify(norm(name='bn1')(x), self.softplus)
      x = layers.max_pool(x, self.forms)
    before = 1
    for i, (stride, after) in enumerate(grid):
      if i >= first:
        for j in range(num_blocks[i]):
          x = block(
            self.num_filters * 2**i,
            stride if j == 0 else 1,
            (before if j == 0 else after, after),
            self.dtype,
            self.forms,
            self.softplus,
            name=f'layer{i + 1}_{j}',
          )(x, train)
        endpoints[f'stage{i + 1}'] = x
      before = after
    endpoints['features'] = x.astype(jnp.float32)
    logits = head.pool_and_classify(
      endpoints['features'],
      self.num_findings,
      name=self.HEAD,
      pooling=self.pooling,
    )
    return logits, endpoints
