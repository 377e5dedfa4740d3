"""Stored tables that were cut or grew are found out, whoever wrote them."""

import json
import pathlib

import numpy as np
import pytest

from cxr import stored_rows
from cxr.estimates import readings, run_tables
from cxr.measures import measure_table
from input_pipeline.findings import FINDINGS
from tests import made_rows

CONDITION = stored_rows.Condition


def written(tmp_path, *, recorded):
  block = made_rows.predictions()
  blocks = {
    CONDITION('test'): block,
    CONDITION('test', 'pgd-2', 1.0): block,
    CONDITION('test', 'pgd-2', 2.0): block,
  }
  rows = [
    row | {'rule': rule}
    for rule in ('wang', 'otsu')
    for row in made_rows.hand_counted()
  ]
  workdir = made_rows.written(tmp_path, rows, blocks=blocks)
  measured = [
    measure_table.Measure(
      'alignment', block.image, block.patient, np.ones((60, 2)), 'gradient',
      findings=('Mass', 'Nodule'),
    )
  ]  # fmt: skip
  measure_table.write(f'{workdir}/measures.csv', measured)
  votes = np.zeros((2, 60, 14), np.float32)
  read = readings.Readings(FINDINGS, ('Ann', 'Bo'), block.image, votes)
  readings.write(f'{workdir}/readers.csv', read)
  boxes = made_rows.make_boxes(rows)
  counts = run_tables.row_counts(blocks, boxes, measured, read)
  assert counts == {
    'predictions.csv': 180, 'boxes.csv': 12, 'measures.csv': 120,
    'readers.csv': 120,
  }  # fmt: skip
  details = {'rows': counts} if recorded else {}
  data = {'splits': {'test': {'images': 60}}}
  for name, content in (('evaluation.json', details), ('data.json', data)):
    with open(f'{workdir}/{name}', 'w') as f:
      json.dump(content, f)
  return workdir


@pytest.mark.parametrize('recorded', [True, False])
def test_whole_tables_are_read(tmp_path, recorded):
  tables = run_tables.read(written(tmp_path, recorded=recorded))
  assert len(tables.predictions) == 3
  assert len(tables.boxes.image) == 12
  assert tables.measures[0].value.shape == (60, 2)
  assert tables.readings.votes.shape == (2, 60, 14)


def test_readings_that_are_missing_are_missed(tmp_path):
  workdir = pathlib.Path(written(tmp_path, recorded=True))
  (workdir / 'readers.csv').unlink()
  with pytest.raises(ValueError, match='0 rows of 120'):
    run_tables.read(str(workdir))


def test_readings_of_other_findings_are_refused(tmp_path):
  path = pathlib.Path(written(tmp_path, recorded=True)) / 'readers.csv'
  path.write_text(path.read_text().replace('Mass', 'Tumour'))
  with pytest.raises(ValueError, match='other findings'):
    run_tables.read(str(path.parent))


@pytest.mark.parametrize('recorded', [True, False])
@pytest.mark.parametrize('name', ['predictions', 'boxes', 'measures'])
@pytest.mark.parametrize('change', ['last', 'middle', 'half', 'twice', 'cell'])
def test_changed_tables_are_refused(tmp_path, name, change, recorded):
  workdir = written(tmp_path, recorded=recorded)
  path = f'{workdir}/{name}.csv'
  with open(path) as f:
    text = f.read()
  lines = text.splitlines(keepends=True)
  if change == 'last':
    lines = lines[:-2]
  elif change == 'middle':
    del lines[3:5]
  elif change == 'twice':
    lines += lines[-2:]
  text = ''.join(lines)
  if change == 'half':
    text = text[: len(text) // 2]
  elif change == 'cell':
    text = text.rpartition(',')[0]
  with open(path, 'w') as f:
    f.write(text)
  # An older measures.csv says nothing of what it should hold.
  if (name, change, recorded) == ('measures', 'last', False):
    change = 'other films'
  with pytest.raises(ValueError) as error:
    run_tables.read(workdir)
  assert path in str(error.value)
  assert '--mode=evaluate' in str(error.value)
  assert '\n' not in str(error.value)
  for words in ('setting an array', 'inhomogeneous', 'list index'):
    assert words not in str(error.value)
