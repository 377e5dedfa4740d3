"""Two runs on the same films against brute force and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from cxr.statistics import bootstrap, paired, rankings
from tests.statistics import made_films


def _compare(
  first, second, label, patient, make=rankings.make_auroc, **options
):
  return paired.compare_rankings(make, first, second, label, patient, **options)


def test_equal_runs_do_not_differ():
  score, label, patient = made_films.films()
  # Another scale of the logits is not another ranking.
  result = _compare(score, 100 * score - 7, label, patient, num_resamples=50)
  np.testing.assert_array_equal(result.difference.values, 0)
  np.testing.assert_array_equal(result.difference.samples, 0)
  np.testing.assert_array_equal(result.p, 1)


def test_the_interval_of_a_difference_is_paired():
  rng = np.random.default_rng(0)
  label = (rng.random((300, 1)) < 0.5).astype(float)
  first = rng.normal(size=(300, 1)) + label
  second = first + 0.05 * rng.normal(size=(300, 1)) + 0.3 * label
  result = _compare(first, second, label, np.arange(300), num_resamples=300)
  assert result.difference.values[0] > 0
  # Nearly the same scores: the difference is known far better than either.
  spread = result.difference.samples[:, 0].std()
  assert spread < 0.4 * result.first.samples[:, 0].std()
  assert result.p[0] == pytest.approx(1 / 301)


def test_swapping_patients_against_brute_force():
  first, label, patient = made_films.films(1, n=24, k=1, patients=4)
  second, _, _ = made_films.films(2, n=24, k=1, patients=4)
  result = _compare(first, second, label, patient, num_resamples=4000)
  index, num_patients = bootstrap.index_patients(patient)
  a, b = paired.ranks(first), paired.ranks(second)
  observed = abs(rankings.auroc(b, label) - rankings.auroc(a, label))[0]
  larger = 0
  for swap in range(2**num_patients):
    swapped = (swap >> index & 1 == 1)[:, None]
    difference = rankings.auroc(
      np.where(swapped, a, b), label
    ) - rankings.auroc(np.where(swapped, b, a), label)
    larger += abs(difference[0]) >= observed - 1e-12
  assert result.p[1] == pytest.approx(larger / 2**num_patients, abs=0.03)


@pytest.mark.parametrize(
  'make', [rankings.make_auroc, rankings.make_average_precision]
)
def test_p_is_about_uniform_under_the_null_hypothesis(make):
  rng = np.random.default_rng(0)
  p = []
  for seed in range(120):
    label = np.repeat([0.0, 1.0], 20)[:, None]
    common = rng.normal(size=(40, 1)) + label
    first, second = (common + rng.normal(size=(40, 1)) for _ in range(2))
    patient = np.arange(40) // 2
    result = _compare(
      first, second, label, patient, make, num_resamples=99, seed=seed
    )
    p.append(result.p[1])
  assert scipy_stats.kstest(p, 'uniform').pvalue > 0.01
  assert np.mean(np.array(p) <= 0.05) <= 0.11


def test_undefined_findings_stay_undefined_in_a_comparison():
  score, label, patient = made_films.films()
  label[:, 1] = 0
  result = _compare(score, score + label, label, patient, num_resamples=20)
  assert np.isnan(result.difference.values[2])
  assert np.isnan(result.p[2])
  assert np.isfinite(result.p[[0, 1, 3]]).all()


def test_holm_by_hand():
  p = np.array([0.01, 0.04, 0.03, 0.005, np.nan])
  # Sorted .005 .01 .03 .04, times 4 3 2 1, made monotone.
  np.testing.assert_allclose(paired.holm(p), [0.03, 0.06, 0.06, 0.02, np.nan])
  np.testing.assert_array_equal(paired.holm(np.array([0.9, 0.8])), [1, 1])
  assert paired.holm(np.array([])).shape == (0,)
  assert np.isnan(paired.holm(np.array([np.nan]))).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_holm_never_lowers_a_p_value_and_keeps_the_order(p):
  p = np.array(p)
  adjusted = paired.holm(p)
  assert (adjusted >= p).all()
  assert (adjusted <= 1).all()
  assert (np.diff(adjusted[np.argsort(p, kind='stable')]) >= 0).all()
