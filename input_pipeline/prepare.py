"""A folder in NIH ChestX-ray14's layout -> a prepared set on disk.

Films are decoded by worker processes, chunk by chunk, into `decoded/`, and
written as tfds records (see records) as they come. An interrupted preparation
goes on where it was and ends with the same bytes.
"""

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
  workers,
)
from input_pipeline.catalogue import Catalogue, Film
from input_pipeline.findings import FINDINGS
from input_pipeline.nih_tables import LeftOut

_CHUNK_FILMS = 128
_SHARD_BYTES = 512 * 2**20


def fingerprint(
  folder: str | os.PathLike,
  *,
  image_size: int,
  validation_fraction: float,
  seed: int,
) -> str:
  """A hash of all that the prepared set depends on.

  That is the films' names, sizes and times of change, the tables' bytes and
  the options.
  """
  folder = pathlib.Path(folder)
  digest = hashlib.sha256(
    repr(
      (records.VERSION, image_size, float(validation_fraction), seed)
    ).encode()
  )
  for path in catalogue.table_paths(folder):
    content = path.read_bytes()
    digest.update(f'{path.name} {len(content)}\n'.encode())
    digest.update(content)
  for rendition, files in catalogue.find_films(folder).items():
    digest.update(f'{rendition} {len(files)}\n'.encode())
    for name in sorted(files):
      stat = files[name].stat()
      line = f'{name} {stat.st_size} {stat.st_mtime_ns}\n'
      digest.update(line.encode(errors='surrogateescape'))
  return digest.hexdigest()[:16]


def prepare(
  folder: str | os.PathLike,
  *,
  image_size: int,
  prepared_dir: str | os.PathLike,
  validation_fraction: float,
  seed: int = 0,
  num_workers: int = 0,
) -> pathlib.Path:
  """Prepares `folder`, or finds it prepared.

  Args:
    folder: in NIH's layout.
    image_size: pixels; films are resized to its square.
    prepared_dir: receives `<fingerprint>/chest_xray14/<version>/`.
    validation_fraction: share of the training patients held out, in [0, 1).
    seed: of the choice of these patients.
    num_workers: processes; 0 is all cores.

  Returns:
    The folder with the records, `films.npz`, and `left_out.csv`.

  Raises:
    FileNotFoundError, ValueError: as `catalogue.read`; and if no film can be
      decoded or the disk has not the space.
  """
  if image_size < 1:
    raise ValueError(f'image_size ({image_size}) must be at least 1.')
  if num_workers < 0:
    raise ValueError(f'workers ({num_workers}) must be at least 0, all cores.')
  split = {'validation_fraction': validation_fraction, 'seed': seed}
  name = fingerprint(folder, image_size=image_size, **split)
  root = pathlib.Path(prepared_dir).absolute() / name
  out = root / 'chest_xray14' / records.VERSION
  scratch = root / 'decoded'
  read = functools.partial(catalogue.read, folder, **split)
  if _is_complete(out, read):
    # Left by a run that was killed behind its last record.
    shutil.rmtree(scratch, ignore_errors=True)
    return out
  films = read()
  root.mkdir(parents=True, exist_ok=True)
  with _locked(root / 'lock'):
    if not _is_complete(out, read):
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


def _is_complete(out: pathlib.Path, read: Callable[[], Catalogue]) -> bool:
  """Whether the set stands, and holds what the tables say as read today.

  Earlier versions read no '45.0', 'Female' or '12,5': where a set lacks an
  age, a sex, a view or a box, the tables are read again.
  """
  if not (out / prepared.FILMS_FILE).is_file():
    return False
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
  films = {film.name: film for split in read().films.values() for film in split}
  for columns in splits.values():
    boxes = np.bincount(columns['box_image'], minlength=len(columns['age']))
    for row, name in enumerate(columns['image_name'].tolist()):
      if name not in films:
        return False
      entry = films[name].entry
      stored = (columns[field][row] for field in ('view', 'age', 'sex'))
      today = entry.view, np.float32(entry.age), entry.sex
      if len(films[name].boxes) != boxes[row] or any(
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

  films: Sequence[Film]
  path: str  # without an ending
  faults: futures.Future  # of what `decode_chunk` returns


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
    made = _Made()
    shards = {
      name: made.shards(name, rendition, len(names), chunks[split], image_size)
      for split, names in films.split_renditions().items()
      for rendition, name in enumerate(names)
    }
    records.write(
      root, scratch / 'downloads', image_size=image_size, shards=shards
    )
    left_out = [*films.left_out]
    for chunk in sum(chunks.values(), []):
      left_out += _undecoded(chunk)
  if not any(made.films.values()):
    shutil.rmtree(out.parent)
    raise ValueError(
      f'None of the films can be used ({catalogue.counts(left_out)}).'
    )
  prepared.write_left_out(out, left_out)
  content = {name: hashed.hexdigest() for name, hashed in made.content.items()}
  prepared.write_films(out, made.films, content)


def _decode(
  films: Sequence[Film],
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
    faults = preprocess.chunk_faults(out, len(chunk))
    if faults is None:
      paths = [film.paths for film in chunk]
      future = executor.submit(preprocess.decode_chunk, paths, image_size, out)
      future.add_done_callback(lambda _, films=len(chunk): bar.update(films))
    else:
      future = futures.Future()
      future.set_result(faults)
      bar.initial += len(chunk)
      bar.update(len(chunk))
    chunks.append(_Chunk(chunk, out, future))
  return chunks


def _undecoded(chunk: _Chunk) -> Iterator[LeftOut]:
  for film, fault in zip(chunk.films, chunk.faults.result(), strict=True):
    if fault:
      file, reason, detail = fault
      folder = os.path.basename(os.path.dirname(file))
      yield LeftOut(film.name, reason, f'{folder}: {detail}')
      for box in film.boxes:
        yield LeftOut(
          film.name, 'box of a film left out', FINDINGS[box.finding]
        )


class _Made:
  """The examples of all splits, and what was made of which films."""

  def __init__(self):
    self.films: dict[str, list[Film]] = {}
    self.content: dict[str, Any] = {}  # SHA-256 by split

  def shards(
    self,
    name: str,
    rendition: int,
    num_renditions: int,
    chunks: Sequence[_Chunk],
    image_size: int,
  ) -> list[records.Shard]:
    """The files of records of one split, as functions that make examples."""
    self.films[name], self.content[name] = [], hashlib.sha256()
    chunk_bytes = num_renditions * image_size**2 * _CHUNK_FILMS
    step = max(1, _SHARD_BYTES // chunk_bytes)
    shape = (-1, num_renditions, image_size, image_size, 1)
    return [
      functools.partial(
        self._examples, name, rendition, shape, chunks[k : k + step]
      )
      for k in range(0, len(chunks), step)
    ]

  def _examples(self, name, rendition, shape, chunks):
    for chunk in chunks:
      faults = chunk.faults.result()
      # A map and not an array: tfds holds a whole shard's examples at once.
      pixels = np.memmap(f'{chunk.path}.u8', np.uint8, 'r').reshape(shape)
      for film, fault, images in zip(chunk.films, faults, pixels, strict=True):
        if not fault:
          image = images[rendition]
          self.films[name].append(film)
          self.content[name].update(
            repr((film.name, film.entry, film.boxes)).encode()
          )
          self.content[name].update(image)
          yield film.name, _example(film, image)


def _example(film: Film, image: np.ndarray) -> dict[str, Any]:
  return records.example(
    image,
    boxes=film.boxes,
    image_name=film.name,
    label=prepared.label_vector(film.entry),
    patient=film.patient,
    view=film.entry.view,
    age=film.entry.age,
    sex=film.entry.sex,
  )
