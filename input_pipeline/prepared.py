"""The files of a prepared set, beside tfds's: films.npz and left_out.csv.

`films.npz` holds all but the pixels, as arrays by '<split>/<field>', so that
a set whose images stay on disk need not read them to learn its labels.
`left_out.csv` lists what was left out, and why. They are written last, and
films.npz at the very end: where it stands, the set is complete.
"""

import csv
import os
import pathlib
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from input_pipeline import records, tables
from input_pipeline.catalogue import Film
from input_pipeline.findings import FINDINGS
from input_pipeline.nih_tables import Entry, LeftOut

FILMS_FILE = 'films.npz'
LEFT_OUT_FILE = 'left_out.csv'

_BY_FILM = ('label', 'image_name', 'patient', 'view', 'age', 'sex')
_BY_BOX = ('box', 'box_image', 'box_finding')


def label_vector(entry: Entry) -> Float[np.ndarray, ' k']:
  """1 for each finding that the film has, 0 for the others."""
  label = np.zeros(len(FINDINGS), np.float32)
  label[list(entry.findings)] = 1
  return label


def write_films(
  folder: pathlib.Path,
  splits: Mapping[str, Sequence[Film]],
  content: Mapping[str, str],
) -> None:
  """Writes films.npz; `content` is the SHA-256 of each split."""
  arrays = {}
  for split, films in splits.items():
    if not films:
      continue
    boxes = [(row, b) for row, film in enumerate(films) for b in film.boxes]
    columns = {
      'label': np.stack([label_vector(f.entry) for f in films]),
      'image_name': np.array([f.name for f in films]),
      'patient': np.array([f.patient for f in films], np.int64),
      'view': np.array([f.entry.view for f in films], 'U2'),
      'age': np.array([f.entry.age for f in films], np.float32),
      'sex': np.array([f.entry.sex for f in films], 'U1'),
      'box': np.array([b.box for _, b in boxes], np.float32).reshape(-1, 4),
      'box_image': np.array([row for row, _ in boxes], np.int64),
      'box_finding': np.array([b.finding for _, b in boxes], np.int64),
      'content': np.array(content[split]),
    }
    arrays |= {f'{split}/{name}': column for name, column in columns.items()}
  # With the ending .npz, which np.savez would append.
  temporary = folder / f'tmp.{FILMS_FILE}'
  np.savez(temporary, **arrays)
  os.replace(temporary, folder / FILMS_FILE)


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
      films, boxes = (
        {len(columns[field]) for field in fields}
        for fields in (_BY_FILM, _BY_BOX)
      )
      if len(films) > 1 or len(boxes) > 1 or 'content' not in columns:
        raise ValueError('its columns differ in length')
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
