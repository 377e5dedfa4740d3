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
  sampled = intervals.sample(statistic, num_patients, **options)
  return intervals.over_patients(sampled)


def _degrees(statistic, num_patients):
  left_out = intervals.leave_out(statistic, num_patients)
  return intervals.patient_degrees(left_out, num_patients)


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
  degrees = _degrees(_mean(normal), 300)
  assert np.median(degrees) == pytest.approx(299, rel=0.15)
  # 5 patients of 300 hold all: some 2 * 5.
  rare = np.zeros((300, 1))
  rare[:5] = 1
  degrees = _degrees(_mean(rare), 300)
  assert degrees[0] == pytest.approx(10, rel=0.06)
  # Nobody moves a constant.
  assert np.isnan(_degrees(_mean(0 * rare), 300)[0])


def test_of_many_patients_groups_are_left_out():
  values = np.random.default_rng(0).exponential(size=(4000, 1))
  degrees = _degrees(_mean(values), 4000)
  # 2 m2^2 / (m4 - m2^2) * 500, of sums of 8: m2 = 8, m4 = 3 * 8^2 + 8 * 6.
  assert degrees[0] == pytest.approx(2 * 64 / (240 - 64) * 500, rel=0.3)


def test_no_patient_that_carries_a_value_is_passed_over():
  # 4 of 6,000; of 500 patients drawn alone, none would be among them.
  rare = np.zeros((6000, 1))
  rare[[17, 1000, 2000, 5999]] = 1
  degrees = _degrees(_mean(rare), 6000)
  assert degrees[0] == pytest.approx(8, rel=0.1)


def test_what_the_only_positive_patient_leaves_undefined_is_left_out():
  label = np.zeros((20, 1))
  label[8] = 1
  score = np.arange(20.0)[:, None]
  statistic = rankings.make_auroc(score, label, np.arange(20), 20)
  assert 1 <= _degrees(statistic, 20)[0] <= 19


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


def test_a_correlation_stays_within_its_bounds_as_fisher_s_z():
  spread = intervals.Spread(np.array([0.02**2]), np.array([1e9]))
  low, high = intervals.student_interval(
    np.array([0.98]), spread, num_patients=9, scale='fisher'
  )
  z, margin = np.arctanh(0.98), 1.959964 * 0.02 / (1 - 0.98**2)
  expected = np.tanh([z - margin, z + margin])
  np.testing.assert_allclose([low[0], high[0]], expected, rtol=1e-6)


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
  left_out = np.broadcast_to(rng.normal(size=(100, 1)), (100, m))
  runs = [
    intervals.Sampled(value, value + common[0] + of_run, left_out, 10**6)
    for value, of_run in zip(values, own, strict=True)
  ]
  spread = intervals.over_seeds([runs])
  of_common = common.var()
  assert spread.variance.mean() == pytest.approx(of_common + 10 / k, rel=0.02)
  # Two groups alike on the same patients: what is common cancels.
  other = [
    run._replace(values=value)
    for run, value in zip(runs, values[::-1], strict=True)
  ]
  spread = intervals.over_seeds([runs, other], signs=(-1, 1))
  assert spread.variance.mean() == pytest.approx(2 * 10 / k, rel=0.02)
  # Two times k - 1 = 4 degrees, each known to itself alone.
  assert np.median(spread.degrees) == pytest.approx(8, rel=0.1)


def test_one_run_says_nothing_of_seeds():
  score, label, patient = made_films.films()
  patient, num_patients = bootstrap.index_patients(patient)
  statistic = rankings.make_auroc(score, label, patient, num_patients)
  sampled = intervals.sample(statistic, num_patients, num_resamples=99)
  alone = intervals.over_patients(sampled)
  as_group = intervals.over_seeds([[sampled]])
  np.testing.assert_allclose(as_group.variance, alone.variance)
  np.testing.assert_allclose(as_group.degrees, alone.degrees)


def _estimate(statistic, num_patients, **options):
  sampled = intervals.sample(statistic, num_patients, **options)
  count = {'images': num_patients, 'patients': num_patients, 'why': 'nothing'}
  return intervals.estimates(
    ['it'],
    sampled.values,
    intervals.over_patients(sampled),
    [count],
    scale='logit',
  )['it']


def test_one_positive_patient_has_a_value_but_no_interval():
  label = np.zeros((20, 1))
  label[3] = 1
  score = np.arange(20.0)[:, None]
  # Undefined in (1 - 1/20)^20 = 36 % of the resamples.
  estimate = _estimate(rankings.make_auroc(score, label, np.arange(20), 20), 20)
  assert estimate['value'] == 3 / 19
  assert estimate['low'] is estimate['high'] is None
  assert 'no interval: too few patients' in estimate['why']


def test_one_patient_says_nothing_of_others():
  estimate = _estimate(_mean(np.array([[0.5]])), 1)
  assert (estimate['value'], estimate['low']) == (0.5, None)
  assert estimate['why'].startswith('no interval')


def test_an_undefined_value_says_why():
  estimate = _estimate(_mean(np.full((4, 1), np.nan)), 4)
  assert estimate == {
    'value': None, 'low': None, 'high': None, 'images': 4, 'patients': 4,
    'why': 'nothing',
  }  # fmt: skip


def test_a_perfect_auroc_is_as_sure_as_its_positive_patients_are_many():
  """Of 300 films with 3 positive ones, 297 negative ones prove little."""
  spread = intervals.Spread(np.zeros(1), np.array([np.nan]))
  count = {'images': 300, 'patients': 300, 'carriers': 3}
  estimate = intervals.estimates(
    ['it'], np.ones(1), spread, [count], scale='logit'
  )['it']
  exact = stats.binomtest(3, 3).proportion_ci(method='exact')
  assert estimate['low'] == pytest.approx(exact.low)
  assert 'carriers' not in estimate


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
