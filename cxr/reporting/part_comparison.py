"""The parts of the page that sets runs side by side.

An entry of a comparison is {'runs': [estimate], 'difference': the second run
minus the first, with 'p' and 'p_holm', 'differences': one for each later run
where there are three runs or more}.
"""

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cxr.reporting import (
  gallery,
  part_answer,
  part_localization,
  part_measures,
  part_origin,
  part_robustness,
  plots,
  tables,
)


def _differences(entry: Mapping) -> list[Mapping]:
  return entry.get('differences') or [entry.get('difference') or {}]


def _leaf(tree, *path):
  """The value at the end of a path, {} where it breaks off."""
  for key in path:
    tree = tree.get(key, {}) if isinstance(tree, Mapping) else {}
  return tree


# The first screen: does it localize better, by how much, at what price?


class _Question(NamedTuple):
  """What answers the paper's question: means over findings."""

  method: str
  score: str
  entry: Mapping
  false_positives: Mapping  # the same of AFP; empty where not measured
  random: float | None  # what a random map reaches


def _question(comparison) -> _Question | None:
  localization = comparison.get('localization', {})
  method = part_answer.main_method(localization)
  for rule, scores in localization.get(method, {}).items():
    score = part_answer.main_score(scores)
    entry = _leaf(scores, score, 'mean')
    if entry:
      control = _leaf(localization, 'random', rule, score, 'mean')
      return _Question(
        method,
        score,
        entry,
        _leaf(scores, f'afp_{score}', 'mean'),
        tables.value_of(control['runs'][0]) if control else None,
      )
  return None


def _against(entry: Mapping, i: int, digits: int = 3) -> str:
  """'0.41 against 0.32': of the later run i and of the first."""
  return ' against '.join(
    tables.number(tables.value_of(entry['runs'][k]), digits) for k in (i + 1, 0)
  )


def _auroc(comparison):
  classification = comparison.get('classification', {})
  split = part_answer.main_split(classification)
  return _leaf(classification, split, 'auroc', 'mean')


def _attacked(comparison):
  """(its condition, entry) at the largest epsilon that the runs share."""
  entry = part_answer.attacked(comparison.get('robustness', ()))
  mean = _leaf(entry or {}, 'auroc', 'mean')
  return (part_answer.condition(entry), mean) if mean else None


def _told(difference):
  """'+0.031 (+0.010 to +0.052; p = 0.004)'."""
  inner = [tables.interval_of(difference, sign=True)]
  p = difference.get('p')
  if p is not None:
    inner.append(f'p {tables.p_text(p)}' if p < 0.001 else f'p = {p:.3f}')
  inner = '; '.join(text for text in inner if text)
  text = tables.number(tables.value_of(difference), sign=True)
  return f'{text} ({inner})' if inner else text


def answer(comparison: Mapping) -> str:
  first, *others = comparison['runs']
  sentences = []
  question, auroc = _question(comparison), _auroc(comparison)
  for i, other in enumerate(others):
    if question and len(_differences(question.entry)) > i:
      sentences.append(_verdict(first, other, question, i))
    if auroc and len(_differences(auroc)) > i:
      difference = _differences(auroc)[i]
      value = tables.value_of(difference)
      if value is not None:
        word = 'price' if value < 0 else 'change'
        sentences.append(
          f'The {word} in mean AUROC on clean films: {_told(difference)}.'
        )
  return ' '.join(sentences) or 'These runs share no figures to compare.'


def _verdict(first, other, question, i):
  difference = _differences(question.entry)[i]
  value = tables.value_of(difference)
  name = tables.score_name(question.score)
  if value is None:
    return f'Whether {other} localizes better than {first} is undefined here.'
  low, high = difference.get('low'), difference.get('high')
  if low is not None and (low > 0 or high < 0):
    word = 'better' if value > 0 else 'worse'
    opening = f'{other} localizes {word} than {first}'
  else:
    opening = f'No difference in localization between {other} and {first} shows'
  text = (
    f'{opening}: with {question.method}, accuracy at {name} is '
    f'{_against(question.entry, i)}, a difference of {_told(difference)}'
  )
  if question.false_positives:
    text += f', at an AFP of {_against(question.false_positives, i, 2)}'
  if question.random is not None:
    text += f'; a random map reaches {tables.number(question.random)}'
  return f'{text}.'


def tiles(comparison: Mapping) -> list[dict]:
  entries = []
  question, auroc = _question(comparison), _auroc(comparison)
  attacked = _attacked(comparison)
  if question:
    name = tables.score_name(question.score)
    label = f'Accuracy at {name}, {question.method}'
    entries.append((label, question.entry, question.false_positives))
  if auroc:
    entries.append(('Mean AUROC, clean', auroc, {}))
  if attacked:
    entries.append((f'Mean AUROC, {attacked[0]}', attacked[1], {}))
  first, *others = comparison['runs']
  return [
    part_answer.tile(
      f'{label}: {other} less {first}',
      difference,
      _against(entry, i),
      f'AFP {_against(beside, i, 2)}' if beside else '',
      sign=True,
    )
    for label, entry, beside in entries
    for i, (other, difference) in enumerate(
      zip(others, _differences(entry), strict=False)
    )
  ]


_HEADLINE = 'iou@0.1', 'iou@0.3', 'afp_iou@0.3', 'iou@0.5', 'pointing'


def headline(comparison: Mapping) -> dict | None:
  """The few figures that matter, all runs and differences."""
  entries = {}
  localization = comparison.get('localization', {})
  for method, rules in localization.items():
    scores = next(iter(rules.values()), {})
    for score in _HEADLINE:
      name = tables.score_name(score)
      if not tables.is_control(method):
        label = f'accuracy at {name}' if score.startswith('iou') else name
        entries[f'{method}: {label}'] = _leaf(scores, score, 'mean')
  classification = comparison.get('classification', {})
  for split, scores in part_answer.shown_splits(classification).items():
    label = f'mean AUROC, {tables.spelled(split)}'
    entries[label] = _leaf(scores, 'auroc', 'mean')
  attacked = _attacked(comparison)
  if attacked:
    entries[f'mean AUROC, {attacked[0]}'] = attacked[1]
  # Of phantoms: what the logits rest on.
  entries["the lesion's share of its and the shortcut's effect"] = _leaf(
    comparison, 'measures', 'lesion_share', '', '', 'mean'
  )
  rows = [
    tables.row(tables.text_cell(label), *_cells(entry, holm=False))
    for label, entry in entries.items()
    if entry
  ]
  table = tables.table(
    'headline',
    'Better maps, and their price',
    [
      tables.column('measure'),
      *_columns(comparison['runs'], holm=False),
    ],
    rows,
    notes=[_note(comparison['runs'], holm=False)],
  )
  return tables.group([table])


# A mean stands alone: Holm's correction is over the findings.


def _cells(entry, *, holm=True):
  cells = [tables.estimate_cell(run) for run in entry['runs']]
  for difference in _differences(entry):
    cells.append(tables.estimate_cell(difference, sign=True))
    for key in ('p', 'p_holm') if holm else ('p',):
      cells.append(tables.p_cell(difference.get(key)))
  return cells


def _columns(names, *, holm=True):
  columns = [tables.column(name, estimate=True) for name in names]
  for other in names[1:]:
    of = f', {other}' if len(names) > 2 else ''
    columns.append(tables.column(f'difference{of}', estimate=True))
    for p in ('p', 'p, Holm') if holm else ('p',):
      columns.append(tables.column(f'{p}{of}'))
  return columns


def _note(names, *, holm=True):
  note = (
    f'Difference: less {names[0]}, paired on the same films, its interval by '
    'bootstrap over patients, p by swapping patients between the runs'
  )
  return note + ('; Holm: corrected over the findings.' if holm else '.')


# Every figure.


def localization(comparison: Mapping, metrics: Mapping) -> dict | None:
  """`metrics`: run -> its metrics.json, for the curves."""
  names = comparison['runs']
  rows = []
  for method, rules in comparison.get('localization', {}).items():
    for i, (rule, scores) in enumerate(rules.items()):
      for score, findings in scores.items():
        for finding, entry in findings.items():
          # Per finding under the first rule only: the page stays small.
          if i and finding != 'mean':
            continue
          rows.append(
            tables.row(
              tables.text_cell(tables.score_name(score)),
              tables.text_cell(tables.method_name(method)),
              tables.text_cell(finding),
              tables.text_cell(rule),
              *_cells(entry),
              kind=part_localization.kind_of(method, rule),
              method=method,
              rule=rule,
              finding=finding,
            )
          )
  if not rows:
    return None
  table = tables.table(
    'localization-scores',
    'Every localization score, run beside run',
    [
      *map(tables.column, ('score', 'method', 'finding', 'rule')),
      *_columns(names),
    ],
    rows,
    notes=[_note(names)],
  )
  method = part_answer.main_method(comparison['localization']) or ''
  rule = next(iter(comparison['localization'].get(method, {})), '')
  filters = part_localization.localization_filters(rows, rule, method=method)
  curves = [
    part_localization.accuracy_curve(_series(metrics, kind), kind, rule)
    for kind in part_localization.RATIOS
  ]
  return {
    'figures': [c for c in curves if c],
    'groups': [tables.group([table], filters)],
  }


def _series(metrics, kind):
  """Every run's methods, and the controls of the first."""
  series = {}
  for i, (run, of_run) in enumerate(metrics.items()):
    scores = of_run.get('localization', {})
    for method in scores.get('methods', {}):
      points = part_localization.thresholds(
        part_answer.mean_scores(scores, method), kind
      )
      if not tables.is_control(method):
        series[f'{run}, {method}'] = points
      elif not i and part_localization.drawn(method):
        series[tables.method_name(method)] = points
  return series


def classification(comparison: Mapping) -> list[dict]:
  names = comparison['runs']
  rows = [
    tables.row(
      tables.text_cell(finding),
      tables.text_cell(tables.spelled(split)),
      *_cells(entry),
      split=split,
    )
    for split, scores in comparison.get('classification', {}).items()
    for finding, entry in scores.get('auroc', {}).items()
  ]
  table = tables.table(
    'classification-scores',
    'AUROC per finding, run beside run',
    [
      tables.column('finding'),
      tables.column('films'),
      *_columns(names),
    ],
    rows,
    notes=[_note(names)],
  )
  spelled = {r['tags']['split']: r['cells'][1]['text'] for r in rows}
  films = tables.choice('split', 'Films', rows, default='test', names=spelled)
  return [g for g in [tables.group([table], [films])] if g]


def robustness(comparison: Mapping, metrics: Mapping) -> dict | None:
  names = comparison['runs']
  rows = [
    tables.row(
      tables.text_cell(finding),
      tables.text_cell(entry['attack']),
      tables.text_cell(tables.spelled(entry.get('split', 'test'))),
      tables.number_cell(float(entry['epsilon']), 2),
      *_cells(scores),
      finding=finding,
      epsilon=f'{entry["epsilon"]:g}',
    )
    for entry in comparison.get('robustness', ())
    for finding, scores in entry.get('auroc', {}).items()
  ]
  table = tables.table(
    'robustness-scores',
    'AUROC under attack, run beside run',
    [
      *map(tables.column, ('finding', 'attack', 'films', 'epsilon (1/255)')),
      *_columns(names),
    ],
    rows,
    notes=[_note(names)],
  )
  filters = [
    tables.choice('finding', 'Finding', rows, default='mean'),
    tables.choice('epsilon', 'Epsilon (1/255)', rows, default=''),
  ]
  measured = part_robustness.robustness(metrics) or {
    'figures': [],
    'groups': [],
  }
  groups = [g for g in [tables.group([table], filters)] if g]
  if not groups and not measured['groups']:
    return None
  return measured | {'groups': groups + measured['groups']}


def measures(comparison: Mapping) -> dict | None:
  names, found = comparison['runs'], comparison.get('measures', {})
  rows = [
    tables.row(
      *part_measures.measure_cells(measure, method, condition, finding),
      *_cells(entry),
      measure=measure,
      finding=finding,
    )
    for measure, method, condition, findings in part_measures.measured(found)
    for finding, entry in findings.items()
  ]
  table = tables.table(
    'measures-table',
    'Measures of a film, run beside run',
    [*map(tables.column, part_measures.MEASURE_KEYS), *_columns(names)],
    rows,
    notes=[_note(names), *part_measures.measure_notes(found)],
  )
  return tables.group([table], part_measures.measure_filters(rows))


def configuration(configs: Mapping[str, Mapping]) -> list[dict]:
  """Only the fields in which the runs differ."""
  flat = {name: part_origin.flatten(config) for name, config in configs.items()}
  rows = []
  for field in dict.fromkeys(f for values in flat.values() for f in values):
    texts = [
      part_origin.setting(values[field]) if field in values else '–'
      for values in flat.values()
    ]
    if len(set(texts)) > 1:
      cells = [tables.text_cell(text) for text in texts]
      rows.append(tables.row(tables.text_cell(field), *cells))
  table = tables.table(
    'config',
    'Fields in which the runs differ',
    [tables.column('field'), *map(tables.column, flat)],
    rows,
  )
  return [g for g in [tables.group([table])] if g]


# The same films in every run.


def shared_cases(examples: Mapping[str, Sequence[Mapping]]) -> list[dict]:
  """Films that are examples of one finding in every run: {run: case} each.

  'typical' ones are in all runs on the same data, and come first.
  """
  by_run = {}
  for run, cases in examples.items():
    by_run[run] = {}
    for case in cases:
      key = case['name'], case['finding']
      # A film may stand twice, as 'typical' and as 'median'.
      if key not in by_run[run] or case['kind'] == 'typical':
        by_run[run][key] = case
  first = next(iter(by_run.values()))
  shared = [
    {run: found[key] for run, found in by_run.items()}
    for key in first
    if all(key in found for found in by_run.values())
  ]
  typical = lambda case: next(iter(case.values()))['kind'] == 'typical'
  return sorted(shared, key=typical, reverse=True)


def paper_figure(cases: Sequence[Mapping], names: Sequence[str], path: str):
  """Writes the figure to `path`; one column a finding. None without films."""
  columns = {}
  for case in cases:
    first = case[names[0]]
    columns.setdefault(
      first['finding'],
      {
        'finding': first['finding'],
        'image': first['image'],
        'truth': first['truth'],
        'maps': {name: case[name]['maps'] for name in names},
        'boxes': {name: case[name]['boxes'] for name in names},
      },
    )
  if not columns:
    return None
  methods = gallery.main_methods(
    method for c in columns.values() for method in c['maps'][names[0]]
  )
  figure = plots.gallery_figure(
    list(columns.values()), runs=names, methods=methods
  )
  plots.save(figure, path)
  # The page carries a lighter copy: the file beside it is for the paper.
  light = io.BytesIO()
  figure.savefig(light, format='jpeg', dpi=120, facecolor='white')
  uri = gallery.uri(light.getvalue(), 'jpeg')
  above, maps = ' above '.join(names), ' and '.join(methods)
  return {
    'uri': uri,
    'alt': f'A film in each column ({", ".join(columns)}); below it its maps '
    f'by {maps}, {above}, with true and predicted boxes.',
    'caption': f'The same film in each column; {above}, by {maps}. True box '
    'solid, predicted dashed; every map between its own minimum and maximum.',
  }
