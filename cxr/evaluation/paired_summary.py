"""The stored rows of several runs on the same films -> their figures, paired.

Contract. The first run is what the others are compared with: a difference is
theirs minus its. Rows are put in the order of the first run's; runs whose
films, labels, patients or true boxes differ are refused. A figure of one run
is that of summary.py or box_figures.py.
"""

import os
from collections.abc import Sequence

import numpy as np

from cxr import stored_rows
from cxr.evaluation import box_figures, measures, summary
from cxr.statistics import bootstrap, ratios


def compare(
  workdirs: Sequence[str],
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = 0,
) -> dict:
  """Runs on the same films side by side.

  Every entry is {'runs': [a figure per run], 'difference': figure} with the
  second run minus the first, its interval from the same resamples for both,
  'p' by swapping patients between the runs and 'p_holm' over the findings
  (None for the mean). With three runs or more 'differences' has all later
  runs minus the first.

  Returns:
    {'runs': names, 'classification': {split: {'auroc' | 'average_precision':
    {'mean' | finding: entry}}}, 'robustness': the same by attack and epsilon,
    'localization': {method: {rule: {score: {'mean' | finding: entry}}}}} with
    what all runs have.

  Raises:
    FileNotFoundError: a run that was not evaluated.
    ValueError: fewer than two runs, or not the same films.
  """
  if len(workdirs) < 2:
    raise ValueError(f'compare needs two runs or more, not {len(workdirs)}.')
  options = {'num_resamples': num_resamples, 'seed': seed}
  names = [os.path.basename(os.path.normpath(w)) for w in workdirs]
  read = [
    stored_rows.read_predictions(os.path.join(w, 'predictions.csv'))
    for w in workdirs
  ]
  findings = read[0][0]
  if any(of_run != findings for of_run, _ in read):
    raise ValueError(
      f'{", ".join(workdirs)} hold other findings; compare runs of one list.'
    )
  shared = [c for c in read[0][1] if all(c in blocks for _, blocks in read)]
  if not shared:
    raise ValueError(
      f'{", ".join(workdirs)} share no split and attack; evaluate them with '
      'the same config.evaluate.'
    )
  classification, robustness = {}, []
  for condition in shared:
    first = read[0][1][condition]
    blocks = [first] + [
      summary.aligned(first, others[condition], f'{workdirs[0]} and {workdir}')
      for workdir, (_, others) in zip(workdirs[1:], read[1:], strict=True)
    ]
    entries = {
      name: summary.compare_rankings(blocks, findings, make, **options)
      for name, make in summary.RANKINGS.items()
    }
    if condition.attack == stored_rows.CLEAN:
      classification[condition.split] = entries
    else:
      robustness.append({**condition._asdict(), **entries})
  robustness.sort(key=lambda r: (r['split'], r['attack'], r['epsilon']))
  return {
    'runs': names,
    'classification': classification,
    'robustness': robustness,
    'localization': _compare_localization(workdirs, **options),
    'measures': measures.compare(
      [measures.read(os.path.join(w, 'measures.csv')) for w in workdirs],
      **options,
    ),
  }


def _aligned_boxes(
  first: stored_rows.Boxes, other: stored_rows.Boxes, what: str
) -> stored_rows.Boxes:
  """`other` in the order of `first`; ValueError unless the truth is one."""

  def keys(rows):
    truth = np.nan_to_num(rows.truth, nan=-1.0)
    return [rows.image, rows.patient, rows.finding, *truth.T]

  order = stored_rows.matching_order(keys(first), keys(other))
  if order is None:
    raise ValueError(
      f'{what} were scored against other true boxes; evaluate them again on '
      'one data folder.'
    )
  return other.rows(order)


def _compare_boxes(
  runs: Sequence[stored_rows.Boxes], **options
) -> dict[str, dict]:
  """{score: {'mean' | finding: entry}} of one method and rule."""
  of_runs = [box_figures.ratios_of(rows) for rows in runs]
  counts = box_figures.counts_of(runs[0], of_runs[0])
  by_score = ratios.compare(of_runs, runs[0].patient, counts, **options)
  return dict(zip(box_figures.score_names(), by_score, strict=True))


def _compare_localization(workdirs, **options) -> dict:
  runs = [
    {
      (method, rule): rows
      for method, rule, rows in box_figures.methods_and_rules(
        stored_rows.read_boxes(os.path.join(w, 'boxes.csv')).where(
          split=summary.MAIN_SPLIT
        )
      )
    }
    for w in workdirs
  ]
  result = {}
  for (method, rule), first in runs[0].items():
    if not all((method, rule) in run for run in runs):
      continue
    aligned = [first] + [
      _aligned_boxes(first, run[method, rule], f'{workdirs[0]} and {workdir}')
      for workdir, run in zip(workdirs[1:], runs[1:], strict=True)
    ]
    result.setdefault(method, {})[rule] = _compare_boxes(aligned, **options)
  return result
