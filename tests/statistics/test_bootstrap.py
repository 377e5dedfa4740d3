"""Resampling of patients: known errors, an independent formula."""

import numpy as np
import pytest

from cxr.statistics import bootstrap, rankings
from tests.statistics import made_films


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
