"""Files of rows: what is written comes back, what is damaged is refused."""

import csv
import re

import numpy as np
import pytest

from cxr import files, stored_rows
from cxr.estimates import summary
from cxr.localization import scoring
from input_pipeline.findings import FINDINGS
from tests import made_rows
from tests.made_rows import LEFT

CONDITION = stored_rows.Condition


def test_predictions_come_back(tmp_path):
  path = str(tmp_path / 'predictions.csv')
  block = made_rows.predictions()
  block.image[1] = '=evil.png'
  block.logit[2, 3] = np.nan
  block.logit[2, 4] = -np.inf
  blocks = {
    CONDITION('test'): block,
    CONDITION('test', 'pgd-10', 0.5): block._replace(logit=-block.logit),
  }
  stored_rows.write_predictions(path, blocks, findings=FINDINGS)
  with open(path) as f:
    assert "'=evil.png" in f.read()
  findings, back = stored_rows.read_predictions(path)
  assert findings == FINDINGS
  assert list(back) == list(blocks)
  for condition, written in blocks.items():
    for name, column in written._asdict().items():
      read = getattr(back[condition], name)
      if column.dtype.kind == 'f':
        np.testing.assert_array_equal(read, column)
      else:
        assert (read == column).all()


def test_boxes_come_back_even_thousands_in_a_cell(tmp_path):
  path = str(tmp_path / 'boxes.csv')
  rng = np.random.default_rng(0)
  rows = made_rows.hand_counted()
  rows[3]['boxes'] = rng.random((5000, 4))
  stored_rows.write_boxes(path, made_rows.make_boxes(rows))
  back = stored_rows.read_boxes(path)
  assert back.finding.tolist() == [row['finding'] for row in rows]
  assert back.patient.tolist() == [1, 2, 3, 1, 2, 3]
  np.testing.assert_array_equal(back.truth[0], LEFT)
  assert np.isnan(back.truth[2]).all()
  np.testing.assert_array_equal(back.count, [2, 2, 1, 5000, 0, 0])
  np.testing.assert_array_equal(back.rows(np.array([3])).box, rows[3]['boxes'])
  np.testing.assert_array_equal(
    back.rows(np.array([5, 1])).box, rows[1]['boxes']
  )
  np.testing.assert_array_equal(
    back.score, [[row[name] for name in scoring.SCORES] for row in rows]
  )


def test_boxes_are_read_from_the_arrays_beside_the_csv(tmp_path, monkeypatch):
  path = str(tmp_path / 'boxes.csv')
  table = made_rows.make_boxes(made_rows.hand_counted())
  stored_rows.write_boxes(path, table)

  def equal(back):
    for name, column in table._asdict().items():
      np.testing.assert_array_equal(getattr(back, name), column)

  equal(stored_rows._parse_boxes(path))
  with monkeypatch.context() as patch:
    patch.setattr(stored_rows, '_parse_boxes', None)
    equal(stored_rows.read_boxes(path))
  # An older version wrote no arrays; damaged ones are passed by.
  npz = tmp_path / 'boxes.npz'
  content = npz.read_bytes()
  for damaged in (content[:100], content[:-9], b''):
    npz.write_bytes(damaged)
    equal(stored_rows.read_boxes(path))
  npz.unlink()
  equal(stored_rows.read_boxes(path))
  # Edited by hand, the csv counts.
  npz.write_bytes(content)
  text = (tmp_path / 'boxes.csv').read_text()
  (tmp_path / 'boxes.csv').write_text(text.replace(',f2,', ',f9,'))
  assert 'f9' in stored_rows.read_boxes(path).image.tolist()


def test_a_table_of_boxes_by_row():
  table = made_rows.make_boxes(made_rows.hand_counted())
  assert [len(b) for b in table.boxes_of_rows()] == [2, 2, 1, 2, 0, 0]
  mass = table.where(finding='Mass', image='f2')
  np.testing.assert_array_equal(mass.box, [made_rows.QUARTER, made_rows.RIGHT])
  both = stored_rows.concatenate_boxes([mass, table.where(image='f3')])
  assert both.count.tolist() == [2, 1, 0]
  np.testing.assert_array_equal(both.box[-1], LEFT)
  empty = stored_rows.no_boxes()
  assert len(stored_rows.concatenate_boxes([]).image) == 0
  assert len(empty.boxes_of_rows()) == len(empty.where(rule='x').image) == 0


def test_rows_in_another_order():
  a, b = np.array(['x', 'y', 'x']), np.array([1, 1, 2])
  order = np.array([2, 0, 1])
  found = stored_rows.matching_order([a, b], [a[order], b[order]])
  np.testing.assert_array_equal(order[found], [0, 1, 2])
  assert stored_rows.matching_order([a, b], [a, np.array([1, 2, 1])]) is None
  assert stored_rows.matching_order([a], [a[:2]]) is None


def test_files_that_are_missing_or_damaged(tmp_path):
  with pytest.raises(FileNotFoundError, match='No predictions.csv.*evaluate'):
    summary.summarize(str(tmp_path))
  made_rows.written(tmp_path, made_rows.hand_counted())
  for name, read in (
    ('predictions.csv', stored_rows.read_predictions),
    ('boxes.csv', stored_rows.read_boxes),
  ):
    path = tmp_path / 'run' / name
    content = path.read_text()
    path.write_text(content[: len(content) * 2 // 3])
    with pytest.raises(ValueError, match='damaged near line'):
      read(str(path))
    # Whole rows with a cell that is none, and a row twice.
    for damaged, reason in (
      (re.sub(r',0\.5(?=[,\n])', ',half', content), 'not a number'),
      (re.sub(r'(?<=png,)\d+', 'x', content), 'not a whole number'),
      (content.replace('[[', '{['), 'does not hold boxes'),
      (content + content.splitlines(keepends=True)[-1], 'twice'),
    ):
      if damaged != content:
        path.write_text(damaged)
        with pytest.raises(ValueError, match=reason) as error:
          read(str(path))
        assert str(path) in str(error.value)
        assert '--mode=evaluate' in str(error.value)
    path.write_text('a,b\n')
    with pytest.raises(ValueError, match='does not have the columns'):
      read(str(path))


def test_boxes_of_before_there_were_draws_are_read(tmp_path):
  path = tmp_path / 'boxes.csv'
  table = made_rows.make_boxes(made_rows.hand_counted())
  stored_rows.write_boxes(str(path), table)
  lines = [line.split(',') for line in path.read_text().splitlines()]
  column = lines[0].index('draw')
  path.write_text(
    ''.join(','.join(c[:column] + c[column + 1 :]) + '\n' for c in lines)
  )
  older = table._asdict()
  del older['draw']
  digest = {'csv_sha256': np.array(files.sha256(str(path)))}
  for arrays in (True, False):
    if arrays:
      files.write_arrays(str(tmp_path / 'boxes.npz'), older | digest)
    else:
      (tmp_path / 'boxes.npz').unlink()
    for name, read in stored_rows.read_boxes(str(path))._asdict().items():
      np.testing.assert_array_equal(read, getattr(table, name))


def test_the_kind_of_truth_is_a_column_where_some_is_a_mask(tmp_path):
  path = tmp_path / 'boxes.csv'
  rows = made_rows.hand_counted()
  stored_rows.write_boxes(str(path), made_rows.make_boxes(rows))
  assert 'truth_kind' not in path.read_text()
  rows[0]['masked'] = True
  written = made_rows.make_boxes(rows)
  stored_rows.write_boxes(str(path), written)
  with open(path, newline='') as f:
    kinds = [row['truth_kind'] for row in csv.DictReader(f)]
  assert kinds == ['mask', 'box', '', '', '', 'box']
  (tmp_path / 'boxes.npz').unlink()
  for a, b in zip(written, stored_rows.read_boxes(str(path)), strict=True):
    np.testing.assert_array_equal(a, b)


def test_arrays_of_before_there_were_masks_are_read():
  table = made_rows.make_boxes(made_rows.hand_counted())
  older = table._asdict()
  del older['masked'], older['draw']
  for a, b in zip(table, stored_rows.boxes_of(older), strict=True):
    np.testing.assert_array_equal(a, b)


def test_boxes_of_before_there_was_a_score_have_it_unknown(tmp_path):
  path = tmp_path / 'boxes.csv'
  table = made_rows.make_boxes(made_rows.hand_counted())
  stored_rows.write_boxes(str(path), table)
  older = [line.rpartition(',')[0] for line in path.read_text().splitlines()]
  assert older[0].endswith('map_auroc')
  path.write_text('\n'.join([*older, '']))
  read = stored_rows.read_boxes(str(path))
  np.testing.assert_array_equal(read.score[:, :-1], table.score[:, :-1])
  assert np.isnan(read.score[:, -1]).all()
  arrays = table._asdict() | {'score': table.score[:, :-1]}
  for a, b in zip(read, stored_rows.boxes_of(arrays), strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_draw_is_a_row_of_its_own(tmp_path):
  row = made_rows.row('f1', 'Mass', LEFT, [LEFT])
  path = str(tmp_path / 'boxes.csv')
  stored_rows.write_boxes(path, made_rows.make_boxes([row, row | {'draw': 1}]))
  assert stored_rows._parse_boxes(path).draw.tolist() == [0, 1]
  stored_rows.write_boxes(path, made_rows.make_boxes([row, row]))
  with pytest.raises(ValueError, match='twice'):
    stored_rows._parse_boxes(path)
