"""AUROC and average precision, as functions of the patients' weights.

Contract. `score` and `label` have shape 'n k' (films, findings); a label is 0,
1 or NaN (unknown: the film is left out for that finding); larger scores mean
present. A value is NaN without both positive and negative films. `patient` is
each film's patient as a number 0 … num_patients - 1
(`bootstrap.index_patients`). On weights see `bootstrap`.

Each finding is sorted once. Neighbours in the order that cannot change places
are added up first by one sparse product, so that a resample costs some 2 x
positives and not all films. The sums are exact: weights are whole numbers.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from cxr.statistics import bootstrap, metrics

# The weights of p patients -> one value of each of r resamples.
_OneFinding = Callable[[Float[np.ndarray, 'p r']], Float[np.ndarray, ' r']]


def make_auroc(
  score: Float[np.ndarray, 'n k'],
  label: Float[np.ndarray, 'n k'],
  patient: Int[np.ndarray, ' n'],
  num_patients: int,
) -> bootstrap.Statistic:
  """Makes the AUROC of each finding: P(positive > negative), ties counting 1/2.

  Raises:
    ValueError: as `metrics.known`.

  Examples:
    >>> score, label = np.array([[1.0], [2], [3]]), np.array([[0.0], [1], [0]])
    >>> statistic = make_auroc(score, label, np.array([0, 1, 2]), 3)
    >>> statistic(np.array([[1.0, 1], [1, 1], [1, 3]])).tolist()
    [[0.5], [0.25]]
  """
  return _per_finding(_auroc, score, label, patient, num_patients)


def make_average_precision(
  score: Float[np.ndarray, 'n k'],
  label: Float[np.ndarray, 'n k'],
  patient: Int[np.ndarray, ' n'],
  num_patients: int,
) -> bootstrap.Statistic:
  """Makes the average precision of each finding.

  This is the sum over distinct scores of precision times gain in recall,
  without interpolation; films with equal scores enter together.

  Raises:
    ValueError: as `metrics.known`.

  Examples:
    >>> score, label = np.array([[3.0], [2], [1]]), np.array([[1.0], [0], [1]])
    >>> statistic = make_average_precision(score, label, np.arange(3), 3)
    >>> statistic(np.ones((3, 1))).round(4).tolist()
    [[0.8333]]
  """
  return _per_finding(_average_precision, score, label, patient, num_patients)


def auroc(
  score: Float[np.ndarray, 'n k'], label: Float[np.ndarray, 'n k']
) -> Float[np.ndarray, ' k']:
  """The AUROC of each finding, without resampling.

  Raises:
    ValueError: as `metrics.known`.

  Examples:
    >>> label = np.array([[0.0], [0], [1], [1]])
    >>> auroc(np.array([[1.0], [3], [2], [4]]), label).tolist()
    [0.75]
  """
  num_films = len(score)
  each_alone = np.arange(num_films)
  return bootstrap.observed(
    make_auroc(score, label, each_alone, num_films), num_films
  )


def _per_finding(make, score, label, patient, num_patients):
  """'p r' -> 'r k' of one finding's `make`, over the films that it knows."""
  statistics: list[_OneFinding] = [
    make(*score_and_label, patient[~np.isnan(label[:, k])], num_patients)
    for k, score_and_label in enumerate(metrics.known(score, label))
  ]
  return lambda weight: np.stack([s(weight) for s in statistics], axis=1)


def _auroc(score, label, patient, num_patients) -> _OneFinding:
  order = np.argsort(score, kind='stable')
  score, positive, patient = score[order], label[order] == 1, patient[order]
  group = _tie_groups(score)
  size = group[-1] + 1 if len(group) else 0
  has_positive = np.bincount(group[positive], minlength=size) > 0
  has_negative = np.bincount(group[~positive], minlength=size) > 0
  tied = has_positive & has_negative
  # A block: negatives, then higher positives; or one group of ties.
  starts = tied.copy()
  starts[1:] |= tied[:-1] | (has_positive[:-1] & has_negative[1:])
  block_of_group = np.cumsum(starts) - (starts[:1].sum() if size else 0)
  num_blocks = int(block_of_group[-1]) + 1 if size else 0
  ties = block_of_group[tied]
  block = block_of_group[group]
  shape = num_blocks, num_patients
  positives = _counts(block[positive], patient[positive], shape)
  negatives = _counts(block[~positive], patient[~positive], shape)

  def statistic(weight):
    true, false = positives @ weight, negatives @ weight
    below = np.cumsum(false, axis=0)
    below[ties] -= 0.5 * false[ties]
    pairs = true.sum(axis=0) * false.sum(axis=0)
    return bootstrap.divide(np.einsum('br,br->r', true, below), pairs)

  return statistic


def _average_precision(score, label, patient, num_patients) -> _OneFinding:
  order = np.argsort(-score, kind='stable')
  score, positive, patient = score[order], label[order] == 1, patient[order]
  group = _tie_groups(score)
  size = group[-1] + 1 if len(group) else 0
  has_positive = np.bincount(group[positive], minlength=size) > 0
  # A block ends with a group that has positives: precision is read there.
  block = np.cumsum(np.append(False, has_positive)[:-1])[group]
  num_blocks = int(block[-1]) + 1 if size else 0
  shape = num_blocks, num_patients
  positives = _counts(block[positive], patient[positive], shape)
  films = _counts(block, patient, shape)

  def statistic(weight):
    true, either = positives @ weight, films @ weight
    hits, ranked = np.cumsum(true, axis=0), np.cumsum(either, axis=0)
    num_true, num_films = true.sum(axis=0), either.sum(axis=0)
    precision = np.divide(hits, ranked, out=hits, where=ranked > 0)
    # Undefined with positive films alone, as with negative films alone.
    num_true = np.where(num_true < num_films, num_true, 0.0)
    return bootstrap.divide(np.einsum('br,br->r', true, precision), num_true)

  return statistic


def _tie_groups(score):
  """The number of each sorted score's group of equal scores."""
  return np.cumsum(np.append(0, score[1:] != score[:-1]))[: len(score)]


def _counts(block, patient, shape) -> sparse.csr_array:
  """Films of each patient in each block: a sparse matrix 'blocks p'."""
  return sparse.csr_array((np.ones(len(block)), (block, patient)), shape=shape)
