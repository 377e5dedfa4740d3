"""What readers said of the test films: readers.csv of an evaluated run.

Contract. A row is a film and a reader; its cells are 1, 0 or empty, where the
reader does not say. A film that nobody read has no row. The file has the
columns of the readers.csv that a data folder may hold (docs/data.md). It is
absent where there are no readers.
"""

import contextlib
import csv
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cxr import files, stored_rows
from input_pipeline import pipeline

_FIRST = ('image', 'reader')


class Readings(NamedTuple):
  """The votes of r readers on n films and k findings."""

  findings: tuple[str, ...] = ()
  readers: tuple[str, ...] = ()
  image: np.ndarray = np.zeros(0, np.str_)  # 'n' str
  votes: Float[np.ndarray, 'r n k'] = np.zeros((0, 0, 0), np.float32)

  def __bool__(self) -> bool:
    """Whether anybody read a film."""
    return bool(self.readers)

  def of_films(self, image: np.ndarray) -> Float[np.ndarray, 'r n k']:
    """The votes on these films; NaN where a film has none."""
    shape = len(self.readers), len(image), len(self.findings)
    votes = np.full(shape, np.nan, np.float32)
    _, mine, theirs = np.intersect1d(image, self.image, return_indices=True)
    votes[:, mine] = self.votes[:, theirs]
    return votes

  def same_as(self, other: 'Readings') -> bool:
    """Whether the same readers say the same of the same films."""
    if self.findings != other.findings or (
      sorted(self.readers) != sorted(other.readers)
    ):
      return False
    order = [other.readers.index(reader) for reader in self.readers]
    votes = other.of_films(self.image)[order]
    return len(self.image) == len(other.image) and np.array_equal(
      votes, self.votes, equal_nan=True
    )

  def of_findings(
    self, findings: Sequence[str], column: Int[np.ndarray, ' k'] | Sequence[int]
  ) -> 'Readings':
    """The votes on the findings of these columns, under these names."""
    return _without_unread(
      self._replace(
        findings=tuple(findings), votes=self.votes[..., np.asarray(column, int)]
      )
    )


def of_split(split: pipeline.Split) -> Readings:
  """What the readers of a split say of its films."""
  if not split.reader_names:
    return Readings()
  return _without_unread(
    Readings(
      tuple(split.findings),
      tuple(split.reader_names),
      split.image_name.astype(np.str_),
      np.asarray(split.reader, np.float32),
    )
  )


def _without_unread(readings: Readings) -> Readings:
  """Without films that nobody read, and readers who read none."""
  voted = ~np.isnan(readings.votes).all(axis=-1)
  reader, film = voted.any(axis=1), voted.any(axis=0)
  names = np.array(readings.readers, np.str_)[reader].tolist()
  return readings._replace(
    readers=tuple(names),
    image=readings.image[film],
    votes=readings.votes[reader][:, film],
  )


def count_rows(readings: Readings) -> int:
  """The rows of readers.csv."""
  return int((~np.isnan(readings.votes).all(axis=-1)).sum())


def write(path: str, readings: Readings) -> None:
  """Writes readers.csv; where nobody read a film, removes an older one."""
  if not readings:
    with contextlib.suppress(FileNotFoundError):
      os.remove(path)
    return

  def rows(f):
    writer = csv.writer(f, lineterminator='\n')
    escape = files.escape_cell
    writer.writerow([*_FIRST, *map(escape, readings.findings)])
    for i, image in enumerate(readings.image.tolist()):
      for name, votes in zip(
        readings.readers, readings.votes[:, i].tolist(), strict=True
      ):
        cells = ['' if np.isnan(vote) else f'{vote:g}' for vote in votes]
        if any(cells):
          writer.writerow([escape(image), escape(name), *cells])

  files.replace_file(path, rows)


def read(path: str) -> Readings:
  """The readings of `write`; none where there is no such file.

  Raises:
    ValueError: it has other columns, a cell that is not 1, 0 or empty, or a
      reader has two rows of a film.
  """
  if not os.path.exists(path):
    return Readings()
  text = files.unescape_cell
  columns = lambda header: [*_FIRST, *header[len(_FIRST) :]]
  with stored_rows.table_reader(path, columns) as (header, reader):
    rows = list(reader)
    votes = stored_rows.floats([row[len(_FIRST) :] for row in rows])
    if not np.isin(votes[~np.isnan(votes)], (0, 1)).all():
      raise ValueError('a cell is not 1, 0 or empty')
    image, name = (
      np.array([text(row[c]) for row in rows], np.str_) for c in (0, 1)
    )
    stored_rows.check_once([name, image], 'a reading')
    films, film = np.unique(image, return_inverse=True)
    # In the order in which they come, which is that of the data set.
    readers = list(dict.fromkeys(name.tolist()))
    index = {reader: i for i, reader in enumerate(readers)}
    table = np.full(
      (len(readers), len(films), len(header) - len(_FIRST)), np.nan, np.float32
    )
    table[[index[n] for n in name.tolist()], film] = votes
  findings = tuple(map(text, header[len(_FIRST) :]))
  return Readings(findings, tuple(readers), films, table)
