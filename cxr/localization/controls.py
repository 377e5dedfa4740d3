"""Maps and boxes that were made without looking at the film."""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from cxr.localization import overlap


@functools.lru_cache(maxsize=16)
def _bilinear(size: int, new_size: int) -> Float[np.ndarray, 'm n']:
  """Interpolation weights, half-pixel centres, clamped at the borders."""
  position = (np.arange(new_size) + 0.5) * size / new_size - 0.5
  position = np.clip(position, 0, size - 1)
  distance = np.abs(position[:, None] - np.arange(size))
  return np.maximum(1.0 - distance, 0.0)


def resize_bilinear(
  heatmap: Float[np.ndarray, 'u v'], size: tuple[int, int]
) -> Float[np.ndarray, 'h w']:
  """Bilinear enlargement, as the class activation maps are enlarged."""
  u, v = heatmap.shape
  return _bilinear(u, size[0]) @ heatmap @ _bilinear(v, size[1]).T


def random_map(
  seed: int | Sequence[int], *, grid: tuple[int, int], size: tuple[int, int]
) -> Float[np.ndarray, 'h w']:
  """Normal noise on the model's map grid, enlarged as its maps are.

  `seed` is the film's own, such as (seed, crc32(name)), so that the map does
  not depend on which films are evaluated, or in what order.
  """
  noise = np.random.default_rng(seed).normal(size=grid)
  return resize_bilinear(noise, size)


def moved_map(
  seed: int | Sequence[int], heatmap: Float[np.ndarray, 'h w']
) -> Float[np.ndarray, 'h w']:
  """The map moved at random, what leaves on one side coming in on the other.

  It draws about as many boxes of about the same sizes as the map itself. A
  random map does not; one that draws many small boxes gains by IoBB, where a
  box within the truth is a hit, and loses by IoU.
  """
  rng = np.random.default_rng(seed)
  by = [int(rng.integers(n)) for n in heatmap.shape]
  return np.roll(heatmap, by, axis=(0, 1))


def centre_map(
  size: tuple[int, int], *, sigma: float = 0.25
) -> Float[np.ndarray, 'h w']:
  """A Gaussian at the film's centre; sigma in shares of each side."""
  sides = [
    np.exp(-0.5 * (((np.arange(n) + 0.5) / n - 0.5) / sigma) ** 2) for n in size
  ]
  return np.outer(*sides)


def mean_boxes(
  truth: Float[np.ndarray, 'n 4'], patient: Int[np.ndarray, ' n']
) -> Float[np.ndarray, 'n 4']:
  """For each film the mean of the finding's boxes of all OTHER patients.

  `truth` has NaN rows for films without a box; the result has them where no
  other patient has a box.
  """
  boxed = overlap.has_box(truth)
  _, index = np.unique(patient, return_inverse=True)
  total, count = np.zeros((len(truth), 4)), np.zeros((len(truth), 1))
  np.add.at(total, index[boxed], truth[boxed])
  np.add.at(count, index[boxed], 1.0)
  others = count.sum() - count[index]
  return np.divide(
    total.sum(axis=0) - total[index],
    others,
    out=np.full((len(truth), 4), np.nan),
    where=others > 0,
  )
