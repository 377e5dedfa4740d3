"""Finding, reading and writing files.

A file is written under another name and then renamed, so that a killed process
leaves the old file or the new one, and never half of it.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
# A spreadsheet runs a cell that starts with one of these as a formula.
_FORMULA = ('=', '+', '-', '@', '\t', '\r')


def find(path: str) -> str:
  """The path of what a user or a stored config names.

  '~' is the home folder, and what is not in the working directory may be in
  the project's.

  >>> find('/etc/hosts')
  '/etc/hosts'
  """
  path = os.path.expanduser(path)
  if path and not os.path.isabs(path) and not os.path.exists(path):
    beside = ROOT / path
    return str(beside) if beside.exists() else path
  return path


@contextlib.contextmanager
def replacing(path: str | os.PathLike, suffix: str = '') -> Iterator[str]:
  """Yields a path to write to; at the end that file is renamed to `path`.

  Args:
    path: of the file to write.
    suffix: for writers that append it where it is missing, as np.save does.
  """
  # Always the same name: what a killed process left is written over.
  temporary = f'{os.fspath(path)}.tmp{suffix}'
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    if os.path.exists(temporary):
      os.remove(temporary)


def replace_file(path: str, write) -> None:
  """Calls write(file) on a new text file, which is then renamed to `path`."""
  with (
    replacing(path) as temporary,
    open(temporary, 'w', newline='', encoding='utf-8') as f,
  ):
    write(f)


def write_json(path: str, value, *, indent: int | None = None) -> None:
  """Writes strict JSON, which every reader takes: no NaN and no Infinity.

  Raises:
    ValueError: a number of the value is not finite; it should be None there,
      with the reason beside it. The old file stays.
  """
  try:
    text = json.dumps(value, indent=indent, allow_nan=False)
  except ValueError as error:
    raise ValueError(f'{path} is not written: {error}.') from error
  replace_file(path, lambda f: f.write(text + '\n'))


def read_json(path: str):
  """The content of a JSON file. Raises ValueError where it is none."""
  # An editor may leave a byte order mark.
  with open(path, encoding='utf-8-sig') as f:
    try:
      return json.load(f)
    except UnicodeDecodeError as error:
      raise ValueError(f'{path} is not a JSON file in UTF-8.') from error
    except ValueError as error:
      raise ValueError(f'{path} is not a JSON file: {error}.') from error


def read_json_lines(path: str) -> list[dict]:
  """Reads a file of JSON lines, up to a line that a killed process cut short.

  An absent file has none.
  """
  records = []
  if os.path.exists(path):
    with open(path, encoding='utf-8', errors='replace') as f:
      for line in f:
        try:
          records.append(json.loads(line))
        except ValueError:
          break
  return records


def write_arrays(path: str, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays by name as a compressed .npz file."""
  with replacing(path, '.npz') as temporary:
    np.savez_compressed(temporary, **arrays)


def read_arrays(path: str) -> dict[str, np.ndarray]:
  """All arrays of an .npz file. Raises ValueError where it is none, or cut."""
  try:
    with open(path, 'rb') as f, np.load(f, allow_pickle=False) as stored:
      return dict(stored)
  except (
    OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error
  ) as error:  # fmt: skip
    raise ValueError(f'{path} is damaged.') from error


def sha256(path: str | os.PathLike) -> str:
  """The hash of a file's bytes, in hexadecimal."""
  with open(path, 'rb') as f:
    return hashlib.file_digest(f, 'sha256').hexdigest()


def escape_cell(text: str) -> str:
  """Makes text safe for a csv cell: no spreadsheet takes it for a formula.

  >>> escape_cell('=SUM(A1)')
  "'=SUM(A1)"
  >>> escape_cell('film.png')
  'film.png'
  """
  if text.startswith(_FORMULA) or (
    text.startswith("'") and text[1:].startswith((*_FORMULA, "'"))
  ):
    return "'" + text
  return text


def unescape_cell(text: str) -> str:
  """The inverse of `escape_cell`."""
  if text.startswith("'") and text[1:].startswith((*_FORMULA, "'")):
    return text[1:]
  return text
