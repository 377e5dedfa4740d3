"""A folder of films, in a layout of sources, -> a prepared set on disk.

Films are decoded by worker processes, chunk by chunk, into `decoded/`, and
written as tfds records (see records) as they come. An interrupted preparation
goes on where it was and ends with the same bytes.
"""

import collections
import contextlib
import fcntl
import functools
import hashlib
import math
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np
import tqdm
from absl import logging

from input_pipeline import (
  catalogue,
  prepared,
  preprocess,
  records,
  synonyms,
  workers,
)
from input_pipeline.catalogue import Catalogue
from input_pipeline.findings import FINDINGS
from input_pipeline.preprocess import Decoded
from input_pipeline.sources import by_name, film_table
from input_pipeline.sources.film_table import FilmRow, LeftOut, Options

_CHUNK_FILMS = 128
_SHARD_BYTES = 512 * 2**20


def fingerprint(
  folder: str | os.PathLike,
  options: Options,
  *,
  image_size: int,
  listings: str | os.PathLike = '',
) -> str:
  """A hash of all that the prepared set depends on.

  That is the films' names, sizes and times of change, the tables' bytes and
  the options.

  Args:
    folder: of the films.
    options: how it is read and divided.
    image_size: pixels.
    listings: a folder that keeps the paths of a table's films; '': none.
  """
  folder = pathlib.Path(os.path.abspath(folder))
  source = by_name.find(options.source)
  fraction = float(options.validation_fraction)
  parts = records.VERSION, image_size, fraction, options.seed
  # What NIH's layout does not depend on is not in its hash.
  if not hasattr(source, 'stamps'):
    parts += options.source, options.test_fraction, options.uncertain
  if options.findings:
    parts += (options.findings,)
  if options.unmentioned != 'unknown':
    parts += (options.unmentioned,)
  if options.synonyms:
    parts += (sorted(synonyms.read(options.synonyms).items()),)
  digest = hashlib.sha256(repr(parts).encode())
  for path in source.tables(folder):
    if path.is_dir():
      files = sorted(str(p.relative_to(path)) for p in path.rglob('*'))
      content = '\n'.join(files).encode(errors='surrogateescape')
    else:
      content = path.read_bytes()
    digest.update(f'{path.name} {len(content)}\n'.encode())
    digest.update(content)
  if hasattr(source, 'stamps'):
    lines = source.stamps(folder)
  else:
    name = f'{digest.hexdigest()[:16]}.files'
    listing = pathlib.Path(listings) / name if listings else None
    lines = _stamps(folder, lambda: source.read(folder, options), listing)
  for line in lines:
    digest.update(line.encode(errors='surrogateescape'))
  return digest.hexdigest()[:16]


def _stamps(
  folder: pathlib.Path,
  read: Callable[[], film_table.FilmTable],
  listing: pathlib.Path | None,
) -> list[str]:
  """A line for each film and mask: its name, its size and when it changed.

  To read a table of 112,120 films takes four seconds. So their paths are kept
  in the file `listing`, and the table is read only where that is not there or
  leads to a file that is not there: the table may say now where it is.
  """
  if listing:
    with contextlib.suppress(OSError):
      kept = listing.read_bytes().decode(errors='surrogateescape').split('\0')
      lines = [_stamp(folder, path) for path in kept]
      if None not in lines:
        return lines
  paths = [
    path
    for film in read().films
    for path in (
      *(film.paths or (os.path.join(folder, film.image),)),
      *(mask.path for mask in film.masks if mask.path),
    )
  ]
  if listing:
    listing.parent.mkdir(parents=True, exist_ok=True)
    temporary = listing.with_suffix(f'.{os.getpid()}.tmp')
    temporary.write_bytes('\0'.join(paths).encode(errors='surrogateescape'))
    os.replace(temporary, listing)
  return [_stamp(folder, path) or f'{path} absent\n' for path in paths]


def _stamp(folder: pathlib.Path, path: str) -> str | None:
  try:
    stat = os.stat(path)
  except OSError:
    return None
  # The folder may be moved.
  name = path.removeprefix(f'{folder}{os.sep}')
  return f'{name} {stat.st_size} {stat.st_mtime_ns}\n'


def prepare(
  folder: str | os.PathLike,
  options: Options,
  *,
  image_size: int,
  prepared_dir: str | os.PathLike,
  num_workers: int = 0,
) -> pathlib.Path:
  """Prepares `folder`, or finds it prepared.

  Args:
    folder: in the layout that `options` names.
    options: how it is read and divided.
    image_size: pixels; films are resized to its square.
    prepared_dir: receives `<fingerprint>/chest_xray14/<version>/`.
    num_workers: processes; 0 is all cores.

  Returns:
    The folder with the records, `films.npz`, and `left_out.csv`.

  Raises:
    FileNotFoundError, ValueError: as `catalogue.read`; and if no film can be
      decoded, a mask contradicts its film, or the disk has not the space.
  """
  if image_size < 1:
    raise ValueError(f'image_size ({image_size}) must be at least 1.')
  if num_workers < 0:
    raise ValueError(f'workers ({num_workers}) must be at least 0, all cores.')
  catalogue.check(options)
  name = fingerprint(
    folder, options, image_size=image_size, listings=prepared_dir
  )
  root = pathlib.Path(prepared_dir).absolute() / name
  out = root / 'chest_xray14' / records.VERSION
  scratch = root / 'decoded'
  read = functools.partial(catalogue.read, folder, options)
  if _is_complete(out, options, read):
    # Left by a run that was killed behind its last record.
    shutil.rmtree(scratch, ignore_errors=True)
    return out
  films = read()
  root.mkdir(parents=True, exist_ok=True)
  with _locked(root / 'lock'):
    if not _is_complete(out, options, read):
      # What a killed run left of it and of tfds's temporary folder.
      shutil.rmtree(out.parent, ignore_errors=True)
      _check_space(root, films, image_size)
      _write(films, image_size, root, out, num_workers)
    shutil.rmtree(scratch, ignore_errors=True)
  return out


def discard(out: pathlib.Path) -> None:
  """Removes a prepared set, so that the next `prepare` makes it anew."""
  root = out.parent.parent
  with _locked(root / 'lock'):
    shutil.rmtree(out.parent, ignore_errors=True)


def _is_complete(
  out: pathlib.Path, options: Options, read: Callable[[], Catalogue]
) -> bool:
  """Whether the set stands, and holds what the tables say as read today.

  Earlier versions read no '45.0', 'Female' or '12,5' in NIH's tables: where a
  set lacks an age, a sex, a view or a box, they are read again.
  """
  if not (out / prepared.FILMS_FILE).is_file():
    return False
  if not hasattr(by_name.find(options.source), 'stamps'):
    return True
  try:
    splits = prepared.read_films(out)
    left_out = prepared.count_left_out(out)
  except records.Damaged:
    return True  # for whoever opens it to say
  lacks = 'box without four numbers' in left_out or any(
    np.isnan(columns['age']).any()
    or (columns['sex'] == '').any()
    or (columns['view'] == '').any()
    for columns in splits.values()
  )
  if not lacks:
    return True
  films = {row.image: row for split in read().films.values() for row in split}
  for columns in splits.values():
    boxes = np.bincount(columns['box_image'], minlength=len(columns['age']))
    for i, name in enumerate(columns['image_name'].tolist()):
      if name not in films:
        return False
      row = films[name]
      stored = (columns[field][i] for field in ('view', 'age', 'sex'))
      today = row.view, np.float32(row.age), row.sex
      if len(row.boxes) != boxes[i] or any(
        a != b and not (a != a and b != b)
        for a, b in zip(stored, today, strict=True)
      ):
        logging.info(
          'An earlier version did not understand all of the tables: %s is '
          'prepared anew.',
          out,
        )
        return False
  return True


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


def _check_space(folder: pathlib.Path, films: Catalogue, size: int) -> None:
  count = sum(
    len(films.films[split]) * len(shown)
    for split, shown in films.split_renditions().items()
  )
  # Twice: the decoded chunks, from which an interrupted preparation goes on,
  # stay until the records are whole.
  needed = 2 * count * (size**2 + 1000)
  free = shutil.disk_usage(folder).free
  if free < needed:
    raise ValueError(
      f'Preparing {count} films of {size} pixels needs {needed / 1e6:,.0f} MB '
      f'in {folder}, where {free / 1e6:,.0f} MB are free; choose another '
      f'prepared_dir or a smaller image_size.'
    )


class _Chunk(NamedTuple):
  """Some films, and the two files that they are decoded into."""

  films: Sequence[FilmRow]
  path: str  # without an ending
  decoded: futures.Future  # of what `decode_chunk` returns


def _write(
  films: Catalogue,
  image_size: int,
  root: pathlib.Path,
  out: pathlib.Path,
  num_workers: int,
) -> None:
  scratch = root / 'decoded'
  scratch.mkdir(exist_ok=True)
  total = sum(map(len, films.films.values()))
  count = min(num_workers or workers.cores(), math.ceil(total / _CHUNK_FILMS))
  # Off a terminal a line a minute, else a log would fill.
  interval = 0.1 if sys.stderr.isatty() else 60
  made = _Made(films, image_size)
  with (
    tqdm.tqdm(
      total=total, desc='Preparing', unit=' films', mininterval=interval
    ) as bar,
    workers.pool(count) as executor,
  ):
    chunks = {
      split: _decode(part, image_size, str(scratch / split), executor, bar)
      for split, part in films.films.items()
    }
    shards = {
      name: made.shards(name, rendition, len(names), chunks[split])
      for split, names in films.split_renditions().items()
      for rendition, name in enumerate(names)
    }
    try:
      records.write(
        root,
        scratch / 'downloads',
        image_size=image_size,
        findings=films.findings,
        shards=shards,
      )
    except Exception:
      if made.stopped_by:
        # tfds adds lines of its own to a sentence.
        raise made.stopped_by from None
      raise
    left_out = [*films.left_out]
    for chunk in sum(chunks.values(), []):
      left_out += _undecoded(chunk, films.findings)
    _warn_of_doubts(sum(chunks.values(), []))
  if not any(made.films.values()):
    shutil.rmtree(out.parent)
    first = left_out[len(films.left_out)]
    raise ValueError(
      f'None of the {total} films can be used ({film_table.counts(left_out)}), '
      f'such as {first.name} ({first.detail}); give other films, or a smaller '
      'config.data.image_size where they are small.'
    )
  prepared.write_left_out(out, left_out)
  content = {name: hashed.hexdigest() for name, hashed in made.content.items()}
  prepared.write_films(out, films, made.films, content)


def _decode(
  films: Sequence[FilmRow],
  image_size: int,
  path: str,
  executor: futures.Executor,
  bar: tqdm.tqdm,
) -> list[_Chunk]:
  """A split's chunks; what an earlier run has not decoded is submitted."""
  chunks = []
  for k in range(0, len(films), _CHUNK_FILMS):
    chunk = films[k : k + _CHUNK_FILMS]
    out = f'{path}-{k // _CHUNK_FILMS:05d}'
    decoded = preprocess.read_chunk(out, len(chunk))
    if decoded is None:
      future = executor.submit(preprocess.decode_chunk, chunk, image_size, out)
      future.add_done_callback(lambda _, films=len(chunk): bar.update(films))
    else:
      future = futures.Future()
      future.set_result(decoded)
      bar.initial += len(chunk)
      bar.update(len(chunk))
    chunks.append(_Chunk(chunk, out, future))
  return chunks


def _undecoded(chunk: _Chunk, findings: Sequence[str]) -> Iterator[LeftOut]:
  for film, decoded in zip(chunk.films, chunk.decoded.result(), strict=True):
    if decoded.fault:
      file, reason, detail = decoded.fault
      folder = os.path.basename(os.path.dirname(file))
      yield LeftOut(film.image, reason, f'{folder}: {detail}')
      for region in (*film.boxes, *film.masks):
        yield LeftOut(film.image, film_table.LOST_BOX, findings[region.finding])
    for reason, detail, finding in decoded.left_out:
      yield LeftOut(film.image, reason, f'{findings[finding]}: {detail}')


def _warn_of_doubts(chunks: Sequence[_Chunk]) -> None:
  """Says what is odd about films that are used all the same."""
  by_doubt = {}
  for chunk in chunks:
    for film, decoded in zip(chunk.films, chunk.decoded.result(), strict=True):
      for doubt in decoded.doubts:
        by_doubt.setdefault(doubt, []).append(film.image)
  for doubt, names in by_doubt.items():
    films = '1 film' if len(names) == 1 else f'{len(names):,} films'
    logging.warning('%s (first: %s): %s', films, names[0], doubt)


class _Made:
  """The examples of all splits, and what was made of which films."""

  def __init__(self, catalogue: Catalogue, image_size: int):
    self.films: dict[str, list[tuple[FilmRow, Decoded]]] = {}
    self.content: dict[str, Any] = {}  # SHA-256 by split
    self.stopped_by: Exception | None = None
    self._size = image_size
    rows = [film for films in catalogue.films.values() for film in films]
    self._patient = prepared.patient_numbers(rows)
    # NIH's films are hashed as before other findings could be named.
    self._names = b''
    if catalogue.findings != FINDINGS:
      self._names = repr((catalogue.findings, catalogue.readers)).encode()

  def shards(
    self,
    name: str,
    rendition: int,
    num_renditions: int,
    chunks: Sequence[_Chunk],
  ) -> list[records.Shard]:
    """The files of records of one split, as functions that make examples."""
    self.films[name] = []
    self.content[name] = hashlib.sha256(self._names)
    chunk_bytes = num_renditions * self._size**2 * _CHUNK_FILMS
    step = max(1, _SHARD_BYTES // chunk_bytes)
    shape = (-1, num_renditions, self._size, self._size, 1)
    return [
      functools.partial(
        self._examples, name, rendition, shape, chunks[k : k + step]
      )
      for k in range(0, len(chunks), step)
    ]

  def _examples(self, name, rendition, shape, chunks):
    for chunk in chunks:
      try:
        known = chunk.decoded.result()
      except Exception as e:
        self.stopped_by = e
        raise
      # A map and not an array: tfds holds a whole shard's examples at once.
      pixels = np.memmap(f'{chunk.path}.u8', np.uint8, 'r').reshape(shape)
      for film, decoded, images in zip(chunk.films, known, pixels, strict=True):
        if not decoded.fault:
          image = images[rendition]
          self.films[name].append((film, decoded))
          self.content[name].update(_described(film, decoded).encode())
          self.content[name].update(image)
          yield film.image, self._example(film, decoded, image)

  def _example(
    self, film: FilmRow, decoded: Decoded, image: np.ndarray
  ) -> dict[str, Any]:
    return records.example(
      image,
      boxes=[(box.finding, box.box) for box in decoded.boxes],
      image_name=film.image,
      label=prepared.label_vector(film.label),
      patient=self._patient(film.patient),
      view=film.view,
      age=film.age,
      sex=film.sex,
    )


# Their names and fields are part of the text below.
_Entry = collections.namedtuple('Entry', ['findings', 'view', 'age', 'sex'])
_Box = collections.namedtuple('Box', ['finding', 'box'])


def _described(film: FilmRow, decoded: Decoded) -> str:
  """All that is known of a film but its pixels, as its split's hash has it.

  The text of films with plain labels and boxes, NIH's, must never change: runs
  are continued only on films of the same hash.
  """
  present = tuple(k for k, x in enumerate(film.label) if x == 1)
  entry = _Entry(present, film.view, film.age, film.sex)
  boxes = tuple(_Box(box.finding, box.box) for box in decoded.boxes)
  text = repr((film.image, entry, boxes))
  if not {0, 1} >= {*film.label}:
    text += repr(film.label)
  if decoded.masks or film.readers:
    text += repr((decoded.masks, film.readers))
  return text
