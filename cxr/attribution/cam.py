"""Class activation maps: where on the feature grid a finding's logit arises.

Every function takes features 'b u v d' (what some stage of a network puts out)
and gives one map per finding, 'b u v k', float32, signed and unscaled: scaling
is for display. `relu=True` keeps the positive part, as the publications show
their maps; the default keeps the sign, so that for a head that pools and is
linear (logits = mean_uv(features) @ kernel + bias) the maps add up:

  cam.mean((1, 2)) + bias = logits
  grad_cam = hires_cam = cam / (u * v), cell by cell

`head_fn` maps the features of one stage, 'b u v d', to logits 'b k', each image
on its own. All findings come from one forward pass: one vjp, vmapped over the k
cotangents (a loop over findings is far too slow on a CPU). That holds
k times the features in memory: bound it by the batch.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float

Features = Float[Array, 'b u v d']
Maps = Float[Array, 'b u v k']
HeadFn = Callable[[Features], Float[Array, 'b k']]


def cam(
  features: Features,
  kernel: Float[Array | np.ndarray, 'd k'],
  *,
  relu: bool = False,
) -> Maps:
  """The class weights applied at every cell; no bias (Zhou et al. 2016).

  Examples:
    >>> features = jnp.array([[[[1.0, 2.0], [0.0, 3.0]]]])
    >>> cam(features, jnp.array([[1.0], [-1.0]]))[0, :, :, 0].tolist()
    [[-1.0, -3.0]]
  """
  return _combine('buvd,dk->buvk', features, kernel, relu)


def grad_cam(
  head_fn: HeadFn, features: Features, *, relu: bool = False
) -> Maps:
  """Channels weighted by their mean gradient (Selvaraju et al. 2017).

  Examples:
    >>> features = jnp.array([[[[1.0], [3.0]]]])
    >>> head_fn = lambda x: 2 * x.mean((1, 2))
    >>> grad_cam(head_fn, features)[0, :, :, 0].tolist()
    [[1.0, 3.0]]
  """
  weights = _gradients(head_fn, features).mean((2, 3))
  return _combine('buvd,kbd->buvk', features, weights, relu)


def grad_cam_plus_plus(
  head_fn: HeadFn, features: Features, *, relu: bool = False
) -> Maps:
  """Channels weighted by their positive gradients (Chattopadhyay et al. 2018).

  The paper's weight of a cell, g^2 / (2 g^2 + S g^3) with S the channel's sum,
  is written 1 / (2 + S g): the same number, without the quotient of vanishing
  powers that makes implementations add a constant. It assumes features >= 0
  (after a ReLU); a negative sum counts as 0.

  Examples:
    Two cells of gradient 1 whose features sum to 6: 2 / (2 + 6) is the weight.

    >>> features = jnp.array([[[[1.0], [5.0]]]])
    >>> maps = grad_cam_plus_plus(lambda x: x.sum((1, 2)), features)
    >>> maps[0, :, :, 0].tolist()
    [[0.25, 1.25]]
  """
  gradients = jax.nn.relu(_gradients(head_fn, features))
  total = jax.nn.relu(_float32(features).sum((1, 2), keepdims=True))
  weights = (gradients / (2 + total[None] * gradients)).sum((2, 3))
  return _combine('buvd,kbd->buvk', features, weights, relu)


def hires_cam(
  head_fn: HeadFn, features: Features, *, relu: bool = False
) -> Maps:
  """Gradient times feature in every cell (Draelos and Carin 2020).

  Examples:
    >>> features = jnp.array([[[[1.0], [3.0]]]])
    >>> head_fn = lambda x: 2 * x.mean((1, 2))
    >>> hires_cam(head_fn, features)[0, :, :, 0].tolist()
    [[1.0, 3.0]]
  """
  gradients = _gradients(head_fn, features)
  return _combine('buvd,kbuvd->buvk', features, gradients, relu)


def layer_cam(
  head_fn: HeadFn, features: Features, *, relu: bool = False
) -> Maps:
  """Positive gradient times feature in every cell (Jiang et al. 2021).

  Examples:
    >>> features = jnp.array([[[[1.0], [3.0]]]])
    >>> head_fn = lambda x: 2 * x.mean((1, 2))
    >>> layer_cam(head_fn, features)[0, :, :, 0].tolist()
    [[1.0, 3.0]]
  """
  gradients = jax.nn.relu(_gradients(head_fn, features))
  return _combine('buvd,kbuvd->buvk', features, gradients, relu)


def fuse(
  maps: Sequence[Float[Array, 'b h w k']], *, gamma: float = 2.0
) -> Float[Array, 'b h w k']:
  """Enlarged maps of several stages as one: LayerCAM's fusion (Jiang 2021).

  The positive part of each map is brought to a common scale by
  tanh(gamma * map / max(map)), and the largest value of any stage is kept.
  Stages have no common unit, so this alone of the maps here is scaled: it lies
  in [0, tanh(gamma)], and is 0 where no stage of the image has a positive
  value.

  Examples:
    >>> one, other = jnp.full((1, 1, 2, 1), 5.0), -jnp.ones((1, 1, 2, 1))
    >>> fuse([one, other], gamma=20.0)[0, :, :, 0].tolist()
    [[1.0, 1.0]]
  """
  scaled = []
  for stage in maps:
    stage = jax.nn.relu(_float32(stage))
    peak = stage.max((1, 2), keepdims=True)
    scaled.append(jnp.tanh(gamma * stage / jnp.where(peak > 0, peak, 1)))
  return jnp.stack(scaled).max(0)


def interpolation(
  num_cells: int, num_pixels: int, *, stride: float, offset: float
) -> Float[np.ndarray, 'p c']:
  """Weights of the cells of a line in each of its pixels.

  A cell has its value at the pixel that it looks at, `offset + stride * cell`
  (pixels count from 0, by their centres); between two of them the weights are
  linear, beyond the outer ones the value stays. With symmetric padding, as in
  torchvision's ResNets, the offset is 0: cell i is centred at pixel stride * i,
  not in the middle of the stride pixels that a plain enlargement gives it,
  (stride - 1) / 2 farther on.

  Examples:
    >>> interpolation(2, 4, stride=2, offset=0).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]]
  """
  cell = (np.arange(num_pixels) - offset) / stride
  cell = np.clip(cell, 0, num_cells - 1)
  return np.maximum(0, 1 - np.abs(cell[:, None] - np.arange(num_cells)))


def enlarge(
  maps: Float[Array, 'b _ _ k'],
  size: tuple[int, int],
  *,
  stride: float,
  offset: float,
) -> Float[Array, 'b h w k']:
  """Maps on the pixels of the film, `size` (h, w): bilinear interpolation.

  Every cell is drawn where it looks; see `interpolation`.

  Examples:
    >>> maps = jnp.array([[[[0.0], [4.0]]]])
    >>> enlarge(maps, (1, 4), stride=2, offset=0)[0, 0, :, 0].tolist()
    [0.0, 2.0, 4.0, 4.0]
  """
  rows, columns = (
    interpolation(cells, pixels, stride=stride, offset=offset)
    for cells, pixels in zip(maps.shape[1:3], size, strict=True)
  )
  return jnp.einsum(
    'hu,buvk,wv->bhwk',
    rows.astype(np.float32),
    _float32(maps),
    columns.astype(np.float32),
    precision='highest',
  )


def _gradients(
  head_fn: HeadFn, features: Features
) -> Float[Array, 'k b u v d']:
  logits, pullback = jax.vjp(head_fn, features)
  num_images, num_findings = logits.shape
  cotangents = jnp.broadcast_to(
    jnp.eye(num_findings, dtype=logits.dtype)[:, None],
    (num_findings, num_images, num_findings),
  )
  (gradients,) = jax.vmap(pullback)(cotangents)
  return _float32(gradients)


def _combine(
  spec: str, features: Features, weights: Array | np.ndarray, relu: bool
) -> Maps:
  # 'highest': accelerators would round float32 factors to some 8 or 10 bits,
  # and the identities above would hold to 1e-3 only.
  maps = jnp.einsum(
    spec, _float32(features), _float32(weights), precision='highest'
  )
  return jax.nn.relu(maps) if relu else maps


def _float32(x: Array | np.ndarray) -> Array | np.ndarray:
  return x.astype(jnp.float32)
