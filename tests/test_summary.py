"""Figures from stored rows: of one run, of runs side by side."""

import json

import numpy as np
import pytest

from cxr import calibration, metrics, stats, stored_rows, summary
from input_pipeline.findings import BOXED, FINDINGS
from tests import made_rows
from tests.made_rows import LEFT, RIGHT

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
  expected = metrics.auroc(clean.logit, clean.label)
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
  assert precision['Mass']['value'] == pytest.approx(
    metrics.average_precision(clean.logit, clean.label)[4]
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
    for figure, oracle in (
      ('brier', metrics.brier),
      ('calibration_error', metrics.calibration_error),
    ):
      values = oracle(np.nan_to_num(probability), test.label)
      for k, finding in enumerate(FINDINGS[:13]):
        assert result[name][figure][finding]['value'] == pytest.approx(
          values[k]
        )
      mean = result[name][figure]['mean']
      assert mean['value'] == pytest.approx(values[:13].mean())
      assert result[name][figure]['Hernia']['value'] is None
  rates = metrics.confusion(test.logit, test.label, fitted['threshold'])
  for name in ('sensitivity', 'specificity'):
    figure = result['operating_point'][name]['Mass']
    assert figure['value'] == pytest.approx(rates[name][4])
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
    metrics.auroc(block.logit[pa], block.label[pa])[4]
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


# Several runs.


def _runs(tmp_path):
  folders = []
  for i in range(2):
    block = made_rows.predictions(seed=i, skill=1.0 + 3 * i)
    rng = np.random.default_rng(i)
    rows = []
    for film in range(12):
      for finding in BOXED[:2]:
        truth = LEFT if film % 2 else None
        boxes = [LEFT] if rng.random() < 0.2 + 0.7 * i else [RIGHT]
        rows.append(made_rows.row(f'f{film}', finding, truth, boxes))
    order = np.random.default_rng(9 + i).permutation(len(block.image))
    block = stored_rows.Predictions(*(column[order] for column in block))
    blocks = {CONDITION('test'): block, CONDITION('test', 'pgd', 1.0): block}
    folders.append(
      made_rows.written(tmp_path, rows[:: 1 - 2 * i], f'run{i}', blocks)
    )
  return folders


def test_two_runs_side_by_side(tmp_path):
  workdirs = _runs(tmp_path)
  alone = [summary.summarize(w, num_resamples=100) for w in workdirs]
  result = summary.compare(workdirs, num_resamples=100)
  json.dumps(result, allow_nan=False)
  assert result['runs'] == ['run0', 'run1']
  entry = result['classification']['test']['auroc']['Mass']
  for run, figure in zip(alone, entry['runs'], strict=True):
    assert figure == run['classification']['test']['auroc']['Mass']
  first, second = entry['runs']
  difference = entry['difference']
  assert difference['value'] == pytest.approx(second['value'] - first['value'])
  assert difference['low'] <= difference['value'] <= difference['high']
  assert 0 < difference['p'] <= difference['p_holm'] <= 1
  assert (
    result['classification']['test']['auroc']['mean']['difference']['p_holm']
    is None
  )
  blocks = [
    stored_rows.read_predictions(f'{w}/predictions.csv')[1][CONDITION('test')]
    for w in workdirs
  ]
  place = [np.argsort(block.image) for block in blocks]
  k = FINDINGS.index('Mass')
  logits = [b.logit[i, k] for b, i in zip(blocks, place, strict=True)]
  delong = stats.delong_test(*logits, blocks[0].label[place[0], k])
  for key in ('low', 'high', 'p'):
    assert difference['delong'][key] == pytest.approx(delong[key])
  assert result['robustness'][0]['epsilon'] == 1.0
  score = result['localization']['cam']['wang']['iou@0.5']
  assert set(score) == {'mean', *BOXED[:2]}
  for run, figure in zip(alone, score['mean']['runs'], strict=True):
    assert (
      figure == run['localization']['methods']['cam']['wang']['mean']['iou@0.5']
    )
  assert score['mean']['difference']['value'] > 0


def test_a_run_does_not_differ_from_itself(tmp_path):
  workdir, _ = _runs(tmp_path)
  result = summary.compare([workdir, workdir], **FAST)
  for entry in (
    result['classification']['test']['average_precision']['mean'],
    result['localization']['cam']['wang']['afp_iou@0.1']['mean'],
  ):
    assert entry['difference']['value'] == 0
    assert entry['difference']['low'] == entry['difference']['high'] == 0
    assert entry['difference']['p'] == 1


def test_three_runs_are_each_compared_with_the_first(tmp_path):
  workdirs = _runs(tmp_path)
  result = summary.compare([*workdirs, workdirs[0]], **FAST)
  entry = result['classification']['test']['auroc']['Mass']
  assert len(entry['runs']) == 3
  assert entry['difference'] == entry['differences'][0]
  assert entry['differences'][1]['value'] == 0
  assert entry['differences'][1]['delong']['p'] == 1


def test_runs_on_other_films_or_boxes_are_refused(tmp_path):
  first, second = _runs(tmp_path)
  with pytest.raises(ValueError, match='two runs or more'):
    summary.compare([first])
  block = made_rows.predictions(n=50)
  stored_rows.write_predictions(
    second + '/predictions.csv', {CONDITION('test'): block}
  )
  with pytest.raises(ValueError, match='share 50 of 60 and 50 films'):
    summary.compare([first, second], **FAST)
  other = made_rows.predictions()
  other.label[0] = 1 - other.label[0]
  stored_rows.write_predictions(
    second + '/predictions.csv', {CONDITION('test'): other}
  )
  with pytest.raises(ValueError, match='other labels'):
    summary.compare([first, second], **FAST)
  stored_rows.write_predictions(
    second + '/predictions.csv', {CONDITION('valid'): other}
  )
  with pytest.raises(ValueError, match='share no split'):
    summary.compare([first, second], **FAST)
  first, second = _runs(tmp_path)
  stored_rows.write_boxes(second + '/boxes.csv', made_rows.hand_counted())
  with pytest.raises(ValueError, match='other true boxes'):
    summary.compare([first, second], **FAST)
