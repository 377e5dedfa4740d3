"""Does the map mean anything? Checks that need no box.

Maps are 'b h w' (one finding) or 'b h w k', raw and signed. Functions of arrays
work on the host in float64. A value that is not defined (a share of nothing, a
mean over no pair, anything of a map with NaN in it) is NaN, never an error.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, PyTree
from scipy import ndimage

from cxr.attribution import passes, saliency, similarity

Maps = Float[Array | np.ndarray, 'b h w *k']
Image = Float[Array | np.ndarray, 'h w 1']
Heatmap = Float[Array | np.ndarray, 'h w']


def cascade(
  variables: PyTree, random_variables: PyTree, stages: Sequence[Sequence[str]]
) -> Iterator[PyTree]:
  """Variables with the first 0, 1, ... all of `stages` randomised.

  Args:
    variables: collections ('params', 'batch_stats', ...) of layers by name.
    random_variables: the same tree without what was learned; see `shuffle`.
      Statistics go with their layer.
    stages: layers that go together, from the head down; see `stages_from_head`.

  Examples:
    >>> trained, random = {'params': {'fc': 1}}, {'params': {'fc': 0}}
    >>> list(cascade(trained, random, [['fc']]))
    [{'params': {'fc': 1}}, {'params': {'fc': 0}}]
  """
  yield variables
  for count in range(1, len(stages) + 1):
    replaced = set(itertools.chain.from_iterable(stages[:count]))
    yield {
      collection: {
        name: random_variables[collection][name] if name in replaced else layer
        for name, layer in tree.items()
      }
      for collection, tree in variables.items()
    }


def shuffle(seed: int, variables: PyTree) -> PyTree:
  """Every array with its entries in random order: no layer keeps its meaning.

  Unlike a second initialisation this keeps each array's distribution, and does
  not undo the randomisation where an initialisation starts blocks as the
  identity.

  Examples:
    >>> sorted(shuffle(0, {'kernel': np.arange(3)})['kernel'].tolist())
    [0, 1, 2]
  """
  # On the host: XLA would compile a sort for each shape.
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda leaf: rng.permutation(np.ravel(leaf)).reshape(leaf.shape), variables
  )


def stages_from_head(init_fn: Callable[[], PyTree]) -> dict[str, list[str]]:
  """Top-level layers of a network by stage, the last called stage first.

  Layers of one stage share what stands before '_' in their names.

  Args:
    init_fn: makes the network's variables, as `lambda: model.init(key, image)`;
      nothing is computed. Variables that have passed jit or a checkpoint will
      not do: their names are sorted, no longer in the order of the calls.

  Examples:
    >>> names = ('conv1', 'layer1_0', 'layer1_1', 'fc')
    >>> stages_from_head(lambda: {'params': dict.fromkeys(names, 0)})
    {'fc': ['fc'], 'layer1': ['layer1_1', 'layer1_0'], 'conv1': ['conv1']}
  """
  stages = {}

  def trace():
    for name in reversed(list(init_fn()['params'])):
      stages.setdefault(name.partition('_')[0], []).append(name)

  jax.eval_shape(trace)
  return stages


def cascading_randomisation(
  map_fn: Callable[[PyTree], Maps],
  variables: PyTree,
  random_variables: PyTree,
  stages: Sequence[Sequence[str]],
) -> Float[np.ndarray, 'l b *k']:
  """Rank correlation of |map| with the trained network's, stage by stage.

  `map_fn` gives the maps of fixed films under given variables. Row l of the
  result is after l stages, from the head down; row 0 is 1. A map whose
  correlation does not fall towards 0 shows the film, not what the network
  learned of it.

  References:
    Adebayo et al. 2018, arXiv 1810.03292.
  """
  maps = (
    similarity.standardize(np.abs(map_fn(v)), rank=True)
    for v in cascade(variables, random_variables, stages)
  )
  trained = next(maps)
  rows = [similarity.agreement(trained, trained)]
  rows += [similarity.agreement(trained, other) for other in maps]
  return np.stack(rows)


def perturbation_curve(
  score_fn: Callable[[Image], Float[Array, '']],
  start: Image,
  end: Image,
  heatmap: Heatmap,
  *,
  num_steps: int = 20,
  chunk: int = 8,
) -> Float[Array, ' s']:
  """Scores on the way from one image to another, hottest pixels first.

  The s = num_steps + 1 values are at equal shares of replaced pixels. Pixels of
  equal heat are replaced row by row. See `deletion` and `insertion`.

  Args:
    score_fn: image 'h w 1' -> scalar.
    start: the image of the first score.
    end: the image of the last.
    heatmap: the hottest pixels are replaced first.
    num_steps: the number of replacements.
    chunk: images a pass, which bounds the memory.

  Raises:
    ValueError: num_steps or chunk is below 1.
  """
  if num_steps < 1:
    raise ValueError(f'num_steps ({num_steps}) must be at least 1.')
  order = jnp.argsort(-heatmap.ravel(), stable=True)
  rank = jnp.zeros_like(order).at[order].set(jnp.arange(order.size))
  share = (rank / order.size).reshape(*heatmap.shape, 1)
  step = jnp.arange(num_steps + 1) / num_steps
  score_fn = passes.as_partial(score_fn)
  fn = Partial(_perturbed_score, score_fn, start, end, share)
  return passes.map_chunks(fn, step, chunk=chunk)


def _perturbed_score(score_fn, start, end, share, step):
  return score_fn(jnp.where(share < step, end, start))


def deletion(
  score_fn: Callable[[Image], Float[Array, '']],
  image: Image,
  heatmap: Heatmap,
  *,
  baseline: Image | float = 0.0,
  num_steps: int = 20,
  chunk: int = 8,
) -> Float[Array, ' s']:
  """Score as the hottest pixels turn to `baseline` (Petsiuk et al. 2018).

  With a probability for a score, the lower the `area`, the better the map.

  Examples:
    >>> image = jnp.array([[[3.0], [1.0]]])
    >>> deletion(jnp.sum, image, image[..., 0], num_steps=2).tolist()
    [4.0, 1.0, 0.0]
  """
  baseline = jnp.broadcast_to(jnp.float32(baseline), image.shape)
  return perturbation_curve(
    score_fn, image, baseline, heatmap, num_steps=num_steps, chunk=chunk
  )


def insertion(
  score_fn: Callable[[Image], Float[Array, '']],
  image: Image,
  heatmap: Heatmap,
  *,
  sigma: float = 0.05,
  num_steps: int = 20,
  chunk: int = 8,
) -> Float[Array, ' s']:
  """Score as the hottest pixels of a blurred film turn sharp.

  `sigma` is the blur in image heights. The higher the `area`, the better the
  map. Source: Petsiuk et al. 2018.

  Examples:
    >>> image = jnp.array([[[3.0], [1.0]]])
    >>> insertion(jnp.max, image, image[..., 0], num_steps=2).tolist()
    [3.0, 3.0, 3.0]
  """
  blurred = saliency.blur(image, sigma * image.shape[0])
  return perturbation_curve(
    score_fn, blurred, image, heatmap, num_steps=num_steps, chunk=chunk
  )


def area(
  curve: Float[Array | np.ndarray, '... s'],
) -> Float[np.ndarray | np.floating, '...']:
  """Area under curves of equally spaced values over [0, 1], by trapezoids.

  Examples:
    >>> area(np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])).tolist()
    [1.0, 0.25]
  """
  curve = np.asarray(curve, np.float64)
  return (curve[..., 1:] + curve[..., :-1]).mean(-1) / 2


def sameness(maps: Maps) -> Float[np.ndarray, ' b *k']:
  """Correlation of each film's map with the mean of all other films' maps.

  Near 1, the network draws one map for every film. Networks that never see a
  finding put its peak in the same corner of each: such maps look like answers
  and are none. Every map counts alike in the mean, whatever its units. Maps
  with NaN do not count, nor do constant ones, whose correlation is 1 with each
  other and 0 with any other map.

  Examples:
    >>> one = np.array([[1.0, 2.0]])
    >>> sameness(np.stack([one, one, 5 * one])).round(6).tolist()
    [1.0, 1.0, 1.0]
  """
  unit = similarity.standardize(maps)
  counted = np.nan_to_num(unit)
  others = counted.sum(0) - counted
  constant = ~counted.any(1) & ~np.isnan(unit).any(1)
  # A film is compared with nothing where no other has a map.
  alone = (~np.isnan(unit).any(1)).sum(0) < 2
  length = np.sqrt((others**2).sum(1))
  # Of a sum of unit vectors: what is below this is rounding.
  flat = length < 1e-9
  dot = (unit * others).sum(1) / np.where(flat, 1, length)
  return np.where(alone, np.nan, np.where(flat & constant, 1.0, dot))


def body_mask(image: Image, *, share: float = 0.15) -> Bool[np.ndarray, 'h w']:
  """The largest region that is not black, its holes filled.

  Not black means above the film's 1st percentile by more than `share` of the
  way to its 99th. Air is black in a film, the body is not, and lungs are holes
  in it. A film without contrast has no body: its mask is empty.

  Examples:
    >>> film = np.zeros((9, 9, 1))
    >>> film[2:7, 2:7] = 1
    >>> film[4, 4] = 0
    >>> int(body_mask(film).sum())
    25
  """
  image = np.asarray(image, np.float64)[..., 0]
  smooth = ndimage.gaussian_filter(image, max(image.shape) / 128)
  low, high = np.percentile(smooth, (1, 99))
  bright = smooth > low + share * (high - low)
  regions, count = ndimage.label(bright, np.ones((3, 3)))
  if not count or high - low < 1 / 255:
    return np.zeros(image.shape, bool)
  largest = np.bincount(regions.ravel())[1:].argmax() + 1
  return ndimage.binary_fill_holes(regions == largest)


def share_outside(
  maps: Maps, mask: Bool[np.ndarray, 'b h w']
) -> Float[np.ndarray, ' b *k']:
  """Share of |map| that lies outside the mask.

  NaN for a map of zeros, and where the mask is empty: there is no such region.

  Examples:
    >>> share_outside(np.array([[[3.0, -1.0]]]), np.array([[[True, False]]]))
    array([0.25])
  """
  size = np.abs(np.asarray(maps, np.float64))
  mask = np.asarray(mask).reshape(mask.shape + (1,) * (size.ndim - 3))
  total, outside = size.sum((1, 2)), np.where(mask, 0, size).sum((1, 2))
  defined = (total > 0) & np.isfinite(total) & mask.any((1, 2))
  return np.where(defined, outside / np.where(defined, total, 1), np.nan)


def gini(maps: Maps) -> Float[np.ndarray, ' b *k']:
  """Gini index of |map|: how few pixels hold how much of it.

  With the n pixels' magnitudes a_1 <= ... <= a_n it is

    sum_i (2 i - n - 1) a_i / (n sum_i a_i):

  0 where all are equal, 1 - 1/n where one pixel has everything. It does not
  depend on the map's scale. NaN for a map of zeros.

  References:
    Hurley and Rickard 2009, arXiv 0811.4706 (among measures of sparsity, the
    one that has all the properties asked for); Chalasani et al. 2020, arXiv
    1810.06583 (of attributions: sparser after L-inf adversarial training).

  Examples:
    >>> gini(np.array([[[0.0, 0.0, -3.0, 0.0]], [[2.0, 2.0, 2.0, 2.0]]]))
    array([0.75, 0.  ])
  """
  size = np.abs(np.asarray(maps, np.float64))
  size = np.sort(size.reshape(size.shape[0], -1, *size.shape[3:]), axis=1)
  n = size.shape[1]
  total = size.sum(1)
  defined = (total > 0) & np.isfinite(total)
  rank = 2 * np.arange(1, n + 1) - n - 1
  with np.errstate(invalid='ignore'):  # of maps that are not finite
    weighted = np.einsum('bp...,p->b...', size, rank)
  return np.where(defined, weighted / np.where(defined, n * total, 1), np.nan)


def share_in_span(
  maps: Maps, basis: Float[np.ndarray, 'n h w']
) -> Float[np.ndarray, ' b *k']:
  """Share of a map's energy, less its mean, that the basis images span.

  It is n / (h w - 1) for a map of white noise and NaN for a constant map.

  Examples:
    >>> wave = np.array([[[1.0, -1.0, 1.0, -1.0]]])
    >>> share_in_span(3 * wave, wave).round(6).tolist()
    [1.0]
  """
  unit = similarity.standardize(maps)
  basis = np.reshape(basis, (len(basis), -1))
  span, _ = np.linalg.qr((basis - basis.mean(1, keepdims=True)).T)
  share = (np.einsum('pn,bp...->bn...', span, unit) ** 2).sum(1)
  return np.where(unit.any(1), share, np.nan)


def cause_attribution(
  gradient: Maps, difference: Float[Array | np.ndarray, 'b h w 1']
) -> Float[np.ndarray, ' b *k']:
  """<gradient, difference>: what a cause adds to the score, to first order.

  `difference` is the film minus the film without the cause (a lesion, a
  shortcut). What the cause really adds is score(film) - score(film without it).
  The two are equal for the integrated gradients from the film without it,
  divided by the difference.

  Examples:
    >>> gradient = np.array([[[2.0, 1.0]]])
    >>> cause_attribution(gradient, np.array([[[[0.5], [0.0]]]])).tolist()
    [1.0]
  """
  gradient = np.asarray(gradient, np.float64)
  difference = np.asarray(difference, np.float64)[..., 0]
  ones = (1,) * (gradient.ndim - 3)
  return (gradient * difference.reshape(difference.shape + ones)).sum((1, 2))
