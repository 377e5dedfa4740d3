"""Estimates with Student's intervals, over patients and over training seeds.

The percentiles of a bootstrap make an interval that is too short where few
patients carry a value, where the value lies near 0 or 1, and most of all where
the spread comes from three or five training seeds. These intervals mend that:

* The variance of the resamples is multiplied by n / (n - 1), with n patients,
  and the seeds' is the unbiased one (the pigeonhole bootstrap of Owen 2007,
  which draws patients and seeds anew, takes 2/3 of it with three seeds).
* Student's t takes the place of the normal quantile. Its degrees of freedom say
  how well each variance is known; several are joined by Welch's and
  Satterthwaite's formula (Satterthwaite 1946).
* An AUROC or a share gets its interval on the logit scale, so that it stays
  between 0 and 1 and reaches further towards 1/2; a ratio without an upper
  bound gets it on the log scale, a correlation on Fisher's, a difference on its
  own.

`tests/benchmarks/bench_coverage.py` measures how often each interval covers.
With 60 and 300 patients the percentile interval of an AUROC or an accuracy
covered in 84.9 to 94.5 % of 1,000 studies, Student's in 94.5 to 97.5 %; that of
a difference on the same films in 93.0 to 95.3 % and 95.1 to 97.9 %. Over three
and five seeds that scatter more than patients do, the pigeonhole bootstrap
covered differences of groups in 86.8 to 95.1 %, Student's in 94.7 to 96.2 %.

An estimate is a dict {'value', 'low', 'high', 'images', 'patients'}, with 'why'
where the value or its interval is None.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special, stats

from cxr.statistics import bootstrap

# Of more patients, several are left out at a time.
MAX_LEFT_OUT = 500

Scale = Literal['linear', 'logit', 'log', 'fisher']


class Spread(NamedTuple):
  """The variances of m values, each with its degrees of freedom."""

  variance: Float[np.ndarray, ' m']
  degrees: Float[np.ndarray, ' m']


class Sampled(NamedTuple):
  """m values of one run, and what a bootstrap over patients says of each."""

  values: Float[np.ndarray, ' m']
  samples: Float[np.ndarray, 'r m']
  left_out: Float[np.ndarray, 'g m']  # of `leave_out`
  num_patients: int  # that were resampled

  def take(self, index: slice) -> 'Sampled':
    """These values alone."""
    return Sampled(
      self.values[index],
      self.samples[:, index],
      self.left_out[:, index],
      self.num_patients,
    )


def sample(
  statistic: bootstrap.Statistic,
  num_patients: int,
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = 0,
) -> Sampled:
  """A statistic of the data and of every resample of their patients.

  Runs that are sampled with equal seeds draw equal patients.

  Examples:
    >>> value = np.array([1.0, 2.0, 6.0])
    >>> mean = lambda weight: (value @ weight / weight.sum(axis=0))[:, None]
    >>> sampled = sample(mean, 3)
    >>> sampled.values.tolist(), sampled.samples.shape
    ([3.0], (2000, 1))
  """
  return Sampled(
    bootstrap.observed(statistic, num_patients),
    bootstrap.resample(
      statistic, num_patients, num_resamples=num_resamples, seed=seed
    ),
    leave_out(statistic, num_patients, seed=seed),
    num_patients,
  )


def leave_out(
  statistic: bootstrap.Statistic, num_patients: int, *, seed: int = 0
) -> Float[np.ndarray, 'g m']:
  """The statistic without each patient, one at a time.

  Of more than 500 patients, 500 groups are left out, drawn by `seed`: so every
  patient is left out once.

  Examples:
    >>> value = np.array([1.0, 2.0, 6.0])
    >>> mean = lambda weight: (value @ weight / weight.sum(axis=0))[:, None]
    >>> leave_out(mean, 3).tolist()
    [[4.0], [3.5], [1.5]]
  """
  group = np.arange(num_patients)
  num_groups = min(num_patients, MAX_LEFT_OUT)
  if num_patients > MAX_LEFT_OUT:
    group = np.random.default_rng([seed, 3]).permutation(group) % num_groups
  values = []
  for start in range(0, num_groups, bootstrap.CHUNK):
    some = np.arange(start, min(start + bootstrap.CHUNK, num_groups))
    values.append(statistic((group[:, None] != some).astype(np.float64)))
  return np.concatenate(values)


def patient_degrees(
  left_out: Float[np.ndarray, 'g m'], num_patients: int
) -> Float[np.ndarray, ' m']:
  """How well the spread over patients is known: its degrees of freedom.

  If n patients move a value by u_1 … u_n (mean 0), the variance is estimated by
  a sum of u squared, whose own variance follows from the fourth powers. The
  degrees of freedom with the same mean and variance are

    2 (sum u^2)^2 / (sum u^4 - (sum u^2)^2 / n),

  at most n - 1. They are n for normal u, and few where few patients carry the
  value. u is what leaving a patient out does. Where groups of patients are left
  out, the degrees are those of the groups: at most 500, where they hardly
  matter.

  Args:
    left_out: by `leave_out`.
    num_patients: that were left out, in all groups together.

  Returns:
    the degrees of each value; NaN for one that is undefined, or that no
    patient moves.

  Examples:
    >>> value = np.array([0.0, 0, 0, 0, 0, 0, 0, 1])
    >>> mean = lambda weight: (value @ weight / weight.sum(axis=0))[:, None]
    >>> patient_degrees(leave_out(mean, 8), 8).round(2).tolist()
    [3.11]
  """
  # The only positive patient cannot be left out.
  num_groups = len(left_out)
  defined = ~np.isnan(left_out)
  count = np.maximum(defined.sum(axis=0), 1)
  values = np.where(defined, left_out, 0.0)
  moved = np.where(defined, values - values.sum(axis=0) / count, 0.0)
  squares = (moved**2).sum(axis=0) * num_groups / count
  fourths = (moved**4).sum(axis=0) * num_groups / count
  excess = fourths - squares**2 / num_groups
  degrees = np.full(len(squares), float(num_patients - 1))
  np.divide(2 * squares**2, excess, out=degrees, where=excess > 1e-9 * fourths)
  degrees = np.clip(degrees, 1.0, max(num_patients - 1.0, 1.0))
  return np.where(squares > 0, degrees, np.nan)


def over_patients(sampled: Sampled) -> Spread:
  """The spread of one run's values over patients.

  Returns:
    the spread; NaN where more than 5 % of the resamples are undefined, and for
    a single patient.

  Examples:
    >>> samples = np.array([[0.0], [2.0]])
    >>> left_out = np.array([[-1.0], [-1], [0], [1], [1]])
    >>> spread = over_patients(Sampled(np.ones(1), samples, left_out, 5))
    >>> spread.variance.tolist(), spread.degrees.tolist()
    ([1.25], [4.0])
  """
  return Spread(
    _variance(sampled.samples, sampled.num_patients),
    patient_degrees(sampled.left_out, sampled.num_patients),
  )


def over_seeds(
  groups: Sequence[Sequence[Sampled]], *, signs: Sequence[int] = (1,)
) -> Spread:
  """The spread of a group's mean, or of two groups' difference.

  Runs of all groups draw the same patients. What a resample does to a run is in
  part the same for all (it does not average out) and in part the run's own
  (it does). The second part is in the scatter between seeds already, so it is
  taken off the first: variances are added, none twice.

  Args:
    groups: one or more, of runs that differ in their seed. A group of one run
      says nothing of seeds; its seed counts as fixed.
    signs: of each group: (1,) for a mean, (-1, 1) for second minus first.

  Examples:
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(scale=0.01, size=(2000, 1))  # common to all runs
    >>> group = [
    ...   Sampled(np.array([v]), v + noise, v + noise[:100], 100)
    ...   for v in (0.3, 0.4, 0.5)
    ... ]
    >>> spread = over_seeds([group])
    >>> spread.variance.round(4).tolist(), spread.degrees.round(1).tolist()
    ([0.0034], [2.1])
  """
  num_patients = groups[0][0].num_patients
  combined, left_out, between, own_share, parts = 0.0, 0.0, 0.0, 0.0, []
  for sign, group in zip(signs, groups, strict=True):
    mean = np.mean([run.samples for run in group], axis=0)
    combined = combined + sign * mean
    left_out += sign * np.mean([run.left_out for run in group], axis=0)
    count = len(group)
    if count > 1:
      scatter = np.var([run.values for run in group], axis=0, ddof=1) / count
      own = [_variance(run.samples - mean, num_patients) for run in group]
      # Each run's deviation from the mean of k has (k - 1) / k of its variance.
      own_share = own_share + np.mean(own, axis=0) / (count - 1)
      between = between + scatter
      parts.append((scatter, count - 1))
  common = np.maximum(_variance(combined, num_patients) - own_share, 0.0)
  variance = common + between
  # 0 / NaN: a value that no patient moves may still differ between seeds.
  degrees = patient_degrees(left_out, num_patients)
  uncertain = np.where(common > 0, common**2 / degrees, 0.0)
  for scatter, of_seeds in parts:
    uncertain = uncertain + scatter**2 / of_seeds
  return Spread(variance, bootstrap.divide(variance**2, uncertain))


def _variance(samples, num_patients) -> Float[np.ndarray, ' m']:
  """Of the defined resamples; NaN where too few are defined."""
  defined = ~np.isnan(samples)
  count = defined.sum(axis=0)
  enough = count >= max((1 - bootstrap.MAX_UNDEFINED) * len(samples), 1)
  enough &= num_patients > 1
  mean = np.where(defined, samples, 0.0).sum(axis=0) / np.maximum(count, 1)
  squares = np.where(defined, samples - mean, 0.0) ** 2
  variance = squares.sum(axis=0) / np.maximum(count, 1)
  # What rounding alone moves is not moved.
  size = np.abs(mean)
  variance = np.where(variance > (1e-12 * size) ** 2, variance, 0.0)
  return np.where(enough, variance, np.nan) * (
    num_patients / max(num_patients - 1, 1)
  )


def student_interval(
  values: Float[np.ndarray, ' m'],
  spread: Spread,
  *,
  num_patients: int | Int[np.ndarray, ' m'],
  scale: Scale = 'linear',
  level: float = 0.95,
) -> tuple[Float[np.ndarray, ' m'], Float[np.ndarray, ' m']]:
  """Student's interval of each value.

  Args:
    values: of the data.
    spread: by `over_patients` or `over_seeds`.
    num_patients: that carry the value; used where it is 0 or 1.
    scale: 'logit' for an AUROC or a share, 'log' for a ratio that has no upper
      bound, 'fisher' for a correlation, 'linear' for a difference.
    level: how often the interval shall cover.

  Returns:
    (low, high); NaN where the value or its spread is undefined, or a share is
    not from 0 to 1. A share of 0 or 1 has no spread: it gets the bound of
    Clopper and Pearson 1934 for 0 of `num_patients`. A value of 0 on the 'log'
    scale gets NaN.

  Examples:
    >>> spread = Spread(np.array([0.01]), np.array([9.0]))
    >>> low, high = student_interval(np.array([0.8]), spread, num_patients=10)
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.574], [1.026])
    >>> low, high = student_interval(
    ...   np.array([0.8]), spread, num_patients=10, scale='logit'
    ... )
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.493], [0.943])
  """
  quantile = stats.t.ppf((1 + level) / 2, spread.degrees)
  # A value that no patient moves has its own interval.
  margin = np.where(
    spread.variance == 0, 0.0, quantile * np.sqrt(spread.variance)
  )
  if scale == 'linear':
    return values - margin, values + margin
  if scale == 'log':
    positive = np.where(values > 0, values, np.nan)
    factor = np.exp(margin / positive)
    return positive / factor, positive * factor
  if scale == 'fisher':
    # Fisher's z of r is half of the logit of (1 + r) / 2.
    low, high = student_interval(
      (1 + values) / 2,
      Spread(spread.variance / 4, spread.degrees),
      num_patients=num_patients,
      scale='logit',
      level=level,
    )
    return 2 * low - 1, 2 * high - 1
  inside = (values > 0) & (values < 1)
  share = np.where(inside, values, 0.5)
  centre, margin = special.logit(share), margin / (share * (1 - share))
  low, high = special.expit(centre - margin), special.expit(centre + margin)
  bound = 1 - ((1 - level) / 2) ** (1 / np.asarray(num_patients))
  at_0, at_1 = values == 0, values == 1
  low = np.where(at_0, 0.0, np.where(at_1, 1 - bound, low))
  high = np.where(at_1, 1.0, np.where(at_0, bound, high))
  defined = (values >= 0) & (values <= 1) & ~np.isnan(spread.variance)
  return np.where(defined, low, np.nan), np.where(defined, high, np.nan)


# Estimates.


def estimate(
  value: float | Float[np.ndarray, ''],
  low: float | Float[np.ndarray, ''] = math.nan,
  high: float | Float[np.ndarray, ''] = math.nan,
  *,
  images: int | np.integer,
  patients: int | np.integer,
  why: str = 'undefined: nothing to count',
  no_interval: str = '',
) -> dict:
  """A value with its 95 % interval, as the JSON files of a run hold it.

  Args:
    value: of the data, NaN where it is undefined.
    low, high: its interval, NaN where it is withheld.
    images: films that the value counts.
    patients: patients of these films.
    why: the reason that is given where the value is undefined.
    no_interval: the reason that is given where the interval is withheld.

  Returns:
    {'value', 'low', 'high', 'images', 'patients'}, None for what is undefined
    or withheld; then 'why' too.

  Examples:
    >>> estimate(0.5, 0.4, 0.6, images=4, patients=3)
    {'value': 0.5, 'low': 0.4, 'high': 0.6, 'images': 4, 'patients': 3}
    >>> estimate(np.nan, images=0, patients=0)['why']
    'undefined: nothing to count'
  """
  plain = lambda number: (
    None if math.isnan(value) or math.isnan(number) else float(number)
  )
  result = {
    'value': plain(value),
    'low': plain(low),
    'high': plain(high),
    'images': int(images),
    'patients': int(patients),
  }
  if result['value'] is None:
    result['why'] = why
  elif result['low'] is None:
    result['why'] = f'no interval: {no_interval}'
  return result


def estimates(
  names: Sequence[str],
  values: Float[np.ndarray, ' m'],
  spread: Spread,
  counts: Sequence[Mapping],
  *,
  scale: Scale,
  no_interval: str = (
    'too few patients carry it (more than 5 % of the resamples are undefined)'
  ),
) -> dict[str, dict]:
  """Of each value its estimate, by name.

  Args:
    names: of the values.
    values: of the data.
    spread: by `over_patients` or `over_seeds`.
    counts: of each value what `estimate` says: images, patients, why. Where
      fewer patients carry it (the positive ones of an AUROC), 'carriers' says
      how many.
    scale: as in `student_interval`.
    no_interval: the reason where the spread is undefined.

  Examples:
    >>> spread = Spread(np.array([0.01]), np.array([9.0]))
    >>> counts = [{'images': 12, 'patients': 10}]
    >>> by_name = estimates(
    ...   ['mean'], np.array([0.8]), spread, counts, scale='logit'
    ... )
    >>> round(by_name['mean']['low'], 3)
    0.493
  """
  carriers = [c.get('carriers', c['patients']) for c in counts]
  low, high = student_interval(
    values,
    spread,
    num_patients=np.maximum(np.array(carriers, np.int64), 1),
    scale=scale,
  )
  result = {}
  for i, (name, count) in enumerate(zip(names, counts, strict=True)):
    at_0 = scale == 'log' and values[i] == 0
    result[name] = estimate(
      values[i],
      low[i],
      high[i],
      no_interval='a ratio of 0 has none on the log scale'
      if at_0
      else no_interval,
      **{key: value for key, value in count.items() if key != 'carriers'},
    )
  return result
