"""A folder in NIH ChestX-ray14's layout; a phantom is one.

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
import os
import pathlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from absl import logging

from input_pipeline.findings import BOXED, FINDINGS
from input_pipeline.renditions import FOLDERS
from input_pipeline.sources import film_table, nih_tables, search
from input_pipeline.sources.film_table import FilmRow, FilmTable, LeftOut
from input_pipeline.sources.nih_tables import patient_of

_FRAME = (nih_tables.BOX_UNITS, nih_tables.BOX_UNITS)


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


def tables(folder: pathlib.Path) -> list[pathlib.Path]:
  """The label file, the box file, the lists; that of training may be absent.

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
    if (folder / name).is_file():
      paths.append(folder / name)
    elif name != nih_tables.TRAIN_LIST:
      raise _lacks(folder, name)
  return paths


def _lacks(folder: pathlib.Path, name: str) -> FileNotFoundError:
  return FileNotFoundError(
    f'{folder} has no {name}; it is in the download beside the films.'
  )


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
      '%s there several times, such as %s in %s; the first of these '
      'folders is read.',
      '1 film is' if len(names) == 1 else f'{len(names):,} films are',
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


def stamps(folder: pathlib.Path) -> Iterator[str]:
  """A line for each film: its name, its size and when it changed."""
  for rendition, files in find_films(folder).items():
    yield f'{rendition} {len(files)}\n'
    for name in sorted(files):
      stat = files[name].stat()
      yield f'{name} {stat.st_size} {stat.st_mtime_ns}\n'


def read(
  folder: pathlib.Path, options: film_table.Options = film_table.Options()
) -> FilmTable:
  """Reads the tables of `folder` and joins them to the films that are there.

  Raises:
    FileNotFoundError: the folder or one of its tables is absent.
    ValueError: a table is malformed or contradicts itself, or none of the
      listed films is there.
  """
  with _phantoms_way_out(folder):
    label_file, box_file, *train_list, test_list = tables(folder)
    if not train_list and options.test_fraction < 1:
      raise _lacks(folder, nih_tables.TRAIN_LIST)
    test = nih_tables.read_list(test_list)
    train = nih_tables.read_list(*train_list) if train_list else []
    entries, unread_cells = nih_tables.read_entries(label_file)
    boxes, left_out = nih_tables.read_boxes(box_file)
    _check_apart(train, test, boxes.keys())
  files = find_films(folder)
  _warn_of_namesakes(folder)
  films = []
  for split, names in {'train': train, 'test': test}.items():
    renditions = files if split == 'test' else ('images',)
    for name in sorted(names):
      absent = [r for r in renditions if name not in files[r]]
      if name not in files['images']:
        left_out.append(LeftOut(name, 'absent'))
      elif absent:
        left_out.append(LeftOut(name, f'absent from {absent[0]}'))
      elif name not in entries:
        left_out.append(LeftOut(name, f'no row in {label_file.name}'))
      else:
        entry = entries[name]
        films.append(
          FilmRow(
            image=name,
            patient=str(patient_of(name)),
            label=_label(entry.findings),
            split=split,
            view=entry.view,
            age=entry.age,
            sex=entry.sex,
            boxes=tuple(boxes.get(name, ())),
            frame=_FRAME,
            paths=tuple(
              os.path.abspath(files[r][name].path) for r in renditions
            ),
            where=label_file.name,
          )
        )
  listed = {*train, *test}
  left_out.extend(
    LeftOut(name, 'in neither list')
    for name in sorted(files['images'])
    if name not in listed
  )
  kept = {film.image for film in films}
  left_out.extend(row for row in unread_cells if row.name in kept)
  left_out.extend(
    LeftOut(name, film_table.LOST_BOX, FINDINGS[box.finding])
    for name in sorted(boxes)
    if name not in kept
    for box in boxes[name]
  )
  _check_some(folder, listed, files['images'], kept, left_out)
  return FilmTable(
    findings=FINDINGS,
    films=films,
    boxed=BOXED,
    left_out=left_out,
    renditions=tuple(files)[1:],
  )


@functools.lru_cache(maxsize=4096)
def _label(findings: tuple[int, ...]) -> tuple[float, ...]:
  """1 for each finding that the film has, 0 for the others."""
  return tuple(float(k in findings) for k in range(len(FINDINGS)))


def _check_some(
  folder: pathlib.Path,
  listed: Collection[str],
  files: Mapping[str, os.DirEntry],
  kept: Collection[str],
  left_out: Sequence[LeftOut],
) -> None:
  """Raises ValueError where there is no film; tells of films elsewhere."""
  present = [entry.path for name, entry in files.items() if name in listed]
  absent = len(listed) - len(present)
  other = (
    search.elsewhere(
      folder,
      present,
      places=_places(folder),
      passed_by=FOLDERS.values(),
    )
    if absent
    else ''
  )
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
      f'({film_table.counts(left_out)}).'
    )
  if other:
    logging.warning(
      '%s not in %s, its images_0*/images or beside the '
      'tables; what lies elsewhere or has another name is not read: %s.',
      '1 listed film is' if absent == 1 else f'{absent:,} listed films are',
      folder / 'images',
      other,
    )
