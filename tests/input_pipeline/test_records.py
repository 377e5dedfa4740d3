"""What the project uses of tfds and array_record beyond their functions."""

import inspect
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from input_pipeline import records


@pytest.mark.parametrize(
  'owner, name, loss',
  [
    (tfds.core, 'ShardBasedBuilder', 'films could not be written in order'),
    (tfds.core, 'ExampleWriter', 'records would be compressed'),
    (
      tfds.core.ShardBasedBuilder,
      '_shard_iterators_per_split',
      'no film would be written',
    ),
    (
      tfds.core.ShardBasedBuilder,
      '_example_writer',
      'records would be compressed, and differ from run to run',
    ),
    (
      tfds.core.DatasetBuilder,
      '_log_download_bytes',
      'preparing would speak of a download',
    ),
    (
      tfds.core.DatasetBuilder,
      '_log_download_done',
      'preparing would speak of a download',
    ),
    (records.tf_example_pb2, 'Example', 'records would differ run by run'),
    (array_record_module, 'ArrayRecordWriter', 'nothing could be written'),
    (tfds.features.FeaturesDict, 'deserialize_example_np', 'nothing is read'),
  ],
)
def test_an_upgrade_has_not_taken(owner, name, loss):
  assert hasattr(owner, name), (
    f'{owner.__name__} has no {name} any more: {loss}. Stay with the versions '
    'of requirements.txt or mend input_pipeline/records.py.'
  )


def test_the_writer_is_called_as_before():
  parameters = inspect.signature(tfds.core.ExampleWriter.write).parameters
  assert list(parameters) == ['self', 'path', 'examples'], (
    'tfds calls the writer of records otherwise; mend records._Writer.'
  )


def test_private_names_stand_in_one_file():
  """Of tfds's and array_record's modules, all imports are in records.py."""
  code = (
    'import sys; from input_pipeline import catalogue, preprocess, workers;'
    'print({"tensorflow_datasets", "array_record", "tensorflow"}'
    ' & set(sys.modules))'
  )
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == 'set()'
