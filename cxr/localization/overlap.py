"""Boxes: their areas, how far two of them overlap, and boxes on a pixel grid.

Contract. A box is (ymin, xmin, ymax, xmax) in [0, 1], in shares of the film's
sides; pixel (i, j) of an 'h w' grid covers [i/h, (i+1)/h) x [j/w, (j+1)/w).
Areas are shares of the film. A box of zero area overlaps nothing. NaN stands
for the box of a film that has none.
"""

import math

import numpy as np
from jaxtyping import Bool, Float

# A numpy scalar where no axis is left.
PerBox = Float[np.ndarray, '...'] | np.floating


def has_box(
  truth: Float[np.ndarray, '*n 4'],
) -> Bool[np.ndarray, '*n'] | np.bool:
  """Whether a film has a box: a row of NaN stands for none.

  Examples:
    >>> has_box(np.array([[0, 0, 1, 1], [np.nan] * 4])).tolist()
    [True, False]
  """
  return ~np.isnan(truth).any(axis=-1)


def area(box: Float[np.ndarray, '*n 4']) -> PerBox:
  """The area of each box, as a share of the film; 0 for an inverted box.

  Examples:
    >>> area(np.array([[0, 0, 0.5, 0.5], [0.9, 0, 0.1, 1]])).tolist()
    [0.25, 0.0]
  """
  box = np.asarray(box, np.float64)
  sides = np.maximum(box[..., 2:] - box[..., :2], 0.0)
  return sides[..., 0] * sides[..., 1]


def intersection(
  a: Float[np.ndarray, '*#n 4'], b: Float[np.ndarray, '*#n 4']
) -> PerBox:
  """The area that two boxes share; leading axes are broadcast.

  Examples:
    >>> left, top = np.array([0, 0, 1, 0.5]), np.array([0, 0, 0.5, 1])
    >>> float(intersection(left, top))
    0.25
  """
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
  return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def iou(a: Float[np.ndarray, '*#n 4'], b: Float[np.ndarray, '*#n 4']) -> PerBox:
  """Intersection over union; leading axes are broadcast.

  Examples:
    >>> left, middle = np.array([0, 0, 1, 0.5]), np.array([0, 0.25, 1, 0.75])
    >>> round(float(iou(left, middle)), 4)
    0.3333
  """
  shared = intersection(a, b)
  return _ratio_or_zero(shared, np.asarray(area(a) + area(b) - shared))


def iobb(
  predicted: Float[np.ndarray, '*#n 4'], truth: Float[np.ndarray, '*#n 4']
) -> PerBox:
  """Intersection over the PREDICTED box's area (Wang et al. 2017).

  A small box within the truth scores 1, a large box around it its share.
  Leading axes are broadcast.

  Examples:
    >>> small, large = np.array([0.4, 0.4, 0.6, 0.6]), np.array([0, 0, 1.0, 1])
    >>> round(float(iobb(small, large)), 4), round(float(iobb(large, small)), 4)
    (1.0, 0.04)
  """
  shared = intersection(predicted, truth)
  return _ratio_or_zero(shared, area(predicted) + np.zeros_like(shared))


def disjoint(boxes: Float[np.ndarray, 'b 4']) -> Float[np.ndarray, 'd 4']:
  """Boxes that do not overlap and together cover what `boxes` cover.

  So the area of a union of boxes, or a sum over its pixels, is a sum over
  these. A box that overlaps no other stays as it is.

  Examples:
    >>> wide, high = [0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 1.0, 0.5]
    >>> float(area(disjoint(np.array([wide, high]))).sum())
    0.75
    >>> disjoint(np.array([wide])).tolist()
    [[0.0, 0.0, 0.5, 1.0]]
  """
  boxes = np.asarray(boxes, np.float64)
  apart = np.zeros((0, 4))
  for box in boxes[area(boxes) > 0]:
    pieces = [box]
    for other in apart:
      pieces = [rest for piece in pieces for rest in _without(piece, other)]
    apart = np.concatenate([apart, *(piece[None] for piece in pieces)])
  return apart


def _without(box, other) -> list[Float[np.ndarray, '4']]:
  """Up to four boxes that cover what of `box` lies outside `other`."""
  ymin, xmin, ymax, xmax = box
  top, left = np.maximum(box[:2], other[:2])
  bottom, right = np.minimum(box[2:], other[2:])
  if top >= bottom or left >= right:
    return [box]
  pieces = np.array(
    [
      (ymin, xmin, top, xmax),
      (bottom, xmin, ymax, xmax),
      (top, xmin, bottom, left),
      (top, right, bottom, xmax),
    ]
  )
  return list(pieces[area(pieces) > 0])


# Boxes on a pixel grid.


def _cover(start: float, stop: float, size: int) -> Float[np.ndarray, ' s']:
  """The share of each of `size` cells of [0, 1] that [start, stop) covers."""
  edges = np.arange(size + 1) / size
  inside = np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start)
  return np.maximum(inside, 0.0) * size


def box_cover(
  box: Float[np.ndarray, '4'], shape: tuple[int, int]
) -> Float[np.ndarray, 'h w']:
  """The share of each pixel's area that lies in the box, exactly.

  Examples:
    >>> box_cover(np.array([0, 0.125, 0.5, 0.625]), (2, 4)).tolist()
    [[0.5, 1.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]]
  """
  ymin, xmin, ymax, xmax = box
  return np.outer(_cover(ymin, ymax, shape[0]), _cover(xmin, xmax, shape[1]))


def sum_in_box(
  values: Float[np.ndarray, 'h w'] | Bool[np.ndarray, 'h w'],
  box: Float[np.ndarray, '4'],
) -> float:
  """sum(values * box_cover), at the cost of the box's pixels alone.

  Examples:
    >>> sum_in_box(np.ones((2, 4)), np.array([0, 0.125, 0.5, 0.625]))
    2.0
  """
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

  A box of positive area that holds no centre is the one pixel in which its own
  centre lies, so that a lesion smaller than a pixel can be hit.

  Examples:
    >>> box_mask(np.array([0, 0.1, 0.5, 0.6]), (2, 4)).tolist()
    [[True, True, False, False], [False, False, False, False]]
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
