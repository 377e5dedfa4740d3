"""Masks and results in CheXlocalize's files (Saporta et al. 2022).

Masks are bool 'h w' here and run-length encoded there: pycocotools' compressed
counts, column by column.
"""

import csv
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from cxr import files
from input_pipeline import findings as findings_lib


def rle_encode(mask: Bool[np.ndarray, 'h w']) -> dict:
  """A mask as {'size': [h, w], 'counts': str}: runs of 0 and 1 in turn.

  Examples:
    >>> rle_encode(np.array([[0, 1, 0], [1, 1, 0]], bool))
    {'size': [2, 3], 'counts': '132'}
  """
  flat = np.asarray(mask, bool).ravel(order='F')
  changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
  edges = np.concatenate([[0], changes, [flat.size]])
  runs = [int(n) for n in np.diff(edges)]
  if flat.size and flat[0]:
    runs.insert(0, 0)
  text = []
  for i, run in enumerate(runs):
    number = run - runs[i - 2] if i > 2 else run
    more = True
    while more:
      digit = number & 31
      number >>= 5
      more = number != (-1 if digit & 16 else 0)
      text.append(chr(digit + 32 * more + 48))
  return {'size': [int(n) for n in mask.shape], 'counts': ''.join(text)}


# The tasks that its evaluation asks of every film.
TASKS = (
  'Enlarged Cardiomediastinum',
  'Cardiomegaly',
  'Lung Lesion',
  'Airspace Opacity',
  'Edema',
  'Consolidation',
  'Atelectasis',
  'Pneumothorax',
  'Pleural Effusion',
  'Support Devices',
)


def task(finding: str) -> str:
  """The task that means the finding; the finding itself where there is none.

  Examples:
    >>> task('Effusion'), task('Lung Opacity'), task('Mass')
    ('Pleural Effusion', 'Airspace Opacity', 'Mass')
  """
  named = (name for name in TASKS if findings_lib.same(finding, name))
  return next(named, finding)


def write_segmentations(
  path: str, masks: Mapping[str, Mapping[str, Bool[np.ndarray, 'h w']]]
) -> None:
  """Writes masks (film -> finding -> mask) as CheXlocalize's segmentations.

  Every film gets all TASKS, with an empty mask where none is
  given; a finding that is none of them keeps its name.

  Raises:
    ValueError: a film without a mask (its size is unknown), or of two sizes.
  """
  content = {}
  for name, by_finding in masks.items():
    sizes = {mask.shape for mask in by_finding.values()}
    if len(sizes) != 1:
      raise ValueError(
        f'The masks of {name!r} have {len(sizes)} sizes; a film needs at '
        'least one mask, all of its own size.'
      )
    empty = rle_encode(np.zeros(sizes.pop(), bool))
    content[name] = dict.fromkeys(TASKS, empty) | {
      task(finding): rle_encode(mask) for finding, mask in by_finding.items()
    }
  files.write_json(path, content)


def iou(
  truth: Bool[np.ndarray, 'h w'],
  predicted: Bool[np.ndarray, 'h w'] | None,
  *,
  true_pos_only: bool = True,
) -> float:
  """A film's IoU as CheXlocalize counts it; its mean over films is mIoU.

  The rule for empty masks is that of `calculate_iou` in its eval.py. With
  `--true_pos_only True`, its default, a film counts where both masks have
  pixels: misses go unpunished. With `--true_pos_only False` it counts where
  either has: a missed lesion is 0, and so is a mask on a film without one.

  Returns:
    The IoU; NaN where the film does not count.

  Examples:
    >>> lesion, nothing = np.array([[True, False]]), np.zeros((1, 2), bool)
    >>> iou(nothing, lesion), iou(nothing, lesion, true_pos_only=False)
    (nan, 0.0)
  """
  if predicted is None:
    predicted = np.zeros_like(truth)
  present = truth.any(), predicted.any()
  if not (all(present) if true_pos_only else any(present)):
    return math.nan
  return float((truth & predicted).sum() / (truth | predicted).sum())


def hit(
  truth: Bool[np.ndarray, 'h w'], heatmap: Float[np.ndarray, 'h w']
) -> float:
  """1 if the map's first highest pixel lies in the truth, 0 if not.

  NaN where the truth is empty. The mean over films is the hit rate.
  """
  if not truth.any():
    return math.nan
  return float(truth.ravel()[np.argmax(heatmap)])


def write_results(
  path: str,
  images: Sequence[str],
  findings: Sequence[str],
  score: Float[np.ndarray, 'n k'],
) -> None:
  """CheXlocalize's results csv: a column per finding, then img_id."""

  def write(f):
    writer = csv.writer(f, lineterminator='\n')
    writer.writerow([*map(files.escape_cell, findings), 'img_id'])
    for name, row in zip(images, score, strict=True):
      cells = ['' if math.isnan(v) else repr(float(v)) for v in row]
      writer.writerow([*cells, files.escape_cell(name)])

  files.replace_file(path, write)
