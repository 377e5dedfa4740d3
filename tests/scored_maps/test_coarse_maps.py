"""Reduced maps: means over cells by hand."""

import numpy as np

from cxr.scored_maps import coarse_maps


def test_a_cell_is_the_mean_of_its_pixels():
  maps = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
  found = coarse_maps.reduce(maps, 4)
  means = maps.reshape(2, 4, 2, 4, 2, 3).mean((2, 4))
  largest = np.abs(means).max((1, 2), keepdims=True)
  np.testing.assert_allclose(found, means / largest, atol=1e-3)
  assert found.dtype == np.float16


def test_a_pixel_on_a_border_counts_in_both_cells():
  line = np.array([3.0, 6.0, 9.0], np.float32).reshape(1, 1, 3, 1)
  found = coarse_maps.reduce(line, 2)  # (3 + 6/2) / 1.5, (6/2 + 9) / 1.5
  np.testing.assert_allclose(found.ravel(), [0.5, 1.0])


def test_few_pixels_stay_and_a_map_of_zeros_is_one():
  maps = np.zeros((1, 3, 3, 2), np.float32)
  maps[0, 1, 1, 0] = -1e-30  # half precision alone would lose it
  found = coarse_maps.reduce(maps)
  assert found.shape == (1, 3, 3, 2)
  assert found[0, 1, 1, 0] == -1 and not found[..., 1].any()


def test_what_is_written_is_read(tmp_path):
  assert coarse_maps.read(str(tmp_path)) is None
  written = coarse_maps.CoarseMaps(
    np.array(['a.png']),
    np.array([7]),
    np.array(['Mass']),
    {'cam': np.ones((1, 2, 2, 1), np.float16)},
  )
  coarse_maps.write(str(tmp_path / coarse_maps.FILE), written)
  *columns, maps = coarse_maps.read(str(tmp_path))
  for a, b in zip(columns, written[:3], strict=True):
    np.testing.assert_array_equal(a, b)
  np.testing.assert_array_equal(maps['cam'], written.maps['cam'])
