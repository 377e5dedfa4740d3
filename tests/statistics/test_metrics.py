"""What scores say of labels: scikit-learn and hand counts."""

import numpy as np
import pytest

from cxr.statistics import metrics
from tests.statistics import made_films


@pytest.mark.parametrize(
  'function',
  [
    metrics.operating_threshold,
    metrics.calibration_error,
  ],
)
def test_one_kind_only_is_nan(function):
  label = np.array([[0.0, 1, np.nan, 0], [0, 1, np.nan, 1]])
  score = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]])
  result = function(score, label)
  assert np.isnan(result[:3]).all()
  assert np.isfinite(result[3])
  assert np.isnan(function(np.zeros((0, 2)), np.zeros((0, 2)))).all()


def test_scores_and_labels_that_cannot_be_used_are_refused():
  label = np.array([[0.0], [1], [1]])
  with pytest.raises(ValueError, match='1 of 3 scores are NaN'):
    metrics.known(np.array([[np.nan], [0], [1]]), label)
  with pytest.raises(ValueError, match='one shape'):
    metrics.known(np.zeros(3), np.zeros(3))
  with pytest.raises(ValueError, match='0, 1 or NaN'):
    metrics.known(np.zeros((3, 1)), label * 2)


def test_roc_curve_against_scikit_learn():
  from sklearn import metrics as oracle

  score, label, _ = made_films.films(n=200, k=1)
  score, label = score[~np.isnan(label)], label[~np.isnan(label)]
  expected = oracle.roc_curve(label, score, drop_intermediate=False)
  for a, b in zip(metrics.roc_curve(score, label), expected, strict=True):
    np.testing.assert_allclose(a, b)


def test_of_equal_youden_indices_the_higher_threshold_is_taken():
  score = np.array([[0.9], [0.8], [0.7], [0.6], [0.5], [0.4]])
  label = np.array([[1.0], [1], [0], [1], [0], [0]])
  # 2/3 at .8 and at .6.
  assert metrics.operating_threshold(score, label)[0] == 0.8


def test_calibration_error_by_hand():
  probability = np.array([[0.1], [0.1], [0.9], [0.9]])
  label = np.array([[0.0], [1], [1], [1]])
  # Bins at .1 (says .1, is .5) and .9 (says .9, is 1): .4 / 2 + .1 / 2.
  assert metrics.calibration_error(probability, label)[0] == pytest.approx(0.25)
  assert metrics.calibration_error(label, label)[0] == 0
