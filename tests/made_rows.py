"""Rows of predictions.csv and boxes.csv, made without a model.

Used by the tests of everything that reads them.
"""

import numpy as np

from cxr import stored_rows
from cxr.localization import overlap, scoring
from input_pipeline.findings import FINDINGS


def predictions(seed=0, n=60, data_seed=0, skill=1.0):
  """Films and labels by data_seed, logits by seed."""
  data, rng = np.random.default_rng(data_seed), np.random.default_rng(seed)
  label = (data.random((n, 14)) < 0.3).astype(np.float32)
  label[data.random((n, 14)) < 0.05] = np.nan
  age = data.integers(1, 95, n).astype(float)
  age[0] = np.nan
  return stored_rows.Predictions(
    image=np.array([f'{i:08d}_000.png' for i in range(n)]),
    patient=data.integers(0, 20, n),
    view=data.choice(['PA', 'AP', ''], n),
    age=age,
    sex=data.choice(['M', 'F'], n),
    label=label,
    logit=(rng.normal(size=(n, 14)) + skill * np.nan_to_num(label)).astype(
      np.float32
    ),
  )


def row(image, finding, truth, boxes, *, patient=None, method='cam', **scores):
  """A row of boxes.csv; each score that is not given is .5."""
  boxes = np.array(boxes, float).reshape(-1, 4)
  row = dict.fromkeys(scoring.SCORES, float('nan'))
  if truth is not None:
    truth = np.array(truth, float)
    row |= dict.fromkeys(scoring.SCORES, 0.5)
    row['iou'] = overlap.iou(boxes, truth).max(initial=0.0)
    row['iobb'] = overlap.iobb(boxes, truth).max(initial=0.0)
  return row | {
    'split': 'test',
    'image': image,
    'patient': int(image[1:]) if patient is None else patient,
    'finding': finding,
    'method': method,
    'rule': 'wang',
    'truth': truth,
    'boxes': boxes,
    **scores,
  }


LEFT, RIGHT = [0, 0, 1, 0.5], [0, 0.5, 1, 1]
QUARTER = [0, 0, 0.5, 0.5]  # of LEFT: IoU 1/2, IoBB 1


def hand_counted():
  """Three films, two findings, three boxes: test_box_estimates counts them."""
  return [
    # Mass: hit twice; hit at IoU < .5 with a wrong box beside it; no box.
    row('f1', 'Mass', LEFT, [LEFT, QUARTER], map_auroc=1.0),
    row('f2', 'Mass', LEFT, [QUARTER, RIGHT], map_auroc=0.5),
    row('f3', 'Mass', None, [LEFT]),
    # Nodule: never found; two wrong boxes on films without one.
    row('f1', 'Nodule', None, [LEFT, RIGHT]),
    row('f2', 'Nodule', None, []),
    row('f3', 'Nodule', RIGHT, []),
  ]


def make_boxes(rows):
  """The table of such rows."""

  def column(dtype, name):
    return np.array([row[name] for row in rows], dtype)

  truth = [[np.nan] * 4 if r['truth'] is None else r['truth'] for r in rows]
  boxes = [np.asarray(r['boxes'], float) for r in rows]
  score = [[r[name] for name in scoring.SCORES] for r in rows]
  return stored_rows.Boxes(
    split=column(np.str_, 'split'),
    image=column(np.str_, 'image'),
    patient=column(np.int64, 'patient'),
    finding=column(np.str_, 'finding'),
    method=column(np.str_, 'method'),
    rule=column(np.str_, 'rule'),
    draw=np.array([r.get('draw', 0) for r in rows], np.int64),
    truth=np.array(truth, float).reshape(-1, 4),
    masked=np.array([r.get('masked', False) for r in rows], bool),
    count=np.array([len(b) for b in boxes], np.int64),
    box=np.concatenate([np.zeros((0, 4)), *boxes]),
    score=np.array(score, float).reshape(-1, len(scoring.SCORES)),
  )


def written(tmp_path, rows, name='run', blocks=None):
  """A workdir with boxes.csv of `rows` (a list or a table) and predictions."""
  folder = tmp_path / name
  folder.mkdir(exist_ok=True)
  if isinstance(rows, list):
    rows = make_boxes(rows)
  stored_rows.write_boxes(str(folder / 'boxes.csv'), rows)
  stored_rows.write_predictions(
    str(folder / 'predictions.csv'),
    {stored_rows.Condition('test'): predictions()}
    if blocks is None
    else blocks,
    findings=FINDINGS,
  )
  return str(folder)
