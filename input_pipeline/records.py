"""Prepared films as tfds records (ArrayRecord), one example a film.

All of tfds and of array_record that the project uses beyond their public
functions stands in this file, and tests/input_pipeline/test_records.py says in
a sentence what an upgrade has taken away.

Of tfds's builders the plain one, GeneratorBasedBuilder, does not serve: where
the order is to be kept it sorts all examples before it writes any, through one
bucket, in memory. ShardBasedBuilder writes them as they come. ArrayRecord,
since TFRecord cannot be read by index, which any order of films needs that
does not depend on the cache.
"""

import copy
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from jaxtyping import Int, UInt8
from tensorflow_datasets.proto import tf_example_pb2

# Part of the fingerprint: to be raised whenever prepared bytes would change.
VERSION = '1.1.0'
_READ_FILMS = 64

# Makes the examples of one file of records, as (key, example).
Shard = Callable[[], Iterator[tuple[str, dict[str, Any]]]]


class Damaged(ValueError):
  """A file of a prepared set that cannot be read; one sentence names it."""


class _Writer(tfds.core.ExampleWriter):
  """ArrayRecord without compression: films do not compress (by a third), and
  are read three times as fast without."""

  def write(self, path, examples):
    writer = array_record_module.ArrayRecordWriter(
      os.fspath(path), 'group_size:1,uncompressed'
    )
    for _, record in examples:
      # A protocol buffer's map is written in an order that changes from run
      # to run, unless asked.
      example = tf_example_pb2.Example.FromString(record)
      writer.write(example.SerializeToString(deterministic=True))
    writer.close()


class ChestXray14(tfds.core.ShardBasedBuilder):
  """The tfds builder of every data set.

  Its name is that of the folder of records, and of files in it: it stays that
  of the first data set, so that sets prepared before are found.
  """

  VERSION = tfds.core.Version(VERSION)

  def __init__(
    self,
    *,
    image_size: int,
    findings: Sequence[str],
    shards: Mapping[str, Sequence[Shard]],
    **kwargs,
  ):
    """Args: image_size in pixels; for each split its files of records."""
    self._image_size = image_size
    self._findings = findings
    self._shards = shards
    super().__init__(file_format='array_record', **kwargs)

  def _info(self):
    feature = tfds.features
    return tfds.core.DatasetInfo(
      builder=self,
      description='NIH ChestX-ray14: frontal chest films, 14 findings, boxes.',
      homepage='https://nihcc.app.box.com/v/ChestXray-NIHCC',
      features=feature.FeaturesDict(
        {
          'image': feature.Tensor(
            shape=(self._image_size, self._image_size, 1),
            dtype=np.uint8,
            encoding=feature.Encoding.BYTES,
          ),
          'image_name': feature.Text(),
          'label': feature.Tensor(
            shape=(len(self._findings),), dtype=np.float32
          ),
          'patient': np.int64,
          'view': feature.Text(),
          'age': np.float32,
          'sex': feature.Text(),
          'boxes': feature.Sequence(
            {
              'box': feature.BBoxFeature(),
              'finding': feature.ClassLabel(names=self._findings),
            }
          ),
        }
      ),
      disable_shuffling=True,
    )

  def _shard_iterators_per_split(self, dl_manager):
    return self._shards

  def _example_writer(self):
    return _Writer(file_format=self.info.file_format)

  def _log_download_bytes(self):
    """Nothing is downloaded."""

  def _log_download_done(self):
    """As above."""


def write(
  folder: pathlib.Path,
  scratch: pathlib.Path,
  *,
  image_size: int,
  findings: Sequence[str],
  shards: Mapping[str, Sequence[Shard]],
) -> None:
  """Writes the splits' records to `folder`/chest_xray14/<VERSION>."""
  builder = ChestXray14(
    image_size=image_size, findings=findings, shards=shards, data_dir=folder
  )
  builder.download_and_prepare(
    download_dir=scratch,
    download_config=tfds.download.DownloadConfig(try_download_gcs=False),
  )


def example(
  image: UInt8[np.ndarray, 'h w 1'],
  *,
  boxes: Sequence[tuple[int, Sequence[float]]],
  **fields,
) -> dict[str, Any]:
  """A film in the form that the builder takes; a box is (finding, corners)."""
  boxes = [
    {'box': tfds.features.BBox(*corners), 'finding': finding}
    for finding, corners in boxes
  ]
  return {'image': image, 'boxes': boxes, **fields}


class Films:
  """A split's images on disk, read when indexed by an array of integers."""

  def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
    """Raises Damaged where the split's files are not there or not whole."""
    self._folder = os.fspath(builder.data_dir)
    # All but the image is in films.npz, and tfds's decoding of a whole example
    # takes four times as long.
    self._features = tfds.features.FeaturesDict(
      {'image': builder.info.features['image']}
    )
    source = self._read(lambda: builder.as_data_source(split=split))
    self._records = source.data_source
    shape = builder.info.features['image'].shape
    self._row = np.arange(self._read(lambda: len(self._records)))
    self.shape = (len(self._row), *shape)
    self.dtype = np.dtype(np.uint8)

  def _read(self, function: Callable[[], Any]) -> Any:
    try:
      return function()
    # tfds raises its own, array_record RuntimeError, protobuf a DecodeError.
    except (MemoryError, IndexError):
      raise
    except Exception as e:
      raise damaged(self._folder, e) from e

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(
    self, index: int | slice | Sequence[int] | Int[np.ndarray, '...']
  ) -> UInt8[np.ndarray, '*b h w 1']:
    rows = self._row[index]
    images = np.empty((rows.size, *self.shape[1:]), self.dtype)
    # array_record refuses to read nothing.
    keys = rows.ravel().tolist()

    def read():
      records = self._records.__getitems__(keys) if keys else []
      for image, record in zip(images, records, strict=True):
        image[...] = self._features.deserialize_example_np(record)['image']

    self._read(read)
    return images.reshape(*rows.shape, *self.shape[1:])

  def take(self, index: Int[np.ndarray, ' n']) -> 'Films':
    """Some of the films, which stay on disk."""
    taken = copy.copy(self)
    taken._row = self._row[index]
    taken.shape = (len(taken._row), *self.shape[1:])
    return taken

  def __array__(self, dtype=None, copy=None) -> UInt8[np.ndarray, 'n h w 1']:
    images = np.empty(self.shape, self.dtype)
    for k in range(0, len(self), _READ_FILMS):
      images[k : k + _READ_FILMS] = self[k : k + _READ_FILMS]
    return images if dtype is None else images.astype(dtype)


def open_films(folder: pathlib.Path) -> dict[str, Films]:
  """The images of each split of a prepared set.

  Raises:
    Damaged: a file of tfds's is not there or not whole.
  """
  try:
    builder = tfds.builder_from_directory(folder)
    splits = list(builder.info.splits)
  except Exception as e:
    raise damaged(folder, e) from e
  return {split: Films(builder, split) for split in splits}


def damaged(path: str | os.PathLike, error: BaseException | str) -> Damaged:
  """The sentence for a file, or a folder of files, that cannot be read."""
  detail = str(error).splitlines()[0][:150].rstrip('.') if str(error) else ''
  return Damaged(
    f'{os.fspath(path)} is damaged or incomplete ({detail or repr(error)}); '
    'remove it and the same command prepares it anew.'
  )
