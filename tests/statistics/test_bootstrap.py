"""Resampling and tests against brute force and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from cxr.statistics import bootstrap, metrics

# The aneurysm study of R's pROC (41 poor, then 72 good outcomes) as ranks:
# S100B with ties kept, and the WFNS grade.
S100B = np.fromstring(
  '13 9 19 12 36 42 40 3 29 7 3 34 32 39 42 24 42 42 42 3 42 26 0 7 22 42 24 '
  '42 5 24 13 9 11 22 42 15 42 27 42 42 36 13 15 9 1 37 21 9 9 1 5 1 7 11 3 21 '
  '3 11 13 21 1 19 15 31 7 41 37 19 3 35 37 11 5 7 5 1 13 9 15 17 1 1 7 1 7 5 '
  '19 7 5 29 11 25 3 9 27 3 1 23 33 9 17 5 15 9 3 1 21 17 37 21 17 41 39',
  sep=' ',
)
WFNS = np.array(
  list(
    '32455552521254425552525245441442255225555111151221221112121134141551124'
    '112212122111121211324214115422111312244111'
  ),
  float,
)
POOR = np.repeat([1.0, 0.0], [41, 72])


def _data(seed=0, n=60, k=3, patients=15):
  rng = np.random.default_rng(seed)
  label = (rng.random((n, k)) < 0.3).astype(float)
  score = np.round(rng.normal(size=(n, k)) + label, 1)
  label[rng.random((n, k)) < 0.1] = np.nan
  return score, label, rng.integers(100, 100 + patients, n)


def _brute_force(function, score, label, patient, weight):
  """Repeats each film as often as its patient was drawn."""
  unit, _ = bootstrap.units(patient)
  films = np.repeat(np.arange(len(unit)), weight[unit].astype(int))
  return function(score[films], label[films])


@pytest.mark.parametrize(
  ('make', 'function'),
  [
    (bootstrap.make_auroc, metrics.auroc),
    (bootstrap.make_average_precision, metrics.average_precision),
  ],
)
@pytest.mark.parametrize('seed', range(3))
def test_weighted_rankings_equal_repeated_films(make, function, seed):
  score, label, patient = _data(seed)
  unit, num_units = bootstrap.units(patient)
  statistic = make(score, label, unit, num_units)
  weight = next(
    bootstrap.resample_weights(num_units, num_resamples=20, seed=seed)
  )
  expected = [
    _brute_force(function, score, label, patient, w) for w in weight.T
  ]
  np.testing.assert_allclose(statistic(weight), expected, rtol=1e-13)
  np.testing.assert_allclose(
    bootstrap.value(statistic, num_units), function(score, label), rtol=1e-13
  )


@given(
  st.lists(
    st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), max_size=14
  )
)
@settings(max_examples=80, deadline=None)
def test_weighted_rankings_equal_repeated_films_whatever_the_ties(rows):
  score, label, unit = (
    np.array([row[i] for row in rows], float) for i in range(3)
  )
  score, label, unit = score[:, None], label[:, None], unit.astype(int)
  for make, function in (
    (bootstrap.make_auroc, metrics.auroc),
    (bootstrap.make_average_precision, metrics.average_precision),
  ):
    weight = np.array([[1.0, 0], [1, 2], [1, 1], [1, 3]])
    films = np.repeat(np.arange(len(unit)), weight[unit, 1].astype(int))
    np.testing.assert_allclose(
      make(score, label, unit, 4)(weight)[:, 0],
      [function(score, label)[0], function(score[films], label[films])[0]],
      rtol=1e-12,
    )


def test_one_kind_only_is_nan_in_every_resample():
  score, label = np.zeros((4, 3)), np.array([[0, 1, np.nan]] * 4, float)
  for samples in (
    bootstrap.bootstrap_auroc(score, label, np.arange(4), num_resamples=5),
    bootstrap.bootstrap_average_precision(
      score, label, np.arange(4), num_resamples=5
    ),
  ):
    assert samples.shape == (5, 3)
    assert np.isnan(samples).all()


def test_one_positive_patient_has_a_value_but_no_interval():
  label = np.zeros((20, 1))
  label[3] = 1
  score = np.arange(20.0)[:, None]
  samples = bootstrap.bootstrap_auroc(score, label, np.arange(20))[:, 0]
  assert 0.3 < np.isnan(samples).mean() < 0.42  # (1 - 1/20)^20 = .36
  figure = bootstrap.figure(3 / 19, samples, images=20, patients=20)
  assert figure['value'] == 3 / 19
  assert figure['low'] is None
  assert figure['high'] is None
  assert 'no interval' in figure['why']


def test_an_undefined_figure_says_why():
  figure = bootstrap.figure(
    float('nan'), np.full(9, np.nan), images=4, patients=2, why='no positive'
  )
  assert figure == {
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


def test_bootstrap_of_a_mean_has_the_known_standard_error():
  rng = np.random.default_rng(0)
  values = rng.normal(size=(400, 1))
  samples = bootstrap.bootstrap_mean(values, np.arange(400))
  assert samples.std() == pytest.approx(values.std() / 20, rel=0.08)


def test_films_of_one_patient_stay_together():
  # 40 patients with 10 equal films each: as uncertain as 40 films.
  rng = np.random.default_rng(0)
  values = np.repeat(rng.normal(size=40), 10)[:, None]
  patient = np.repeat(np.arange(40), 10)
  clustered = bootstrap.bootstrap_mean(values, patient).std()
  naive = bootstrap.bootstrap_mean(values, np.arange(400)).std()
  assert clustered / naive == pytest.approx(np.sqrt(10), rel=0.15)


def test_means_skip_undefined_rows_and_ratios_divide_sums():
  values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
  samples = bootstrap.bootstrap_mean(
    values, np.array([0, 0, 0]), num_resamples=3
  )
  np.testing.assert_array_equal(samples[:, 0], 2.0)
  assert np.isnan(samples[:, 1]).all()
  ratio = bootstrap.bootstrap_ratio(
    np.array([[2.0], [4.0]]), np.array([[1.0], [2.0]]), np.array([0, 1])
  )
  np.testing.assert_allclose(ratio, 2.0)


def test_the_mean_over_findings_is_taken_inside_each_resample():
  score, label, patient = _data(n=40, patients=5)
  label[:, 2] = 0  # never defined
  unit, num_units = bootstrap.units(patient)
  statistic = bootstrap.with_mean(
    bootstrap.make_auroc(score, label, unit, num_units)
  )
  samples = bootstrap.bootstrap(statistic, num_units, num_resamples=100)
  import warnings

  with warnings.catch_warnings():
    warnings.simplefilter('ignore', RuntimeWarning)
    expected = np.nanmean(samples[:, 1:], axis=1)
  np.testing.assert_allclose(samples[:, 0], expected)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
  rng = np.random.default_rng(0)
  truth = scipy_stats.norm.cdf(1 / np.sqrt(2))  # AUROC of N(1,1) over N(0,1)
  covered = 0
  for seed in range(150):
    label = np.repeat([0.0, 1.0], 40)[:, None]
    score = rng.normal(size=(80, 1)) + label
    samples = bootstrap.bootstrap_auroc(
      score, label, np.arange(80), num_resamples=300, seed=seed
    )
    low, high = bootstrap.interval(samples[:, 0])
    covered += low <= truth <= high
  assert 0.88 <= covered / 150 <= 0.99


# Two runs.


def _compare(
  first, second, label, patient, make=bootstrap.make_auroc, **options
):
  return bootstrap.paired_ranking(
    make, first, second, label, patient, **options
  )


def test_equal_runs_do_not_differ():
  score, label, patient = _data()
  # Another scale of the logits is not another ranking.
  result = _compare(score, 100 * score - 7, label, patient, num_resamples=50)
  np.testing.assert_array_equal(result['difference'], 0)
  np.testing.assert_array_equal(result['difference_samples'], 0)
  np.testing.assert_array_equal(result['p'], 1)


def test_the_interval_of_a_difference_is_paired():
  rng = np.random.default_rng(0)
  label = (rng.random((300, 1)) < 0.5).astype(float)
  first = rng.normal(size=(300, 1)) + label
  second = first + 0.05 * rng.normal(size=(300, 1)) + 0.3 * label
  result = _compare(first, second, label, np.arange(300), num_resamples=300)
  assert result['difference'][0] > 0
  # Nearly the same scores: the difference is known far better than either.
  spread = result['difference_samples'][:, 0].std()
  assert spread < 0.4 * result['first_samples'][:, 0].std()
  assert result['p'][0] == pytest.approx(1 / 301)


def test_swapping_patients_against_brute_force():
  first, label, patient = _data(1, n=24, k=1, patients=4)
  second, _, _ = _data(2, n=24, k=1, patients=4)
  result = _compare(first, second, label, patient, num_resamples=4000)
  unit, num_units = bootstrap.units(patient)
  a, b = bootstrap.ranks(first), bootstrap.ranks(second)
  observed = abs(metrics.auroc(b, label) - metrics.auroc(a, label))[0]
  larger = 0
  for swap in range(2**num_units):
    swapped = (swap >> unit & 1 == 1)[:, None]
    difference = metrics.auroc(np.where(swapped, a, b), label) - metrics.auroc(
      np.where(swapped, b, a), label
    )
    larger += abs(difference[0]) >= observed - 1e-12
  assert result['p'][1] == pytest.approx(larger / 2**num_units, abs=0.03)


@pytest.mark.parametrize(
  'make', [bootstrap.make_auroc, bootstrap.make_average_precision]
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
    p.append(result['p'][1])
  assert scipy_stats.kstest(p, 'uniform').pvalue > 0.01
  assert np.mean(np.array(p) <= 0.05) <= 0.11


def test_undefined_findings_stay_undefined_in_a_comparison():
  score, label, patient = _data()
  label[:, 1] = 0
  result = _compare(score, score + label, label, patient, num_resamples=20)
  assert np.isnan(result['difference'][2])
  assert np.isnan(result['p'][2])
  assert np.isfinite(result['p'][[0, 1, 3]]).all()


def test_holm_by_hand():
  p = np.array([0.01, 0.04, 0.03, 0.005, np.nan])
  # Sorted .005 .01 .03 .04, times 4 3 2 1, made monotone.
  np.testing.assert_allclose(
    bootstrap.holm(p), [0.03, 0.06, 0.06, 0.02, np.nan]
  )
  np.testing.assert_array_equal(bootstrap.holm(np.array([0.9, 0.8])), [1, 1])
  assert bootstrap.holm(np.array([])).shape == (0,)
  assert np.isnan(bootstrap.holm(np.array([np.nan]))).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_holm_never_lowers_a_p_value_and_keeps_the_order(p):
  p = np.array(p)
  adjusted = bootstrap.holm(p)
  assert (adjusted >= p).all()
  assert (adjusted <= 1).all()
  assert (np.diff(adjusted[np.argsort(p, kind='stable')]) >= 0).all()


# DeLong.


def test_delong_against_r_proc_s_published_example():
  # Figures of pROC's own tests of roc.test(wfns, s100b) and of its manual.
  area, covariance = bootstrap.delong(np.stack([WFNS, S100B], axis=1), POOR)
  np.testing.assert_allclose(area, [0.823678861788618, 0.731368563685637])
  margin = 1.959963984540054 * np.sqrt(covariance[1, 1])
  assert area[1] - margin == pytest.approx(0.6301, abs=5e-5)
  assert area[1] + margin == pytest.approx(0.8326, abs=5e-5)
  test = bootstrap.delong_test(S100B, WFNS, POOR)
  assert test['z'] == pytest.approx(2.20898359144091)
  assert test['p'] == pytest.approx(0.0271757822291882)
  assert test['low'] == pytest.approx(0.0104061769564846)
  assert test['high'] == pytest.approx(0.174214419249478)
  reverse = bootstrap.delong_test(WFNS, S100B, POOR)
  assert reverse['z'] == pytest.approx(-test['z'])
  assert reverse['p'] == pytest.approx(test['p'])


def test_delong_against_brute_force():
  score, label, _ = _data(n=50, k=2)
  label = label[:, 0]
  positive, negative = score[label == 1], score[label == 0]
  wins = (positive[:, None] > negative[None]) + 0.5 * (
    positive[:, None] == negative[None]
  )
  expected = np.cov(wins.mean(axis=1).T) / len(positive) + np.cov(
    wins.mean(axis=0).T
  ) / len(negative)
  area, covariance = bootstrap.delong(score, label)
  np.testing.assert_allclose(area, wins.mean(axis=(0, 1)))
  np.testing.assert_allclose(covariance, expected)


def test_delong_agrees_with_the_bootstrap_where_films_are_patients():
  rng = np.random.default_rng(0)
  label = (rng.random((500, 1)) < 0.3).astype(float)
  score = rng.normal(size=(500, 1)) + label
  _, covariance = bootstrap.delong(score, label[:, 0])
  samples = bootstrap.bootstrap_auroc(score, label, np.arange(500))
  assert samples.std() == pytest.approx(np.sqrt(covariance[0, 0]), rel=0.08)


def test_delong_of_equal_scores_and_of_too_few_films():
  same = bootstrap.delong_test(S100B, 3 * S100B, POOR)
  assert same['difference'] == same['z'] == 0
  assert same['p'] == 1
  one = bootstrap.delong_test(S100B[:4], WFNS[:4], np.array([1.0, 0, 0, 0]))
  assert np.isfinite(one['difference'])
  assert np.isnan(one['p'])
  none = bootstrap.delong_test(S100B[:4], WFNS[:4], np.zeros(4))
  assert np.isnan(none['difference'])
  assert np.isnan(none['p'])
