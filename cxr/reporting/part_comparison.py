"""The page that sets runs side by side: first screen and sections.

An entry of a comparison is {'runs': [estimate], 'difference': the second run
minus the first, with 'p' and 'p_holm', 'differences': one for each later run
where there are three runs or more}.
"""

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import markupsafe

from cxr.reporting import (
  gallery,
  main_result,
  part_localization,
  part_measures,
  part_origin,
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


class _Result(NamedTuple):
  """A mean over findings that stands for the comparison."""

  label: str
  entry: Mapping
  afp: Mapping = {}  # the entry of its false positives, empty if not counted

  def against(self, i: int) -> str:
    """'0.410 against 0.320': of the later run i and of the first."""
    return _against(self.entry, i)

  def afp_against(self, i: int) -> str:
    return _against(self.afp, i, 2) if self.afp else ''


def _against(entry, i, digits=3):
  value = lambda k: wording.value_of(entry['runs'][k])
  return ' against '.join(wording.number(value(k), digits) for k in (i + 1, 0))


def _main_scores(comparison):
  """(method, rule, score) of the main accuracy; None without one."""
  localization = comparison.get('localization', {})
  method = main_result.main_method(localization)
  for rule, scores in localization.get(method, {}).items():
    score = main_result.main_score(scores)
    if _leaf(scores, score, 'mean'):
      return method, rule, score
  return None


def _accuracy(comparison) -> _Result | None:
  main = _main_scores(comparison)
  if not main:
    return None
  method, rule, score = main
  scores = comparison['localization'][method][rule]
  return _Result(
    f'Accuracy at {wording.score_name(score)}, {method}',
    scores[score]['mean'],
    _leaf(scores, f'afp_{score}', 'mean'),
  )


def _auroc(comparison) -> _Result | None:
  classification = comparison.get('classification', {})
  split = main_result.main_split(classification)
  entry = _leaf(classification, split, 'auroc', 'mean')
  return _Result('Mean AUROC, clean', entry) if entry else None


def _attacked(comparison) -> _Result | None:
  """At the largest epsilon that the runs share."""
  attack = main_result.attacked(comparison.get('robustness', ()))
  entry = _leaf(attack or {}, 'auroc', 'mean')
  if not entry:
    return None
  return _Result(f'Mean AUROC, {main_result.condition(attack)}', entry)


def answer(comparison: Mapping) -> list[str]:
  """Which run localizes better, and what that costs in AUROC."""
  first, *others = comparison['runs']
  sentences = []
  accuracy, auroc = _accuracy(comparison), _auroc(comparison)
  for i, other in enumerate(others):
    if accuracy and len(_differences(accuracy.entry)) > i:
      sentences.append(_verdict(comparison, accuracy, first, other, i))
    if auroc and len(_differences(auroc.entry)) > i:
      difference = _differences(auroc.entry)[i]
      if wording.value_of(difference) is not None:
        sentences.append(
          f'On clean films the mean AUROC of {other} is that of {first} '
          f'{_changed(difference)}.'
        )
  return sentences or ['These runs have no results in common to compare.']


def _verdict(comparison, accuracy, first, other, i):
  method, rule, score = _main_scores(comparison)
  difference = _differences(accuracy.entry)[i]
  value = wording.value_of(difference)
  if value is None:
    return (
      f'Whether {other} localizes better than {first} cannot be said: the '
      'difference is undefined.'
    )
  low, high = difference.get('low'), difference.get('high')
  if low is not None and (low > 0 or high < 0):
    word = 'better' if value > 0 else 'worse'
    opening = f'{other} localizes {word} than {first}'
  else:
    opening = f'It is open whether {other} localizes better than {first}'
  text = (
    f'{opening}: boxes drawn from {method} maps have an accuracy of '
    f'{accuracy.against(i)} at {wording.score_name(score)}, a difference of '
    f'{_changed(difference)}'
  )
  if accuracy.afp:
    text += (
      ', and an average number of false positives (AFP) of '
      f'{accuracy.afp_against(i)}'
    )
  control = _leaf(comparison['localization'], 'random', rule, score, 'mean')
  random = wording.value_of(control['runs'][0]) if control else None
  if random is not None:
    text += f'. The accuracy of a random map is {wording.number(random)}'
  return f'{text}.'


def _changed(difference):
  """'+0.031 (+0.010 to +0.052; p = 0.004)'."""
  p = difference.get('p')
  if p is None:
    return wording.with_interval(difference, sign=True)
  p = f'p = {p:.3f}' if p >= 0.001 else f'p {wording.p_text(p)}'
  return wording.with_interval(difference, p, sign=True)


def tiles(comparison: Mapping) -> list[main_result.Tile]:
  first, *others = comparison['runs']
  results = _accuracy(comparison), _auroc(comparison), _attacked(comparison)
  return [
    main_result.tile(
      f'{result.label}: {other} less {first}',
      difference,
      result.against(i),
      f'AFP {result.afp_against(i)}' if result.afp else '',
      sign=True,
    )
    for result in results
    if result
    for i, (other, difference) in enumerate(
      zip(others, _differences(result.entry), strict=False)
    )
  ]


_HEADLINE = 'iou@0.1', 'iou@0.3', 'afp_iou@0.3', 'iou@0.5', 'pointing'


def headline(comparison: Mapping) -> tables.Table | None:
  """The few results that matter, of all runs, and their differences."""
  entries = {}
  localization = comparison.get('localization', {})
  for method, rules in localization.items():
    scores = next(iter(rules.values()), {})
    for score in _HEADLINE:
      name = wording.score_name(score)
      if not wording.is_control(method):
        label = f'accuracy at {name}' if score.startswith('iou') else name
        entries[f'{method}: {label}'] = _leaf(scores, score, 'mean')
  classification = comparison.get('classification', {})
  for split, scores in main_result.shown_splits(classification).items():
    label = f'mean AUROC, {wording.spelled(split)}'
    entries[label] = _leaf(scores, 'auroc', 'mean')
  attacked = _attacked(comparison)
  if attacked:
    entries[f'm{attacked.label[1:]}'] = attacked.entry
  # Of phantoms alone.
  entries["the lesion's share of its and the shortcut's effect"] = _leaf(
    comparison, 'measures', 'lesion_share', '', '', 'mean'
  )
  rows = [[label, entry] for label, entry in entries.items() if entry]
  return _paired(
    comparison,
    'headline',
    'Localization, and what it costs in classification',
    ['result'],
    rows,
    holm=False,
  )


def _paired(comparison, id, caption, columns, rows, *notes, holm=True):
  """A table whose rows end with an entry: every run, every difference.

  Holm's correction is over the findings: a table of means has none.
  """
  first, *others = names = comparison['runs']
  columns = [*columns, *names]
  kinds = ('p', 'p_holm') if holm else ('p',)
  for other in others:
    of_run = f', {other}' if len(names) > 2 else ''
    columns += [
      f'{name}{of_run}'
      for name in ('difference', 'p', 'p, Holm')[: 1 + len(kinds)]
    ]
  cells = []
  for *start, entry in rows:
    cells.append([*start, *entry['runs']])
    for difference in _differences(entry):
      cells[-1].append(tables.estimate_cell(difference, sign=True))
      cells[-1] += [tables.p_cell(difference.get(kind)) for kind in kinds]
  note = (
    f'A difference is the value of a run less that of {first} on the same '
    'films. Its interval is by bootstrap over patients, its p by swapping '
    'patients between the runs'
  )
  note += '; "p, Holm" is corrected over the findings.' if holm else '.'
  return tables.table(id, caption, columns, cells, note, *notes)


# Every result.


def localization(
  comparison: Mapping, metrics: Mapping
) -> tables.Section | None:
  """`metrics`: run -> its metrics.json, for the curves."""
  methods = comparison.get('localization', {})
  rows = [
    [
      # The mark of the row stands with its first cell.
      wording.score_name(score),
      *part_localization.keys(method, finding, rule),
      entry,
    ]
    for method, rules in methods.items()
    for i, (rule, scores) in enumerate(rules.items())
    for score, findings in scores.items()
    for finding, entry in findings.items()
    # Findings under the first rule alone: the page stays small.
    if not i or finding == 'mean'
  ]
  if not rows:
    return None
  table = _paired(
    comparison,
    'localization-scores',
    'Every localization score, run beside run',
    ['score', 'method', 'finding', 'rule'],
    rows,
  )
  method = main_result.main_method(methods) or ''
  rule = next(iter(methods.get(method, {})), '')
  filters = {'finding': 'mean', 'rule': rule, 'method': method}
  return tables.section(
    'localization',
    'Localization',
    tables.group([table], filters),
    figures=[
      part_localization.accuracy_curve(_curves(metrics, kind), kind, rule)
      for kind in part_localization.RATIOS
    ],
  )


def _curves(metrics, kind):
  """Every run's methods, and the controls of the first run."""
  curves = {}
  for i, (run, stored) in enumerate(metrics.items()):
    scores = stored.get('localization', {})
    for method in scores.get('methods', {}):
      points = part_localization.thresholds(
        main_result.mean_scores(scores, method), kind
      )
      if not wording.is_control(method):
        curves[f'{run}, {method}'] = points
      elif not i and part_localization.drawn(method):
        curves[wording.method_name(method)] = points
  return curves


def classification(comparison: Mapping) -> tables.Section | None:
  rows = [
    [finding, wording.spelled(split), entry]
    for split, scores in comparison.get('classification', {}).items()
    for finding, entry in scores.get('auroc', {}).items()
  ]
  table = _paired(
    comparison,
    'classification-scores',
    'AUROC of each finding, run beside run',
    ['finding', 'films'],
    rows,
  )
  return tables.section(
    'classification', 'Classification', tables.group([table], {'films': 'test'})
  )


def robustness(comparison: Mapping, metrics: Mapping) -> tables.Section | None:
  """`metrics`: run -> its metrics.json."""
  epsilon = lambda entry: tables.number_cell(float(entry['epsilon']), 2)
  rows = [
    [
      finding,
      attack['attack'],
      wording.spelled(attack.get('split', 'test')),
      epsilon(attack)._replace(choice=f'{attack["epsilon"]:g}'),
      entry,
    ]
    for attack in comparison.get('robustness', ())
    for finding, entry in attack.get('auroc', {}).items()
  ]
  columns = ['finding', 'attack', 'films', 'epsilon (1/255)']
  table = _paired(
    comparison,
    'robustness-scores',
    'AUROC under attack, run beside run',
    columns,
    rows,
  )
  filters = {'finding': 'mean', 'epsilon (1/255)': ''}
  return part_robustness.robustness(metrics, tables.group([table], filters))


def measures(comparison: Mapping) -> tables.Section | None:
  table = _paired(
    comparison,
    'measures-table',
    'Measures of a film, run beside run',
    part_measures.KEYS,
    [[*keys, entry] for keys, entry in part_measures.entries(comparison)],
    *part_measures.notes(comparison),
  )
  return part_measures.section(table)


def configuration(configs: Mapping[str, Mapping]) -> tables.Section | None:
  """The fields in which the runs differ."""
  flat = {name: part_origin.flatten(config) for name, config in configs.items()}
  rows = []
  for field in dict.fromkeys(f for values in flat.values() for f in values):
    texts = [
      part_origin.setting(values[field])
      if field in values
      else wording.UNDEFINED
      for values in flat.values()
    ]
    if len(set(texts)) > 1:
      rows.append([field, *texts])
  table = tables.table(
    'config', 'Fields in which the runs differ', ['field', *flat], rows
  )
  return tables.section('configuration', 'Configuration', table)


def figure(
  shared: Sequence[Mapping], names: Sequence[str], path: str
) -> tables.Section | None:
  """Films of every run in one figure, a column a finding; written to `path`.

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
  return tables.section(
    'figure', 'Figure', figures=[plots.Drawing(picture, caption, wide=True)]
  )
