"""Saliency maps of one image: which pixels move a score, signed, unscaled.

`score_fn` maps an image 'h w 1' in [0, 1] to a score of any shape: a scalar
gives a map 'h w', the k logits give maps 'h w k', all from one forward pass
(one vector-Jacobian product, vmapped over the k scores). Noise and baselines
are in pixels of the [0, 1] image. For a batch, loop over the images or use
`jax.vmap`; `by_name` does either.

The methods that sample take `chunk`, the number of samples a pass, which bounds
the memory, and `from_host`, for callers outside of `jit`; see `passes`. Sample
i draws from fold_in(key, i), so that maps depend on `chunk` by rounding only.
"""

from collections.abc import Callable

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Key

from cxr.attribution import passes

Image = Float[Array | np.ndarray, 'h w 1']
Map = Float[Array, 'h w *k']
ScoreFn = Callable[[Image], Float[Array, '*k']]


def gradient(score_fn: ScoreFn, image: Image) -> Map:
  """The derivative of the score by each pixel (Simonyan et al. 2014).

  Examples:
    >>> score = lambda image: 3 * image[0, 0, 0] + image[0, 1, 0] ** 2
    >>> gradient(score, jnp.ones((1, 2, 1))).tolist()
    [[3.0, 2.0]]
  """
  jacobian = jax.jacrev(score_fn)(image)[..., 0]
  return jnp.moveaxis(jacobian, (-2, -1), (0, 1)).astype(jnp.float32)


def gradient_x_input(
  score_fn: ScoreFn, image: Image, *, baseline: Image | float = 0.0
) -> Map:
  """Gradient times (image - baseline): the first-order change from baseline.

  Examples:
    >>> score = lambda image: 3 * image[0, 0, 0] + image[0, 1, 0] ** 2
    >>> gradient_x_input(score, jnp.ones((1, 2, 1)), baseline=0.5).tolist()
    [[1.5, 1.0]]
  """
  return _times(image - baseline, gradient(score_fn, image))


def smooth_grad(
  score_fn: ScoreFn,
  key: Key[Array, ''],
  image: Image,
  *,
  num_samples: int = 32,
  noise: float = 0.1,
  chunk: int = 4,
  from_host: bool = False,
) -> Map:
  """Mean gradient under Gaussian noise (Smilkov et al. 2017).

  `noise` is its standard deviation in pixels of the [0, 1] image; noisy images
  are not clipped, since that would move their mean.

  Raises:
    ValueError: num_samples or chunk is below 1.

  Examples:
    A linear score has the same gradient everywhere:

    >>> score = lambda image: 3 * image[0, 0, 0]
    >>> key, image = jax.random.key(0), jnp.ones((1, 2, 1))
    >>> smooth_grad(score, key, image, num_samples=4).tolist()
    [[3.0, 0.0]]
  """
  weight = np.full(
    passes.at_least_one(num_samples=num_samples), 1 / num_samples
  )
  arguments = (passes.as_partial(score_fn), key, image, jnp.float32(noise))
  return passes.weighted_sum(
    _smooth_grad_sample, arguments, weight, chunk=chunk, from_host=from_host
  )


def _smooth_grad_sample(score_fn, key, image, noise, i, weight):
  draw = jax.random.normal(jax.random.fold_in(key, i), image.shape)
  return weight * gradient(score_fn, image + noise * draw)


def integrated_gradients(
  score_fn: ScoreFn,
  image: Image,
  *,
  baseline: Image | float = 0.0,
  num_steps: int = 64,
  chunk: int = 4,
  from_host: bool = False,
) -> tuple[Map, Float[Array, '*k']]:
  """Mean gradient from baseline to image, times their difference.

  By Gauss-Legendre quadrature of `num_steps` nodes. `baseline` is a number (0
  is a black film), an image, or made by one of `BASELINES`.

  Returns:
    The map, and its completeness gap, sum(map) - (score(image) -
    score(baseline)). The gap is 0 in exact arithmetic with infinitely many
    steps, so its size tells whether `num_steps` was enough.

  Raises:
    ValueError: num_steps or chunk is below 1.

  References:
    Sundararajan et al. 2017, arXiv 1703.01365.

  Examples:
    >>> score = lambda image: (image**2).sum()
    >>> image = jnp.array([[[0.5], [1.0]]])
    >>> maps, gap = integrated_gradients(score, image, num_steps=2)
    >>> maps.round(4).tolist(), abs(float(gap)) < 1e-6
    ([[0.25, 1.0]], True)
  """
  nodes, weights = np.polynomial.legendre.leggauss(
    passes.at_least_one(num_steps=num_steps)
  )
  score_fn = passes.as_partial(score_fn)
  baseline = jnp.broadcast_to(jnp.float32(baseline), image.shape)
  arguments = (score_fn, baseline, image, jnp.float32((nodes + 1) / 2))
  path = passes.weighted_sum(
    _path_sample, arguments, weights / 2, chunk=chunk, from_host=from_host
  )
  maps = _times(image - baseline, path)
  ends = passes.call_each(score_fn, jnp.stack([baseline, image]))
  return maps, maps.sum((0, 1)) - (ends[1] - ends[0])


def _path_sample(score_fn, baseline, image, nodes, i, weight):
  return weight * gradient(score_fn, baseline + nodes[i] * (image - baseline))


def occlusion(
  score_fn: ScoreFn,
  image: Image,
  *,
  window: float = 0.25,
  stride: float = 0.5,
  baseline: Image | float = 0.0,
  chunk: int = 16,
  from_host: bool = False,
) -> Map:
  """By how much the score falls where a window is hidden.

  A square whose side is `window`, as a share of the image's shorter side, takes
  the values of `baseline`; it moves by `stride`, a share of its own side, both
  rounded to pixels. The last windows are flush with the border, so that each
  pixel is hidden at least once. A pixel's value is the mean fall over the
  windows that hide it.

  Raises:
    ValueError: a share is not above 0 and at most 1, or chunk is below 1.

  References:
    Zeiler and Fergus 2014, arXiv 1311.2901.

  Examples:
    >>> image = jnp.arange(4.0).reshape(2, 2, 1)
    >>> occlusion(jnp.sum, image, window=0.5).tolist()
    [[0.0, 1.0], [2.0, 3.0]]
  """
  for name, share in (('window', window), ('stride', stride)):
    if not 0 < share <= 1:
      raise ValueError(
        f'occlusion {name} ({share}) must be a share, above 0 and at most 1.'
      )
  height, width = image.shape[:2]
  window = max(round(window * min(height, width)), 1)
  stride = max(round(stride * window), 1)
  corners = np.stack(
    np.meshgrid(
      _window_starts(height, window, stride),
      _window_starts(width, window, stride),
      indexing='ij',
    ),
    -1,
  ).reshape(-1, 2)
  score_fn = passes.as_partial(score_fn)
  baseline = jnp.broadcast_to(jnp.float32(baseline), image.shape)
  arguments = (
    score_fn,
    image,
    baseline,
    passes.call_each(score_fn, image[None])[0],
    jnp.asarray(corners),
    jnp.asarray(window),
  )
  fall, count = passes.weighted_sum(
    _occlusion_sample,
    arguments,
    np.ones(len(corners)),
    chunk=chunk,
    from_host=from_host,
  )
  return _times(1 / count[..., None], fall)


def _window_starts(side, window, stride):
  starts = list(range(0, side - window + 1, stride))
  if starts[-1] != side - window:
    starts.append(side - window)
  return starts


def _occlusion_sample(
  score_fn, image, baseline, score, corners, window, i, weight
):
  height, width = image.shape[:2]
  top, left = corners[i]
  row, column = jnp.arange(height)[:, None], jnp.arange(width)[None]
  hidden = (row >= top) & (row < top + window)
  hidden = hidden & (column >= left) & (column < left + window)
  fall = score - score_fn(jnp.where(hidden[..., None], baseline, image))
  hidden = weight * hidden.astype(jnp.float32)
  return jnp.tensordot(hidden, fall, 0), hidden


def rise(
  score_fn: ScoreFn,
  key: Key[Array, ''],
  image: Image,
  *,
  num_masks: int = 512,
  grid: int = 7,
  keep: float = 0.5,
  baseline: Image | float = 0.0,
  chunk: int = 16,
  from_host: bool = False,
) -> Map:
  """Mean score over random masks that keep a pixel (RISE).

  A mask is `grid` x `grid` coin tosses (1 with probability `keep`), enlarged
  bilinearly and shifted at random by up to a cell. Hidden pixels take the
  values of `baseline`. The sum of score * mask is divided by the sum of the
  masks at each pixel, whose expectation is the paper's num_masks * keep: a
  constant score then gives a constant map, instead of the masks' own noise.

  Raises:
    ValueError: keep is not between 0 and 1, or a number is below 1.

  References:
    Petsiuk et al. 2018, arXiv 1806.07421.

  Examples:
    >>> constant = lambda image: jnp.float32(2)
    >>> key, image = jax.random.key(0), jnp.ones((1, 2, 1))
    >>> rise(constant, key, image, num_masks=8).round(3).tolist()
    [[2.0, 2.0]]
  """
  if not 0 < keep < 1:
    raise ValueError(f'rise keep ({keep}) must lie between 0 and 1.')
  weight = np.ones(passes.at_least_one(num_masks=num_masks))
  cells = jnp.zeros(passes.at_least_one(grid=grid))
  baseline = jnp.broadcast_to(jnp.float32(baseline), image.shape)
  arguments = (
    passes.as_partial(score_fn), key, image, baseline, cells, jnp.float32(keep)
  )  # fmt: skip
  score, kept = passes.weighted_sum(
    _rise_sample, arguments, weight, chunk=chunk, from_host=from_host
  )
  return _times(1 / jnp.maximum(kept, 1e-6)[..., None], score)


def _rise_sample(score_fn, key, image, baseline, cells, keep, i, weight):
  mask = _rise_mask(
    jax.random.fold_in(key, i), image.shape[:2], len(cells), keep
  )
  score = score_fn(baseline + mask[..., None] * (image - baseline))
  return jnp.tensordot(weight * mask, score, 0), weight * mask


def _rise_mask(key, shape, grid, keep):
  toss, shift = jax.random.split(key)
  # Two cells more than the image spans, so that neither the shift nor the
  # interpolation meets a border and every pixel's coins are alike.
  coins = jax.random.bernoulli(toss, keep, (grid + 2, grid + 2))
  shift = jax.random.uniform(shift, (2,))
  rows, columns = (
    _linear(grid + 2, (jnp.arange(side) + 0.5) / side * grid + offset)
    for side, offset in zip(shape, shift, strict=True)
  )
  return rows @ coins.astype(jnp.float32) @ columns.T


def _linear(num_cells, position):
  """Weights that interpolate between cells, 'position num_cells'."""
  distance = jnp.abs(position[:, None] - jnp.arange(num_cells)[None])
  return jnp.maximum(1 - distance, 0)


def blur(
  maps: Float[Array | np.ndarray, 'h w *k'], sigma: float
) -> Float[Array | np.ndarray, 'h w *k']:
  """Gaussian blur, `sigma` in pixels (0: not at all).

  At the border the weights of the pixels inside are scaled to sum to 1, so a
  constant stays constant. Two matrix products, so it is exact.

  Examples:
    >>> blur(jnp.ones((3, 3)), 1.0).round(4).tolist()[0]
    [1.0, 1.0, 1.0]
  """
  if sigma <= 0:
    return maps
  maps = jnp.asarray(maps)
  rows, columns = (_gaussian(side, sigma) for side in maps.shape[:2])
  return jnp.einsum(
    'hi,ij...,wj->hw...', rows, maps, columns, precision='highest'
  )


def _gaussian(side, sigma):
  distance = np.subtract.outer(np.arange(side), np.arange(side))
  weight = np.exp(-0.5 * (distance / sigma) ** 2)
  return jnp.float32(weight / weight.sum(1, keepdims=True))


# Images that stand for "nothing to see", made from the image.
BASELINES = {
  'black': jnp.zeros_like,
  'white': jnp.ones_like,
  'mean': lambda image: jnp.broadcast_to(image.mean(), image.shape),
  'blurred': lambda image: blur(image, image.shape[0] / 16),
}


def _times(image: Image, maps: Map) -> Map:
  """Pixel by pixel, for every score."""
  ones = (1,) * (maps.ndim - 2)
  return image.reshape(image.shape[:2] + ones) * maps
