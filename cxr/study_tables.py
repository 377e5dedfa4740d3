"""A study's figures as Markdown, and those that are drawn.

A study is {'groups': [{'name', 'runs', 'seeds'}], 'figures': [{'key',
'finding', 'groups': [estimate], 'differences': [estimate]}]}, as study.py
makes it.
"""

from collections.abc import Iterator, Mapping, Sequence

from cxr import measures, tables

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
_BY_FINDING = ('iou@0.3', 'pointing')


def name(key: Sequence[str]) -> str:
  """'AUROC, without the shortcut', 'gradient: T(IoU) 0.3', …"""
  what, *where = key
  if what in _RANKINGS:
    split, attack, epsilon = where
    parts = [_RANKINGS[what], _SPLITS.get(split, split)]
    if attack != 'clean':
      parts.append(f'{attack}, epsilon {epsilon}/255')
    return ', '.join(part for part in parts if part)
  method, condition = where
  if what == 'effect':
    return f'logits lost without the {condition}'
  label = tables.score_name(what)
  if what in measures.MEANINGS and not _is_score(key):
    label += f' ({condition})' if condition else ''
  elif condition and condition != 'wang':
    label += f' ({condition} rule)'
  return f'{tables.method_name(method)}: {label}' if method else label


def _is_score(key: Sequence[str]) -> bool:
  """Of boxes.csv; measures.csv has a 'pointing' under attack, too."""
  return key[0] not in _RANKINGS and (
    '@' in key[0] or (key[0], key[2]) in _RULED
  )


_RULED = {
  (score, rule)
  for score in ('mean_iou', 'mask_iou', 'ior', 'pointing', 'energy')
  + ('map_auroc',)
  for rule in ('wang', 'otsu', 'tuned', 'oracle')
}


def _chosen(study: Mapping) -> Iterator[tuple[str, Mapping]]:
  """(section, entry) of the means that the table shows, in its order."""
  means = [e for e in study['figures'] if e['finding'] == 'mean']
  for entry in means:
    if entry['key'][0] in _RANKINGS and entry['key'][1] != 'validation':
      yield 'Classification', entry
  ruled = [e for e in means if _is_score(e['key'])]
  for entry in ruled:
    control = tables.is_control(entry['key'][1])
    if entry['key'][0] in _SCORES:
      yield 'Controls' if control else 'Localization', entry
  for entry in means:
    if entry['key'][0] not in _RANKINGS and entry not in ruled:
      yield 'Measures', entry


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
  chosen = list(_chosen(study))
  for section in ('Classification', 'Localization', 'Measures'):
    rows = [(name(e['key']), e) for part, e in chosen if part == section]
    lines += _tables(section, groups, rows)
  # The same of every run: no network made them.
  lines += _table(
    'Localization of controls',
    groups[:1],
    [
      (name(e['key']), e['groups'][:1])
      for part, e in chosen
      if part == 'Controls'
    ],
    lambda figure: tables.with_interval(figure),
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
    if key == ['auroc', 'test', 'clean', '0']
    or (
      key[0] in _BY_FINDING and _is_score(key) and not tables.is_control(key[1])
    )
  ]


def panels(study: Mapping) -> list[dict]:
  """What is drawn: [{'title', 'estimates': one a group, 'control'}]."""
  means = {
    tuple(e['key']): e for e in study['figures'] if e['finding'] == 'mean'
  }
  keys = [key for key in means if key[0] == 'auroc' and key[1] != 'validation']
  for score in ('iou@0.3', 'pointing'):
    keys += [
      key
      for key in means
      if key[0] == score and _is_score(key) and not tables.is_control(key[1])
    ]
  keys += [key for key in means if key[0] == 'alignment' or key == _RELIANCE]
  return [
    {
      'title': name(key),
      'estimates': means[key]['groups'],
      'control': _random(means, key),
    }
    for key in keys
  ]


def _random(means: Mapping, key: tuple) -> float | None:
  """What a random map reaches, the mean over groups' runs of the first."""
  if not _is_score(key):
    return None
  control = means.get((key[0], 'random', key[2]))
  return tables.value_of(control['groups'][0]) if control else None
