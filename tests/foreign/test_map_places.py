"""Maps from elsewhere, drawn where their cells look."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cxr.attribution import cam
from cxr.foreign import map_places
from cxr.foreign.map_places import Place

WHOLE = (1024, 1024, 0, 0, 0)


def maps(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def test_a_map_of_the_film_s_pixels_stays_as_it_is():
  pixels = maps(8, 8).astype(np.float32)
  for place in (Place(), Place(covers='square'), Place(1, 0)):
    found = map_places.placed(pixels, place, 8, WHOLE)
    np.testing.assert_array_equal(found, pixels)


def test_cells_with_a_place_are_drawn_as_our_own_are():
  cells = maps(4, 4).astype(np.float32)
  batch = jnp.asarray(cells[None, ..., None])
  ours = cam.enlarge(batch, (32, 32), stride=8, offset=3.0)
  found = map_places.placed(cells, Place(8, 3.0), 32, WHOLE)
  np.testing.assert_allclose(found, ours[0, ..., 0], atol=1e-6)
  # The same cells, told in pixels of an input twice as large: its pixel
  # 2 i + 1/2 is our pixel i.
  found = map_places.placed(cells, Place(16, 6.5, 64.0), 32, WHOLE)
  np.testing.assert_allclose(found, ours[0, ..., 0], atol=1e-6)


def test_cells_without_a_place_share_the_film_as_pillow_enlarges():
  cells = maps(4, 4).astype(np.float32)
  theirs = Image.fromarray(cells).resize((32, 32), Image.Resampling.BILINEAR)
  found = map_places.placed(cells, Place(), 32, WHOLE)
  np.testing.assert_allclose(found, np.asarray(theirs), atol=1e-5)


def test_a_map_finer_than_the_film_is_averaged():
  fine = maps(32, 48)
  found = map_places.placed(fine, Place(), 16, WHOLE)
  expected = fine.reshape(16, 2, 16, 3).mean((1, 3))
  np.testing.assert_allclose(found, expected, atol=1e-6)
  # Where a pixel does not hold whole cells its weights still sum to 1.
  weights = map_places.cell_weights(50, 16, Place(), 16)
  np.testing.assert_allclose(weights.sum(axis=1), 1)
  np.testing.assert_allclose(weights @ np.ones(50), 1)
  assert weights.sum(axis=0) == pytest.approx(np.full(50, 16 / 50))


def test_beside_a_film_that_is_no_square_a_map_has_its_lowest_value():
  wide = (512, 1024, 0, 0, 0)
  cells = maps(2, 4)
  found = map_places.placed(cells, Place(), 16, wide)
  assert (found[:4] == found.min()).all() and (found[12:] == found.min()).all()
  inside = map_places.placed(cells, Place(), 16, WHOLE)
  np.testing.assert_allclose(found[4:12], inside[::2] / 2 + inside[1::2] / 2,
                             atol=0.5)  # fmt: skip
  # The square that was shown with black beside the film.
  square = map_places.placed(maps(16, 16), Place(covers='square'), 16, wide)
  np.testing.assert_allclose(square, maps(16, 16), atol=1e-6)


def test_a_film_that_is_stored_lying_is_turned_with_its_map():
  lying = (4, 8, 1, 0, 1)  # transposed, then left and right change places
  cells = np.arange(32.0).reshape(4, 8)
  found = map_places.placed(cells, Place(), 8, lying)
  np.testing.assert_array_equal(found[:, 2:6], cells.T[:, ::-1])
  assert (found[:, :2] == 0).all() and (found[:, 6:] == 0).all()


def test_odd_values_have_a_defined_place():
  cells = np.array([[np.nan, 1.0], [np.inf, 3.0]])
  found = map_places.placed(cells, Place(), 2, WHOLE)
  np.testing.assert_array_equal(found, [[1, 1], [1, 3]])
  nothing = map_places.placed(np.full((2, 2), np.nan), Place(), 2, WHOLE)
  np.testing.assert_array_equal(nothing, np.zeros((2, 2)))
  # Beyond float32, scaled by a positive number.
  for scale in (1e200, 1e-200):
    found = map_places.placed(np.array([[-1, 2]]) * scale, Place(), 2, WHOLE)
    np.testing.assert_allclose(found, [[-0.5, 1]] * 2)
  assert map_places.placed(np.array([[True]]), Place(), 2, WHOLE).all()
