"""The page that sets runs side by side: first screen and sections.

An entry of a comparison is {'runs': [estimate], 'difference': the second run
minus the first, with 'p' and 'p_holm', 'differences': one for each later run
where there are three runs or more}.
"""

import io
import itertools
from collections.abc import Mapping, Sequence

import markupsafe

from cxr import run_files
from cxr.reporting import (
  gallery,
  main_result,
  part_chexlocalize,
  part_localization,
  part_measures,
  part_origin,
  part_published,
  part_robustness,
  plots,
  tables,
  wording,
)


def _differences(entry: Mapping) -> list[Mapping]:
  return entry.get('differences') or [entry.get('difference') or {}]


def _leaf(tree, *path: str | None):
  """The value at the end of a path, {} where it breaks off."""
  for key in path:
    tree = tree.get(key, {}) if isinstance(tree, Mapping) else {}
  return tree


# The first screen: does a run localize better, by how much, and at what price?


def _results(comparison) -> dict[str, Mapping]:
  """What stands for the comparison: label -> entry, means over findings.

  Accuracy less that of another patient's maps, accuracy and the false positives
  it costs, AUROC, and AUROC at the largest epsilon that the runs share, every
  finding attacked alone before all findings at once.
  """
  localization = comparison.get('localization', {})
  classification = comparison.get('classification', {})
  method = main_result.main_method(localization) or ''
  rule = main_result.main_rule(localization)
  scores = _leaf(localization, method, rule)
  score = main_result.main_score(scores) or ''
  split = main_result.main_split(classification) or ''
  at = f'of {method} at {wording.score_name(score)}'
  less_another = method + wording.LESS_ANOTHER
  entries = {
    f"accuracy {at}, own less another patient's,": _leaf(
      localization, less_another, rule, score, 'mean'
    ),
    f'accuracy {at}': _leaf(scores, score, 'mean'),
    f'AFP {at}': _leaf(scores, f'afp_{score}', 'mean'),
    f'false boxes a film and finding {at}': _leaf(
      scores, f'false_{score}', 'mean'
    ),
    f'mean AUROC on {wording.films(split)}': _leaf(
      classification, split, 'auroc', 'mean'
    ),
  }
  entries["mean AUROC by the readers' majority"] = _leaf(
    comparison, 'readers', 'auroc', 'mean'
  )
  for attack in main_result.attacked(comparison.get('robustness', ())):
    label = f'mean AUROC under {main_result.condition(attack)}'
    # A comma closes what stands within the sentence.
    entries[f'{label},'] = _leaf(attack, 'auroc', 'mean')
  return {label: entry for label, entry in entries.items() if entry}


def _against(entry, i):
  """'0.410 against 0.320': of the later run i and of the first."""
  values = [wording.value_of(entry['runs'][k]) for k in (i + 1, 0)]
  return ' against '.join(map(wording.number, values))


def answer(comparison: Mapping) -> list[str]:
  """Whether each later run localizes better than the first; its cost."""
  results = _results(comparison).items()
  first, *others = comparison['runs']
  paragraphs = []
  for i, other in enumerate(others):
    verdict, sentences = [], []
    for k, (label, entry) in enumerate(results):
      difference = _differences(entry)[i]
      name = label.replace('AFP', 'average number of false positives (AFP)')
      name = name.replace('false boxes', 'number of false boxes')
      text = f'the {name} is {_against(entry, i)}, a difference of '
      text += f'{_changed(difference)}.'
      decides = not k and label.startswith('accuracy')
      if decides:  # A run's name stays as it is.
        text = f'{_verdict(difference, other, first)}: {text}'
      else:
        text = wording.capital(text)
      if label.startswith('accuracy') and not label.endswith(','):
        text += _random(comparison)
      # The verdict stands by itself: beside it are the page's pictures.
      (verdict if decides else sentences).append(text)
    paragraphs += [*verdict, *([' '.join(sentences)] if sentences else [])]
  if not results:
    return ['These runs have no results in common to compare.']
  if main_result.without_alone(comparison.get('robustness', ())):
    paragraphs.append(wording.NOT_ALL_ALONE)
  return paragraphs


def _verdict(difference, other, first):
  low, high = difference.get('low'), difference.get('high')
  if low is not None and (low > 0 or high < 0):
    return f'{other} localizes {"better" if low > 0 else "worse"} than {first}'
  return f'It is open whether {other} localizes better than {first}'


def _random(comparison):
  """What a random map reaches in the first run."""
  localization = comparison['localization']
  rule = main_result.main_rule(localization)
  scores = _leaf(localization, 'random', rule)
  runs = _leaf(scores, main_result.main_score(scores), 'mean', 'runs')
  value = wording.value_of(runs[0]) if runs else None
  if value is None:
    return ''
  return f' The accuracy of a random map is {wording.number(value)}.'


def _changed(difference):
  """'+0.031 (+0.010 to +0.052; p = 0.004)'."""
  p = difference.get('p')
  text = wording.p_text(p) if p is None or p < 0.001 else f'= {p:.3f}'
  more = [] if p is None else [f'p {text}']
  return wording.with_interval(difference, *more, sign=True)


def tiles(comparison: Mapping) -> list[main_result.Tile]:
  first, *others = comparison['runs']
  return [
    main_result.tile(
      f'{wording.capital(label.removesuffix(","))}: {other} less {first}',
      _differences(entry)[i],
      _against(entry, i),
      sign=True,
    )
    for label, entry in _results(comparison).items()
    for i, other in enumerate(others)
  ]


_HEADLINE = (
  'iou@0.1',
  'iou@0.3',
  'afp_iou@0.3',
  'false_iou@0.3',
  'iou@0.5',
  'pointing',
)


def headline(comparison: Mapping) -> tables.Table | None:
  """The few results that matter, of all runs, and their differences."""
  entries = {}
  localization = comparison.get('localization', {})
  for method in localization:
    if wording.is_control(method) and not method.endswith(
      wording.ANOTHER_PATIENT
    ):
      continue
    scores = localization[method].get(main_result.main_rule(localization), {})
    for score in _HEADLINE:
      name = wording.score_name(score)
      label = f'accuracy at {name}' if score.startswith('iou') else name
      label = f'{wording.method_name(method)}: {label}'
      entries[label] = _leaf(scores, score, 'mean')
  classification = comparison.get('classification', {})
  for split, scores in main_result.shown_splits(classification).items():
    label = f'mean AUROC on {wording.films(split)}'
    entries[label] = _leaf(scores, 'auroc', 'mean')
  entries["mean AUROC against the readers' majority"] = _leaf(
    comparison, 'readers', 'auroc', 'mean'
  )
  for label, entry in _results(comparison).items():
    if label.startswith('mean AUROC under'):
      entries[label.removesuffix(',')] = entry
  # Of phantoms alone.
  entries["the lesion's share of its and the shortcut's effect"] = _leaf(
    comparison, 'measures', 'lesion_share', '', '', 'mean'
  )
  rows = [({'result': label}, e) for label, e in entries.items() if e]
  caption = 'Localization, and what it costs in classification'
  return _paired(comparison, 'headline', caption, rows, holm=False)


def _paired(comparison, id, caption, rows, *notes, holm=True):
  """A table of (first cells, entry): every run, and every difference.

  Holm's correction is over the findings: a table of means has none.
  """
  first, *others = names = comparison['runs']
  kinds = {'p': 'p'} | ({'p_holm': 'p, Holm'} if holm else {})
  cells = []
  for row, entry in rows:
    row = row | dict(zip(_columns(names), entry['runs'], strict=True))
    for other, difference in zip(others, _differences(entry), strict=False):
      end = f', {other}' if len(names) > 2 else ''
      row[f'difference{end}'] = tables.estimate_cell(difference, sign=True)
      for key, name in kinds.items():
        row[name + end] = tables.p_cell(difference.get(key))
    cells.append(row)
  note = (
    f'A difference is the value of a run less that of {first} on the same '
    'films. Its interval is paired, its p by swapping '
    'patients between the runs'
  )
  note += '; "p, Holm" is corrected over the findings.' if holm else '.'
  return tables.table(id, caption, cells, note, *notes)


def _columns(names):
  """Runs as columns; a run whose name another column has is told apart."""
  taken = {'field', 'result', 'score', 'method', 'finding', 'rule', 'split'}
  taken |= {
    'attack',
    'findings attacked',
    'measure',
    'condition',
    'difference',
    'p',
    'p, Holm',
  }
  return [f'run {name}' if name in taken else name for name in names]


# Every result.

MOST_COLUMNS = 10  # of the figure


def localization(
  comparison: Mapping, metrics: Mapping, caveat: str
) -> tables.Section | None:
  """Every score, the curves, and published results.

  Args:
    comparison: of the runs.
    metrics: run -> its metrics.json.
    caveat: of published results; '' where they may not stand beside the runs'.
  """
  methods = comparison.get('localization', {})
  rows = [
    (
      {'score': wording.score_name(score)}
      | part_localization.keys(method, finding, rule),
      entry,
    )
    for method, rule, score, finding, entry in tables.walk(methods, 4)
    # Findings under the main rule alone: the page stays small.
    if finding == 'mean' or rule == main_result.main_rule(methods)
  ]
  if not rows:
    return None
  caption = 'Every localization score, run beside run'
  table = _paired(comparison, 'localization-scores', caption, rows)
  method = main_result.main_method(methods) or ''
  rule = main_result.main_rule(methods)
  filters = {'finding': 'mean', 'rule': rule, 'method': method}
  return tables.Section(
    'localization',
    'Localization',
    [
      tables.group([table], filters),
      *part_published.beside(metrics, caveat),
      part_chexlocalize.table(metrics),
    ],
    figures=part_localization.curves(metrics, rule),
  )


def classification(comparison: Mapping) -> tables.Section | None:
  rows = [
    ({'finding': finding, 'split': wording.spelled(split)}, entry)
    for split, scores in comparison.get('classification', {}).items()
    for finding, entry in scores.get('auroc', {}).items()
  ]
  caption = 'AUROC of each finding, run beside run'
  table = _paired(comparison, 'classification-scores', caption, rows)
  groups = [tables.group([table], {'split': 'test'})]
  return tables.Section('classification', 'Classification', groups)


def readers(comparison: Mapping) -> tables.Section | None:
  """AUROC against the majority of the readers."""
  aurocs = comparison.get('readers', {}).get('auroc', {})
  rows = [({'finding': finding}, entry) for finding, entry in aurocs.items()]
  if not rows:
    return None
  caption = "AUROC against the readers' majority, run beside run"
  table = _paired(comparison, 'readers-scores', caption, rows)
  return tables.Section('readers', 'Readers', [table])


def robustness(comparison: Mapping, metrics: Mapping) -> tables.Section | None:
  """`metrics`: run -> its metrics.json."""
  epsilon = lambda value: tables.number_cell(
    float(value), 2, choice=f'{value:g}'
  )
  rows = [
    (
      {
        'finding': finding,
        'findings attacked': part_robustness.aim(attack),
        'attack': attack['attack'].removesuffix(wording.ALONE),
        'split': wording.spelled(attack.get('split', 'test')),
        'epsilon (1/255)': epsilon(attack['epsilon']),
      },
      entry,
    )
    for attack in comparison.get('robustness', ())
    for finding, entry in attack.get('auroc', {}).items()
  ]
  caption = 'AUROC under attack, run beside run'
  table = _paired(comparison, 'robustness-scores', caption, rows)
  filters = {'finding': 'mean', 'findings attacked': '', 'epsilon (1/255)': ''}
  return part_robustness.robustness(metrics, tables.group([table], filters))


def measures(comparison: Mapping) -> tables.Section | None:
  table = _paired(
    comparison,
    'measures-table',
    'Measures of a film, run beside run',
    part_measures.entries(comparison),
    *part_measures.notes(comparison),
  )
  return part_measures.section(table)


def configuration(configs: Mapping[str, Mapping]) -> tables.Section | None:
  """The fields in which the runs differ."""
  flat = [run_files.flat(config) for config in configs.values()]
  rows = []
  for field in dict.fromkeys(field for values in flat for field in values):
    texts = [
      part_origin.setting(v[field]) if field in v else wording.UNDEFINED
      for v in flat
    ]
    if len(set(texts)) > 1:
      columns = zip(_columns(configs), texts, strict=True)
      rows.append({'field': field, **dict(columns)})
  table = tables.table('config', 'Fields in which the runs differ', rows)
  return tables.Section('configuration', 'Configuration', [table])


def figure(
  shared: Sequence[Mapping], names: Sequence[str], path: str
) -> tables.Section | None:
  """Films of every run in one figure, a column a finding; written to `path`.

  More than MOST_COLUMNS would be too small to see.

  Args:
    shared: [{run: case}], as examples.shared returns.
    names: of the runs, from top to bottom.
    path: of the figure, for a paper.
  """
  columns = {}
  for case in shared:
    first = case[names[0]]
    columns.setdefault(
      first['finding'],
      {key: first[key] for key in ('finding', 'image', 'truth')}
      | {
        key: {name: case[name][key] for name in names}
        for key in ('maps', 'boxes')
      },
    )
  if not columns:
    return None
  left_out = len(columns) - MOST_COLUMNS
  columns = dict(itertools.islice(columns.items(), MOST_COLUMNS))
  methods = gallery.main_methods(
    method for c in columns.values() for method in c['maps'][names[0]]
  )
  drawn = plots.gallery_figure(
    list(columns.values()), runs=names, methods=methods
  )
  plots.save(drawn, path)
  # The page carries a lighter copy: the file beside it is for the paper.
  light = io.BytesIO()
  drawn.savefig(light, format='jpeg', dpi=120, facecolor='white')
  above, maps = ' above '.join(names), ' and '.join(methods)
  alt = (
    f'A film in each column ({", ".join(columns)}); below it its maps by '
    f'{maps}, {above}, with true and predicted boxes.'
  )
  picture = markupsafe.Markup('<img src="{}" alt="{}">').format(
    gallery.uri(light.getvalue(), 'jpeg'), alt
  )
  caption = (
    f'Each column shows one film, and its maps by {maps}, {above}. The true '
    'box is solid, predicted boxes are dashed. Every map is scaled from its '
    'minimum to its maximum.'
  )
  if left_out > 0:
    caption += (
      f' The films below show {wording.count(left_out, "finding")} more.'
    )
  return tables.Section(
    'figure', 'Figure', figures=[plots.Drawing(picture, caption, wide=True)]
  )
