"""Predictions of any origin: a csv with a column `image` and one a finding."""

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging
from jaxtyping import Float
from scipy import special

from input_pipeline import findings as findings_lib
from input_pipeline import tables
from input_pipeline.sources import film_names

KINDS = ('', 'logits', 'probabilities')
# The logit of a probability that is written as 0 or 1.
_FARTHEST = 1000.0


class Read(NamedTuple):
  """What a table predicts of the test films."""

  findings: tuple[str, ...]  # of `findings`, those with a column
  logit: Float[np.ndarray, 'n k']  # NaN where a cell holds no finite number
  kind: str  # of the values in the file
  # (image, finding, why) of what is not used.
  left_out: tuple[tuple[str, str, str], ...]


def read(
  path: str,
  row_of: Callable[[str], int | str],
  num_films: int,
  findings: Sequence[str],
  synonyms: Mapping[str, str],
  *,
  kind: str = '',
) -> Read:
  """Reads the table.

  Args:
    path: of the csv file.
    row_of: a film's name -> its row among the test films, or why it has none.
    num_films: of the test films.
    findings: that may have a column, under any of their names.
    synonyms: the table of names that mean the same.
    kind: of the values, one of KINDS; '': logits where a value lies outside of
      [0, 1], else probabilities.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it has no column of films or of findings, or `kind` is not what
      its values are.
  """
  file = pathlib.Path(path)
  if not file.is_file():
    raise FileNotFoundError(
      f'There is no table of predictions {path}; it is a csv with a column '
      'image and a column for each finding.'
    )
  column_of, left_out = {}, []  # finding -> the header's cell
  for cell in tables.header(file, (*film_names.COLUMN, *findings)):
    plain = tables.plain(cell)
    if not plain or plain in map(tables.plain, film_names.COLUMN):
      continue
    try:
      k = findings_lib.index_of(cell, findings, synonyms)
    except ValueError:
      left_out.append(('', cell, 'a column of predictions that is no finding'))
    else:
      if findings[k] in column_of:
        raise ValueError(
          f'{path}: the columns {column_of[findings[k]]!r} and {cell!r} mean '
          'the same finding; give it one.'
        )
      column_of[findings[k]] = cell
  if not column_of:
    raise ValueError(
      f'{path} has a column for none of the findings ({", ".join(findings)}); '
      'its first line must name image and findings.'
    )
  named = [finding for finding in findings if finding in column_of]
  value = np.full((num_films, len(named)), np.nan)
  columns = {'image': film_names.COLUMN}
  columns |= {finding: (column_of[finding],) for finding in named}
  seen = set()
  for _, cells in tables.read_table(file, columns):
    row = row_of(cells['image'])
    if isinstance(row, str):
      left_out.append((cells['image'], '', f'a prediction of {row}'))
    elif row in seen:
      reason = 'a second prediction of a film: the first is taken'
      left_out.append((cells['image'], '', reason))
    else:
      seen.add(row)
      value[row] = [tables.number(cells[finding]) for finding in named]
      left_out += [
        (cells['image'], finding, 'a prediction that is no finite number')
        for finding, v in zip(named, value[row].tolist(), strict=True)
        if math.isnan(v)
      ]
  inside = np.nanmin(value, initial=0) >= 0 and np.nanmax(value, initial=1) <= 1
  if kind == 'probabilities' and not inside:
    raise ValueError(
      f'{path} has values below 0 or above 1, which are no probabilities; '
      'leave --predictions_are out, or give logits.'
    )
  kind = kind or ('probabilities' if inside else 'logits')
  if kind == 'probabilities':
    value = np.clip(special.logit(value), -_FARTHEST, _FARTHEST)
  logging.info(
    'Predictions of %d test films, taken as %s (--predictions_are).',
    len(seen),
    kind,
  )
  return Read(tuple(named), value.astype(np.float32), kind, tuple(left_out))
