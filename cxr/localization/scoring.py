"""What a heat map, or its boxes, score against a true box."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from cxr.localization import overlap, regions, thresholds


def mask_overlap(
  mask: Bool[np.ndarray, 'h w'], box: Float[np.ndarray, '4']
) -> tuple[float, float]:
  """(IoR, mask IoU), by exact area: |mask ∩ box| over |mask|, over |union|."""
  inside = overlap.sum_in_box(mask, box)
  pixels = float(np.count_nonzero(mask))
  union = pixels + float(overlap.area(box)) * mask.size - inside
  return inside / pixels if pixels else 0.0, inside / union if union else 0.0


def ior(mask: Bool[np.ndarray, 'h w'], box: Float[np.ndarray, '4']) -> float:
  """|mask ∩ box| / |mask|; 0 for an empty mask."""
  return mask_overlap(mask, box)[0]


def mask_iou(
  mask: Bool[np.ndarray, 'h w'], box: Float[np.ndarray, '4']
) -> float:
  """|mask ∩ box| / |mask ∪ box|; 0 if both are empty."""
  return mask_overlap(mask, box)[1]


def pointing(
  heatmap: Float[np.ndarray, 'h w'],
  box: Float[np.ndarray, '4'],
  *,
  tolerance: float = 0.0,
) -> float:
  """Pointing game (Zhang et al. 2018): is the map's highest pixel in the box?

  Pixels that tie for the highest count in equal shares, the expectation of
  a random choice among them. The box is grown by `tolerance`, in shares of
  the film's sides, in every direction.
  """
  heatmap = regions.clean(heatmap)
  if overlap.area(box) <= 0:
    return 0.0
  grown = np.asarray(box, np.float64) + tolerance * np.array([-1, -1, 1, 1])
  peak = heatmap == heatmap.max()
  return float(np.mean(overlap.box_mask(grown, heatmap.shape)[peak]))


def energy(
  heatmap: Float[np.ndarray, 'h w'], box: Float[np.ndarray, '4']
) -> float:
  """The share of the positive attribution that lies in the box (energy-based
  pointing game, Wang H. et al. 2020); 0 for a map with none."""
  positive = np.maximum(regions.clean(heatmap), 0.0)
  peak = positive.max()
  if peak == 0:
    return 0.0
  positive = positive / peak  # Sums of tiny values would underflow.
  return overlap.sum_in_box(positive, box) / float(positive.sum())


def map_auroc(
  heatmap: Float[np.ndarray, 'h w'], box: Float[np.ndarray, '4']
) -> float:
  """AUROC of the pixels' values for being in the box; ties count half.

  NaN where the box holds no pixel or all pixels.
  """
  heatmap = regions.clean(heatmap)
  inside = heatmap[overlap.box_mask(box, heatmap.shape)]
  positives, negatives = inside.size, heatmap.size - inside.size
  if not positives or not negatives:
    return math.nan
  # Sorted queries keep the binary searches in cache.
  values, inside = np.sort(heatmap, axis=None), np.sort(inside)
  below = np.searchsorted(values, inside, 'left')
  up_to = np.searchsorted(values, inside, 'right')
  midranks = (below + up_to + 1) / 2
  return float(
    (midranks.sum() - positives * (positives + 1) / 2) / (positives * negatives)
  )


BOX_SCORES = ('iou', 'iobb', 'ior', 'mask_iou')


MAP_SCORES = ('pointing', 'energy', 'map_auroc')


SCORES = BOX_SCORES + MAP_SCORES


def map_scores(
  heatmap: Float[np.ndarray, 'h w'], truth: Float[np.ndarray, '4'] | None
) -> dict[str, float]:
  """The scores that need no level; NaN for a film without a box."""
  if truth is None:
    return dict.fromkeys(MAP_SCORES, math.nan)
  heatmap = regions.clean(heatmap)
  return {
    'pointing': pointing(heatmap, truth),
    'energy': energy(heatmap, truth),
    'map_auroc': map_auroc(heatmap, truth),
  }


def score_map(
  heatmap: Float[np.ndarray, 'h w'],
  truth: Float[np.ndarray, '4'] | None,
  boxes: Float[np.ndarray, 'n 4'],
  *,
  level: float,
  of_map: dict[str, float] | None = None,
) -> dict:
  """The columns truth, boxes and SCORES of boxes.csv for one film and finding.

  Args:
    heatmap: the signed map.
    truth: the finding's box, None where the film has none.
    boxes: predicted, of all the rule's levels.
    level: the one whose mask gives IoR and mask IoU (a rule's lowest).
    of_map: `map_scores` of this map, if known: they are the same for each rule.

  iou and iobb are those of the best predicted box, 0 where there is none.
  """
  boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
  row = {'truth': truth, 'boxes': boxes}
  if truth is None:
    row |= dict.fromkeys(BOX_SCORES, math.nan)
  else:
    ior_, mask_iou_ = mask_overlap(regions.clean(heatmap) > level, truth)
    row |= {
      'iou': float(overlap.iou(boxes, truth).max(initial=0.0)),
      'iobb': float(overlap.iobb(boxes, truth).max(initial=0.0)),
      'ior': ior_,
      'mask_iou': mask_iou_,
    }
  return row | (map_scores(heatmap, truth) if of_map is None else of_map)


def score_finding(
  heatmaps: regions.Heatmaps,
  truth: Float[np.ndarray, 'n 4'],
  patient: Int[np.ndarray, ' n'],
  *,
  rules: Sequence[str] = ('wang',),
  seed: int = 0,
) -> dict[str, list[dict]]:
  """Rule -> a `score_map` row per film, for all films of one finding."""
  truths = [
    box if boxed else None
    for box, boxed in zip(truth, overlap.has_box(truth), strict=True)
  ]
  of_maps = [map_scores(*pair) for pair in zip(heatmaps, truths, strict=True)]
  table = None
  if set(rules) & set(thresholds.CROSS_FITTED_RULES):
    table = thresholds.make_iou_table(heatmaps, truth)
  rows = {}
  for rule in rules:
    levels = thresholds.finding_levels(
      rule, heatmaps, truth, patient, iou_table=table, seed=seed
    )
    rows[rule] = [
      score_map(
        heatmap,
        box,
        regions.levels_to_boxes(heatmap, of_rule),
        level=min(of_rule),
        of_map=of_map,
      )
      for heatmap, box, of_rule, of_map in zip(
        heatmaps, truths, levels, of_maps, strict=True
      )
    ]
  return rows
