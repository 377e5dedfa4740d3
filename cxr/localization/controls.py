"""Maps and boxes that were made without looking at the film.

A score of a method means something only beside what such a control scores: it
says how much is gained by knowing where findings usually are, how large, and
how smooth maps are.
"""

import functools
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from cxr.localization import overlap

Seed = int | Sequence[int]


def film_seed(image: str, finding: int, seed: int) -> tuple[int, int, int]:
  """The seed of one film's draws, whichever films are scored and in what order.

  Args:
    image: the film's file name.
    finding: the finding's index.
    seed: of the run.

  Examples:
    >>> film_seed('00000001_000.png', 3, 0)
    (0, 3, 2916865233)
  """
  return seed, finding, zlib.crc32(image.encode())


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
  """The map enlarged as class activation maps are: bilinearly.

  Examples:
    >>> resize_bilinear(np.array([[0.0, 4.0]]), (1, 4)).tolist()
    [[0.0, 1.0, 3.0, 4.0]]
  """
  u, v = heatmap.shape
  return _bilinear(u, size[0]) @ heatmap @ _bilinear(v, size[1]).T


def random_map(
  seed: Seed, *, grid: tuple[int, int], size: tuple[int, int]
) -> Float[np.ndarray, 'h w']:
  """Normal noise on the model's grid of cells, enlarged as its maps are.

  Args:
    seed: the film's own, as `film_seed` makes it.
    grid: (rows, columns) of cells.
    size: (h, w) of the map, in pixels.

  Examples:
    >>> random_map(film_seed('a.png', 0, 0), grid=(4, 4), size=(8, 8)).shape
    (8, 8)
  """
  noise = np.random.default_rng(seed).normal(size=grid)
  return resize_bilinear(noise, size)


def moved_map(
  seed: Seed, heatmap: Float[np.ndarray, 'h w']
) -> Float[np.ndarray, 'h w']:
  """The map moved at random; what leaves on one side comes in on the other.

  It draws about as many boxes as the map, of about the same sizes. A random map
  does not; one that draws many small boxes gains by IoBB, where a box within
  the truth is a hit, and loses by IoU.

  Examples:
    >>> moved = moved_map(0, np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> sorted(moved.ravel().tolist())
    [1.0, 2.0, 3.0, 4.0]
  """
  rng = np.random.default_rng(seed)
  shift = [int(rng.integers(n)) for n in heatmap.shape]
  return np.roll(heatmap, shift, axis=(0, 1))


def set_down(
  seed: Seed, boxes: Float[np.ndarray, 'b 4']
) -> Float[np.ndarray, 'b 4']:
  """Each box moved as a whole to a random place where it fits on the film.

  Number and sizes of the boxes stay: a map that draws such boxes without
  looking scores what these score. All places are equally likely.

  Args:
    seed: the film's own, as `film_seed` makes it.
    boxes: of one map, within the film.

  Examples:
    >>> moved = set_down(0, np.array([[0, 0, 0.5, 0.25], [0, 0, 1, 1]]))
    >>> (moved[:, 2:] - moved[:, :2]).round(12).tolist()
    [[0.5, 0.25], [1.0, 1.0]]
  """
  sides = boxes[:, 2:] - boxes[:, :2]
  corner = np.random.default_rng(seed).random(sides.shape) * (1 - sides)
  return np.concatenate([corner, np.minimum(corner + sides, 1.0)], axis=1)


def centre_map(
  size: tuple[int, int], *, sigma: float = 0.25
) -> Float[np.ndarray, 'h w']:
  """A Gaussian at the film's centre; `sigma` in shares of each side.

  Examples:
    >>> centre_map((1, 3)).round(2).tolist()
    [[0.41, 1.0, 0.41]]
  """
  sides = [
    np.exp(-0.5 * (((np.arange(n) + 0.5) / n - 0.5) / sigma) ** 2) for n in size
  ]
  return np.outer(*sides)


def mean_boxes(
  truth: Float[np.ndarray, 'n 4'], patient: Int[np.ndarray, ' n']
) -> Float[np.ndarray, 'n 4']:
  """For each film the mean of the finding's boxes of all OTHER patients.

  Args:
    truth: the finding's box of each film, NaN where it has none.
    patient: each film's patient, by any integer.

  Returns:
    a box for every film, NaN where no other patient has one.

  Examples:
    >>> truth = np.array([[0, 0, 0.25, 0.25], [0.5, 0.5, 1, 1]])
    >>> mean_boxes(truth, np.array([5, 9])).tolist()
    [[0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 0.25, 0.25]]
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


def box_map(
  box: Float[np.ndarray, '4'], size: tuple[int, int]
) -> Float[np.ndarray, 'h w']:
  """The map that is 1 within a box; all 0 without one (NaN).

  Examples:
    >>> box_map(np.array([0, 0.5, 1, 1]), (1, 4)).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    >>> box_map(np.full(4, np.nan), (1, 2)).tolist()
    [[0.0, 0.0]]
  """
  if not overlap.has_box(box):
    return np.zeros(size)
  return overlap.box_cover(box, size)
