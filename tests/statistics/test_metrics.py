"""Classification figures against scikit-learn and hand counts."""

import math

import numpy as np
import pytest

from cxr.statistics import metrics


def _data(seed=0, n=200, k=4, levels=12):
  rng = np.random.default_rng(seed)
  label = (rng.random((n, k)) < 0.3).astype(np.float32)
  score = np.round(rng.normal(size=(n, k)) + label, 1)  # many ties
  label[rng.random((n, k)) < 0.1] = np.nan
  return score, label


@pytest.mark.parametrize('name', ['auroc', 'average_precision'])
def test_against_scikit_learn_with_ties_and_unknown_labels(name):
  from sklearn import metrics as oracle

  score, label = _data()
  function = {
    'auroc': oracle.roc_auc_score,
    'average_precision': oracle.average_precision_score,
  }[name]
  expected = []
  for k in range(label.shape[1]):
    known = ~np.isnan(label[:, k])
    expected.append(function(label[known, k], score[known, k]))
  actual = getattr(metrics, name)(score, label)
  np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_auroc_of_known_rankings():
  label = np.array([[0, 0, 1], [0, 0, 1], [1, 1, 0], [1, 1, 0]], float)
  score = np.array([[1.0, 5, 1], [2, 5, 2], [3, 5, 3], [4, 5, 4]])
  np.testing.assert_array_equal(metrics.auroc(score, label), [1.0, 0.5, 0.0])


def test_average_precision_by_hand():
  # Ranked: positive, negative, positive: (1 + 2/3) / 2.
  score, label = np.array([[3.0], [2], [1]]), np.array([[1.0], [0], [1]])
  assert metrics.average_precision(score, label)[0] == pytest.approx(5 / 6)


@pytest.mark.parametrize(
  'function',
  [
    metrics.auroc,
    metrics.average_precision,
    metrics.operating_threshold,
    metrics.brier,
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


def test_auroc_only_knows_ranks():
  score, label = _data()
  np.testing.assert_array_equal(
    metrics.auroc(score, label), metrics.auroc(np.exp(3 * score), label)
  )


def test_infinite_scores_rank_and_nan_scores_are_refused():
  label = np.array([[0.0], [1], [1]])
  assert metrics.auroc(np.array([[-np.inf], [0], [np.inf]]), label) == 1
  with pytest.raises(ValueError, match='1 of 3 scores are NaN'):
    metrics.auroc(np.array([[np.nan], [0], [1]]), label)
  with pytest.raises(ValueError, match='one shape'):
    metrics.known(np.zeros(3), np.zeros(3))
  with pytest.raises(ValueError, match='0, 1 or NaN'):
    metrics.auroc(np.zeros((3, 1)), label * 2)


def test_roc_curve_against_scikit_learn():
  from sklearn import metrics as oracle

  score, label = (column[:, 0] for column in _data())
  score, label = score[~np.isnan(label)], label[~np.isnan(label)]
  expected = oracle.roc_curve(label, score, drop_intermediate=False)
  for a, b in zip(metrics.roc_curve(score, label), expected, strict=True):
    np.testing.assert_allclose(a, b)


def test_operating_points_and_what_they_give():
  score = np.array([[0.9], [0.8], [0.7], [0.6], [0.5], [0.4]])
  label = np.array([[1.0], [1], [0], [1], [0], [0]])
  # Youden: 2/3 at .8, 2/3 at .6; the higher threshold is taken.
  threshold = metrics.operating_threshold(score, label)
  assert threshold[0] == 0.8
  result = metrics.confusion(score, label, threshold)
  assert result['sensitivity'][0] == pytest.approx(2 / 3)
  assert result['specificity'][0] == 1
  assert result['positive_predictive_value'][0] == 1
  assert result['negative_predictive_value'][0] == pytest.approx(3 / 4)
  sensitive = metrics.operating_threshold(score, label, sensitivity=1.0)
  assert sensitive[0] == 0.6
  result = metrics.confusion(score, label, sensitive)
  assert result['specificity'][0] == pytest.approx(2 / 3)
  with pytest.raises(ValueError, match='1.5'):
    metrics.operating_threshold(score, label, sensitivity=1.5)


def test_confusion_without_a_kind_or_a_threshold():
  label = np.array([[0.0, np.nan], [0, np.nan]])
  result = metrics.confusion(np.zeros((2, 2)), label, np.array([1.0, np.nan]))
  assert math.isnan(result['sensitivity'][0])
  assert result['specificity'][0] == 1
  assert all(math.isnan(value[1]) for value in result.values())


def test_brier_and_calibration_error_by_hand():
  probability = np.array([[0.1], [0.1], [0.9], [0.9]])
  label = np.array([[0.0], [1], [1], [1]])
  assert metrics.brier(probability, label)[0] == pytest.approx(
    (0.01 + 0.81 + 0.01 + 0.01) / 4
  )
  # Bins at .1 (says .1, is .5) and .9 (says .9, is 1): .4 / 2 + .1 / 2.
  assert metrics.calibration_error(probability, label)[0] == pytest.approx(0.25)
  assert metrics.calibration_error(label, label)[0] == 0
