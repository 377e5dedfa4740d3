"""Readers of made films: estimates counted by hand, stored, and compared."""

import numpy as np
import pytest
from sklearn import metrics

from cxr import stored_rows
from cxr.comparison import paired_summary, study
from cxr.estimates import reader_estimates, readings, summary
from cxr.estimates.readings import Readings
from input_pipeline import pipeline
from input_pipeline.findings import FINDINGS
from tests import made_rows

TEST = stored_rows.Condition('test')
FAST = {'num_resamples': 40}


def _readings(block, *, readers=3, unread=0.0, findings=FINDINGS, seed=5):
  """Readers who mostly see what the label says."""
  rng = np.random.default_rng(seed)
  truth = np.nan_to_num(block.label)
  shape = readers, *truth.shape
  votes = np.where(rng.random(shape) < 0.15, 1 - truth, truth)
  votes[rng.random(shape) < unread] = np.nan
  names = [f'R{i + 1}' for i in range(readers)]
  return Readings(
    tuple(findings), tuple(names), block.image, votes.astype(np.float32)
  )


def _by_hand(**columns):
  """Six films of six patients with one finding: (block, readings)."""
  nan = np.nan
  label = np.array([[1], [1], [0], [0], [nan], [0]], np.float32)
  logit = np.array([[3], [1], [2], [0], [4], [9]], np.float32)
  votes = np.array(
    [
      [[1], [1], [1], [0], [1], [nan]],
      [[1], [0], [1], [0], [1], [nan]],
      [[1], [0], [0], [nan], [0], [nan]],
    ],
    np.float32,
  )
  image = np.array([f'f{i}' for i in range(6)])
  text = np.full(6, '')
  block = stored_rows.Predictions(
    image, np.arange(6), text, np.full(6, nan), text, label, logit
  )
  return block, Readings(('Shadow',), ('Ann', 'Bo', 'Cy'), image, votes)


def test_counted_by_hand():
  block, read = _by_hand()
  found = reader_estimates.estimates(block, read, **FAST)
  value = lambda *keys: _at(found, *keys)['value']
  # Nobody read the last film. Majorities: 1 0 1 0 1.
  assert found['films'] == 5
  assert found['positives'] == {'Shadow': 3}
  # Logits 3, 2 and 4 against 1 and 0.
  assert value('auroc', 'Shadow') == 1
  # Labels 1 1 0 0 of logits 3 1 2 0, and of votes 1 1/3 2/3 0.
  assert value('label', 'network', 'Shadow') == 0.75
  assert value('label', 'votes', 'Shadow') == 0.75
  assert value('label', 'difference', 'Shadow') == 0
  # The others say of Ann: 1 0 – 0 –; of Bo: 1 – – 0 –; of Cy: 1 – 1 0 1, and
  # he did not read the fourth.
  assert value('readers', 'Ann', 'sensitivity', 'Shadow') == 1
  assert value('readers', 'Ann', 'specificity', 'Shadow') == 0.5
  assert value('readers', 'Bo', 'specificity', 'Shadow') == 1
  assert value('readers', 'Cy', 'sensitivity', 'Shadow') == pytest.approx(1 / 3)
  undefined = found['readers']['Cy']['specificity']['Shadow']
  assert undefined['value'] is None
  assert 'the others say 0' in undefined['why']
  films = {name: reader['films'] for name, reader in found['readers'].items()}
  assert films == {'Ann': 5, 'Bo': 5, 'Cy': 4}
  # Ann: 1 1 0 against 1 0 0; Bo agrees in both films; Cy has no reference.
  assert value('readers', 'Ann', 'kappa', 'Shadow') == pytest.approx(0.4)
  assert value('readers', 'Bo', 'kappa', 'Shadow') == 1
  assert value('readers', 'Cy', 'kappa', 'Shadow') is None
  assert value('kappa', 'one_and_others', 'Shadow') == pytest.approx(0.7)
  # Labels 1 1 0 0 and majorities 1 0 1 0.
  assert value('kappa', 'label', 'Shadow') == 0
  # 14 votes, 8 of them 1; pairs apart 0, 2/3, 2/3, 0, 2/3.
  assert value('kappa', 'readers', 'Shadow') == pytest.approx(
    1 - 2 / (9 * 8 / 14 * 6 / 14)
  )


def _at(tree, *keys):
  for key in keys:
    tree = tree[key]
  return tree


def test_aurocs_are_scikit_learns_and_have_intervals():
  block = made_rows.predictions(n=120)
  read = _readings(block, readers=5, unread=0.1)
  found = reader_estimates.estimates(block, read, **FAST)
  votes = np.nanmean(read.votes, axis=0)
  majority = np.where(votes == 0.5, np.nan, votes > 0.5)
  for k, name in enumerate(FINDINGS):
    known = ~np.isnan(majority[:, k])
    assert found['auroc'][name]['value'] == pytest.approx(
      metrics.roc_auc_score(majority[known, k], block.logit[known, k])
    )
    known = ~np.isnan(block.label[:, k]) & ~np.isnan(votes[:, k])
    assert found['label']['votes'][name]['value'] == pytest.approx(
      metrics.roc_auc_score(block.label[known, k], votes[known, k])
    )
  for estimate in (
    found['auroc']['mean'],
    found['kappa']['readers']['mean'],
    found['readers']['R2']['sensitivity']['mean'],
  ):
    assert estimate['low'] < estimate['value'] < estimate['high']
  difference = found['label']['difference']['mean']
  assert difference['value'] == pytest.approx(
    found['label']['votes']['mean']['value']
    - found['label']['network']['mean']['value']
  )


def test_the_curve_passes_through_the_points_of_the_network():
  block = made_rows.predictions(n=120)
  read = _readings(block)
  found = reader_estimates.estimates(block, read, **FAST)
  majority = reader_estimates.against_majority(block, read).label[:, 3]
  rate, sensitivity, _ = metrics.roc_curve(
    majority, block.logit[:, 3], drop_intermediate=False
  )
  for at, stored in zip(
    reader_estimates.RATES, found['roc'][FINDINGS[3]], strict=True
  ):
    assert stored == pytest.approx(sensitivity[rate <= at + 1e-9].max())


def test_a_finding_of_one_kind_is_named_and_not_scored(caplog):
  block = made_rows.predictions()
  read = _readings(block)
  read.votes[..., 2] = 0.0
  found = reader_estimates.estimates(block, read, **FAST)
  name = FINDINGS[2]
  assert found['not_scored'] == [name]
  assert name not in found['roc']
  assert found['auroc'][name]['value'] is None
  assert '0 positive and 60 negative' in found['auroc'][name]['why']
  reader_estimates.warn(found)
  assert name in caplog.text


def test_a_reader_alone_has_a_majority_and_no_others():
  block = made_rows.predictions()
  found = reader_estimates.estimates(block, _readings(block, readers=1), **FAST)
  assert found['auroc']['mean']['value'] is not None
  for estimate in (
    found['readers']['R1']['sensitivity']['mean'],
    found['kappa']['readers']['mean'],
    found['kappa']['one_and_others']['mean'],
  ):
    assert estimate['value'] is None


def test_films_without_readers_have_no_estimates():
  assert not reader_estimates.estimates(made_rows.predictions(), Readings())


# The table.


def test_readings_are_read_as_they_were_written(tmp_path):
  block = made_rows.predictions(n=20)
  read = _readings(block, unread=0.3)
  read = read._replace(readers=('=1+1', 'Dr. Bo, MD', 'Cy'))
  read.votes[1, 4] = np.nan  # one reader did not read a film
  path = str(tmp_path / 'readers.csv')
  readings.write(path, read)
  again = readings.read(path)
  assert again.same_as(read)
  assert read.same_as(again)
  assert again.readers == read.readers
  assert readings.count_rows(again) == 3 * 20 - 1
  other = again._replace(votes=1 - again.votes)
  assert not other.same_as(read)
  # A data set without readers leaves no file of an older one.
  readings.write(path, Readings())
  assert not readings.read(path)


@pytest.mark.parametrize(
  ('rows', 'said'),
  [
    ('a.png,R1,2\n', 'not 1, 0 or empty'),
    ('a.png,R1,1\na.png,R1,0\n', 'a reading comes twice'),
    ('a.png,R1\n', '2 of 3 cells'),
  ],
)
def test_a_damaged_table_is_refused(tmp_path, rows, said):
  path = tmp_path / 'readers.csv'
  path.write_text('image,reader,Shadow\n' + rows)
  with pytest.raises(ValueError, match=said):
    readings.read(str(path))


def test_of_a_split_the_films_and_readers_that_read():
  votes = np.full((3, 2, 2), np.nan, np.float32)
  votes[0, 1] = 1, 0
  votes[2, 1, 0] = 0
  text = np.full(2, '')
  split = pipeline.Split(
    name='test',
    image=np.zeros((2, 4, 4, 1), np.uint8),
    label=np.zeros((2, 2), np.float32),
    image_name=np.array(['a.png', 'b.png']),
    patient=np.arange(2),
    view=text,
    age=np.full(2, np.nan),
    sex=text,
    box=np.zeros((0, 4)),
    box_image=np.zeros(0, np.int64),
    box_finding=np.zeros(0, np.int64),
    findings=('Shadow', 'Mass'),
    reader=votes,
    reader_names=('Ann', 'Bo', 'Cy'),
  )
  read = readings.of_split(split)
  assert read.readers == ('Ann', 'Cy')
  assert read.image.tolist() == ['b.png']
  mass = read.of_findings(['Tumour'], [1])
  assert mass.readers == ('Ann',)
  assert mass.votes.tolist() == [[[0.0]]]


# Of runs.


def _runs(tmp_path, *, other_votes=False):
  folders = []
  for i in range(2):
    block = made_rows.predictions(seed=i, skill=1.0 + 2 * i)
    folder = made_rows.written(tmp_path, [], f'run{i}', {TEST: block})
    read = _readings(block, seed=5 + (i if other_votes else 0))
    readings.write(f'{folder}/readers.csv', read)
    folders.append(folder)
  return folders


def test_runs_are_compared_against_the_majority(tmp_path):
  folders = _runs(tmp_path)
  compared = paired_summary.compare(folders, **FAST)['readers']['auroc']['mean']
  for folder, estimate in zip(folders, compared['runs'], strict=True):
    alone = summary.summarize(folder, **FAST)['readers']['auroc']['mean']
    assert estimate == alone
    sampled = study.sample(folder, **FAST)
    of_study = sampled['readers', 'auroc', 'majority', 'test']
    assert of_study.sampled.values[0] == pytest.approx(alone['value'])
  difference = compared['difference']
  assert difference['low'] < difference['value'] < difference['high']


def test_other_votes_are_refused(tmp_path):
  with pytest.raises(ValueError, match='other votes'):
    paired_summary.compare(_runs(tmp_path, other_votes=True), **FAST)


def test_runs_with_and_without_readers(tmp_path):
  folders = _runs(tmp_path)
  readings.write(f'{folders[1]}/readers.csv', Readings())
  assert not paired_summary.compare(folders, **FAST)['readers']
