"""The section 'Robustness' of one run or of several: what the attacks did, and
whether their results may be believed.
"""

from collections.abc import Mapping

from cxr.reporting import main_result, plots, tables, wording


def robustness(
  runs: Mapping[str, Mapping], first: tables.Group | None = None
) -> tables.Section | None:
  """The curve over epsilon, and a table of the attacks and of their checks.

  Args:
    runs: name -> its metrics.json; with several, each row names its run.
    first: tables that stand before these.
  """
  attacks = _attacks(runs)
  if not (first or attacks):
    return None
  several = len(runs) > 1
  curves = {
    f'{name}, {attack}' if several else attack: points
    for name, metrics in runs.items()
    for attack, points in _security_points(metrics).items()
  }
  caption = 'Mean AUROC over epsilon'
  if len(curves) == 1:
    caption += f', {next(iter(curves))}'
  curve = plots.drawing(
    caption, curves, 'epsilon (1/255)', 'mean AUROC', ylim=(0, 1)
  )
  checks = _checks(runs) if attacks else None
  groups = [first, attacks, checks]
  return tables.Section('robustness', 'Robustness', groups, figures=[curve])


def check_warnings(metrics: Mapping) -> list[str]:
  """A sentence for every check of the attacks that raised its flag."""
  return [
    f'Attack check "{wording.spelled(flag["name"])}" '
    f'({_check_value(flag)}, limit {flag["limit"]:.3g}'
    + (f'; {main_result.condition(flag)}' if flag['attack'] else '')
    + f'; {_films(flag)}): {flag["why"]}'
    for flag in metrics.get('attack_checks', ())
    if flag['raised']
  ]


def _attacks(runs):
  rows = []
  for run, entry in _of_runs(runs, 'robustness'):
    audit, mean = entry.get('audit', {}), entry.get('auroc', {}).get('mean')
    pixels = wording.UNDEFINED
    if audit.get('min') is not None and audit.get('max') is not None:
      pixels = f'{audit["min"]:.3g} to {audit["max"]:.3g}'
    perturbation = audit.get('max_perturbation')
    rows.append(
      run
      | {
        'attack': entry['attack'],
        'split': wording.spelled(entry.get('split', 'test')),
        'norm': entry.get('norm', ''),
        'epsilon (1/255)': tables.number_cell(float(entry['epsilon']), 2),
        'mean AUROC': mean or {},
        'mean average precision': entry.get('average_precision', {}).get('mean')
        or {},
        'films': (mean or {}).get('images'),
        'largest perturbation': tables.number_cell(perturbation, 5),
        'NaN': audit.get('nan'),
        'pixel range': pixels,
      }
    )
  return tables.table(
    'attacks',
    'Under attack, as measured',
    rows,
    'The largest perturbation and the range of the pixels are measured on the '
    'attacked films, whose pixels lie in [0, 1]. Where an AUROC is below 0.5, '
    'the attack has reversed the order of the films.',
  )


def _of_runs(runs, part):
  """(first cell, entry) of every run; a single run needs no such cell."""
  for name, metrics in runs.items():
    for entry in metrics.get(part, ()):
      yield {'run': name} if len(runs) > 1 else {}, entry


def _checks(runs):
  """Every check, raised or not: that an attack passed one is a result, too."""
  rows = [
    run
    | {
      'check': wording.spelled(flag['name']),
      'attack': flag['attack'],
      'epsilon (1/255)': tables.number_cell(float(flag['epsilon']), 2),
      'films': _films(flag),
      'value': _check_value(flag),
      'limit': f'{flag["limit"]:.3g}',
      'flag': 'raised'
      if flag['raised']
      else ('not measured' if flag['value'] is None else 'passed'),
    }
    for run, flag in _of_runs(runs, 'attack_checks')
  ]
  return tables.table(
    'attack-checks',
    'Whether the attacks may be believed',
    rows,
    'A flag is raised where the whole 95 % interval of the value lies above '
    'the limit. The value of "randomized output" is the largest spread of a '
    'logit over calls on one film. That of "zero gradient" is the share of '
    'films whose gradient is zero. That of "black box wins" is the share of '
    'films whose loss is higher under Square than under PGD. That of "not '
    'converged" is the fall of the mean AUROC with many more steps. That of '
    '"larger epsilon weaker" is the largest rise of the mean AUROC with '
    'epsilon.',
  )


def _check_value(flag):
  """'0.25 (0.0727 to 0.524)'; flags of older evaluations have no interval."""
  if flag['value'] is None:
    return 'not measurable'
  low, high = flag.get('low'), flag.get('high')
  interval = '' if low is None or low == high else f' ({low:.3g} to {high:.3g})'
  return f'{flag["value"]:.3g}{interval}'


def _films(flag):
  """'4 of 16 films', or '256 films' where the value is no share of films."""
  of = '' if flag.get('count') is None else f'{flag["count"]} of '
  return of + wording.count(flag['images'], 'film')


def _security_points(metrics):
  """Attack -> [(epsilon, estimate of the mean AUROC)], by epsilon."""
  clean_scores = metrics.get('classification', {}).get('test', {})
  clean = clean_scores.get('auroc', {}).get('mean')
  curves = {}
  for entry in filter(main_result.main_films, metrics.get('robustness', ())):
    mean = entry.get('auroc', {}).get('mean')
    if mean:
      name = f'{entry["attack"]} {entry.get("norm", "")}'.strip()
      curves.setdefault(name, []).append((entry['epsilon'], mean))
  for points in curves.values():
    # The clean films belong to the curve only where they are the same films.
    if clean and clean.get('images') == points[0][1].get('images'):
      points.append((0.0, clean))
    points.sort(key=lambda point: point[0])
  return curves
