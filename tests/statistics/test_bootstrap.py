"""Resampling of patients and intervals: known errors, simulation."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from cxr.statistics import bootstrap, rankings
from tests.statistics import made_films


def test_one_positive_patient_has_a_value_but_no_interval():
  label = np.zeros((20, 1))
  label[3] = 1
  score = np.arange(20.0)[:, None]
  samples = made_films.resampled(
    rankings.make_auroc, score, label, np.arange(20)
  )[:, 0]
  assert 0.3 < np.isnan(samples).mean() < 0.42  # (1 - 1/20)^20 = .36
  estimate = bootstrap.estimate(3 / 19, samples, images=20, patients=20)
  assert estimate['value'] == 3 / 19
  assert estimate['low'] is None
  assert estimate['high'] is None
  assert 'no interval' in estimate['why']


def test_an_undefined_value_says_why():
  estimate = bootstrap.estimate(
    float('nan'), np.full(9, np.nan), images=4, patients=2, why='no positive'
  )
  assert estimate == {
    'value': None, 'low': None, 'high': None, 'images': 4, 'patients': 2,
    'why': 'no positive',
  }  # fmt: skip


def test_resamples_draw_patients_and_depend_on_the_seed_alone(monkeypatch):
  whole = np.concatenate(
    list(bootstrap.resample_weights(7, num_resamples=50, seed=3)), axis=1
  )
  assert whole.shape == (7, 50)
  np.testing.assert_array_equal(whole.sum(axis=0), 7)
  monkeypatch.setattr(bootstrap, 'CHUNK', 13)
  again = np.concatenate(
    list(bootstrap.resample_weights(7, num_resamples=50, seed=3)), axis=1
  )
  np.testing.assert_array_equal(whole, again)
  other = next(bootstrap.resample_weights(7, num_resamples=50, seed=4))
  assert not np.array_equal(whole[:, :13], other)


def test_resampled_counts_are_multinomial():
  weight = np.concatenate(list(bootstrap.resample_weights(10)), axis=1)
  assert weight.mean() == pytest.approx(1.0)
  assert weight.var() == pytest.approx(0.9, abs=0.02)


def test_the_mean_over_findings_is_taken_inside_each_resample():
  score, label, patient = made_films.films(n=40, patients=5)
  label[:, 2] = 0  # never defined
  index, num_patients = bootstrap.index_patients(patient)
  statistic = bootstrap.with_mean(
    rankings.make_auroc(score, label, index, num_patients)
  )
  samples = bootstrap.resample(statistic, num_patients, num_resamples=100)
  expected = np.ma.masked_invalid(samples[:, 1:]).mean(axis=1)
  np.testing.assert_allclose(samples[:, 0], expected)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
  rng = np.random.default_rng(0)
  truth = scipy_stats.norm.cdf(1 / np.sqrt(2))  # AUROC of N(1,1) over N(0,1)
  covered = 0
  for seed in range(150):
    label = np.repeat([0.0, 1.0], 40)[:, None]
    score = rng.normal(size=(80, 1)) + label
    samples = made_films.resampled(
      rankings.make_auroc,
      score,
      label,
      np.arange(80),
      num_resamples=300,
      seed=seed,
    )
    low, high = bootstrap.interval(samples[:, 0])
    covered += low <= truth <= high
  assert 0.88 <= covered / 150 <= 0.99


def test_the_bootstrap_agrees_with_delong_where_films_are_patients():
  """DeLong, DeLong and Clarke-Pearson 1988, by all pairs of films."""
  rng = np.random.default_rng(0)
  label = (rng.random((500, 1)) < 0.3).astype(float)
  score = rng.normal(size=(500, 1)) + label
  wins = score[label == 1][:, None] > score[label == 0]
  variance = sum(
    np.var(wins.mean(axis=axis), ddof=1) / wins.shape[1 - axis]
    for axis in (0, 1)
  )
  samples = made_films.resampled(
    rankings.make_auroc, score, label, np.arange(500)
  )
  assert samples.std() == pytest.approx(np.sqrt(variance), rel=0.08)
