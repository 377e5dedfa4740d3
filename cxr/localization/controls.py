"""Maps and boxes that were made without looking at the film.

A score of a method means something only beside what such a control scores: it
says how much is gained by knowing where findings usually are, how large, and
how smooth maps are.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

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


def random_map(
  seed: Seed, rows: Float[np.ndarray, 'h u'], columns: Float[np.ndarray, 'w v']
) -> Float[np.ndarray, 'h w']:
  """Normal noise on the cells of a model's maps, enlarged as these are.

  Args:
    seed: the film's own, as `film_seed` makes it.
    rows: weights of the rows of cells in each row of pixels, as
      `cam.interpolation` makes them.
    columns: the same of the columns.

  Examples:
    >>> pairs = np.repeat(np.eye(4), 2, axis=0)
    >>> heatmap = random_map(film_seed('a.png', 0, 0), pairs, pairs)
    >>> heatmap.shape, len(np.unique(heatmap))
    ((8, 8), 16)
  """
  noise = np.random.default_rng(seed).normal(
    size=(rows.shape[1], columns.shape[1])
  )
  return rows @ noise @ columns.T


def draw_donors(
  seed: Seed,
  patient: Int[np.ndarray, ' n'],
  without_finding: Bool[np.ndarray, ' n'],
  film: int,
  num_draws: int,
) -> Int[np.ndarray, ' d']:
  """Draws films of other patients without the finding, each at most once.

  The same network's maps of these films, scored against this film's true box,
  show what the map is worth that does not follow the film: it knows where the
  finding usually is, how large, and how the network's maps look.

  Args:
    seed: the film's own, as `film_seed` makes it.
    patient: each film's patient, by any integer.
    without_finding: the films that are known not to have the finding.
    film: index of the film whose true box is scored.
    num_draws: how many are drawn.

  Returns:
    indices of the drawn films: fewer than `num_draws` where there are fewer.

  Examples:
    >>> patient, without = np.array([1, 1, 2, 3]), np.array([0, 1, 1, 0], bool)
    >>> draw_donors(0, patient, without, 0, 3).tolist()
    [2]
  """
  donors = np.flatnonzero(without_finding & (patient != patient[film]))
  rng = np.random.default_rng(seed)
  return rng.permutation(donors)[:num_draws]


def set_down(
  seed: Seed, boxes: Float[np.ndarray, 'b 4']
) -> Float[np.ndarray, 'b 4']:
  """Each box moved as a whole to a random place where it fits on the film.

  Number and sizes of the boxes stay: a map that draws such boxes without
  looking scores what these score. All places are equally likely. A box that
  lies within another one, as a map's region at a high level lies within its
  region at a low one, is set down anywhere within that one. (Were it to keep
  its place there, a low level's box that fills the film would hold it in its
  place on the film, and nothing would be moved.)

  Args:
    seed: the film's own, as `film_seed` makes it.
    boxes: of one map, within the film.

  Examples:
    >>> outer, inner = [0, 0, 0.5, 0.25], [0.25, 0.125, 0.5, 0.25]
    >>> moved = set_down(0, np.array([outer, inner]))
    >>> (moved[:, 2:] - moved[:, :2]).round(12).tolist()
    [[0.5, 0.25], [0.25, 0.125]]
    >>> (moved[1, :2] >= moved[0, :2]).all(), (moved[1] <= moved[0])[2:].all()
    (np.True_, np.True_)
  """
  # Every box stands after those that hold it.
  order = np.argsort(-overlap.area(boxes), kind='stable')
  boxes = boxes[order]
  inner, outer = boxes[:, None], boxes[None]
  within = (outer[..., :2] <= inner[..., :2]).all(axis=-1)
  within &= (outer[..., 2:] >= inner[..., 2:]).all(axis=-1)
  within = np.tril(within, -1)
  share = np.random.default_rng(seed).random((len(boxes), 2))
  moved = np.empty_like(boxes)
  for i, (box, holders) in enumerate(zip(boxes, within, strict=True)):
    holder = np.array([0.0, 0.0, 1.0, 1.0])
    if holders.any():
      holder = moved[np.flatnonzero(holders)[-1]]  # the smallest
    sides = box[2:] - box[:2]
    room = np.maximum(holder[2:] - holder[:2] - sides, 0.0)
    corner = holder[:2] + share[i] * room
    moved[i] = *corner, *np.minimum(corner + sides, 1.0)
  result = np.empty_like(boxes)
  result[order] = moved
  return result


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
  truth: Float[np.ndarray, 'n *t 4'], patient: Int[np.ndarray, ' n']
) -> Float[np.ndarray, 'n 4']:
  """For each film the mean of the finding's boxes of all OTHER patients.

  Args:
    truth: the finding's boxes of each film; rows of NaN are none.
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
  index_of_box = np.broadcast_to(index, boxed.T.shape).T[boxed]
  np.add.at(total, index_of_box, truth[boxed])
  np.add.at(count, index_of_box, 1.0)
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
