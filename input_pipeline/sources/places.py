"""Where a download's tables and films lie: beside each other, or below."""

import os
import pathlib
import re
from collections.abc import Iterator, Sequence

# What a film may be stored as; the first is taken where there are several.
SUFFIXES = ('.dicom', '.dcm', '.png', '.jpg', '.jpeg')


def below(
  folder: pathlib.Path, depth: int, *, passed_by: str = ''
) -> Iterator[pathlib.Path]:
  """The folder, and the folders at most `depth` below it, in order.

  Hidden ones are passed by; links are followed.

  Args:
    folder: where to begin.
    depth: 0 is the folder itself.
    passed_by: regular expression of names that are not gone into.
  """
  yield folder
  if not depth:
    return
  try:
    with os.scandir(folder) as entries:
      names = sorted(
        entry.name
        for entry in entries
        if not entry.name.startswith('.')
        and not (passed_by and re.fullmatch(passed_by, entry.name))
        and entry.is_dir()
      )
  except OSError:  # somebody else's, or a link that leads nowhere
    return
  for name in names:
    yield from below(folder / name, depth - 1, passed_by=passed_by)


def find(
  folders: Sequence[pathlib.Path], patterns: Sequence[str]
) -> pathlib.Path | None:
  """The first file that one of the patterns names; earlier patterns first.

  Args:
    folders: where to look, the first ones first.
    patterns: as of pathlib.Path.glob, without a folder.
  """
  for pattern in patterns:
    for folder in folders:
      for path in sorted(folder.glob(pattern)):
        if path.is_file():
          return path
  return None


def require(
  folder: pathlib.Path,
  folders: Sequence[pathlib.Path],
  patterns: Sequence[str],
  data_set: str,
) -> pathlib.Path:
  """As `find`, for a file without which there is no data set.

  Raises:
    FileNotFoundError: it, or the folder, is not there.
  """
  if not folder.is_dir():
    raise FileNotFoundError(f'There is no data folder {folder}.')
  path = find(folders, patterns)
  if path is None:
    near = find([folder.absolute().parent, *folders], patterns)
    hint = f'; {near.parent} has {near.name}' if near else ''
    raise FileNotFoundError(
      f'{folder} has no {" or ".join(patterns)}, with which {data_set} comes'
      f'{hint}; give the folder of the download as --config.data.dir.'
    )
  return path


def films(folder: pathlib.Path, *, depth: int) -> dict[str, str]:
  """{a film's name without its ending: its path, relative to `folder`}.

  Of several files of one name the one in the first folder counts, and there
  the one whose ending comes first in SUFFIXES.
  """
  found = {}
  for place in below(folder, depth):
    here = {}
    with os.scandir(place) as entries:
      for entry in entries:
        stem, suffix = os.path.splitext(entry.name)
        if suffix.lower() not in SUFFIXES or stem.startswith('.'):
          continue
        rank = SUFFIXES.index(suffix.lower())
        if stem not in here or rank < here[stem][0]:
          here[stem] = rank, entry.name
    relative = place.relative_to(folder)
    for stem, (_, name) in here.items():
      found.setdefault(stem, (relative / name).as_posix())
  return found
