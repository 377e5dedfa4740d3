"""From a heat map to boxes: the regions above a level, each with its box.

Contract. A heat map 'h w' is one film's and one finding's, signed and unscaled;
boxes are as in `overlap`. A pixel belongs to a region if its value lies
strictly ABOVE the level. NaN and infinite pixels count as the map's lowest
finite value; a map without a finite pixel, or without a pixel, counts as
constant. A constant map has no box under any rule; an all-negative map has
boxes, since rules are relative to its range.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

# Diagonal neighbours belong to one region.
EIGHT_NEIGHBOURS = np.ones((3, 3), bool)
# The constant map that stands for one without pixels.
EMPTY_SHAPE = (64, 64)

Heatmaps = Float[np.ndarray, 'n h w'] | Sequence[Float[np.ndarray, '_ _']]


def clean(heatmap: Float[np.ndarray, '...']) -> Float[np.ndarray, 'u v']:
  """The map in float64 with every pixel finite, as the module's top says.

  Raises:
    ValueError: the map has not two axes.

  Examples:
    >>> clean(np.array([[1.0, np.nan], [2.0, np.inf]])).tolist()
    [[1.0, 1.0], [2.0, 1.0]]
  """
  heatmap = np.asarray(heatmap, np.float64)
  if heatmap.ndim != 2:
    raise ValueError(
      f'A heat map has shape (h, w), not {heatmap.shape}; give one film and '
      'one finding at a time.'
    )
  if not heatmap.size:
    return np.zeros(EMPTY_SHAPE)
  if np.isfinite(heatmap.sum()):  # The cheap test: this runs for every score.
    return heatmap
  finite = np.isfinite(heatmap)
  lowest = heatmap[finite].min() if finite.any() else 0.0
  return np.where(finite, heatmap, lowest)


def scale_255(heatmap: Float[np.ndarray, 'h w']) -> Float[np.ndarray, 'u v']:
  """The map scaled to [0, 255] by its range (Wang et al. 2017).

  A constant map is 0.

  Examples:
    >>> scale_255(np.array([[-1.0, 0.0, 1.0]])).tolist()
    [[0.0, 127.5, 255.0]]
  """
  heatmap = clean(heatmap)
  low, high = heatmap.min(), heatmap.max()
  if high == low:
    return np.zeros_like(heatmap)
  return (heatmap - low) / (high - low) * 255.0


def mask_to_boxes(mask: Bool[np.ndarray, 'h w']) -> Float[np.ndarray, 'b 4']:
  """The bounding box of each 8-connected region, in reading order.

  Examples:
    >>> mask_to_boxes(np.array([[True, False, True, True]])).tolist()
    [[0.0, 0.0, 1.0, 0.25], [0.0, 0.5, 1.0, 1.0]]
  """
  height, width = mask.shape
  labels, _ = ndimage.label(mask, structure=EIGHT_NEIGHBOURS)
  boxes = [
    (y.start / height, x.start / width, y.stop / height, x.stop / width)
    for y, x in ndimage.find_objects(labels)
  ]
  return np.array(boxes, np.float64).reshape(-1, 4)


def masks_to_boxes(
  masks: Sequence[Bool[np.ndarray, 'h w']],
) -> Float[np.ndarray, 'b 4']:
  """The boxes of every mask, one mask after the other; equal boxes once.

  Examples:
    >>> left = np.array([[True, False]])
    >>> masks_to_boxes([left, ~left, left]).tolist()
    [[0.0, 0.0, 1.0, 0.5], [0.0, 0.5, 1.0, 1.0]]
  """
  boxes = np.concatenate([mask_to_boxes(mask) for mask in masks])
  _, first = np.unique(boxes, axis=0, return_index=True)
  return boxes[np.sort(first)]


def levels_to_boxes(
  heatmap: Float[np.ndarray, 'h w'], levels: Sequence[float]
) -> Float[np.ndarray, 'b 4']:
  """The boxes at every level, one level after the other.

  Wang et al. 2017 take the boxes of two levels together.

  Examples:
    >>> levels_to_boxes(np.array([[0.0, 1, 2, 1]]), (0.5, 1.5)).tolist()
    [[0.0, 0.25, 1.0, 1.0], [0.0, 0.5, 1.0, 0.75]]
  """
  heatmap = clean(heatmap)
  boxes = [mask_to_boxes(heatmap > level) for level in levels]
  return np.concatenate([np.zeros((0, 4)), *boxes])
