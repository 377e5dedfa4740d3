"""DenseNets in torchvision's topology and parameter names.

Same face as `resnet`: an image 'b h w 1' in [0, 1] goes in, `(logits,
endpoints)` comes out, the first line normalises, and the logits are
`mean(features) @ kernel + bias`, so the class activation map is exact.

`num_stages` dense blocks reach a stride of 4, 8, 16, 32. Features are
normalised and rectified before they are pooled, as after the fourth block in
torchvision ('norm5'); a network cut earlier uses the normalisation that opens
the next transition ('transition2.norm' after two blocks), which pretrained
weights hold for exactly those channels. Two stages give a map of 28x28x512 at
224 pixels.

Reference:
  Huang et al., Densely Connected Convolutional Networks, 2017.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cxr import platforms
from cxr.models import head, layers

STEM_STRIDE = 4
NUM_LAYERS = {
  'densenet121': (6, 12, 24, 16),
  'densenet161': (6, 12, 36, 24),  # torchvision: 96 filters
  'densenet169': (6, 12, 32, 32),
  'densenet201': (6, 12, 48, 32),
}
BOTTLENECK = 4  # channels between a layer's two convolutions, per new channel


class DenseLayer(nn.Module):
  """New channels from all that came before, joined to them."""

  growth: int
  dtype: DTypeLike
  forms: platforms.Forms
  softplus: float | None

  @nn.compact
  def __call__(self, x, train):
    conv, norm = layers.conv_and_norm(self.dtype, self.forms, train)
    y = layers.rectify(norm(name='norm1')(x), self.softplus)
    y = conv(BOTTLENECK * self.growth, 1, name='conv1')(y)
    y = layers.rectify(norm(name='norm2')(y), self.softplus)
    y = conv(self.growth, 3, name='conv2')(y)
    return jnp.concatenate([x, y], axis=-1)


class DenseBlock(nn.Module):
  """Dense layers one after the other."""

  num_layers: int
  growth: int
  dtype: DTypeLike
  forms: platforms.Forms
  softplus: float | None
  remat: bool

  @nn.compact
  def __call__(self, x, train):
    layer = DenseLayer
    if self.remat:
      layer = nn.remat(DenseLayer, static_argnums=(2,))
    for i in range(self.num_layers):
      x = layer(
        self.growth,
        self.dtype,
        self.forms,
        self.softplus,
        name=f'denselayer{i + 1}',
      )(x, train)
    return x


class Transition(nn.Module):
  """Half the channels on half the grid; or the normalisation alone."""

  dtype: DTypeLike
  forms: platforms.Forms
  softplus: float | None
  norm_only: bool = False

  @nn.compact
  def __call__(self, x, train):
    conv, norm = layers.conv_and_norm(self.dtype, self.forms, train)
    x = layers.rectify(norm(name='norm')(x), self.softplus)
    if self.norm_only:
      return x
    x = conv(x.shape[-1] // 2, 1, name='conv')(x)
    return layers.average_pool(x)


class DenseNet(layers.Network):
  """DenseNet-121, 161, 169 or 201 for single-channel images.

  Attributes:
    arch: a key of `NUM_LAYERS`.
    num_findings: the number of logits.
    num_filters: channels of the stem, twice the growth; 64 is torchvision's.
    num_stages: 1 to 4 dense blocks.
    input_mean: subtracted from the image in [0, 1]; a number, or one for each
      channel that the first convolution reads.
    input_std: what the difference is divided by; as many numbers.
    dtype: of the computation; the first convolution, parameters, statistics,
      features and logits are float32 in any case, and so are their products on
      an accelerator.
    remat: recompute every dense layer in the backward pass, which makes the
      memory grow with the depth, not with its square.
    forms: of convolution and pooling; see cxr/platforms.py.
    softplus: its beta, where it stands for ReLU; see `smooth`.
  """

  arch: str
  num_findings: int
  num_filters: int = 64
  num_stages: int = 4
  input_mean: float | tuple[float, ...] = 0.5
  input_std: float | tuple[float, ...] = 0.25
  dtype: DTypeLike = jnp.float32
  remat: bool = False
  pooling: tuple[str, float, float] = ('mean', 4.0, 0.1)
  forms: platforms.Forms = platforms.ANY
  softplus: float | None = None

  HEAD = 'classifier'

  def cells(self, endpoint: str) -> tuple[float, float]:
    last = layers.first_stage(endpoint, self.num_stages)
    if not last:
      return 1, 0
    stride, offset = STEM_STRIDE, 0.0
    for _ in range(last - 1):
      # A transition's mean of two cells is centred between them.
      offset += stride / 2
      stride *= 2
    return stride, offset

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
      logits 'b k', and endpoints: 'stage1' to the last (what the dense block
      gives, before any normalisation), and 'features' 'b u v d' (the last
      stage normalised and rectified, float32), which the head pools.

    Raises:
      ValueError: `start` is no endpoint.
    """
    conv, norm = layers.conv_and_norm(self.dtype, self.forms, train)
    first = layers.first_stage(start, self.num_stages)

    x, endpoints = image, {}
    if first == 0:
      # In float32 whatever the dtype: in bfloat16 half of the pixels would not
      # see a step of .125/255.
      x = layers.normalize(x, self.input_mean, self.input_std)
      x = conv(self.num_filters, 7, 2, name='conv0', dtype=jnp.float32)(x)
      x = layers.rectify(norm(name='norm0')(x), self.softplus)
      x = layers.max_pool(x, self.forms)
    for i, num_layers in enumerate(NUM_LAYERS[self.arch][: self.num_stages]):
      if i >= first:
        x = DenseBlock(
          num_layers,
          self.num_filters // 2,
          self.dtype,
          self.forms,
          self.softplus,
          self.remat,
          name=f'denseblock{i + 1}',
        )(x, train)
        endpoints[f'stage{i + 1}'] = x
      if i + 1 >= first and i + 1 < self.num_stages:
        x = Transition(
          self.dtype,
          self.forms,
          self.softplus,
          name=f'transition{i + 1}',
        )(x, train)
    if start != 'features':
      if self.num_stages < len(NUM_LAYERS[self.arch]):
        x = Transition(
          self.dtype,
          self.forms,
          self.softplus,
          norm_only=True,
          name=f'transition{self.num_stages}',
        )(x, train)
      else:
        x = layers.rectify(norm(name='norm5')(x), self.softplus)
    endpoints['features'] = x.astype(jnp.float32)
    logits = head.pool_and_classify(
      endpoints['features'],
      self.num_findings,
      name=self.HEAD,
      pooling=self.pooling,
    )
    return logits, endpoints
