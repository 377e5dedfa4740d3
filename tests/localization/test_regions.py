"""Boxes and scores against hand counts and plain geometry."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis.extra import numpy as hnp

from cxr.localization import regions

BOX = np.array([0.25, 0.25, 0.75, 0.75])
DEGENERATE = {
  'constant': np.full((8, 8), 3.0),
  'zero': np.zeros((8, 8)),
  'all_negative': -np.arange(1.0, 65.0).reshape(8, 8),
  'nan': np.full((8, 8), np.nan),
  'some_nan': np.where(np.eye(8) > 0, np.nan, 1.0),
  'infinite': np.full((8, 8), np.inf),
  'one_infinite': np.pad([[np.inf, 2.0]], ((0, 7), (0, 6))),
  'empty': np.zeros((0, 8)),
  'one_pixel': np.ones((1, 1)),
  'tiny': np.eye(8) * 1e-300,
}


def test_a_box_per_region_with_diagonal_neighbours_joined():
  heatmap = np.zeros((8, 4))
  heatmap[0, 0] = heatmap[1, 1] = 1.0  # touch at a corner: one region
  heatmap[6:8, 3] = 1.0
  boxes = regions.heatmap_to_boxes(heatmap, threshold=0.5)
  np.testing.assert_array_equal(
    boxes, [[0, 0, 2 / 8, 2 / 4], [6 / 8, 3 / 4, 1, 1]]
  )


def test_a_pixel_at_the_threshold_is_outside():
  heatmap = np.array([[1.0, 2.0]])
  assert len(regions.heatmap_to_boxes(heatmap, threshold=2.0)) == 0
  np.testing.assert_array_equal(
    regions.heatmap_to_boxes(heatmap, threshold=1.0), [[0, 0.5, 1, 1]]
  )


def test_iou_of_half_overlapping_boxes_is_a_third():
  a, b = np.array([0, 0, 1, 0.5]), np.array([0, 0.25, 1, 0.75])
  assert regions.iou(a, b) == pytest.approx(1 / 3)
  assert regions.iobb(a, b) == pytest.approx(1 / 2)


def test_iobb_divides_by_the_predicted_box():
  small, large = np.array([0.4, 0.4, 0.5, 0.5]), np.array([0.0, 0, 1, 1])
  assert regions.iobb(small, large) == pytest.approx(1.0)
  assert regions.iobb(large, small) == pytest.approx(0.01)


def test_boxes_broadcast_and_degenerate_boxes_overlap_nothing():
  point, inverted = np.array([0.5, 0.5, 0.5, 0.5]), np.array([0.9, 0, 0.1, 1])
  others = np.stack([BOX, point, inverted])
  table = regions.iou(others[:, None], others[None])
  assert table.shape == (3, 3)
  np.testing.assert_array_equal(table, np.diag([1.0, 0, 0]))
  np.testing.assert_array_equal(regions.iobb(others, BOX), [1, 0, 0])
  assert regions.iou(np.zeros((0, 4)), BOX).shape == (0,)


corners = st.floats(0, 1, width=32)
box_strategy = st.tuples(corners, corners, corners, corners).map(
  lambda b: np.array([min(b[0], b[2]), min(b[1], b[3]),
                      max(b[0], b[2]), max(b[1], b[3])])
)  # fmt: skip


@hypothesis.given(box_strategy, box_strategy)
@hypothesis.settings(max_examples=60, deadline=None)
def test_iou_is_symmetric_bounded_and_below_iobb(a, b):
  iou = regions.iou(a, b)
  assert iou == regions.iou(b, a)
  assert 0 <= iou <= 1 + 1e-12
  assert iou <= regions.iobb(a, b) + 1e-9


@hypothesis.given(
  hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
)
@hypothesis.settings(max_examples=60, deadline=None)
def test_boxes_cover_every_pixel_of_the_mask_and_touch_it(mask):
  boxes = regions.mask_to_boxes(mask)
  covered = np.zeros(mask.shape, bool)
  for box in boxes:
    of_box = regions.box_mask(box, mask.shape)
    assert (of_box & mask).any()
    covered |= of_box
  assert not (mask & ~covered).any()


def test_box_cover_is_exact_area():
  cover = regions.box_cover(np.array([0, 0.125, 0.5, 0.625]), (2, 4))
  np.testing.assert_allclose(cover, [[0.5, 1, 0.5, 0], [0, 0, 0, 0]])


@hypothesis.given(box_strategy)
@hypothesis.settings(max_examples=40, deadline=None)
def test_box_cover_sums_to_the_area(box):
  cover = regions.box_cover(box, (5, 7))
  assert cover.sum() / 35 == pytest.approx(regions.area(box), abs=1e-9)


def test_box_mask_holds_pixel_centres():
  mask = regions.box_mask(np.array([0.1, 0.3, 0.9, 0.6]), (4, 4))
  # Centres .125, .375, .625, .875: all rows, and the column at .375.
  np.testing.assert_array_equal(mask, np.tile([False, True, False, False],
                                              (4, 1)))  # fmt: skip


def test_a_box_smaller_than_a_pixel_can_be_hit():
  mask = regions.box_mask(np.array([0.01, 0.51, 0.02, 0.52]), (4, 4))
  assert mask.sum() == 1
  assert mask[0, 2]
  edge = regions.box_mask(np.array([0.99, 0.99, 1, 1]), (4, 4))
  assert edge[3, 3]
  assert edge.sum() == 1
  empty = regions.box_mask(np.array([0.5, 0.5, 0.5, 0.5]), (4, 4))
  assert not empty.any()


def test_mask_scores_by_hand():
  mask = np.zeros((4, 4), bool)
  mask[0:2, 0:2] = True  # 4 pixels, the box has 4, one shared
  assert regions.ior(mask, BOX) == pytest.approx(1 / 4)
  assert regions.mask_iou(mask, BOX) == pytest.approx(1 / 7)
  assert regions.ior(np.zeros((4, 4), bool), BOX) == 0


def test_pointing_game_ties_and_tolerance():
  heatmap = np.zeros((4, 4))
  heatmap[1, 1] = heatmap[0, 0] = heatmap[3, 3] = heatmap[2, 2] = 5.0
  assert regions.pointing(heatmap, BOX) == 0.5
  heatmap[0, 0] = 6.0
  assert regions.pointing(heatmap, BOX) == 0
  assert regions.pointing(heatmap, BOX, tolerance=0.25) == 1
  assert regions.pointing(np.ones((4, 4)), BOX) == 4 / 16


def test_energy_counts_positive_attribution_alone():
  heatmap = np.full((4, 4), -7.0)
  heatmap[1, 1], heatmap[0, 3] = 3.0, 1.0
  assert regions.energy(heatmap, BOX) == pytest.approx(0.75)
  assert regions.energy(1e-300 * heatmap, BOX) == pytest.approx(0.75)


def test_map_auroc_against_scikit_learn():
  from sklearn import metrics

  rng = np.random.default_rng(0)
  for _ in range(5):
    heatmap = rng.integers(0, 6, (9, 7)).astype(float)
    box = np.array([0.2, 0.1, 0.7, 0.6])
    mask = regions.box_mask(box, heatmap.shape)
    expected = metrics.roc_auc_score(mask.ravel(), heatmap.ravel())
    assert regions.map_auroc(heatmap, box) == pytest.approx(expected)
  assert math.isnan(regions.map_auroc(heatmap, np.array([0.0, 0, 1, 1])))


# Rules.


def test_wang_levels_are_60_and_180_of_255():
  heatmap = np.array([[0.0, 60.0, 61.0, 180.0, 181.0, 255.0]])
  low, high = regions.wang_levels(heatmap)
  assert (low, high) == pytest.approx((60, 180))
  # Whatever the map's own units.
  np.testing.assert_allclose(
    regions.wang_levels(heatmap * 1e-3 - 5), np.array([60, 180]) * 1e-3 - 5
  )
  np.testing.assert_allclose(regions.scale_255(heatmap / 7 - 3), heatmap)
  boxes = regions.levels_to_boxes(heatmap + [[0, -1, 0, -1, 0, 0]],
                                       (low, high))  # fmt: skip
  np.testing.assert_allclose(boxes, [[0, 2 / 6, 1, 1], [0, 4 / 6, 1, 1]])


def test_fixed_and_percentile_levels():
  heatmap = np.arange(101.0).reshape(1, 101) - 50
  assert regions.fixed_levels(heatmap, fraction=0.3) == (-20.0,)
  assert regions.percentile_levels(heatmap, percentile=90.0) == (40.0,)


def test_otsu_splits_two_modes():
  rng = np.random.default_rng(0)
  heatmap = rng.normal(0, 0.1, (32, 32))
  heatmap[8:16, 8:16] += 5
  boxes = regions.levels_to_boxes(heatmap, regions.otsu_levels(heatmap))
  np.testing.assert_array_equal(boxes, [[0.25, 0.25, 0.5, 0.5]])


def test_otsu_against_brute_force():
  heatmap = np.random.default_rng(1).gamma(1.0, size=(16, 16))
  scaled = regions.scale_255(heatmap) / 255

  def between(t):
    centre = (np.minimum(np.floor(scaled * 256), 255) + 0.5) / 256
    low, high = centre[scaled < t], centre[scaled >= t]
    return len(low) * len(high) * (low.mean() - high.mean()) ** 2

  best = max(between(t) for t in np.arange(1, 256) / 256)
  (level,) = regions.otsu_levels(heatmap)
  chosen = (level - heatmap.min()) / (heatmap.max() - heatmap.min())
  assert between(chosen) == pytest.approx(best)


@pytest.mark.parametrize('name', DEGENERATE)
@pytest.mark.parametrize('rule', [*regions.RULES, *regions.CROSS_FITTED_RULES])
def test_degenerate_maps_have_defined_rows(name, rule):
  heatmap = DEGENERATE[name]
  truth = np.stack([BOX, np.full(4, np.nan), [0.5, 0.5, 0.5, 0.5]])
  with np.errstate(all='raise', under='ignore'):
    rows = regions.score_finding(
      [heatmap] * 3, truth, np.arange(3), rules=[rule]
    )[rule]
  boxed, without, point = rows
  for score in regions.SCORES:
    # One pixel is all in the box: nothing outside to rank it against.
    undefined = name == 'one_pixel' and score == 'map_auroc'
    assert undefined == math.isnan(boxed[score])
    assert undefined or 0 <= boxed[score] <= 1
    assert math.isnan(without[score])
    if score != 'map_auroc':
      assert point[score] == 0
  assert math.isnan(point['map_auroc'])
  if name in ('constant', 'zero', 'nan', 'infinite', 'empty', 'one_pixel'):
    assert len(boxed['boxes']) == len(without['boxes']) == 0
    assert boxed['map_auroc'] == 0.5 or name == 'one_pixel'
  if name in ('constant', 'empty'):
    assert boxed['pointing'] == pytest.approx(0.25)
  if name == 'all_negative':
    assert boxed['energy'] == 0
    assert len(without['boxes'])


def test_a_map_of_one_channel_too_many_is_refused():
  with pytest.raises(ValueError, match=r'\(2, 2, 1\)'):
    regions.clean(np.zeros((2, 2, 1)))


def _square(start, stop, inner):
  """A map whose best level for the box is below or above a ring."""
  heatmap = np.zeros((20, 20))
  heatmap[2:18, 2:18] = inner
  heatmap[start:stop, start:stop] = 1.0
  return heatmap


def test_tuned_levels_come_from_other_patients():
  # Patient 0's own maps want a high level; everybody else's a low one.
  wide, narrow = np.array([0.1, 0.1, 0.9, 0.9]), np.array([0.4, 0.4, 0.6, 0.6])
  maps = [_square(8, 12, 0.5)] * 6
  truth = np.stack([narrow] + [wide] * 4 + [np.full(4, np.nan)])
  patient = np.array([0, 1, 2, 3, 4, 0])
  tuned = regions.finding_levels('tuned', maps, truth, patient, num_folds=5)
  assert tuned[0][0] < 0.5  # its own box would have asked for more than .5
  assert tuned[5] == tuned[0]  # a film without a box takes its patient's fold
  oracle = regions.finding_levels('oracle', maps, truth, patient)
  assert len(set(oracle)) == 1
  alone = regions.finding_levels('oracle', maps[:1], truth[:1], patient[:1])
  assert alone[0][0] >= 0.5


def test_own_box_never_moves_the_tuned_level():
  rng = np.random.default_rng(0)
  table = rng.random((12, 19))
  patient = np.arange(12) // 2
  before = regions.tuned_fractions(table, patient)
  table[4:6] = rng.random((2, 19)) * 9
  np.testing.assert_array_equal(
    regions.tuned_fractions(table, patient)[4:6], before[4:6]
  )


def test_tuned_without_any_other_box_takes_the_middle_level():
  table = np.full((3, 19), np.nan)
  np.testing.assert_allclose(regions.tuned_fractions(table, np.arange(3)), 0.5)
  assert regions.oracle_fraction(table) == pytest.approx(0.5)
  assert math.isnan(regions.max_box_accuracy(table))


def test_max_box_accuracy_by_hand():
  table = np.array([[0.4, 0.1], [0.1, 0.8], [np.nan, np.nan]])
  # At .3 either level hits one of two; at .5 and .7 the second does.
  assert regions.max_box_accuracy(table) == pytest.approx(0.5)
  assert regions.oracle_fraction(table, fractions=(0.2, 0.6)) == 0.6


def test_oracle_is_an_upper_bound_of_every_fixed_level():
  rng = np.random.default_rng(0)
  table = rng.random((30, 19))
  best = regions.max_box_accuracy(table)
  for level in table.T:
    assert best >= np.mean([(level >= t).mean() for t in (0.3, 0.5, 0.7)])


def test_an_unknown_rule_lists_the_known():
  with pytest.raises(ValueError, match=r"'best'.*wang.*oracle"):
    regions.finding_levels('best', [], np.zeros((0, 4)), np.zeros(0, int))


def test_a_row_scores_the_best_box():
  heatmap = np.zeros((4, 4))
  heatmap[1:3, 1:3], heatmap[0, 0] = 2.0, 1.0
  levels = (0.5, 1.5)
  boxes = regions.levels_to_boxes(heatmap, levels)
  row = regions.score_map(heatmap, BOX, boxes, level=levels[0])
  assert row['iou'] == row['iobb'] == 1.0
  assert row['ior'] == pytest.approx(4 / 5)
  assert row['mask_iou'] == pytest.approx(4 / 5)
  assert row['energy'] == pytest.approx(8 / 9)
  assert row['pointing'] == 1.0
  assert row['map_auroc'] == 1.0
  assert set(row) == {'truth', 'boxes', *regions.SCORES}


# Controls.


def test_enlargement_is_that_of_the_class_activation_maps():
  import jax

  heatmap = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
  np.testing.assert_allclose(
    regions.resize_bilinear(heatmap, (12, 10)),
    jax.image.resize(heatmap, (12, 10), 'bilinear'),
    atol=1e-6,
  )


def test_a_random_map_is_its_film_s_own():
  first = regions.random_map((0, 7), grid=(4, 4), size=(16, 16))
  again = regions.random_map((0, 7), grid=(4, 4), size=(16, 16))
  other = regions.random_map((0, 8), grid=(4, 4), size=(16, 16))
  np.testing.assert_array_equal(first, again)
  assert not np.array_equal(first, other)


def test_a_moved_map_draws_the_same_boxes_elsewhere():
  heatmap = np.zeros((16, 16))
  heatmap[7:10, 6:9] = 1.0  # inside, wherever up to 6 pixels move it
  boxes = regions.heatmap_to_boxes(heatmap, threshold=0.5)
  inside, places = 0, set()
  for seed in range(40):
    moved = regions.moved_map((0, seed), heatmap)
    assert sorted(moved.ravel()) == sorted(heatmap.ravel())
    found = regions.heatmap_to_boxes(moved, threshold=0.5)
    if len(found) == 1:
      inside += 1
      places.add(tuple(found[0]))
      np.testing.assert_allclose(
        found[0][2:] - found[0][:2], boxes[0][2:] - boxes[0][:2]
      )
  # (14 / 16)^2 of the places do not cut it in two.
  assert inside > 20
  assert len(places) > 15


def test_the_centre_map_peaks_in_the_centre():
  heatmap = regions.centre_map((5, 7))
  assert np.unravel_index(heatmap.argmax(), heatmap.shape) == (2, 3)
  np.testing.assert_allclose(heatmap, heatmap[::-1, ::-1])


def test_the_mean_box_leaves_the_patient_out():
  truth = np.array([[0, 0, 0.2, 0.2], [0.2, 0.2, 0.4, 0.4],
                    [0.4, 0.4, 0.8, 0.8], [np.nan] * 4])  # fmt: skip
  mean = regions.mean_boxes(truth, np.array([5, 5, 9, 7]))
  np.testing.assert_allclose(mean[0], truth[2])
  np.testing.assert_allclose(mean[1], truth[2])
  np.testing.assert_allclose(mean[2], truth[:2].mean(axis=0))
  np.testing.assert_allclose(mean[3], truth[:3].mean(axis=0))
  assert np.isnan(regions.mean_boxes(truth[:2], np.array([5, 5]))).all()
