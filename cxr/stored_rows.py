"""The rows that an evaluation leaves: predictions.csv and boxes.csv.

Contract. predictions.csv has a row per split, attack, epsilon and film: label
and logit of each finding. Where every finding is attacked alone, the logit of a
finding is that under the attack on it, and both are unknown where the film was
not attacked on it. boxes.csv has a row per boxed film, finding, method,
rule and draw, and per true box where a film has several: true box, predicted
boxes, scores, and, where some finding has masks, whether the scores of the
union are of a mask or of boxes. A file is written whole or not at all; one that
is damaged, or that another version wrote, is refused when read.
"""

import contextlib
import csv
import itertools
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from cxr import files
from cxr.localization import overlap, scoring

CLEAN = 'clean'


def matching_order(
  first: Sequence[np.ndarray], other: Sequence[np.ndarray]
) -> Int[np.ndarray, ' n'] | None:
  """The order in which the rows of `other` are those of `first`.

  Args:
    first, other: columns of keys, each an array with a value for every row.

  Returns:
    index, with column[index] of `other` equal to that of `first` for every
    column; None where they do not hold the same rows.
  """
  mine, theirs = np.lexsort(first), np.lexsort(other)
  if len(mine) != len(theirs) or not all(
    np.array_equal(a[mine], b[theirs])
    for a, b in zip(first, other, strict=True)
  ):
    return None
  index = np.empty(len(mine), int)
  index[mine] = theirs
  return index


# predictions.csv.


class Predictions(NamedTuple):
  """One condition's films. Unknown labels and ages are NaN."""

  image: np.ndarray  # 'n' str
  patient: np.ndarray  # 'n' int64
  view: np.ndarray  # 'n' str: 'PA', 'AP' or ''
  age: np.ndarray  # 'n' float
  sex: np.ndarray  # 'n' str: 'M', 'F' or ''
  label: np.ndarray  # 'n k' float32
  logit: np.ndarray  # 'n k' float32


class Condition(NamedTuple):
  """What the films of a block of predictions.csv went through."""

  split: str
  attack: str = CLEAN
  epsilon: float = 0.0  # in 1/255


_FILM = ('split', 'attack', 'epsilon', 'image', 'patient', 'view', 'age', 'sex')


def _number(value: float) -> str:
  """Nine digits keep every float32; an unknown is an empty cell."""
  return '' if math.isnan(value) else f'{value:.9g}'


def write_predictions(
  path: str,
  blocks: Mapping[Condition, Predictions],
  *,
  findings: Sequence[str],
) -> None:
  """Writes every condition's rows; the old file stays until it is whole."""

  def write(f):
    writer = csv.writer(f, lineterminator='\n')
    labels, logits = (
      [f'{kind}_{name}' for name in findings] for kind in ('label', 'logit')
    )
    writer.writerow([*_FILM, *labels, *logits])
    text = files.escape_cell
    for condition, block in blocks.items():
      split, attack, epsilon = condition
      start = [text(split), text(attack), _number(float(epsilon))]
      columns = zip(
        map(text, block.image.tolist()),
        block.patient.tolist(),
        map(text, block.view.tolist()),
        np.asarray(block.age, np.float64).tolist(),
        map(text, block.sex.tolist()),
        np.asarray(block.label, np.float64).tolist(),
        np.asarray(block.logit, np.float64).tolist(),
        strict=True,
      )
      for image, patient, view, age, sex, label, logit in columns:
        film = [*start, image, patient, view, _number(age), sex]
        # A logit that is NaN stays 'nan': it is a fault, not an unknown.
        writer.writerow(
          [*film, *map(_number, label), *[f'{v:.9g}' for v in logit]]
        )

  files.replace_file(path, write)


def floats(rows: Sequence[Sequence[str]]) -> Float[np.ndarray, 'n k']:
  """Cells as numbers; an empty one is NaN."""
  try:
    return np.array([[cell or 'nan' for cell in r] for r in rows], np.float64)
  except ValueError:
    raise ValueError('a cell is not a number') from None


@contextlib.contextmanager
def table_reader(
  path: str, columns: Callable[[list[str]], Sequence[str]]
) -> Iterator[tuple[list[str], Iterator[list[str]]]]:
  """Opens a stored csv table: (header, rows), each row as long as the header.

  Args:
    path: of the table.
    columns: header -> the columns that it should have.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it has other columns; or, from inside the `with`, a row cannot
      be read. The sentence names the file, the line and the way out.
  """
  if not os.path.exists(path):
    folder, name = os.path.split(path)
    raise FileNotFoundError(
      f'No {name} in {folder or "."}; run --mode=evaluate first.'
    )
  # A speckled map has thousands of boxes in one cell.
  csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
  again = 'write it again with --mode=evaluate.'
  # A byte order mark is what a spreadsheet may leave.
  with open(path, newline='', encoding='utf-8-sig') as f:
    reader = csv.reader(f)
    try:
      header = next(reader, [])
      if header != list(columns(header)):
        name = os.path.basename(path)
        raise _OtherColumns(
          f'{path} does not have the columns of {name}; {again}'
        )

      def rows():
        for row in reader:
          if len(row) != len(header):
            raise ValueError(f'{len(row)} of {len(header)} cells')
          yield row

      yield header, rows()
    except _OtherColumns:
      raise
    except UnicodeDecodeError as error:
      raise ValueError(
        f'{path} is damaged: it is not UTF-8; {again}'
      ) from error
    except (ValueError, TypeError, csv.Error) as error:
      raise ValueError(
        f'{path} is damaged near line {reader.line_num} ({error}); {again}'
      ) from error


class _OtherColumns(ValueError):
  """A table of another version, or another file."""


def check_once(keys: Sequence[np.ndarray], what: str) -> None:
  """Raises ValueError where two rows have the same keys (a column each)."""
  order = np.lexsort(keys)
  same = np.ones(max(len(order) - 1, 0), bool)
  for key in keys:
    same &= key[order][1:] == key[order][:-1]
  if same.any():
    row = order[1:][same][0]
    name = ' '.join(str(key[row]) for key in reversed(keys))
    raise ValueError(f'{what} comes twice: {name}')


def read_findings(path: str) -> tuple[str, ...]:
  """The findings of predictions.csv, from its first line alone.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it has other columns.
  """
  with table_reader(path, _prediction_columns) as (header, _):
    return _findings_of(header)


def _findings_of(header: Sequence[str]) -> tuple[str, ...]:
  count = (len(header) - len(_FILM)) // 2
  names = header[len(_FILM) : len(_FILM) + max(count, 0)]
  return tuple(name.removeprefix('label_') for name in names)


def _prediction_columns(header: Sequence[str]) -> list[str]:
  findings = _findings_of(header)
  kinds = [f'{kind}_{n}' for kind in ('label', 'logit') for n in findings]
  return [*_FILM, *kinds]


def read_predictions(
  path: str,
) -> tuple[tuple[str, ...], dict[Condition, Predictions]]:
  """(findings, blocks) of `write_predictions`.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it has other columns, or a cell that is not a number.
  """
  blocks = {}
  text = files.unescape_cell
  with table_reader(path, _prediction_columns) as (header, reader):
    findings = _findings_of(header)
    count = len(findings)
    for key, group in itertools.groupby(reader, lambda row: row[:3]):
      rows = list(group)
      values = floats([row[len(_FILM) :] for row in rows])
      block = Predictions(
        image=np.array([text(row[3]) for row in rows]),
        patient=whole_numbers([row[4] for row in rows]),
        view=np.array([text(row[5]) for row in rows]),
        age=floats([row[6:7] for row in rows])[:, 0],
        sex=np.array([text(row[7]) for row in rows]),
        label=values[:, :count].astype(np.float32),
        logit=values[:, count:].astype(np.float32),
      )
      epsilon = float(floats([[key[2]]])[0, 0])
      condition = Condition(text(key[0]), text(key[1]), epsilon)
      if condition in blocks:
        raise ValueError(f'{" ".join(key)} comes twice')
      check_once([block.image], 'a film')
      blocks[condition] = block
  return findings, blocks


def whole_numbers(cells: Sequence[str]) -> Int[np.ndarray, ' n']:
  try:
    return np.array([int(cell) for cell in cells], np.int64)
  except (ValueError, OverflowError):
    raise ValueError('a cell is not a whole number') from None


# boxes.csv.


class Boxes(NamedTuple):
  """A table of scored boxes by column.

  A row is a film, finding, method, rule and draw, and a true box where the film
  has several of the finding; these rows have the same predicted boxes, and each
  score that is of the union of the true boxes. `draw` counts the draws of a
  control that chance has a part in; a method has draw 0 alone.

  The predicted boxes of all rows stand in one array, row after row; `count`
  says how many of them are each row's.
  """

  split: np.ndarray  # 'n' str
  image: np.ndarray  # 'n' str
  patient: Int[np.ndarray, ' n']
  finding: np.ndarray  # 'n' str
  method: np.ndarray  # 'n' str
  rule: np.ndarray  # 'n' str
  draw: Int[np.ndarray, ' n']
  truth: Float[np.ndarray, 'n 4']  # NaN where the film has no true box
  count: Int[np.ndarray, ' n']
  box: Float[np.ndarray, 'm 4']
  score: Float[np.ndarray, 'n s']  # in the order of scoring.SCORES
  # Whether the scores of the union are of a mask: then `truth` is the box of a
  # connected part of it, or a box that was drawn beside it.
  masked: Bool[np.ndarray, ' n']

  def rows(self, index: Int[np.ndarray, ' m']) -> 'Boxes':
    """The rows at these indices, in this order."""
    count = self.count[index]
    start = (np.cumsum(self.count) - self.count)[index]
    # Each row's boxes are count[i] in a row, from start[i] on.
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    columns = {
      name: column[index]
      for name, column in self._asdict().items()
      if name != 'box'
    }
    return Boxes(**columns, box=self.box[np.repeat(start, count) + within])

  def where(self, **values: str | int) -> 'Boxes':
    """The rows whose columns have these values: rule='wang', say."""
    mask = np.ones(len(self.image), bool)
    for name, value in values.items():
      mask &= getattr(self, name) == value
    return self.rows(np.flatnonzero(mask))

  def first_of_maps(self) -> Int[np.ndarray, ' m']:
    """The index of the first row of each map: a film may have several rows."""
    names = [self.image, self.finding, self.method, self.rule]
    columns = [np.unique(c, return_inverse=True)[1] for c in names]
    keys = np.stack([*columns, self.draw], axis=1)
    return np.sort(np.unique(keys, axis=0, return_index=True)[1])

  def boxes_of_rows(self) -> list[Float[np.ndarray, 'b 4']]:
    """The predicted boxes of each row."""
    return np.split(self.box, np.cumsum(self.count))[:-1]


def from_scored(
  scored: scoring.Scored,
  image: np.ndarray,
  patient: Int[np.ndarray, ' m'],
  *,
  finding: str,
  method: str,
  rule: str,
  draw: int = 0,
  split: str = 'test',
) -> Boxes:
  """The table of one finding's maps, which `scoring.score_finding` scored.

  `image` and `patient` are of the maps' films, in the same order.
  """
  all_rows = lambda value: np.full(len(scored.index), value)
  columns = scored._asdict()
  index = columns.pop('index')
  return Boxes(
    split=all_rows(split),
    image=image.astype(np.str_)[index],
    patient=patient.astype(np.int64)[index],
    finding=all_rows(finding),
    method=all_rows(method),
    rule=all_rows(rule),
    draw=all_rows(draw),
    **columns,
  )


def no_boxes() -> Boxes:
  """The table without a row."""
  nobody = np.zeros(0, np.int64)
  nothing = scoring.Scored(
    index=nobody,
    truth=np.zeros((0, 4)),
    count=nobody,
    box=np.zeros((0, 4)),
    score=np.zeros((0, len(scoring.SCORES))),
    masked=np.zeros(0, bool),
  )
  return from_scored(
    nothing, nobody.astype(np.str_), nobody, finding='', method='', rule=''
  )


def concatenate_boxes(tables: Sequence[Boxes]) -> Boxes:
  """The rows of all tables, one table after the other."""
  columns = zip(*(tables or [no_boxes()]), strict=True)
  return Boxes(*map(np.concatenate, columns))


_TEXT = ('split', 'image', 'patient', 'finding', 'method', 'rule', 'draw')
_BOX_COLUMNS = (*_TEXT, 'truth', 'boxes', *scoring.SCORES)
# What the scores of the union are of: 'mask', 'box', or '' without a true box.
# It is there where a row says 'mask'.
_KIND = 'truth_kind'
# What files of older versions lack.
_YOUNGER = ('draw', 'map_ap', _KIND)


def write_boxes(path: str, boxes: Boxes) -> None:
  """Writes boxes.csv for other programs and, beside it, boxes.npz for ours."""

  def write(f):
    writer = csv.writer(f, lineterminator='\n')
    with_masks = boxes.masked.any()
    writer.writerow([*_BOX_COLUMNS, *([_KIND] if with_masks else [])])
    columns = zip(
      *(getattr(boxes, name).tolist() for name in _TEXT),
      boxes.truth.tolist(),
      overlap.has_box(boxes.truth).tolist(),
      boxes.boxes_of_rows(),
      boxes.score.tolist(),
      boxes.masked.tolist(),
      strict=True,
    )
    for *text, truth, has_truth, predicted, scores, masked in columns:
      kind = ('mask' if masked else 'box') if has_truth else ''
      writer.writerow(
        [
          *[files.escape_cell(str(value)) for value in text],
          json.dumps(truth) if has_truth else '',
          json.dumps(predicted.tolist()),
          *['' if math.isnan(score) else repr(score) for score in scores],
          *([kind] if with_masks else []),
        ]
      )

  files.replace_file(path, write)
  digest = {'csv_sha256': np.array(files.sha256(path))}
  files.write_arrays(_npz(path), boxes._asdict() | digest)


def boxes_of(arrays: dict[str, np.ndarray]) -> Boxes:
  """The table of stored arrays; older ones lack draws, masks and scores."""
  count, num_scores = arrays['score'].shape
  older = {'draw': np.zeros(count, np.int64), 'masked': np.zeros(count, bool)}
  lacking = (0, 0), (0, len(scoring.SCORES) - num_scores)
  score = np.pad(arrays['score'], lacking, constant_values=np.nan)
  return Boxes(**older | arrays | {'score': score})


def _npz(path: str) -> str:
  return os.path.splitext(path)[0] + '.npz'


def read_boxes(path: str) -> Boxes:
  """The table of boxes.csv, from the .npz beside it where this is the same.

  A csv file that is not the one written with the .npz (an older version wrote
  it, or somebody edited it) is read itself.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it has other columns, a cell that is not what it should be, or a
      row twice.
  """
  if os.path.exists(path) and os.path.exists(_npz(path)):
    try:
      stored = files.read_arrays(_npz(path))
      if str(stored.pop('csv_sha256')) == files.sha256(path):
        return boxes_of(stored)
    except (ValueError, KeyError, TypeError):
      pass  # damaged, but the csv file has everything
  return _parse_boxes(path)


def _parse_boxes(path: str) -> Boxes:
  columns = lambda header: [
    name
    for name in (*_BOX_COLUMNS, _KIND)
    if name in header or name not in _YOUNGER
  ]
  with table_reader(path, columns) as (header, reader):
    rows = list(reader)
    cells = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    column = lambda name, older='': cells.get(name, [older] * len(rows))
    text = {
      name: np.array([files.unescape_cell(c) for c in column(name, '0')], str)
      for name in _TEXT
    }
    for name in ('patient', 'draw'):
      text[name] = whole_numbers(text[name].tolist())
    truth = [_box_cells(cell, 1) for cell in column('truth')]
    boxes = [_box_cells(cell) for cell in column('boxes')]
    scores = [column(name) for name in scoring.SCORES]
    table = Boxes(
      **text,
      truth=np.concatenate([np.zeros((0, 4)), *truth]),
      count=np.array([len(b) for b in boxes], np.int64),
      box=np.concatenate([np.zeros((0, 4)), *boxes]),
      score=floats(scores).T,
      masked=np.array([kind == 'mask' for kind in column(_KIND)], bool),
    )
    keys = [table.draw, table.rule, table.method, table.finding]
    keys += [table.image, table.split]
    check_once([*np.nan_to_num(table.truth, nan=-1.0).T, *keys], 'a row')
  return table


def _box_cells(cell: str, rows: int | None = None) -> Float[np.ndarray, 'b 4']:
  """The boxes of a cell; an empty one stands for `rows` that are unknown."""
  if not cell and rows:
    return np.full((rows, 4), np.nan)
  try:
    boxes = np.array(json.loads(cell), np.float64).reshape(-1, 4)
  except (ValueError, TypeError):
    raise ValueError('a cell does not hold boxes') from None
  if rows is not None and len(boxes) != rows:
    raise ValueError('a cell does not hold one box')
  return boxes
