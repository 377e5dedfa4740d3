"""The part 'measures' of a page: a row for whatever was measured of a film.

Measures come as {measure: {method: {condition: {'mean' | finding: …}}}}, with
an estimate at the end, or an entry of a comparison.
"""

from collections.abc import Mapping

from cxr.evaluation.measures import MEANINGS
from cxr.reporting import tables


def measures(metrics: Mapping) -> dict | None:
  """Whatever was measured of a film, in one table: a row a figure."""
  found = metrics.get('measures', {})
  rows = [
    tables.row(
      *measure_cells(measure, method, condition, finding),
      tables.estimate_cell(estimate),
      tables.number_cell(estimate.get('images')),
      tables.number_cell(estimate.get('patients')),
      measure=measure,
      finding=finding,
    )
    for measure, method, condition, findings in measured(found)
    for finding, estimate in findings.items()
  ]
  table = tables.table(
    'measures-table',
    'Measures of a film, mean over films',
    [
      *map(tables.column, MEASURE_KEYS),
      tables.column('mean', estimate=True),
      *map(tables.column, ('films', 'patients')),
    ],
    rows,
    notes=measure_notes(found),
  )
  return tables.group([table], measure_filters(rows))


MEASURE_KEYS = ('measure', 'method', 'condition', 'finding')


def measured(found: Mapping):
  """(measure, method, condition, findings) of a tree by these keys."""
  for measure, methods in found.items():
    for method, conditions in methods.items():
      for condition, findings in conditions.items():
        yield measure, method, condition, findings


def measure_cells(measure, method, condition, finding) -> list[dict]:
  return [
    tables.text_cell(tables.score_name(measure)),
    tables.text_cell(tables.method_name(method)),
    tables.text_cell(condition),
    tables.text_cell(finding),
  ]


def measure_filters(rows) -> list[dict]:
  names = {r['tags']['measure']: r['cells'][0]['text'] for r in rows}
  return [
    tables.choice('measure', 'Measure', rows, default='', names=names),
    tables.choice('finding', 'Finding', rows, default='mean'),
  ]


def measure_notes(found: Mapping) -> list[str]:
  return [
    f'{tables.score_name(name)}: {meaning}'
    for name, meaning in MEANINGS.items()
    if name in found
  ]
