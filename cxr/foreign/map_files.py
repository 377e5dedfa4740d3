"""Maps of any origin: the files that hold them, read one map at a time.

Contract. Maps stand in

* an .npz file with the arrays `image` and `finding` (text, 'n') and `map`
  ('n h w'), which may say where its cells look (`Place`);
* or a folder with IMAGE/FINDING.npy (an array 'h w'), IMAGE/FINDING.png (whose
  gray levels are the map) and such .npz files.

IMAGE is a film's name, with its folders and with or without its ending. Nothing
that is read can run code: arrays of Python objects, which are pickles, are
refused. A file is never held whole, and what cannot be used is a `Fault`, which
says why; whoever reads counts and names it.
"""

import contextlib
import io
import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from PIL import Image

from cxr.foreign import map_places

ENDINGS = ('.npz', '.npy', '.png')
# Pixels of a map, and bytes of an array of names, that are read at all.
_MOST_PIXELS = 2**26
_MOST_NAME_BYTES = 2**29
_NPZ_WAY = 'np.savez(PATH, image=names, finding=findings, map=maps) writes one.'
_UNREADABLE = (
  OSError, EOFError, ValueError, TypeError, SyntaxError, KeyError,
  RuntimeError, zipfile.BadZipFile, zlib.error,
  Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


class Entry(NamedTuple):
  """A map that a file holds."""

  image: str
  finding: str
  where: str  # 'maps.npz, row 7': where a sentence sends its reader


class Fault(NamedTuple):
  """What cannot be used, and why."""

  reason: str  # the same text for all that are counted together
  detail: str = ''


class Source(NamedTuple):
  """Every map of a file or folder, in the order in which they are read."""

  path: str
  files: tuple[str, ...]  # that hold maps
  counts: tuple[int, ...]  # the entries of each file
  entries: tuple[Entry, ...]
  place: map_places.Place
  faults: tuple[tuple[str, Fault], ...]  # (where, why) of whole files


def open_source(
  path: str, place: map_places.Place = map_places.Place()
) -> Source:
  """Lists the maps of an .npz file or a folder, without reading them.

  Args:
    path: of it.
    place: what the user says; it goes before what a file says.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no such file, or files say different things of their
      cells.
  """
  if not os.path.exists(path):
    raise FileNotFoundError(
      f'--maps ({path}) is not there; give an .npz file, or a folder with '
      'IMAGE/FINDING.npy or IMAGE/FINDING.png.'
    )
  if os.path.isfile(path):
    if not path.lower().endswith('.npz'):
      raise ValueError(
        f'--maps ({path}) is neither a folder nor an .npz file; {_NPZ_WAY}'
      )
    names, told = _npz_names(path)
    files, faults = [path], []
    by_file, places = [names], [told]
  else:
    files, by_file, places, faults = _list_folder(path)
  for told in places:
    if told != places[0]:
      raise ValueError(
        f'The .npz files of {path} say different things of their cells '
        f'({_told(places[0])}; {_told(told)}); score them one by one.'
      )
  merged = [
    mine if mine is not None else theirs
    for mine, theirs in zip(
      place, (places or [map_places.Place()])[0], strict=True
    )
  ]
  return Source(
    path,
    tuple(files),
    tuple(map(len, by_file)),
    tuple(entry for entries in by_file for entry in entries),
    map_places.check_place(map_places.Place(*merged)),
    tuple(faults),
  )


def _told(place: map_places.Place) -> str:
  said = {k: v for k, v in place._asdict().items() if v is not None}
  return ', '.join(f'{k} {v}' for k, v in said.items()) or 'nothing'


def _list_folder(path: str):
  """(files, the entries of each, what they say of cells, faults)."""
  files, by_file, places, faults = [], [], [], []
  root = pathlib.Path(path)

  def cannot_list(error):
    faults.append(
      (str(error.filename), Fault('a folder that cannot be read', str(error)))
    )

  for folder, subfolders, names in os.walk(
    root, onerror=cannot_list, followlinks=True
  ):
    if _leads_back(folder):
      subfolders.clear()
      faults.append((folder, Fault('a link to a folder that holds it')))
      continue
    subfolders.sort()
    for name in sorted(names):
      file = os.path.join(folder, name)
      inside = pathlib.Path(file).relative_to(root)
      where = inside.as_posix()
      if where == 'predictions.csv' or name.startswith('.'):
        continue
      ending = inside.suffix.lower()
      if not os.path.isfile(file):  # a pipe would block its reader
        faults.append((where, Fault('not a file')))
      elif ending not in ENDINGS:
        reason = 'not a map (.npy, .png or .npz)'
        if ending in ('.pkl', '.pickle', '.pt', '.pth'):
          reason = 'a pickle, which could run code: it is not opened'
        faults.append((where, Fault(reason)))
      elif ending == '.npz':
        try:
          entries, told = _npz_names(file, where)
        except ValueError as error:
          faults.append(
            (where, Fault('a file that cannot be read', str(error)))
          )
          continue
        files.append(file)
        by_file.append(entries)
        places.append(told)
      elif len(inside.parts) < 2:
        faults.append((where, Fault('not IMAGE/FINDING.npy or .png')))
      else:
        image = inside.parent.as_posix()
        files.append(file)
        by_file.append([Entry(image, inside.stem, where)])
  return files, by_file, places, faults


def _leads_back(folder: str) -> bool:
  """Whether it is a link that would be followed without end."""
  if not os.path.islink(folder):
    return False
  holder = os.path.realpath(os.path.dirname(folder))
  real = os.path.realpath(folder)
  return os.path.commonpath([holder, real]) == real


# An .npz file.


def _npz_names(
  path: str, where: str = ''
) -> tuple[list[Entry], map_places.Place]:
  """The entries of an .npz file, and what it says of their cells.

  Raises:
    ValueError: it is no such file.
  """
  where = where or os.path.basename(path)
  try:
    with zipfile.ZipFile(path) as archive:
      members = {os.path.splitext(n)[0] for n in archive.namelist()}
      missing = {'image', 'finding', 'map'} - members
      if missing:
        raise _Refused(
          f'{path} has no array {", ".join(sorted(missing))}; {_NPZ_WAY}'
        )
      image, finding = (
        _names(archive, path, name) for name in ('image', 'finding')
      )
      with archive.open('map.npy') as f:
        shape, _ = _header(f, f'{path}: map')
      place = _place(archive, path, members)
  except _Refused:
    raise
  except _UNREADABLE as error:
    raise ValueError(f'{path} is damaged, or no .npz file: {error}.') from error
  if len(shape) != 3 or not (shape[0] == len(image) == len(finding)):
    raise ValueError(
      f'{path}: map has shape {shape}, image {len(image)} names and finding '
      f'{len(finding)}; they must be (n, h, w), n and n, a row for each map.'
    )
  if shape[1] * shape[2] > _MOST_PIXELS:
    raise ValueError(
      f'{path}: maps of {shape[1]} x {shape[2]} pixels are too large.'
    )
  rows = zip(image, finding, strict=True)
  return [
    Entry(*names, f'{where}, row {i}') for i, names in enumerate(rows)
  ], place


class _Refused(ValueError):
  """A sentence of ours on a file's content."""


def _header(
  f: io.BufferedIOBase, what: str
) -> tuple[tuple[int, ...], np.dtype]:
  """Shape and type of the array in C's order that follows in the file.

  Raises:
    _Refused: it holds Python objects, no numbers, or Fortran's order.
  """
  version = np.lib.format.read_magic(f)
  read = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }.get(version)
  if read is None:
    raise _Refused(f'{what} is an array of an unknown version {version}.')
  shape, fortran, dtype = read(f)
  if dtype.hasobject:
    raise _Refused(
      f'{what} holds Python objects, that is a pickle, which could run code: '
      'it is not opened. Save names as text, np.array(names, str), and maps as '
      'numbers.'
    )
  if fortran and len(shape) > 1:
    raise _Refused(
      f"{what} is in Fortran's order; save np.ascontiguousarray of it."
    )
  return shape, dtype


def _small_array(archive: zipfile.ZipFile, path: str, name: str) -> np.ndarray:
  with archive.open(f'{name}.npy') as f:
    shape, dtype = _header(f, f'{path}: {name}')
    size = math.prod(shape) * dtype.itemsize
    if size > _MOST_NAME_BYTES:
      raise _Refused(f'{path}: {name} has {size:,} bytes, which is too many.')
    return np.frombuffer(_exactly(f, size), dtype).reshape(shape)


def _names(archive: zipfile.ZipFile, path: str, name: str) -> list[str]:
  array = _small_array(archive, path, name)
  if array.ndim != 1 or array.dtype.kind not in 'US':
    raise _Refused(
      f'{path}: {name} must be text, a name for each map (it is '
      f'{array.dtype}, shape {array.shape}).'
    )
  if array.dtype.kind == 'S':
    array = np.char.decode(array, 'utf-8')
  return array.tolist()


def _place(archive: zipfile.ZipFile, path: str, members) -> map_places.Place:
  """What the file says of its cells."""
  told = {}
  for name in map_places.Place._fields:
    if name not in members:
      continue
    array = _small_array(archive, path, name)
    kinds, size = ('US', 1) if name in ('covers', 'method') else ('biuf', 1)
    size = 4 if name == 'cells' else size
    if array.dtype.kind not in kinds or array.size != size:
      what = 'a text' if kinds == 'US' else 'a number'
      raise _Refused(
        f'{path}: {name} must be {what if size == 1 else "four numbers"} (it '
        f'is {array.dtype}, shape {array.shape}).'
      )
    values = array.ravel().tolist()
    told[name] = tuple(map(float, values)) if size > 1 else values[0]
    if size == 1 and kinds == 'biuf':
      told[name] = float(values[0])
  return map_places.Place(**told)


def _exactly(f: io.BufferedIOBase, size: int) -> bytes:
  content = f.read(size)
  if len(content) != size:
    raise ValueError('the file is cut short')
  return content


# Reading.


def read(
  source: Source, wanted: Bool[np.ndarray, ' n']
) -> Iterator[tuple[int, np.ndarray | Fault]]:
  """The wanted maps, one at a time: (index of the entry, its map or a fault).

  A map is 'h w', of any type of real numbers, and as the file has it.

  Args:
    source: that lists them.
    wanted: which of its entries are read at all.
  """
  first = 0
  for path, count in zip(source.files, source.counts, strict=True):
    mine = range(first, first + count)
    first += count
    if path.lower().endswith('.npz'):
      yield from _read_npz(path, mine, wanted)
    elif wanted[mine[0]]:
      yield mine[0], _read_file(path)


def _read_npz(path, mine, wanted):
  done = -1
  try:
    with zipfile.ZipFile(path) as archive, archive.open('map.npy') as f:
      shape, dtype = _header(f, f'{path}: map')
      size = dtype.itemsize * math.prod(shape[1:])
      for row in range(shape[0]):
        content = _exactly(f, size)
        if wanted[mine[row]]:
          array = np.frombuffer(content, dtype).reshape(shape[1:])
          yield mine[row], _checked(array)
        done = row
  except _UNREADABLE as error:
    for row in range(done + 1, len(mine)):
      if wanted[mine[row]]:
        yield mine[row], Fault('a file that cannot be read', str(error))


def _read_file(path: str) -> np.ndarray | Fault:
  try:
    if path.lower().endswith('.png'):
      return _read_png(path)
    with open(path, 'rb') as f:
      version = np.lib.format.read_magic(f)
      head = np.lib.format.read_array_header_1_0
      if version != (1, 0):
        head = np.lib.format.read_array_header_2_0
      shape, _, dtype = head(f)
      fault = _fault(shape, dtype)
      if fault:
        return fault
      f.seek(0)
      return np.lib.format.read_array(f, allow_pickle=False)
  except _UNREADABLE as error:
    return Fault('a file that cannot be read', str(error))


def _checked(array: np.ndarray) -> np.ndarray | Fault:
  return _fault(array.shape, array.dtype) or array


def _fault(shape: Sequence[int], dtype: np.dtype) -> Fault | None:
  """Why an array is no map; None where it is one."""
  if dtype.hasobject:
    return Fault('a pickle, which could run code: it is not opened')
  if dtype.kind not in 'biuf':
    return Fault('values that are no real numbers', str(dtype))
  if len(shape) != 2:
    return Fault('not of two axes, height and width', f'shape {tuple(shape)}')
  if not math.prod(shape):
    return Fault('without a pixel', f'shape {tuple(shape)}')
  if math.prod(shape) > _MOST_PIXELS:
    return Fault('too large', f'shape {tuple(shape)}')
  return None


def _read_png(path: str) -> np.ndarray | Fault:
  with Image.open(path, formats=('PNG',)) as picture:
    if picture.width * picture.height > _MOST_PIXELS:
      return Fault('too large', f'{picture.height} x {picture.width} pixels')
    if getattr(picture, 'n_frames', 1) > 1:
      return Fault('a PNG of several frames')
    if (
      picture.mode != '1'
      and not picture.mode.startswith(('L', 'I'))
      or (picture.mode == 'LA')
    ):
      return Fault('a PNG of several channels', f'mode {picture.mode}')
    return np.asarray(picture)


# Maps that wait on disk.


@contextlib.contextmanager
def storing(path: str) -> Iterator[io.BufferedIOBase]:
  """A file for placed maps, which is removed at the end."""
  try:
    with open(path, 'wb') as f:
      yield f
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.remove(path)
