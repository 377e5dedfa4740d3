"""Strict JAX settings, checked types and virtual CPU devices for every test."""

import atexit
import functools
import inspect
import os
import shutil
import tempfile

# Before jax is imported anywhere: the tests are written for the CPU.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Programs that one test compiled are read by all others of the session: in this
# process, in those that pytest-xdist starts and in those that tests start. Most
# of what a test of a run computes is to compile the same networks again.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  _programs = tempfile.mkdtemp(prefix='cxr-test-programs-')
  atexit.register(shutil.rmtree, _programs, ignore_errors=True)
  os.environ['JAX_COMPILATION_CACHE_DIR'] = _programs
# Below it a program is compiled as fast as it is read.
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')
# A cache for GPUs, for whose sake the folder's name would be part of the name
# that a program is known by: a copy of the folder would be of no use.
os.environ.setdefault('JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES', 'none')
# LLVM's work on programs that run once is half of what the tests compute. XLA's
# own passes are those of a user; what is given already has the last word.
os.environ['XLA_FLAGS'] = ' '.join(
  ['--xla_backend_optimization_level=1', os.environ.get('XLA_FLAGS', '')]
)

import jax
import jaxtyping
import pytest
from beartype import BeartypeConf, beartype

# PEP 484: an int is welcome where a float is asked for. What is wrong is a
# TypeError, as Python's own.
check = beartype(
  conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeError)
)


def sized(function=None, *, typechecker, jaxtyped=jaxtyping.jaxtyped):
  """Applies `jaxtyped` where annotations have shapes, else beartype alone.

  To see that a size is the same in all shapes of a call takes 10 microseconds,
  and to read the tables of a data set takes two million calls.
  """
  if function is None:
    return functools.partial(sized, typechecker=typechecker)
  if inspect.isfunction(function) and 'jaxtyping' not in repr(
    function.__annotations__
  ):
    return check(function)
  return jaxtyped(function, typechecker=typechecker)


# Before any module of ours is imported: every call checks its annotations.
jaxtyping.jaxtyped = sized
jaxtyping.install_import_hook(['cxr', 'input_pipeline'], 'tests.conftest.check')

jax.config.update('jax_num_cpu_devices', 4)
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_numpy_dtype_promotion', 'standard')

NIH = os.path.join(os.path.dirname(__file__), '..', '..', 'shared', 'nih')


@pytest.fixture(scope='session')
def nih_dir():
  """The real films, where the machine has them."""
  if not os.path.isdir(NIH):
    pytest.skip(f'real films are not at {os.path.normpath(NIH)}')
  return os.path.normpath(NIH)


@pytest.fixture(scope='session')
def tiny_config(tmp_path_factory):
  """The smallest network on the fewest films that train at all; copy it to
  change it."""
  from configs import default
  from input_pipeline.phantom import write

  folder = tmp_path_factory.mktemp('tiny')
  write.write_phantom(
    folder / 'phantom', num_films=60, image_size=48, workers=1, progress=False
  )
  config = default.get_config('smoke')
  config.data.image_size = 48
  config.data.dir = str(folder / 'phantom')
  config.data.prepared_dir = str(folder / 'prepared')
  config.data.workers = 1
  config.model.num_filters = 2
  config.model.num_stages = 1
  config.model.output_stride = 4
  for name in config.augment:
    config.augment[name] = type(config.augment[name])(0)
  config.train.batch_size = 8
  config.train.robust_films = 0
  config.train.validate_every = 0.5
  config.train.num_epochs = 2.0
  return config


# The longest files, which several workers begin with: a file stays with one.
LONGEST = (
  'test_end_to_end.py',
  'test_devices.py',
  'test_own_findings.py',
  'test_hospital.py',
  'test_pages.py',
)


def pytest_collection_modifyitems(items):
  # Sorting keeps the order of all others.
  items.sort(
    key=lambda item: (
      LONGEST.index(item.path.name)
      if item.path.name in LONGEST
      else len(LONGEST)
    )
  )
