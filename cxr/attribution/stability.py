"""How far a map moves as the film changes a little.

`stability` is the correlation of the maps. The rest is of Agarwal et al. 2022,
who ask how far a map moves relative to what else moves. A film x is changed, to
x'; its map e moves by

  |(e - e') / e|,

pixel by pixel, in the 2-norm. Divided by as much of the film's own change it is
the relative input stability, by the change of the logits the relative output
stability, by that of the features the relative representation stability. In
spite of these names a high value is a map that is not stable. The largest value
over several x' near x counts.

References:
  Agarwal et al. 2022, Rethinking Stability for Attribution-based Explanations,
  arXiv 2203.06877, equations 2, 3 and 5.
"""

from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from cxr.attribution import similarity
from cxr.attribution.sanity import Maps

# A change that is smaller is none; eps_min of the paper.
SMALLEST = 1e-6


def stability(
  map_fn: Callable[[Float[Array | np.ndarray, 'b h w 1']], Maps],
  key: Key[Array, ''],
  image: Float[Array | np.ndarray, 'b h w 1'],
  *,
  noise: float = 0.01,
  num_samples: int = 4,
) -> Float[np.ndarray, ' b *k']:
  """Mean rank correlation of the map with the maps of noisy copies.

  The noise is Gaussian, of standard deviation `noise` in [0, 1] pixels. The
  noisy films are clipped to [0, 1].

  Raises:
    ValueError: num_samples is below 1.

  Examples:
    >>> fixed = lambda image: np.array([[[1.0, 2.0]]])
    >>> image = jnp.ones((1, 1, 2, 1)) / 2
    >>> stability(fixed, jax.random.key(0), image).round(6).tolist()
    [1.0]
  """
  if num_samples < 1:
    raise ValueError(f'num_samples ({num_samples}) must be at least 1.')
  ranked = lambda film: similarity.standardize(map_fn(film), rank=True)
  clean = ranked(image)
  copies = noisy_copies(key, image, noise=noise, num_samples=num_samples)
  return np.mean(
    [similarity.agreement(clean, ranked(copy)) for copy in copies], 0
  )


def noisy_copies(
  key: Key[Array, ''],
  image: Float[Array | np.ndarray, '*shape'],
  *,
  noise: float,
  num_samples: int,
) -> Iterator[Float[Array, '*shape']]:
  """Images with Gaussian noise of that standard deviation, within [0, 1].

  Examples:
    >>> image = jnp.ones((1, 2, 2, 1))
    >>> options = {'noise': 0.01, 'num_samples': 3}
    >>> copies = list(noisy_copies(jax.random.key(0), image, **options))
    >>> len(copies), bool(copies[0].max() <= 1)
    (3, True)
  """
  for sample in jax.random.split(key, num_samples):
    noisy = image + noise * jax.random.normal(sample, image.shape)
    yield jnp.clip(noisy, 0, 1)


# Relative to what else moves.


def change(
  before: Float[Array | np.ndarray, 'b ...'],
  after: Float[Array | np.ndarray, 'b ...'],
  axis: int | tuple[int, ...],
) -> Float[np.ndarray, '...']:
  """|before - after|, the 2-norm over `axis`.

  Examples:
    >>> change(np.array([[3.0, 4.0]]), np.array([[0.0, 0.0]]), axis=1)
    array([5.])
  """
  difference = np.asarray(before, np.float64) - np.asarray(after, np.float64)
  return np.sqrt((difference**2).sum(axis))


def relative_change(
  before: Float[Array | np.ndarray, 'b ...'],
  after: Float[Array | np.ndarray, 'b ...'],
  axis: int | tuple[int, ...],
  *,
  least: float = SMALLEST,
) -> Float[np.ndarray, '...']:
  """|(before - after) / before|, the 2-norm over `axis`.

  An entry of a magnitude below `least` is divided by `least`.

  Examples:
    >>> relative_change(np.array([[2.0, 4.0]]), np.array([[1.0, 4.0]]), axis=1)
    array([0.5])
  """
  before = np.asarray(before, np.float64)
  scale = np.maximum(np.abs(before), least)
  return change(before / scale, np.asarray(after, np.float64) / scale, axis)


def log_ratio(
  of_map: Float[np.ndarray, 's b k'],
  of_cause: Float[np.ndarray, 's b 1'],
  counted: Bool[np.ndarray, 's b k'],
) -> Float[np.ndarray, 'b k']:
  """log10 of the largest ratio of two changes over s samples.

  The logarithm, since a ratio whose divisors come close to 0 has a long tail:
  the mean of the ratios would be that of a few films. Changes below SMALLEST
  count as SMALLEST.

  Args:
    of_map: relative changes of the maps.
    of_cause: changes of the film, its logits or its features.
    counted: which samples count: those that leave the answer as it is. NaN
      where none does.

  Examples:
    >>> of_map = np.array([[[0.01]], [[0.1]]])
    >>> log_ratio(of_map, np.ones((2, 1, 1)), np.ones((2, 1, 1), bool))
    array([[-1.]])
  """
  ratio = np.maximum(of_map, SMALLEST) / np.maximum(of_cause, SMALLEST)
  # A map that is not finite stays undefined where its sample counts.
  broken = (counted & ~np.isfinite(ratio)).any(0) | ~counted.any(0)
  largest = np.where(counted & np.isfinite(ratio), ratio, SMALLEST**2).max(0)
  return np.where(broken, np.nan, np.log10(largest))
