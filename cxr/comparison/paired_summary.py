"""Runs on the same films side by side: their estimates and the differences.

Contract. The first run is what the others are compared with: a difference is
theirs minus its. Rows are put in the order of the first run's; runs whose
films, labels, patients or true boxes differ are refused. An estimate of one run
is that of estimates/summary.py or estimates/box_estimates.py.
"""

from collections.abc import Sequence

import numpy as np

from cxr import stored_rows
from cxr.comparison import common_findings, runs
from cxr.estimates import (
  box_estimates,
  ranking_estimates,
  reader_estimates,
  run_tables,
  summary,
)
from cxr.measures import measure_table
from cxr.reporting import wording
from cxr.statistics import bootstrap, rankings, ratios


def compare(
  workdirs: Sequence[str],
  common: common_findings.Common | None = None,
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = 0,
) -> dict:
  """Compares what all of the runs have, from their stored rows.

  An entry is {'runs': [an estimate per run], 'difference': estimate}. The
  difference is the second run minus the first; its interval draws the same
  patients for both, 'p' swaps patients between the runs, and 'p_holm' corrects
  it for the number of findings (None for the mean). With three runs or more
  'differences' has each later run minus the first.

  Args:
    workdirs: of the runs.
    common: of `common_findings.find`: the means are over the shared findings.
    num_resamples: of the bootstrap.
    seed: of the bootstrap.

  Returns:
    {'runs': names, 'classification': {split: {'auroc' | 'average_precision':
    {'mean' | finding: entry}}}, 'robustness': the same by attack and epsilon,
    'localization': {method: {rule: {score: {'mean' | finding: entry}}}},
    'readers': {'auroc': {'mean' | finding: entry}} against the readers'
    majority} with what all runs have.

  Raises:
    FileNotFoundError: a run that was not evaluated.
    ValueError: fewer than two runs, not the same films, or other findings
      without `common`.
  """
  if len(workdirs) < 2:
    raise ValueError(f'compare needs two runs or more, not {len(workdirs)}.')
  options = {'num_resamples': num_resamples, 'seed': seed}
  tables = [common_findings.read(workdir, common) for workdir in workdirs]
  findings = tables[0].findings
  if any(run.findings != findings for run in tables):
    raise ValueError(
      f'{", ".join(workdirs)} hold other findings; compare what they share.'
    )
  shared = [
    condition
    for condition in tables[0].predictions
    if all(condition in run.predictions for run in tables)
  ]
  classification, robustness = {}, []
  for condition in shared:
    first, *others = (run.predictions[condition] for run in tables)
    blocks = [first] + [
      summary.aligned(first, block, f'{workdirs[0]} and {workdir}')
      for workdir, block in zip(workdirs[1:], others, strict=True)
    ]
    entries = {
      name: ranking_estimates.compare(blocks, findings, make, **options)
      for name, make in ranking_estimates.rankings_of(condition).items()
    }
    if condition.attack == stored_rows.CLEAN:
      classification[condition.split] = entries
    else:
      aim = wording.aim(condition.attack)
      robustness.append({**condition._asdict(), 'aim': aim, **entries})
  robustness.sort(key=summary.headline_first)
  localization = _compare_localization(
    workdirs, [run.boxes for run in tables], **options
  )
  # Maps from elsewhere may have come without any prediction.
  all_predict = all(run.predictions for run in tables)
  if not shared and (all_predict or not localization):
    raise ValueError(
      f'{", ".join(workdirs)} share no split and attack, or no method of maps; '
      'evaluate them with the same config.evaluate.'
    )
  return {
    'runs': runs.distinct_names(workdirs),
    'classification': classification,
    'robustness': robustness,
    'localization': localization,
    'measures': measure_table.compare(
      [run.measures for run in tables], **options
    ),
    'readers': _compare_with_readers(workdirs, tables, **options),
  }


def _compare_with_readers(
  workdirs: Sequence[str], tables: Sequence[run_tables.Tables], **options
) -> dict:
  """{'auroc': {'mean' | finding: entry}} against the readers' majority.

  {} where a run has no readers.
  """
  condition = stored_rows.Condition(summary.MAIN_SPLIT)
  if not all(run.readings and condition in run.predictions for run in tables):
    return {}
  read = tables[0].readings
  for workdir, run in zip(workdirs, tables, strict=True):
    if not read.same_as(run.readings):
      raise ValueError(
        f'{workdirs[0]} and {workdir} have other readers, or other votes of '
        'theirs; evaluate them again on one data folder.'
      )
  first, *others = (run.predictions[condition] for run in tables)
  blocks = [
    reader_estimates.against_majority(
      summary.aligned(first, block, 'Two runs'), read
    )
    for block in (first, *others)
  ]
  return {
    'auroc': ranking_estimates.compare(
      blocks, tables[0].findings, rankings.make_auroc, **options
    )
  }


def _aligned_boxes(
  first: stored_rows.Boxes, other: stored_rows.Boxes, what: str
) -> stored_rows.Boxes:
  """`other` in the order of `first`; ValueError unless the truth is one."""

  def keys(rows):
    truth = np.nan_to_num(rows.truth, nan=-1.0)
    return [
      *(rows.image, rows.patient, rows.finding, rows.method, rows.draw),
      *truth.T,
    ]

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
  of_runs = [box_estimates.ratios_of(rows) for rows in runs]
  counts = box_estimates.counts_of(runs[0], of_runs[0])
  by_score = ratios.compare(of_runs, runs[0].patient, counts, **options)
  return dict(zip(box_estimates.score_names(), by_score, strict=True))


def _compare_localization(
  workdirs: Sequence[str], tables: Sequence[stored_rows.Boxes], **options
) -> dict:
  """{method: {rule: what `_compare_boxes` returns}} of what all runs have."""
  by_rule = [
    {
      (method, rule): rows
      for method, rule, rows in box_estimates.methods_and_rules(
        table.where(split=summary.MAIN_SPLIT)
      )
    }
    for table in tables
  ]
  result = {}
  for (method, rule), first in by_rule[0].items():
    if not all((method, rule) in run for run in by_rule):
      continue
    aligned = [first] + [
      _aligned_boxes(first, run[method, rule], f'{workdirs[0]} and {workdir}')
      for workdir, run in zip(workdirs[1:], by_rule[1:], strict=True)
    ]
    result.setdefault(method, {})[rule] = _compare_boxes(aligned, **options)
  return result
