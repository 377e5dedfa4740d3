"""How well boxes and maps localize, estimated from the rows of boxes.csv.

Contract. Localization follows Wang et al. 2017. With T a threshold of IoU or
IoBB:

  iou@T     boxes of the finding that some predicted box overlaps by more than
            T, over the boxes of the finding
  afp_iou@T predicted boxes of the finding, on ALL boxed films, that overlap
            no true box of it by more than T, over the boxes of ALL findings

Beside Wang's AFP stands what its name suggests:

  false_iou@T the same false boxes over the boxed films: how many a film has of
              a finding; times the number of findings, how many a film has

A true box that was missed counts as such; 'mean' is the mean over findings.
Every estimate has Student's interval over patients. Each true box counts once:
where a control has several draws of it, their mean does. A score that is of the
union of a film's true boxes, or of its mask, counts the film once. The true
boxes of a mask are those of its connected parts.

What decides is a method less its control of another patient, paired by true
box. It stands beside the methods as one of them, under the method's name and
`wording.LESS_ANOTHER`.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from cxr import stored_rows
from cxr.localization import overlap, scoring
from cxr.reporting import wording
from cxr.statistics import intervals, ratios

IOU_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
IOBB_THRESHOLDS = (0.1, 0.25, 0.5, 0.75, 0.9)
# Scores of boxes.csv whose mean is an estimate -> its name.
MEANS = {
  'iou': 'mean_iou',
  'mask_iou': 'mask_iou',
  'ior': 'ior',
  'pointing': 'pointing',
  'energy': 'energy',
  'map_auroc': 'map_auroc',
  'map_ap': 'map_ap',
}

_UNBOUNDED = 'afp_', 'false_'


_OF_MAPS = tuple(name for source, name in MEANS.items() if source != 'iou')


def score_names() -> list[str]:
  """The names of all scores, in the order of `ratios_of`."""
  pairs = [('iou', IOU_THRESHOLDS), ('iobb', IOBB_THRESHOLDS)]
  return [
    *(f'{kind}@{t:g}' for kind, ts in pairs for t in ts),
    *(f'afp_{kind}@{t:g}' for kind, ts in pairs for t in ts),
    *(f'false_{kind}@{t:g}' for kind, ts in pairs for t in ts),
    *MEANS.values(),
  ]


def scale_of(score: str) -> intervals.Scale:
  """The scale of a score's interval: false positives have no upper bound."""
  return 'log' if score.startswith(_UNBOUNDED) else 'logit'


def ratios_of(rows: stored_rows.Boxes) -> ratios.Ratios:
  """Every row's share in the numerator and denominator of every score.

  Args:
    rows: of one method and rule; or of `less_another`: then every score is the
      method's less that of its control.

  Raises:
    ValueError: rows of one map (several true boxes) that list different
      predicted boxes.
  """
  another = np.char.endswith(rows.method, wording.ANOTHER_PATIENT)
  subtracted = another & (not another.all())
  findings = _ordered(rows.finding)
  column = np.array([findings.index(f) for f in rows.finding.tolist()], int)
  row = np.arange(len(column))
  boxed = overlap.has_box(rows.truth)
  place = {name: i for i, name in enumerate(score_names())}
  numerator = np.zeros((len(row), len(place), len(findings)))
  denominator = np.zeros_like(numerator)

  # A film with several boxes of a finding has several rows with the same
  # predicted boxes: each is counted once, and is right if it hits any.
  films, film = np.unique(rows.image, return_inverse=True)
  pair = (subtracted * len(films) + film) * len(findings) + column
  _, first, key = np.unique(
    pair * (1 + rows.draw.max(initial=0)) + rows.draw,
    return_index=True,
    return_inverse=True,
  )
  if not np.array_equal(rows.count, rows.count[first[key]]):
    raise ValueError(
      'Rows of one film, finding, method and rule list different numbers of '
      'predicted boxes in boxes.csv; write it again with --mode=evaluate.'
    )
  weight = 1 / np.bincount(pair[first])[pair]
  # False positives need every film: a missing row is not an empty one.
  of_finding = np.unique(pair[first]) % len(findings) if len(first) else first
  needed = len(films) * (1 + subtracted.any())
  complete = np.bincount(of_finding, minlength=len(findings)) == needed
  start = np.cumsum(rows.count) - rows.count
  box_row = np.repeat(row, rows.count)
  slot = start[first[key[box_row]]] + np.arange(len(box_row)) - start[box_row]
  is_first = np.isin(row, first)
  for kind, overlap_of, levels in (
    ('iou', overlap.iou, IOU_THRESHOLDS),
    ('iobb', overlap.iobb, IOBB_THRESHOLDS),
  ):
    score = np.zeros(len(box_row))
    with_truth = boxed[box_row]
    score[with_truth] = overlap_of(
      rows.box[with_truth], rows.truth[box_row[with_truth]]
    )
    best_of_row, best_of_box = np.zeros(len(row)), np.zeros(len(box_row))
    np.maximum.at(best_of_row, box_row, score)
    np.maximum.at(best_of_box, slot, score)
    for t in levels:
      s = place[f'{kind}@{t:g}']
      numerator[row, s, column] = boxed & (best_of_row > t)
      denominator[row, s, column] = boxed
      s = place[f'afp_{kind}@{t:g}']
      wrong = box_row[is_first[box_row] & (best_of_box <= t)]
      numerator[row, s, column] = np.bincount(wrong, minlength=len(row))
      denominator[:, s, :] = boxed[:, None] & complete
      per_film = place[f'false_{kind}@{t:g}']
      numerator[:, per_film] = numerator[:, s]
      denominator[first, per_film, column[first]] = complete[column[first]]
  for source, name in MEANS.items():
    value = rows.score[:, scoring.SCORES.index(source)]
    defined = boxed & ~np.isnan(value)
    if name in _OF_MAPS:  # and of the union of the film's true boxes
      defined &= is_first
    numerator[row, place[name], column] = np.where(defined, value, 0.0)
    denominator[row, place[name], column] = defined
  # Both sides have the same boxes with the same weight, and so, whichever
  # patients are drawn, one denominator: the difference is a ratio as well.
  numerator *= np.where(subtracted, -weight, weight)[:, None, None]
  denominator *= np.where(subtracted, 0.0, weight)[:, None, None]
  scales = tuple(
    'linear' if subtracted.any() else scale_of(name) for name in place
  )
  return ratios.Ratios(numerator, denominator, findings, scales)


def _has_another(
  own: stored_rows.Boxes, another: stored_rows.Boxes
) -> Bool[np.ndarray, ' n']:
  """Whether each row's film and finding has a control of another patient."""
  pairs = set(
    zip(another.image.tolist(), another.finding.tolist(), strict=True)
  )
  keys = zip(own.image.tolist(), own.finding.tolist(), strict=True)
  return np.array([key in pairs for key in keys], bool)


def less_another(
  own: stored_rows.Boxes, another: stored_rows.Boxes
) -> stored_rows.Boxes:
  """The rows from which `ratios_of` takes a method less its control.

  Args:
    own: of one method and rule.
    another: of its control of another patient; films and findings without it
      are left out.
  """
  paired = own.rows(np.flatnonzero(_has_another(own, another)))
  return stored_rows.concatenate_boxes([paired, another])


def _ordered(names: np.ndarray, *first: str) -> tuple[str, ...]:
  """The distinct names: those of `first`, then in the order of their rows."""
  present = dict.fromkeys(names.tolist())
  return tuple(dict.fromkeys([n for n in first if n in present] + [*present]))


def counts_of(
  rows: stored_rows.Boxes, of_rows: ratios.Ratios
) -> list[list[dict]]:
  """The counts of `intervals.estimate`: by score, then 'mean' and findings."""
  films, film = np.unique(rows.image, return_inverse=True)
  set_down = np.char.endswith(rows.method, wording.SET_DOWN).any()
  counts = []
  for s, name in enumerate(score_names()):
    of_score = []
    for c in (slice(None), *range(len(of_rows.findings))):
      counted = of_rows.denominator[:, s, c] > 0
      if counted.ndim > 1:
        counted = counted.any(axis=1)
      if name.startswith(_UNBOUNDED):
        why = 'boxes.csv lacks rows of some films'
      elif set_down and name in _OF_MAPS:
        why = 'the score is of a map; boxes that are set down have none'
      elif name == 'map_ap':
        why = 'boxes.csv is older than this score, or no true box has a pixel'
      else:
        why = 'no film has a box of the finding'
      of_score.append(
        {
          'images': len(np.unique(film[counted])),
          'patients': len(np.unique(rows.patient[counted])),
          'why': why,
        }
      )
    counts.append(of_score)
  return counts


def rule_estimates(rows: stored_rows.Boxes, **options) -> dict:
  """{finding or 'mean': {score: estimate}} of one method and rule."""
  of_rows = ratios_of(rows)
  counts = counts_of(rows, of_rows)
  by_score = ratios.estimates(of_rows, rows.patient, counts, **options)
  return {
    name: {
      score: of_score[name]
      for score, of_score in zip(score_names(), by_score, strict=True)
    }
    for name in ('mean', *of_rows.findings)
  }


def methods_and_rules(
  rows: stored_rows.Boxes,
) -> Iterator[tuple[str, str, stored_rows.Boxes]]:
  """(method, rule, its rows): Wang's rule first, the upper bound last.

  Before each method that has a control of another patient stands the method
  less this control.
  """
  by_method = {
    method: rows.where(method=method) for method in _ordered(rows.method)
  }
  for method, of_method in by_method.items():
    rules = _ordered(of_method.rule, 'wang')
    rules = sorted(rules, key=lambda rule: rule == 'oracle')
    another = by_method.get(method + wording.ANOTHER_PATIENT)
    if another is not None:
      for rule in rules:
        both = of_method.where(rule=rule), another.where(rule=rule)
        yield method + wording.LESS_ANOTHER, rule, less_another(*both)
    for rule in rules:
      yield method, rule, of_method.where(rule=rule)


def estimates(rows: stored_rows.Boxes, **options) -> dict:
  """Estimates every score of every method and rule, on one split.

  Args:
    rows: of the split.
    **options: num_resamples and seed of the bootstrap.

  Returns:
    {'count': {finding: true boxes}, 'methods': {method: {rule: what
    `rule_estimates` returns}}}; 'masks': {finding: films whose scores of the
    union are of a mask}, where there are some; and 'without_another': {finding:
    films}, where films with a true box have no control of another patient.
  """
  methods = {}
  for method, rule, of_rule in methods_and_rules(rows):
    methods.setdefault(method, {})[rule] = rule_estimates(of_rule, **options)
  if not methods:
    return {'count': {}, 'methods': {}}
  name = str(rows.method[0])
  first = rows.where(method=name, rule=rows.rule[0])
  boxed = first.rows(np.flatnonzero(overlap.has_box(first.truth)))
  another = rows.where(method=name + wording.ANOTHER_PATIENT)
  without = {}
  if len(another.image):
    lonely = boxed.rows(np.flatnonzero(~_has_another(boxed, another)))
    for finding in _ordered(lonely.finding):
      of_finding = lonely.where(finding=finding)
      without[finding] = sorted(set(of_finding.image.tolist()))
  count = {
    finding: int((boxed.finding == finding).sum())
    for finding in _ordered(first.finding)
  }
  masked = boxed.rows(np.flatnonzero(boxed.masked))
  masks = {
    finding: len(set(masked.where(finding=finding).image.tolist()))
    for finding in _ordered(masked.finding)
  }
  result = {'count': count, 'methods': methods}
  result |= {'masks': masks} if masks else {}
  return result | ({'without_another': without} if without else {})
