"""Calibration and operating points against known odds and brute force."""

import json

import numpy as np
import pytest
from scipy import special

from cxr.statistics import calibration, metrics


def drawn(rng, shape, *, temperature, bias):
  """Logits whose true probability is sigmoid(logit / temperature + bias)."""
  logit = rng.normal(0, 2, shape) * temperature
  probability = special.expit(logit / temperature + bias)
  return logit, (rng.random(shape) < probability).astype(np.float32)


def test_recovers_the_scale_and_the_shift_of_the_logits():
  temperature, bias = np.array([3.0, 0.5, 1.0]), np.array([0.0, -1.0, -3.0])
  logit, label = drawn(
    np.random.default_rng(0), (20000, 3), temperature=temperature, bias=bias
  )
  fitted = calibration.fit(logit, label)
  np.testing.assert_allclose(fitted['temperature'], temperature, rtol=0.08)
  np.testing.assert_allclose(fitted['bias'], bias, atol=0.1)
  raw, calibrated = special.expit(logit), calibration.probability(logit, fitted)
  error = metrics.calibration_error(calibrated, label)
  assert (error < 0.02).all()
  assert (error < metrics.calibration_error(raw, label)).all()
  # The condition of a bias at its optimum: no excess on the whole.
  np.testing.assert_allclose(calibrated.mean(0), label.mean(0), atol=1e-3)


def test_odds_of_a_loss_that_weights_positives_are_taken_back():
  """A weight w of positives multiplies the odds by w: a bias of -log w."""
  logit, label = drawn(
    np.random.default_rng(1), (20000, 1), temperature=1.0, bias=0.0
  )
  fitted = calibration.fit(logit + np.log(20), label)
  assert fitted['bias'][0] == pytest.approx(-np.log(20), abs=0.1)
  assert fitted['temperature'][0] == pytest.approx(1, rel=0.05)


def test_the_operating_point_has_the_largest_youden_index():
  logit, label = drawn(
    np.random.default_rng(2), (60, 2), temperature=1.0, bias=-0.5
  )
  fitted = calibration.fit(logit, label)
  for k in range(2):
    youden = [
      (logit[label[:, k] == 1, k] >= t).mean()
      - (logit[label[:, k] == 0, k] >= t).mean()
      for t in logit[:, k]
    ]
    best = logit[np.argmax(youden), k]
    assert fitted['threshold'][k] == pytest.approx(best)
  called = calibration.called(logit, fitted)
  np.testing.assert_array_equal(called, logit >= fitted['threshold'])


def test_a_film_on_the_operating_point_is_called_in_float32_too():
  logit = np.float32([[0.1], [1 / 3], [-2.0]])
  fitted = calibration.fit(logit, np.array([[0.0], [1], [0]]))
  assert calibration.called(logit, fitted)[:, 0].tolist() == [
    False,
    True,
    False,
  ]
  stored = json.loads(
    json.dumps(calibration.to_json(fitted, np.array([[0.0], [1], [0]]), ['a']))
  )
  again = calibration.from_json(stored, ['a'])
  assert calibration.called(logit, again)[1, 0]


def test_few_films_that_are_apart_do_not_sharpen_without_end():
  logit = np.array([[-1.0], [-2], [-3], [1.0]])
  label = np.array([[0.0], [0], [0], [1]])
  calibrated = calibration.probability(logit, calibration.fit(logit, label))
  # Laplace: one positive film of one, no positive film of three.
  assert 0.5 < calibrated[3, 0] < 0.9
  assert (calibrated[:3, 0] > 0.02).all()


def test_logits_in_a_narrow_band_far_from_zero():
  logit, label = drawn(
    np.random.default_rng(4), (20000, 1), temperature=0.01, bias=-1.0
  )
  fitted = calibration.fit(logit - 50, label)
  np.testing.assert_allclose(
    calibration.probability(logit - 50, fitted),
    special.expit(logit / 0.01 - 1),
    atol=0.03,
  )


def test_a_model_that_ranks_backwards_says_the_prevalence():
  logit = np.linspace(-3, 3, 40)[:, None]
  label = (logit < -1).astype(float)
  fitted = calibration.fit(logit, label)
  assert fitted['temperature'][0] == pytest.approx(calibration.TEMPERATURES[1])
  calibrated = calibration.probability(logit, fitted)
  np.testing.assert_allclose(calibrated, label.mean(), atol=0.05)


def test_findings_of_one_kind_have_a_row_that_says_so():
  logit = np.array([[0.0, 1, 2, 3], [1, 2, 3, -1], [5, 5, 5, 5]])
  label = np.array([[0.0, 1, np.nan, 1], [0, 1, np.nan, 0], [0, 1, 1, 1]])
  fitted = calibration.fit(logit, label)
  for values in fitted.values():
    assert np.isnan(values[:3]).all() and np.isfinite(values[3])
  assert not calibration.called(logit, fitted)[:, :3].any()
  assert np.isnan(calibration.probability(logit, fitted)[:, :3]).all()
  rows = calibration.to_json(fitted, label, ('a', 'b', 'c', 'd'))
  assert rows['a'] == {
    'temperature': None,
    'bias': None,
    'threshold': None,
    'probability_at_threshold': None,
    'positives': 0,
    'negatives': 3,
    'why': '0 positive and 3 negative films: needs both',
  }
  assert 'why' not in rows['d']
  again = calibration.from_json(json.loads(json.dumps(rows)), ('d', 'a'))
  for field, values in again.items():
    np.testing.assert_array_equal(values, fitted[field][[3, 0]])


def test_confident_mistakes_and_nan_logits():
  logit, label = drawn(
    np.random.default_rng(3), (100, 1), temperature=1.0, bias=0.0
  )
  fitted = calibration.fit(1e4 * logit, label)
  assert all(np.isfinite(values).all() for values in fitted.values())
  assert np.isfinite(calibration.probability(1e4 * logit, fitted)).all()
  with pytest.raises(ValueError, match='1 of 100 scores are NaN'):
    calibration.fit(
      np.where(np.arange(100)[:, None] == 3, np.nan, logit), label
    )
