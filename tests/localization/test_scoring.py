"""Scores of maps against a true box: hand counts, scikit-learn, odd maps."""

import math

import numpy as np
import pytest

from cxr.localization import overlap, regions, scoring, thresholds

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
  assert scoring.ior(mask, BOX) == pytest.approx(1 / 4)
  assert scoring.mask_iou(mask, BOX) == pytest.approx(1 / 7)
  assert scoring.ior(np.zeros((4, 4), bool), BOX) == 0


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


@pytest.mark.parametrize('name', DEGENERATE)
@pytest.mark.parametrize(
  'rule', [*thresholds.RULES, *thresholds.CROSS_FITTED_RULES]
)
def test_degenerate_maps_have_defined_rows(name, rule):
  heatmap = DEGENERATE[name]
  truth = np.stack([BOX, np.full(4, np.nan), [0.5, 0.5, 0.5, 0.5]])
  with np.errstate(all='raise', under='ignore'):
    rows = scoring.score_finding(
      [heatmap] * 3, truth, np.arange(3), rules=[rule]
    )[rule]
  boxed, without, point = rows
  for score in scoring.SCORES:
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


def test_a_row_scores_the_best_box():
  heatmap = np.zeros((4, 4))
  heatmap[1:3, 1:3], heatmap[0, 0] = 2.0, 1.0
  levels = (0.5, 1.5)
  boxes = regions.levels_to_boxes(heatmap, levels)
  row = scoring.score_map(heatmap, BOX, boxes, level=levels[0])
  assert row['iou'] == row['iobb'] == 1.0
  assert row['ior'] == pytest.approx(4 / 5)
  assert row['mask_iou'] == pytest.approx(4 / 5)
  assert row['energy'] == pytest.approx(8 / 9)
  assert row['pointing'] == 1.0
  assert row['map_auroc'] == 1.0
  assert set(row) == {'truth', 'boxes', *scoring.SCORES}
