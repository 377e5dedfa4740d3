"""The part 'localization' of a run's page: curves, and tables of every score.

Wang's published figures stand among them under a caveat only, as in
report_classification.py.
"""

from collections.abc import Mapping

from cxr.reporting import part_answer, plots, published, tables

RATIOS = {'iou': 'IoU', 'iobb': 'IoBB'}
_KEYS = [tables.column(text) for text in ('method', 'finding', 'rule')]


def localization(metrics: Mapping, caveat: str) -> dict | None:
  """Curves and tables; Wang's rows among them where there is a caveat."""
  scores = metrics.get('localization', {})
  methods = scores.get('methods', {})
  if not methods:
    return None
  rows, found = [], []
  for kind in RATIOS:
    of_kind = _accuracy_rows(methods, kind, caveat)
    found.append(_accuracy_table(methods, kind, of_kind, caveat))
    rows += of_kind
  found.append(_other_scores(methods))
  curves = [
    accuracy_curve(
      {
        tables.method_name(method): thresholds(
          part_answer.mean_scores(scores, method), kind
        )
        for method in methods
        if drawn(method)
      },
      kind,
      part_answer.main_rule(scores),
    )
    for kind in RATIOS
  ]
  text = []
  sizes, count = scores.get('map_size', {}), scores.get('count', {})
  if sizes:
    text.append(
      'Map resolution: '
      + ', '.join(
        f'{tables.method_name(m)} {" × ".join(map(str, size))}'
        for m, size in sizes.items()
      )
      + ' cells. A finding much smaller than a cell cannot be boxed well.'
    )
  if count:
    boxes = ', '.join(f'{finding} {n}' for finding, n in count.items())
    text.append(f'True boxes: {sum(count.values()):,} ({boxes}).')
  return {
    'text': text,
    'figures': [c for c in curves if c],
    'group': tables.group(
      found,
      localization_filters(rows, part_answer.main_rule(scores), method=''),
    ),
  }


def localization_filters(rows, rule: str, *, method: str) -> list[dict]:
  names = {
    r['tags']['method']: tables.method_name(r['tags']['method']) for r in rows
  }
  return [
    tables.choice('finding', 'Finding', rows, default='mean'),
    tables.choice('rule', 'Threshold rule', rows, default=rule),
    tables.choice('method', 'Method', rows, default=method, names=names),
  ]


def drawn(method: str) -> bool:
  """Whether a curve is drawn: of every control it would hide the methods."""
  return not tables.is_control(method) or method in ('random', 'mean_box')


def thresholds(scores: Mapping, kind: str) -> list[tuple[float, Mapping]]:
  """[(T, estimate)] of 'iou@T' or 'iobb@T', ascending."""
  found = [
    (float(score.partition('@')[2]), estimate)
    for score, estimate in scores.items()
    if score.startswith(f'{kind}@')
  ]
  return sorted(found, key=lambda point: point[0])


def accuracy_curve(series: Mapping, kind: str, rule: str) -> dict | None:
  series = {name: points for name, points in series.items() if points}
  if not series:
    return None
  caption = f'Mean accuracy over T({RATIOS[kind]}), threshold rule {rule}'
  figure = plots.localization_curve(series, score=RATIOS[kind])
  return plots.drawing(figure, caption, series)


def kind_of(method: str, rule: str) -> str:
  """The mark of rows that are no result of the model's maps."""
  if tables.is_control(method):
    return 'control'
  return 'upper bound' if rule == 'oracle' else ''


def _rows(methods, cells_of):
  """A row for each (method, rule, finding)."""
  return [
    tables.row(
      tables.text_cell(tables.method_name(method)),
      tables.text_cell(finding),
      tables.text_cell(rule),
      *cells_of(scores),
      kind=kind_of(method, rule),
      method=method,
      rule=rule,
      finding=finding,
    )
    for method, rules in methods.items()
    for rule, findings in rules.items()
    for finding, scores in findings.items()
  ]


def _names(methods, belongs):
  """Scores in use, in their first order."""
  return list(
    dict.fromkeys(
      score
      for rules in methods.values()
      for findings in rules.values()
      for scores in findings.values()
      for score in scores
      if belongs(score)
    )
  )


def _accuracy_names(methods, kind):
  names = _names(methods, lambda score: score.startswith(f'{kind}@'))
  return sorted(names, key=lambda score: float(score.partition('@')[2]))


def _accuracy_rows(methods, kind, caveat):
  """Accuracy with the false positives it costs."""
  names = _accuracy_names(methods, kind)
  rows = _rows(
    methods,
    lambda scores: [
      tables.estimate_cell(scores.get(s), afp=scores.get(f'afp_{s}') or {})
      for s in names
    ],
  )
  if not caveat:
    return rows
  findings = dict.fromkeys(r['tags']['finding'] for r in rows)
  return rows + [
    tables.row(
      tables.text_cell('Wang et al. 2017'),
      tables.text_cell(finding),
      tables.text_cell('wang'),
      *(
        tables.estimate_cell(
          {'value': scores.get(s)}, afp={'value': scores.get(f'afp_{s}')}
        )
        for s in names
      ),
      kind='published',
      method='published',
      rule='*',
      finding=finding,
    )
    for finding, scores in published.WANG_LOCALIZATION.items()
    if finding in findings
  ]


def _accuracy_table(methods, kind, rows, caveat):
  notes = [
    'Below each accuracy stands its interval, then AFP, the average number of '
    'false positives: wrong boxes over the true boxes of all findings.'
  ]
  if caveat:
    model = 'ChestX-ray8' if kind == 'iou' else 'ChestX-ray14'
    notes.append(f'{caveat} Figures of their {model} model.')
  ratio = RATIOS[kind]
  columns = [
    tables.column(
      f'{ratio} > {score.partition("@")[2]}', estimate=True, afp=True
    )
    for score in _accuracy_names(methods, kind)
  ]
  return tables.table(
    f'accuracy-{kind}',
    f'Localization accuracy at T({ratio})',
    [*_KEYS, *columns],
    rows,
    notes=notes,
  )


def _other_scores(methods):
  names = _names(methods, lambda score: '@' not in score)
  rows = _rows(
    methods, lambda scores: [tables.estimate_cell(scores.get(s)) for s in names]
  )
  columns = [tables.column(tables.score_name(s), estimate=True) for s in names]
  return tables.table(
    'scores', 'Other scores of boxes and maps', [*_KEYS, *columns], rows
  )
