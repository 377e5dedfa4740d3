"""A study as Markdown, and the panels of its figure.

A study is {'groups': [{'name', 'runs', 'seeds'}], 'figures': [{'key',
'finding', 'groups': [estimate], 'differences': [estimate]}]}, as
comparison/study.py makes it; an estimate of a group has the values of its
'runs', too.
"""

from collections.abc import Mapping, Sequence

from cxr.reporting import main_result, tables, wording
from input_pipeline import renditions

_RANKINGS = {'auroc': 'AUROC', 'average_precision': 'average precision'}
_SPLITS = {
  'test': '',
  'validation': 'validation films',
  renditions.SPLITS['shortcut']: 'without the shortcut',
  renditions.SPLITS['lesion']: 'without the lesions',
}
# The scores of localization that a short table needs, an accuracy before the
# false positives that it costs.
_SCORES = (
  'iou@0.1',
  'iou@0.3',
  'afp_iou@0.3',
  'false_iou@0.3',
  'iou@0.5',
  'iobb@0.1',
  'iobb@0.5',
  'afp_iobb@0.5',
  'false_iobb@0.5',
  'mean_iou',
  'pointing',
  'map_ap',
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
      base = attack.removesuffix(wording.ALONE)
      texts += [wording.aim(attack), f'{base}, epsilon {epsilon}/255']
    return ', '.join(text for text in texts if text)
  if part == 'readers':
    return f"{_RANKINGS[what]}, against the readers' majority"
  method, condition = where
  if what == 'effect':
    return f'logits lost without the {condition}'
  label = wording.score_name(what)
  if part == 'localization':
    condition = '' if condition == 'wang' else f'{condition} rule'
  if condition:
    label += f' ({condition})'
  return f'{wording.method_name(method)}: {label}' if method else label


def _section(key: Sequence[str]) -> str | None:
  """The table that shows the entries of a key; None for none."""
  part, what, where, *_ = key
  if part == 'localization':
    if what not in _SCORES:
      return None
    if where in wording.CONTROLS:
      return 'controls'
    # Another patient's maps stand beside those that they are subtracted from.
    another = where.endswith(wording.ANOTHER_PATIENT)
    return 'of networks' if wording.is_control(where) and not another else part
  return None if where == 'validation' else part


def markdown(study: Mapping) -> str:
  """The page: the groups, the means, and the main results by finding."""
  groups = study['groups']
  names = [group['name'] for group in groups]
  means = [e for e in study['figures'] if e['finding'] == 'mean']
  lines = ['# Study', '']
  lines += _first_sentence(names, means)
  lines += _under_attack(names, means)
  for group in groups:
    runs = wording.count(len(group['runs']), 'run')
    seeds = ', '.join(map(str, group['seeds']))
    lines.append(f'* {group["name"]}: {runs}, seed {seeds}')
  lines += [
    '',
    'Each value is the mean over the runs of its group, with the 95 % interval '
    'over patients and training seeds (over patients alone where a group has '
    'one run), then the values of its smallest and largest run. Each '
    f'difference is the value of a group minus that of {names[0]}.',
    '',
    wording.COVERAGE,
  ]
  for warning in study.get('warnings', ()):
    lines += ['', f'**{warning}**']

  named = lambda part: [
    (name(e['key']), e) for e in means if _section(e['key']) == part
  ]
  for part in ('classification', 'readers', 'localization', 'measures'):
    lines += _tables(part.capitalize(), names, named(part))
  lines += _repeatability(study.get('repeatability') or {})
  title = "Localization of the networks' controls"
  lines += _tables(title, names, named('of networks'))
  # No network makes them: they are the same for every run.
  rows = [(label, entry['groups']) for label, entry in named('controls')]
  title = 'Localization of controls'
  lines += _table(title, names[:1], rows, wording.with_interval)
  for key in (e['key'] for e in means if _by_finding(e['key'])):
    of_findings = [
      (e['finding'], e)
      for e in study['figures']
      if e['key'] == key and e['finding'] != 'mean'
    ]
    lines += _tables(f'{name(key)}, by finding', names, of_findings)
  return '\n'.join(lines) + '\n'


def _first_sentence(names, means) -> list[str]:
  """What decides: the maps less those of another patient, by group."""
  by_method = {}
  for entry in means:
    part, score, method, *rule = entry['key']
    if (
      part == 'localization'
      and score == _MAIN_SCORES[0]
      and wording.is_difference(method)
    ):
      method = method.removesuffix(wording.LESS_ANOTHER)
      by_method.setdefault(method, {})[rule[0]] = entry
  method = main_result.main_method(by_method)
  if method is None:
    return []
  entry = by_method[method][main_result.main_rule(by_method)]
  text = (
    f"Own less another patient's: the accuracy of {method} at "
    f"{wording.score_name(_MAIN_SCORES[0])}, less that of the same networks' "
    'maps of other patients without the finding, is '
    f'{_of_groups(names, entry, sign=True)}'
  )
  return [f'{text}.', '']


def _under_attack(names, means) -> list[str]:
  """AUROC at the largest epsilon, every finding attacked alone first."""
  entries = [
    dict(zip(('part', 'ranking', 'split', 'attack'), e['key'], strict=False))
    | {'epsilon': float(e['key'][-1]), 'figure': e}
    for e in means
    if e['key'][0] == 'classification' and e['key'][1] == 'auroc'
  ]
  sentences = []
  for entry in main_result.attacked(entries):
    text = f'Mean AUROC under {main_result.condition(entry)}, is '
    text += _of_groups(names, entry['figure'])
    sentences.append(f'{text}.')
  if main_result.without_alone([e for e in entries if e['epsilon']]):
    sentences.append(wording.NOT_ALL_ALONE)
  return [' '.join(sentences), ''] if sentences else []


def _of_groups(names, entry, *, sign=False) -> str:
  """'0.2 (…) for a and 0.3 (…) for b; the difference is +0.1 (…) for …'."""
  text = lambda estimate, sign: wording.with_interval(estimate, sign=sign)
  pairs = zip(entry['groups'], names, strict=True)
  result = wording.listed([f'{text(e, sign)} for {n}' for e, n in pairs])
  pairs = zip(entry['differences'], names[1:], strict=True)
  less = [f'{text(e, True)} for {n} less {names[0]}' for e, n in pairs]
  if less:
    result += f'; the difference is {wording.listed(less)}'
  return result


def _tables(title, names, entries):
  """The values of every group, then the differences of the later ones."""
  values = [(label, entry['groups']) for label, entry in entries]
  less = [(label, entry['differences']) for label, entry in entries]
  signed = lambda estimate: wording.with_interval(estimate, sign=True)
  return _table(title, names, values, _of_group) + _table(
    f'{title}: difference', names[1:], less, signed
  )


def _table(title, names, rows, text):
  """Lines of Markdown; a column for each name, its cells made by `text`."""
  cells = []
  for label, estimates in rows:
    first = estimates[0] if estimates else {}
    films = f'{first.get("images", 0):,} ({first.get("patients", 0):,})'
    of_groups = dict(zip(names, map(text, estimates), strict=False))
    cells.append({'': label, 'films (patients)': films} | of_groups)
  if not (cells and names):
    return []
  return ['', f'## {title}', '', tables.markdown(cells)]


def _repeatability(alike: Mapping) -> list[str]:
  """How alike the maps of two runs are, mean over findings."""
  title = ['', '## Repeatability of maps', '']
  if alike.get('missing'):
    return [*title, alike['missing']]
  means = [e for e in alike.get('estimates', ()) if e['finding'] == 'mean']
  if not means:
    return []
  text = (
    'The rank correlation of the maps of two runs on one film, mean over the '
    'pairs of runs, films and findings, with its 95 % interval over patients; '
    'the runs are taken as they are, and the values of the lowest and the '
    'highest pair stand behind.'
  )
  cells = []
  for e in means:
    value = wording.with_interval(e, sign=e['signed'])
    if e['pairs'] > 1:
      value += f'; {wording.number(e["lowest"])} to '
      value += wording.number(e['highest'])
    cells.append(
      {
        'method': e['method'],
        'maps': e['maps'],
        'pairs': str(e['pairs']),
        'films (patients)': f'{e["images"]:,} ({e["patients"]:,})',
        'correlation': value,
      }
    )
  return [*title, text, '', tables.markdown(cells)]


def _by_finding(key):
  """Whether a result is shown for every finding."""
  if key[0] == 'readers':
    return True
  return key == ['classification', 'auroc', 'test', 'clean', '0'] or (
    _section(key) == 'localization'
    and key[1] in _MAIN_SCORES
    and not wording.is_control(key[2])
  )


def _of_group(estimate: Mapping) -> str:
  runs = [value for value in estimate['runs'] if value is not None]
  text = wording.with_interval(estimate)
  if len(runs) > 1:
    text += f'; {wording.number(min(runs))} to {wording.number(max(runs))}'
  return text


def panels(study: Mapping) -> list[dict]:
  """What is drawn: [{'title', 'estimates': one a group, 'control'}]."""
  means = {
    tuple(e['key']): e for e in study['figures'] if e['finding'] == 'mean'
  }
  wanted = [
    lambda key: _section(key) == 'classification' and key[1] == 'auroc',
    *(
      lambda key, s=score: (
        _section(key) == 'localization'
        and key[1] == s
        and not wording.is_control(key[2])
      )
      for score in _MAIN_SCORES
    ),
    lambda key: (
      _section(key) == 'measures'
      and (key[1] == 'alignment' or key[1:] == _RELIANCE)
    ),
  ]
  return [
    {
      'title': name(key),
      'estimates': means[key]['groups'],
      'control': _random(means, key),
    }
    for shows in wanted
    for key in filter(shows, means)
  ]


def _random(means: Mapping, key: tuple) -> float | None:
  """The value of a random map in the first group; None of a difference."""
  if key[0] == 'localization' and wording.is_difference(key[2]):
    return None
  control = means.get((*key[:2], 'random', *key[3:]))
  return wording.value_of(control['groups'][0]) if control else None
