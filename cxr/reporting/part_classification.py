"""The sections 'Classification' and 'Calibration' of a run's page.

The AUROCs that Wang et al. published stand beside a run's own only with a
caveat, which says on which films theirs were measured.
"""

from collections.abc import Mapping

from cxr.reporting import main_result, part_origin, published, tables, wording


def classification(
  metrics: Mapping, data: Mapping, caveat: str
) -> tables.Section | None:
  """AUROC by finding for every split, by subgroup, and without the cause."""
  by_split = metrics.get('classification', {})
  splits = [*main_result.shown_splits(by_split), 'validation']
  reliance = {
    wording.spelled(split): scores.get('auroc', {})
    for split, scores in metrics.get('reliance', {}).items()
  }
  subgroups = {
    f'{kind} {name}': scores
    for kind, name, scores in tables.walk(metrics.get('subgroups', {}), 2)
  }
  shown = [
    _split(
      split,
      by_split.get(split, {}),
      part_origin.splits(data).get(split, {}).get('positives', {}),
      # Wang's films are real ones, and as they are.
      caveat if split == 'test' else '',
    )
    for split in splits
  ]
  without = 'Change of AUROC where the films are drawn without the cause'
  by_group = 'AUROC by subgroup, test films'
  shown += [
    _by_name('reliance', without, 'split', reliance),
    _by_name('subgroups', by_group, 'subgroup', subgroups),
  ]
  return tables.Section('classification', 'Classification', shown)


def _split(split, scores, positives, caveat):
  rows = []
  for row in ranking_rows(scores):
    finding = row['finding']
    # The count of positive films stands second.
    row = {'finding': finding, 'positive films': positives.get(finding)} | row
    if caveat:
      wang = published.WANG_AUROC.get(finding)
      row['AUROC, Wang et al.'] = tables.number_cell(wang, 4)
    rows.append(row)
  caption = f'AUROC and average precision, {wording.films(split)}'
  return tables.table(
    f'auroc-{split}', caption, rows, *([caveat] if caveat else [])
  )


def ranking_rows(scores: Mapping) -> list[dict]:
  """AUROC and average precision of each finding of a split."""
  precision = scores.get('average_precision', {})
  return [
    {
      'finding': finding,
      'AUROC': auroc,
      'average precision': precision.get(finding) or {},
      **tables.counts(auroc),
    }
    for finding, auroc in scores.get('auroc', {}).items()
  ]


def _by_name(id, caption, first, by_name):
  """A row for each name, a column for the mean and for each finding."""
  findings = dict.fromkeys(f for row in by_name.values() for f in row)
  rows = [
    {first: name} | {f: scores.get(f) or {} for f in findings}
    for name, scores in by_name.items()
  ]
  return tables.table(id, caption, rows)


def operating_points(
  stored: Mapping, given: Mapping | None = None
) -> tables.Table | None:
  """What calibration.json holds.

  Args:
    stored: what was fitted.
    given: operating points that came with the weights: 'threshold' by finding,
      and whom they are 'from'.
  """
  given = given or stored.get('given') or {}
  of_file = given.get('threshold') or {}
  films = wording.count(stored['images'], f'{stored["split"]} film')
  rows = []
  for finding, fitted in stored['findings'].items():
    fit = lambda name, of=fitted: tables.number_cell(
      of[name], why=of.get('why', '')
    )
    rows.append(
      {
        'finding': finding,
        'positive films': fitted['positives'],
        'negative films': fitted['negatives'],
        'temperature': fit('temperature'),
        'bias': fit('bias'),
        'threshold of the logit': fit('threshold'),
        'calibrated probability there': fit('probability_at_threshold'),
      }
      | (
        {'threshold that came with the weights': of_file.get(finding)}
        if of_file
        else {}
      )
    )
  return tables.table(
    'operating-points',
    f'Calibration and operating points, fitted on {films}',
    rows,
    'The calibrated probability is sigmoid(logit / temperature + bias). A '
    'finding is called where its logit is at or above the threshold, at which '
    'the sum of sensitivity and specificity was largest.'
    + (f' The last column is from {given["from"]}.' if of_file else ''),
  )


def calibration(metrics: Mapping) -> tables.Section | None:
  """What was fitted, and how well it holds on the test films."""
  stored = metrics.get('calibration', {})
  if not stored:
    return None
  given = stored.get('given', {})
  shown = []
  if 'fitted' in stored:
    shown.append(operating_points(stored['fitted'], given))
  if given:
    shown.append(_given_points(given))
  if 'raw' in stored:
    point = stored['operating_point']
    columns = {
      'sensitivity': point['sensitivity'],
      'specificity': point['specificity'],
      'films called': point['called'],
    } | {
      f'{name}, {kind}': stored[kind][key]
      for name, key in (
        ('Brier score', 'brier'),
        ('excess', 'excess'),
        ('calibration error', 'calibration_error'),
      )
      for kind in ('raw', 'calibrated')
    }
    signed = lambda name, estimate: tables.estimate_cell(
      estimate, sign=name.startswith('excess')
    )
    rows = [
      {'finding': finding}
      | {name: signed(name, of.get(finding)) for name, of in columns.items()}
      for finding in point['sensitivity']
    ]
    shown.append(
      tables.table(
        'calibration-test',
        'At the operating point, and calibrated: test films',
        rows,
        'The excess is the mean probability minus the share of positive films. '
        'The calibration error is the mean over the films of the |excess| of '
        'their bin, of 15 bins; it has no interval, since resampling biases it '
        'upwards.',
      )
    )
  return tables.Section('calibration', 'Calibration', shown)


def _given_points(given: Mapping) -> tables.Table | None:
  """How well operating points hold that came with the weights."""
  rows = [
    {
      'finding': finding,
      'threshold of the logit': given['threshold'].get(finding),
      'sensitivity': sensitivity,
      'specificity': given['specificity'].get(finding),
      'films called': given['called'].get(finding),
    }
    for finding, sensitivity in given['sensitivity'].items()
  ]
  return tables.table(
    'given-points',
    'At the operating points that came with the weights: test films',
    rows,
    f'They are from {given["from"]}. A finding is called where its logit is at '
    'or above the threshold.',
  )
