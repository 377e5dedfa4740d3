"""Boxes: their areas, how two of them overlap, and a box on the pixel grid.

Contract. A box is (ymin, xmin, ymax, xmax) in [0, 1], half-open. Areas are
shares of the film.
"""

import math

import numpy as np
from jaxtyping import Bool, Float

# A numpy scalar where no axis is left.
PerBox = Float[np.ndarray, '...'] | np.floating


def area(box: Float[np.ndarray, '... 4']) -> PerBox:
  """Area as a share of the film; 0 for an inverted box."""
  box = np.asarray(box, np.float64)
  sides = np.maximum(box[..., 2:] - box[..., :2], 0.0)
  return sides[..., 0] * sides[..., 1]


def intersection(
  a: Float[np.ndarray, '*#n 4'], b: Float[np.ndarray, '*#n 4']
) -> PerBox:
  """Area of the overlap of two boxes, broadcast."""
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  return area(
    np.concatenate(
      np.broadcast_arrays(
        np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
      ),
      axis=-1,
    )
  )


def _ratio_or_zero(part, whole):
  """part / whole, 0 where the whole is 0."""
  return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def iou(a: Float[np.ndarray, '*#n 4'], b: Float[np.ndarray, '*#n 4']) -> PerBox:
  """Intersection over union of two boxes, broadcast; 0 if both are empty."""
  shared = intersection(a, b)
  return _ratio_or_zero(shared, np.asarray(area(a) + area(b) - shared))


def iobb(
  predicted: Float[np.ndarray, '*#n 4'], truth: Float[np.ndarray, '*#n 4']
) -> PerBox:
  """Intersection over the PREDICTED box's area (Wang et al. 2017)."""
  shared = intersection(predicted, truth)
  return _ratio_or_zero(shared, area(predicted) + np.zeros_like(shared))


def _cover(start: float, stop: float, size: int) -> Float[np.ndarray, ' s']:
  """The share of each of `size` cells of [0, 1] that [start, stop) covers."""
  edges = np.arange(size + 1) / size
  inside = np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start)
  return np.maximum(inside, 0.0) * size


def box_cover(
  box: Float[np.ndarray, '4'], shape: tuple[int, int]
) -> Float[np.ndarray, 'h w']:
  """The exact share of each pixel's area that lies in the box."""
  ymin, xmin, ymax, xmax = box
  return np.outer(_cover(ymin, ymax, shape[0]), _cover(xmin, xmax, shape[1]))


def sum_in_box(values, box) -> float:
  """sum(values x box_cover), at the cost of the box alone."""
  height, width = values.shape
  y, x = _cover(box[0], box[2], height), _cover(box[1], box[3], width)
  rows, columns = np.flatnonzero(y), np.flatnonzero(x)
  if not len(rows) or not len(columns):
    return 0.0
  rows = slice(rows[0], rows[-1] + 1)
  columns = slice(columns[0], columns[-1] + 1)
  return float(y[rows] @ values[rows, columns] @ x[columns])


def box_mask(
  box: Float[np.ndarray, '4'], shape: tuple[int, int]
) -> Bool[np.ndarray, 'h w']:
  """The pixels whose centres lie in the box.

  A box of positive area that holds no centre is the one pixel its own centre
  lies in, so that a lesion smaller than a pixel can be hit; a box of zero area
  is empty.
  """
  mask = np.zeros(shape, bool)
  if area(box) <= 0:
    return mask
  sides = []
  for start, stop, size in zip(box[:2], box[2:], shape, strict=True):
    first, last = math.ceil(start * size - 0.5), math.ceil(stop * size - 0.5)
    first, last = max(first, 0), min(last, size)
    if last <= first:
      first = min(max(math.floor((start + stop) / 2 * size), 0), size - 1)
      last = first + 1
    sides.append(slice(first, last))
  mask[tuple(sides)] = True
  return mask


def has_box(truth: Float[np.ndarray, 'n 4']) -> Bool[np.ndarray, ' n']:
  """A row of NaN stands for a film without a box of the finding."""
  return ~np.isnan(truth).any(axis=-1)
