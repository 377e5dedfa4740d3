"""Maps and boxes of an evaluation as files for other tools.

They are of the boxed test films. Boxes are in the pixels that the data set
gives its true boxes in; masks are of the prepared films.
"""

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import special

from cxr import data, stored_rows
from cxr.exporting import chexlocalize, coco
from cxr.localization import overlap, regions, scoring, thresholds
from input_pipeline.radiograph import radiograph, views

_TRUTH = 'chexlocalize-truth.json'
# Ends of the names of files with CheXlocalize's scores.
_SCORES = 'iou', 'iou-all', 'hit'


def chexlocalize_files(method: str) -> list[str]:
  """Names of what `write_chexlocalize` leaves of a method."""
  ends = ('.json', *(f'-{score}.csv' for score in _SCORES))
  return [_TRUTH, *(f'chexlocalize-{method}{end}' for end in ends)]


def write_chexlocalize(
  folder: str,
  method: str,
  films: data.BoxedFilms,
  maps: Float[np.ndarray, 'n h w k'],
  *,
  rule: str,
) -> None:
  """Writes masks and their scores as CheXlocalize counts them.

  The true masks are those that were drawn, or those of the true boxes where
  none was; the predicted ones are the pixels of a map
  above the rule's lowest level. A film without a box of a finding has an empty
  true mask. Three scores are written: 'iou' is the IoU with that tool's
  `--true_pos_only True`, 'iou-all' with `False`, which scores films without the
  finding, too, and 'hit' is its hit rate. That tool can empty the masks of
  findings whose probability is low; here a mask is predicted for every film and
  finding, so 'iou-all' is 0 on each film without a box of the finding.

  Args:
    folder: to write into.
    method: the method of attribution, for the files' names.
    films: the n boxed films.
    maps: of the findings of `films`.
    rule: that gives the levels.
  """
  path = lambda name: os.path.join(folder, name)
  size = maps.shape[1:3]
  truth = {str(name): {} for name in films.name}
  masks = {name: {} for name in truth}
  scores = np.full((len(_SCORES), len(truth), len(films.findings)), np.nan)
  for k, finding in enumerate(films.findings):
    heatmaps = maps[..., k]
    levels = thresholds.finding_levels(
      rule, heatmaps, films.truth[:, k], films.patient
    )
    for i, name in enumerate(truth):
      heatmap = regions.clean(heatmaps[i])
      true = scoring.true_pixels(films.true_region(i, k), size)
      truth[name][finding] = true
      mask = masks[name][finding] = heatmap > min(levels[i])
      scores[:, i, k] = (
        chexlocalize.iou(true, mask),
        chexlocalize.iou(true, mask, true_pos_only=False),
        chexlocalize.hit(true, heatmap),
      )
  chexlocalize.write_segmentations(path(_TRUTH), truth)
  chexlocalize.write_segmentations(path(f'chexlocalize-{method}.json'), masks)
  for kind, score in zip(_SCORES, scores, strict=True):
    chexlocalize.write_results(
      path(f'chexlocalize-{method}-{kind}.csv'),
      list(truth),
      films.findings,
      score,
    )


def write_coco(
  folder: str,
  films: data.BoxedFilms,
  boxes: stored_rows.Boxes,
  logits: Float[np.ndarray, 'n k'],
  size: int,
) -> None:
  """Writes coco-truth.json, and coco-<method>.json of each method's boxes.

  Args:
    folder: to write into.
    films: the boxed films.
    boxes: rows of boxes.csv under one rule; of several draws the first is
      written.
    logits: of all films of the split, and of the findings of `films`; a
      predicted box's score is the probability of its finding on its film.
    size: side of the prepared films, in pixels.
  """
  names = films.name.astype(str).tolist()
  frame_of = dict(zip(names, films.frame.tolist(), strict=True))
  images = {name: tuple(frame[:2]) for name, frame in frame_of.items()}
  index_of = dict(zip(names, films.row.tolist(), strict=True))
  true_boxes = [
    (names[i], films.findings[k], box)
    for i, k, j in np.argwhere(overlap.has_box(films.truth))
    for box in _on_film(films.truth[i, k, j : j + 1], frame_of[names[i]], size)
  ]
  path = lambda kind: os.path.join(folder, f'coco-{kind}.json')
  coco.write_truth(path('truth'), images, films.findings, true_boxes)
  for method in dict.fromkeys(boxes.method.tolist()):
    rows, detections = boxes.where(method=method, draw=0), []
    rows = rows.rows(rows.first_of_maps())
    for name, finding, of_row in zip(
      rows.image.tolist(),
      rows.finding.tolist(),
      rows.boxes_of_rows(),
      strict=True,
    ):
      logit = logits[index_of[name], films.findings.index(finding)]
      score = float(special.expit(logit))
      detections += [
        (name, finding, box, score)
        for box in _on_film(of_row, frame_of[name], size)
      ]
    coco.write_detections(path(method), images, films.findings, detections)


def _on_film(
  boxes: Float[np.ndarray, 'b 4'], frame: Sequence[int], size: int
) -> Float[np.ndarray, 'c 4']:
  """Boxes in [0, 1] of a prepared film as shares of the film as it is stored.

  A prepared film is square, with black beside the film where this is not, and
  upright. Boxes that lie beside the film are left out.

  Args:
    boxes: of the prepared film.
    frame: of the film; see `pipeline.Split`.
    size: side of the prepared film.
  """
  height, width, *turned = frame
  turn = views.Turn(*map(bool, turned))
  if height == width and not any(turned):
    return boxes  # not one bit is moved
  upright = (width, height) if turn.transpose else (height, width)
  top, left, high, wide = radiograph.padded(*upright, size)
  shares = boxes * size - (top, left, top, left)
  shares = np.clip(shares / (high, wide, high, wide), 0, 1)
  return turn.undo(shares[overlap.area(shares) > 0], 1, 1)
