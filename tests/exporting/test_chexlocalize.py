"""CheXlocalize files and scores, against what that tool defines."""

import csv
import doctest
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from cxr.exporting import chexlocalize
from cxr.localization import overlap, scoring
from tests.exporting.readers import decode


def test_examples():
  assert doctest.testmod(chexlocalize).failed == 0


def test_run_lengths_of_published_empty_masks():
  # As in CheXlocalize's own sample file.
  assert chexlocalize.rle_encode(np.zeros((2320, 2828), bool)) == {
    'size': [2320, 2828],
    'counts': 'PVWX6',
  }
  mask = decode({'size': [2022, 2021], 'counts': 'nefl3'})
  assert mask.shape == (2022, 2021)
  assert not mask.any()


def test_run_lengths_by_hand():
  # By columns 0 1 | 1 1 | 0 0: runs 1 3 2; the third would follow as is.
  mask = np.array([[0, 1, 0], [1, 1, 0]], bool)
  assert chexlocalize.rle_encode(mask) == {'size': [2, 3], 'counts': '132'}
  # Runs 0 1 1 1 1 1: from the fourth on, differences to the run two before.
  assert (
    chexlocalize.rle_encode(np.array([[1, 0, 1, 0, 1]], bool))['counts']
    == '011000'
  )


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
@settings(max_examples=60, deadline=None)
def test_run_lengths_come_back(mask):
  encoded = chexlocalize.rle_encode(mask)
  np.testing.assert_array_equal(decode(encoded), mask)


@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # its own
def test_run_lengths_equal_pycocotools():
  oracle = pytest.importorskip(
    'pycocotools.mask', reason='pycocotools is not installed'
  )
  rng = np.random.default_rng(0)
  for _ in range(20):
    shape = rng.integers(1, 90, 2)
    mask = rng.random(shape) < rng.random()
    encoded = oracle.encode(np.asfortranarray(mask, np.uint8))
    ours = chexlocalize.rle_encode(mask)
    assert ours['counts'] == encoded['counts'].decode()
    np.testing.assert_array_equal(oracle.decode(ours), mask)


def _their_iou(predicted, truth, true_pos_only):
  """The rule of calculate_iou in CheXlocalize's eval.py, written anew."""
  pixels = truth.sum(), predicted.sum()
  if (min(pixels) if true_pos_only else max(pixels)) == 0:
    return math.nan
  return np.logical_and(predicted, truth).sum() / (predicted | truth).sum()


def _their_hit(truth, heatmap):
  row, column = np.unravel_index(np.argmax(heatmap), heatmap.shape)
  return math.nan if truth.sum() == 0 else float(truth[row, column])


@pytest.mark.parametrize('true_pos_only', [False, True])
def test_iou_and_hit_rate_as_chexlocalize_counts_them(true_pos_only):
  rng = np.random.default_rng(0)
  heatmaps = rng.normal(size=(12, 9, 7))
  truths = rng.random((12, 9, 7)) < rng.random((12, 1, 1))
  truths[0] = False
  predicted = heatmaps > 0.5
  predicted[:3] = False
  for truth, mask, heatmap in zip(truths, predicted, heatmaps, strict=True):
    np.testing.assert_equal(
      chexlocalize.iou(truth, mask, true_pos_only=true_pos_only),
      _their_iou(mask, truth, true_pos_only),
    )
    np.testing.assert_equal(
      chexlocalize.hit(truth, heatmap), _their_hit(truth, heatmap)
    )
  assert chexlocalize.iou(truths[1], None, true_pos_only=False) == 0
  # A mask on a film without the finding.
  assert chexlocalize.iou(truths[0], truths[1], true_pos_only=False) == 0


def test_their_scores_of_a_box_s_mask_are_ours():
  heatmap = np.random.default_rng(0).normal(size=(16, 16))
  box = np.array([0.25, 0.125, 0.75, 0.5])  # on the pixel grid
  truth = overlap.box_mask(box, heatmap.shape)
  mask = heatmap > 0
  assert chexlocalize.iou(truth, mask) == pytest.approx(
    scoring.mask_scores(mask, box)[1]
  )
  assert chexlocalize.hit(truth, heatmap) == scoring.pointing(heatmap, box)


def test_segmentation_files_have_what_the_evaluation_asks_for(tmp_path):
  path = str(tmp_path / 'masks.json')
  rng = np.random.default_rng(0)
  masks = {
    'film': {
      'Effusion': rng.random((6, 5)) < 0.5,
      'Mass': np.ones((6, 5), bool),
    }
  }
  chexlocalize.write_segmentations(path, masks)
  content = json.loads((tmp_path / 'masks.json').read_text())
  assert set(content['film']) == {*chexlocalize.TASKS, 'Mass'}
  assert all(task['size'] == [6, 5] for task in content['film'].values())
  np.testing.assert_array_equal(
    decode(content['film']['Pleural Effusion']), masks['film']['Effusion']
  )
  assert not decode(content['film']['Edema']).any()
  with pytest.raises(ValueError, match='0 sizes'):
    chexlocalize.write_segmentations(path, {'film': {}})


def test_results_are_a_column_a_finding(tmp_path):
  path = str(tmp_path / 'miou_results.csv')
  score = np.array([[0.25, np.nan], [1 / 3, 1.0]])
  chexlocalize.write_results(path, ['a', '=b'], ['Edema', 'Mass'], score)
  with open(path, newline='') as f:
    rows = list(csv.reader(f))
  assert rows[0] == ['Edema', 'Mass', 'img_id']
  assert rows[1] == ['0.25', '', 'a']
  assert rows[2][-1] == "'=b"
