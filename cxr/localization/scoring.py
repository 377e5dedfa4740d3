"""What a heat map, and the boxes made of it, score against the true regions.

Contract. Heat maps and boxes are as in `regions` and `overlap`. `truth` is the
finding's box on the film, or its boxes, one a row, where rows of NaN are none;
or it is a mask, the pixels of the finding on the grid of the map. IoU and IoBB
are of each true box; all other scores are of the union of the film's true
boxes, by exact area, or of its mask, by pixels. A film with a mask has true
boxes as well, for IoU and IoBB.
Every score lies in [0, 1], and odd maps and boxes have a defined score; none is
dropped:

* a constant map has no box: IoU, IoBB, IoR and mask IoU are 0; its AUROC is
  1/2, its pointing game and its average precision are the share of the film
  that the true box takes up;
* an all-negative map has energy 0;
* a true box of zero area is never hit: every score is 0, but AUROC and average
  precision are NaN; AUROC is NaN, too, where the box holds every pixel;
* on a film without a true region every score is NaN; its predicted boxes are
  kept, since they count as false positives.
"""

import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from cxr.localization import overlap, regions, thresholds

BOX_SCORES = ('iou', 'iobb', 'ior', 'mask_iou')
MAP_SCORES = ('pointing', 'energy', 'map_auroc', 'map_ap')
SCORES = BOX_SCORES + MAP_SCORES

Mask = Bool[np.ndarray, 'h w']
Truth = Float[np.ndarray, '*t 4'] | Mask


class Scored(NamedTuple):
  """What the maps of one finding score under one rule, by column.

  A map has a row for each true box of its film, and one where there is none.
  The predicted boxes of all rows stand in one array, row after row; `count`
  says how many of them are each row's. All rows of a map have the same ones.
  """

  index: Int[np.ndarray, ' n']  # of the row's map
  truth: Float[np.ndarray, 'n 4']  # NaN where the film has no true box
  count: Int[np.ndarray, ' n']
  box: Float[np.ndarray, 'b 4']
  score: Float[np.ndarray, 'n s']  # in the order of SCORES
  masked: Bool[np.ndarray, ' n']  # the scores of the union are of a mask

  def column(self, name: str) -> Float[np.ndarray, ' n']:
    """One of SCORES of every row."""
    return self.score[:, SCORES.index(name)]


def _boxes(truth) -> Float[np.ndarray, 't 4']:
  """The true boxes that have an area, one a row."""
  truth = np.asarray(truth, np.float64).reshape(-1, 4)
  return truth[overlap.area(truth) > 0]


def true_pixels(
  truth: Truth, shape: tuple[int, int], *, tolerance: float = 0.0
) -> Mask:
  """The pixels of the truth: its mask, or the centres that lie in some box.

  The truth is grown on every side by `tolerance`, in shares of the film's
  sides; a mask by the nearest number of whole pixels.

  Examples:
    >>> true_pixels(np.array([[0, 0, 1, 0.5]]), (1, 4)).tolist()
    [[True, True, False, False]]
    >>> lesion = np.array([[True, False, False, False]])
    >>> true_pixels(lesion, (1, 4), tolerance=0.25).tolist()
    [[True, True, False, False]]
  """
  if truth.dtype == bool:
    sides = [2 * round(tolerance * side) + 1 for side in shape]
    return ndimage.maximum_filter(truth, sides) if tolerance else truth
  mask = np.zeros(shape, bool)
  for box in _boxes(truth) + tolerance * np.array([-1, -1, 1, 1]):
    mask |= overlap.box_mask(box, shape)
  return mask


def _sum_inside(values, truth) -> float:
  """The sum of the values over the mask, or over the union of the true boxes
  by exact area."""
  if truth.dtype == bool:
    return float(values[truth].sum())
  pieces = overlap.disjoint(_boxes(truth))
  return sum((overlap.sum_in_box(values, piece) for piece in pieces), 0.0)


# Scores of a map itself.


def pointing(
  heatmap: Float[np.ndarray, 'h w'], truth: Truth, *, tolerance: float = 0.0
) -> float:
  """The pointing game (Zhang et al. 2018): is the highest pixel in the truth?

  Pixels that tie for the highest count in equal shares, as if one of them were
  chosen at random. The truth is grown by `tolerance`; see `true_pixels`.

  Examples:
    >>> heatmap, left = np.array([[1.0, 5, 2, 5]]), np.array([0, 0, 1, 0.5])
    >>> pointing(heatmap, left), pointing(heatmap, left, tolerance=0.5)
    (0.5, 1.0)
    >>> pointing(heatmap, np.array([[False, True, True, False]]))
    0.5
  """
  heatmap = regions.clean(heatmap)
  peak = heatmap == heatmap.max()
  inside = true_pixels(truth, heatmap.shape, tolerance=tolerance)
  return float(np.mean(inside[peak]))


def energy(heatmap: Float[np.ndarray, 'h w'], truth: Truth) -> float:
  """The share of the positive values that lies in the true boxes or the mask.

  This is the energy-based pointing game (Wang H. et al. 2020, Score-CAM); 0 for
  a map without a positive value.

  Examples:
    >>> energy(np.array([[3.0, -9.0, 1.0, 0.0]]), np.array([0, 0, 1, 0.5]))
    0.75
  """
  positive = np.maximum(regions.clean(heatmap), 0.0)
  peak = positive.max()
  if peak == 0:
    return 0.0
  positive = positive / peak  # Sums of tiny values would underflow.
  return _sum_inside(positive, truth) / float(positive.sum())


def map_auroc(heatmap: Float[np.ndarray, 'h w'], truth: Truth) -> float:
  """The AUROC of the pixels' values for being in the truth; ties count half.

  NaN where the truth holds no pixel or all pixels.

  Examples:
    >>> map_auroc(np.array([[3.0, 1.0, 2.0, 0.0]]), np.array([0, 0, 1, 0.5]))
    0.75
  """
  values, inside = _sorted_values(heatmap, truth)
  positives, negatives = inside.size, values.size - inside.size
  if not positives or not negatives:
    return math.nan
  below = np.searchsorted(values, inside, 'left')
  up_to = np.searchsorted(values, inside, 'right')
  midranks = (below + up_to + 1) / 2
  return float(
    (midranks.sum() - positives * (positives + 1) / 2) / (positives * negatives)
  )


def _sorted_values(heatmap, truth):
  """The values of all pixels and of those in the truth, each sorted."""
  heatmap = regions.clean(heatmap)
  inside = heatmap[true_pixels(truth, heatmap.shape)]
  # Sorted queries keep the binary searches in cache.
  return np.sort(heatmap, axis=None), np.sort(inside)


def map_average_precision(
  heatmap: Float[np.ndarray, 'h w'], truth: Truth
) -> float:
  """The average precision of the pixels' values for being in the truth.

  Going down the levels of the map, it is the mean precision at the true pixels:
  sum over levels of (recall gained) * precision, without interpolation. It is
  what Arun et al. 2021 (Radiology: Artificial Intelligence 3, e200267) call the
  AUPRC of a map. Unlike AUROC it asks how much of the hottest part is true; a
  map without information has the share of the film that is true.

  NaN where the truth holds no pixel.

  Examples:
    >>> left = np.array([0, 0, 1, 0.5])
    >>> heatmap = np.array([[3.0, 1.0, 2.0, 0.0]])
    >>> round(map_average_precision(heatmap, left), 4)  # (1/1 + 2/3) / 2
    0.8333
  """
  values, inside = _sorted_values(heatmap, truth)
  if not inside.size:
    return math.nan
  at_least = values.size - np.searchsorted(values, inside, 'left')
  true_at_least = inside.size - np.searchsorted(inside, inside, 'left')
  return float(np.mean(true_at_least / at_least))


def map_scores(
  heatmap: Float[np.ndarray, 'h w'], truth: Truth
) -> Float[np.ndarray, ' s']:
  """MAP_SCORES, which need no level; NaN without a true region.

  Examples:
    >>> left = np.array([0, 0, 1, 0.5])
    >>> map_scores(np.array([[3.0, -9.0, 1.0, 0.0]]), left).tolist()
    [1.0, 0.75, 0.5, 0.75]
  """
  regions_of_truth = truth if truth.dtype == bool else overlap.has_box(truth)
  if not regions_of_truth.any():
    return np.full(len(MAP_SCORES), np.nan)
  heatmap = regions.clean(heatmap)
  functions = pointing, energy, map_auroc, map_average_precision
  return np.fromiter((f(heatmap, truth) for f in functions), np.float64)


# Scores of a map cut at a level.


def mask_scores(mask: Mask, truth: Truth) -> tuple[float, float]:
  """IoR and mask IoU of the pixels above a level.

  Intersection over region is the share of the mask that lies in the truth; mask
  IoU is the intersection of mask and truth over their union, which of a true
  mask is the IoU of Saporta et al. 2022. 0 for an empty mask.

  Args:
    mask: the pixels above the level.
    truth: true boxes, counted by exact area, or a true mask, by pixels.

  Returns:
    (IoR, mask IoU).

  Examples:
    >>> mask = np.array([[False, True, True, True]])
    >>> mask_scores(mask, np.array([0, 0.5, 1, 1])) == (2 / 3, 2 / 3)
    True
    >>> mask_scores(mask, np.array([[True, True, False, False]]))
    (0.3333333333333333, 0.25)
  """
  inside = _sum_inside(mask, truth)
  pixels = float(np.count_nonzero(mask))
  if truth.dtype == bool:
    true_size = float(np.count_nonzero(truth))
  else:
    true_area = overlap.area(overlap.disjoint(_boxes(truth))).sum()
    true_size = float(true_area) * mask.size
  union = pixels + true_size - inside
  return inside / pixels if pixels else 0.0, inside / union if union else 0.0


def match_boxes(
  predicted: Float[np.ndarray, 'b 4'],
  truth: Float[np.ndarray, 't 4'],
  overlap_of: Callable = overlap.iou,
) -> tuple[Float[np.ndarray, ' t'], Float[np.ndarray, ' b']]:
  """Matches a film's predicted boxes with its true boxes of a finding.

  With T a threshold, a true box is found if its match is above T, each once; a
  predicted box is a false positive if its own match is not.

  Args:
    predicted: the film's predicted boxes.
    truth: its true boxes; rows of NaN are none.
    overlap_of: `overlap.iou` or `overlap.iobb`.

  Returns:
    (the best overlap of each true box with a predicted box, the best overlap
    of each predicted box with a true box), 0 where there is none to overlap.

  Examples:
    >>> left, right = [0, 0, 1, 0.5], [0, 0.5, 1, 1]
    >>> quarter = [0, 0, 0.5, 0.5]
    >>> predicted = np.array([left, quarter], float)
    >>> of_truth, of_predicted = match_boxes(
    ...   predicted, np.array([left, right], float)
    ... )
    >>> of_truth.tolist(), of_predicted.tolist()
    ([1.0, 0.0], [1.0, 0.5])
  """
  truth = np.nan_to_num(truth)  # a box of no area overlaps nothing
  table = overlap_of(predicted[:, None], truth[None])
  return table.max(axis=0, initial=0.0), table.max(axis=1, initial=0.0)


def box_scores(
  mask: Bool[np.ndarray, 'h w'],
  boxes: Float[np.ndarray, 'b 4'],
  truth: Float[np.ndarray, 't 4'],
  true_mask: Mask | None = None,
) -> Float[np.ndarray, 't s']:
  """BOX_SCORES of a map cut into boxes, for each true box.

  Args:
    mask: the pixels above the rule's lowest level.
    boxes: predicted, of all levels of the rule.
    truth: the film's true boxes.
    true_mask: the film's true mask, where it has one.

  Returns:
    IoU and IoBB of the predicted box that is best for each true box (0 where
    there is none), IoR and mask IoU of the mask and the true mask, or the union
    of true boxes.

  Examples:
    >>> mask, truth = np.array([[False, True]]), np.array([[0, 0.5, 1, 1]])
    >>> box_scores(mask, np.array([[0.0, 0, 1, 1]]), truth).tolist()
    [[0.5, 0.5, 1.0, 1.0]]
  """
  scores = np.empty((len(truth), len(BOX_SCORES)))
  for i, overlap_of in enumerate((overlap.iou, overlap.iobb)):
    scores[:, i] = match_boxes(boxes, truth, overlap_of)[0]
  scores[:, 2:] = mask_scores(mask, truth if true_mask is None else true_mask)
  return scores


def score_finding(
  heatmaps: regions.Heatmaps,
  truth: Float[np.ndarray, 'n *t 4'],
  patient: Int[np.ndarray, ' n'],
  *,
  masks: Mapping[int, Mask] = types.MappingProxyType({}),
  rules: Sequence[str] = ('wang',),
  seed: int = 0,
) -> dict[str, Scored]:
  """Scores the maps of all films of one finding under each rule.

  Args:
    heatmaps: the finding's map of each film.
    truth: its true boxes, one ('n 4') or several ('n t 4'); rows of NaN are
      none.
    patient: each film's patient; cross-fitted rules keep his films together.
    masks: by the film's index the finding's mask, for the scores of the union
      of a film whose true region was drawn pixel by pixel. Such a film has true
      boxes in `truth` as well.
    rules: names in `thresholds.RULES` or `thresholds.CROSS_FITTED_RULES`.
    seed: of the folds of cross-fitted rules.

  Examples:
    >>> heatmaps, truth = np.array([[[0.0, 1.0]]]), np.array([[0, 0.5, 1, 1]])
    >>> scored = score_finding(heatmaps, truth, np.array([7]))['wang']
    >>> scored.count.tolist(), scored.column('iou').tolist()
    ([2], [1.0])
  """
  true_boxes = [np.reshape(boxes, (-1, 4)) for boxes in truth]
  true_boxes = [boxes[overlap.has_box(boxes)] for boxes in true_boxes]
  of_maps = [
    map_scores(heatmap, masks.get(i, boxes))
    for i, (heatmap, boxes) in enumerate(zip(heatmaps, true_boxes, strict=True))
  ]
  num_boxes = np.array([len(boxes) for boxes in true_boxes], np.int64)
  index = np.repeat(np.arange(len(num_boxes)), np.maximum(num_boxes, 1))
  boxed = num_boxes[index] > 0
  truth_of_row = np.full((len(index), 4), np.nan)
  truth_of_row[boxed] = np.concatenate([np.zeros((0, 4)), *true_boxes])
  iou_table = None
  if set(rules) & set(thresholds.CROSS_FITTED_RULES):
    iou_table = thresholds.make_iou_table(heatmaps, truth)
  scored = {}
  for rule in rules:
    levels = thresholds.finding_levels(
      rule, heatmaps, truth, patient, iou_table=iou_table, seed=seed
    )
    boxes = [
      regions.levels_to_boxes(*pair)
      for pair in zip(heatmaps, levels, strict=True)
    ]
    score = np.full((len(index), len(SCORES)), np.nan)
    of_boxes = [
      box_scores(
        regions.clean(heatmap) > min(of_map), *boxes_and_truth, masks.get(i)
      )
      for i, (heatmap, of_map, *boxes_and_truth) in enumerate(
        zip(heatmaps, levels, boxes, true_boxes, strict=True)
      )
    ]
    num_box_scores = len(BOX_SCORES)
    score[boxed, :num_box_scores] = np.concatenate(
      [np.zeros((0, num_box_scores)), *of_boxes]
    )
    score[:, num_box_scores:] = np.reshape(of_maps, (-1, len(MAP_SCORES)))[
      index
    ]
    scored[rule] = Scored(
      index=index,
      truth=truth_of_row,
      count=np.array([len(boxes[i]) for i in index], np.int64),
      box=np.concatenate([np.zeros((0, 4)), *(boxes[i] for i in index)]),
      score=score,
      masked=np.isin(index, list(masks)),
    )
  return scored
