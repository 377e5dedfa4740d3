"""Runs of different findings meet on those that all of them know."""

import shutil

import numpy as np
import pytest

from cxr import files, stored_rows
from cxr.comparison import common_findings, paired_summary, study
from cxr.measures import measure_table
from tests import made_rows
from tests.made_rows import LEFT, RIGHT

FAST = {'num_resamples': 40}
TEST = stored_rows.Condition('test')
ALONE = stored_rows.Condition('test', 'pgd-10-alone', 2.0)
CONTROL = 'cam_another_patient'


def predictions(*columns):
  """14 columns are made; those asked for are a run's findings."""
  block = made_rows.predictions()
  column = list(columns)
  return block._replace(
    label=block.label[:, column], logit=block.logit[:, column]
  )


def attacked_alone(block):
  """Some films of each finding, as an attack on it alone leaves them."""
  label = np.full_like(block.label, np.nan)
  for k, known in enumerate(~np.isnan(block.label).T):
    # By the finding's own labels, so the same in every run.
    film = np.flatnonzero(known)[int(np.nansum(block.label[:, k])) :][:20]
    label[film, k] = block.label[film, k]
  logit = np.where(np.isnan(label), np.nan, -block.logit)
  some = ~np.isnan(label).all(axis=1)
  block = block._replace(label=label, logit=logit)
  return stored_rows.Predictions(*(column[some] for column in block))


def run(tmp_path, name, findings, boxes, columns, measured):
  """`boxes`: (film, finding, true box, predicted boxes, draws of a control)."""
  rows = []
  for film, finding, truth, predicted, draws in boxes:
    rows.append(made_rows.row(film, finding, truth, predicted))
    for draw in range(draws):
      other = made_rows.row(film, finding, truth, [RIGHT], method=CONTROL)
      rows.append(other | {'draw': draw})
  workdir = made_rows.written(tmp_path, rows, name, {})
  stored_rows.write_predictions(
    f'{workdir}/predictions.csv',
    {
      TEST: predictions(*columns),
      ALONE: attacked_alone(predictions(*columns)),
    },
    findings=findings,
  )
  measure_table.write(f'{workdir}/measures.csv', measured)
  return workdir


def measure(name, findings, films=('f1', 'f2')):
  value = np.arange(len(films) * len(findings), dtype=float)
  return measure_table.Measure(
    name,
    np.array(films),
    np.arange(len(films)),
    value.reshape(len(films), -1),
    'cam',
    findings=findings,
  )


@pytest.fixture
def workdirs(tmp_path):
  """The second run calls an effusion otherwise, in another column, and knows no
  Mass; f3 has a Mass alone."""
  first = run(
    tmp_path,
    'first',
    ('Mass', 'Effusion', 'Nodule'),
    [
      ('f1', 'Mass', None, [LEFT], 1),
      ('f2', 'Mass', LEFT, [LEFT], 1),
      ('f3', 'Mass', LEFT, [LEFT], 3),
      ('f1', 'Effusion', LEFT, [LEFT], 3),
      ('f2', 'Effusion', LEFT, [LEFT], 3),
      ('f3', 'Effusion', None, [RIGHT], 1),
    ],
    (4, 2, 5),
    [
      measure('sameness', ('Mass', 'Effusion')),
      measure('insertion', ('Effusion',), films=('f1', 'f3')),
    ],
  )
  second = run(
    tmp_path,
    'second',
    ('Fracture', 'pleural effusion', 'Nodule'),
    [
      ('f1', 'pleural effusion', LEFT, [RIGHT], 2),
      ('f2', 'pleural effusion', LEFT, [LEFT], 3),
    ],
    (7, 2, 5),
    [
      measure('sameness', ('pleural effusion',)),
      measure('insertion', ('pleural effusion',)),
    ],
  )
  return [first, second]


def test_what_runs_share(workdirs):
  common = common_findings.find(workdirs)
  assert common.findings == ('Effusion', 'Nodule')
  assert common.apart == (('Mass',), ('Fracture',))
  # `insertion` was taken of other films.
  assert common.measured == {('sameness', 'cam', ''): ('Effusion',)}
  assert common.other_films == (('insertion', 'cam', ''),)
  of_films, sentence = common_findings.told(common, ['a', 'b'])
  assert of_films.endswith('left out: insertion cam.')
  assert 'all know: Effusion, Nodule. Left out: Mass (a); Fracture (b)' in (
    sentence
  )


def test_runs_of_the_same_findings_need_no_cutting(workdirs):
  assert common_findings.find([workdirs[0]] * 2) is None
  assert common_findings.told(None, ['a', 'b']) == []


def test_an_attack_on_other_films_is_left_out_and_named(workdirs, tmp_path):
  """Evaluated with another config.evaluate.attack_films, that is."""
  first, second = workdirs[0], str(tmp_path / 'again')
  shutil.copytree(first, second)
  path = f'{second}/predictions.csv'
  findings, blocks = stored_rows.read_predictions(path)
  fewer = (column[1:] for column in blocks[ALONE])
  blocks[ALONE] = stored_rows.Predictions(*fewer)
  stored_rows.write_predictions(path, blocks, findings=findings)
  common = common_findings.find([first, second])
  (sentence,) = common_findings.told(common, ['a', 'b'])
  assert sentence.endswith('left out: pgd-10-alone at epsilon 2 (test).')
  compared = paired_summary.compare([first, second], common=common, **FAST)
  assert compared['robustness'] == []
  (of_test,) = compared['classification'].values()
  assert of_test['auroc']['mean']['difference']['value'] == 0


def test_tables_are_cut_to_what_is_shared(workdirs):
  common = common_findings.find(workdirs)
  first, second = (common_findings.read(w, common) for w in workdirs)
  for tables in (first, second):
    assert tables.findings == ('Effusion', 'Nodule')
    expected = predictions(2, 5)
    np.testing.assert_array_equal(
      tables.predictions[TEST].logit, expected.logit
    )
    np.testing.assert_array_equal(
      tables.predictions[TEST].label, expected.label
    )
    # A film on which another finding was attacked is no film of these.
    alone = attacked_alone(predictions(2, 5))
    for column, values in tables.predictions[ALONE]._asdict().items():
      np.testing.assert_array_equal(values, getattr(alone, column))
    # f3 has no true box of a shared finding; f1 has two draws in both runs.
    assert set(tables.boxes.image.tolist()) == {'f1', 'f2'}
    assert set(tables.boxes.finding.tolist()) == {'Effusion'}
    of_f1 = tables.boxes.where(image='f1', method=CONTROL)
    assert of_f1.draw.tolist() == [0, 1]
    (one,) = tables.measures
    assert one.findings == ('Effusion',)
  np.testing.assert_array_equal(first.measures[0].value, [[1], [3]])
  np.testing.assert_array_equal(second.measures[0].value, [[0], [1]])


def test_they_are_compared_and_studied_on_it(workdirs):
  common = common_findings.find(workdirs)
  result = paired_summary.compare(workdirs, common, **FAST)
  auroc = result['classification']['test']['auroc']
  assert list(auroc) == ['mean', 'Effusion', 'Nodule']
  # The logits are the same ones.
  assert auroc['mean']['difference']['value'] == 0
  scores = result['localization']['cam']['wang']['iou@0.5']
  assert [run['value'] for run in scores['Effusion']['runs']] == [1, 0.5]
  less = result['localization']['cam_own_less_another']['wang']['iou@0.5']
  assert less['mean']['difference']['value'] == -0.5
  samples = [study.sample(w, common, **FAST) for w in workdirs]
  figures = study.estimates([[samples[0]], [samples[1]]])
  (entry,) = [
    e
    for e in figures
    if e['key'] == ['localization', 'iou@0.5', 'cam', 'wang']
    and e['finding'] == 'mean'
  ]
  assert entry['differences'][0]['value'] == -0.5
  with pytest.raises(ValueError, match='other findings'):
    paired_summary.compare(workdirs, **FAST)


def test_runs_that_share_no_finding_are_refused(workdirs, tmp_path):
  third = run(tmp_path, 'third', ('Gout',), [], (0,), [])
  with pytest.raises(ValueError, match=r'share no finding: .*Gout \(.*third'):
    common_findings.find([workdirs[0], third])


def test_of_maps_from_elsewhere_films_without_a_prediction_are_left_out(
  tmp_path,
):
  rows = [made_rows.row('f1', 'Mass', LEFT, [LEFT])]
  block = predictions(0, 1)
  some = stored_rows.Predictions(*(column[5:] for column in block))
  workdirs = []
  for name, of_run in (('own', block), ('maps', some), ('none', None)):
    workdir = made_rows.written(tmp_path, rows, name, {})
    blocks = {} if of_run is None else {TEST: of_run}
    stored_rows.write_predictions(
      f'{workdir}/predictions.csv', blocks, findings=('Mass', 'Edema')
    )
    workdirs.append(workdir)
  assert common_findings.find(workdirs[:1] * 2) is None
  files.write_json(
    f'{workdirs[1]}/metrics.json', {'evaluation': {'maps': {'given': 1}}}
  )
  common = common_findings.find(workdirs)
  assert common.films == set(some.image.tolist())
  (told,) = common_findings.told(common, ['own', 'maps', 'none'])
  assert f'{len(some.image)} films that all have' in told
  for workdir in workdirs[:2]:
    cut = common_findings.read(workdir, common).predictions[TEST]
    np.testing.assert_array_equal(cut.image, some.image)
    np.testing.assert_array_equal(cut.logit, some.logit)
  assert common_findings.read(workdirs[2], common).predictions == {}
