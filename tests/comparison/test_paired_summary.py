"""Several runs: each as it is alone, their differences, what is refused."""

import json

import numpy as np
import pytest

from cxr import stored_rows
from cxr.comparison import paired_summary
from cxr.estimates import summary
from input_pipeline.findings import BOXED, FINDINGS
from tests import made_rows
from tests.made_rows import LEFT, RIGHT

CONDITION = stored_rows.Condition
FAST = {'num_resamples': 40}


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
  result = paired_summary.compare(workdirs, num_resamples=100)
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
  result = paired_summary.compare([workdir, workdir], **FAST)
  for entry in (
    result['classification']['test']['average_precision']['mean'],
    result['localization']['cam']['wang']['afp_iou@0.1']['mean'],
  ):
    assert entry['difference']['value'] == 0
    assert entry['difference']['low'] == entry['difference']['high'] == 0
    assert entry['difference']['p'] == 1


def test_three_runs_are_each_compared_with_the_first(tmp_path):
  workdirs = _runs(tmp_path)
  result = paired_summary.compare([*workdirs, workdirs[0]], **FAST)
  entry = result['classification']['test']['auroc']['Mass']
  assert len(entry['runs']) == 3
  assert entry['difference'] == entry['differences'][0]
  assert entry['differences'][1]['value'] == 0
  assert entry['differences'][1]['p'] == 1


def test_runs_on_other_films_or_boxes_are_refused(tmp_path):
  first, second = _runs(tmp_path)
  with pytest.raises(ValueError, match='two runs or more'):
    paired_summary.compare([first])
  block = made_rows.predictions(n=50)
  stored_rows.write_predictions(
    second + '/predictions.csv', {CONDITION('test'): block}, findings=FINDINGS
  )
  with pytest.raises(ValueError, match='share 50 of 60 and 50 films'):
    paired_summary.compare([first, second], **FAST)
  other = made_rows.predictions()
  other.label[0] = 1 - other.label[0]
  stored_rows.write_predictions(
    second + '/predictions.csv', {CONDITION('test'): other}, findings=FINDINGS
  )
  with pytest.raises(ValueError, match='other labels'):
    paired_summary.compare([first, second], **FAST)
  stored_rows.write_predictions(
    second + '/predictions.csv', {CONDITION('valid'): other}, findings=FINDINGS
  )
  with pytest.raises(ValueError, match='share no split'):
    paired_summary.compare([first, second], **FAST)
  first, second = _runs(tmp_path)
  stored_rows.write_boxes(
    second + '/boxes.csv', made_rows.make_boxes(made_rows.hand_counted())
  )
  with pytest.raises(ValueError, match='other true boxes'):
    paired_summary.compare([first, second], **FAST)


def test_the_difference_of_what_is_own_less_another_patient_s(tmp_path):
  """Film i's own map hits in run i alone, another patient's always half."""
  workdirs, hits = [], ((1, 0, 1, 0), (1, 1, 1, 0))
  for name, of_run in zip('ab', hits, strict=True):
    rows = []
    for film, hit in enumerate(of_run):
      drawn = lambda hit: [LEFT] if hit else [RIGHT]
      rows.append(made_rows.row(f'f{film}', 'Mass', LEFT, drawn(hit)))
      rows += [
        made_rows.row(
          f'f{film}',
          'Mass',
          LEFT,
          drawn(draw),
          method='cam_another_patient',
        )
        | {'draw': draw}
        for draw in range(2)
      ]
    workdirs.append(
      made_rows.written(tmp_path, rows[:: 1 - 2 * (name == 'b')], name)
    )
  result = paired_summary.compare(workdirs, **FAST)['localization']
  entry = result['cam_own_less_another']['wang']['iou@0.5']['Mass']
  assert [run['value'] for run in entry['runs']] == [0, 0.25]
  assert entry['difference']['value'] == 0.25
  # One film of four: nothing is known for sure.
  assert entry['difference']['low'] < 0 < entry['difference']['high']
  assert 0 < entry['difference']['p'] <= 1
  same = result['cam_another_patient']['wang']['iou@0.5']['Mass']
  assert [run['value'] for run in same['runs']] == [0.5, 0.5]
  assert same['difference']['value'] == 0
