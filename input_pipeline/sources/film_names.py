"""What tables call a film: its file, and which film another table means."""

import difflib
import functools
import os
import pathlib
import re
from collections.abc import Callable, Sequence

# What tables call the column of films.
COLUMN = (
  *('image', 'Image ID', 'Image Index', 'image path', 'image file'),
  *('path', 'file', 'file name', 'film'),
)
_NEAREST_OF = 5000  # films among which the nearest name is looked for


def clean(text: str, folder: pathlib.Path) -> str:
  """A path as a table has it, as one below the folder with '/' between parts.

  Examples:
    >>> clean('.\\\\Images\\\\a.PNG', pathlib.Path('/data'))
    'Images/a.PNG'

  Raises:
    ValueError: it leads out of the folder, or is empty.
  """
  name = text.strip().replace('\\', '/')
  if '//' in name:
    name = re.sub('/+', '/', name)
  if name[:1] == '/':
    name = name.removeprefix(f'{folder.absolute().as_posix()}/')
  while name.startswith('./'):
    name = name[2:]
  if not name:
    raise ValueError('there is no image; give its path in the folder.')
  on_a_disk = name[0] == '/' or name[1:2] == ':'
  if on_a_disk or ('..' in name and '..' in name.split('/')):
    raise ValueError(
      f'the path {text[:120]!r} leads out of {folder}; write it relative to '
      'that folder (which may hold links).'
    )
  if '\0' in name:
    raise ValueError(f'the path {text[:120]!r} is no path.')
  return name


class Files:
  """The files of a folder, found however a table writes their names."""

  def __init__(self, folder: pathlib.Path, endings: Sequence[str]):
    """Args: endings, which a table may leave off, such as '.png'."""
    self._roots = [os.path.abspath(folder), os.path.abspath(folder / 'images')]
    self._endings = endings

  def find(self, name: str) -> str:
    """The file's path; '' where there is none.

    It is looked for in the folder and in its `images`; if need be with other
    case, as Windows does not tell cases apart, and with an ending.
    """
    for root in self._roots:
      place, _, last = f'{root}/{name}'.rpartition('/')
      if last in _files(place):
        return f'{place}/{last}'
    return next(filter(None, (self._search(r, name) for r in self._roots)), '')

  def _search(self, root: str, name: str) -> str:
    place = root
    *folders, last = name.split('/')
    for part in folders:
      part = _folders(place).get(part.casefold())
      if part is None:
        return ''
      place = f'{place}/{part}'
    known = _by_case(place)
    for ending in ('', *self._endings):
      if found := known.get(f'{last}{ending}'.casefold()):
        return f'{place}/{found}'
    return ''


@functools.lru_cache(maxsize=4096)
def _files(place: str) -> frozenset[str]:
  """A pipe, which would block its reader for ever, is none."""
  try:
    with os.scandir(place) as entries:
      return frozenset(entry.name for entry in entries if _is(entry.is_file))
  except OSError:
    return frozenset()


def _is(kind: Callable[[], bool]) -> bool:
  try:
    return kind()
  except OSError:
    return False  # links that lead to each other


@functools.lru_cache(maxsize=4096)
def _by_case(place: str) -> dict[str, str]:
  return {name.casefold(): name for name in sorted(_files(place))}


@functools.lru_cache(maxsize=4096)
def _folders(place: str) -> dict[str, str]:
  try:
    with os.scandir(place) as entries:
      names = sorted(entry.name for entry in entries if _is(entry.is_dir))
  except OSError:
    return {}
  return {name.casefold(): name for name in names}


def forget() -> None:
  """Folders are listed anew: their files may have changed."""
  for listing in (_files, _by_case, _folders):
    listing.cache_clear()


class Names:
  """The films of a table by what other tables call them."""

  def __init__(self, names: Sequence[str], table: str):
    """Args: the films' names in order, and the table's for sentences."""
    self._names = names
    self._table = table
    self._index = {name: i for i, name in enumerate(names)}

  @functools.cached_property
  def _loose(self) -> dict[str, int]:
    """Also by what is left where a part is dropped; -1: by several films."""
    loose = {}
    for i, name in enumerate(self._names):
      stem = os.path.splitext(name)[0]
      keys = {
        name, stem, name.rpartition('/')[2], stem.rpartition('/')[2],
        # As CheXlocalize names films of CheXpert.
        stem.replace('/', '_'),
      }  # fmt: skip
      for key in {key.casefold() for key in keys}:
        loose[key] = i if loose.setdefault(key, i) == i else -1
    return loose

  def get(self, name: str) -> int | None:
    """The index of the film; None where none, or more than one, is meant."""
    index = self._index.get(name)
    if index is not None:
      return index
    index = self._loose.get(name.casefold(), -1)
    return None if index < 0 else index

  def find(self, name: str, where: str) -> int:
    """The index of the film.

    Raises:
      ValueError: there is none, or the name could mean several.
    """
    index = self.get(name)
    if index is not None:
      return index
    if name.casefold() in self._loose:
      raise ValueError(
        f'{where}: the image {name[:120]!r} could be several films of '
        f'{self._table}; write it as there.'
      )
    near = (
      difflib.get_close_matches(name, self._names, n=1, cutoff=0)
      if len(self._names) <= _NEAREST_OF
      else ()
    )
    raise ValueError(
      f'{where}: {self._table} has no image {name[:120]!r}'
      + (f'; the nearest is {near[0]!r}.' if near else '.')
      + f' Correct the name, or add the film to {self._table}.'
    )
