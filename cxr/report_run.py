"""The parts of one run's page, each from metrics.json, data.json and the like.

A part is what templates/report.html shows: sentences, tiles, drawings
{'svg', 'caption'} and groups of tables; None where the run has no such figure.
"""

import json
from collections.abc import Mapping, Sequence

import markupsafe

from cxr import plots, published, tables
from cxr.measures import MEANINGS

RATIOS = {'iou': 'IoU', 'iobb': 'IoBB'}
_KEYS = [tables.column(text) for text in ('method', 'finding', 'rule')]


# What stands for the whole: one split, one method, one rule, one score.


def main_split(scores: Mapping) -> str | None:
  return 'test' if 'test' in scores else next(iter(scores), None)


def shown_splits(classification: Mapping) -> dict:
  """Test films first; validation films chose the checkpoint: no headline."""
  names = sorted(classification, key=lambda split: split != 'test')
  return {n: classification[n] for n in names if n != 'validation'}


def main_method(methods: Mapping) -> str | None:
  own = [m for m in methods if not tables.is_control(m)]
  return 'cam' if 'cam' in own else next(iter(own), None)


def main_rule(localization: Mapping) -> str:
  methods = localization.get('methods', {})
  return next(iter(methods.get(main_method(methods), {})), '')


def mean_scores(localization: Mapping, method: str) -> Mapping:
  """Score -> estimate, mean over findings, under the main rule."""
  rules = localization.get('methods', {}).get(method, {})
  return rules.get(main_rule(localization), {}).get('mean', {})


def main_score(scores: Mapping) -> str | None:
  """T(IoU) .3 where measured: chance fails it, a good map meets it."""
  wanted = ('iou@0.3', 'iou@0.1', 'mean_iou')
  return next((s for s in wanted if s in scores), None)


def attacked(entries: Sequence[Mapping]) -> Mapping | None:
  """The entry at the largest epsilon, on the test films."""
  entries = [e for e in entries if e['epsilon'] and main_films(e)]
  return max(entries, key=lambda e: e['epsilon'], default=None)


def main_films(entry: Mapping) -> bool:
  return entry.get('split', 'test') == 'test'


def condition(entry: Mapping) -> str:
  return f'{entry["attack"]} at epsilon {entry["epsilon"]:g}/255'


def spelled(name: str) -> str:
  return name.replace('_', ' ')


# The first screen.


def answer(metrics: Mapping) -> str:
  sentences = []
  classification = metrics.get('classification', {})
  scores = classification.get(main_split(classification), {})
  auroc = scores.get('auroc', {}).get('mean')
  if auroc:
    text = (
      f'On {tables.count(auroc.get("images"), "test film")} of '
      f'{tables.count(auroc.get("patients"), "patient")} the mean AUROC is '
      f'{tables.with_interval(auroc)}'
    )
    entry = attacked(metrics.get('robustness', ()))
    if entry:
      under = entry['auroc'].get('mean') or {}
      kept = tables.with_interval(under)
      text += f', and {kept} under {condition(entry)}'
      if under.get('images') != auroc.get('images'):
        few = tables.count(under.get('images'), 'of them', 'of them')
        text += f' on {few}'
    sentences.append(f'{text}.')
  localization = metrics.get('localization', {})
  method = main_method(localization.get('methods', {}))
  score = method and main_score(mean_scores(localization, method))
  if score:
    here = tables.with_interval(mean_scores(localization, method)[score])
    boxes = sum(localization.get('count', {}).values())
    text = (
      f'Boxes drawn from {method} reach an accuracy of {here} at '
      f'{tables.score_name(score)} on '
      f'{tables.count(boxes, "true box", "true boxes")}'
    )
    controls = [
      f'{tables.number(value)} for the {tables.method_name(control)}'
      for control in ('random', method + tables.MOVED, 'mean_box')
      if (
        value := tables.value_of(mean_scores(localization, control).get(score))
      )
      is not None
    ]
    if controls:
      text += f', against {tables.listed(controls)}'
    scores = mean_scores(localization, method)
    afp = tables.value_of(scores.get(f'afp_{score}'))
    if afp is not None:
      text += f', at an AFP of {tables.number(afp, 2)}'
    sentences.append(f'{text}.')
  share = metrics.get('measures', {}).get('lesion_share', {}).get('', {})
  share = share.get('', {}).get('mean')
  if tables.value_of(share) is not None:
    sentences.append(
      "Of what lesion and shortcut add to a finding's logit the lesion's share "
      f'is {tables.with_interval(share)}.'
    )
  if not sentences:
    return 'This run has not been evaluated yet: there are no figures.'
  return ' '.join(sentences)


def tile(label: str, estimate: tables.Estimate, *lines: str, sign=False):
  """A large figure with its interval and counts."""
  estimate = estimate or {}
  value = tables.value_of(estimate)
  counts = ''
  if estimate.get('images') is not None:
    counts = (
      f'{tables.count(estimate["images"], "film")}, '
      f'{tables.count(estimate.get("patients"), "patient")}'
    )
  lines = (
    tables.interval_of(estimate, sign=sign),
    *lines,
    counts,
    estimate.get('why', ''),
  )
  return {
    'label': label,
    'text': tables.number(value, sign=sign),
    'lines': [line for line in lines if line],
  }


def tiles(metrics: Mapping) -> list[dict]:
  result = []
  classification = metrics.get('classification', {})
  for split, scores in shown_splits(classification).items():
    label = 'clean' if split == 'test' else spelled(split)
    if 'mean' in scores.get('auroc', {}):
      result.append(tile(f'Mean AUROC, {label}', scores['auroc']['mean']))
  entry = attacked(metrics.get('robustness', ()))
  if entry and 'mean' in entry.get('auroc', {}):
    label = f'Mean AUROC, {condition(entry)}'
    result.append(tile(label, entry['auroc']['mean']))
  localization = metrics.get('localization', {})
  for method in localization.get('methods', {}):
    scores = mean_scores(localization, method)
    score = main_score(scores)
    if tables.is_control(method) or not score:
      continue
    afp = tables.value_of(scores.get(f'afp_{score}'))
    line = '' if afp is None else f'AFP {tables.number(afp, 2)}'
    label = f'Accuracy at {tables.score_name(score)}, {method}'
    result.append(tile(label, scores[score], line))
  return result


# Localization.


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
          mean_scores(scores, method), kind
        )
        for method in methods
        if drawn(method)
      },
      kind,
      main_rule(scores),
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
      found, localization_filters(rows, main_rule(scores), method='')
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
  return drawing(figure, caption, series)


def drawing(figure, caption: str, series: Mapping) -> dict:
  """A figure for the page; its text alternative tells where lines begin and
  end. `series`: name -> [(x, estimate)]."""
  ends = []
  for name, points in series.items():
    known = [(x, v) for x, e in points if (v := tables.value_of(e)) is not None]
    if known:
      (x, y), (x_end, y_end) = known[0], known[-1]
      ends.append(f'{name}: {y:.3g} at {x:g}, {y_end:.3g} at {x_end:g}')
  return {
    'svg': markupsafe.Markup(
      plots.svg(figure, f'{caption}. {"; ".join(ends)}.')
    ),
    'caption': f'{caption}.',
  }


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


# Classification, calibration, robustness, training, data, configuration.


def classification(metrics, data, caveat: str) -> list[dict | None]:
  found = []
  by_split = metrics.get('classification', {})
  # Validation films chose the checkpoint: last.
  for split in [*shown_splits(by_split), 'validation']:
    scores = by_split.get(split, {})
    positives = splits(data).get(split, {}).get('positives', {})
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
        f'AUROC and average precision, {spelled(split)} films',
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
        spelled(split): scores.get('auroc', {})
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
          tables.text_cell(spelled(entry.get('split', 'test'))),
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
    figures.append(drawing(plots.security_curve(series), caption, series))
  checks = tables.group([_checks_table(runs)])
  groups = [g for g in (tables.group([table]), checks) if g]
  return {'figures': figures, 'groups': groups}


def check_warnings(metrics: Mapping) -> list[str]:
  """A sentence for each flag that is raised."""
  return [
    f'Attack check "{spelled(flag["name"])}" '
    f'({_check_value(flag["value"])}, limit {flag["limit"]:.3g}'
    + (f'; {condition(flag)}' if flag['attack'] else '')
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
      tables.text_cell(spelled(flag['name'])),
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
  for entry in filter(main_films, metrics.get('robustness', ())):
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


def training(rows: Sequence[Mapping]) -> list[dict]:
  """Curves of what train.jsonl has."""
  figures = []
  for label, ylim, belongs in (
    ('loss', None, lambda key: key.endswith('loss')),
    ('AUROC', (0, 1), lambda key: key.endswith('auroc')),
    ('films per second', None, lambda key: key == 'films_per_second'),
  ):
    series = {}
    for row in rows:
      for key, value in row.items():
        if belongs(key) and 'step' in row and isinstance(value, int | float):
          series.setdefault(key, []).append((row['step'], value))
    if series:
      columns = {k: tuple(zip(*p, strict=True)) for k, p in series.items()}
      figures.append(
        drawing(
          plots.curves(columns, xlabel='step', ylabel=label, ylim=ylim),
          f'{label[0].upper()}{label[1:]} over training steps',
          {k: [(x, {'value': y}) for x, y in p] for k, p in series.items()},
        )
      )
  return figures


def splits(data: Mapping) -> dict[str, Mapping]:
  """Split -> its counts."""
  return {
    name: counts
    for name, counts in data.get('splits', data).items()
    if isinstance(counts, Mapping) and 'images' in counts
  }


def data_part(data: Mapping) -> list[dict]:
  counts = splits(data)
  boxes = {
    name: of.get('boxes') if isinstance(of.get('boxes'), Mapping) else {}
    for name, of in counts.items()
  }
  table = tables.table(
    'splits',
    'Films, patients and boxes',
    [
      *map(tables.column, ('split', 'films', 'patients', 'boxes')),
      tables.column('SHA-256 of the sorted names'),
    ],
    [
      tables.row(
        tables.text_cell(spelled(name)),
        tables.number_cell(of.get('images')),
        tables.number_cell(of.get('patients')),
        tables.number_cell(sum(boxes[name].values())),
        tables.text_cell(
          f'{of.get("sha256", "")[:16]}…', tsv=of.get('sha256', '')
        ),
      )
      for name, of in counts.items()
    ],
    notes=['The hash is cut here; what is copied has all of it.'],
  )
  findings = dict.fromkeys(
    f for of in counts.values() for f in of.get('positives', {})
  )
  positives = tables.table(
    'positives',
    'Positive films and true boxes per finding',
    [
      tables.column('finding'),
      *(tables.column(spelled(name)) for name in counts),
      tables.column('boxes, test'),
    ],
    [
      tables.row(
        tables.text_cell(finding),
        *(
          tables.number_cell(of.get('positives', {}).get(finding))
          for of in counts.values()
        ),
        tables.number_cell(boxes.get('test', {}).get(finding)),
      )
      for finding in findings
    ],
  )
  left_out = tables.table(
    'left-out',
    'Left out',
    [tables.column('reason'), tables.column('films')],
    [
      tables.row(
        tables.text_cell(spelled(reason)),
        tables.number_cell(n)
        if isinstance(n, int)
        else tables.text_cell(setting(n)),
      )
      for reason, n in flatten(data.get('left_out', {})).items()
    ],
  )
  return [tables.group([t]) for t in (table, positives, left_out) if t]


def configuration(config: Mapping, versions: Mapping) -> list[dict]:
  found = [
    tables.table(
      id,
      caption,
      [tables.column('field'), tables.column('value')],
      [
        tables.row(tables.text_cell(key), tables.text_cell(setting(value)))
        for key, value in flatten(values).items()
      ],
    )
    for id, caption, values in (
      ('config', 'config.json', config),
      ('versions', 'Versions', versions),
    )
  ]
  return [tables.group([t]) for t in found if t]


def flatten(tree: Mapping, prefix: str = '') -> dict:
  """Nested dicts -> dotted names."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, Mapping):
      flat |= flatten(value, f'{prefix}{key}.')
    else:
      flat[f'{prefix}{key}'] = value
  return flat


def setting(value) -> str:
  return value if isinstance(value, str) else json.dumps(value)
