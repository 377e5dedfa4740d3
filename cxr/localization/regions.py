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

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

# Diagonal neighbours belong to one region.
EIGHT_NEIGHBOURS = np.ones((3, 3), bool)
# The constant map that stands for one without pixels.
EMPTY_SHAPE = (64, 64)
# Levels searched by 'tuned' and 'oracle', as fractions of a map's range.
FRACTIONS = np.linspace(0.05, 0.95, 19)

Heatmaps = Float[np.ndarray, 'n h w'] | Sequence[Float[np.ndarray, '_ _']]
# A numpy scalar where no axis is left.
PerBox = Float[np.ndarray, '...'] | np.floating


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


def _share(part, whole):
  """part / whole, 0 where the whole is 0."""
  return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def iou(a: Float[np.ndarray, '*#n 4'], b: Float[np.ndarray, '*#n 4']) -> PerBox:
  """Intersection over union of two boxes, broadcast; 0 if both are empty."""
  overlap = intersection(a, b)
  return _share(overlap, np.asarray(area(a) + area(b) - overlap))


def iobb(
  predicted: Float[np.ndarray, '*#n 4'], truth: Float[np.ndarray, '*#n 4']
) -> PerBox:
  """Intersection over the PREDICTED box's area (Wang et al. 2017)."""
  overlap = intersection(predicted, truth)
  return _share(overlap, area(predicted) + np.zeros_like(overlap))


# A box on the pixel grid.


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


def _sum_in_box(values, box) -> float:
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


# Scores of one map, or of its mask at one level, against one box.


def mask_overlap(
  mask: Bool[np.ndarray, 'h w'], box: Float[np.ndarray, '4']
) -> tuple[float, float]:
  """(IoR, mask IoU), by exact area: |mask ∩ box| over |mask|, over |union|."""
  inside = _sum_in_box(mask, box)
  pixels = float(np.count_nonzero(mask))
  union = pixels + float(area(box)) * mask.size - inside
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
  heatmap = clean(heatmap)
  if area(box) <= 0:
    return 0.0
  grown = np.asarray(box, np.float64) + tolerance * np.array([-1, -1, 1, 1])
  peak = heatmap == heatmap.max()
  return float(np.mean(box_mask(grown, heatmap.shape)[peak]))


def energy(
  heatmap: Float[np.ndarray, 'h w'], box: Float[np.ndarray, '4']
) -> float:
  """The share of the positive attribution that lies in the box (energy-based
  pointing game, Wang H. et al. 2020); 0 for a map with none."""
  positive = np.maximum(clean(heatmap), 0.0)
  peak = positive.max()
  if peak == 0:
    return 0.0
  positive = positive / peak  # Sums of tiny values would underflow.
  return _sum_in_box(positive, box) / float(positive.sum())


def map_auroc(
  heatmap: Float[np.ndarray, 'h w'], box: Float[np.ndarray, '4']
) -> float:
  """AUROC of the pixels' values for being in the box; ties count half.

  NaN where the box holds no pixel or all pixels.
  """
  heatmap = clean(heatmap)
  inside = heatmap[box_mask(box, heatmap.shape)]
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


# Threshold rules: map -> levels, in the map's own units.


def fraction_to_level(
  heatmap: Float[np.ndarray, 'h w'], fraction: float
) -> float:
  """A fraction of the map's range as a value of the map."""
  heatmap = clean(heatmap)
  low, high = float(heatmap.min()), float(heatmap.max())
  return low + (high - low) * fraction


def wang_levels(heatmap: Float[np.ndarray, 'h w']) -> tuple[float, ...]:
  """60 and 180 of 255 after min-max scaling (Wang et al. 2017)."""
  return tuple(fraction_to_level(heatmap, n / 255) for n in (60, 180))


def fixed_levels(
  heatmap: Float[np.ndarray, 'h w'], *, fraction: float = 0.5
) -> tuple[float, ...]:
  """A fixed fraction of the map's range."""
  return (fraction_to_level(heatmap, fraction),)


def percentile_levels(
  heatmap: Float[np.ndarray, 'h w'], *, percentile: float = 90.0
) -> tuple[float, ...]:
  """The level that `percentile` per cent of the pixels do not exceed."""
  return (float(np.percentile(clean(heatmap), percentile)),)


def otsu_levels(
  heatmap: Float[np.ndarray, 'h w'], *, num_bins: int = 256
) -> tuple[float, ...]:
  """Otsu 1979: the level with the largest variance between its two sides."""
  heatmap = clean(heatmap)
  if heatmap.max() == heatmap.min():
    return (float(heatmap.max()),)
  scaled = scale_255(heatmap).ravel() * (num_bins / 255.0)
  index = np.minimum(scaled.astype(np.int64), num_bins - 1)
  count = np.bincount(index, minlength=num_bins)
  edges = np.arange(num_bins + 1) / num_bins
  centre = (edges[:-1] + edges[1:]) / 2
  lower, weighted = np.cumsum(count)[:-1], np.cumsum(count * centre)[:-1]
  total, whole = count.sum(), (count * centre).sum()
  # Neither side is ever empty: the extremes lie in the first and last bin.
  between = (whole * lower - weighted * total) ** 2 / (lower * (total - lower))
  # A gap in the histogram ties all its edges; the middle one is taken.
  best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
  return (fraction_to_level(heatmap, edges[1:-1][best[len(best) // 2]]),)


RULES: dict[str, Callable[..., tuple[float, ...]]] = {
  'wang': wang_levels,
  'fixed': fixed_levels,
  'percentile': percentile_levels,
  'otsu': otsu_levels,
}
# These two need the boxes of the finding's other films: `finding_levels`.
CROSS_FITTED_RULES = ('tuned', 'oracle')


def iou_by_fraction(
  heatmap: Float[np.ndarray, 'h w'],
  truth: Float[np.ndarray, '4'],
  *,
  fractions: Sequence[float] | Float[np.ndarray, ' l'] = FRACTIONS,
) -> Float[np.ndarray, ' l']:
  """The best box's IoU at each level."""
  heatmap = clean(heatmap)
  low, high = heatmap.min(), heatmap.max()
  best = np.zeros(len(fractions))
  for i, fraction in enumerate(fractions):
    boxes = mask_to_boxes(heatmap > low + (high - low) * fraction)
    best[i] = iou(boxes, truth).max(initial=0.0)
  return best


def has_box(truth: Float[np.ndarray, 'n 4']) -> Bool[np.ndarray, ' n']:
  """A row of NaN stands for a film without a box of the finding."""
  return ~np.isnan(truth).any(axis=-1)


def make_iou_table(
  heatmaps: Heatmaps, truth: Float[np.ndarray, 'n 4']
) -> Float[np.ndarray, 'n l']:
  """`iou_by_fraction` per film; NaN rows for films without a box."""
  table = np.full((len(truth), len(FRACTIONS)), np.nan)
  for i in np.flatnonzero(has_box(truth)):
    table[i] = iou_by_fraction(heatmaps[i], truth[i])
  return table


def patient_folds(
  patient: Int[np.ndarray, ' n'], *, num_folds: int, seed: int
) -> Int[np.ndarray, ' n']:
  """The fold of each row; a patient's rows share one."""
  _, index = np.unique(patient, return_inverse=True)
  count = index.max(initial=-1) + 1
  shuffled = np.random.default_rng(seed).permutation(count)
  return (shuffled % num_folds)[index]


def tuned_fractions(
  iou_table: Float[np.ndarray, 'n l'],
  patient: Int[np.ndarray, ' n'],
  *,
  fractions: Sequence[float] | Float[np.ndarray, ' l'] = FRACTIONS,
  num_folds: int = 5,
  seed: int = 0,
) -> Float[np.ndarray, ' n']:
  """For each film the level with the best mean IoU on OTHER patients' boxes.

  `iou_table` holds `iou_by_fraction` per film, NaN rows for films without
  a box. Where no other patient has one, the middle level is taken.
  """
  fold = patient_folds(patient, num_folds=num_folds, seed=seed)
  boxed = ~np.isnan(iou_table).any(axis=1)
  tuned = np.full(len(fold), fractions[len(fractions) // 2], np.float64)
  for held_out in range(num_folds):
    others = boxed & (fold != held_out)
    if others.any():
      best = iou_table[others].mean(axis=0).argmax()
      tuned[fold == held_out] = fractions[best]
  return tuned


def max_box_accuracy(
  iou_table: Float[np.ndarray, 'n l'],
  *,
  thresholds: Sequence[float] = (0.3, 0.5, 0.7),
) -> float:
  """MaxBoxAccV2 (Choe et al. 2020): accuracy at each IoU threshold under its
  own best level, averaged over thresholds. NaN without a box."""
  table = iou_table[~np.isnan(iou_table).any(axis=1)]
  if not len(table):
    return math.nan
  return float(np.mean([(table >= t).mean(axis=0).max() for t in thresholds]))


def oracle_fraction(
  iou_table: Float[np.ndarray, 'n l'],
  *,
  fractions: Sequence[float] | Float[np.ndarray, ' l'] = FRACTIONS,
  thresholds: Sequence[float] = (0.3, 0.5, 0.7),
) -> float:
  """The one level with the best mean accuracy on the SCORED boxes themselves.

  An upper bound of what a level can reach, never a result. Equal levels are
  told apart by their mean IoU.
  """
  table = iou_table[~np.isnan(iou_table).any(axis=1)]
  if not len(table):
    return float(fractions[len(fractions) // 2])
  hits = np.mean([(table >= t).mean(axis=0) for t in thresholds], axis=0)
  return float(fractions[np.lexsort((table.mean(axis=0), hits))[-1]])


def finding_levels(
  rule: str,
  heatmaps: Heatmaps,
  truth: Float[np.ndarray, 'n 4'],
  patient: Int[np.ndarray, ' n'],
  *,
  iou_table: Float[np.ndarray, 'n l'] | None = None,
  seed: int = 0,
  **options,
) -> list[tuple[float, ...]]:
  """The levels of every film of one finding.

  Args:
    rule: a name in RULES or CROSS_FITTED_RULES.
    heatmaps: the finding's map of each film.
    truth: its box, NaN where the film has none.
    patient: cross-fitting keeps a patient's films together.
    iou_table: `iou_by_fraction` per film, if known: two rules need it.
    seed: of the assignment of patients to folds.
    **options: of the rule, such as `fraction` or `num_folds`.

  Raises:
    ValueError: unknown rule.
  """
  if rule in RULES:
    return [RULES[rule](heatmap, **options) for heatmap in heatmaps]
  if rule not in CROSS_FITTED_RULES:
    known = ', '.join((*RULES, *CROSS_FITTED_RULES))
    raise ValueError(f'Unknown threshold rule {rule!r}; choose from: {known}.')
  if iou_table is None:
    iou_table = make_iou_table(heatmaps, truth)
  if rule == 'tuned':
    fractions = tuned_fractions(iou_table, patient, seed=seed, **options)
  else:
    fractions = np.full(len(truth), oracle_fraction(iou_table, **options))
  return [
    (fraction_to_level(heatmap, fraction),)
    for heatmap, fraction in zip(heatmaps, fractions, strict=True)
  ]


# One row of boxes.csv.

BOX_SCORES = ('iou', 'iobb', 'ior', 'mask_iou')
MAP_SCORES = ('pointing', 'energy', 'map_auroc')
SCORES = BOX_SCORES + MAP_SCORES


def main_rule(rules: Sequence[str]) -> str:
  """The rule that stands for the others: Wang's, else the first result."""
  results = [rule for rule in rules if rule != 'oracle']
  return 'wang' if 'wang' in results else results[0]


def map_scores(
  heatmap: Float[np.ndarray, 'h w'], truth: Float[np.ndarray, '4'] | None
) -> dict[str, float]:
  """The scores that need no level; NaN for a film without a box."""
  if truth is None:
    return dict.fromkeys(MAP_SCORES, math.nan)
  heatmap = clean(heatmap)
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
    ior_, mask_iou_ = mask_overlap(clean(heatmap) > level, truth)
    row |= {
      'iou': float(iou(boxes, truth).max(initial=0.0)),
      'iobb': float(iobb(boxes, truth).max(initial=0.0)),
      'ior': ior_,
      'mask_iou': mask_iou_,
    }
  return row | (map_scores(heatmap, truth) if of_map is None else of_map)


def score_finding(
  heatmaps: Heatmaps,
  truth: Float[np.ndarray, 'n 4'],
  patient: Int[np.ndarray, ' n'],
  *,
  rules: Sequence[str] = ('wang',),
  seed: int = 0,
) -> dict[str, list[dict]]:
  """Rule -> a `score_map` row per film, for all films of one finding."""
  truths = [
    box if boxed else None
    for box, boxed in zip(truth, has_box(truth), strict=True)
  ]
  of_maps = [map_scores(*pair) for pair in zip(heatmaps, truths, strict=True)]
  table = None
  if set(rules) & set(CROSS_FITTED_RULES):
    table = make_iou_table(heatmaps, truth)
  rows = {}
  for rule in rules:
    levels = finding_levels(
      rule, heatmaps, truth, patient, iou_table=table, seed=seed
    )
    rows[rule] = [
      score_map(
        heatmap,
        box,
        levels_to_boxes(heatmap, of_rule),
        level=min(of_rule),
        of_map=of_map,
      )
      for heatmap, box, of_rule, of_map in zip(
        heatmaps, truths, levels, of_maps, strict=True
      )
    ]
  return rows


# Controls: what a score is worth without looking at the film.


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
  boxed = has_box(truth)
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
