"""The part 'robustness' of a page, of one run or of several: what attacks did,
and whether they may be believed.
"""

from collections.abc import Mapping

from cxr.reporting import part_answer, plots, tables


def robustness(runs: Mapping[str, Mapping]) -> dict | None:
  """Security curve and what was measured; `runs`: name -> metrics."""
  several = len(runs) > 1
  series, rows = {}, []
  for name, metrics in runs.items():
    for attack, points in _security_points(metrics).items():
      series[f'{name}, {attack}' if several else attack] = points
    for entry in metrics.get('robustness', ()):
      audit, mean = entry.get('audit', {}), entry.get('auroc', {}).get('mean')
      pixels = '–'
      if audit.get('min') is not None and audit.get('max') is not None:
        pixels = f'{audit["min"]:.3g} to {audit["max"]:.3g}'
      rows.append(
        tables.row(
          *([tables.text_cell(name)] if several else []),
          tables.text_cell(entry['attack']),
          tables.text_cell(tables.spelled(entry.get('split', 'test'))),
          tables.text_cell(entry.get('norm', '')),
          tables.number_cell(float(entry['epsilon']), 2),
          tables.estimate_cell(mean),
          tables.estimate_cell(entry.get('average_precision', {}).get('mean')),
          tables.number_cell((mean or {}).get('images')),
          tables.number_cell(audit.get('max_perturbation'), 5),
          tables.number_cell(audit.get('nan')),
          tables.text_cell(pixels),
        )
      )
  columns = [
    *([tables.column('run')] if several else []),
    *map(tables.column, ('attack', 'films', 'norm', 'epsilon (1/255)')),
    tables.column('mean AUROC', estimate=True),
    tables.column('mean average precision', estimate=True),
    *map(
      tables.column,
      ('number of films', 'largest perturbation', 'NaN', 'pixel range'),
    ),
  ]
  table = tables.table(
    'attacks',
    'Under attack, as measured',
    columns,
    rows,
    notes=[
      'Largest perturbation: measured on the attacked films, in units of the '
      '[0, 1] film. An AUROC below 0.5: the attack has turned the order round.'
    ],
  )
  if not table:
    return None
  figures = []
  if series:
    caption = 'Mean AUROC over epsilon'
    if len(series) == 1:
      caption += f', {next(iter(series))}'
    figures.append(plots.drawing(plots.security_curve(series), caption, series))
  checks = tables.group([_checks_table(runs)])
  groups = [g for g in (tables.group([table]), checks) if g]
  return {'figures': figures, 'groups': groups}


def check_warnings(metrics: Mapping) -> list[str]:
  """A sentence for each flag that is raised."""
  return [
    f'Attack check "{tables.spelled(flag["name"])}" '
    f'({_check_value(flag["value"])}, limit {flag["limit"]:.3g}'
    + (f'; {part_answer.condition(flag)}' if flag['attack'] else '')
    + f'; {tables.count(flag["images"], "film")}): {flag["why"]}'
    for flag in metrics.get('attack_checks', ())
    if flag['raised']
  ]


def _check_value(value):
  return 'not measurable' if value is None else f'{value:.3g}'


def _checks_table(runs: Mapping[str, Mapping]) -> dict | None:
  """Every flag, raised or not: that a check was passed is a result, too."""
  several = len(runs) > 1
  rows = [
    tables.row(
      *([tables.text_cell(name)] if several else []),
      tables.text_cell(tables.spelled(flag['name'])),
      tables.text_cell(flag['attack']),
      tables.number_cell(float(flag['epsilon']), 2),
      tables.number_cell(flag['images']),
      tables.text_cell(_check_value(flag['value'])),
      tables.text_cell(f'{flag["limit"]:.3g}'),
      tables.text_cell('raised' if flag['raised'] else 'passed'),
    )
    for name, metrics in runs.items()
    for flag in metrics.get('attack_checks', ())
  ]
  columns = [
    *(['run'] if several else []),
    *('check', 'attack', 'epsilon (1/255)', 'films', 'value', 'limit', 'flag'),
  ]
  return tables.table(
    'attack-checks',
    'Whether the attacks may be believed',
    [tables.column(text) for text in columns],
    rows,
    notes=[
      'Randomized output: largest spread of a logit over calls on one film. '
      'Zero gradient: share of films with none. Black box wins: share of films '
      'whose loss is higher under Square than under PGD. Not converged: fall '
      'of the mean AUROC with many more steps. Larger epsilon weaker: largest '
      'rise of the mean AUROC, against half of its interval.'
    ],
  )


def _security_points(metrics):
  """Attack -> [(epsilon, mean AUROC)], from the clean figure on."""
  clean_scores = metrics.get('classification', {}).get('test', {})
  clean = clean_scores.get('auroc', {}).get('mean')
  points = {}
  for entry in filter(part_answer.main_films, metrics.get('robustness', ())):
    mean = entry.get('auroc', {}).get('mean')
    if mean:
      name = f'{entry["attack"]} {entry.get("norm", "")}'.strip()
      points.setdefault(name, []).append((entry['epsilon'], mean))
  for found in points.values():
    # The clean figure belongs to the curve only if the films are the same.
    if clean and clean.get('images') == found[0][1].get('images'):
      found.append((0.0, clean))
    found.sort(key=lambda point: point[0])
  return points
