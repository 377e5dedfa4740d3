"""The GPU's script where JAX, Flax and Optax stand alone, and its films."""

import os
import subprocess
import sys

import numpy as np
import pytest

from cxr import data
from tests.benchmarks import packed_films

# Names that no finder finds, as if they were not installed.
BARE = """
import importlib.machinery, sys
sys.path.insert(0, '.')
from tests.benchmarks import bare
class Path(importlib.machinery.PathFinder):
  @classmethod
  def find_spec(cls, name, path=None, target=None):
    if name.partition('.')[0] not in {*bare._ABSENT, 'tensorflow', 'pytest'}:
      return super().find_spec(name, path, target)
finder = importlib.machinery.PathFinder
sys.meta_path = [Path if f is finder else f for f in sys.meta_path]
bare.install()
from configs import robust
from cxr.training import configured_step, setup, validation
# As gpu.sh calls it: what defines a flag twice fails here.
import tests.benchmarks.{name}
from tests.models import torch_nets
config = robust.get_config('nih_small').copy_and_resolve_references()
config.seed = 3
assert config.augment.to_dict()['rotation'] == 5.0
import ml_collections, tensorflow_datasets
print(type(ml_collections).__name__, tensorflow_datasets.core.Anything)
"""


@pytest.mark.parametrize('name', ['gpu_step', 'gpu_train'])
def test_a_training_is_imported_without_the_readers_of_films(name):
  done = subprocess.run(
    [sys.executable, '-c', BARE.replace('{name}', name)],
    capture_output=True,
    text=True,
    cwd=os.path.dirname(os.path.dirname(__file__)),
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith('_Module'), done.stdout


def test_packed_films_are_the_films(tiny_config, tmp_path):
  splits = data.load(tiny_config)
  path = str(tmp_path / 'films.npz')
  packed_films.write(path, splits)
  read = packed_films.read(path)
  for name in packed_films.NAMES:
    np.testing.assert_array_equal(read[name].image, splits[name].image)
    np.testing.assert_array_equal(read[name].label, splits[name].label)
  packed_films.write(path, splits, num_films=5)
  few = packed_films.read(path)
  assert len(few['train'].label) == 5
  assert len(few['validation'].label) == len(splits['validation'].label)
