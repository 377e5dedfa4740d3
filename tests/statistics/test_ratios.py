"""Ratios and means: known standard errors, undefined rows, runs in pairs."""

import numpy as np
import pytest

from cxr.statistics import bootstrap, ratios


def _means(values):
  """Ratios whose one statistic is the mean of each column."""
  defined = ~np.isnan(values)
  return ratios.Ratios(
    np.where(defined, values, 0.0)[:, None],
    defined.astype(float)[:, None],
    tuple('abc'[: values.shape[1]]),
    ('linear',),
  )


def _samples(values, patient, **options):
  """'r c': the mean of each column, in every resample."""
  (sampled,) = ratios.sample(_means(values), patient, **options)
  return sampled.samples[:, 1:]


def test_the_bootstrap_of_a_mean_has_the_known_standard_error():
  values = np.random.default_rng(0).normal(size=(400, 1))
  samples = _samples(values, np.arange(400))
  assert samples.std() == pytest.approx(values.std() / 20, rel=0.08)


def test_films_of_one_patient_stay_together():
  # 40 patients with 10 equal films each: as uncertain as 40 films.
  values = np.repeat(np.random.default_rng(0).normal(size=40), 10)[:, None]
  clustered = _samples(values, np.repeat(np.arange(40), 10)).std()
  as_if_independent = _samples(values, np.arange(400)).std()
  assert clustered / as_if_independent == pytest.approx(np.sqrt(10), rel=0.15)


def test_rows_without_a_value_do_not_count():
  values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
  samples = _samples(values, np.array([0, 0, 0]), num_resamples=3)
  np.testing.assert_array_equal(samples[:, 0], 2.0)
  assert np.isnan(samples[:, 1]).all()


def test_a_ratio_divides_sums_and_does_not_average_quotients():
  above, below = np.array([[1.0], [6.0]]), np.array([[1.0], [2.0]])
  statistic = ratios.make_ratio(above, below, np.array([0, 1]), 2)
  assert bootstrap.observed(statistic, 2)[0] == pytest.approx(7 / 3)
  weight = np.array([[2.0, 0], [0, 2]])
  np.testing.assert_allclose(statistic(weight)[:, 0], [1, 3])


def test_runs_are_compared_on_the_same_patients():
  rng = np.random.default_rng(0)
  first = rng.normal(size=(50, 2))
  counts = [[{'images': 50, 'patients': 25}] * 3]
  (entry,) = ratios.compare(
    [_means(first), _means(first + 1), _means(first)],
    np.arange(50) // 2,
    counts,
    num_resamples=99,
  )
  assert list(entry) == ['mean', 'a', 'b']
  up, same = entry['b']['differences']
  # Every patient gains just 1: no resample says otherwise.
  for key in ('value', 'low', 'high'):
    assert up[key] == pytest.approx(1)
    assert same[key] == 0
  assert up['p'] == pytest.approx(0.01)
  assert same['p'] == 1
  assert entry['b']['difference'] == up
  assert entry['mean']['difference']['p_holm'] is None
  (alone,) = ratios.estimates(
    _means(first), np.arange(50) // 2, counts, num_resamples=99
  )
  assert entry['a']['runs'][0] == alone['a']
