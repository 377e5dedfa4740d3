"""The files of a prepared set, beside tfds's: films.npz and left_out.csv.

`films.npz` holds all but the pixels, as arrays by '<split>/<field>', so that
a set whose images stay on disk need not read them to learn its labels.
`left_out.csv` lists what was left out, and why. They are written last, and
films.npz at the very end: where it stands, the set is complete.
"""

import csv
import hashlib
import os
import pathlib
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from input_pipeline import placement, records, tables
from input_pipeline.catalogue import Catalogue
from input_pipeline.findings import BOXED, FINDINGS
from input_pipeline.preprocess import Decoded
from input_pipeline.sources.film_table import FilmRow, LeftOut

FILMS_FILE = 'films.npz'
LEFT_OUT_FILE = 'left_out.csv'

# Of all films of NIH and of the phantom: boxes in 1/1024 of the sides, upright.
NIH_FRAME = (1024, 1024, 0, 0, 0)

_BY_FILM = ('label', 'image_name', 'patient', 'view', 'age', 'sex')
_BY_BOX = ('box', 'box_image', 'box_finding')
_BY_MASK = ('mask', 'mask_image', 'mask_finding')


def label_vector(label: Sequence[float]) -> Float[np.ndarray, ' k']:
  """1 for each finding that the film has, 0 for the others, NaN if unknown."""
  return np.array(label, np.float32)


def write_films(
  folder: pathlib.Path,
  catalogue: Catalogue,
  splits: Mapping[str, Sequence[tuple[FilmRow, Decoded]]],
  content: Mapping[str, str],
) -> None:
  """Writes films.npz.

  Args:
    folder: of the prepared set.
    catalogue: that the films are of.
    splits: the films of each prepared split.
    content: the SHA-256 of each split.
  """
  arrays = {}
  rows = [film for films in catalogue.films.values() for film in films]
  patient = patient_numbers(rows)
  has_masks = any(row.masks for row in rows)
  for split, films in splits.items():
    if not films:
      continue
    columns = _columns(films, patient)
    columns['content'] = np.array(content[split])
    # What NIH's films have not is not written of them.
    if (catalogue.findings, catalogue.boxed) != (FINDINGS, BOXED):
      columns['findings'] = np.array(catalogue.findings)
      columns['boxed'] = np.array(catalogue.boxed, 'U')
    frame = [decoded.frame for _, decoded in films]
    if {*frame} != {NIH_FRAME}:
      columns['frame'] = np.array(frame, np.int64)
    if patient is not int:
      columns['patient_name'] = np.array([row.patient for row, _ in films])
    if has_masks:
      columns |= _mask_columns(films)
    if catalogue.readers:
      columns['reader'] = _reader_labels(films, catalogue)
      columns['reader_names'] = np.array(catalogue.readers)
    arrays |= {f'{split}/{name}': column for name, column in columns.items()}
  # With the ending .npz, which np.savez would append.
  temporary = folder / f'tmp.{FILMS_FILE}'
  np.savez(temporary, **arrays)
  os.replace(temporary, folder / FILMS_FILE)


def _columns(
  films: Sequence[tuple[FilmRow, Decoded]], patient: Callable[[str], int]
) -> dict[str, np.ndarray]:
  """The arrays that every split has."""
  rows = [row for row, _ in films]
  boxes = [(i, box) for i, (_, d) in enumerate(films) for box in d.boxes]
  return {
    'label': np.stack([label_vector(row.label) for row in rows]),
    'image_name': np.array([row.image for row in rows]),
    'patient': np.array([patient(row.patient) for row in rows], np.int64),
    'view': np.array([row.view for row in rows], 'U2'),
    'age': np.array([row.age for row in rows], np.float32),
    'sex': np.array([row.sex for row in rows], 'U1'),
    'box': np.array([b.box for _, b in boxes], np.float32).reshape(-1, 4),
    'box_image': np.array([i for i, _ in boxes], np.int64),
    'box_finding': np.array([b.finding for _, b in boxes], np.int64),
  }


def _mask_columns(
  films: Sequence[tuple[FilmRow, Decoded]],
) -> dict[str, np.ndarray]:
  """Masks as bits, eight pixels a byte."""
  masks = [
    (i, k, bits) for i, (_, d) in enumerate(films) for k, bits in d.masks
  ]
  bits = [placement.unpack(text) for _, _, text in masks]
  return {
    'mask': np.stack(bits) if bits else np.zeros((0, 0), np.uint8),
    'mask_image': np.array([i for i, _, _ in masks], np.int64),
    'mask_finding': np.array([k for _, k, _ in masks], np.int64),
  }


def _reader_labels(
  films: Sequence[tuple[FilmRow, Decoded]], catalogue: Catalogue
) -> Float[np.ndarray, 'r n k']:
  """NaN where a reader did not read a film or does not say."""
  shape = len(catalogue.readers), len(films), len(catalogue.findings)
  labels = np.full(shape, np.nan, np.float32)
  for i, (row, _) in enumerate(films):
    if row.readers:
      labels[:, i] = row.readers
  return labels


def _is_number(patient: str) -> bool:
  return (
    patient.isascii()
    and patient.isdigit()
    and (patient == '0' or patient[0] != '0')
    and len(patient) < 19  # int64
  )


def patient_numbers(rows: Sequence[FilmRow]) -> Callable[[str], int]:
  """What makes a number of a patient's name.

  The number that all names are, or a hash of each.
  """
  if all(_is_number(name) for name in {row.patient for row in rows}):
    return int
  return patient_number


def patient_number(patient: str) -> int:
  """A number of 53 bits, which a float holds as well, from a patient's name.

  Examples:
    >>> patient_number('Möller-7')
    237477496042251
  """
  digest = hashlib.sha256(patient.encode(errors='surrogateescape')).digest()
  return int.from_bytes(digest[:8], 'big') >> 11


def read_films(folder: pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
  """The columns of films.npz by split.

  Raises:
    records.Damaged: it is not there or not whole.
  """
  path = folder / FILMS_FILE
  splits = {}
  try:
    # Opened here: np.load leaves a file open that is no archive.
    with open(path, 'rb') as f, np.load(f, allow_pickle=False) as table:
      for key in table.files:
        split, field = key.split('/')
        splits.setdefault(split, {})[field] = table[key]
    for columns in splits.values():
      films, boxes, masks = (
        {len(columns[field]) for field in fields if field in columns}
        for fields in (_BY_FILM, _BY_BOX, _BY_MASK)
      )
      # Of masks a set may hold none.
      if not (len(films) == len(boxes) == 1 >= len(masks)):
        raise ValueError('its columns differ in length')
      if missing := {*_BY_FILM, *_BY_BOX, 'content'} - columns.keys():
        raise ValueError(f'it lacks {min(missing)}')
    if not splits:
      raise ValueError('it holds no split')
  except (
    *(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, TypeError),
    *(NotImplementedError, RuntimeError),  # zipfile's, of flags in its headers
  ) as e:
    raise records.damaged(path, e) from e
  return splits


def write_left_out(folder: pathlib.Path, rows: Sequence[LeftOut]) -> None:
  """Writes left_out.csv, in cells that no spreadsheet runs."""

  def inert(text):
    return f"'{text}" if text[:1] in ('=', '+', '-', '@', '\t', '\r') else text

  with open(
    folder / LEFT_OUT_FILE, 'w', newline='', encoding='utf-8', errors='replace'
  ) as f:
    writer = csv.writer(f)
    writer.writerow(LeftOut._fields)
    writer.writerows([[inert(text) for text in row] for row in rows])


def describe_left_out(folder: pathlib.Path) -> list[str]:
  """For each reason how often it is there, and where first.

  '1 absent (first: a.png, films.csv, line 8)'.
  """
  counts = count_left_out(folder)
  columns = {field: (field,) for field in LeftOut._fields}
  first = {}
  for _, row in tables.read_table(folder / LEFT_OUT_FILE, columns):
    first.setdefault(row['reason'], row)
    if len(first) == len(counts):
      break
  described = []
  for reason, count in counts.items():
    told = first[reason]['name'], first[reason]['detail']
    described.append(
      f'{count} {reason} (first: {", ".join(filter(None, told))})'
    )
  return described


def count_left_out(folder: pathlib.Path) -> dict[str, int]:
  """How often each reason is in left_out.csv, in alphabetical order.

  Raises:
    records.Damaged: it is not there, or is no table with reasons.
  """
  path = folder / LEFT_OUT_FILE
  columns = {field: (field,) for field in ('name', 'reason')}
  try:
    counts = Counter(
      row['reason'] for _, row in tables.read_table(path, columns)
    )
    if '' in counts or not tables.read_text(path).endswith(('\n', '\r')):
      raise ValueError('its end is missing')
  except (OSError, ValueError) as e:
    raise records.damaged(path, e) from e
  return dict(sorted(counts.items()))
