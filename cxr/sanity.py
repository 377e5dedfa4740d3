"""Does the map mean anything? Checks that need no box.

Maps are 'b h w' (one finding) or 'b h w k', raw and signed. Functions of arrays
work on the host in float64. A quantity that does not exist (a share of nothing,
a mean over no pair, anything of a map with NaN in it) is NaN, never an error.
"""

from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Key, PyTree
from scipy import ndimage, stats

from cxr import saliency

Maps = Float[Array, 'b h w *k']
Image = Float[Array, 'h w 1']


def correlation(
  a: Maps, b: Maps, *, rank: bool = False
) -> Float[np.ndarray, 'b *k']:
  """Pearson's, or Spearman's rank, correlation over the pixels of each map.

  Two constant maps agree (1); a constant and a varying one do not (0).
  """
  a, b = _standardize(a, rank), _standardize(b, rank)
  constant = ~a.any(1) & ~b.any(1)
  return np.where(constant, 1.0, (a * b).sum(1))


def _standardize(maps, rank=False):
  """Pixels on one axis, 'b p *k', of mean 0 and length 1; constant: 0."""
  maps = np.asarray(maps, np.float64)
  maps = maps.reshape(maps.shape[0], -1, *maps.shape[3:])
  bad = ~np.isfinite(maps).all(1, keepdims=True)
  maps = np.where(bad, 0, maps)
  if rank:
    maps = stats.rankdata(maps, axis=1)
  # Compared before the mean is taken off, which leaves rounding behind.
  constant = maps.max(1, keepdims=True) == maps.min(1, keepdims=True)
  maps = maps - maps.mean(1, keepdims=True)
  length = np.sqrt((maps**2).sum(1, keepdims=True))
  maps = np.where(constant, 0, maps / np.where(constant, 1, length))
  return np.where(bad, np.nan, maps)


def ssim(
  a: Maps,
  b: Maps,
  *,
  data_range: float | Float[np.ndarray, 'b *k'],
  sigma: float = 1.5,
) -> Float[np.ndarray, 'b *k']:
  """Structural similarity of each pair of maps: Wang et al. 2004, equation 13.

  Means and covariances under a Gaussian of `sigma` pixels, cut at 3.5 sigma;
  its mean over the pixels whose whole window lies in the map.

  Args:
    a: maps.
    b: maps of the same shape.
    data_range: L of the constants (0.01 L)^2 and (0.03 L)^2, of all or of each.
    sigma: in pixels.

  Raises:
    ValueError: maps smaller than a window.
  """
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  radius = int(3.5 * sigma + 0.5)
  if min(a.shape[1:3]) < 2 * radius + 1:
    raise ValueError(
      f'Maps of {a.shape[1]} by {a.shape[2]} are smaller than a window of '
      f'{2 * radius + 1}; choose a sigma below {sigma}.'
    )

  def local_mean(x):
    return ndimage.gaussian_filter(x, sigma, axes=(1, 2), radius=radius)[
      :, radius:-radius, radius:-radius
    ]

  data_range = np.asarray(data_range, np.float64)
  if data_range.ndim:
    data_range = data_range[:, None, None]
  luminance, contrast = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
  mean_a, mean_b = local_mean(a), local_mean(b)
  product = mean_a * mean_b
  squares = mean_a**2 + mean_b**2
  covariance = local_mean(a * b) - product
  variances = local_mean(a**2) + local_mean(b**2) - squares
  numerator = (2 * product + luminance) * (2 * covariance + contrast)
  denominator = (squares + luminance) * (variances + contrast)
  # Both maps 0 throughout and so no range: equal.
  same = denominator == 0
  ratio = np.where(same, 1.0, numerator / np.where(same, 1.0, denominator))
  return ratio.mean((1, 2))


def cascade(
  variables: PyTree, random_variables: PyTree, layers: Sequence[str]
) -> Iterator[PyTree]:
  """Variables with the first 0, 1, ... all of `layers` randomised.

  Args:
    variables: collections ('params', 'batch_stats', ...) of layers by name.
    random_variables: the same tree without what was learned; see `shuffle`.
      Statistics go with their layer.
    layers: names from the head down; see `layers_from_head`.
  """
  yield variables
  for count in range(1, len(layers) + 1):
    replaced = set(layers[:count])
    yield {
      collection: {
        name: random_variables[collection][name] if name in replaced else layer
        for name, layer in tree.items()
      }
      for collection, tree in variables.items()
    }


def shuffle(key: Key[Array, ''], variables: PyTree) -> PyTree:
  """Every array with its entries in random order: no layer keeps its meaning.

  Unlike a second initialisation this keeps each array's distribution, and does
  not undo the randomisation where an initialisation starts blocks as the
  identity.
  """
  leaves, tree = jax.tree.flatten(variables)
  keys = jax.random.split(key, len(leaves))
  shuffled = [
    jax.random.permutation(k, leaf.ravel()).reshape(leaf.shape)
    for k, leaf in zip(keys, leaves, strict=True)
  ]
  return jax.tree.unflatten(tree, shuffled)


def layers_from_head(init_fn: Callable[[], PyTree]) -> list[str]:
  """Top-level layers of a network, last called first.

  `init_fn` makes its variables, as `lambda: model.init(key, image)`; nothing is
  computed. Variables that have passed jit or a checkpoint do not know the order
  any more: their names are sorted.
  """
  names = []

  def trace():
    names.extend(init_fn()['params'])

  jax.eval_shape(trace)
  return names[::-1]


def cascading_randomisation(
  map_fn: Callable[[PyTree], Maps],
  variables: PyTree,
  random_variables: PyTree,
  layers: Sequence[str],
) -> Float[np.ndarray, 'l b *k']:
  """Rank correlation of |map| with the trained network's, layer by layer.

  Adebayo et al. 2018. `map_fn` gives the maps of fixed films under given
  variables. Row l is after l layers, from the head down; row 0 is 1. A map that
  does not fall towards 0 shows the film, not what the network learned of it.
  """
  maps = (
    np.abs(map_fn(v)) for v in cascade(variables, random_variables, layers)
  )
  trained = next(maps)
  rows = [correlation(trained, trained, rank=True)]
  rows += [correlation(trained, other, rank=True) for other in maps]
  return np.stack(rows)


def perturbation_curve(
  score_fn: Callable[[Image], Float[Array, '']],
  start: Image,
  end: Image,
  heatmap: Float[Array, 'h w'],
  *,
  num_steps: int = 20,
  chunk: int = 8,
) -> Float[Array, 's']:
  """Scores on the way from one image to another, hottest pixels first.

  s = num_steps + 1 values, at equal shares of pixels; equal heat goes row by
  row. See `deletion` and `insertion`. `score_fn` is called as in saliency.py.
  """
  if num_steps < 1:
    raise ValueError(f'num_steps ({num_steps}) must be at least 1.')
  order = jnp.argsort(-heatmap.ravel(), stable=True)
  place = jnp.zeros_like(order).at[order].set(jnp.arange(order.size))
  share = (place / order.size).reshape(*heatmap.shape, 1)
  step = jnp.arange(num_steps + 1) / num_steps
  score_fn = score_fn if isinstance(score_fn, Partial) else Partial(score_fn)
  fn = Partial(_perturbed_score, score_fn, start, end, share)
  return saliency.map_chunks(fn, step, chunk=chunk)


def _perturbed_score(score_fn, start, end, share, step):
  return score_fn(jnp.where(share < step, end, start))


def deletion(
  score_fn: Callable[[Image], Float[Array, '']],
  image: Image,
  heatmap: Float[Array, 'h w'],
  *,
  baseline: Image | float = 0.0,
  num_steps: int = 20,
  chunk: int = 8,
) -> Float[Array, 's']:
  """Score as the hottest pixels turn to `baseline` (Petsiuk et al. 2018).

  With a probability for a score, the lower the `area`, the better the map.
  """
  baseline = jnp.broadcast_to(jnp.float32(baseline), image.shape)
  return perturbation_curve(
    score_fn, image, baseline, heatmap, num_steps=num_steps, chunk=chunk
  )


def insertion(
  score_fn: Callable[[Image], Float[Array, '']],
  image: Image,
  heatmap: Float[Array, 'h w'],
  *,
  sigma: float = 0.05,
  num_steps: int = 20,
  chunk: int = 8,
) -> Float[Array, 's']:
  """Score as the hottest pixels of a blurred film turn sharp.

  Petsiuk et al. 2018; `sigma` is the blur in image heights. The higher the
  `area`, the better the map.
  """
  blurred = saliency.blur(image, sigma * image.shape[0])
  return perturbation_curve(
    score_fn, blurred, image, heatmap, num_steps=num_steps, chunk=chunk
  )


def area(curve: Float[Array, '... s']) -> Float[np.ndarray, '...']:
  """Area under a curve over [0, 1], by trapezoids."""
  curve = np.asarray(curve, np.float64)
  return (curve[..., 1:] + curve[..., :-1]).mean(-1) / 2


def stability(
  map_fn: Callable[[Float[Array, 'b h w 1']], Maps],
  key: Key[Array, ''],
  image: Float[Array, 'b h w 1'],
  *,
  noise: float = 0.01,
  num_samples: int = 4,
) -> Float[np.ndarray, 'b *k']:
  """Mean rank correlation of the map with the maps of noisy copies.

  The noise is Gaussian, of standard deviation `noise` in [0, 1] pixels, clipped
  to valid films.
  """
  if num_samples < 1:
    raise ValueError(f'num_samples ({num_samples}) must be at least 1.')
  clean = map_fn(image)
  rows = []
  for sample in jax.random.split(key, num_samples):
    noisy = image + noise * jax.random.normal(sample, image.shape)
    noisy = map_fn(jnp.clip(noisy, 0, 1))
    rows.append(correlation(clean, noisy, rank=True))
  return np.mean(rows, 0)


def pairwise_correlation(maps: Maps) -> Float[np.ndarray, '*k']:
  """Mean correlation between the maps of different films.

  Constant maps count as the same as each other and unlike any other.
  """
  unit = _standardize(maps)
  num_films = len(unit)
  if num_films < 2:
    return np.full(unit.shape[2:], np.nan)
  constant = (~unit.any(1)).sum(0)
  # The squared length of a sum of n unit vectors is n and all pairs, twice.
  pairs = (unit.sum(0) ** 2).sum(0) - (num_films - constant)
  pairs = pairs + constant * (constant - 1)
  return pairs / (num_films * (num_films - 1))


def same_map(
  maps: Maps, *, threshold: float = 0.9
) -> tuple[Float[np.ndarray, '*k'], Bool[np.ndarray, '*k']]:
  """`pairwise_correlation`, and whether it is so high that the map is one.

  Networks that never see a finding put its peak in the same corner of every
  film; their maps look like answers and are none.
  """
  value = pairwise_correlation(maps)
  return value, value > threshold


def body_mask(
  image: Float[Array, 'h w 1'], *, threshold: float = 0.08
) -> Bool[np.ndarray, 'h w']:
  """The largest region brighter than `threshold`, its holes filled.

  Air is black in a film, the body is not, and lungs are holes in it. Nothing
  brighter: an empty mask.
  """
  image = np.asarray(image, np.float64)[..., 0]
  smooth = ndimage.gaussian_filter(image, max(image.shape) / 128)
  regions, count = ndimage.label(smooth > threshold, np.ones((3, 3)))
  if not count:
    return np.zeros(image.shape, bool)
  largest = np.bincount(regions.ravel())[1:].argmax() + 1
  return ndimage.binary_fill_holes(regions == largest)


def share_outside(
  maps: Maps, mask: Bool[np.ndarray, 'b h w']
) -> Float[np.ndarray, 'b *k']:
  """Share of |map| that lies outside the mask; NaN for a map of zeros."""
  size = np.abs(np.asarray(maps, np.float64))
  mask = np.asarray(mask).reshape(mask.shape + (1,) * (size.ndim - 3))
  total, outside = size.sum((1, 2)), np.where(mask, 0, size).sum((1, 2))
  return np.where(total > 0, outside / np.where(total > 0, total, 1), np.nan)


def cause_attribution(
  gradient: Maps, difference: Float[Array, 'b h w 1']
) -> Float[np.ndarray, 'b *k']:
  """<gradient, difference>: what a cause adds to the score, to first order.

  `difference` is the film minus the film without the cause (a lesion, a
  shortcut). Beside `causal_effect` it tells whether a map may be read as cause;
  with the integrated gradients from the film without it, divided by the
  difference, the two are equal.
  """
  gradient = np.asarray(gradient, np.float64)
  difference = np.asarray(difference, np.float64)[..., 0]
  ones = (1,) * (gradient.ndim - 3)
  return (gradient * difference.reshape(difference.shape + ones)).sum((1, 2))


def causal_effect(
  logits_fn: Callable[[Float[Array, 'b h w 1']], Float[Array, 'b *k']],
  image: Float[Array, 'b h w 1'],
  without: Float[Array, 'b h w 1'],
) -> Float[np.ndarray, 'b *k']:
  """What a cause adds to the score: score(film) - score(film without it)."""
  with_cause, no_cause = logits_fn(image), logits_fn(without)
  return np.asarray(with_cause, np.float64) - np.asarray(no_cause, np.float64)
