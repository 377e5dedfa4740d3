"""A folder with a table of films: films.csv, and what may lie beside it.

* `films.csv` (or `labels.csv`): a row a film with the columns `image` (a PNG,
  JPEG or DICOM, by its path in the folder or in its `images`), `patient`, and
  one for each finding: 1, 0, empty (unknown) or -1 (uncertain). `split`,
  `view`, `age` and `sex` are optional.
* `boxes.csv` and masks: see table_regions.
* `readers.csv`: `image`, `reader`, and a column for each finding.

Every column of films.csv that is not named above is a finding, unless
config.data.findings names them. docs/data.md shows an example.
"""

import functools
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from absl import logging

from input_pipeline import findings as findings_lib
from input_pipeline import synonyms
from input_pipeline import tables as text_tables
from input_pipeline.sources import (
  cells,
  film_names,
  film_table,
  table_regions,
)
from input_pipeline.sources.film_table import (
  FilmRow,
  FilmTable,
  LeftOut,
  Options,
)

FILMS = ('films.csv', 'labels.csv')
READERS = 'readers.csv'
ENDINGS = ('.png', '.jpg', '.jpeg', '.dcm', '.dicom')

_COLUMNS = {
  'image': film_names.COLUMN,
  'patient': ('patient', 'Patient ID', 'subject', 'subject ID'),
  'split': ('split', 'set', 'subset'),
  'view': ('view', 'View Position', 'projection'),
  'age': ('age', 'Patient Age', 'age in years', 'age years'),
  'sex': ('sex', 'gender', 'Patient Sex', 'Patient Gender'),
}
_UNKNOWN_COLUMN = 'column of readers that is no finding here'
_READER = ('reader', 'Reader ID', 'radiologist', 'rad ID', 'annotator')
_SPLITS = {
  **dict.fromkeys(('train', 'training'), 'train'),
  **dict.fromkeys(
    ('validation', 'valid', 'validate', 'val', 'dev', 'tuning'), 'validation'
  ),
  **dict.fromkeys(('test', 'testing'), 'test'),
  '': '',
}


def tables(folder: pathlib.Path) -> list[pathlib.Path]:
  """films.csv, and what lies beside it.

  Raises:
    FileNotFoundError: the folder or films.csv is not there.
  """
  if not folder.is_dir():
    raise FileNotFoundError(f'There is no data folder {folder}.')
  films = next((folder / n for n in FILMS if (folder / n).is_file()), None)
  if films is None:
    others = sorted(path.name for path in folder.glob('*.csv'))
    raise FileNotFoundError(
      f'{folder} has no films.csv; it is a table with the columns image, '
      'patient and one for each finding (docs/data.md)'
      + (f'. There is {", ".join(others[:5])}.' if others else '.')
    )
  beside = folder / READERS, *table_regions.paths(folder)
  return [films, *(path for path in beside if path.exists())]


def read(folder: pathlib.Path, options: Options = Options()) -> FilmTable:
  """Reads the tables of `folder`.

  Raises:
    FileNotFoundError: films.csv is absent.
    ValueError: a table is malformed or contradicts itself.
  """
  film_names.forget()
  path, *_ = tables(folder)
  known = synonyms.read(options.synonyms)
  names = _finding_columns(path, options.findings, known)
  films, left_out, lateral = _read_films(folder, path, names)
  index = film_names.Names([film.image for film in films], path.name)
  readers, labels, passed_by = _read_readers(
    folder / READERS, index, names, known
  )
  regions = table_regions.read(folder, index, names, known)
  unread = (tuple([math.nan] * len(names)),) * len(readers)
  for i in labels.keys() | regions.boxes.keys() | regions.masks.keys():
    by_reader = labels.get(i, {})
    films[i] = films[i]._replace(
      boxes=tuple(regions.boxes.get(i, ())),
      masks=tuple(regions.masks.get(i, ())),
      frame=regions.frames.get(i),
      readers=tuple(map(by_reader.get, readers, unread)) if by_reader else (),
    )
  films = [film for i, film in enumerate(films) if i not in lateral]
  located = {
    region.finding for film in films for region in (*film.boxes, *film.masks)
  }
  return FilmTable(
    findings=names,
    films=films,
    boxed=tuple(name for k, name in enumerate(names) if k in located),
    readers=tuple(readers),
    left_out=[*left_out, *regions.left_out, *passed_by],
  )


def _finding_columns(
  path: pathlib.Path, wanted: Sequence[str], known: Mapping[str, str]
) -> tuple[str, ...]:
  """The columns of films.csv that are findings, in their order.

  Raises:
    ValueError: there is none, or not one that is wanted.
  """
  aliases = [alias for names in _COLUMNS.values() for alias in names]
  taken = {text_tables.plain(alias) for alias in aliases}
  header = text_tables.header(path, aliases)
  if not header:
    raise ValueError(
      f'{path} is empty; it needs a header (image, patient, and a column for '
      'each finding) and a row for each film.'
    )
  for name in header:
    if name and not text_tables.plain(name):
      raise ValueError(
        f'{path}: the column {name!r} has neither a letter nor a digit, which '
        'names are told apart by; rename it.'
      )
  columns = tuple(
    findings_lib.tidy(name)
    for name in header
    if text_tables.plain(name) not in taken and not _is_index(name)
  )
  if not columns:
    raise ValueError(
      f'{path} has no column of a finding; beside {", ".join(_COLUMNS)} every '
      'column is one, with 1, 0, empty or -1 in its cells.'
    )
  if wanted:
    for name in wanted:
      if text_tables.plain(name) in taken:
        raise ValueError(
          f'{path}: {name!r} cannot be a finding (config.data.findings), as a '
          'column of this name tells something else of a film; give the '
          'finding another name.'
        )
      findings_lib.index_of(name, columns, known)
    columns = tuple(
      column
      for column in columns
      if any(findings_lib.same(column, name, known) for name in wanted)
    )
  try:
    findings_lib.match(columns, (), known)
  except ValueError as e:
    raise ValueError(
      f'{path}: the columns {str(e).partition(";")[0]}; rename or remove one.'
    ) from None
  _tell_of_second_names(path, header)
  return columns


def _tell_of_second_names(path: pathlib.Path, header: Sequence[str]) -> None:
  """Says which columns are passed by, as another tells the same."""
  for field, aliases in _COLUMNS.items():
    plains = list(dict.fromkeys(map(text_tables.plain, aliases)))
    columns = [name for name in header if text_tables.plain(name) in plains]
    columns.sort(key=lambda name: plains.index(text_tables.plain(name)))
    if len(columns) > 1:
      logging.warning(
        '%s: the column %r is read as the %s of a film, and %s passed by; if '
        'that is a finding, give it another name.',
        path,
        columns[0],
        field,
        ', '.join(map(repr, columns[1:])),
      )


def _is_index(name: str) -> bool:
  """Whether a column is one that pandas or a spreadsheet adds.

  Examples:
    >>> _is_index('Unnamed: 0'), _is_index(''), _is_index('Effusion')
    (True, True, False)
  """
  plain = text_tables.plain(name)
  return not name or plain == 'index' or plain.startswith('unnamed')


def _read_films(
  folder: pathlib.Path, path: pathlib.Path, names: Sequence[str]
) -> tuple[list[FilmRow], list[LeftOut], set[int]]:
  """The rows of films.csv, each with its file where that is there.

  Returns:
    the films; what of them is left out; and the indices of lateral films.
  """
  films, left_out, lateral = [], [], set()
  seen, splits = {}, set()
  files = film_names.Files(folder, ENDINGS)
  keys = [f'finding {k}' for k in range(len(names))]
  columns = _COLUMNS | {
    key: (name,) for key, name in zip(keys, names, strict=True)
  }
  optional = {'split', 'view', 'age', 'sex'}
  rows = text_tables.read_table(path, columns, optional=optional)
  for line, row in rows:
    try:
      labels = dict(zip(names, map(row.get, keys), strict=True))
      film = _film(folder, row, labels, files, f'{path.name}, line {line}')
      splits.add(film.split)
      if '' in splits and len(splits) > 1:
        raise ValueError(
          'some films have a split and some have none; give it for all of them '
          'or for none.'
        )
      # Two spellings of one file are one film.
      for key in {film.image, *film.paths}:
        if seen.setdefault(key, line) != line:
          raise ValueError(
            f'the image {film.image!r} has a row already, in line {seen[key]}; '
            'give each film one row.'
          )
    except ValueError as e:
      raise ValueError(f'{path}, line {line}: {e}') from None
    if row['view'] and not film.view and _is_lateral(row['view']):
      lateral.add(len(films))
      left_out.append(LeftOut(film.image, film_table.LATERAL, row['view'][:80]))
    else:
      left_out += _not_understood(film, row)
    films.append(film)
  if not films:
    raise ValueError(
      f'{path} has no row below its header; give each film one row.'
    )
  return films, left_out, lateral


def _film(
  folder: pathlib.Path,
  row: Mapping[str, str],
  labels: Mapping[str, str],
  files: film_names.Files,
  where: str,
) -> FilmRow:
  """A row of films.csv.

  Raises:
    ValueError: a cell cannot be understood.
  """
  if cells.is_blank(row['patient']):
    raise ValueError(
      'there is no patient; films are divided by patient, so each needs one.'
    )
  split = _SPLITS.get(text_tables.plain(row['split']))
  if split is None:
    raise ValueError(
      f'the split {row["split"][:80]!r} is none of train, validation, test; '
      'write one of these, or remove the column to have patients divided.'
    )
  image = film_names.clean(row['image'], folder)
  file = files.find(image)
  return FilmRow(
    image=image,
    patient=row['patient'],
    label=_labels(
      labels,
      'if the column is no finding, name those that are with '
      '--config.data.findings=A,B.',
    ),
    split=split,
    view=cells.view(row['view']),
    age=cells.age(row['age']),
    sex=cells.sex(row['sex']),
    paths=(file,) if file else (),
    where=where,
  )


def _labels(texts: Mapping[str, str], way_out: str) -> tuple[float, ...]:
  try:
    return tuple(map(cells.label, texts.values()))
  except ValueError:
    # Which one it was is looked for only here: most rows have none.
    for name, text in texts.items():
      try:
        cells.label(text)
      except ValueError as e:
        raise ValueError(
          f'column {name!r}: {str(e).removesuffix(".")}; {way_out}'
        ) from None
    raise


def _not_understood(film: FilmRow, row: Mapping[str, str]) -> Iterator[LeftOut]:
  for field in ('age', 'sex', 'view'):
    value = getattr(film, field)
    unknown = value == '' or value != value
    if unknown and not cells.is_blank(row[field]):
      yield LeftOut(film.image, f'{field} not understood', row[field][:80])


@functools.lru_cache(maxsize=4096)
def _is_lateral(text: str) -> bool:
  # It takes a second to import, and few tables have such a view.
  from input_pipeline.radiograph import views

  return views.view(text) == 'lateral'


def _read_readers(
  path: pathlib.Path,
  index: film_names.Names,
  names: Sequence[str],
  known: Mapping[str, str],
) -> tuple[list[str], dict[int, dict[str, tuple[float, ...]]], list[LeftOut]]:
  """The readers' labels.

  Returns:
    the readers by name; of each film read the labels by reader; and the
    columns that are none of the findings `names`.
  """
  readers, labels, passed_by = {}, {}, []
  if not path.is_file():
    return [], {}, []
  column_of = {}
  aliases = (*film_names.COLUMN, *_READER)
  # A patient, a view or an age may be repeated here.
  others = [alias for names in _COLUMNS.values() for alias in names]
  taken = {text_tables.plain(alias) for alias in (*aliases, *others)}
  for column in text_tables.header(path, aliases):
    if text_tables.plain(column) in taken or _is_index(column):
      continue
    try:
      name = names[findings_lib.index_of(column, names, known)]
    except ValueError:
      passed_by.append(LeftOut(path.name, _UNKNOWN_COLUMN, column[:80]))
      continue
    if name in column_of:
      raise ValueError(
        f'{path}: the columns {column_of[name]!r} and {column!r} mean the same '
        'finding; rename or remove one.'
      )
    column_of[name] = column
  if not column_of:
    raise ValueError(
      f'{path} has no column of a finding that films.csv has '
      f'({", ".join(names)}); it has image, reader, and a column for each.'
    )
  columns = {'image': film_names.COLUMN, 'reader': _READER} | {
    f'finding {name}': (column,) for name, column in column_of.items()
  }
  for line, row in text_tables.read_table(path, columns):
    where = f'{path}, line {line}'
    image = film_names.clean(row['image'], path.parent)
    of_film = labels.setdefault(index.find(image, where), {})
    reader = row['reader']
    if not reader:
      raise ValueError(f'{where}: there is no reader; name or number each.')
    if reader in of_film:
      raise ValueError(
        f'{where}: the reader {reader!r} has a row for {row["image"]!r} '
        'already; give each reading one row.'
      )
    texts = {name: row.get(f'finding {name}', '') for name in names}
    try:
      of_film[reader] = _labels(texts, 'correct the cell.')
    except ValueError as e:
      raise ValueError(f'{where}: {e}') from None
    readers.setdefault(reader)
  return list(readers), labels, passed_by
