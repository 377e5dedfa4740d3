"""Strict JAX settings, checked types and virtual CPU devices for every test."""

import os

# Before jax is imported anywhere: the tests are written for the CPU.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax
import jaxtyping
import pytest

# Before any module of ours is imported: every call checks its annotations.
jaxtyping.install_import_hook(['cxr', 'input_pipeline'], 'beartype.beartype')

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
