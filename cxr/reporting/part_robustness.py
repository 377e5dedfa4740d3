"""The section 'Robustness' of one run or of several: what the attacks did, and
whether their results may be believed.
"""

from collections.abc import Mapping

from cxr.reporting import main_result, plots, tables, wording

# Of the curves; the second is drawn dashed, in the colour of the first.
_AIMS = 'every finding alone', 'all findings at once'


def robustness(
  runs: Mapping[str, Mapping], first: tables.Group | None = None
) -> tables.Section | None:
  """The curves over epsilon, and a table of the attacks and of their checks.

  What was measured with every finding attacked alone stands first.

  Args:
    runs: name -> its metrics.json; with several, each row names its run.
    first: tables that stand before these.
  """
  table = _attacks(runs)
  if not (first or table):
    return None
  curves, dashed = {}, []
  points = {name: _security_points(metrics) for name, metrics in runs.items()}
  attacks = {attack for of_run in points.values() for attack, _ in of_run}
  for name, of_run in points.items():
    for attack in dict.fromkeys(attack for attack, _ in of_run):
      aims = [aim for aim in _AIMS if (attack, aim) in of_run]
      for aim in aims:
        parts = [name] if len(runs) > 1 else []
        parts += [aim] + ([attack] if len(attacks) > 1 else [])
        label = ', '.join(parts)
        curves[label] = of_run[attack, aim]
        dashed += [label] if aim != aims[0] else []
  caption = 'Mean AUROC over epsilon'
  if len(attacks) == 1:
    caption += f', {", ".join(attacks)}'
  curve = plots.drawing(
    caption,
    curves,
    'epsilon (1/255)',
    'mean AUROC',
    ylim=(0, 1),
    dashed=dashed,
  )
  checks = _checks(runs) if table else None
  return tables.Section(
    'robustness',
    'Robustness',
    [first, table, checks],
    text=_not_alone(runs),
    figures=[curve],
  )


def _not_alone(runs) -> list[str]:
  """A sentence where a run's findings were not attacked each alone."""
  names = [
    name
    for name, metrics in runs.items()
    if main_result.without_alone(metrics.get('robustness', ()))
  ]
  if not names:
    return []
  of_runs = f' ({wording.listed(names)})' if len(runs) > 1 else ''
  return [wording.not_alone(of_runs)]


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
        'findings attacked': aim(entry),
        'attack': entry['attack'].removesuffix(wording.ALONE),
        'split': wording.spelled(entry.get('split', 'test')),
        'norm': entry.get('norm', ''),
        'epsilon (1/255)': tables.number_cell(float(entry['epsilon']), 2),
        'mean AUROC': mean or {},
        'change by the attack': tables.estimate_cell(
          entry.get('change'), sign=True
        ),
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
    'the attack has reversed the order of the films. The change is from the '
    'same films without the attack. Where every finding is attacked alone, its '
    'films are chosen by their labels, so there is no average precision.',
    wording.RAISES,
  )


def aim(entry: Mapping) -> str:
  """'every one alone' or 'all at once'."""
  return (
    'every one alone' if wording.is_alone(entry['attack']) else 'all at once'
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
      'attack': wording.attack_name(flag['attack']) if flag['attack'] else '',
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
    '"no effect" is the change of the mean AUROC by the attack, and its films '
    'are those of which no logit moved. That of "larger epsilon weaker" is the '
    'largest rise of the mean AUROC with epsilon.',
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
  """(attack, aim) -> [(epsilon, estimate of the mean AUROC)], by epsilon."""
  curves = {}
  for entry in filter(main_result.main_films, metrics.get('robustness', ())):
    mean = entry.get('auroc', {}).get('mean')
    if not mean:
      continue
    alone = wording.is_alone(entry['attack'])
    attack = entry['attack'].removesuffix(wording.ALONE)
    name = f'{attack} {entry.get("norm", "")}'.strip()
    points = curves.setdefault((name, _AIMS[not alone]), {})
    # Without the attack, of the same films.
    points |= {0.0: entry['clean']} if entry.get('clean') else {}
    points[entry['epsilon']] = mean
  return {key: sorted(of.items()) for key, of in curves.items()}
