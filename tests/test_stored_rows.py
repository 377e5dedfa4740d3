"""Files of rows: what is written comes back, what is damaged is refused."""

import numpy as np
import pytest

from cxr import stored_rows
from cxr.evaluation import summary
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
  stored_rows.write_predictions(path, blocks)
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
  stored_rows.write_boxes(path, stored_rows.make_boxes(rows))
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
    path.write_text('a,b\n')
    with pytest.raises(ValueError, match='does not have the columns'):
      read(str(path))
