"""A prepared set as splits of arrays, and the batches of a split.

Images are uint8 'n h w 1' until they are on the device; labels are float32
'n k' (0, 1, or NaN for unknown), a column for each finding of the data set;
boxes are (ymin, xmin, ymax, xmax) in [0, 1] of the image.

`index_batches` decides in which order films are shown, in plain numpy, so that
the order is the same wherever the pixels are kept. Epoch e shows all films in a
permutation drawn from (seed, e). Epochs follow each other without a gap, and a
batch may hold the end of one and the start of the next, so no film is dropped.
Films on disk are read ahead along that order by tf.data; films in memory are
taken as they are asked for.
"""

import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from jaxtyping import Bool, Float, Int, UInt8

from input_pipeline import memory, prepare, prepared, records
from input_pipeline.findings import BOXED, FINDINGS
from input_pipeline.sources.film_table import Options

CACHES = ('auto', 'memory', 'none')
# Of the memory that is free, what 'auto' gives to films.
_AUTO_SHARE = 1 / 2

_GATHER_THREADS = 2
_PREFETCH_BATCHES = 2


def _tensorflow():
  """TensorFlow, kept off the accelerators.

  Imported on first use: it takes 7 s of a core, and most of what reads this
  module (a wrong path, a comparison of runs) never makes a batch.
  """
  # Else it greets every user with lines on rounding; nothing here rounds.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  import tensorflow as tf

  for kind in ('GPU', 'TPU'):
    tf.config.set_visible_devices([], kind)
  return tf


class Split(NamedTuple):
  """Films and what is known of them; index i is the same film in each array."""

  name: str
  image: UInt8[np.ndarray, 'n h w 1'] | records.Films
  label: Float[np.ndarray, 'n k']
  image_name: np.ndarray  # 'n' str
  patient: Int[np.ndarray, ' n']
  view: np.ndarray  # 'n' str: 'PA', 'AP' or ''
  age: Float[np.ndarray, ' n']  # years, NaN where unknown
  sex: np.ndarray  # 'n' str: 'M', 'F' or ''
  box: Float[np.ndarray, 'm 4']
  box_image: Int[np.ndarray, ' m']  # index of the box's film
  box_finding: Int[np.ndarray, ' m']  # index into findings
  content: str = ''  # SHA-256 of names, labels, boxes and pixels, in order
  findings: tuple[str, ...] = FINDINGS  # of the labels' columns
  boxed: tuple[str, ...] = BOXED  # those of `findings` that have regions
  # Regions given pixel by pixel, any number of a film and finding.
  mask: Bool[np.ndarray, 'q h w'] = np.zeros((0, 0, 0), bool)
  mask_image: Int[np.ndarray, ' q'] = np.zeros(0, np.int64)  # its film's index
  mask_finding: Int[np.ndarray, ' q'] = np.zeros(0, np.int64)
  # Labels by reader: NaN where one did not read a film or does not say.
  reader: Float[np.ndarray, 'r n k'] = np.zeros((0, 0, 0), np.float32)
  reader_names: tuple[str, ...] = ()
  patient_name: np.ndarray = np.zeros(0, 'U1')  # as the tables name them
  # Of each film height and width, in the pixels that its boxes are given in,
  # and its turn to upright; without a row all are prepared.NIH_FRAME.
  frame: Int[np.ndarray, 'n 5'] = np.zeros((0, 5), np.int64)


class Splits(dict[str, Split]):
  """Splits by name; `left_out` counts what is in none of them, by reason."""

  left_out: Mapping[str, int]


def load(
  dir: str | os.PathLike,
  *,
  image_size: int,
  prepared_dir: str | os.PathLike,
  validation_fraction: float,
  seed: int = 0,
  workers: int = 0,
  cache: str = 'memory',
  **layout,
) -> Splits:
  """Loads the data set in `dir`, which is prepared on first use.

  A prepared set with a damaged file is prepared anew.

  Args:
    dir: a folder in one of the layouts of `sources`.
    image_size: pixels.
    prepared_dir: where prepared sets are kept, each under the fingerprint of
      what it was made from.
    validation_fraction: share of the training patients held out, in [0, 1).
    seed: of the choice of these patients.
    workers: processes that prepare; 0 is all cores.
    cache: 'memory' holds all images on the host, 'none' reads them from disk
      as they are asked for, 'auto' is 'memory' where they take less than half
      of what is free.
    layout: further fields of sources.film_table.Options: the layout's name,
      and how it is read.

  Returns:
    the splits 'train', 'validation' and 'test'. A phantom has the splits
    'test_without_shortcut' and 'test_without_lesions' as well: the films of
    'test' in the same order, drawn without that part. A split without a film is
    absent.

  Raises:
    FileNotFoundError, ValueError: one sentence on what is wrong.
  """
  if cache not in CACHES:
    raise ValueError(f'cache ({cache!r}) must be one of {", ".join(CACHES)}.')
  prepare_again = functools.partial(
    prepare.prepare,
    pathlib.Path(dir).expanduser(),
    Options(validation_fraction=validation_fraction, seed=seed, **layout),
    image_size=image_size,
    prepared_dir=pathlib.Path(prepared_dir).expanduser(),
    num_workers=workers,
  )
  folder = prepare_again()
  try:
    splits = _open(folder, cache)
  except records.Damaged as e:
    logging.warning('%s It is prepared anew.', e)
    prepare.discard(folder)
    prepare_again()
    splits = _open(folder, cache)
  if splits.left_out:
    logging.warning(
      'Left out of %s: %s; listed in %s. What is corrected in the folder is '
      'prepared anew by the same command.',
      dir,
      ', '.join(prepared.describe_left_out(folder)),
      folder / prepared.LEFT_OUT_FILE,
    )
  _warn_of_unknowns(splits)
  return splits


def _open(folder: pathlib.Path, cache: str) -> Splits:
  """Raises records.Damaged where a file of the set cannot be read."""
  tables = prepared.read_films(folder)
  left_out = prepared.count_left_out(folder)
  films = records.open_films(folder)
  if {name: len(films[name]) for name in films} != {
    name: len(columns['label']) for name, columns in tables.items()
  }:
    raise records.damaged(
      folder, f'{prepared.FILMS_FILE} and the records hold other films'
    )
  count = sum(map(len, films.values()))
  size = next(iter(films.values())).shape[1]
  if cache == 'auto':
    room = memory.available()
    fits = room is None or count * size**2 <= _AUTO_SHARE * room
    cache = 'memory' if fits else 'none'
  if cache == 'memory':
    memory.require(
      count * size**2,
      f'A cache of {count} films of {size} pixels',
      'read them from disk with --config.data.cache=none',
    )
  splits = Splits()
  for name, columns in tables.items():
    image = np.asarray(films[name]) if cache == 'memory' else films[name]
    splits[name] = Split(name=name, image=image, **_unpacked(columns, image))
  splits.left_out = left_out
  return splits


def _unpacked(
  columns: dict[str, np.ndarray], image: np.ndarray | records.Films
) -> dict[str, Any]:
  """The columns of films.npz as a split has them."""
  columns = {'patient_name': columns['patient'].astype(str)} | columns
  columns['content'] = str(columns['content'])
  for field in ('findings', 'boxed', 'reader_names'):
    if field in columns:
      columns[field] = tuple(columns[field].tolist())
  height, width = image.shape[1:3]
  bits = columns.get('mask', np.zeros((0, 0), np.uint8))
  memory.require(
    len(bits) * height * width,
    f'{len(bits)} masks of {height} pixels',
    'choose a smaller config.data.image_size',
  )
  pixels = np.unpackbits(bits, axis=1, count=height * width if len(bits) else 0)
  columns['mask'] = pixels.view(bool).reshape(len(bits), height, width)
  return columns


def _warn_of_unknowns(splits: Splits) -> None:
  """Says of how many films the age, the sex or the view is not known.

  They are in no subgroup, and a subgroup must not vanish without a word.
  """
  films = 0
  unknown = dict.fromkeys(('age', 'sex', 'view'), 0)
  for name in ('train', 'validation', 'test'):
    if name in splits:
      split = splits[name]
      films += len(split.label)
      unknown['age'] += int(np.isnan(split.age).sum())
      unknown['sex'] += int((split.sex == '').sum())
      unknown['view'] += int((split.view == '').sum())
  counts = [f'the {field} of {n}' for field, n in unknown.items() if n]
  if counts:
    logging.warning(
      'Of %d films the label file does not tell %s; these are in no subgroup '
      'by it.',
      films,
      ', '.join(counts),
    )


def index_batches(
  n: int, *, batch_size: int, seed: int, start_step: int = 0
) -> Iterator[Int[np.ndarray, ' b']]:
  """The indices of the films in each global batch, without end.

  The result depends on the arguments alone, so every cache, every process and
  every continued run sees the same batches.

  Args:
    n: films of the split.
    batch_size: films of a batch.
    seed: of the order.
    start_step: the first batches, so many, are skipped.

  Raises:
    ValueError: an argument is out of range.
  """
  if n < 1:
    raise ValueError('There is no film to train on.')
  if batch_size < 1 or start_step < 0:
    raise ValueError(
      f'batch_size ({batch_size}) must be at least 1 and start_step '
      f'({start_step}) at least 0.'
    )
  epoch, row = divmod(start_step * batch_size, n)
  order = np.random.default_rng([seed, epoch]).permutation(n)
  while True:
    batch = [order[row : row + batch_size]]
    missing = batch_size - len(batch[0])
    row += batch_size
    while row >= n:
      epoch, row = epoch + 1, row - n
      order = np.random.default_rng([seed, epoch]).permutation(n)
      batch.append(order[:missing])
      missing -= len(batch[-1])
    yield np.concatenate(batch)


def _share(batch_size: int, process_index: int, process_count: int) -> slice:
  """The slice of every global batch that belongs to one process."""
  if batch_size % process_count:
    raise ValueError(
      f'batch_size ({batch_size}) must be divisible by the number of processes '
      f'({process_count}).'
    )
  share = batch_size // process_count
  return slice(process_index * share, (process_index + 1) * share)


def train_batches(
  split: Split,
  *,
  batch_size: int,
  seed: int,
  start_step: int = 0,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """Shuffled batches without end, as `index_batches` orders them.

  Args:
    split: the films.
    batch_size: of the global batch.
    seed: of the order.
    start_step: number of global batches that were seen before.
    process_index, process_count: this process's share.

  Yields:
    'image' uint8 'b h w 1', 'label' float32 'b k', 'index' int64 'b', where b
    is the process's share of the batch.
  """
  share = _share(batch_size, process_index, process_count)
  stream = index_batches(
    len(split.label), batch_size=batch_size, seed=seed, start_step=start_step
  )
  # The first batch now: what is wrong shall be known before the first step.
  first = next(stream)

  def parts():
    yield {'index': first[share]}
    for index in stream:
      yield {'index': index[share]}

  return _gather(split, parts)


def eval_batches(
  split: Split,
  *,
  batch_size: int,
  index: Int[np.ndarray, ' n'] | None = None,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """Every film once, in order, in batches of one size.

  The last batch is filled up by repeating its last film; repeated films are
  marked False in 'mask'. They are real films, so that what is computed from
  them is never NaN. All processes see equally many batches.

  Args:
    split: the films.
    batch_size: of the global batch.
    index: the films to show, in this order; by default all.
    process_index, process_count: this process's share.

  Yields:
    as `train_batches`, and 'mask' bool 'b'; 'row' int64 'b' is the place of
    each film in `index`.
  """
  share = _share(batch_size, process_index, process_count)
  rows = np.arange(len(split.label)) if index is None else np.asarray(index)
  if rows.ndim != 1 or (
    rows.size and not 0 <= rows.min() <= rows.max() < len(split.label)
  ):
    raise ValueError(
      f'index must list films of {split.name} (0 to {len(split.label) - 1}).'
    )

  def parts():
    for k in range(0, len(rows), batch_size):
      row = np.arange(k, k + batch_size, dtype=np.int64)[share]
      mask = row < len(rows)
      row = np.minimum(row, len(rows) - 1)
      yield {'index': rows[row].astype(np.int64), 'mask': mask, 'row': row}

  return _gather(split, parts)


def _gather(
  split: Split, parts: Callable[[], Iterator[dict[str, np.ndarray]]]
) -> Iterator[dict[str, np.ndarray]]:
  """Adds images and labels to a stream of indices.

  Films that lie on disk are read ahead of the reader. Films in memory need no
  reading, and a run of them no TensorFlow: 4 s of a core to import, and threads
  that the model's must share the cores with.
  """
  if isinstance(split.image, np.ndarray):
    for part in parts():
      index = part['index']
      yield {'image': split.image[index], **part, 'label': split.label[index]}
    return
  tf = _tensorflow()
  first = next(parts(), None)
  if first is None:
    return
  specs = {
    name: tf.TensorSpec(value.shape, value.dtype)
    for name, value in first.items()
  }
  image_shape = (len(first['index']), *split.image.shape[1:])

  faults = []

  def read(index):
    try:
      return split.image[index]
    except records.Damaged as e:
      faults.append(e)
      raise

  def join(part: dict[str, Any]) -> dict[str, Any]:
    image = tf.numpy_function(read, [part['index']], tf.uint8)
    return {'image': tf.ensure_shape(image, image_shape), **part}

  data = tf.data.Dataset.from_generator(parts, output_signature=specs)
  data = data.map(join, num_parallel_calls=_GATHER_THREADS, deterministic=True)
  data = data.prefetch(_PREFETCH_BATCHES)
  options = tf.data.Options()
  # The cores belong to the model.
  options.threading.private_threadpool_size = _GATHER_THREADS
  options.threading.max_intra_op_parallelism = 1
  options.autotune.enabled = False
  try:
    for batch in data.with_options(options).as_numpy_iterator():
      yield {**batch, 'label': split.label[batch['index']]}
  except tf.errors.OpError:
    if not faults:
      raise
    # TensorFlow has made a traceback of our sentence.
    raise faults[0] from None


def _count(split: Split, finding: Int[np.ndarray, ' m']) -> dict[str, int]:
  """How often each finding's index stands in `finding`."""
  counts = np.bincount(finding, minlength=len(split.findings))
  return dict(zip(split.findings, counts.tolist(), strict=True))


def summary(splits: Mapping[str, Split]) -> dict[str, Any]:
  """Describes the splits in plain values, to be stored beside the results.

  Returns:
    for each split the number of images, of patients, and for each finding of
    positives, of boxes and, where there are some, of masks; the SHA-256 of the
    sorted image names, one a line; the SHA-256 of all that was prepared; and
    how much was left out, by reason.
  """
  described = {}
  for name, split in splits.items():
    positives = np.nansum(split.label, axis=0).astype(int)
    names = '\n'.join(sorted(split.image_name.tolist()))
    described[name] = {
      'images': len(split.label),
      'patients': len(np.unique(split.patient)),
      'positives': dict(zip(split.findings, positives.tolist(), strict=True)),
      'boxes': _count(split, split.box_finding),
      'sha256': hashlib.sha256(names.encode()).hexdigest(),
      'content_sha256': split.content,
    }
    if len(split.mask):
      described[name]['masks'] = _count(split, split.mask_finding)
  left_out = splits.left_out if isinstance(splits, Splits) else {}
  return {'splits': described, 'left_out': dict(left_out)}
