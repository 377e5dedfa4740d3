"""The tables of NIH ChestX-ray14: labels, boxes, the two lists of films.

What contradicts itself stops the reading with a ValueError that names file and
line: an unknown or doubled label, a finding beside `No Finding`, a film listed
twice, a name that is not a film's. A cell or a box that cannot be understood
is returned as a `LeftOut`.

Boxes are (ymin, xmin, ymax, xmax) in pixels of a film of `BOX_UNITS`.
"""

import functools
import math
import pathlib
import re
from collections import Counter
from typing import NamedTuple

from input_pipeline import findings, tables
from input_pipeline.sources import cells
from input_pipeline.sources.film_table import Box, LeftOut

LABEL_FILES = ('Data_Entry_2017_v2020.csv', 'Data_Entry_2017.csv')
BOX_FILE = 'BBox_List_2017.csv'
TRAIN_LIST = 'train_val_list.txt'
TEST_LIST = 'test_list.txt'
FILM_NAME = re.compile(r'[0-9]{8}_[0-9]{3}\.png')

BOX_UNITS = 1024  # side of the films in BBox_List_2017.csv
# The first lines of lists that have one: NIH's name, pandas's for a column
# without any.
_LIST_HEADERS = (
  'imageindex', 'image', 'images', 'imagename', 'imageid', 'file', 'files',
  'filename', 'film', 'name', 'index', 'unnamed0', '0', '',
)  # fmt: skip


class Entry(NamedTuple):
  """A film's row in the label file; '' and NaN where it does not say."""

  findings: tuple[int, ...]
  view: str
  age: float
  sex: str


def patient_of(name: str) -> int:
  """The patient of a film, from the film's name."""
  return int(name[:8])


def _film_name(text: str, where: str) -> str:
  """The film that `text` names, without the folders before it.

  It thereby cannot lead out of its folder.
  """
  name = re.split(r'[/\\]', text)[-1]
  if not FILM_NAME.fullmatch(name):
    raise ValueError(
      f'{where} names {text[:80]!r}; a film is named as 00000001_000.png: 8 '
      f'digits for the patient, 3 for the film.'
    )
  return name


def _looks_like_a_film(text: str) -> bool:
  return bool(FILM_NAME.fullmatch(re.split(r'[/\\]', text)[-1]))


def read_list(path: pathlib.Path) -> list[str]:
  """The films of a list with one name a line.

  Other cells of a line (an index, quotes, trailing separators) and a header
  are passed by.

  Raises:
    ValueError: a line has no film's name or several, one is there twice, or
      none is.
  """
  rows = tables.read_rows(
    path, lambda row: sum(map(_looks_like_a_film, row)) * 10 + len(row)
  )
  names = []
  for first, (line, row) in enumerate(rows):
    films = [cell for cell in row if _looks_like_a_film(cell)]
    if (
      not films and not first and {*map(tables.plain, row)} <= {*_LIST_HEADERS}
    ):
      continue
    if len(films) > 1:
      raise ValueError(
        f'{path}, line {line} names {len(films)} films, {films[0]!r} first; '
        'each must be on a line of its own.'
      )
    text = films[0] if films else next(cell for cell in row if cell)
    names.append(_film_name(text, f'{path}, line {line}'))
  twice = [name for name, count in Counter(names).items() if count > 1]
  if twice:
    raise ValueError(
      f'{path} lists {len(twice)} films twice, {twice[0]} among them; each '
      f'must be there once.'
    )
  if not names:
    raise ValueError(f'{path} lists no film.')
  return names


@functools.lru_cache(maxsize=4096)
def parse_labels(text: str) -> tuple[int, ...]:
  """The findings' places in `findings.FINDINGS`, in order.

  >>> parse_labels('Nodule|Mass'), parse_labels('No Finding')
  ((4, 5), ())

  Raises:
    ValueError: an unknown label, one that is there twice, none at all, or
      'No Finding' beside another.
  """
  names = [name.strip() for name in re.split('[|;,]', text)]
  none = [name for name in names if tables.plain(name) == 'nofinding']
  if none and len(names) > 1:
    raise ValueError(
      f'the labels {text[:120]!r} contradict themselves: No Finding must '
      f'stand alone.'
    )
  if none:
    return ()
  if not text:
    raise ValueError("there is no label; a film without any is 'No Finding'.")
  labels = [findings.FINDINGS.index(findings.canonical(name)) for name in names]
  if len(set(labels)) < len(labels):
    raise ValueError(f'the labels {text[:120]!r} name a finding twice.')
  return tuple(sorted(labels))


def _same_patient(text: str, name: str) -> bool:
  """Whether a 'Patient ID', perhaps saved as '1.0', is that of the film."""
  digits = re.fullmatch(r'([0-9]+)(?:[.,]0*)?', text)
  return bool(digits) and int(digits[1]) == patient_of(name)


def read_entries(
  path: pathlib.Path,
) -> tuple[dict[str, Entry], list[LeftOut]]:
  """The label file, older or newer: entries by film, and cells not understood.

  Raises:
    ValueError: naming the file, the line and what is wrong with it.
  """
  columns = {
    'film': ('Image Index',),
    'labels': ('Finding Labels',),
    'patient': ('Patient ID',),
    'age': (
      *('Patient Age', 'Age', 'Patient Age (years)', 'Age (years)'),
      *('Age in years', 'Patient Age [y]', 'Age [y]'),
    ),
    'sex': ('Patient Gender', 'Patient Sex', 'Gender', 'Sex'),
    'view': ('View Position', 'View', 'Projection'),
  }
  optional = {'patient', 'age', 'sex', 'view'}
  entries, left_out = {}, []
  for line, row in tables.read_table(path, columns, optional=optional):
    where = f'{path}, line {line}'
    name = _film_name(row['film'], where)
    if name in entries:
      raise ValueError(f'{where}: {name} has a row already.')
    if row['patient'] and not _same_patient(row['patient'], name):
      raise ValueError(
        f'{where}: {name} is of patient {patient_of(name)} by its name and of '
        f'{row["patient"][:20]!r} by its row.'
      )
    try:
      labels = parse_labels(row['labels'])
    except ValueError as e:
      raise ValueError(f'{where}, {name}: {e}') from e
    entry = Entry(
      findings=labels,
      view=cells.view(row['view']),
      age=cells.age(row['age']),
      sex=cells.sex(row['sex']),
    )
    for field in ('age', 'sex', 'view'):
      value = getattr(entry, field)
      unknown = value == '' or value != value
      if unknown and not cells.is_blank(row[field]):
        left_out.append(
          LeftOut(name, f'{field} not understood', row[field][:80])
        )
    entries[name] = entry
  if not entries:
    raise ValueError(f'{path} has no row.')
  return entries, left_out


def spread_box(header: list[str]) -> list[str]:
  """NIH's 'Bbox [x,y,w,h]' as four columns, where no comma has cut it."""
  for place, cell in enumerate(header):
    if tables.plain(cell) == 'bboxxywh':
      rest = header[place + 1 :]
      blank = next((k for k, after in enumerate(rest) if after), len(rest))
      # NIH's header has three blank cells behind it, over nothing.
      return [*header[:place], 'x', 'y', 'w', 'h', *rest[min(blank, 3) :]]
  return header


def read_boxes(
  path: pathlib.Path,
) -> tuple[dict[str, list[Box]], list[LeftOut]]:
  """The box file: boxes by film, and the rows that cannot be used."""
  columns = {
    'film': ('Image Index',),
    'finding': ('Finding Label',),
    # The header has 'Bbox [x,y,w,h]' cut at its own commas.
    'x': ('Bbox [x', 'x'),
    'y': ('y',),
    'w': ('w',),
    'h': ('h]', 'h'),
  }
  boxes, left_out = {}, []
  for line, row in tables.read_table(path, columns, spread=spread_box):
    name = _film_name(row['film'], f'{path}, line {line}')
    film_boxes = boxes.setdefault(name, [])
    try:
      finding = findings.FINDINGS.index(findings.canonical(row['finding']))
    except ValueError:
      left_out.append(
        LeftOut(name, 'box of an unknown finding', row['finding'])
      )
      continue
    numbers = ', '.join(row[c] for c in 'xywh')
    x, y, w, h = (tables.number(row[c]) for c in 'xywh')
    corners = y, x, y + h, x + w
    box = Box(finding, tuple(min(v, float(BOX_UNITS)) for v in corners))
    if not all(map(math.isfinite, corners)):
      left_out.append(LeftOut(name, 'box without four numbers', numbers))
    elif w <= 0 or h <= 0:
      left_out.append(LeftOut(name, 'box of no size', numbers))
    elif max(x, y, w, h) <= 1:
      # Shares of the film, most likely; as pixels they would be a speck.
      left_out.append(LeftOut(name, 'box not in pixels of 1024', numbers))
    # A thousandth of a pixel for sums that were rounded.
    elif min(corners) < 0 or max(corners) > BOX_UNITS * (1 + 1e-6):
      left_out.append(LeftOut(name, 'box outside the film', numbers))
    elif box.box[0] >= box.box[2] or box.box[1] >= box.box[3]:
      # Less than a float's grain, or nothing within the film.
      left_out.append(LeftOut(name, 'box of no size', numbers))
    elif box in film_boxes:
      left_out.append(LeftOut(name, 'box given twice', numbers))
    else:
      film_boxes.append(box)
  return boxes, left_out
