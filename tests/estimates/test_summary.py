"""Figures from stored rows: against metrics.py, by subgroup, in any order."""

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from cxr import stored_rows
from cxr.estimates import summary
from cxr.statistics import calibration, metrics, rankings
from input_pipeline.findings import FINDINGS
from tests import made_rows

CONDITION = stored_rows.Condition
FAST = {'num_resamples': 40}


def test_classification_figures_and_their_json(tmp_path):
  clean, other = made_rows.predictions(), made_rows.predictions(1)
  clean.label[:, 13] = 0  # no Hernia
  clean.label[:, 12] = 0
  clean.label[5, 12] = 1  # one Pleural_Thickening
  blocks = {
    CONDITION('test'): clean,
    CONDITION('test_without_shortcut'): clean._replace(logit=other.logit),
    CONDITION('test', 'pgd-10', 2.0): clean._replace(logit=-clean.logit),
    CONDITION('test', 'pgd-10', 0.5): clean,
  }
  workdir = made_rows.written(tmp_path, made_rows.hand_counted(), blocks=blocks)
  result = summary.summarize(workdir, num_resamples=300)
  json.dumps(result, allow_nan=False)
  assert set(result['classification']) == {'test', 'test_without_shortcut'}
  figures = result['classification']['test']['auroc']
  expected = rankings.auroc(clean.logit, clean.label)
  assert list(figures) == ['mean', *FINDINGS]
  for k, finding in enumerate(FINDINGS[:12]):
    figure = figures[finding]
    assert figure['value'] == pytest.approx(expected[k])
    assert figure['low'] <= figure['value'] <= figure['high']
    assert figure['images'] == (~np.isnan(clean.label[:, k])).sum()
  assert figures['mean']['value'] == pytest.approx(np.nanmean(expected))
  assert figures['mean']['patients'] == len(np.unique(clean.patient))
  assert figures['Hernia']['value'] is None
  assert figures['Hernia']['why'].startswith('0 positive and 60 negative')
  one = figures['Pleural_Thickening']
  assert one['value'] is not None
  assert one['low'] is None
  assert 'no interval' in one['why']
  precision = result['classification']['test']['average_precision']
  label = clean.label[:, 4]
  known = ~np.isnan(label)
  assert precision['Mass']['value'] == pytest.approx(
    average_precision_score(*(x[known] for x in (label, clean.logit[:, 4])))
  )
  assert [(r['attack'], r['epsilon']) for r in result['robustness']] == [
    ('pgd-10', 0.5),
    ('pgd-10', 2.0),
  ]
  assert result['robustness'][1]['auroc']['Mass']['value'] == pytest.approx(
    1 - figures['Mass']['value']
  )
  reliance = result['reliance']['test_without_shortcut']['auroc']['Mass']
  assert reliance['value'] == pytest.approx(
    result['classification']['test_without_shortcut']['auroc']['Mass']['value']
    - figures['Mass']['value']
  )
  assert 0 < reliance['p'] <= 1


def test_what_an_attack_did_to_its_films(tmp_path):
  """Every finding alone stands first; it is of the films that were chosen."""
  clean = made_rows.predictions(1)
  attacked = clean._replace(logit=-clean.logit)
  label = clean.label.copy()
  label[30:, :7] = np.nan  # these findings were attacked on half of the films
  label[:, 13] = np.nan
  logit = np.where(np.isnan(label), np.nan, -clean.logit)
  alone = clean._replace(label=label, logit=logit)
  chosen = stored_rows.Predictions(*(column[:40] for column in alone))
  weak = attacked._replace(logit=clean.logit)
  blocks = {
    CONDITION('test'): clean,
    CONDITION('test', 'fgsm', 1.0): weak,
    CONDITION('test', 'pgd-10', 1.0): attacked,
    CONDITION('test', 'pgd-10-alone', 1.0): chosen,
  }
  folder = made_rows.written(tmp_path, [], blocks=blocks)
  result = summary.summarize(folder, **FAST)['robustness']
  json.dumps(result, allow_nan=False)
  assert [r['attack'] for r in result] == ['pgd-10-alone', 'fgsm', 'pgd-10']
  assert [r['aim'] for r in result] == [
    'every finding attacked alone',
    *['all findings attacked at once'] * 2,
  ]
  assert 'average_precision' not in result[0] and 'auroc' in result[0]
  before = np.nanmean(rankings.auroc(clean.logit[:40], chosen.label))
  assert result[0]['clean']['value'] == pytest.approx(before)
  assert result[0]['clean']['images'] == 40
  assert result[0]['auroc']['mean']['value'] == pytest.approx(1 - before)
  change = result[0]['change']
  assert change['value'] == pytest.approx(1 - 2 * before)
  assert change['low'] < change['value'] < change['high']
  assert result[0]['unmoved'] == 0
  assert result[0]['auroc']['Hernia']['value'] is None
  assert result[1]['unmoved'] == 60
  assert [result[1]['change'][k] for k in ('value', 'low', 'high')] == [0] * 3
  # Of an older run there may be no clean films.
  del blocks[CONDITION('test')]
  folder = made_rows.written(tmp_path, [], 'older', blocks=blocks)
  assert 'change' not in summary.summarize(folder, **FAST)['robustness'][0]


def test_calibration_is_fitted_on_validation_and_tried_on_test(tmp_path):
  """Against metrics.py, which takes all films at once and no weights."""
  validation = made_rows.predictions(1, data_seed=1)
  test = made_rows.predictions(2, data_seed=2)
  validation.label[:, 13] = 0  # no positive film: no operating point
  blocks = {CONDITION('validation'): validation, CONDITION('test'): test}
  folder = made_rows.written(tmp_path, [], blocks=blocks)
  result = summary.summarize(folder, **FAST)['calibration']
  fitted = calibration.fit(validation.logit, validation.label)
  stored = result['fitted']
  assert stored['split'] == 'validation' and stored['images'] == 60
  assert stored['findings']['Hernia']['why'].startswith('0 positive')
  np.testing.assert_array_equal(
    calibration.from_json(stored['findings'], FINDINGS)['threshold'],
    fitted['threshold'],
  )
  raw = 1 / (1 + np.exp(-test.logit.astype(float)))
  for name, probability in (
    ('raw', raw),
    ('calibrated', calibration.probability(test.logit, fitted)),
  ):
    error = np.nan_to_num(probability) - test.label
    for figure, values in (
      ('brier', np.nanmean(error**2, axis=0)),
      (
        'calibration_error',
        metrics.calibration_error(np.nan_to_num(probability), test.label),
      ),
    ):
      for k, finding in enumerate(FINDINGS[:13]):
        assert result[name][figure][finding]['value'] == pytest.approx(
          values[k]
        )
      mean = result[name][figure]['mean']
      assert mean['value'] == pytest.approx(values[:13].mean())
      assert result[name][figure]['Hernia']['value'] is None
  called = test.logit[:, 4] >= fitted['threshold'][4]
  for name, kind in (('sensitivity', 1), ('specificity', 0)):
    figure = result['operating_point'][name]['Mass']
    right = called[test.label[:, 4] == kind] == kind
    assert figure['value'] == pytest.approx(right.mean())
    assert figure['low'] <= figure['value'] <= figure['high']
  positive = (test.label[:, 4] == 1).sum()
  assert result['operating_point']['sensitivity']['Mass']['images'] == positive
  json.dumps(result, allow_nan=False)


def test_without_validation_films_there_is_no_calibration(tmp_path):
  folder = made_rows.written(
    tmp_path, [], blocks={CONDITION('test'): made_rows.predictions()}
  )
  assert summary.summarize(folder, **FAST)['calibration'] == {}


def test_subgroups_hold_their_own_films(tmp_path):
  block = made_rows.predictions()
  result = summary.summarize(
    made_rows.written(tmp_path, [], blocks={CONDITION('test'): block}), **FAST
  )['subgroups']
  assert set(result['view']) == {'PA', 'AP'}
  assert set(result['sex']) == {'F', 'M'}
  assert set(result['age']) <= {'0-18', '18-40', '40-60', '60-80', '80+'}
  pa = block.view == 'PA'
  assert result['view']['PA']['mean']['images'] == pa.sum()
  assert result['view']['PA']['Mass']['value'] == pytest.approx(
    rankings.auroc(block.logit[pa], block.label[pa])[4]
  )
  # The film of unknown age is in no band.
  films = sum(band['mean']['images'] for band in result['age'].values())
  assert films == len(block.image) - 1


def test_figures_do_not_depend_on_the_order_of_rows(tmp_path):
  rows = made_rows.hand_counted()
  block = made_rows.predictions()
  order = np.random.default_rng(0).permutation(len(block.image))
  mixed = stored_rows.Predictions(*(column[order] for column in block))
  a = summary.summarize(made_rows.written(tmp_path, rows), **FAST)
  b = summary.summarize(
    made_rows.written(tmp_path, rows[::-1], 'b', {CONDITION('test'): mixed}),
    **FAST,
  )
  assert a['classification'] == b['classification']
  assert (
    a['localization']['methods']['cam']['wang']['mean']
    == b['localization']['methods']['cam']['wang']['mean']
  )
