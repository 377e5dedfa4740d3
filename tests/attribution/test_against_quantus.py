"""Measures of maps against Quantus (Hedstroem et al. 2023), where it is there.

Quantus needs PyTorch, so that it is no dependency of the tests.
"""

import numpy as np
import pytest

from cxr.attribution import road, sanity, stability

quantus = pytest.importorskip('quantus', reason='Quantus is not installed')
RNG = np.random.default_rng(0)


def test_gini_is_quantus_sparseness():
  maps = np.abs(RNG.normal(size=(5, 8, 8)))
  measure = quantus.Sparseness(normalise=False, abs=True, disable_warnings=True)
  flat = maps.reshape(5, 1, 8, 8)
  expected = measure.evaluate_batch(x_batch=flat, a_batch=flat)
  # Quantus adds 1e-7 to every pixel.
  np.testing.assert_allclose(sanity.gini(maps), expected, rtol=1e-5)


def test_imputation_is_quantus_noisy_linear_imputation():
  from quantus.functions import perturb_func

  image, removed = RNG.random((9, 7)), RNG.random((9, 7)) < 0.6
  expected = perturb_func.noisy_linear_imputation(
    image[None], np.flatnonzero(removed), noise=0.0
  )
  np.testing.assert_allclose(road.impute(image, removed), expected[0])


def test_relative_stabilities_are_those_of_quantus():
  """On the same films, maps, logits and features, before and after."""
  draw = lambda *shape: 1 + RNG.random((2, 5, *shape))  # before, after
  image, maps, logits, features = draw(8, 8, 1), draw(8, 8), draw(14), draw(6)
  first = lambda x: np.moveaxis(x, -1, 1)
  options = {'disable_warnings': True}
  of_map = stability.relative_change(*maps, (1, 2))
  measure = quantus.RelativeInputStability(**options)
  np.testing.assert_allclose(
    of_map / stability.relative_change(*image, (1, 2, 3)),
    measure.relative_input_stability_objective(
      *map(first, image), *(m[:, None] for m in maps)
    ),
  )
  measure = quantus.RelativeOutputStability(**options)
  np.testing.assert_allclose(
    of_map / stability.change(*logits, 1),
    measure.relative_output_stability_objective(
      *logits, *(m[:, None] for m in maps)
    ),
  )
  measure = quantus.RelativeRepresentationStability(**options)
  np.testing.assert_allclose(
    of_map / stability.relative_change(*features, 1),
    measure.relative_representation_stability_objective(
      *features, *(m[:, None] for m in maps)
    ),
  )
