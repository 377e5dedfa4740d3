"""The parts 'classification' and 'calibration' of a run's page.

Wang's published AUROCs stand beside a run's own only under a caveat, which
says on what films theirs were taken.
"""

from collections.abc import Mapping

from cxr.reporting import part_answer, part_origin, published, tables


def classification(metrics, data, caveat: str) -> list[dict | None]:
  found = []
  by_split = metrics.get('classification', {})
  # Validation films chose the checkpoint: last.
  for split in [*part_answer.shown_splits(by_split), 'validation']:
    scores = by_split.get(split, {})
    positives = part_origin.splits(data).get(split, {}).get('positives', {})
    # Wang's figures are of real films as they are.
    wang = bool(caveat) and split == 'test'
    precision = scores.get('average_precision', {})
    rows = [
      tables.row(
        tables.text_cell(finding),
        tables.number_cell(positives.get(finding)),
        tables.estimate_cell(estimate),
        tables.estimate_cell(precision.get(finding)),
        tables.number_cell(estimate.get('images')),
        tables.number_cell(estimate.get('patients')),
        *(
          [tables.number_cell(published.WANG_AUROC.get(finding), 4)]
          if wang
          else []
        ),
      )
      for finding, estimate in scores.get('auroc', {}).items()
    ]
    columns = [
      tables.column('finding'),
      tables.column('positive films'),
      tables.column('AUROC', estimate=True),
      tables.column('average precision', estimate=True),
      tables.column('films'),
      tables.column('patients'),
      *([tables.column('AUROC, Wang et al.')] if wang else []),
    ]
    found.append(
      tables.table(
        f'auroc-{split}',
        f'AUROC and average precision, {tables.spelled(split)} films',
        columns,
        rows,
        notes=[caveat] if wang else [],
      )
    )
  found.append(
    _mean_table(
      'reliance',
      'Change of AUROC where the films are drawn without the cause',
      {
        tables.spelled(split): scores.get('auroc', {})
        for split, scores in metrics.get('reliance', {}).items()
      },
      'films',
    )
  )
  found.append(
    _mean_table(
      'subgroups',
      'AUROC by subgroup, test films',
      {
        f'{kind} {name}': figures
        for kind, groups in metrics.get('subgroups', {}).items()
        for name, figures in groups.items()
      },
      'subgroup',
    )
  )
  return [tables.group([t]) for t in found if t]


def operating_points(stored: Mapping) -> dict | None:
  """The table of what calibration.json holds."""
  fields = 'temperature', 'bias', 'threshold', 'probability_at_threshold'
  rows = []
  for finding, fitted in stored['findings'].items():
    cells = [tables.number_cell(fitted[field]) for field in fields]
    for cell in cells:
      cell['why'] = fitted.get('why', '')
    rows.append(
      tables.row(
        tables.text_cell(finding),
        tables.number_cell(fitted['positives']),
        tables.number_cell(fitted['negatives']),
        *cells,
      )
    )
  films = tables.count(stored['images'], f'{stored["split"]} film')
  columns = (
    'finding',
    'positive films',
    'negative films',
    'temperature',
    'bias',
    'threshold of the logit',
    'calibrated probability there',
  )
  return tables.table(
    'operating-points',
    f'Calibration and operating points, fitted on {films}',
    [*map(tables.column, columns)],
    rows,
    notes=[
      'Calibrated: sigmoid(logit / temperature + bias). Called: the logit is '
      'at or above the threshold, where sensitivity and specificity had their '
      'largest sum.'
    ],
  )


def calibration(metrics: Mapping) -> list[dict]:
  """What was fitted, and how far it holds on the test films."""
  figures = metrics.get('calibration', {})
  if not figures:
    return []
  found = [operating_points(figures['fitted'])]
  if 'raw' in figures:
    columns = {
      'sensitivity': figures['operating_point']['sensitivity'],
      'specificity': figures['operating_point']['specificity'],
      'films called': figures['operating_point']['called'],
      'Brier score, raw': figures['raw']['brier'],
      'Brier score, calibrated': figures['calibrated']['brier'],
      'excess, raw': figures['raw']['excess'],
      'excess, calibrated': figures['calibrated']['excess'],
      'calibration error, raw': figures['raw']['calibration_error'],
      'calibration error, calibrated': figures['calibrated'][
        'calibration_error'
      ],
    }
    found.append(
      tables.table(
        'calibration-test',
        'At the operating point, and calibrated: test films',
        [
          tables.column('finding'),
          *(tables.column(name, estimate=True) for name in columns),
        ],
        [
          tables.row(
            tables.text_cell(finding),
            *(
              tables.estimate_cell(
                of.get(finding), sign=name.startswith('excess')
              )
              for name, of in columns.items()
            ),
          )
          for finding in columns['sensitivity']
        ],
        notes=[
          'Excess: mean probability minus share of positive films. Calibration '
          "error: mean over the films of their bin's |excess|, 15 bins; it "
          'has no interval, since resampling biases it upwards.'
        ],
      )
    )
  return [tables.group([t]) for t in found if t]


def _mean_table(id, caption, by_name, first):
  """A row for each name, a column for the mean and each finding."""
  findings = list(dict.fromkeys(f for row in by_name.values() for f in row))
  rows = [
    tables.row(
      tables.text_cell(name),
      *(tables.estimate_cell(figures.get(f)) for f in findings),
    )
    for name, figures in by_name.items()
  ]
  columns = [tables.column(f, estimate=True) for f in findings]
  return tables.table(id, caption, [tables.column(first), *columns], rows)
