"""What a folder in NIH ChestX-ray14's layout holds.

The folder holds, as released or as users rearranged it:

* films `PPPPPPPP_FFF.png` (the first 8 digits are the patient) in `images/`,
  in `images_0*/images/`, or beside the tables;
* `Data_Entry_2017_v2020.csv` or `Data_Entry_2017.csv`, `BBox_List_2017.csv`,
  `train_val_list.txt`, `test_list.txt` (see nih_tables);
* for a phantom, `images_without_shortcut/` and `images_without_lesions/`: the
  test films, by the same names, drawn without that part.

A film or a patient in both lists, or a box on a training patient's film, stops
the reading with a ValueError. What merely is not there or cannot be used is
left out and counted by reason.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from absl import logging

from input_pipeline import nih_tables
from input_pipeline.findings import FINDINGS
from input_pipeline.nih_tables import LeftOut, patient_of
from input_pipeline.renditions import FOLDERS

# What somebody may have films in; only .png is read.
_PICTURES = (
  '.png', '.jpg', '.jpeg', '.dcm', '.dicom', '.tif', '.tiff', '.bmp', '.gif',
  '.webp', '.npy', '.zip', '.gz', '.tar',
)  # fmt: skip
_SEARCH_DEPTH = 4
_SEARCH_FOLDERS = 2000


class Film(NamedTuple):
  """A film with its files, one for each rendition."""

  name: str
  paths: tuple[str, ...]
  entry: nih_tables.Entry
  boxes: tuple[nih_tables.Box, ...]

  @property
  def patient(self) -> int:
    return patient_of(self.name)


class Catalogue(NamedTuple):
  """The films of a folder by split, in the order of their names."""

  films: Mapping[str, Sequence[Film]]
  renditions: tuple[str, ...]  # that the test films have beside the film itself
  left_out: Sequence[LeftOut]

  def split_renditions(self) -> dict[str, list[str]]:
    """For each split of films the prepared splits that show it."""
    shown = {split: [split] for split, films in self.films.items() if films}
    if 'test' in shown:
      shown['test'] += [
        f'test_{name.removeprefix("images_")}' for name in self.renditions
      ]
    return shown


def in_validation(patient: int, *, fraction: float, seed: int) -> bool:
  """Whether a training patient is held out.

  A hash of the number alone, so that it depends neither on the order of files
  nor on which films are present.
  """
  digest = hashlib.sha256(f'{seed}:{patient}'.encode()).digest()
  return int.from_bytes(digest[:8], 'big') < fraction * 2**64


def _check_apart(
  train: Sequence[str], test: Sequence[str], boxed: Collection[str]
) -> None:
  """Raises ValueError where the test films leak into training."""
  train_list, test_list = nih_tables.TRAIN_LIST, nih_tables.TEST_LIST
  both = sorted(set(train) & set(test))
  if both:
    raise ValueError(
      f'{len(both)} films are in {train_list} and in {test_list}, {both[0]} '
      f'among them; training would see the test.'
    )
  patients = {patient_of(name) for name in train}
  both = sorted(patients & {patient_of(name) for name in test})
  if both:
    raise ValueError(
      f'{len(both)} patients have films in {train_list} and in {test_list}, '
      f'patient {both[0]} among them; training would see the test.'
    )
  both = sorted(name for name in boxed if patient_of(name) in patients)
  if both:
    raise ValueError(
      f'{len(both)} films of {nih_tables.BOX_FILE} are of patients in '
      f'{train_list}, {both[0]} among them; boxes are for the test only.'
    )


def table_paths(folder: pathlib.Path) -> list[pathlib.Path]:
  """The label file, the box file and both lists.

  Raises:
    FileNotFoundError: one of them, or the folder, is not there.
  """
  if not folder.is_dir():
    raise FileNotFoundError(f'There is no data folder {folder}.')
  labels = [folder / name for name in nih_tables.LABEL_FILES]
  label_file = next((path for path in labels if path.is_file()), None)
  if label_file is None:
    near = [
      place
      for place in (folder.absolute().parent, *sorted(folder.iterdir()))
      if any((place / name).is_file() for name in nih_tables.LABEL_FILES)
    ]
    raise FileNotFoundError(
      f'{folder} has neither {" nor ".join(nih_tables.LABEL_FILES)}; it must '
      'be a folder in the layout of NIH ChestX-ray14'
      + (f', as {near[0]} may be.' if near else '.')
    )
  paths = [label_file]
  for name in (
    nih_tables.BOX_FILE,
    nih_tables.TRAIN_LIST,
    nih_tables.TEST_LIST,
  ):
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


def _places(folder: pathlib.Path) -> list[pathlib.Path]:
  """The folders that films are looked for in, the first ones first."""
  return [
    folder / 'images',
    *sorted(folder.glob('images_0*/images')),
    folder,
  ]


def _warn_of_namesakes(folder: pathlib.Path) -> None:
  """Says which films lie in several places, unless a link makes them one."""
  listings = {os.path.realpath(p): _listing(p) for p in _places(folder)}
  times = Counter(name for files in listings.values() for name in files)
  names = sorted(name for name, count in times.items() if count > 1)
  if names:
    holders = [place for place, files in listings.items() if names[0] in files]
    logging.warning(
      '%d films are there several times, such as %s in %s; the first of these '
      'folders is read.',
      len(names),
      names[0],
      ' and '.join(holders),
    )


def find_films(folder: pathlib.Path) -> dict[str, dict[str, os.DirEntry]]:
  """Files by rendition ('images' is the film itself) and name.

  Of several files of one name the first place's counts.
  """
  found = {}
  for place in _places(folder):
    found = _listing(place) | found
  extra = {name: _listing(folder / name) for name in FOLDERS.values()}
  return {'images': found} | {
    name: files for name, files in extra.items() if files
  }


def _elsewhere(folder: pathlib.Path, found: Mapping[str, os.DirEntry]) -> str:
  """Pictures in and below `folder` that are not among `found`, in words.

  Links to folders are followed, each folder once, wherever links lead.
  """
  real = functools.lru_cache(os.path.realpath)
  known = {
    (real(os.path.dirname(entry.path)), name) for name, entry in found.items()
  }
  counts, examples, seen = Counter(), {}, set()
  for place, folders, files in os.walk(folder, followlinks=True):
    depth = len(pathlib.Path(place).relative_to(folder).parts)
    if real(place) in seen or len(seen) > _SEARCH_FOLDERS:
      folders.clear()
      continue
    seen.add(real(place))
    if depth >= _SEARCH_DEPTH:
      folders.clear()
    folders[:] = sorted(
      name
      for name in folders
      if name not in FOLDERS.values() and not name.startswith('.')
    )
    for name in sorted(files):
      suffix = os.path.splitext(name)[1]
      if suffix.lower() in _PICTURES and (real(place), name) not in known:
        counts[place, suffix] += 1
        examples.setdefault((place, suffix), name)
  parts = [
    f'{str(link)!r} leads to {os.readlink(link)!r}, which is not there'
    for link in _places(folder)
    if link.is_symlink() and not link.exists()
  ]
  parts += [
    f'{count} {suffix} in {place!r} such as {examples[place, suffix]!r}'
    for (place, suffix), count in counts.most_common(3)
  ]
  return '; '.join(parts)


@contextlib.contextmanager
def _phantoms_way_out(folder: pathlib.Path) -> Iterator[None]:
  """Adds to a sentence on a table what helps where the program wrote it."""
  try:
    yield
  except (ValueError, FileNotFoundError) as e:
    if not (folder / 'phantom.json').is_file():
      raise
    raise type(e)(
      f'{e} {folder} is a phantom: remove it and draw it anew.'
    ) from e


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
  with _phantoms_way_out(folder):
    label_file, box_file, *lists = table_paths(folder)
    train, test = map(nih_tables.read_list, lists)
    entries, unread_cells = nih_tables.read_entries(label_file)
    boxes, left_out = nih_tables.read_boxes(box_file)
    _check_apart(train, test, boxes.keys())

  hold = functools.partial(
    in_validation, fraction=validation_fraction, seed=seed
  )
  held_out = {p for p in map(patient_of, train) if hold(p)}
  names = {
    'train': [name for name in train if patient_of(name) not in held_out],
    'validation': [name for name in train if patient_of(name) in held_out],
    'test': test,
  }
  files = find_films(folder)
  _warn_of_namesakes(folder)
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
  left_out.extend(row for row in unread_cells if row.name in kept)
  left_out.extend(
    LeftOut(name, 'box of a film left out', FINDINGS[box.finding])
    for name in sorted(boxes)
    if name not in kept
    for box in boxes[name]
  )
  present = {name: e for name, e in files['images'].items() if name in listed}
  absent = len(listed) - len(present)
  other = _elsewhere(folder, present) if absent else ''
  if not present:
    raise ValueError(
      f'None of the {len(listed)} listed films is there: looked in '
      f'{folder / "images"}, {folder / "images_0*" / "images"} and {folder} '
      f'for files such as {min(listed)}, and found instead: '
      f'{other or "no picture at all"}.'
    )
  if not kept:
    raise ValueError(
      f'None of the {len(listed)} listed films can be used '
      f'({counts(left_out)}).'
    )
  if other:
    logging.warning(
      '%d listed films are not in %s, its images_0*/images or beside the '
      'tables; what lies elsewhere or has another name is not read: %s.',
      absent,
      folder / 'images',
      other,
    )
  return Catalogue(films, tuple(files)[1:], left_out)


def counts(left_out: Sequence[LeftOut]) -> str:
  """How often each reason is there, e.g. '3 absent, 1 undecodable'."""
  reasons = Counter(row.reason for row in left_out)
  return ', '.join(f'{n} {reason}' for reason, n in sorted(reasons.items()))
