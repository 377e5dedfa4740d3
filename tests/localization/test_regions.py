"""Boxes of a map's regions, counted by hand."""

import hypothesis
import numpy as np
import pytest
from hypothesis.extra import numpy as hnp

from cxr.localization import overlap, regions


def test_a_box_per_region_with_diagonal_neighbours_joined():
  heatmap = np.zeros((8, 4))
  heatmap[0, 0] = heatmap[1, 1] = 1.0  # touch at a corner: one region
  heatmap[6:8, 3] = 1.0
  boxes = regions.levels_to_boxes(heatmap, [0.5])
  np.testing.assert_array_equal(
    boxes, [[0, 0, 2 / 8, 2 / 4], [6 / 8, 3 / 4, 1, 1]]
  )


def test_a_pixel_at_the_threshold_is_outside():
  heatmap = np.array([[1.0, 2.0]])
  assert len(regions.levels_to_boxes(heatmap, [2.0])) == 0
  np.testing.assert_array_equal(
    regions.levels_to_boxes(heatmap, [1.0]), [[0, 0.5, 1, 1]]
  )


@hypothesis.given(
  hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
)
@hypothesis.settings(max_examples=60, deadline=None)
def test_boxes_cover_every_pixel_of_the_mask_and_touch_it(mask):
  boxes = regions.mask_to_boxes(mask)
  covered = np.zeros(mask.shape, bool)
  for box in boxes:
    of_box = overlap.box_mask(box, mask.shape)
    assert (of_box & mask).any()
    covered |= of_box
  assert not (mask & ~covered).any()


def test_a_map_of_one_channel_too_many_is_refused():
  with pytest.raises(ValueError, match=r'\(2, 2, 1\)'):
    regions.clean(np.zeros((2, 2, 1)))
