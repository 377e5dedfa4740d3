"""The tables of an evaluated run, read together and checked.

An evaluation writes the number of rows of each table to evaluation.json, so
that a table which was cut, or to which rows were added, is found out. Tables of
older runs are held against data.json and against each other.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

from cxr import files, stored_rows
from cxr.estimates import readings
from cxr.measures import measure_table
from cxr.reporting import wording


class Tables(NamedTuple):
  """What predictions.csv, boxes.csv, measures.csv and readers.csv hold."""

  findings: tuple[str, ...]
  predictions: dict[stored_rows.Condition, stored_rows.Predictions]
  boxes: stored_rows.Boxes
  measures: list[measure_table.Measure]
  readings: readings.Readings


def row_counts(
  predictions: Mapping[stored_rows.Condition, stored_rows.Predictions],
  boxes: stored_rows.Boxes,
  measured: list[measure_table.Measure],
  read: readings.Readings,
) -> dict[str, int]:
  """Table -> its number of rows."""
  return {
    'predictions.csv': sum(len(block.image) for block in predictions.values()),
    'boxes.csv': len(boxes.image),
    'measures.csv': sum(m.value.size for m in measured),
    'readers.csv': readings.count_rows(read),
  }


def read(workdir: str) -> Tables:
  """The tables of a run.

  Raises:
    FileNotFoundError: the run was not evaluated.
    ValueError: a table is damaged, misses rows or has some twice.
  """
  path = lambda name: os.path.join(workdir, name)
  findings, predictions = stored_rows.read_predictions(path('predictions.csv'))
  boxes = stored_rows.read_boxes(path('boxes.csv'))
  measured = measure_table.read(path('measures.csv'))
  of_readers = readings.read(path('readers.csv'))
  if of_readers and of_readers.findings != findings:
    _refuse(path('readers.csv'), 'it has other findings than predictions.csv')
  expected = _json(path('evaluation.json')).get('rows')
  if expected:
    counts = row_counts(predictions, boxes, measured, of_readers)
    for name, count in counts.items():
      if name in expected and count != expected[name]:
        _refuse(path(name), f'it has {count:,} rows of {expected[name]:,}')
  else:
    _check_films(path, predictions)
    _check_boxes(path, boxes)
  return Tables(findings, predictions, boxes, measured, of_readers)


def _check_films(path, predictions) -> None:
  """Every clean split has all its films, every attack as many as the others
  of its aim."""
  splits = _json(path('data.json')).get('splits', {})
  attacked = {}
  for condition, block in predictions.items():
    films = len(block.image)
    if condition.attack == stored_rows.CLEAN:
      expected = splits.get(condition.split, {}).get('images', films)
    else:
      key = condition.split, wording.is_alone(condition.attack)
      expected = attacked.setdefault(key, films)
    if films != expected:
      name = f'{condition.split} {condition.attack} {condition.epsilon:g}'
      _refuse(
        path('predictions.csv'), f'{name} has {films:,} films of {expected:,}'
      )


def _check_boxes(path, boxes: stored_rows.Boxes) -> None:
  """All methods and rules have equally many rows.

  Of another patient's maps a film may have several draws, or none.
  """
  counts = {}
  for key in zip(boxes.method.tolist(), boxes.rule.tolist(), strict=True):
    if not key[0].endswith(wording.ANOTHER_PATIENT):
      counts[key] = counts.get(key, 0) + 1
  largest = max(counts.values(), default=0)
  for key, count in counts.items():
    if count < largest:
      _refuse(
        path('boxes.csv'), f'{" ".join(key)} has {count:,} rows of {largest:,}'
      )


def _refuse(path: str, reason: str) -> None:
  raise ValueError(
    f'{path} was cut or changed: {reason}. Write it again with --mode=evaluate.'
  )


def _json(path: str) -> dict:
  return files.read_json(path) if os.path.exists(path) else {}
