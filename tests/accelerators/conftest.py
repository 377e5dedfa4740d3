"""Programs are made at the precision that main.py sets, and are not kept."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache


@pytest.fixture(autouse=True)
def as_main_sets_it():
  with jax.default_matmul_precision('highest'):
    yield


@pytest.fixture(scope='module', autouse=True)
def no_kept_programs():
  """A kept program is read by the client of its devices, and none is here."""
  jax.config.update('jax_enable_compilation_cache', False)
  compilation_cache.reset_cache()
  yield
  jax.config.update('jax_enable_compilation_cache', True)
  compilation_cache.reset_cache()
