"""A folder in NIH ChestX-ray14's layout -> a prepared tfds data set.

The folder holds, as released or as users rearranged it:

* films `PPPPPPPP_FFF.png` (the first 8 digits are the patient) in `images/`,
  in `images_0*/images/`, or beside the tables;
* `Data_Entry_2017_v2020.csv` or `Data_Entry_2017.csv`, `BBox_List_2017.csv`,
  `train_val_list.txt`, `test_list.txt`;
* for a phantom, `images_without_shortcut/` and `images_without_lesions/`: the
  test films, by the same names, drawn without that part.

What contradicts itself stops the reading with a ValueError: an unknown or
doubled label, a finding beside `No Finding`, a film listed twice or in both
lists, a patient in both lists, a box on a training patient's film, a name
that is not a film's. What merely is not there or cannot be used is left out,
counted by reason and written to `left_out.csv` in the prepared folder.

Boxes are (ymin, xmin, ymax, xmax) in [0, 1].
"""

import contextlib
import csv
import fcntl
import functools
import hashlib
import io
import json
import math
import os
import pathlib
import re
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from absl import logging
from array_record.python import array_record_module
from tensorflow_datasets.core import example_parser
from tensorflow_datasets.core import writer as tfds_writer
from tensorflow_datasets.core.utils import gcs_utils

from input_pipeline import findings, preprocess

FINDINGS = findings.FINDINGS
BOXED = findings.BOXED
RENDITIONS = ('images_without_shortcut', 'images_without_lesions')
LABEL_FILES = ('Data_Entry_2017_v2020.csv', 'Data_Entry_2017.csv')
BOX_FILE = 'BBox_List_2017.csv'
TRAIN_LIST = 'train_val_list.txt'
TEST_LIST = 'test_list.txt'

# Part of the fingerprint: to be raised whenever prepared bytes would change.
_VERSION = '1.1.0'
_BOX_UNITS = 1024
_MAX_AGE = 120
_FILM = re.compile(r'[0-9]{8}_[0-9]{3}\.png')
_CHUNK_FILMS = 128
_SHARD_BYTES = 512 * 2**20

# Nothing here is ever in a bucket, and asking takes minutes without a network.
gcs_utils._is_gcs_disabled = True


class Box(NamedTuple):
  finding: int
  box: tuple[float, float, float, float]


class Entry(NamedTuple):
  """A film's row in the label file; '' and NaN where it does not say."""

  findings: tuple[int, ...]
  view: str
  age: float
  sex: str


class Film(NamedTuple):
  """A film with its files, one a rendition."""

  name: str
  paths: tuple[str, ...]
  entry: Entry
  boxes: tuple[Box, ...]

  @property
  def patient(self) -> int:
    return patient(self.name)


class LeftOut(NamedTuple):
  name: str
  reason: str
  detail: str = ''


class Catalogue(NamedTuple):
  """What a folder holds: films by split, in the order of their names."""

  films: Mapping[str, Sequence[Film]]
  renditions: tuple[str, ...]
  left_out: Sequence[LeftOut]


def patient(name: str) -> int:
  return int(name[:8])


def _text(path: pathlib.Path) -> str:
  try:
    return path.read_text(encoding='utf-8-sig')
  except UnicodeDecodeError as e:
    raise ValueError(
      f'{path} is not UTF-8 text ({e.reason} at byte {e.start}); save it as '
      f'UTF-8.'
    ) from e


def _film_name(name: str, where: str) -> str:
  """`name`, which thereby cannot lead out of its folder."""
  if not _FILM.fullmatch(name):
    raise ValueError(
      f'{where} names {name[:80]!r}; a film is named as 00000001_000.png: 8 '
      f'digits for the patient, 3 for the film.'
    )
  return name


def read_list(path: pathlib.Path) -> list[str]:
  """The films of a list with one name a line.

  Raises:
    ValueError: a line is not a film's name, or is there twice, or none is.
  """
  lines = [line.strip() for line in _text(path).splitlines()]
  names = [_film_name(line, str(path)) for line in lines if line]
  twice = [name for name, count in Counter(names).items() if count > 1]
  if twice:
    raise ValueError(
      f'{path} lists {len(twice)} films twice, {twice[0]} among them; each '
      f'must be there once.'
    )
  if not names:
    raise ValueError(f'{path} lists no film.')
  return names


def _read_table(
  path: pathlib.Path, columns: Mapping[str, Sequence[str]], optional: set[str]
) -> Iterator[tuple[int, dict[str, str]]]:
  """Rows of a csv file as (line, {column: stripped text}).

  Args:
    path: the file.
    columns: for each column the names that the header may give it.
    optional: the columns that may be absent; they are '' then.
  """
  # strict: an unclosed quote would otherwise swallow the rest of the file.
  reader = csv.reader(io.StringIO(_text(path), newline=''), strict=True)
  try:
    header = [name.strip().casefold() for name in next(reader, [])]
    at = {}
    for column, names in columns.items():
      found = [
        header.index(n.casefold()) for n in names if n.casefold() in header
      ]
      if found:
        at[column] = found[0]
      elif column not in optional:
        raise ValueError(
          f'{path} has no column {names[0]!r}; its first line must be a header '
          f'separated by commas, as NIH wrote it, and is '
          f'{",".join(header)[:120]!r}.'
        )
    for row in reader:
      if not any(field.strip() for field in row):
        continue
      if len(row) <= max(at.values()) or any(
        field.strip() for field in row[len(header) :]
      ):
        raise ValueError(
          f'{path}, line {reader.line_num}: {len(row)} fields do not fit the '
          f'header, which has {len(header)}.'
        )
      yield (
        reader.line_num,
        {c: row[at[c]].strip() if c in at else '' for c in columns},
      )
  except csv.Error as e:
    raise ValueError(f'{path}, line {reader.line_num}: {e}.') from e


@functools.lru_cache(maxsize=4096)
def parse_labels(text: str) -> tuple[int, ...]:
  """'Mass|Nodule' -> (4, 5); 'No Finding' -> ().

  Raises:
    ValueError: an unknown label, one that is there twice, none at all, or
      'No Finding' beside another.
  """
  names = [name.strip() for name in text.split('|')]
  none = [name for name in names if name.casefold() == 'no finding']
  if none and len(names) > 1:
    raise ValueError(
      f'the labels {text[:120]!r} contradict themselves: No Finding must '
      f'stand alone.'
    )
  if none:
    return ()
  if not text:
    raise ValueError("there is no label; a film without any is 'No Finding'.")
  labels = [FINDINGS.index(findings.canonical(name)) for name in names]
  if len(set(labels)) < len(labels):
    raise ValueError(f'the labels {text[:120]!r} name a finding twice.')
  return tuple(sorted(labels))


def parse_age(text: str) -> float:
  """Years: '58', '058Y', '018M' (months), '012W', '004D'; else NaN.

  More than 120 is NaN too: the older label file has ages such as 412.
  """
  match = re.fullmatch(r'([0-9]{1,4})([YMWD]?)', text.strip().upper())
  if not match:
    return math.nan
  unit = {'': 1, 'Y': 1, 'M': 12, 'W': 52.18, 'D': 365.25}[match[2]]
  age = int(match[1]) / unit
  return age if age <= _MAX_AGE else math.nan


def read_entries(path: pathlib.Path) -> dict[str, Entry]:
  """The label file, older or newer, columns by name in any order.

  Raises:
    ValueError: naming the file, the line and what is wrong with it.
  """
  columns = {
    'film': ('Image Index',),
    'labels': ('Finding Labels',),
    'patient': ('Patient ID',),
    'age': ('Patient Age',),
    'sex': ('Patient Gender', 'Patient Sex'),
    'view': ('View Position',),
  }
  optional = {'patient', 'age', 'sex', 'view'}
  entries = {}
  for line, row in _read_table(path, columns, optional):
    where = f'{path}, line {line}'
    name = _film_name(row['film'], where)
    if name in entries:
      raise ValueError(f'{where}: {name} has a row already.')
    if row['patient'] and row['patient'].zfill(8) != name[:8]:
      raise ValueError(
        f'{where}: {name} is of patient {patient(name)} by its name and of '
        f'{row["patient"][:20]!r} by its row.'
      )
    try:
      labels = parse_labels(row['labels'])
    except ValueError as e:
      raise ValueError(f'{where}, {name}: {e}') from e
    view, sex = row['view'].upper(), row['sex'].upper()
    entries[name] = Entry(
      findings=labels,
      view=view if view in ('PA', 'AP') else '',
      age=parse_age(row['age']),
      sex=sex if sex in ('M', 'F') else '',
    )
  if not entries:
    raise ValueError(f'{path} has no row.')
  return entries


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
  for line, row in _read_table(path, columns, set()):
    name = _film_name(row['film'], f'{path}, line {line}')
    film_boxes = boxes.setdefault(name, [])
    try:
      finding = FINDINGS.index(findings.canonical(row['finding']))
    except ValueError:
      left_out.append(
        LeftOut(name, 'box of an unknown finding', row['finding'])
      )
      continue
    numbers = ', '.join(row[c] for c in 'xywh')
    try:
      x, y, w, h = (float(row[c]) / _BOX_UNITS for c in 'xywh')
    except ValueError:
      x = y = w = h = math.nan
    corners = y, x, y + h, x + w
    box = Box(finding, tuple(min(v, 1.0) for v in corners))
    if not all(map(math.isfinite, corners)):
      left_out.append(LeftOut(name, 'box without four numbers', numbers))
    elif w <= 0 or h <= 0:
      left_out.append(LeftOut(name, 'box of no size', numbers))
    # A thousandth of a pixel for sums that were rounded.
    elif min(corners) < 0 or max(corners) > 1 + 1e-6:
      left_out.append(LeftOut(name, 'box outside the film', numbers))
    elif box.box[0] >= box.box[2] or box.box[1] >= box.box[3]:
      # Less than a float's grain, or nothing within the film.
      left_out.append(LeftOut(name, 'box of no size', numbers))
    elif box in film_boxes:
      left_out.append(LeftOut(name, 'box given twice', numbers))
    else:
      film_boxes.append(box)
  return boxes, left_out


def in_validation(patient: int, *, fraction: float, seed: int) -> bool:
  """Whether a training patient is held out.

  A hash of the number alone, so that it depends neither on the order of files
  nor on which films are present.
  """
  digest = hashlib.sha256(f'{seed}:{patient}'.encode()).digest()
  return int.from_bytes(digest[:8], 'big') < fraction * 2**64


def _check_apart(
  train: Sequence[str], test: Sequence[str], boxed: Sequence[str]
) -> None:
  """Raises ValueError where the test films leak into training."""
  both = sorted(set(train) & set(test))
  if both:
    raise ValueError(
      f'{len(both)} films are in {TRAIN_LIST} and in {TEST_LIST}, {both[0]} '
      f'among them; training would see the test.'
    )
  patients = {patient(name) for name in train}
  both = sorted(patients & {patient(name) for name in test})
  if both:
    raise ValueError(
      f'{len(both)} patients have films in {TRAIN_LIST} and in {TEST_LIST}, '
      f'patient {both[0]} among them; training would see the test.'
    )
  both = sorted(name for name in boxed if patient(name) in patients)
  if both:
    raise ValueError(
      f'{len(both)} films of {BOX_FILE} are of patients in {TRAIN_LIST}, '
      f'{both[0]} among them; boxes are for the test only.'
    )


def _label_file(folder: pathlib.Path) -> pathlib.Path:
  for name in LABEL_FILES:
    if (folder / name).is_file():
      return folder / name
  raise FileNotFoundError(
    f'{folder} has neither {" nor ".join(LABEL_FILES)}; it must be a folder '
    f'in the layout of NIH ChestX-ray14.'
  )


def _tables(folder: pathlib.Path) -> list[pathlib.Path]:
  """The label file, the box file and both lists."""
  if not folder.is_dir():
    raise FileNotFoundError(f'There is no data folder {folder}.')
  paths = [_label_file(folder)]
  for name in (BOX_FILE, TRAIN_LIST, TEST_LIST):
    if not (folder / name).is_file():
      raise FileNotFoundError(
        f'{folder} has no {name}; it is in the download beside the films.'
      )
    paths.append(folder / name)
  return paths


def _is_file(entry: os.DirEntry) -> bool:
  """Or leads to one: a pipe would block its reader for ever."""
  try:
    return entry.is_file()
  except OSError:
    return False  # links that lead to each other


def _listing(folder: pathlib.Path) -> dict[str, os.DirEntry]:
  if not folder.is_dir():
    return {}
  with os.scandir(folder) as entries:
    return {
      entry.name: entry
      for entry in entries
      if entry.name.endswith('.png')
      and not entry.name.startswith('.')
      and _is_file(entry)
    }


def _find_films(folder: pathlib.Path) -> dict[str, dict[str, os.DirEntry]]:
  """Files by rendition ('images' is the film itself) and name."""
  found = {}
  for place in (
    folder / 'images',
    *sorted(folder.glob('images_0*/images')),
    folder,
  ):
    found = _listing(place) | found
  extra = {name: _listing(folder / name) for name in RENDITIONS}
  return {'images': found} | {
    name: files for name, files in extra.items() if files
  }


def read(
  folder: str | os.PathLike, *, validation_fraction: float, seed: int
) -> Catalogue:
  """Reads the tables of `folder` and joins them to the films that are there.

  Args:
    folder: in NIH's layout.
    validation_fraction: share of the training patients that are held out, in
      [0, 1).
    seed: of the choice of these patients.

  Raises:
    FileNotFoundError: the folder or one of its tables is absent.
    ValueError: a table is malformed or contradicts itself, or none of the
      listed films is there.
  """
  folder = pathlib.Path(folder)
  if not 0 <= validation_fraction < 1:
    raise ValueError(
      f'validation_fraction ({validation_fraction}) must be in [0, 1).'
    )
  label_file, box_file, train_list, test_list = _tables(folder)
  train, test = read_list(train_list), read_list(test_list)
  entries = read_entries(label_file)
  boxes, left_out = read_boxes(box_file)
  _check_apart(train, test, boxes.keys())

  hold = functools.partial(
    in_validation, fraction=validation_fraction, seed=seed
  )
  held_out = {p for p in map(patient, train) if hold(p)}
  names = {
    'train': [name for name in train if patient(name) not in held_out],
    'validation': [name for name in train if patient(name) in held_out],
    'test': test,
  }
  files = _find_films(folder)
  films = {}
  for split, listed in names.items():
    films[split] = []
    renditions = files if split == 'test' else ('images',)
    for name in sorted(listed):
      absent = [r for r in renditions if name not in files[r]]
      if name not in files['images']:
        left_out.append(LeftOut(name, 'absent'))
      elif absent:
        left_out.append(LeftOut(name, f'absent from {absent[0]}'))
      elif name not in entries:
        left_out.append(LeftOut(name, f'no row in {label_file.name}'))
      else:
        films[split].append(
          Film(
            name,
            tuple(os.path.abspath(files[r][name].path) for r in renditions),
            entries[name],
            tuple(boxes.get(name, ())),
          )
        )
  listed = {*train, *test}
  left_out.extend(
    LeftOut(name, 'in neither list')
    for name in sorted(files['images'])
    if name not in listed
  )
  kept = {film.name for split in films.values() for film in split}
  left_out.extend(
    LeftOut(name, 'box of a film left out', FINDINGS[box.finding])
    for name in sorted(boxes)
    if name not in kept
    for box in boxes[name]
  )
  if not kept:
    raise ValueError(
      f'None of the {len(listed)} listed films can be used: {folder}/images '
      f'and its like hold {len(files["images"])} films '
      f'({_counts(left_out)}).'
    )
  return Catalogue(films, tuple(files)[1:], left_out)


def _counts(left_out: Sequence[LeftOut]) -> str:
  counts = Counter(row.reason for row in left_out)
  return ', '.join(f'{n} {reason}' for reason, n in sorted(counts.items()))


def fingerprint(
  folder: str | os.PathLike,
  *,
  image_size: int,
  validation_fraction: float,
  seed: int,
) -> str:
  """Of all that the prepared set depends on: films' names, sizes and times of
  change, the tables' bytes, the options."""
  folder = pathlib.Path(folder)
  digest = hashlib.sha256(
    repr((_VERSION, image_size, float(validation_fraction), seed)).encode()
  )
  for path in _tables(folder):
    content = path.read_bytes()
    digest.update(f'{path.name} {len(content)}\n'.encode())
    digest.update(content)
  for rendition, files in _find_films(folder).items():
    digest.update(f'{rendition} {len(files)}\n'.encode())
    for name in sorted(files):
      stat = files[name].stat()
      line = f'{name} {stat.st_size} {stat.st_mtime_ns}\n'
      digest.update(line.encode(errors='surrogateescape'))
  return digest.hexdigest()[:16]


class _Writer(tfds_writer.ExampleWriter):
  """ArrayRecord without compression: films do not compress (by a third), and
  are read three times as fast without."""

  def write(self, path, examples):
    writer = array_record_module.ArrayRecordWriter(
      os.fspath(path), 'group_size:1,uncompressed'
    )
    for _, record in examples:
      # A protocol buffer's map is written in an order that changes from run
      # to run, unless asked.
      example = example_parser.tf_example_pb2.Example.FromString(record)
      writer.write(example.SerializeToString(deterministic=True))
    writer.close()


class ChestXray14(tfds.core.ShardBasedBuilder):
  """The tfds builder: a Catalogue and its decoded chunks -> ArrayRecord.

  ShardBased, since GeneratorBased sorts all examples before it writes any:
  through one bucket, in memory, where the order is to be kept. ArrayRecord,
  since TFRecord cannot be read by index, which any order of films needs that
  does not depend on the cache.
  """

  VERSION = tfds.core.Version(_VERSION)

  def __init__(
    self, *, catalogue: Catalogue, image_size: int, chunks, **kwargs
  ):
    """Args: `chunks(split)` lists (films, future of the chunk, its path)."""
    self._catalogue = catalogue
    self._image_size = image_size
    self._chunks = chunks
    self._kept: dict[str, list[Film]] = {}
    self._content: dict[str, Any] = {}  # SHA-256 by split
    super().__init__(file_format='array_record', **kwargs)

  def _info(self):
    feature = tfds.features
    return tfds.core.DatasetInfo(
      builder=self,
      description='NIH ChestX-ray14: frontal chest films, 14 findings, boxes.',
      homepage='https://nihcc.app.box.com/v/ChestXray-NIHCC',
      features=feature.FeaturesDict(
        {
          'image': feature.Tensor(
            shape=(self._image_size, self._image_size, 1),
            dtype=np.uint8,
            encoding=feature.Encoding.BYTES,
          ),
          'image_name': feature.Text(),
          'label': feature.Tensor(shape=(len(FINDINGS),), dtype=np.float32),
          'patient': np.int64,
          'view': feature.Text(),
          'age': np.float32,
          'sex': feature.Text(),
          'boxes': feature.Sequence(
            {
              'box': feature.BBoxFeature(),
              'finding': feature.ClassLabel(names=FINDINGS),
            }
          ),
        }
      ),
      disable_shuffling=True,
    )

  def _example_writer(self):
    return _Writer(file_format=self.info.file_format)

  def _log_download_bytes(self):
    """Nothing is downloaded."""

  def _log_download_done(self):
    """As above."""

  def _shard_iterators_per_split(self, dl_manager):
    shards = {}
    for split, renditions in split_renditions(self._catalogue).items():
      chunks = self._chunks(split)
      film_bytes = len(renditions) * self._image_size**2
      step = max(1, _SHARD_BYTES // (film_bytes * _CHUNK_FILMS))
      for i, name in enumerate(renditions):
        shards[name] = [
          functools.partial(
            self._examples, name, i, len(renditions), chunks[k : k + step]
          )
          for k in range(0, len(chunks), step)
        ]
    return shards

  def _examples(self, split, rendition, num_renditions, chunks):
    kept = self._kept.setdefault(split, [])
    content = self._content.setdefault(split, hashlib.sha256())
    shape = (-1, num_renditions, self._image_size, self._image_size, 1)
    for films, chunk, path in chunks:
      chunk.result()
      faults = json.loads(pathlib.Path(f'{path}.json').read_text())
      # A map and not an array: tfds holds a whole shard's examples at once.
      pixels = np.memmap(f'{path}.u8', np.uint8, 'r').reshape(shape)
      for film, fault, image in zip(films, faults, pixels, strict=True):
        if fault:
          continue
        kept.append(film)
        content.update(repr((film.name, film.entry, film.boxes)).encode())
        content.update(image[rendition])
        yield film.name, _example(film, image[rendition])

  def _download_and_prepare(self, dl_manager, download_config=None):
    super()._download_and_prepare(dl_manager, download_config)
    left_out = [*self._catalogue.left_out]
    for split in self._catalogue.films:
      for films, _, path in self._chunks(split):
        faults = json.loads(pathlib.Path(f'{path}.json').read_text())
        for film, fault in zip(films, faults, strict=True):
          if fault:
            file, reason, detail = fault
            folder = os.path.basename(os.path.dirname(file))
            left_out.append(LeftOut(film.name, reason, f'{folder}: {detail}'))
            left_out.extend(
              LeftOut(film.name, 'box of a film left out', FINDINGS[b.finding])
              for b in film.boxes
            )
    if not any(self._kept.values()):
      raise ValueError(f'None of the films can be used ({_counts(left_out)}).')
    # Beside the examples, since a lazily read set must not read all pixels to
    # learn its labels. In tfds's temporary folder, so that all is renamed
    # into place at once.
    folder = pathlib.Path(self.data_dir)
    content = {name: of.hexdigest() for name, of in self._content.items()}
    write_table(folder / 'films.npz', self._kept, content)
    _write_left_out(folder / 'left_out.csv', left_out)


def split_renditions(catalogue: Catalogue) -> dict[str, list[str]]:
  """For each split of films the prepared splits that show it."""
  shown = {split: [split] for split, films in catalogue.films.items() if films}
  if 'test' in shown:
    shown['test'] += [
      f'test_{name.removeprefix("images_")}' for name in catalogue.renditions
    ]
  return shown


def _label(entry: Entry) -> np.ndarray:
  label = np.zeros(len(FINDINGS), np.float32)
  label[list(entry.findings)] = 1
  return label


def _example(film: Film, image: np.ndarray) -> dict:
  return {
    'image': image,
    'image_name': film.name,
    'label': _label(film.entry),
    'patient': film.patient,
    'view': film.entry.view,
    'age': film.entry.age,
    'sex': film.entry.sex,
    'boxes': [
      {'box': tfds.features.BBox(*b.box), 'finding': b.finding}
      for b in film.boxes
    ],
  }


def write_table(
  path: pathlib.Path,
  splits: Mapping[str, Sequence[Film]],
  content: Mapping[str, str],
) -> None:
  """All but the pixels, as arrays by '<split>/<field>'; `content` by split."""
  arrays = {}
  for split, films in splits.items():
    if not films:
      continue
    boxes = [(row, b) for row, film in enumerate(films) for b in film.boxes]
    columns = {
      'label': np.stack([_label(f.entry) for f in films]),
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
  np.savez(path, **arrays)


def _write_left_out(path: pathlib.Path, rows: Sequence[LeftOut]) -> None:
  def inert(text):
    # A spreadsheet runs what begins so.
    return f"'{text}" if text[:1] in ('=', '+', '-', '@', '\t', '\r') else text

  with open(path, 'w', newline='', encoding='utf-8', errors='replace') as f:
    writer = csv.writer(f)
    writer.writerow(LeftOut._fields)
    writer.writerows([[inert(text) for text in row] for row in rows])


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
  """One process prepares, others wait. The lock dies with its process."""
  with open(path, 'w') as f:
    try:
      fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      logging.info('Waiting for another process that prepares %s.', path.parent)
      fcntl.flock(f, fcntl.LOCK_EX)
    yield


def _check_space(folder: pathlib.Path, catalogue: Catalogue, size: int) -> None:
  films = sum(
    len(catalogue.films[split]) * len(shown)
    for split, shown in split_renditions(catalogue).items()
  )
  # Twice: the decoded chunks, from which an interrupted preparation goes on,
  # stay until the records are whole.
  needed = 2 * films * (size**2 + 1000)
  free = shutil.disk_usage(folder).free
  if free < needed:
    raise ValueError(
      f'Preparing {films} films of {size} pixels needs {needed / 1e6:,.0f} MB '
      f'in {folder}, where {free / 1e6:,.0f} MB are free; choose another '
      f'prepared_dir or a smaller image_size.'
    )


def prepare(
  folder: str | os.PathLike,
  *,
  image_size: int,
  prepared_dir: str | os.PathLike,
  validation_fraction: float,
  seed: int = 0,
  workers: int = 0,
) -> pathlib.Path:
  """Prepares `folder`, or finds it prepared.

  An interrupted preparation goes on where it was, chunk by chunk, and ends
  with the same bytes.

  Args:
    folder: in NIH's layout.
    image_size: pixels; films are resized to its square.
    prepared_dir: receives `<fingerprint>/chest_xray14/<version>/`.
    validation_fraction: share of the training patients held out, in [0, 1).
    seed: of the choice of these patients.
    workers: processes; 0 is all cores.

  Returns:
    The folder with the records, `films.npz`, and `left_out.csv`.

  Raises:
    FileNotFoundError, ValueError: as `read`; and if no film can be decoded or
      the disk has not the space.
  """
  if image_size < 1:
    raise ValueError(f'image_size ({image_size}) must be at least 1.')
  if workers < 0:
    raise ValueError(f'workers ({workers}) must be at least 0, all cores.')
  name = fingerprint(
    folder,
    image_size=image_size,
    validation_fraction=validation_fraction,
    seed=seed,
  )
  root = pathlib.Path(prepared_dir).absolute() / name
  prepared = root / 'chest_xray14' / _VERSION
  decoded = root / 'decoded'
  if prepared.is_dir():
    # Left by a run that was killed behind its last record.
    shutil.rmtree(decoded, ignore_errors=True)
    return prepared
  catalogue = read(folder, validation_fraction=validation_fraction, seed=seed)
  root.mkdir(parents=True, exist_ok=True)
  with _locked(root / 'lock'):
    if not prepared.is_dir():
      # What a killed run left of tfds's temporary folder.
      shutil.rmtree(prepared.parent, ignore_errors=True)
      _check_space(root, catalogue, image_size)
      _write(catalogue, image_size, root, workers)
    shutil.rmtree(decoded, ignore_errors=True)
  return prepared


def _cores() -> int:
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _write(
  catalogue: Catalogue, image_size: int, root: pathlib.Path, workers: int
) -> None:
  decoded = root / 'decoded'
  decoded.mkdir(exist_ok=True)
  total = sum(map(len, catalogue.films.values()))
  workers = min(workers or _cores(), math.ceil(total / _CHUNK_FILMS))
  # Off a terminal a line a minute, else a log would fill.
  interval = 0.1 if sys.stderr.isatty() else 60
  with (
    tqdm.tqdm(
      total=total, desc='Preparing', unit=' films', mininterval=interval
    ) as bar,
    preprocess.decoders(workers) as submit,
  ):
    lock = threading.Lock()

    def progress(films):
      with lock:
        bar.update(films)

    chunks, done = {}, futures.Future()
    done.set_result(None)
    for split, films in catalogue.films.items():
      chunks[split] = []
      for k in range(0, len(films), _CHUNK_FILMS):
        chunk = films[k : k + _CHUNK_FILMS]
        path = str(decoded / f'{split}-{k // _CHUNK_FILMS:05d}')
        if os.path.exists(f'{path}.json'):
          future = done
          bar.initial += len(chunk)
          progress(len(chunk))
        else:
          paths = [film.paths for film in chunk]
          future = submit(paths, image_size, path, progress)
        chunks[split].append((chunk, future, path))
    builder = ChestXray14(
      catalogue=catalogue,
      image_size=image_size,
      chunks=chunks.__getitem__,
      data_dir=root,
    )
    builder.download_and_prepare(
      download_dir=decoded / 'downloads',
      download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )
