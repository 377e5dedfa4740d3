"""From a heat map to boxes, and from boxes to scores, on the host in float64.

Contract. Boxes are (ymin, xmin, ymax, xmax) in [0, 1], half-open; pixel
(i, j) of an 'h w' map covers [i/h, (i+1)/h) x [j/w, (j+1)/w). Maps are signed
and unscaled. A pixel is inside at a level if its value is strictly ABOVE the
level. Degenerate maps have defined results and are never dropped:

* NaN and infinite pixels count as the map's lowest finite value; a map without
  a finite pixel, or without a pixel, counts as constant;
* a constant map has no box under any rule: IoU, IoBB, IoR and mask IoU are 0,
  its AUROC is 1/2, its pointing game the share of the film the box takes up;
* an all-negative map has boxes (rules are relative to its range), energy 0;
* a box of zero area overlaps nothing: every score 0, AUROC NaN (undefined, as
  for a box that holds every pixel);
* a film without a box of the finding: every score NaN, boxes kept (they count
  as false positives).
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
  """The map in float64 with every pixel finite (rules above)."""
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
  """Min-max scaling to [0, 255], as Wang et al. 2017; a constant map is 0."""
  heatmap = clean(heatmap)
  low, high = heatmap.min(), heatmap.max()
  if high == low:
    return np.zeros_like(heatmap)
  return (heatmap - low) / (high - low) * 255.0


# Boxes.


def mask_to_boxes(mask: Bool[np.ndarray, 'h w']) -> Float[np.ndarray, 'n 4']:
  """The bounding box of each 8-connected region, in reading order."""
  height, width = mask.shape
  regions, _ = ndimage.label(mask, structure=EIGHT_NEIGHBOURS)
  boxes = [
    (y.start / height, x.start / width, y.stop / height, x.stop / width)
    for y, x in ndimage.find_objects(regions)
  ]
  return np.array(boxes, np.float64).reshape(-1, 4)


def heatmap_to_boxes(
  heatmap: Float[np.ndarray, 'h w'], *, threshold: float
) -> Float[np.ndarray, 'n 4']:
  """A box around each 8-connected region of pixels above the threshold."""
  return mask_to_boxes(clean(heatmap) > threshold)


def levels_to_boxes(
  heatmap: Float[np.ndarray, 'h w'], levels: Sequence[float]
) -> Float[np.ndarray, 'n 4']:
  """The boxes of all levels together (Wang et al. 2017 use two)."""
  heatmap = clean(heatmap)
  boxes = [mask_to_boxes(heatmap > level) for level in levels]
  return np.concatenate([np.zeros((0, 4)), *boxes])
