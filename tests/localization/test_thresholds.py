"""Rules: their levels by hand, by brute force and across patients."""

import numpy as np
import pytest

from cxr.localization import regions, thresholds


def test_wang_levels_are_60_and_180_of_255():
  heatmap = np.array([[0.0, 60.0, 61.0, 180.0, 181.0, 255.0]])
  low, high = thresholds.wang_levels(heatmap)
  assert (low, high) == pytest.approx((60, 180))
  # Whatever the map's own units.
  np.testing.assert_allclose(
    thresholds.wang_levels(heatmap * 1e-3 - 5), np.array([60, 180]) * 1e-3 - 5
  )
  np.testing.assert_allclose(regions.scale_255(heatmap / 7 - 3), heatmap)
  boxes = regions.levels_to_boxes(heatmap + [[0, -1, 0, -1, 0, 0]],
                                       (low, high))  # fmt: skip
  np.testing.assert_allclose(boxes, [[0, 2 / 6, 1, 1], [0, 4 / 6, 1, 1]])


def test_fixed_and_percentile_levels():
  heatmap = np.arange(101.0).reshape(1, 101) - 50
  assert thresholds.fixed_levels(heatmap, fraction=0.3) == (-20.0,)
  assert thresholds.percentile_levels(heatmap, percentile=90.0) == (40.0,)


def test_otsu_splits_two_modes():
  rng = np.random.default_rng(0)
  heatmap = rng.normal(0, 0.1, (32, 32))
  heatmap[8:16, 8:16] += 5
  boxes = regions.levels_to_boxes(heatmap, thresholds.otsu_levels(heatmap))
  np.testing.assert_array_equal(boxes, [[0.25, 0.25, 0.5, 0.5]])


def test_otsu_against_brute_force():
  heatmap = np.random.default_rng(1).gamma(1.0, size=(16, 16))
  scaled = regions.scale_255(heatmap) / 255

  def between(t):
    centre = (np.minimum(np.floor(scaled * 256), 255) + 0.5) / 256
    low, high = centre[scaled < t], centre[scaled >= t]
    return len(low) * len(high) * (low.mean() - high.mean()) ** 2

  best = max(between(t) for t in np.arange(1, 256) / 256)
  (level,) = thresholds.otsu_levels(heatmap)
  chosen = (level - heatmap.min()) / (heatmap.max() - heatmap.min())
  assert between(chosen) == pytest.approx(best)


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
  tuned = thresholds.finding_levels('tuned', maps, truth, patient)
  assert tuned[0][0] < 0.5  # its own box would have asked for more than .5
  assert tuned[5] == tuned[0]  # a film without a box takes its patient's fold
  oracle = thresholds.finding_levels('oracle', maps, truth, patient)
  assert len(set(oracle)) == 1
  alone = thresholds.finding_levels('oracle', maps[:1], truth[:1], patient[:1])
  assert alone[0][0] >= 0.5


def test_own_box_never_moves_the_tuned_level():
  rng = np.random.default_rng(0)
  table = rng.random((12, 19))
  patient = np.arange(12) // 2
  before = thresholds.tuned_fractions(table, patient)
  table[4:6] = rng.random((2, 19)) * 9
  np.testing.assert_array_equal(
    thresholds.tuned_fractions(table, patient)[4:6], before[4:6]
  )


def test_tuned_without_any_other_box_takes_the_middle_level():
  table = np.full((3, 19), np.nan)
  np.testing.assert_allclose(
    thresholds.tuned_fractions(table, np.arange(3)), 0.5
  )
  assert thresholds.oracle_fraction(table) == pytest.approx(0.5)


def test_the_oracle_s_fraction_by_hand():
  table = np.zeros((3, 19))
  table[:, 4], table[:, 7] = [0.4, 0.1, np.nan], [0.1, 0.8, np.nan]
  table[2] = np.nan
  # At .3 either hits one of two; at .5 and .7 the second does.
  assert thresholds.oracle_fraction(table) == thresholds.FRACTIONS[7]


def test_rules_are_tuned_on_every_true_box():
  wide, narrow = [0.1, 0.1, 0.9, 0.9], [0.4, 0.4, 0.6, 0.6]
  nothing = [np.nan] * 4
  maps = [_square(8, 12, 0.5)] * 2
  several = np.array([[wide, nothing], [narrow, wide]])
  table = thresholds.make_iou_table(maps, several)
  assert np.isnan(table[0, 1]).all()
  alone = thresholds.make_iou_table(maps[:1], np.array([narrow]))
  np.testing.assert_array_equal(table[1, 0], alone[0])
  # As many films with one box each.
  apart = table.reshape(4, -1)[[0, 2, 3]]
  assert thresholds.oracle_fraction(table) == thresholds.oracle_fraction(apart)
  # Two of three boxes ask for a low level, and film 0 looks at the others.
  fractions = thresholds.tuned_fractions(table, np.array([0, 1]))
  assert (
    fractions[1] == thresholds.tuned_fractions(apart, np.array([0, 1, 1]))[1]
  )
  assert fractions[0] == thresholds.FRACTIONS[table[1].mean(axis=0).argmax()]


def test_the_oracle_is_an_upper_bound_of_every_fixed_fraction():
  table = np.random.default_rng(0).random((30, 19))
  accuracy = [
    np.mean([column >= t for t in (0.3, 0.5, 0.7)]) for column in table.T
  ]
  chosen = thresholds.FRACTIONS.tolist().index(
    thresholds.oracle_fraction(table)
  )
  assert accuracy[chosen] == max(accuracy)


def test_the_main_rule_is_never_the_upper_bound_beside_others():
  assert thresholds.main_rule(('oracle', 'otsu', 'wang')) == 'wang'
  assert thresholds.main_rule(('oracle', 'tuned', 'otsu')) == 'tuned'
  assert thresholds.main_rule(['oracle']) == 'oracle'


def test_an_unknown_rule_lists_the_known():
  with pytest.raises(ValueError, match=r"'best'.*wang.*oracle"):
    thresholds.finding_levels('best', [], np.zeros((0, 4)), np.zeros(0, int))
