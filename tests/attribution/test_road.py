"""Removed pixels: imputations that are known."""

import numpy as np
import pytest

from cxr.attribution import road

RNG = np.random.default_rng(0)


def test_a_plane_is_imputed_exactly():
  """A linear image is the mean of its neighbours everywhere inside."""
  y, x = np.mgrid[:12, :9]
  plane = 3.0 * y - 2.0 * x + 1
  removed = np.zeros(plane.shape, bool)
  removed[3:9, 2:7] = True
  broken = np.where(removed, -99.0, plane)
  np.testing.assert_allclose(road.impute(broken, removed), plane, atol=1e-9)


def test_imputed_pixels_are_the_mean_of_their_neighbours():
  image = RNG.random((8, 9))
  removed = RNG.random((8, 9)) < 0.7
  filled = road.impute(image, removed)
  np.testing.assert_array_equal(filled[~removed], image[~removed])
  padded = np.pad(filled, 1, constant_values=np.nan)
  weight = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
  for y, x in np.argwhere(removed):
    window = padded[y : y + 3, x : x + 3]
    total = weight[~np.isnan(window)].sum()
    assert filled[y, x] == pytest.approx(np.nansum(weight * window) / total)


def test_pixels_go_by_the_order_of_the_map():
  image = RNG.random((5, 4, 1))
  heatmap = RNG.permutation(20.0 * np.ones(20) + np.arange(20)).reshape(5, 4)
  rng = np.random.default_rng(1)
  for most, order in (
    (True, np.argsort(-heatmap.ravel())),
    (False, np.argsort(heatmap.ravel())),
  ):
    left = road.remove(rng, image, heatmap, 0.25, most_relevant=most)
    moved = np.flatnonzero(left.ravel() != image.ravel())
    assert set(moved) == set(order[:5])
    assert left.min() >= 0 and left.max() <= 1
  none = road.remove(rng, image, heatmap, 0.0, most_relevant=True)
  np.testing.assert_array_equal(none, image)


def test_something_must_be_left():
  with pytest.raises(ValueError, match='leave some'):
    road.impute(np.ones((3, 3)), np.ones((3, 3), bool))
