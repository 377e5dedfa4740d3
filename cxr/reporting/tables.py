"""Figures as text, and tables for templates/parts.html.

An estimate is {'value', 'low', 'high', 'images', 'patients'}, its value None
where it is undefined ('why' says so). Tables, rows and cells are plain dicts,
made by the functions here and read by the template and by page.js.
"""

import math
from collections.abc import Mapping, Sequence

from cxr import files

Estimate = Mapping | None
CONTROLS = {
  'random': 'random map',
  'centre': 'centre prior',
  'mean_box': 'mean box of other patients',
  'uniform': 'uniform map',
}
# How the names of a method's own controls end: the same network, weights drawn
# anew; the same map, moved to where chance has it.
RANDOM_WEIGHTS = '_random_weights'
MOVED = '_moved'
SCORES = {
  'iou': 'IoU',
  'iobb': 'IoBB',
  'ior': 'IoR',
  'mean_iou': 'mean IoU',
  'mask_iou': 'IoU of the mask',
  'pointing': 'pointing game',
  'energy': 'energy in the box',
  'map_auroc': 'AUROC of the map',
  'box_iou': 'IoU of the boxes',
  'map_spearman': 'rank correlation of the maps',
  'map_ssim': 'SSIM of the maps',
}
UNDEFINED = '–'


def value_of(estimate: Estimate) -> float | None:
  value = (estimate or {}).get('value')
  return None if value is None or not math.isfinite(value) else float(value)


def number(value: float | None, digits: int = 3, *, sign=False) -> str:
  if value is None or not math.isfinite(value):
    return UNDEFINED
  return f'{value:{"+" if sign else ""}.{digits}f}'.replace('-', '−')


def interval_of(estimate: Estimate, *, sign=False) -> str:
  """'0.790 to 0.831', empty where there is none."""
  low, high = (estimate or {}).get('low'), (estimate or {}).get('high')
  if value_of(estimate) is None or low is None or high is None:
    return ''
  return f'{number(low, sign=sign)} to {number(high, sign=sign)}'


def with_interval(estimate: Estimate) -> str:
  """'0.812 (0.790 to 0.831)'."""
  interval = interval_of(estimate)
  return number(value_of(estimate)) + (f' ({interval})' if interval else '')


def p_text(p: float | None) -> str:
  if p is None:
    return UNDEFINED
  return '< 0.001' if p < 0.001 else f'{p:.3f}'


def count(quantity: int | None, one: str, many: str = '') -> str:
  """'1 film', '1,987 films'."""
  many = many or one + 's'
  if quantity is None:
    return f'an unknown number of {many}'
  return f'{quantity:,} {one if quantity == 1 else many}'


def listed(texts: Sequence[str]) -> str:
  """'a', 'a and b', 'a, b and c'."""
  *others, last = texts
  return f'{", ".join(others)} and {last}' if others else last


def is_control(method: str) -> bool:
  return method in CONTROLS or method.endswith((RANDOM_WEIGHTS, MOVED))


def method_name(method: str) -> str:
  if method.endswith(RANDOM_WEIGHTS):
    return f'{method.removesuffix(RANDOM_WEIGHTS)} of random weights'
  if method.endswith(MOVED):
    return f'{method.removesuffix(MOVED)} moved at random'
  return CONTROLS.get(method, method)


def score_name(score: str) -> str:
  """'iou@0.3' -> 'T(IoU) 0.3', 'afp_iou@0.3' -> 'AFP at T(IoU) 0.3'."""
  kind, _, threshold = score.partition('@')
  if not threshold:
    return SCORES.get(kind, kind.replace('_', ' '))
  of = kind.removeprefix('afp_')
  name = f'T({SCORES.get(of, of)}) {threshold}'
  return f'AFP at {name}' if of != kind else name


def spelled(name: str) -> str:
  return name.replace('_', ' ')


def text_cell(text, *, tsv: str | None = None, wrap=False) -> dict:
  """A cell of text. What is copied never starts a spreadsheet's formula."""
  text = str(text)
  if tsv is None:
    copied = files.escape_cell(' '.join(text.split()))
    tsv = None if copied == text else copied
  return {'text': text, 'tsv': tsv, 'sub': (), 'why': '', 'wrap': wrap}


def number_cell(value, digits: int = 3) -> dict:
  """A number that is no estimate: a count, a setting."""
  missing = value is None or not math.isfinite(value)
  text = f'{value:,}' if isinstance(value, int) else number(value, digits)
  return text_cell(text, tsv='' if missing else f'{value:.9g}')


def p_cell(p: float | None) -> dict:
  return text_cell(p_text(p), tsv='' if p is None else f'{p:.6g}')


def estimate_cell(
  estimate: Estimate, *, sign=False, afp: Estimate = None
) -> dict:
  """A figure above its interval (and its AFP); copied as a column each."""
  value = value_of(estimate)
  copied = [value, *((estimate or {}).get(key) for key in ('low', 'high'))]
  sub = [interval_of(estimate, sign=sign)]
  if afp is not None:
    copied.append(value_of(afp))
    sub.append(f'AFP {number(value_of(afp), 2)}')
  return {
    'text': number(value, sign=sign),
    'tsv': '\t'.join('' if c is None else f'{c:.6g}' for c in copied),
    'sub': [line for line in sub if line],
    'why': (estimate or {}).get('why', '') if value is None else '',
    'wrap': False,
  }


def column(text: str, *, estimate=False, afp=False) -> dict:
  """A header; an estimate's is copied as a column for each of its parts."""
  parts = ['', ' low', ' high'] + ([' AFP'] if afp else [])
  tsv = '\t'.join(text + part for part in parts) if estimate else None
  return {'text': text, 'tsv': tsv}


def row(*cells: dict, kind: str = '', **tags: str) -> dict:
  """A row. The filters go by its tags; '*' belongs to every choice."""
  return {'cells': cells, 'kind': kind, 'tags': tags, 'hidden': False}


def choice(
  key: str,
  label: str,
  rows: Sequence[dict],
  *,
  default: str | None = None,
  names: Mapping[str, str] | None = None,
) -> dict:
  """A filter over the values that `rows` have for the tag `key`.

  Args:
    key: the tag.
    label: shown above the buttons.
    rows: of all tables that it filters.
    default: the value chosen at first, '' for all; the first where absent.
    names: value -> text of its button.
  """
  values = dict.fromkeys(r['tags'][key] for r in rows)
  values.pop('*', None)
  if default is None or default not in ('', *values):
    default = next(iter(values), '')
  options = [(v, (names or {}).get(v, v)) for v in values]
  return {
    'key': key,
    'label': label,
    'options': [*options, ('', 'all')],
    'default': default,
  }


def table(
  id: str,
  caption: str,
  columns: Sequence[dict],
  rows: Sequence[dict],
  *,
  notes: Sequence[str] = (),
) -> dict | None:
  """A table, or None without rows."""
  if not rows:
    return None
  reasons = sorted({c['why'] for r in rows for c in r['cells']} - {''})
  if len(reasons) > 3:
    reasons = [*reasons[:3], 'others: point at the cell']
  if reasons:
    notes = [*notes, f'{UNDEFINED} undefined: {"; ".join(reasons)}.']
  return {
    'id': id,
    'caption': caption,
    'columns': columns,
    'rows': rows,
    'notes': notes,
  }


def group(
  tables: Sequence[dict | None], filters: Sequence[dict] = ()
) -> dict | None:
  """Tables under common filters, or None without a table.

  Rows outside the filters' defaults are hidden here already, so that the page
  is right before its script has run.
  """
  tables = [t for t in tables if t]
  for t in tables:
    for r in t['rows']:
      r['hidden'] = any(
        f['default'] and r['tags'].get(f['key'], '*') not in ('*', f['default'])
        for f in filters
      )
  filters = [f for f in filters if len(f['options']) > 2]
  return {'tables': tables, 'filters': filters} if tables else None
