"""Measures of maps against Quantus (Hedstroem et al. 2023), where it is there.

Quantus needs PyTorch, so that it is no dependency of the tests.
"""

import numpy as np
import pytest

from cxr.attribution import sanity

quantus = pytest.importorskip('quantus', reason='Quantus is not installed')
RNG = np.random.default_rng(0)


def test_gini_is_quantus_sparseness():
  maps = np.abs(RNG.normal(size=(5, 8, 8)))
  measure = quantus.Sparseness(normalise=False, abs=True, disable_warnings=True)
  flat = maps.reshape(5, 1, 8, 8)
  expected = measure.evaluate_batch(x_batch=flat, a_batch=flat)
  # Quantus adds 1e-7 to every pixel.
  np.testing.assert_allclose(sanity.gini(maps), expected, rtol=1e-5)
