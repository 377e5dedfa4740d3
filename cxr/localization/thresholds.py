"""Rules that choose the levels at which a heat map is cut into boxes.

A level is a value of the map, in the map's own units. The rules of RULES look
at the map alone. Those of CROSS_FITTED_RULES choose one fraction of the map's
range for all maps of a finding, by the IoU of the boxes that it gives: 'tuned'
chooses on OTHER patients' boxes, 'oracle' on the scored boxes themselves, which
makes it an upper bound and never a result.
"""

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float, Int

from cxr.localization import overlap, regions

# What 'tuned' and 'oracle' search, in fractions of a map's range.
FRACTIONS = np.linspace(0.05, 0.95, 19)
MIDDLE = FRACTIONS[len(FRACTIONS) // 2]
NUM_FOLDS = 5
# 'oracle' maximises the mean accuracy at these, as MaxBoxAccV2 does (Choe et
# al. 2020).
ORACLE_IOUS = (0.3, 0.5, 0.7)

Levels = tuple[float, ...]


# Rules that look at the map alone.


def fraction_to_level(
  heatmap: Float[np.ndarray, 'h w'], fraction: float
) -> float:
  """A fraction of the map's range as a value of the map.

  Examples:
    >>> fraction_to_level(np.array([[-1.0, 3.0]]), 0.25)
    0.0
  """
  heatmap = regions.clean(heatmap)
  low, high = float(heatmap.min()), float(heatmap.max())
  return low + (high - low) * float(fraction)


def wang_levels(heatmap: Float[np.ndarray, 'h w']) -> Levels:
  """60 and 180 of 255 of the map's range (Wang et al. 2017).

  Examples:
    >>> wang_levels(np.array([[0.0, 255.0]]))
    (60.0, 180.0)
  """
  return tuple(fraction_to_level(heatmap, n / 255) for n in (60, 180))


def fixed_levels(
  heatmap: Float[np.ndarray, 'h w'], *, fraction: float = 0.5
) -> Levels:
  """A fixed fraction of the map's range.

  Examples:
    >>> fixed_levels(np.array([[0.0, 4.0]]))
    (2.0,)
  """
  return (fraction_to_level(heatmap, fraction),)


def percentile_levels(
  heatmap: Float[np.ndarray, 'h w'], *, percentile: float = 90.0
) -> Levels:
  """The level that `percentile` per cent of the pixels do not exceed.

  Examples:
    >>> percentile_levels(np.arange(11.0)[None])
    (9.0,)
  """
  return (float(np.percentile(regions.clean(heatmap), percentile)),)


def otsu_levels(
  heatmap: Float[np.ndarray, 'h w'], *, num_bins: int = 256
) -> Levels:
  """The level with the largest variance between its two sides (Otsu 1979).

  Examples:
    >>> otsu_levels(np.array([[0.0, 0.1, 0.9, 1.0]]))
    (0.5,)
  """
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


RULES: dict[str, Callable[..., Levels]] = {
  'wang': wang_levels,
  'fixed': fixed_levels,
  'percentile': percentile_levels,
  'otsu': otsu_levels,
}


# Rules that look at the boxes of the finding's films.

CROSS_FITTED_RULES = ('tuned', 'oracle')


def make_iou_table(
  heatmaps: regions.Heatmaps, truth: Float[np.ndarray, 'n *t 4']
) -> Float[np.ndarray, 'n *t l']:
  """The best predicted box's IoU for each true box and each of FRACTIONS.

  Args:
    heatmaps: one finding's map of each film.
    truth: its true boxes; where a row is NaN, so is that of the table.

  Examples:
    >>> heatmap = np.array([[0.0, 1, 4, 4]])
    >>> table = make_iou_table([heatmap], np.array([[0, 0.5, 1, 1]]))
    >>> table[0, [0, -1]].round(4).tolist()
    [0.6667, 1.0]
  """
  truth = np.asarray(truth, np.float64)
  table = np.full((*truth.shape[:-1], len(FRACTIONS)), np.nan)
  for i, of_film in enumerate(overlap.has_box(truth).reshape(len(truth), -1)):
    if not of_film.any():
      continue
    heatmap = regions.clean(heatmaps[i])
    low, high = heatmap.min(), heatmap.max()
    for j, fraction in enumerate(FRACTIONS):
      boxes = regions.mask_to_boxes(heatmap > low + (high - low) * fraction)
      best = overlap.iou(truth[i][..., None, :], boxes).max(-1, initial=0.0)
      table[i, ..., j] = np.where(overlap.has_box(truth[i]), best, np.nan)
  return table


def _patient_folds(patient, *, seed) -> Int[np.ndarray, ' n']:
  """The fold of each film; a patient's films share one."""
  _, index = np.unique(patient, return_inverse=True)
  count = index.max(initial=-1) + 1
  shuffled = np.random.default_rng(seed).permutation(count)
  return (shuffled % NUM_FOLDS)[index]


def tuned_fractions(
  iou_table: Float[np.ndarray, 'n *t l'],
  patient: Int[np.ndarray, ' n'],
  *,
  seed: int = 0,
) -> Float[np.ndarray, ' n']:
  """For each film the fraction with the best mean IoU on OTHER patients' boxes.

  Patients are dealt into 5 folds by `seed`; a fold takes what is best for the
  other four. Where these have no box the middle fraction is taken.

  Args:
    iou_table: by `make_iou_table`.
    patient: each film's patient, by any integer.
    seed: of the folds.

  Examples:
    >>> iou_table = np.zeros((4, 19))
    >>> iou_table[:, 3] = 1  # 3 is best for everybody
    >>> tuned_fractions(iou_table, np.arange(4)).round(2).tolist()
    [0.2, 0.2, 0.2, 0.2]
  """
  fold = _patient_folds(patient, seed=seed)
  boxed = ~np.isnan(iou_table).any(axis=-1)
  fold_of_box = np.broadcast_to(fold, boxed.T.shape).T
  tuned = np.full(len(fold), MIDDLE)
  for held_out in range(NUM_FOLDS):
    others = boxed & (fold_of_box != held_out)
    if others.any():
      best = iou_table[others].mean(axis=0).argmax()
      tuned[fold == held_out] = FRACTIONS[best]
  return tuned


def oracle_fraction(iou_table: Float[np.ndarray, 'n *t l']) -> float:
  """The one fraction with the best mean accuracy on the scored boxes.

  The accuracy is averaged over ORACLE_IOUS; equal fractions are told apart by
  their mean IoU. Without a box the middle fraction is taken.

  Examples:
    >>> iou_table = np.full((1, 19), 0.4)
    >>> iou_table[0, 3] = 0.6
    >>> round(oracle_fraction(iou_table), 2)
    0.2
  """
  table = iou_table[~np.isnan(iou_table).any(axis=-1)]
  if not len(table):
    return float(MIDDLE)
  accuracy = np.mean([(table >= t).mean(axis=0) for t in ORACLE_IOUS], axis=0)
  return float(FRACTIONS[np.lexsort((table.mean(axis=0), accuracy))[-1]])


# All rules.


def main_rule(rules: Iterable[str]) -> str:
  """The rule whose results stand first: Wang's, else the first, never 'oracle'.

  'oracle' alone is taken, since nothing else is there.

  Raises:
    ValueError: no rule.

  Examples:
    >>> main_rule(['otsu', 'wang']), main_rule(['oracle', 'otsu', 'fixed'])
    ('wang', 'otsu')
  """
  # Of equal rules `min` takes the first.
  return min(rules, key=lambda rule: (rule == 'oracle', rule != 'wang'))


def finding_levels(
  rule: str,
  heatmaps: regions.Heatmaps,
  truth: Float[np.ndarray, 'n *t 4'],
  patient: Int[np.ndarray, ' n'],
  *,
  iou_table: Float[np.ndarray, 'n *t l'] | None = None,
  seed: int = 0,
) -> list[Levels]:
  """The levels of every film of one finding.

  Args:
    rule: a name in RULES or CROSS_FITTED_RULES.
    heatmaps: the finding's map of each film.
    truth: its true boxes; rows of NaN are none.
    patient: each film's patient; 'tuned' keeps a patient's films together.
    iou_table: by `make_iou_table`, if it is made already.
    seed: of the folds of 'tuned'.

  Raises:
    ValueError: unknown rule.

  Examples:
    >>> heatmaps = np.array([[[0.0, 4.0]], [[0.0, 8.0]]])
    >>> truth = np.array([[0, 0.5, 1, 1], [np.nan] * 4])
    >>> finding_levels('fixed', heatmaps, truth, np.array([7, 8]))
    [(2.0,), (4.0,)]
  """
  if rule in RULES:
    return [RULES[rule](heatmap) for heatmap in heatmaps]
  if rule not in CROSS_FITTED_RULES:
    names = ', '.join((*RULES, *CROSS_FITTED_RULES))
    raise ValueError(f'Unknown threshold rule {rule!r}; choose from: {names}.')
  if iou_table is None:
    iou_table = make_iou_table(heatmaps, truth)
  if rule == 'tuned':
    fractions = tuned_fractions(iou_table, patient, seed=seed)
  else:
    fractions = np.full(len(truth), oracle_fraction(iou_table))
  return [
    (fraction_to_level(heatmap, fraction),)
    for heatmap, fraction in zip(heatmaps, fractions, strict=True)
  ]
