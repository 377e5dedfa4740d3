"""Rules that choose the levels at which a heat map is cut into boxes."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from cxr.localization import overlap, regions

# Levels searched by 'tuned' and 'oracle', as fractions of a map's range.
FRACTIONS = np.linspace(0.05, 0.95, 19)


def fraction_to_level(
  heatmap: Float[np.ndarray, 'h w'], fraction: float
) -> float:
  """A fraction of the map's range as a value of the map."""
  heatmap = regions.clean(heatmap)
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
  return (float(np.percentile(regions.clean(heatmap), percentile)),)


def otsu_levels(
  heatmap: Float[np.ndarray, 'h w'], *, num_bins: int = 256
) -> tuple[float, ...]:
  """Otsu 1979: the level with the largest variance between its two sides."""
  heatmap = regions.clean(heatmap)
  if heatmap.max() == heatmap.min():
    return (float(heatmap.max()),)
  scaled = regions.scale_255(heatmap).ravel() * (num_bins / 255.0)
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
  heatmap = regions.clean(heatmap)
  low, high = heatmap.min(), heatmap.max()
  best = np.zeros(len(fractions))
  for i, fraction in enumerate(fractions):
    boxes = regions.mask_to_boxes(heatmap > low + (high - low) * fraction)
    best[i] = overlap.iou(boxes, truth).max(initial=0.0)
  return best


def make_iou_table(
  heatmaps: regions.Heatmaps, truth: Float[np.ndarray, 'n 4']
) -> Float[np.ndarray, 'n l']:
  """`iou_by_fraction` per film; NaN rows for films without a box."""
  table = np.full((len(truth), len(FRACTIONS)), np.nan)
  for i in np.flatnonzero(overlap.has_box(truth)):
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
  heatmaps: regions.Heatmaps,
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


def main_rule(rules: Sequence[str]) -> str:
  """The rule that stands for the others: Wang's, else the first result."""
  results = [rule for rule in rules if rule != 'oracle']
  return 'wang' if 'wang' in results else results[0]
