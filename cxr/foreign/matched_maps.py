"""Which film and finding each map from elsewhere is of; the maps, placed.

A map counts where it is of a test film and of a finding that has true regions
in the data set. It is scored where its film has a true region, and where other
films' maps need it beside theirs (scored_maps/map_controls.py). Everything else
is a row of left_out.csv, with its reason.
"""

import collections
import csv
import functools
import hashlib
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tqdm
from absl import logging
from jaxtyping import Bool, Int

from cxr import data, files
from cxr.foreign import map_files, map_places
from cxr.localization import regions
from cxr.scored_maps import map_controls, map_rows
from input_pipeline import findings as findings_lib
from input_pipeline import pipeline, prepared
from input_pipeline.sources import film_names, film_table

MISSING = 'a true box or mask without a map'
NOT_NEEDED = 'a map of a film without a true region'
# What is scored, and told of all the same.
CONSTANT = 'scored: a constant map, which has no box'
NOT_FINITE = 'scored: values that are not finite count as the lowest'
_NAMED = 3  # in a line of the log


class Row(NamedTuple):
  """A row of left_out.csv."""

  image: str
  finding: str
  reason: str  # the same text for all that are counted together
  where: str = ''
  detail: str = ''


class TestFilms:
  """The test films by whatever others call them."""

  def __init__(self, splits: Mapping[str, pipeline.Split], folder: str):
    films = [splits[name] for name in film_table.SPLITS if name in splits]
    everything = [n for split in films for n in split.image_name.tolist()]
    tests = splits['test'].image_name.tolist()
    self._row = {name: i for i, name in enumerate(tests)}
    self._all, self._names = everything, film_names.Names(everything, folder)

  def row_of(self, name: str) -> int | str:
    """The row of the film among the test films, or why it has none."""
    index = self._names.get(name)
    if index is None:
      return 'a film that is unknown'
    return self._row.get(self._all[index], 'a film that is no test film')


class Matched(NamedTuple):
  """The maps of boxed films and of films beside them, placed and stored.

  Films beside them lend their maps alone; their rows follow those of `films`.
  """

  films: data.BoxedFilms
  beside: data.BoxedFilms
  stored: map_rows.Stored
  index: Int[np.ndarray, 'm k']  # of a film's map of a finding; -1: none
  shape: tuple[int, int]  # rows and columns that most maps have
  shapes: int  # how many there are
  digest: str  # of all maps that are stored
  left_out: list[Row]

  @property
  def mapped(self) -> Bool[np.ndarray, 'n k']:
    """Which boxed film has a map of which finding."""
    return self.index[: len(self.films.row)] >= 0

  def maps(self, films: Int[np.ndarray, ' f'], finding: int) -> map_rows.Maps:
    """The finding's maps of these films."""
    index = self.index[films, finding].tolist()
    return map_rows.Maps(self.stored.read, [(i,) for i in index])


def match(
  source: map_files.Source,
  test: pipeline.Split,
  row_of: Callable[[str], int | str],
  synonyms: Mapping[str, str],
  *,
  size: int,
  store: io.BufferedIOBase,
) -> Matched:
  """Reads every map that is needed, once, and stores it placed.

  Args:
    source: of the maps.
    test: the test films.
    row_of: a film's name -> its row among them, or why it has none.
    synonyms: the table of names that mean the same.
    size: of the prepared films, in pixels.
    store: the file that receives the placed maps.

  Raises:
    ValueError: no true region has a map.
  """
  films = data.boxed_films(test)
  rows, place = _resolve(source, test, films, row_of, synonyms)
  entry_of = np.full((len(test.label), len(films.findings)), -1)
  for entry in np.flatnonzero(place[:, 0] >= 0):
    row, column = place[entry]
    if entry_of[row, column] < 0:
      entry_of[row, column] = entry
    else:
      place[entry] = -1
      first = source.entries[entry_of[row, column]].where
      reason = 'a second map of a film and finding: the first is scored'
      rows.append(_row(source, entry, reason, f'the first: {first}'))
  beside = map_controls.unboxed_donors(test, films, entry_of >= 0)
  needed = np.concatenate([films.row, beside.row])
  wanted = np.zeros(len(source.entries), bool)
  of_needed = entry_of[needed]
  wanted[of_needed[of_needed >= 0]] = True
  for entry in np.flatnonzero((place[:, 0] >= 0) & ~wanted):
    rows.append(_row(source, entry, NOT_NEEDED))
  index, shapes, digest = _store(
    source, wanted, place, test, rows, size=size, store=store
  )
  index_of = np.append(index, -1)  # of entry -1, too
  matched = Matched(
    films,
    beside,
    map_rows.Stored(store.name, size),
    index_of[of_needed],
    shapes.most_common(1)[0][0] if shapes else (0, 0),
    len(shapes),
    digest,
    rows,
  )
  rows += [
    Row(str(films.name[i]), films.findings[k], MISSING)
    for i, k in np.argwhere(films.boxed & ~matched.mapped)
  ]
  if not (films.boxed & matched.mapped).any():
    raise ValueError(
      f'No map of {source.path} is of a test film and a finding with a true '
      f'box or mask ({"; ".join(_told(rows))}). Names are those of the data '
      'set; a csv of synonyms (--config.data.synonyms) adds others.'
    )
  return matched


def _row(source, entry, reason, detail='') -> Row:
  return Row(*source.entries[entry][:2], reason, source.entries[entry].where,
             detail)  # fmt: skip


def _resolve(source, test, films, row_of, synonyms):
  """(rows of left_out.csv, (row of the test film, column of `films`) 'e 2')."""
  rows = [
    Row('', '', fault.reason, where, fault.detail)
    for where, fault in source.faults
  ]

  @functools.cache
  def column_of(name):
    try:
      known = findings_lib.index_of(name, test.findings, synonyms)
    except ValueError as error:
      return 'a finding that is unknown', str(error)
    if test.findings[known] not in films.findings:
      return 'a finding without any true region in the data set', ''
    return films.findings.index(test.findings[known])

  place = np.full((len(source.entries), 2), -1)
  for i, entry in enumerate(source.entries):
    row, column = row_of(entry.image), column_of(entry.finding)
    if isinstance(row, str):
      rows.append(_row(source, i, row))
    elif isinstance(column, tuple):
      rows.append(_row(source, i, *column))
    else:
      place[i] = row, column
  return rows, place


def _store(source, wanted, place, test, rows, *, size, store):
  """(index of each entry's map in the store, shapes, hash of the maps)."""
  index, shapes, hashes = np.full(len(wanted), -1), collections.Counter(), []
  frames = test.frame
  if not len(frames):
    frames = np.tile(prepared.NIH_FRAME, (len(test.label), 1))
  interval = 0.1 if sys.stderr.isatty() else 60
  done = 0
  with tqdm.tqdm(
    total=int(wanted.sum()), desc='Reading', unit=' maps', mininterval=interval
  ) as bar:
    for entry, cells in map_files.read(source, wanted):
      bar.update()
      if isinstance(cells, map_files.Fault):
        rows.append(_row(source, entry, *cells))
        continue
      finite = np.isfinite(cells)
      if not finite.all():
        detail = f'{cells.size - finite.sum():,} of {cells.size:,} values'
        rows.append(_row(source, entry, NOT_FINITE, detail))
      if np.ptp(regions.clean(cells.astype(np.float64))) == 0:
        rows.append(_row(source, entry, CONSTANT))
      frame = frames[place[entry, 0]].tolist()
      pixels = map_places.placed(cells, source.place, size, frame).tobytes()
      store.write(pixels)
      index[entry], done = done, done + 1
      shapes[cells.shape] += 1
      name = f'{test.image_name[place[entry, 0]]} {place[entry, 1]} '.encode()
      hashes.append(hashlib.sha256(name + pixels).hexdigest())
  store.flush()
  digest = hashlib.sha256('\n'.join(sorted(hashes)).encode()).hexdigest()
  return index, shapes, digest


# What is told of maps that are not scored.


def counts(rows: Sequence[Row]) -> dict[str, int]:
  """Reason -> how often it is there."""
  return dict(collections.Counter(row.reason for row in rows))


def _told(rows: Sequence[Row]) -> list[str]:
  """A part of a sentence for each reason: how often, and the first names."""
  texts = []
  for reason, count in counts(rows).items():
    names = dict.fromkeys(
      ' '.join(filter(None, (row.image, row.finding))) or row.where
      for row in rows
      if row.reason == reason
    )
    shown = ', '.join(list(names)[:_NAMED])
    more = ', …' if len(names) > _NAMED else ''
    texts.append(f'{count:,} x {reason} ({shown}{more})')
  return texts


def tell(rows: Sequence[Row], path: str) -> None:
  """Says what is not scored in the log, and lists it in left_out.csv."""
  for text in _told(rows):
    logging.warning('%s', text)

  def write(f):
    writer = csv.writer(f, lineterminator='\n')
    writer.writerow(Row._fields)
    writer.writerows([files.escape_cell(text) for text in row] for row in rows)

  files.replace_file(path, write)
  if rows:
    logging.warning('All of these are listed in %s.', path)
