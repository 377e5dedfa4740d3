"""What a cell of a table says: labels, ages, sexes, views."""

import functools
import math
import re

from input_pipeline import tables
from input_pipeline.sources.film_table import UNCERTAIN

_MAX_AGE = 120
# In years. 'A' is the year of several languages.
_AGE_UNITS = {'': 1, 'y': 1, 'a': 1, 'm': 12, 'w': 52.18, 'd': 365.25}
_SEXES = {
  'M': (
    *('m', 'male', 'males', 'man', 'boy', 'maennlich', 'männlich', 'homme'),
    *('hombre', 'masculino', 'masculin', 'uomo'),
  ),
  'F': (
    *('f', 'female', 'females', 'woman', 'girl', 'w', 'weiblich', 'femme'),
    *('mujer', 'femenino', 'feminino', 'feminin', 'féminin', 'donna'),
  ),
}
_SEX = {word: sex for sex, words in _SEXES.items() for word in words}
_BLANK = ('', 'na', 'n/a', 'nan', 'none', 'null', 'u', 'unk', 'unknown')

_LABELS = {'yes': 1.0, 'true': 1.0, 'no': 0.0, 'false': 0.0}


def is_blank(text: str) -> bool:
  """Whether a cell says that nothing is known.

  >>> is_blank('NaN'), is_blank('0')
  (True, False)
  """
  return text.strip('-?. ').casefold() in _BLANK


@functools.lru_cache(maxsize=4096)
def label(text: str) -> float:
  """1 (the finding is there), 0 (it is not), -1 (uncertain), NaN (not said).

  >>> label('1.0'), label('No'), label('-1'), label('')
  (1.0, 0.0, -1.0, nan)

  Raises:
    ValueError: `text` is none of these.
  """
  value = _LABELS.get(text.strip().casefold(), tables.number(text))
  if value in (1, 0, UNCERTAIN):
    return value
  if is_blank(text):
    return math.nan
  raise ValueError(
    f'{text[:80]!r} is no label: 1 (the finding is there), 0 (it is not), '
    'empty (unknown) or -1 (uncertain).'
  )


@functools.lru_cache(maxsize=4096)
def age(text: str) -> float:
  """Years; NaN where `text` is no age, or one over 120.

  '58', '58.0', '058Y', '58 years', '018M' (months), '012W', '004D'. The older
  label file has ages such as 412.

  >>> age('018M'), age('1,5'), age('412')
  (1.5, 1.5, nan)
  """
  match = re.fullmatch(
    r'([0-9]{1,4}(?:[.,][0-9]{0,9})?)\s*'
    r'(?:(y|a|m|w|d)|(y)rs?|(y)ears?|(m)os?|(m)onths?|(w)eeks?|(d)ays?)?\.?',
    text.strip().casefold(),
  )
  if not match:
    return math.nan
  unit = ''.join(filter(None, match.groups()[1:]))
  years = float(match[1].replace(',', '.')) / _AGE_UNITS[unit]
  return years if years <= _MAX_AGE else math.nan


@functools.lru_cache(maxsize=4096)
def sex(text: str) -> str:
  """'M', 'F', or '' where `text` is neither.

  >>> sex('Female'), sex('m'), sex('other')
  ('F', 'M', '')
  """
  return _SEX.get(tables.plain(text), '')


@functools.lru_cache(maxsize=4096)
def view(text: str) -> str:
  """'PA', 'AP', or '' where `text` is neither, or both.

  >>> view('AP supine'), view('Postero-Anterior'), view('LL')
  ('AP', 'PA', '')
  """
  words, whole = re.findall('[a-z]+', text.casefold()), tables.plain(text)
  named = {
    short
    for short, full in (('PA', 'posteroanterior'), ('AP', 'anteroposterior'))
    if short.casefold() in words or full in whole
  }
  return named.pop() if len(named) == 1 else ''
