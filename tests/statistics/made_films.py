"""Films with scores and labels, some patients with several, ties, unknowns."""

import numpy as np

from cxr.statistics import bootstrap


def films(seed=0, n=60, k=3, patients=15):
  """(score, label, patient) of n films and k findings."""
  rng = np.random.default_rng(seed)
  label = (rng.random((n, k)) < 0.3).astype(float)
  score = np.round(rng.normal(size=(n, k)) + label, 1)  # many ties
  label[rng.random((n, k)) < 0.1] = np.nan
  return score, label, rng.integers(100, 100 + patients, n)


def resampled(make, score, label, patient, **options):
  """'r k': the statistic that `make` makes, of every resample."""
  patient, num_patients = bootstrap.index_patients(patient)
  return bootstrap.resample(
    make(score, label, patient, num_patients), num_patients, **options
  )
