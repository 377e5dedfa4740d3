"""Attribution maps of one image: which pixels move a score, signed, unscaled.

`score_fn` maps an image 'h w 1' in [0, 1] to a score of any shape: a scalar
gives a map 'h w', the k logits give maps 'h w k', all from one forward pass
(one vjp, vmapped over the k cotangents). Noise and baselines are in pixels of
the [0, 1] image. For a batch, loop over the images, or `jax.vmap`.

Methods that sample run `chunk` samples a pass and add the passes up, so that
memory depends on `chunk` alone, and the result on it by rounding only: sample i
draws from fold_in(key, i). Called with arrays, a pass is compiled once and
looped over in Python. To share it between images and calls, let `score_fn` be a
`jax.tree_util.Partial` of one function with its variables as arguments; any
other callable is compiled for itself. Inside jit or vmap the loop is a scan.
"""

from collections.abc import Callable
from operator import itemgetter

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, Key, PyTree

Image = Float[Array, 'h w 1']
Map = Float[Array, 'h w *k']
ScoreFn = Callable[[Image], Float[Array, '*k']]


def gradient(score_fn: ScoreFn, image: Image) -> Map:
  """d score / d pixel (Simonyan et al. 2014)."""
  jacobian = jax.jacrev(score_fn)(image)[..., 0]
  return jnp.moveaxis(jacobian, (-2, -1), (0, 1)).astype(jnp.float32)


def gradient_x_input(
  score_fn: ScoreFn, image: Image, *, baseline: Image | float = 0.0
) -> Map:
  """Gradient times (image - baseline): the first-order change from baseline."""
  return _times(image - baseline, gradient(score_fn, image))


def smooth_grad(
  score_fn: ScoreFn,
  key: Key[Array, ''],
  image: Image,
  *,
  num_samples: int = 32,
  noise: float = 0.1,
  chunk: int = 4,
) -> Map:
  """Mean gradient under Gaussian noise (Smilkov et al. 2017).

  `noise` is its standard deviation in pixels of the [0, 1] image; noisy images
  are not clipped, since that would move their mean.
  """
  weight = np.full(_at_least_one(num_samples=num_samples), 1 / num_samples)
  arguments = (_partial(score_fn), key, image, jnp.float32(noise))
  return _weighted_sum(_smooth_grad_sample, arguments, weight, chunk)


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
) -> tuple[Map, Float[Array, '*k']]:
  """Mean gradient from baseline to image, times their difference.

  Sundararajan et al. 2017, by Gauss-Legendre quadrature. Returns the map and
  its completeness gap, sum(map) - (score(image) - score(baseline)): 0 in exact
  arithmetic with infinitely many steps, so that its size tells whether
  `num_steps` was enough. `baseline` is a number (0 is a black film), an image,
  or made by one of `BASELINES`.
  """
  nodes, weights = np.polynomial.legendre.leggauss(
    _at_least_one(num_steps=num_steps)
  )
  score_fn = _partial(score_fn)
  baseline = jnp.broadcast_to(jnp.float32(baseline), image.shape)
  arguments = (score_fn, baseline, image, jnp.float32((nodes + 1) / 2))
  path = _weighted_sum(_path_sample, arguments, weights / 2, chunk)
  maps = _times(image - baseline, path)
  ends = _call_each(score_fn, jnp.stack([baseline, image]))
  return maps, maps.sum((0, 1)) - (ends[1] - ends[0])


def _path_sample(score_fn, baseline, image, nodes, i, weight):
  return weight * gradient(score_fn, baseline + nodes[i] * (image - baseline))


def occlusion(
  score_fn: ScoreFn,
  image: Image,
  *,
  window: int = 16,
  stride: int | None = None,
  baseline: Image | float = 0.0,
  chunk: int = 16,
) -> Map:
  """What the score loses when a window is hidden (Zeiler and Fergus 2014).

  A square of `window` pixels takes the values of `baseline` at every `stride`
  pixels (half a window where None), the last ones flush with the border, so
  that each pixel is hidden at least once; its value is the mean loss over the
  windows that hide it.
  """
  stride = max(window // 2, 1) if stride is None else stride
  height, width = image.shape[:2]
  if not 1 <= window <= min(height, width):
    raise ValueError(
      f'occlusion window ({window}) must lie in 1..{min(height, width)}, the'
      ' side of the image.'
    )
  if not 1 <= stride <= window:
    raise ValueError(
      f'occlusion stride ({stride}) must lie in 1..{window}, the window, so'
      ' that no pixel is left out.'
    )
  corners = np.stack(
    np.meshgrid(
      _window_starts(height, window, stride),
      _window_starts(width, window, stride),
      indexing='ij',
    ),
    -1,
  ).reshape(-1, 2)
  score_fn = _partial(score_fn)
  baseline = jnp.broadcast_to(jnp.float32(baseline), image.shape)
  arguments = (
    score_fn,
    image,
    baseline,
    _call_each(score_fn, image[None])[0],
    jnp.asarray(corners),
    jnp.asarray(window),
  )
  loss, count = _weighted_sum(
    _occlusion_sample, arguments, np.ones(len(corners)), chunk
  )
  return _times(1 / count[..., None], loss)


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
  loss = score - score_fn(jnp.where(hidden[..., None], baseline, image))
  hidden = weight * hidden.astype(jnp.float32)
  return jnp.tensordot(hidden, loss, 0), hidden


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
) -> Map:
  """Mean score given that a pixel was kept (RISE, Petsiuk et al. 2018).

  A mask is `grid` x `grid` coin tosses (1 with probability `keep`), enlarged
  bilinearly and shifted at random by up to a cell; hidden pixels take the
  values of `baseline`. The sum of score * mask is divided by the sum of the
  masks at each pixel, whose expectation is the paper's num_masks * keep: a
  constant score then gives a constant map, instead of the masks' own noise.
  """
  if not 0 < keep < 1:
    raise ValueError(f'rise keep ({keep}) must lie between 0 and 1.')
  weight = np.ones(_at_least_one(num_masks=num_masks))
  cells = jnp.zeros(_at_least_one(grid=grid))
  baseline = jnp.broadcast_to(jnp.float32(baseline), image.shape)
  arguments = (
    _partial(score_fn), key, image, baseline, cells, jnp.float32(keep)
  )  # fmt: skip
  score, kept = _weighted_sum(_rise_sample, arguments, weight, chunk)
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


def blur(maps: Float[Array, 'h w *k'], sigma: float) -> Float[Array, 'h w *k']:
  """Gaussian blur, `sigma` in pixels; at the border over what is there.

  Two matrix products: exact, and a constant stays constant.
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


# What stands for "nothing there", from the image.
BASELINES = {
  'black': jnp.zeros_like,
  'white': jnp.ones_like,
  'mean': lambda image: jnp.broadcast_to(image.mean(), image.shape),
  'blurred': lambda image: blur(image, image.shape[0] / 16),
}


def _weighted_sum(
  sample: Callable, arguments: tuple, weight: np.ndarray, chunk: int
) -> PyTree:
  """sum_i sample(*arguments, i, weight[i]), `chunk` values of i a pass.

  `sample` is linear in its weight, and a module-level function, since the
  compiled pass is found again by it.
  """
  # Python's loop over one compiled pass: a scan around convolutions is 2.3
  # times slower on a CPU (14 findings, 16 samples in chunks of 4, most of a
  # ResNet-18, two cores: 1.0 against 2.2 s at 64 px, 3.8 against 8.8 s at
  # 128 px), and elsewhere the dispatch is hidden behind the pass before.
  size = min(_at_least_one(chunk=chunk), len(weight))
  padding = -len(weight) % size
  # Padded with weight 0, so that all passes have one shape.
  weight = np.pad(np.float32(weight), (0, padding)).reshape(-1, size)
  index = np.arange(weight.size).reshape(weight.shape)
  index = np.minimum(index, weight.size - padding - 1)
  arguments = (Partial(sample), *arguments)
  total = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype),
    jax.eval_shape(_pass, arguments, index[0], weight[0]),
  )
  if is_traced(arguments):
    return jax.lax.scan(
      lambda total, xs: (_add_pass(total, arguments, *xs), None),
      total,
      (jnp.asarray(index), jnp.asarray(weight)),
    )[0]
  for i, w in zip(index, weight, strict=True):
    total = _add_pass(total, arguments, i, w)
  return total


@jax.jit
def _pass(arguments, index, weight):
  sample, *arguments = arguments
  values = jax.vmap(lambda i, w: sample(*arguments, i, w))(index, weight)
  return jax.tree.map(lambda value: value.sum(0), values)


@jax.jit
def _add_pass(total, arguments, index, weight):
  return jax.tree.map(jnp.add, total, _pass(arguments, index, weight))


@jax.jit
def _call_each(fn, xs):
  return jax.vmap(fn)(xs)


def map_chunks(fn: Callable, xs: PyTree, *, chunk: int) -> PyTree:
  """fn(x) for every x along the first axis of xs, `chunk` of them a pass.

  `fn` is compiled, and the loop is run, as the methods' passes are.
  """
  fn = _partial(fn)
  if is_traced((fn, xs)):
    return jax.lax.map(fn, xs, batch_size=chunk)
  starts = range(0, len(jax.tree.leaves(xs)[0]), _at_least_one(chunk=chunk))
  parts = [slice(start, start + chunk) for start in starts]
  passes = [_call_each(fn, jax.tree.map(itemgetter(p), xs)) for p in parts]
  return jax.tree.map(lambda *values: jnp.concatenate(values), *passes)


def is_traced(tree: PyTree) -> bool:
  """Whether any leaf is a tracer, that is, whether jit or vmap is at work."""
  return any(
    isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree)
  )


def _partial(fn):
  return fn if isinstance(fn, Partial) else Partial(fn)


def _times(image: Image, maps: Map) -> Map:
  """Pixel by pixel, for every score."""
  ones = (1,) * (maps.ndim - 2)
  return image.reshape(image.shape[:2] + ones) * maps


def _at_least_one(**option: int) -> int:
  ((name, value),) = option.items()
  if value < 1:
    raise ValueError(f'{name} ({value}) must be at least 1.')
  return value


def alignment(
  image: Float[Array, 'h w 1'], gradient: Float[Array, 'h w']
) -> Float[Array, '']:
  """|<image, gradient>| / |gradient|, 0 where the gradient is.

  For a linear score without bias it is the distance to the decision boundary;
  it grows with robustness. Its unit is the image's norm.

  References:
    Etmann et al. 2019, On the Connection Between Adversarial Robustness and
    Saliency Map Interpretability, definition 3.
  """
  return _share(
    jnp.abs(jnp.vdot(image[..., 0], gradient)), jnp.linalg.norm(gradient)
  )


def cosine(
  image: Float[Array, 'h w 1'], gradient: Float[Array, 'h w']
) -> Float[Array, '']:
  """Cosine of the angle between the image, less its mean, and the gradient.

  Less its mean, since a film's mean gray says nothing of what it shows.
  """
  image = image[..., 0] - image.mean()
  length = jnp.linalg.norm(image) * jnp.linalg.norm(gradient)
  return _share(jnp.vdot(image, gradient), length)


def _share(part, whole):
  return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), 0)
