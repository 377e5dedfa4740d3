"""Resampling of patients, from whose spread intervals are made.

A patient's films are alike: two films of one patient tell less than one film
each of two patients. So every resample draws PATIENTS with replacement, and a
patient's films come along together (the cluster bootstrap: Davison and Hinkley
1997, section 3.8; Field and Welsh 2007).

Contract. To draw a patient twice is to give each of his films weight 2. A
statistic here is therefore a function of the patients' weights,

    statistic(weight 'p r') -> 'r m'

with p patients, r resamples and m values, such as one AUROC per finding. It is
made once from the data (`rankings.make_auroc`, `ratios.make_ratio`) and applied
to a few resamples at a time, which bounds the memory. Equal seeds draw equal
patients, so a difference or a mean over findings is taken inside each resample.

A value is NaN in a resample that leaves it undefined (no positive film, no true
box). A mean over findings is then over the findings that are defined, and a
variance over the resamples that are. If more than 5 % of the resamples are
undefined there is no interval: it would leave out just the unlucky draws.
`intervals` makes intervals and estimates of the resamples.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

NUM_RESAMPLES = 2000
# Resamples at a time. Their weights stay in the processor's cache even for
# 25,596 films by 14 findings.
CHUNK = 32
MAX_UNDEFINED = 0.05

Statistic = Callable[[Float[np.ndarray, 'p r']], Float[np.ndarray, 'r m']]


def index_patients(
  patient: Int[np.ndarray, ' n'],
) -> tuple[Int[np.ndarray, ' n'], int]:
  """Numbers the patients 0 … p - 1 in the order of their names.

  Args:
    patient: the patient's name (an integer) of each film.

  Returns:
    (each film's patient as a number, p).

  Examples:
    >>> index, count = index_patients(np.array([70, 12, 70]))
    >>> index.tolist(), count
    ([1, 0, 1], 2)
  """
  names, index = np.unique(patient, return_inverse=True)
  return index, len(names)


# Statistics.


def divide(
  numerator: Float[np.ndarray, '*n'], denominator: Float[np.ndarray, '*n']
) -> Float[np.ndarray, '*n']:
  """The quotient, NaN where the denominator is 0.

  Examples:
    >>> divide(np.array([1.0, 1.0]), np.array([2.0, 0.0])).tolist()
    [0.5, nan]
  """
  return np.divide(
    numerator,
    denominator,
    out=np.full_like(numerator, np.nan),
    where=denominator > 0,
  )


def defined_mean(
  values: Float[np.ndarray, '*r m'],
) -> Float[np.ndarray, '*r']:
  """The mean over the last axis of what is not NaN; NaN if nothing is.

  Examples:
    >>> defined_mean(np.array([[1.0, 3.0, np.nan], [np.nan] * 3])).tolist()
    [2.0, nan]
  """
  defined = ~np.isnan(values)
  return divide(
    np.where(defined, values, 0.0).sum(axis=-1, keepdims=True),
    defined.sum(axis=-1, keepdims=True).astype(np.float64),
  )[..., 0]


def make_sums(
  rows: Float[np.ndarray, 'n ...'],
  patient: Int[np.ndarray, ' n'],
  num_patients: int,
) -> Callable[[Float[np.ndarray, 'p r']], Float[np.ndarray, 'r ...']]:
  """Makes the sums over rows, each weighted by its patient.

  `patient` is each row's patient as a number 0 … num_patients - 1.

  Examples:
    >>> sums = make_sums(np.array([[1.0], [2], [3]]), np.array([0, 1, 1]), 2)
    >>> sums(np.array([[1.0, 2], [1, 0]])).tolist()
    [[6.0], [2.0]]
  """
  index = np.arange(len(patient))
  of_patient = sparse.csr_array(
    (np.ones(len(index)), (patient, index)), shape=(num_patients, len(index))
  )
  shape = rows.shape[1:]
  by_patient = of_patient @ rows.reshape(len(index), math.prod(shape))
  return lambda weight: (weight.T @ by_patient).reshape(-1, *shape)


def with_mean(statistic: Statistic) -> Statistic:
  """The statistic with the mean of its defined values before them.

  Examples:
    >>> both = with_mean(lambda weight: np.array([[1.0, 3.0]]))
    >>> both(np.ones((1, 1))).tolist()
    [[2.0, 1.0, 3.0]]
  """

  def both(weight):
    values = statistic(weight)
    return np.column_stack([defined_mean(values), values])

  return both


# Resampling.


def resample_weights(
  num_patients: int, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Iterator[Float[np.ndarray, 'p c']]:
  """How often each resample draws each patient, a few resamples at a time.

  A resample's weights depend on its number, `num_patients` and `seed` alone.

  Examples:
    >>> (weight,) = resample_weights(4, num_resamples=3)
    >>> weight.shape, weight.sum(axis=0).tolist()
    ((4, 3), [4.0, 4.0, 4.0])
  """
  rng = np.random.default_rng(seed)
  for start in range(0, num_resamples, CHUNK):
    count = min(CHUNK, num_resamples - start)
    drawn = rng.integers(0, num_patients, (count, num_patients))
    drawn += np.arange(count)[:, None] * num_patients
    weight = np.bincount(drawn.ravel(), minlength=count * num_patients)
    yield np.ascontiguousarray(
      weight.reshape(count, num_patients).T, dtype=np.float64
    )


def observed(
  statistic: Statistic, num_patients: int
) -> Float[np.ndarray, ' m']:
  """The statistic of the data as they are: every patient counts once.

  Examples:
    >>> value = np.array([1.0, 5.0])
    >>> mean = lambda weight: (value @ weight / weight.sum(axis=0))[:, None]
    >>> observed(mean, 2).tolist()
    [3.0]
  """
  return statistic(np.ones((num_patients, 1)))[0]


def resample(
  statistic: Statistic,
  num_patients: int,
  *,
  num_resamples: int = NUM_RESAMPLES,
  seed: int = 0,
) -> Float[np.ndarray, 'r m']:
  """The statistic of every resample of the patients.

  Examples:
    >>> value = np.array([1.0, 5.0])
    >>> mean = lambda weight: (value @ weight / weight.sum(axis=0))[:, None]
    >>> sorted(set(resample(mean, 2).ravel().tolist()))
    [1.0, 3.0, 5.0]
  """
  weights = resample_weights(
    num_patients, num_resamples=num_resamples, seed=seed
  )
  return np.concatenate([statistic(weight) for weight in weights])
