"""Two runs on the same films: differences, their intervals and p-values.

Contract. Both runs are scored on the same films in the same order, and a
difference is the second run's value minus the first's. Its interval takes the
same patients for both runs in each resample. Its p-value is by permutation:
if the runs were exchangeable, a patient's films could be swapped between them
and the difference would be as large as often by chance.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from cxr.statistics import bootstrap, intervals


class Comparison(NamedTuple):
  """m values of two runs and their difference, sampled together; p-values."""

  first: intervals.Sampled
  second: intervals.Sampled
  difference: intervals.Sampled
  p: Float[np.ndarray, ' m']

  def take(self, index: slice) -> 'Comparison':
    """The comparison of these values alone."""
    *sampled, p = self
    return Comparison(*(s.take(index) for s in sampled), p[index])


def join_patients(
  patient: Int[np.ndarray, ' n'], num_patients: int
) -> Int[np.ndarray, ' 2*n']:
  """Patients of the first run's films followed by the second run's.

  Patient i stands in the second run as i + num_patients, so that weights can
  take his films from either run.

  Examples:
    >>> join_patients(np.array([0, 1, 1]), 2).tolist()
    [0, 1, 1, 2, 3, 3]
  """
  return np.concatenate([patient, patient + num_patients])


def ranks(score: Float[np.ndarray, 'n k']) -> Float[np.ndarray, 'n k']:
  """The rank of each film within its column, equal scores sharing theirs.

  Films of two runs are mixed by rank, since the scale of a network's logits
  means nothing (Bandos, Rockette and Gur 2005).

  Examples:
    >>> ranks(np.array([[0.1], [9.0], [0.1]])).ravel().tolist()
    [1.5, 3.0, 1.5]
  """
  return stats.rankdata(score, axis=0, nan_policy='omit')


def compare(
  first: bootstrap.Statistic,
  second: bootstrap.Statistic,
  joint: bootstrap.Statistic,
  num_patients: int,
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = 0,
) -> Comparison:
  """Compares two runs' values of the same films.

  Args:
    first, second: each run's statistic, a function of p weights.
    joint: the statistic of both runs' films together, a function of 2 p
      weights (`join_patients`); for AUROC and average precision of `ranks`.
    num_patients: p.
    num_resamples: of the bootstrap, and of the permutation.
    seed: of both.

  Returns:
    The comparison. Its p-values are two-sided:
    p = (1 + permutations with as large a difference) / (1 + permutations).

  Examples:
    >>> value = np.array([1.0, 2.0, 6.0])
    >>> def mean(value):
    ...   return lambda weight: (value @ weight / weight.sum(axis=0))[:, None]
    >>> same = compare(mean(value), mean(value), mean(np.tile(value, 2)), 3)
    >>> same.difference.values.tolist(), same.p.tolist()
    ([0.0], [1.0])
  """

  def all_three(weight):
    one, other = first(weight), second(weight)
    return np.column_stack([one, other, other - one])

  def swapped(from_second):
    kept = 1.0 - from_second
    as_first = joint(np.concatenate([kept, from_second]))
    return joint(np.concatenate([from_second, kept])) - as_first

  # What is tested is the difference of `joint`. On ranks it is the same AUROC,
  # equal but for rounding.
  difference = np.abs(swapped(np.zeros((num_patients, 1)))[0])
  rng = np.random.default_rng([seed, 1])
  larger, defined = np.zeros(len(difference)), np.zeros(len(difference))
  for start in range(0, num_resamples, bootstrap.CHUNK):
    shape = (min(bootstrap.CHUNK, num_resamples - start), num_patients)
    null = swapped(rng.integers(0, 2, shape).T.astype(np.float64))
    larger += (np.abs(null) >= difference - 1e-12).sum(axis=0)
    defined += (~np.isnan(null)).sum(axis=0)

  sampled = intervals.sample(
    all_three, num_patients, num_resamples=num_resamples, seed=seed
  )
  m = len(difference)
  p = (1 + larger) / (1 + defined)
  return Comparison(
    *(sampled.take(slice(i * m, (i + 1) * m)) for i in range(3)),
    np.where(np.isnan(sampled.values[2 * m :]), np.nan, p),
  )


def compare_rankings(
  make: Callable[..., bootstrap.Statistic],
  first: Float[np.ndarray, 'n k'],
  second: Float[np.ndarray, 'n k'],
  label: Float[np.ndarray, 'n k'],
  patient: Int[np.ndarray, ' n'],
  **options: int,
) -> Comparison:
  """Compares two runs' scores by AUROC or average precision.

  Args:
    make: `rankings.make_auroc` or `rankings.make_average_precision`.
    first, second: the runs' scores of n films and k findings.
    label: 0, 1 or NaN (unknown).
    patient: each film's patient, by any integer.
    **options: num_resamples and seed of `compare`.

  Returns:
    The comparison of 1 + k values: the mean over findings, then each finding.

  Examples:
    >>> from cxr.statistics import rankings
    >>> score, label = np.array([[1.0], [2], [3]]), np.array([[0.0], [1], [0]])
    >>> result = compare_rankings(
    ...   rankings.make_auroc, score, -score, label, np.array([7, 8, 9])
    ... )
    >>> result.first.values.tolist(), result.difference.values.tolist()
    ([0.5, 0.5], [0.0, 0.0])
  """
  patient, num_patients = bootstrap.index_patients(patient)
  joint = make(
    np.concatenate([ranks(first), ranks(second)]),
    np.concatenate([label, label]),
    join_patients(patient, num_patients),
    2 * num_patients,
  )
  return compare(
    bootstrap.with_mean(make(first, label, patient, num_patients)),
    bootstrap.with_mean(make(second, label, patient, num_patients)),
    bootstrap.with_mean(joint),
    num_patients,
    **options,
  )


def holm(p: Float[np.ndarray, ' m']) -> Float[np.ndarray, ' m']:
  """Adjusts the p-values of one family of tests (Holm 1979).

  Undefined tests (NaN) stay NaN and do not count.

  Examples:
    >>> holm(np.array([0.01, 0.04, np.nan, 0.03])).tolist()
    [0.03, 0.06, nan, 0.06]
  """
  order = np.argsort(p)  # NaN last.
  count = int((~np.isnan(p)).sum())
  factor = np.arange(count, 0, -1)
  adjusted = np.full(p.shape, np.nan)
  adjusted[order[:count]] = np.minimum(
    np.maximum.accumulate(factor * p[order[:count]]), 1.0
  )
  return adjusted


def estimates(
  names: Sequence[str],
  comparisons: Sequence[Comparison],
  counts: Sequence[Mapping],
  *,
  scale: intervals.Scale,
) -> dict[str, dict]:
  """What a comparison's JSON file holds of each value.

  Args:
    names: of the values. The first is the mean over findings, which Holm's
      correction leaves out.
    comparisons: each later run with the first.
    counts: as in `intervals.estimates`.
    scale: of the runs' values; differences are on the linear one.

  Returns:
    {name: {'runs': [an estimate per run], 'difference': the estimate of the
    second run minus the first, with 'p' and 'p_holm' (None where undefined)}}.
    With more than two runs, 'differences' holds all later runs minus the first.

  Examples:
    >>> mean = lambda weight: np.full((weight.shape[1], 1), 0.5)
    >>> same = compare(mean, mean, mean, 3)
    >>> entry = estimates(
    ...   ['mean'], [same], [{'images': 4, 'patients': 3}], scale='logit'
    ... )
    >>> difference = entry['mean']['difference']
    >>> difference['value'], difference['p'], difference['p_holm']
    (0.0, 1.0, None)
  """

  def of_sampled(sampled, scale):
    spread = intervals.over_patients(sampled)
    return intervals.estimates(
      names, sampled.values, spread, counts, scale=scale
    )

  runs = [comparisons[0].first, *(c.second for c in comparisons)]
  runs = [of_sampled(run, scale) for run in runs]
  differences = []
  for c in comparisons:
    by_name = of_sampled(c.difference, 'linear')
    adjusted = np.append(np.nan, holm(c.p[1:]))
    for name, *ps in zip(names, c.p, adjusted, strict=True):
      for key, p in zip(('p', 'p_holm'), ps, strict=True):
        by_name[name][key] = None if np.isnan(p) else float(p)
    differences.append(by_name)
  entries = {}
  for name in names:
    of_name = [by_name[name] for by_name in differences]
    entries[name] = {
      'runs': [by_name[name] for by_name in runs],
      'difference': of_name[0],
    }
    if len(of_name) > 1:
      entries[name]['differences'] = of_name
  return entries
