"""Statistics that divide one sum by another, their intervals and differences.

Many statistics are a sum over rows divided by a sum over rows: a sensitivity
is hits over positive films, a mean is values over rows. A row is a film, or a
film and finding. Every statistic has a value per finding and, first, their
mean.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cxr.statistics import bootstrap, intervals, paired


class Ratios(NamedTuple):
  """What each row adds to s statistics of c findings.

  A row of a mean has the value as numerator and 1 as denominator, or 0 and 0
  where the value is not defined.
  """

  numerator: Float[np.ndarray, 'n s c']
  denominator: Float[np.ndarray, 'n s c']
  findings: tuple[str, ...]
  # Of each statistic, for its interval; see `intervals.student_interval`.
  scales: tuple[intervals.Scale, ...]


def make_ratio(
  numerator: Float[np.ndarray, 'n m'],
  denominator: Float[np.ndarray, 'n m'],
  patient: Int[np.ndarray, ' n'],
  num_patients: int,
) -> bootstrap.Statistic:
  """Makes m ratios sum(numerator) / sum(denominator) of weighted rows.

  `patient` is each row's patient as a number 0 … num_patients - 1. A ratio is
  NaN where its denominator is 0. On weights see `bootstrap`.

  Examples:
    >>> ones = np.ones((3, 1))
    >>> hits = np.array([[1.0], [0], [1]])
    >>> statistic = make_ratio(hits, ones, np.array([0, 1, 1]), 2)
    >>> statistic(np.array([[1.0, 2], [1, 0]])).round(4).tolist()
    [[0.6667], [1.0]]
  """
  above = bootstrap.make_sums(numerator, patient, num_patients)
  below = bootstrap.make_sums(denominator, patient, num_patients)
  return lambda weight: bootstrap.divide(above(weight), below(weight))


def _make_statistic(
  ratios: Ratios, patient, num_patients
) -> bootstrap.Statistic:
  """'p r' -> 'r s*(1 + c)': each statistic's mean, then its findings."""
  n, s, c = ratios.numerator.shape
  ratio = make_ratio(
    ratios.numerator.reshape(n, s * c),
    ratios.denominator.reshape(n, s * c),
    patient,
    num_patients,
  )

  def statistic(weight):
    by_finding = ratio(weight).reshape(-1, s, c)
    mean = bootstrap.defined_mean(by_finding)[..., None]
    return np.concatenate([mean, by_finding], axis=2).reshape(-1, s * (1 + c))

  return statistic


def sample(
  ratios: Ratios, patient: Int[np.ndarray, ' n'], **options: int
) -> list[intervals.Sampled]:
  """Of each statistic its mean and findings, observed and resampled.

  Args:
    ratios: n rows of s statistics and c findings.
    patient: each row's patient, by any integer.
    **options: num_resamples and seed of `intervals.sample`.

  Returns:
    of each statistic 1 + c values.

  Examples:
    >>> hits = np.array([1.0, 0, 1]).reshape(3, 1, 1)
    >>> hit_rate = Ratios(hits, np.ones((3, 1, 1)), ('Mass',), ('logit',))
    >>> (sampled,) = sample(hit_rate, np.array([5, 5, 8]))
    >>> sampled.values.round(4).tolist(), sampled.samples.shape
    ([0.6667, 0.6667], (2000, 2))
  """
  patient, num_patients = bootstrap.index_patients(patient)
  statistic = _make_statistic(ratios, patient, num_patients)
  sampled = intervals.sample(statistic, num_patients, **options)
  m = 1 + len(ratios.findings)
  return [
    sampled.take(slice(s * m, (s + 1) * m)) for s in range(len(ratios.scales))
  ]


def estimates(
  ratios: Ratios,
  patient: Int[np.ndarray, ' n'],
  counts: Sequence[Sequence[Mapping]],
  **options: int,
) -> list[dict[str, dict]]:
  """Of each statistic {'mean' | finding: estimate}.

  Args:
    ratios: n rows of s statistics and c findings.
    patient: each row's patient, by any integer.
    counts: `counts[s]` has of the mean and of each finding what
      `intervals.estimate` says: images, patients, why.
    **options: num_resamples and seed of `intervals.sample`.

  Examples:
    >>> hits = np.array([1.0, 1, 1]).reshape(3, 1, 1)
    >>> hit_rate = Ratios(hits, np.ones((3, 1, 1)), ('Mass',), ('logit',))
    >>> counts = [[{'images': 3, 'patients': 2}] * 2]
    >>> (by_finding,) = estimates(hit_rate, np.array([5, 5, 8]), counts)
    >>> mass = by_finding['Mass']
    >>> mass['value'], round(mass['low'], 3), mass['high']
    (1.0, 0.158, 1.0)
  """
  return [
    intervals.estimates(
      ('mean', *ratios.findings),
      sampled.values,
      intervals.over_patients(sampled),
      counts[s],
      scale=ratios.scales[s],
    )
    for s, sampled in enumerate(sample(ratios, patient, **options))
  ]


def compare(
  runs: Sequence[Ratios],
  patient: Int[np.ndarray, ' n'],
  counts: Sequence[Sequence[Mapping]],
  **options: int,
) -> list[dict[str, dict]]:
  """Of each statistic what `paired.estimates` returns, by 'mean' and finding.

  Args:
    runs: two or more; their rows stand for the same films in the same order.
    patient: each row's patient, by any integer.
    counts: as in `estimates`.
    **options: num_resamples and seed of `paired.compare`.

  Examples:
    >>> ones = np.ones((3, 1, 1))
    >>> runs = [
    ...   Ratios(hits, ones, ('Mass',), ('logit',)) for hits in (0 * ones, ones)
    ... ]
    >>> counts = [[{'images': 3, 'patients': 2}] * 2]
    >>> (entry,) = compare(runs, np.array([5, 5, 8]), counts)
    >>> entry['Mass']['difference']['value']
    1.0
  """
  patient, num_patients = bootstrap.index_patients(patient)
  singles = [_make_statistic(run, patient, num_patients) for run in runs]
  comparisons = []
  for single, other in zip(singles[1:], runs[1:], strict=True):
    both = other._replace(
      numerator=np.concatenate([runs[0].numerator, other.numerator]),
      denominator=np.concatenate([runs[0].denominator, other.denominator]),
    )
    joint = _make_statistic(
      both, paired.join_patients(patient, num_patients), 2 * num_patients
    )
    comparisons.append(
      paired.compare(singles[0], single, joint, num_patients, **options)
    )
  names = ('mean', *runs[0].findings)
  m = len(names)
  return [
    paired.estimates(
      names,
      [c.take(slice(s * m, (s + 1) * m)) for c in comparisons],
      count,
      scale=runs[0].scales[s],
    )
    for s, count in enumerate(counts)
  ]
