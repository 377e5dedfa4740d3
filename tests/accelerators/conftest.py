"""Programs are made at the precision that main.py sets."""

import jax
import pytest


@pytest.fixture(autouse=True)
def as_main_sets_it():
  with jax.default_matmul_precision('highest'):
    yield
