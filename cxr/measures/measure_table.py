"""What was measured of a film beside its logits and boxes: measures.csv.

Contract. A row holds one value of one film: the `measure` ('alignment', say),
the attribution `method` it is about, the `condition` it was measured under (an
attack, a layer), the `finding`; each of the last three may be empty. A value
that is undefined is NaN and counts in no mean. Every estimate is a mean over
films, with Student's interval over patients.
"""

import csv
import itertools
import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cxr import files, stored_rows
from cxr.statistics import ratios

_COLUMNS = (
  'measure',
  'method',
  'condition',
  'finding',
  'image',
  'patient',
  'value',
)


# Of their intervals; what has a sign and no bound is on the linear scale.
_SCALES = {
  'logit': (
    'hidden',
    'planted',
    'box_iou',
    'pointing',
    'outside_body',
    'sparsity',
    'insertion',
    'deletion',
    'attacked_top',
    'attacked_iou',
    'road_morf',
    'road_lerf',
    'lesion_share',
    'on_lesion',
    'on_shortcut',
  ),
  'log': (
    'alignment',
    'completeness_gap',
    'hide_moves_others',
    'plant_moves_others',
    'attacked_logits',
  ),
  'fisher': (
    'cosine',
    'sameness',
    'stability',
    'randomisation',
    'map_spearman',
    'map_ssim',
    'attacked_map',
    'repeatability',
  ),
}


class Measure(NamedTuple):
  """The values of one measure: one per film, and per finding if it has them."""

  measure: str
  image: np.ndarray  # 'n' str
  patient: Int[np.ndarray, ' n']
  value: Float[np.ndarray, 'n k']
  method: str = ''
  condition: str = ''
  findings: tuple[str, ...] = ('',)  # ('',): one value a film

  @property
  def key(self) -> tuple[str, str, str]:
    return self.measure, self.method, self.condition


def write(path: str, measures: Sequence[Measure]) -> None:
  """Writes measures.csv; the old file stays until this one is whole."""
  escape = files.escape_cell

  def rows(f):
    writer = csv.writer(f, lineterminator='\n')
    writer.writerow(_COLUMNS)
    for m in measures:
      for k, finding in enumerate(m.findings):
        start = [escape(text) for text in (*m.key, finding)]
        for image, patient, value in zip(
          m.image.tolist(), m.patient.tolist(), m.value[:, k], strict=True
        ):
          cell = '' if math.isnan(value) else f'{value:.9g}'
          writer.writerow([*start, escape(image), patient, cell])

  files.replace_file(path, rows)


def read(path: str) -> list[Measure]:
  """The measures of `write`; none where there is no such file.

  Raises:
    ValueError: it has other columns, a cell that is not what it should be, or
      a value twice.
  """
  if not os.path.exists(path):
    return []
  text = files.unescape_cell
  measures = []
  with stored_rows.table_reader(path, lambda header: _COLUMNS) as (_, reader):
    for key, group in itertools.groupby(reader, lambda row: row[:3]):
      by_finding = {
        finding: list(rows)
        for finding, rows in itertools.groupby(group, lambda row: row[3])
      }
      first, *others = by_finding.values()
      images = [row[4] for row in first]
      if any([row[4] for row in rows] != images for rows in others):
        raise ValueError(f'{" ".join(key)}: its findings have other films')
      value = stored_rows.floats(
        [[row[6] for row in rows] for rows in by_finding.values()]
      )
      measure, method, condition = map(text, key)
      measures.append(
        Measure(
          measure,
          np.array([text(image) for image in images]),
          stored_rows.whole_numbers([row[5] for row in first]),
          value.T,
          method,
          condition,
          tuple(map(text, by_finding)),
        )
      )
      stored_rows.check_once([measures[-1].image], 'a film')
    if len({m.key for m in measures}) < len(measures):
      raise ValueError('a measure comes twice')
  return measures


def estimates(measures: Sequence[Measure], **options) -> dict:
  """Estimates the mean of every measure over films.

  Args:
    measures: of one run.
    **options: num_resamples and seed of the bootstrap.

  Returns:
    {measure: {method: {condition: {'mean' | finding: estimate}}}}. 'mean' is
    the mean over findings of what is defined; a measure without findings has it
    alone.
  """
  result = {}
  for m in measures:
    (found,) = ratios.estimates(
      ratios_of(m), m.patient, [counts_of(m)], **options
    )
    _place(result, m)[m.condition] = _named(found)
  return result


def compare(runs: Sequence[Sequence[Measure]], **options) -> dict:
  """The same keys with entries of `paired.estimates`, for what all have.

  Raises:
    ValueError: a measure that was not taken of the same films.
  """
  others = [{m.key: m for m in run} for run in runs[1:]]
  result = {}
  for first in runs[0]:
    if not all(first.key in run for run in others):
      continue
    aligned = [first, *(_aligned(first, run[first.key]) for run in others)]
    (entry,) = ratios.compare(
      [ratios_of(m) for m in aligned],
      first.patient,
      [counts_of(first)],
      **options,
    )
    _place(result, first)[first.condition] = _named(entry)
  return result


def _place(result: dict, m: Measure) -> dict:
  return result.setdefault(m.measure, {}).setdefault(m.method, {})


def _named(estimates: dict) -> dict:
  return {name: value for name, value in estimates.items() if name}


def ratios_of(m: Measure) -> ratios.Ratios:
  defined = ~np.isnan(m.value)
  scale = next((s for s in _SCALES if m.measure in _SCALES[s]), 'linear')
  return ratios.Ratios(
    np.where(defined, m.value, 0.0)[:, None],
    defined.astype(np.float64)[:, None],
    m.findings,
    (scale,),
  )


def counts_of(m: Measure) -> list[dict]:
  defined = ~np.isnan(m.value)
  masks = [defined.any(axis=1), *defined.T]
  return [
    {
      'images': int(mask.sum()),
      'patients': len(np.unique(m.patient[mask])),
      'why': 'no film has a value',
    }
    for mask in masks
  ]


def _aligned(first: Measure, other: Measure) -> Measure:
  """`other` in the order of `first`."""
  order = stored_rows.matching_order([first.image], [other.image])
  if order is None or first.findings != other.findings:
    raise ValueError(
      f'{first.measure} was measured on other films or findings in the runs; '
      'evaluate them again on one data folder.'
    )
  return other._replace(
    image=other.image[order],
    patient=other.patient[order],
    value=other.value[order],
  )
