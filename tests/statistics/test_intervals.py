"""Student's intervals against textbook formulas and simulation."""

import numpy as np
import pytest
from scipy import stats

from cxr.statistics import bootstrap, intervals, rankings, ratios
from tests.statistics import made_films


def _mean(values):
  """The mean over patients with one film each, of each column."""
  patient = np.arange(len(values))
  return ratios.make_ratio(values, np.ones_like(values), patient, len(values))


def _spread(statistic, num_patients, **options):
  samples = bootstrap.resample(statistic, num_patients, **options)
  degrees = intervals.patient_degrees(statistic, num_patients)
  return intervals.over_patients(samples, degrees, num_patients)


def test_a_mean_gets_the_t_interval_of_the_textbook():
  # Normal quantiles: fourth powers as of a normal distribution, nearly.
  values = stats.norm.ppf((np.arange(40) + 0.5) / 40)[:, None]
  spread = _spread(_mean(values), 40, num_resamples=20000)
  low, high = intervals.student_interval(
    values.mean(axis=0), spread, num_patients=40
  )
  expected = stats.ttest_1samp(values[:, 0], 0).confidence_interval()
  assert low[0] == pytest.approx(expected.low, rel=0.03)
  assert high[0] == pytest.approx(expected.high, rel=0.03)


def test_degrees_are_as_many_as_patients_that_carry_the_value():
  rng = np.random.default_rng(0)
  normal = rng.normal(size=(300, 200))
  degrees = intervals.patient_degrees(_mean(normal), 300)
  assert np.median(degrees) == pytest.approx(299, rel=0.15)
  # 5 patients of 300 hold all: some 2 * 5.
  rare = np.zeros((300, 1))
  rare[:5] = 1
  degrees = intervals.patient_degrees(_mean(rare), 300)
  assert degrees[0] == pytest.approx(10, rel=0.06)
  # Nobody moves a constant.
  assert np.isnan(intervals.patient_degrees(_mean(0 * rare), 300)[0])


def test_degrees_of_many_patients_come_from_some_of_them():
  values = np.random.default_rng(0).exponential(size=(4000, 1))
  some = intervals.patient_degrees(_mean(values), 4000)
  # 2 m2^2 / (m4 - m2^2) * n, with m4 = 9 and m2 = 1.
  assert some[0] == pytest.approx(4000 / 4, rel=0.3)


def test_what_the_only_positive_patient_leaves_undefined_is_left_out():
  label = np.zeros((20, 1))
  label[8] = 1
  score = np.arange(20.0)[:, None]
  statistic = rankings.make_auroc(score, label, np.arange(20), 20)
  assert 1 <= intervals.patient_degrees(statistic, 20)[0] <= 19


def test_the_logit_scale_stays_within_bounds_and_is_the_delta_method():
  spread = intervals.Spread(np.full(3, 0.02**2), np.full(3, 1e9))
  values = np.array([0.5, 0.9, 0.99])
  low, high = intervals.student_interval(
    values, spread, num_patients=9, scale='logit'
  )
  assert (low > 0).all() and (high < 1).all()
  margin = 1.959964 * 0.02 / (0.9 * 0.1)
  odds = 9 * np.exp(margin)
  assert high[1] == pytest.approx(odds / (1 + odds), rel=1e-6)
  assert low[0] + high[0] == pytest.approx(1)
  assert values[2] - low[2] > high[2] - values[2]


def test_the_log_scale_is_symmetric_in_ratios():
  spread = intervals.Spread(np.array([0.25]), np.array([10.0]))
  low, high = intervals.student_interval(
    np.array([2.0]), spread, num_patients=11, scale='log'
  )
  assert low[0] * high[0] == pytest.approx(4)
  assert high[0] == pytest.approx(2 * np.exp(2.228139 * 0.25))
  nothing = intervals.student_interval(
    np.zeros(1), spread, num_patients=11, scale='log'
  )
  assert np.isnan(nothing).all()


def test_no_hit_of_n_has_the_bound_of_clopper_and_pearson():
  spread = _spread(_mean(np.array([[0.0, 1, 0.5]] * 30)), 30, num_resamples=9)
  low, high = intervals.student_interval(
    np.array([0.0, 1.0, np.nan]), spread, num_patients=30, scale='logit'
  )
  exact = stats.binomtest(0, 30).proportion_ci(method='exact')
  assert (low[0], high[0]) == pytest.approx((exact.low, exact.high))
  assert (low[1], high[1]) == pytest.approx((1 - exact.high, 1))
  assert np.isnan([low[2], high[2]]).all()


def test_variances_of_seeds_and_patients_are_added_once():
  """Runs whose common and own parts are known: 4 + (9 + 1) / k."""
  rng = np.random.default_rng(0)
  k, m = 5, 4000
  common = 2 * rng.normal(size=(1, 400, 1))
  own = rng.normal(size=(k, 400, m))
  # A run's value has its own draw of both: of seed (3) and of patients (1).
  values = 10**0.5 * rng.normal(size=(k, m))
  group = intervals.Group(values, values[:, None] + common + own)
  degrees = np.full(m, 99.0)
  spread = intervals.over_seeds([group], degrees, 10**6)
  of_common = common.var()
  assert spread.variance.mean() == pytest.approx(of_common + 10 / k, rel=0.02)
  # Two groups alike on the same patients: what is common cancels.
  other = intervals.Group(values[::-1], group.samples[::-1])
  spread = intervals.over_seeds([group, other], degrees, 10**6, signs=(-1, 1))
  assert spread.variance.mean() == pytest.approx(2 * 10 / k, rel=0.02)
  # Two times k - 1 = 4 degrees, each known to itself alone.
  assert np.median(spread.degrees) == pytest.approx(8, rel=0.1)


def test_one_run_says_nothing_of_seeds():
  score, label, patient = made_films.films()
  patient, num_patients = bootstrap.index_patients(patient)
  statistic = rankings.make_auroc(score, label, patient, num_patients)
  samples = bootstrap.resample(statistic, num_patients, num_resamples=99)
  degrees = intervals.patient_degrees(statistic, num_patients)
  alone = intervals.over_patients(samples, degrees, num_patients)
  group = intervals.Group(
    bootstrap.observed(statistic, num_patients)[None], samples[None]
  )
  as_group = intervals.over_seeds([group], degrees, num_patients)
  np.testing.assert_allclose(as_group.variance, alone.variance)
  np.testing.assert_allclose(as_group.degrees, alone.degrees)


def test_too_many_undefined_resamples_withhold_the_interval():
  label = np.zeros((20, 1))
  label[3] = 1
  statistic = rankings.make_auroc(
    np.arange(20.0)[:, None], label, np.arange(20), 20
  )
  low, high = intervals.student_interval(
    bootstrap.observed(statistic, 20),
    _spread(statistic, 20, num_resamples=200),
    num_patients=20,
    scale='logit',
  )
  assert np.isnan(low).all() and np.isnan(high).all()
  estimate = bootstrap.estimate(
    3 / 19, np.full(9, 0.2), images=20, patients=20, bounds=(low[0], high[0])
  )
  assert estimate['value'] == 3 / 19
  assert estimate['low'] is estimate['high'] is None


@pytest.mark.parametrize('prevalence', [0.1, 0.3])
def test_the_interval_of_an_auroc_covers_as_often_as_it_says(prevalence):
  rng = np.random.default_rng(0)
  truth = stats.norm.cdf(2 / np.sqrt(2))
  label = (rng.random((60, 400)) < prevalence).astype(float)
  score = rng.normal(size=label.shape) + 2 * label
  statistic = rankings.make_auroc(score, label, np.arange(60), 60)
  values = bootstrap.observed(statistic, 60)
  low, high = intervals.student_interval(
    values,
    _spread(statistic, 60, num_resamples=500),
    num_patients=60,
    scale='logit',
  )
  defined = ~np.isnan(low)
  covered = (low <= truth) & (truth <= high)
  # 400 repetitions: 95 % is known to 2.2 points at two deviations.
  assert covered[defined].mean() > 0.92
