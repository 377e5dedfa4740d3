"""Overlaps of boxes against hand counts and plain geometry."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from cxr.localization import overlap
from tests.localization import made_boxes

BOX = np.array([0.25, 0.25, 0.75, 0.75])


def test_iou_of_half_overlapping_boxes_is_a_third():
  a, b = np.array([0, 0, 1, 0.5]), np.array([0, 0.25, 1, 0.75])
  assert overlap.iou(a, b) == pytest.approx(1 / 3)
  assert overlap.iobb(a, b) == pytest.approx(1 / 2)


def test_iobb_divides_by_the_predicted_box():
  small, large = np.array([0.4, 0.4, 0.5, 0.5]), np.array([0.0, 0, 1, 1])
  assert overlap.iobb(small, large) == pytest.approx(1.0)
  assert overlap.iobb(large, small) == pytest.approx(0.01)


def test_boxes_broadcast_and_degenerate_boxes_overlap_nothing():
  point, inverted = np.array([0.5, 0.5, 0.5, 0.5]), np.array([0.9, 0, 0.1, 1])
  others = np.stack([BOX, point, inverted])
  table = overlap.iou(others[:, None], others[None])
  assert table.shape == (3, 3)
  np.testing.assert_array_equal(table, np.diag([1.0, 0, 0]))
  np.testing.assert_array_equal(overlap.iobb(others, BOX), [1, 0, 0])
  assert overlap.iou(np.zeros((0, 4)), BOX).shape == (0,)


@hypothesis.given(made_boxes.STRATEGY, made_boxes.STRATEGY)
@hypothesis.settings(max_examples=60, deadline=None)
def test_iou_is_symmetric_bounded_and_below_iobb(a, b):
  iou = overlap.iou(a, b)
  assert iou == overlap.iou(b, a)
  assert 0 <= iou <= 1 + 1e-12
  assert iou <= overlap.iobb(a, b) + 1e-9


def test_box_cover_is_exact_area():
  cover = overlap.box_cover(np.array([0, 0.125, 0.5, 0.625]), (2, 4))
  np.testing.assert_allclose(cover, [[0.5, 1, 0.5, 0], [0, 0, 0, 0]])


@hypothesis.given(made_boxes.STRATEGY)
@hypothesis.settings(max_examples=40, deadline=None)
def test_box_cover_sums_to_the_area(box):
  cover = overlap.box_cover(box, (5, 7))
  assert cover.sum() / 35 == pytest.approx(overlap.area(box), abs=1e-9)


def test_box_mask_holds_pixel_centres():
  mask = overlap.box_mask(np.array([0.1, 0.3, 0.9, 0.6]), (4, 4))
  # Centres .125, .375, .625, .875: all rows, and the column at .375.
  np.testing.assert_array_equal(mask, np.tile([False, True, False, False],
                                              (4, 1)))  # fmt: skip


def test_a_box_smaller_than_a_pixel_can_be_hit():
  mask = overlap.box_mask(np.array([0.01, 0.51, 0.02, 0.52]), (4, 4))
  assert mask.sum() == 1
  assert mask[0, 2]
  edge = overlap.box_mask(np.array([0.99, 0.99, 1, 1]), (4, 4))
  assert edge[3, 3]
  assert edge.sum() == 1
  empty = overlap.box_mask(np.array([0.5, 0.5, 0.5, 0.5]), (4, 4))
  assert not empty.any()


@hypothesis.given(st.lists(made_boxes.STRATEGY, max_size=5))
@hypothesis.settings(max_examples=60, deadline=None)
def test_disjoint_boxes_cover_the_same_film_once(boxes):
  # On a grid of 16, where sums of covers are exact.
  boxes = np.round(np.reshape(boxes, (-1, 4)) * 16) / 16
  union = np.zeros((16, 16), bool)
  for box in boxes:
    union |= overlap.box_cover(box, (16, 16)) == 1
  apart = overlap.disjoint(boxes)
  cover = sum(
    (overlap.box_cover(box, (16, 16)) for box in apart), np.zeros((16, 16))
  )
  np.testing.assert_array_equal(cover, union)
  assert overlap.area(apart).sum() == union.mean()
