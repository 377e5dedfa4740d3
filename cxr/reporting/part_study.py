"""A study's figures as Markdown, and those that are drawn.

A study is {'groups': [{'name', 'runs', 'seeds'}], 'figures': [{'key',
'finding', 'groups': [estimate], 'differences': [estimate]}]}, as study.py
makes it.
"""

from collections.abc import Mapping, Sequence

from cxr.reporting import tables

_RANKINGS = {'auroc': 'AUROC', 'average_precision': 'average precision'}
_SPLITS = {
  'test': '',
  'validation': 'validation films',
  'test_without_shortcut': 'without the shortcut',
  'test_without_lesions': 'without the lesions',
}
# Of the scores of localization, those that a table of a few lines needs; each
# accuracy beside its false positives a film.
_SCORES = (
  'iou@0.1',
  'iou@0.3',
  'afp_iou@0.3',
  'iou@0.5',
  'iobb@0.1',
  'iobb@0.5',
  'afp_iobb@0.5',
  'mean_iou',
  'pointing',
)
# Logits that a film loses without its shortcut.
_RELIANCE = ('effect', '', 'shortcut')
_MAIN_SCORES = ('iou@0.3', 'pointing')


def name(key: Sequence[str]) -> str:
  """'AUROC, without the shortcut', 'gradient: T(IoU) 0.3', …"""
  part, what, *where = key
  if part == 'classification':
    split, attack, epsilon = where
    texts = [_RANKINGS[what], _SPLITS.get(split, split)]
    if attack != 'clean':
      texts.append(f'{attack}, epsilon {epsilon}/255')
    return ', '.join(text for text in texts if text)
  method, condition = where
  if what == 'effect':
    return f'logits lost without the {condition}'
  label = tables.score_name(what)
  if part == 'localization':
    condition = '' if condition == 'wang' else f'{condition} rule'
  if condition:
    label += f' ({condition})'
  return f'{tables.method_name(method)}: {label}' if method else label


def _rows(study: Mapping, section: str) -> list[tuple[str, Mapping]]:
  """(name, entry) of the means that the section's table shows."""
  return [
    (name(entry['key']), entry)
    for entry in study['figures']
    if entry['finding'] == 'mean' and _section(entry['key']) == section
  ]


def _section(key: Sequence[str]) -> str | None:
  part, what, where, *_ = key
  if part == 'localization':
    if what not in _SCORES:
      return None
    return 'controls' if tables.is_control(where) else part
  return None if where == 'validation' else part


def markdown(study: Mapping) -> str:
  """The page: what was run, the means, and the main figures by finding."""
  groups = study['groups']
  lines = ['# Study', '']
  for group in groups:
    seeds = ', '.join(map(str, group['seeds']))
    lines.append(
      f'* {group["name"]}: {tables.count(len(group["runs"]), "run")}, '
      f'seed {seeds}'
    )
  lines += [
    '',
    "Each figure is the mean over its group's runs, with the 95 % interval "
    'over patients and runs, then the smallest to the largest run; each '
    f"difference is a group's figure minus that of {groups[0]['name']}.",
  ]
  for section in ('classification', 'localization', 'measures'):
    lines += _tables(section.capitalize(), groups, _rows(study, section))
  # The same of every run: no network made them.
  lines += _table(
    'Localization of controls',
    groups[:1],
    [(label, e['groups'][:1]) for label, e in _rows(study, 'controls')],
    tables.with_interval,
  )
  for key in _finding_keys(study):
    rows = [
      (entry['finding'], entry)
      for entry in study['figures']
      if entry['key'] == key and entry['finding'] != 'mean'
    ]
    lines += _tables(f'{name(key)}, by finding', groups, rows)
  return '\n'.join(lines) + '\n'


def _tables(title: str, groups: Sequence[Mapping], rows) -> list[str]:
  return _table(
    title, groups, [(label, e['groups']) for label, e in rows], _of_group
  ) + _table(
    f'{title}: difference',
    groups[1:],
    [(label, e['differences']) for label, e in rows],
    _difference,
  )


def _table(title: str, groups: Sequence[Mapping], rows, text) -> list[str]:
  if not rows or not groups:
    return []
  header = ['', 'films (patients)', *(group['name'] for group in groups)]
  lines = ['', f'## {title}', '', _row(header), _row(['---'] * len(header))]
  for label, figures in rows:
    first = figures[0]
    films = f'{first["images"]:,} ({first["patients"]:,})'
    lines.append(_row([label, films, *map(text, figures)]))
  return lines


def _of_group(figure: Mapping) -> str:
  runs = [value for value in figure['runs'] if value is not None]
  text = tables.with_interval(figure)
  if len(runs) > 1:
    text += f'; {tables.number(min(runs))} to {tables.number(max(runs))}'
  return text


def _difference(figure: Mapping) -> str:
  text = tables.number(tables.value_of(figure), sign=True)
  interval = tables.interval_of(figure, sign=True)
  return f'{text} ({interval})' if interval else text


def _row(cells: Sequence[str]) -> str:
  escaped = (cell.replace('|', '\\|') for cell in cells)
  return f'| {" | ".join(escaped)} |'


def _finding_keys(study: Mapping) -> list[list[str]]:
  keys = [e['key'] for e in study['figures'] if e['finding'] == 'mean']
  return [
    key
    for key in keys
    if key == ['classification', 'auroc', 'test', 'clean', '0']
    or (_section(key) == 'localization' and key[1] in _MAIN_SCORES)
  ]


def panels(study: Mapping) -> list[dict]:
  """What is drawn: [{'title', 'estimates': one a group, 'control'}]."""
  means = {
    tuple(e['key']): e for e in study['figures'] if e['finding'] == 'mean'
  }
  of = lambda part: [key for key in means if _section(key) == part]
  keys = [key for key in of('classification') if key[1] == 'auroc']
  for score in _MAIN_SCORES:
    keys += [key for key in of('localization') if key[1] == score]
  keys += [
    key
    for key in of('measures')
    if key[1] == 'alignment' or key[1:] == _RELIANCE
  ]
  return [
    {
      'title': name(key),
      'estimates': means[key]['groups'],
      'control': _random(means, key),
    }
    for key in keys
  ]


def _random(means: Mapping, key: tuple) -> float | None:
  """What a random map reaches in the first group."""
  control = means.get((*key[:2], 'random', *key[3:]))
  return tables.value_of(control['groups'][0]) if control else None
