"""Scores of maps against a true box: hand counts, scikit-learn, odd maps."""

import math

import numpy as np
import pytest

from cxr.localization import overlap, scoring, thresholds

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


def test_mask_scores_by_hand():
  mask = np.zeros((4, 4), bool)
  mask[0:2, 0:2] = True  # 4 pixels, the box has 4, one shared
  assert scoring.mask_scores(mask, BOX) == pytest.approx((1 / 4, 1 / 7))
  assert scoring.mask_scores(np.zeros((4, 4), bool), BOX) == (0, 0)


def test_pointing_game_ties_and_tolerance():
  heatmap = np.zeros((4, 4))
  heatmap[1, 1] = heatmap[0, 0] = heatmap[3, 3] = heatmap[2, 2] = 5.0
  assert scoring.pointing(heatmap, BOX) == 0.5
  heatmap[0, 0] = 6.0
  assert scoring.pointing(heatmap, BOX) == 0
  assert scoring.pointing(heatmap, BOX, tolerance=0.25) == 1
  assert scoring.pointing(np.ones((4, 4)), BOX) == 4 / 16


def test_energy_counts_positive_attribution_alone():
  heatmap = np.full((4, 4), -7.0)
  heatmap[1, 1], heatmap[0, 3] = 3.0, 1.0
  assert scoring.energy(heatmap, BOX) == pytest.approx(0.75)
  assert scoring.energy(1e-300 * heatmap, BOX) == pytest.approx(0.75)


def test_map_auroc_against_scikit_learn():
  from sklearn import metrics

  rng = np.random.default_rng(0)
  for _ in range(5):
    heatmap = rng.integers(0, 6, (9, 7)).astype(float)
    box = np.array([0.2, 0.1, 0.7, 0.6])
    mask = overlap.box_mask(box, heatmap.shape)
    expected = metrics.roc_auc_score(mask.ravel(), heatmap.ravel())
    assert scoring.map_auroc(heatmap, box) == pytest.approx(expected)
  assert math.isnan(scoring.map_auroc(heatmap, np.array([0.0, 0, 1, 1])))


def test_map_average_precision_against_scikit_learn():
  from sklearn import metrics

  rng = np.random.default_rng(0)
  box = np.array([0.2, 0.1, 0.7, 0.6])
  for levels in (3, 6, 1000):  # many ties, and hardly any
    heatmap = rng.integers(0, levels, (9, 7)).astype(float)
    mask = overlap.box_mask(box, heatmap.shape)
    expected = metrics.average_precision_score(mask.ravel(), heatmap.ravel())
    for truth in (box, mask):
      found = scoring.map_average_precision(heatmap, truth)
      assert found == pytest.approx(expected)
  flat = scoring.map_average_precision(np.ones((4, 4)), BOX)
  assert flat == 4 / 16  # what a map without information has
  whole = np.array([0.0, 0, 1, 1])
  assert scoring.map_average_precision(heatmap, whole) == 1
  point = np.array([0.5, 0.5, 0.5, 0.5])
  assert math.isnan(scoring.map_average_precision(heatmap, point))


@pytest.mark.parametrize('name', DEGENERATE)
@pytest.mark.parametrize(
  'rule', [*thresholds.RULES, *thresholds.CROSS_FITTED_RULES]
)
def test_degenerate_maps_have_defined_rows(name, rule):
  heatmap = DEGENERATE[name]
  truth = np.stack([BOX, np.full(4, np.nan), [0.5, 0.5, 0.5, 0.5]])
  with np.errstate(all='raise', under='ignore'):
    scored = scoring.score_finding(
      [heatmap] * 3, truth, np.arange(3), rules=[rule]
    )[rule]
  np.testing.assert_array_equal(scored.truth, truth)
  assert len(scored.box) == scored.count.sum()
  for score in scoring.SCORES:
    boxed, without, point = scored.column(score)
    # One pixel is all in the box: nothing outside to rank it against.
    undefined = name == 'one_pixel' and score == 'map_auroc'
    assert undefined == math.isnan(boxed)
    assert undefined or 0 <= boxed <= 1
    assert math.isnan(without)
    ranks = score in ('map_auroc', 'map_ap')
    assert math.isnan(point) if ranks else point == 0
  if name in ('constant', 'zero', 'nan', 'infinite', 'empty', 'one_pixel'):
    assert not scored.count.any()
    assert scored.column('map_auroc')[0] == 0.5 or name == 'one_pixel'
  if name in ('constant', 'empty'):
    assert scored.column('pointing')[0] == pytest.approx(0.25)
  if name == 'all_negative':
    assert scored.column('energy')[0] == 0
    assert scored.count[1]


def test_a_map_scores_its_best_box():
  heatmap = np.zeros((4, 4))
  heatmap[1:3, 1:3], heatmap[0, 0] = 2.0, 1.0
  # Wang's levels are .47 and 1.41: a box around all, one around the centre.
  scored = scoring.score_finding([heatmap], BOX[None], np.zeros(1, int))['wang']
  assert scored.count.tolist() == [2]
  np.testing.assert_array_equal(scored.box, [[0, 0, 0.75, 0.75], BOX])
  for name, value in {
    'iou': 1, 'iobb': 1, 'ior': 4 / 5, 'mask_iou': 4 / 5,
    'pointing': 1, 'energy': 8 / 9, 'map_auroc': 1, 'map_ap': 1,
  }.items():  # fmt: skip
    assert scored.column(name)[0] == pytest.approx(value)


def test_no_film_has_no_row():
  scored = scoring.score_finding([], np.zeros((0, 4)), np.zeros(0, int))['wang']
  assert scored.score.shape == (0, len(scoring.SCORES))
  assert scored.box.shape == (0, 4)


# Several true boxes of a finding on a film.

CORNER, RIGHT = [0.0, 0, 0.5, 0.5], [0.0, 0.5, 1, 1]


def test_each_true_box_is_found_once_and_a_box_on_none_is_false():
  nothing = [np.nan] * 4
  truth = np.array([CORNER, RIGHT, nothing])
  # Twice on the corner, once on neither: half of LEFT lies on CORNER.
  predicted = np.array([CORNER, CORNER, [0.5, 0, 1, 0.5], [0, 0, 1, 0.5]])
  of_truth, of_predicted = scoring.match_boxes(predicted, truth)
  assert of_truth.tolist() == [1, 0, 0]
  assert of_predicted.tolist() == [1, 1, 0, 0.5]
  # The right box touches nothing; what covers it whole has IoBB 1/2.
  everything = np.array([[0.0, 0, 1, 1]])
  of_truth, of_predicted = scoring.match_boxes(everything, truth, overlap.iobb)
  assert of_truth.tolist() == [0.25, 0.5, 0]
  assert of_predicted.tolist() == [0.5]
  none = np.zeros((0, 4))
  of_truth, of_predicted = scoring.match_boxes(none, truth)
  assert of_truth.tolist() == [0, 0, 0] and not len(of_predicted)
  of_truth, of_predicted = scoring.match_boxes(everything, none)
  assert not len(of_truth) and of_predicted.tolist() == [0]


def test_a_map_is_scored_against_the_union_of_the_true_boxes():
  truth = np.array([CORNER, RIGHT, [0, 0.25, 0.5, 0.75], [np.nan] * 4])
  heatmap = np.array([[0.0, 1, 0, 2], [0, 0, 0, 0], [4, 4, 1, 0], [0, 0, 0, 0]])
  # The union is the film without its lower left quarter: 12 of 16 pixels.
  assert scoring.energy(heatmap, truth) == pytest.approx(4 / 12)
  assert scoring.pointing(heatmap, truth) == 0  # both peaks: lower left
  tied = heatmap + [9, 0, 0, 9] - [[0, 0, 0, 2], [0] * 4, [4, 0, 0, 0], [0] * 4]
  assert scoring.pointing(tied, truth) == 6 / 8  # the two outer columns
  inside = np.ones((4, 4), bool)
  inside[2:, :2] = False
  from sklearn import metrics

  assert scoring.map_auroc(heatmap, truth) == pytest.approx(
    metrics.roc_auc_score(inside.ravel(), heatmap.ravel())
  )
  # Mask: 6 pixels, 4 of them inside; union 12 + 2.
  assert scoring.mask_scores(heatmap > 0, truth) == pytest.approx(
    (3 / 5, 3 / 14)
  )
  assert np.isnan(scoring.map_scores(heatmap, truth[3:])).all()


def test_a_map_has_a_row_for_each_true_box():
  heatmap = np.zeros((4, 4))
  heatmap[:2, :2] = heatmap[3, 0] = 1.0  # CORNER, and a pixel on nothing
  nothing = [np.nan] * 4
  truth = np.array([[nothing, nothing], [CORNER, RIGHT], [RIGHT, nothing]])
  scored = scoring.score_finding([heatmap] * 3, truth, np.arange(3))['wang']
  assert scored.index.tolist() == [0, 1, 1, 2]
  np.testing.assert_array_equal(scored.truth, [nothing, CORNER, RIGHT, RIGHT])
  assert scored.count.tolist() == [4] * 4  # two boxes at each of two levels
  np.testing.assert_array_equal(scored.column('iou'), [np.nan, 1, 0, 0])
  np.testing.assert_array_equal(
    scored.column('pointing'), [np.nan, 0.8, 0.8, 0]
  )
  np.testing.assert_allclose(scored.column('energy'), [np.nan, 0.8, 0.8, 0])
  # 4 of 5 pixels inside; the union has 4 + 8 pixels, and 1 lies outside.
  np.testing.assert_allclose(
    scored.column('mask_iou'), [np.nan, 4 / 13, 4 / 13, 0]
  )


def test_one_true_box_is_the_union_of_itself():
  rng = np.random.default_rng(0)
  for _ in range(5):
    heatmap, corner = rng.normal(size=(9, 7)), rng.random(2) / 2
    box = np.concatenate([corner, corner + rng.random(2) / 2])
    np.testing.assert_array_equal(
      scoring.map_scores(heatmap, box), scoring.map_scores(heatmap, box[None])
    )
    assert scoring.energy(heatmap, box) == overlap.sum_in_box(
      np.maximum(heatmap, 0) / heatmap.max(), box
    ) / np.sum(np.maximum(heatmap, 0) / heatmap.max())


# A truth that was drawn pixel by pixel.


def test_a_mask_is_counted_by_pixels():
  # An L of three pixels, and a pixel apart.
  lesion = np.zeros((4, 4), bool)
  lesion[0, 0] = lesion[1, 0] = lesion[1, 1] = lesion[3, 3] = True
  heatmap = np.array(
    [[3.0, 4, 0, 0], [1, 2, 0, 0], [0, 0, -5, 0], [0, 0, 0, 0]]
  )
  # The highest pixel lies in the box around the L, but not in the L.
  assert scoring.pointing(heatmap, lesion) == 0
  assert scoring.pointing(heatmap, np.array([0, 0, 0.5, 0.5])) == 1
  assert scoring.pointing(heatmap, lesion, tolerance=0.25) == 1
  assert scoring.energy(heatmap, lesion) == (3 + 1 + 2) / 10
  # Above 0: 4 pixels, 3 of them in the lesion; the union has 5.
  assert scoring.mask_scores(heatmap > 0, lesion) == (3 / 4, 3 / 5)
  assert scoring.mask_scores(np.zeros((4, 4), bool), lesion) == (0, 0)
  # Of 4 * 12 pairs of pixels in and out 3 lose to the peak; the one of value 0
  # ties with ten, and beats one.
  assert scoring.map_auroc(heatmap, lesion) == (3 * 11 + 10 / 2 + 1) / 48
  nothing = np.zeros((4, 4), bool)
  assert np.isnan(scoring.map_scores(heatmap, nothing)).all()


def test_a_mask_scores_as_scikit_learn_and_chexlocalize_count():
  from sklearn import metrics

  from cxr.exporting import chexlocalize

  rng = np.random.default_rng(0)
  for _ in range(5):
    heatmap, lesion = rng.normal(size=(9, 7)), rng.random((9, 7)) < 0.3
    mask = heatmap > 0.5
    assert scoring.map_auroc(heatmap, lesion) == pytest.approx(
      metrics.roc_auc_score(lesion.ravel(), heatmap.ravel())
    )
    expected = metrics.jaccard_score(lesion.ravel(), mask.ravel())
    assert scoring.mask_scores(mask, lesion)[1] == pytest.approx(expected)
    assert chexlocalize.iou(lesion, mask) == pytest.approx(expected)
    hit = chexlocalize.hit(lesion, heatmap)
    assert scoring.pointing(heatmap, lesion) == hit


def test_a_mask_that_fills_a_box_scores_as_the_box():
  rng = np.random.default_rng(0)
  for _ in range(5):
    heatmap = rng.normal(size=(8, 8))
    lesion = overlap.box_mask(BOX, (8, 8))
    np.testing.assert_allclose(
      scoring.map_scores(heatmap, lesion), scoring.map_scores(heatmap, BOX)
    )
    np.testing.assert_allclose(
      scoring.mask_scores(heatmap > 0, lesion),
      scoring.mask_scores(heatmap > 0, BOX),
    )
    for tolerance in (0, 1 / 8, 1 / 4):
      np.testing.assert_array_equal(
        scoring.true_pixels(lesion, (8, 8), tolerance=tolerance),
        scoring.true_pixels(BOX, (8, 8), tolerance=tolerance),
      )


def test_a_film_with_a_mask_has_scores_of_both():
  heatmap = np.zeros((4, 4))
  heatmap[:2, :2] = heatmap[3, 0] = 1.0
  lesion = np.zeros((4, 4), bool)
  lesion[0, :2] = lesion[1, 0] = lesion[0:, 3] = True  # 3 and 4 pixels
  line = [0.0, 0.75, 1, 1]
  truth = np.array([[CORNER, line], [CORNER, [np.nan] * 4]])
  scored = scoring.score_finding(
    [heatmap] * 2, truth, np.arange(2), masks={0: lesion}
  )['wang']
  assert scored.index.tolist() == [0, 0, 1]
  assert scored.masked.tolist() == [True, True, False]
  # Each part's box once, against the predicted boxes.
  assert scored.column('iou').tolist() == [1, 0, 1]
  # The five highest pixels, of which 3 lie in the mask and 4 in the box.
  assert scored.column('pointing').tolist() == [3 / 5, 3 / 5, 4 / 5]
  assert scored.column('energy').tolist() == [3 / 5, 3 / 5, 4 / 5]
  assert scored.column('ior').tolist() == [3 / 5, 3 / 5, 4 / 5]
  assert scored.column('mask_iou').tolist() == [3 / 9, 3 / 9, 4 / 5]
