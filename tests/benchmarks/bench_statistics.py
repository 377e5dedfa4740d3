"""What the figures cost on the host.

python -m tests.benchmarks.bench_statistics [--quick]

The sizes of the full data set: 984 boxed maps of 224 px; 25,596 films of 2,797
patients by 14 findings. Seconds are wall clock, with the processor's beside
them: on a busy machine only the latter says something about the code.
`--quick` runs a tenth of it.
"""

import os
import sys
import tempfile
import time

import numpy as np
from sklearn import metrics as sklearn_metrics

from cxr import stored_rows
from cxr.attribution import cam
from cxr.estimates import box_estimates
from cxr.localization import controls, regions, scoring, thresholds
from cxr.statistics import bootstrap, intervals, paired, rankings
from input_pipeline.findings import BOXED, FINDINGS

# Real prevalences run from .2 to 18 %.
PREVALENCE = np.geomspace(0.002, 0.18, len(FINDINGS))


def _timed(what, function):
  wall, processor = time.perf_counter(), time.process_time()
  result = function()
  wall, processor = (
    time.perf_counter() - wall,
    time.process_time() - processor,
  )
  print(f'{what:<64}{wall:8.2f} s {processor:8.2f} s')
  return result


def _maps(num_maps):
  weights = cam.interpolation(28, 224, stride=8, offset=0)
  maps = [controls.random_map(i, weights, weights) for i in range(num_maps)]
  rng = np.random.default_rng(0)
  corner = rng.random((num_maps, 2)) * 0.7
  truth = np.concatenate(
    [corner, corner + rng.random((num_maps, 2)) * 0.3], axis=1
  )
  patient = np.arange(num_maps) // 2
  _timed(
    f'{num_maps} maps of 224 px to Wang boxes',
    lambda: [
      regions.levels_to_boxes(m, thresholds.wang_levels(m)) for m in maps
    ],
  )
  for rules in (
    ('wang',),
    tuple(thresholds.RULES),
    thresholds.CROSS_FITTED_RULES,
  ):
    _timed(
      f'{num_maps} maps to boxes and all scores: {", ".join(rules)}',
      lambda rules=rules: scoring.score_finding(
        maps, truth, patient, rules=rules
      ),
    )


def _resample(make, score, label, patient):
  patient, num_patients = bootstrap.index_patients(patient)
  statistic = make(score, label, patient, num_patients)
  return bootstrap.resample(statistic, num_patients)


def _scikit_learn(score, label, patient, num_resamples):
  """The loop one would write: films repeated, one AUROC after another."""
  unit, num_units = bootstrap.index_patients(patient)
  for weight in next(
    bootstrap.resample_weights(num_units, num_resamples=num_resamples)
  ).T:
    films = np.repeat(np.arange(len(unit)), weight[unit].astype(int))
    for k in range(label.shape[1]):
      if 0 < label[films, k].sum() < len(films):
        sklearn_metrics.roc_auc_score(label[films, k], score[films, k])


def _bootstrap(films, patients):
  rng = np.random.default_rng(0)
  patient = np.sort(rng.integers(0, patients, films))
  label = (rng.random((films, 14)) < PREVALENCE).astype(np.float64)
  score = rng.normal(size=(films, 14)) + label
  other = score + rng.normal(size=score.shape)
  size = f'{films} x 14'
  count = bootstrap.NUM_RESAMPLES
  _timed(
    f'{count} bootstraps of AUROC, {size}',
    lambda: _resample(rankings.make_auroc, score, label, patient),
  )
  index, num_patients = bootstrap.index_patients(patient)
  _timed(
    f'degrees of freedom of the same, {intervals.MAX_LEFT_OUT} groups out',
    lambda: intervals.leave_out(
      rankings.make_auroc(score, label, index, num_patients), num_patients
    ),
  )
  _timed(
    f'20 of the same by a scikit-learn loop (times {count // 20})',
    lambda: _scikit_learn(score, label, patient, 20),
  )
  _timed(
    f'{count} bootstraps of average precision, {size}',
    lambda: _resample(rankings.make_average_precision, score, label, patient),
  )
  _timed(
    f'paired AUROC: {count} bootstraps and permutations, {size}',
    lambda: paired.compare_rankings(
      rankings.make_auroc, score, other, label, patient
    ),
  )
  block = stored_rows.Predictions(
    image=np.array([f'{i:08d}_000.png' for i in range(films)]),
    patient=patient,
    view=np.full(films, 'PA'),
    age=np.full(films, 50.0),
    sex=np.full(films, 'F'),
    label=label.astype(np.float32),
    logit=score.astype(np.float32),
  )
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'predictions.csv')
    _timed(
      f'predictions.csv written, {size}',
      lambda: stored_rows.write_predictions(
        path, {stored_rows.Condition('test'): block}, findings=FINDINGS
      ),
    )
    _timed(
      f'predictions.csv read, {size}',
      lambda: stored_rows.read_predictions(path),
    )


def _box_rows(films):
  rng = np.random.default_rng(0)
  image = np.array([f'{i:08d}_000.png' for i in range(films)])
  tables = []
  for k, finding in enumerate(BOXED):
    boxed = np.arange(films) % len(BOXED) == k
    for method in ('cam', 'gradient', 'random', 'mean_box', 'centre', 'other'):
      scored = scoring.Scored(
        index=np.arange(films),
        truth=np.where(boxed[:, None], [0.1, 0.1, 0.4, 0.4], np.nan),
        count=np.full(films, 3),
        box=np.sort(rng.random((3 * films, 2, 2)), axis=1).reshape(-1, 4),
        score=np.where(boxed[:, None], [0.5] * len(scoring.SCORES), np.nan),
        masked=np.zeros(films, bool),
      )
      tables.append(
        stored_rows.from_scored(
          scored,
          image,
          np.arange(films),
          finding=finding,
          method=method,
          rule='wang',
        )
      )
  rows = stored_rows.concatenate_boxes(tables)
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'boxes.csv')
    _timed(
      f'boxes.csv written, {len(rows.count)} rows',
      lambda: stored_rows.write_boxes(path, rows),
    )
    read = _timed('boxes.csv read', lambda: stored_rows.read_boxes(path))
  one = read.where(method='cam')
  _timed(
    'localization figures of one method and rule',
    lambda: box_estimates.rule_estimates(one),
  )


if __name__ == '__main__':
  share = 10 if '--quick' in sys.argv else 1
  _maps(984 // share)
  _bootstrap(25596 // share, 2797 // share)
  _box_rows(880 // share)
