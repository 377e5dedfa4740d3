"""Tables of text as NIH, spreadsheets, pandas and people leave them.

Every table that the program reads goes through `read_rows`. It takes

* UTF-8 or UTF-16, with or without a byte order mark; what is neither is read
  as Windows-1252, and the log says so;
* lines that end in LF, CRLF or CR; empty ones are passed by;
* comma, semicolon or tab as the separator. Whoever calls gives a score for the
  first line's cells, and the separator with the highest score is taken, the
  comma where several are equal; a line 'sep=;' before it, as Excel writes, is
  obeyed. The rows have no say: a guess from them (csv.Sniffer) is often wrong.
* cells in double quotes, and the tricks by which a spreadsheet is kept from
  changing a cell: 'text and ="text";
* all of this packed by gzip. A file is read line by line and never held whole.

`read_table` finds columns by their names in the first line, in any order;
case, blanks and punctuation do not matter, and other columns, such as the
index that pandas writes, are passed by.
"""

import codecs
import csv
import gzip
import io
import math
import pathlib
import re
import string
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from absl import logging

_SEPARATORS = (',', ';', '\t')
_MARKS = (
  (b'\xef\xbb\xbf', 'utf-8-sig'),
  (b'\xff\xfe', 'utf-16'),
  (b'\xfe\xff', 'utf-16'),
)
# Also those of no width, which spreadsheets and web pages leave.
_BLANKS = string.whitespace + '\u00a0\u200b\u200e\u200f\u202f\ufeff'
_NUMBER = re.compile(r'[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)(e[+-]?[0-9]+)?')


def clean(cell: str) -> str:
  """The text of a cell without what surrounds it.

  >>> clean(' 0001.png '), clean("'0001.png"), clean('="0001.png"')
  ('0001.png', '0001.png', '0001.png')
  """
  cell = cell.strip(_BLANKS)
  if cell[:1] not in ('=', "'"):  # nearly all of a table's cells
    return cell
  formula = re.fullmatch('="([^"]*)"', cell)
  return (formula[1] if formula else cell.removeprefix("'")).strip(_BLANKS)


def plain(name: str) -> str:
  """A column's name or a word without case, blanks and punctuation.

  >>> plain(' Patient_Age '), plain('肺炎')
  ('patientage', '肺炎')
  """
  return re.sub(r'[\W_]', '', name.casefold())


def number(text: str) -> float:
  """The number that a cell holds; NaN where it holds none.

  A comma is a decimal comma, but '1,024' could be either and is no number.

  >>> number('225,08'), number('1e-3'), number('1,024')
  (225.08, 0.001, nan)
  """
  text = text.strip().casefold()
  if not _NUMBER.fullmatch(text) or re.fullmatch('1,0[0-9][0-9]', text):
    return math.nan
  return float(text.replace(',', '.'))


def _open(path: pathlib.Path) -> gzip.GzipFile | io.BufferedReader:
  with open(path, 'rb') as f:
    packed = f.read(2) == b'\x1f\x8b'
  return gzip.open(path) if packed else open(path, 'rb')


def _encoding(path: pathlib.Path) -> str:
  """An encoding that the whole file can be read in.

  Raises:
    ValueError: the file is no text, or is packed and damaged.
  """
  try:
    with _open(path) as f:
      head = f.read(4)
    encoding = next((e for mark, e in _MARKS if head.startswith(mark)), 'utf-8')
    # Without a mark: the letters of English are every other byte.
    if encoding == 'utf-8' and b'\0' in head[:2]:
      encoding = 'utf-16-le' if head[:1] != b'\0' else 'utf-16-be'
    for choice, errors in ((encoding, 'strict'), ('cp1252', 'replace')):
      try:
        if head.startswith(b'PK\x03\x04') or _has_nul(path, choice, errors):
          break
        return choice
      except UnicodeDecodeError:
        logging.warning('%s is not UTF-8; it was read as Windows-1252.', path)
  except (EOFError, zlib.error, gzip.BadGzipFile) as e:
    raise ValueError(
      f'{path} is packed by gzip and damaged ({e}); copy or download it again.'
    ) from e
  raise ValueError(
    f'{path} is not a text file; save it as CSV in UTF-8 (a spreadsheet '
    'under the name of a csv file is not one).'
  )


def _has_nul(path: pathlib.Path, encoding: str, errors: str) -> bool:
  with _open(path) as f, io.TextIOWrapper(f, encoding, errors) as text:
    return any('\0' in piece for piece in iter(lambda: text.read(2**20), ''))


def _lines(path: pathlib.Path, encoding: str) -> Iterator[str]:
  """The lines of a file with their ends, one at a time."""
  with (
    _open(path) as f,
    io.TextIOWrapper(f, encoding, errors='replace', newline='') as text,
  ):
    first = next(text, '').lstrip('\ufeff')
    # The mark of UTF-8 before what is not UTF-8.
    yield first.removeprefix(codecs.BOM_UTF8.decode('cp1252'))
    yield from text


def read_text(path: pathlib.Path) -> str:
  """The text of a file, whatever its encoding.

  Raises:
    ValueError: the file is no text.
  """
  return ''.join(_lines(path, _encoding(path)))


def read_rows(
  path: pathlib.Path, score: Callable[[Sequence[str]], int]
) -> Iterator[tuple[int, list[str]]]:
  """The rows of a table that are not empty, as (line, stripped cells).

  Args:
    path: the file.
    score: how much the first row's cells look like a first row.

  Raises:
    ValueError: the file is no text, or its quotes are wrong.
  """
  encoding = _encoding(path)
  first = next(_lines(path, encoding))
  excel = re.match('"?sep=([,;\t])"?[\r\n]', first, re.IGNORECASE)
  separators = excel[1] if excel else _SEPARATORS

  def parse(separator):
    # strict: an unclosed quote would otherwise swallow the rest of the file.
    reader = csv.reader(
      _lines(path, encoding),
      delimiter=separator,
      skipinitialspace=separator != '\t',
      strict=True,
    )
    start = 0  # the line behind which the row begins
    try:
      for row in reader:
        cells = [clean(cell) for cell in row]
        # Excel's line is passed by here, so that lines are counted as an
        # editor counts them.
        if any(cells) and not (excel and reader.line_num == 1):
          yield reader.line_num, cells
        start = reader.line_num
    except csv.Error as e:
      raise ValueError(
        f'{path}, line {start + 1}: the quotation marks of the row that begins '
        f'here do not fit ({e}); a cell in quotes ends with one, and a quote '
        'in it is written twice.'
      ) from e

  def first_score(separator):
    try:
      return score(next(parse(separator), (0, []))[1])
    except ValueError:
      return -1  # quoted cells between other separators

  # The first of equal ones.
  yield from parse(max(separators, key=first_score))


def read_table(
  path: pathlib.Path,
  columns: Mapping[str, Sequence[str]],
  *,
  optional: Collection[str] = (),
  spread: Callable[[list[str]], list[str]] = lambda header: header,
) -> Iterator[tuple[int, dict[str, str]]]:
  """Rows of a table with a header, as (line, {column: stripped text}).

  Args:
    path: the file.
    columns: for each column the names that the header may give it.
    optional: the columns that may be absent; they are '' then.
    spread: gives the header's cells the form in which they name columns.

  Raises:
    ValueError: a column is absent or there twice, or a row does not fit.
  """

  def places(header):
    names = [plain(name) for name in spread(header)]
    return {
      column: [
        place
        for known in dict.fromkeys(map(plain, aliases))
        for place, name in enumerate(names)
        if name == known
      ]
      for column, aliases in columns.items()
    }

  rows = read_rows(path, lambda header: sum(map(bool, places(header).values())))
  _, header = next(rows, (0, []))
  found = places(header)
  header = spread(header)
  for column, at in found.items():
    if not at and column not in optional:
      raise ValueError(
        f'{path} has no column {columns[column][0]!r}; its first line must be '
        'a header, separated by commas, semicolons or tabs, with the names '
        f'that docs/data.md lists, and is {",".join(header)[:120]!r}.'
      )
    if len(at) > 1 and plain(header[at[0]]) == plain(header[at[1]]):
      raise ValueError(
        f'{path} has the column {header[at[0]]!r} twice; rename or remove one.'
      )
  place = {column: at[0] for column, at in found.items() if at}
  for line, row in rows:
    if len(row) <= max(place.values()) or any(row[len(header) :]):
      raise ValueError(
        f'{path}, line {line}: {len(row)} fields do not fit the header, which '
        f'has {len(header)}; give the row as many, and put quotes around a '
        'field that holds the separator.'
      )
    yield line, {c: row[place[c]] if c in place else '' for c in columns}


def header(path: pathlib.Path, known: Collection[str]) -> list[str]:
  """The cells of a table's first line; none where the file is empty.

  Args:
    path: the file.
    known: names, some of which the line has; they tell the separator.

  Raises:
    ValueError: as `read_rows`.
  """
  names = {plain(name) for name in known}
  score = lambda cells: len(names.intersection(map(plain, cells)))
  _, cells = next(read_rows(path, score), (0, []))
  return cells
