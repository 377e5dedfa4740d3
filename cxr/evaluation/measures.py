"""What was measured of a film beside its logits and boxes: measures.csv.

Contract. A row holds one value of one film: the `measure` ('alignment', say),
the attribution `method` it is about, the `condition` it was measured under (an
attack, a layer), the `finding`; each of the last three may be empty. A value
that is undefined is NaN and counts in no mean. Every figure is a mean over
films, with its interval by bootstrap over patients.
"""

import csv
import itertools
import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cxr import files
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

# What stands under a table: one sentence for whoever did not make it.
MEANINGS = {
  'alignment': 'of film and gradient, |<film, gradient>| / |gradient| (Etmann '
  'et al. 2019), in [0, 1] pixels; larger where the gradient shows the film.',
  'cosine': 'of the angle between film and gradient.',
  'hidden': 'share of the films called positive that an attack within epsilon '
  'turns negative; both by the operating points of the validation films.',
  'planted': 'share of the films called negative that it turns positive.',
  'hide_moves_others': 'mean change, in logits, of the other findings while '
  'one is hidden: the attack holds them.',
  'plant_moves_others': 'the same while one is planted.',
  'box_iou': 'mean over true boxes, clean and under attack.',
  'pointing': 'share of true boxes that hold the highest point of the map.',
  'map_spearman': 'of a film clean and attacked, where it has a true box.',
  'map_ssim': 'the same films; each map by its own largest magnitude.',
  'sameness': "correlation of a film's map with the mean map of the others; "
  'near 1 it is one map for every film.',
  'outside_body': 'share of |map| outside the body; of a uniform map, the '
  'share of the film that lies outside.',
  'completeness_gap': 'what integrated gradients miss of the change from a '
  'black film, over that change (Sundararajan et al. 2017).',
  'stability': 'rank correlation of a map with those of the film under noise '
  'of 1 % (Alvarez-Melis and Jaakkola 2018).',
  'randomisation': 'rank correlation of |map| with that of the network '
  'shuffled from its head down to a stage (Adebayo et al. 2018); what does not '
  'fall shows the film, not what was learned.',
  'insertion': "area under the finding's probability as the hottest pixels of "
  'a blurred film turn sharp (Petsiuk et al. 2018); higher is better.',
  'deletion': 'the same as the hottest pixels turn black; lower is better.',
  'effect': 'logits that a film loses without its lesion, or without its '
  'shortcut, where it is its only finding.',
  'lesion_share': 'effect of the lesion over those of both causes, in size; of '
  'a method, what its maps tell of that.',
  'on_lesion': 'share of |map| on the pixels that the lesion changes; of a '
  'uniform map, their share of the film.',
  'on_shortcut': "share of a map's energy at the frequency of the finding's "
  'grating.',
}


class Measure(NamedTuple):
  """One measure of some films, by finding; `findings` is ('',) where it has
  none."""

  measure: str
  image: np.ndarray  # 'n' str
  patient: Int[np.ndarray, ' n']
  value: Float[np.ndarray, 'n k']
  method: str = ''
  condition: str = ''
  findings: tuple[str, ...] = ('',)

  @property
  def key(self) -> tuple[str, str, str]:
    return self.measure, self.method, self.condition


def write(path: str, measures: Sequence[Measure]) -> None:
  """Writes every value; the old file stays until this one is whole."""
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
    ValueError: it has other columns, or a cell that is not what it should be.
  """
  if not os.path.exists(path):
    return []
  text = files.unescape_cell
  measures = []
  with open(path, newline='', encoding='utf-8') as f:
    reader = csv.reader(f)
    if tuple(next(reader, [])) != _COLUMNS:
      raise ValueError(
        f'{path} does not have the columns of measures.csv; write it again '
        'with --mode=evaluate.'
      )
    try:
      for key, group in itertools.groupby(reader, lambda row: row[:3]):
        by_finding = {
          finding: list(rows)
          for finding, rows in itertools.groupby(group, lambda row: row[3])
        }
        first = next(iter(by_finding.values()))
        value = np.array(
          [
            [float(row[6] or 'nan') for row in rows]
            for rows in by_finding.values()
          ]
        )
        measure, method, condition = map(text, key)
        measures.append(
          Measure(
            measure,
            np.array([text(row[4]) for row in first]),
            np.array([int(row[5]) for row in first]),
            value.T,
            method,
            condition,
            tuple(map(text, by_finding)),
          )
        )
    except (IndexError, ValueError) as error:
      raise ValueError(
        f'{path} is damaged near line {reader.line_num}: {error}.'
      ) from error
  return measures


def figures(measures: Sequence[Measure], **options) -> dict:
  """{measure: {method: {condition: {'mean' | finding: figure}}}}.

  'mean' is the mean over findings of what is defined; a measure without
  findings has it alone. `options`: num_resamples and seed.
  """
  result = {}
  for m in measures:
    (found,) = ratios.figures(
      ratios_of(m), m.patient, [counts_of(m)], **options
    )
    _place(result, m)[m.condition] = _named(found)
  return result


def compare(runs: Sequence[Sequence[Measure]], **options) -> dict:
  """The same keys with entries of `stats.paired_figures`, for what all have.

  Raises:
    ValueError: a measure that was not taken of the same films.
  """
  others = [{m.key: m for m in run} for run in runs[1:]]
  result = {}
  for first in runs[0]:
    if not all(first.key in run for run in others):
      continue
    aligned = [first, *(_aligned(first, run[first.key]) for run in others)]
    (entry,) = ratios.paired(
      [ratios_of(m) for m in aligned],
      first.patient,
      [counts_of(first)],
      **options,
    )
    _place(result, first)[first.condition] = _named(entry)
  return result


def _place(result: dict, m: Measure) -> dict:
  return result.setdefault(m.measure, {}).setdefault(m.method, {})


def _named(found: dict) -> dict:
  return {name: value for name, value in found.items() if name}


def ratios_of(m: Measure) -> ratios.Ratios:
  defined = ~np.isnan(m.value)
  return ratios.Ratios(
    np.where(defined, m.value, 0.0)[:, None],
    defined.astype(np.float64)[:, None],
    m.findings,
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
  mine, order = np.argsort(first.image), np.argsort(other.image)
  if (
    not np.array_equal(first.image[mine], other.image[order])
    or first.findings != other.findings
  ):
    raise ValueError(
      f'{first.measure} was measured on other films or findings in the runs; '
      'evaluate them again on one data folder.'
    )
  place = np.empty(len(order), int)
  place[mine] = order
  return other._replace(value=other.value[place])
