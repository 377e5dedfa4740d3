"""Intervals and tests that take patients, not films, as the units of chance.

Contract. A patient's films are alike, so every resample draws PATIENTS with
replacement, and every permutation swaps PATIENTS between two runs. Drawing
a patient twice gives each of his films weight 2: a statistic here is a
function of weights,

    statistic(weight 'p r') -> 'r m'      # p patients, r resamples, m figures

made once from the data (`make_auroc`, `make_average_precision`, `make_ratio`)
and applied to chunks of resamples, so that memory is bounded. All figures of
one `statistic` share their resamples, and equal seeds give equal resamples:
differences and means over findings are taken inside each resample.

Undefined resamples. A resample that leaves a figure undefined (no positive, no
box) holds NaN there. A mean over findings averages those that are defined in
that resample; an interval is over the resamples that are defined, and is
withheld if more than 5 % of them are not, since it would leave out just the
unlucky draws.

A figure is {'value', 'low', 'high', 'images', 'patients'}, with 'why' where
the value or its interval is None.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse, stats

from cxr.statistics import metrics

NUM_RESAMPLES = 2000
# Resamples at a time: their weights stay in the cache, 25,596 films by 14.
CHUNK = 32
MAX_UNDEFINED = 0.05

Statistic = Callable[[Float[np.ndarray, 'p r']], Float[np.ndarray, 'r m']]


def units(patient: Int[np.ndarray, ' n']) -> tuple[Int[np.ndarray, ' n'], int]:
  """(each row's patient as 0 … p - 1 in ascending order, p)."""
  names, index = np.unique(np.asarray(patient), return_inverse=True)
  return index, len(names)


# Statistics of weighted patients.


def _sum_by(row, unit, num_rows, num_units, value=None):
  """Sparse 'rows units' matrix that adds the weights of films into rows."""
  value = np.ones(len(row)) if value is None else value
  return sparse.csr_array((value, (row, unit)), shape=(num_rows, num_units))


def _divide(part, whole):
  return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _groups(score):
  """Tie group of each of the sorted scores."""
  return np.cumsum(np.append(0, score[1:] != score[:-1]))[: len(score)]


def _stack(parts):
  """One column per finding; the union of 'weight -> r' functions."""
  return lambda weight: np.stack([part(weight) for part in parts], axis=1)


def make_auroc(
  score: Float[np.ndarray, 'n k'],
  label: Float[np.ndarray, 'n k'],
  unit: Int[np.ndarray, ' n'],
  num_units: int,
) -> Statistic:
  """AUROC of each finding as a function of the patients' weights.

  Sorted once. Neighbours in the ranking whose order cannot matter (runs of
  negatives, runs of positives) are added up first by one sparse product, so
  that the cumulative sum runs over some 2 x positives and not over all films.
  Exact: weights are integers and all sums stay below 2^53.
  """
  mask = ~np.isnan(label)

  def one(score, label, unit):
    order = np.argsort(score, kind='stable')
    score, positive, unit = score[order], label[order] == 1, unit[order]
    group = _groups(score)
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
    positives = _sum_by(block[positive], unit[positive], num_blocks, num_units)
    negatives = _sum_by(
      block[~positive], unit[~positive], num_blocks, num_units
    )

    def auroc(weight):
      true, false = positives @ weight, negatives @ weight
      below = np.cumsum(false, axis=0)
      below[ties] -= 0.5 * false[ties]
      pairs = true.sum(axis=0) * false.sum(axis=0)
      return _divide(np.einsum('br,br->r', true, below), pairs)

    return auroc

  return _stack(
    [
      one(s, y, unit[mask[:, k]])
      for k, (s, y) in enumerate(metrics.known(score, label))
    ]
  )


def make_average_precision(
  score: Float[np.ndarray, 'n k'],
  label: Float[np.ndarray, 'n k'],
  unit: Int[np.ndarray, ' n'],
  num_units: int,
) -> Statistic:
  """Average precision of each finding as a function of patients' weights."""
  mask = ~np.isnan(label)

  def one(score, label, unit):
    order = np.argsort(-score, kind='stable')
    score, positive, unit = score[order], label[order] == 1, unit[order]
    group = _groups(score)
    size = group[-1] + 1 if len(group) else 0
    has_positive = np.bincount(group[positive], minlength=size) > 0
    # A block ends with a group that has positives: precision is read there.
    block = np.cumsum(np.append(False, has_positive)[:-1])[group]
    num_blocks = int(block[-1]) + 1 if size else 0
    positives = _sum_by(block[positive], unit[positive], num_blocks, num_units)
    every = _sum_by(block, unit, num_blocks, num_units)

    def average_precision(weight):
      true, all_ = positives @ weight, every @ weight
      found, called = np.cumsum(true, axis=0), np.cumsum(all_, axis=0)
      total, films = true.sum(axis=0), all_.sum(axis=0)
      precision = np.divide(found, called, out=found, where=called > 0)
      total = np.where(total < films, total, 0.0)  # One kind only: undefined.
      return _divide(np.einsum('br,br->r', true, precision), total)

    return average_precision

  return _stack(
    [
      one(s, y, unit[mask[:, k]])
      for k, (s, y) in enumerate(metrics.known(score, label))
    ]
  )


def make_ratio(
  numerator: Float[np.ndarray, 'n m'],
  denominator: Float[np.ndarray, 'n m'],
  unit: Int[np.ndarray, ' n'],
  num_units: int,
) -> Statistic:
  """sum(numerator) / sum(denominator), both weighted, for m figures at once.

  A mean is a ratio whose denominator is 1 where the value is defined and 0
  (with numerator 0) where it is not.
  """
  rows = _sum_by(unit, np.arange(len(unit)), num_units, len(unit))
  above, below = rows @ numerator, rows @ denominator
  return lambda weight: _divide(weight.T @ above, weight.T @ below)


def defined_mean(
  figures: Float[np.ndarray, '... m'],
) -> Float[np.ndarray, '...']:
  """Mean over the last axis of what is not NaN; NaN if nothing is."""
  defined = ~np.isnan(figures)
  return _divide(
    np.where(defined, figures, 0.0).sum(axis=-1),
    defined.sum(axis=-1).astype(np.float64),
  )


def with_mean(statistic: Statistic) -> Statistic:
  """The statistic with the mean of its defined figures as column 0."""

  def both(weight):
    figures = statistic(weight)
    return np.column_stack([defined_mean(figures), figures])

  return both


# Resampling.


def resample_weights(
  num_units: int, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
):
  """Chunks 'p c' of multinomial counts: how often each patient was drawn.

  The counts depend on (num_units, seed) and the resample's number alone.
  """
  rng = np.random.default_rng(seed)
  for start in range(0, num_resamples, CHUNK):
    count = min(CHUNK, num_resamples - start)
    drawn = rng.integers(0, num_units, (count, num_units))
    drawn += np.arange(count)[:, None] * num_units
    weight = np.bincount(drawn.ravel(), minlength=count * num_units)
    yield np.ascontiguousarray(
      weight.reshape(count, num_units).T, dtype=np.float64
    )


def value(statistic: Statistic, num_units: int) -> Float[np.ndarray, ' m']:
  """The figures themselves: every patient counts once."""
  return statistic(np.ones((num_units, 1)))[0]


def bootstrap(
  statistic: Statistic,
  num_units: int,
  *,
  num_resamples: int = NUM_RESAMPLES,
  seed: int = 0,
) -> Float[np.ndarray, 'r m']:
  """The figures of every resample of patients."""
  chunks = resample_weights(num_units, num_resamples=num_resamples, seed=seed)
  return np.concatenate([statistic(weight) for weight in chunks])


def bootstrap_auroc(score, label, patient, **options):
  """'n k', 'n k', 'n' -> AUROC of each resample and finding, 'r k'."""
  unit, num_units = units(patient)
  return bootstrap(
    make_auroc(score, label, unit, num_units), num_units, **options
  )


def bootstrap_average_precision(score, label, patient, **options):
  """'n k', 'n k', 'n' -> average precision per resample and finding."""
  unit, num_units = units(patient)
  return bootstrap(
    make_average_precision(score, label, unit, num_units), num_units, **options
  )


def bootstrap_ratio(numerator, denominator, patient, **options):
  """'n m', 'n m', 'n' -> ratio of weighted sums per resample, 'r m'."""
  unit, num_units = units(patient)
  return bootstrap(
    make_ratio(numerator, denominator, unit, num_units), num_units, **options
  )


def bootstrap_mean(values, patient, **options):
  """'n m', 'n' -> mean over the rows that are not NaN, per resample."""
  defined = ~np.isnan(values)
  return bootstrap_ratio(
    np.where(defined, values, 0.0),
    defined.astype(np.float64),
    patient,
    **options,
  )


# Figures.


def interval(
  samples: Float[np.ndarray, ' r'], *, level: float = 0.95
) -> tuple[float, float]:
  """Percentile interval of the defined resamples; (NaN, NaN) if withheld."""
  defined = samples[~np.isnan(samples)]
  if len(defined) < (1 - MAX_UNDEFINED) * len(samples) or not len(defined):
    return math.nan, math.nan
  low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
  return float(low), float(high)


def figure(
  point: float | Float[np.ndarray, ''],
  samples: Float[np.ndarray, ' r'],
  *,
  images: int | np.integer,
  patients: int | np.integer,
  why: str = 'undefined: nothing to count',
) -> dict:
  """A figure with its interval; None and `why` where it is undefined."""
  low, high = interval(samples)
  result = {
    'value': None if math.isnan(point) else float(point),
    'low': None if math.isnan(point) or math.isnan(low) else low,
    'high': None if math.isnan(point) or math.isnan(high) else high,
    'images': int(images),
    'patients': int(patients),
  }
  if result['value'] is None:
    result['why'] = why
  elif result['low'] is None:
    undefined = 100 * float(np.mean(np.isnan(samples)))
    result['why'] = (
      f'no interval: undefined in {undefined:.0f} % of resamples, too few '
      'patients carry it'
    )
  return result


# Two runs on the same films.


def pair_units(
  unit: Int[np.ndarray, ' n'], num_units: int
) -> Int[np.ndarray, ' 2*n']:
  """Units of the rows of run A over those of run B: patient i of B is i + p."""
  return np.concatenate([unit, unit + num_units])


def ranks(score: Float[np.ndarray, 'n k']) -> Float[np.ndarray, 'n k']:
  """Midranks of each column: what two runs' scores are compared by, since the
  scale of their logits means nothing (Bandos, Rockette, Gur 2005)."""
  return stats.rankdata(score, axis=0, nan_policy='omit')


def paired_difference(
  first: Statistic,
  second: Statistic,
  joint: Statistic,
  num_units: int,
  *,
  num_resamples: int = NUM_RESAMPLES,
  seed: int = 0,
) -> dict[str, Float[np.ndarray, '...']]:
  """Differences (second - first) of two runs' figures, run on the same films.

  Args:
    first, second: each run's figures of p patients.
    joint: the figures of films taken from both runs, of 2p units
      (`pair_units`); for AUROC and average precision on `ranks`.
    num_units: p.
    num_resamples: of the bootstrap, and of the permutation.
    seed: of both.

  Returns:
    'first', 'second', 'difference': values 'm'; 'first_samples',
    'second_samples', 'difference_samples': 'r m', drawn together; 'p': 'm',
    two-sided p-values. Under the null hypothesis the runs are exchangeable:
    each patient's films are swapped between them at random, and
    p = (1 + permutations with as large a difference) / (1 + permutations).
  """
  options = {'num_resamples': num_resamples, 'seed': seed}
  result = {
    'first': value(first, num_units),
    'second': value(second, num_units),
    'first_samples': bootstrap(first, num_units, **options),
    'second_samples': bootstrap(second, num_units, **options),
  }
  result['difference'] = result['second'] - result['first']
  result['difference_samples'] = (
    result['second_samples'] - result['first_samples']
  )

  def swapped(from_second):
    kept = 1.0 - from_second
    as_first = joint(np.concatenate([kept, from_second]))
    return joint(np.concatenate([from_second, kept])) - as_first

  # Tested is the difference of `joint`, which for AUROC is the same figure
  # on ranks: equal but for rounding.
  observed = np.abs(swapped(np.zeros((num_units, 1)))[0])
  rng = np.random.default_rng([seed, 1])
  larger, defined = np.zeros(len(observed)), np.zeros(len(observed))
  for start in range(0, num_resamples, CHUNK):
    shape = (min(CHUNK, num_resamples - start), num_units)
    null = swapped(rng.integers(0, 2, shape).T.astype(np.float64))
    larger += (np.abs(null) >= observed - 1e-12).sum(axis=0)
    defined += (~np.isnan(null)).sum(axis=0)
  result['p'] = np.where(
    np.isnan(result['difference']), np.nan, (1 + larger) / (1 + defined)
  )
  return result


def paired_ranking(
  make: Callable[..., Statistic],
  first: Float[np.ndarray, 'n k'],
  second: Float[np.ndarray, 'n k'],
  label: Float[np.ndarray, 'n k'],
  patient: Int[np.ndarray, ' n'],
  **options,
) -> dict[str, Float[np.ndarray, '...']]:
  """`paired_difference` of `make` (make_auroc or make_average_precision) for
  two runs' scores; column 0 is the mean over findings."""
  unit, num_units = units(patient)
  joint = make(
    np.concatenate([ranks(first), ranks(second)]),
    np.concatenate([label, label]),
    pair_units(unit, num_units),
    2 * num_units,
  )
  return paired_difference(
    with_mean(make(first, label, unit, num_units)),
    with_mean(make(second, label, unit, num_units)),
    with_mean(joint),
    num_units,
    **options,
  )


def holm(p: Float[np.ndarray, ' m']) -> Float[np.ndarray, ' m']:
  """Holm 1979: p-values adjusted for the tests of one family.

  Undefined tests (NaN) stay NaN and do not count.
  """
  p = np.asarray(p, np.float64)
  order = np.argsort(p)  # NaN last.
  count = int((~np.isnan(p)).sum())
  factor = np.arange(count, 0, -1)
  adjusted = np.full(p.shape, np.nan)
  adjusted[order[:count]] = np.minimum(
    np.maximum.accumulate(factor * p[order[:count]]), 1.0
  )
  return adjusted


# DeLong: without resampling, and with films as units.


def paired_figures(names, results, counts) -> dict[str, dict]:
  """{name: {'runs': [figure, …], 'difference': figure}}.

  The first name is the mean, which Holm's correction leaves out. `results` are
  `paired_difference` of each later run with the first; with several,
  'differences' has them all.
  """
  adjusted = [np.append(np.nan, holm(result['p'][1:])) for result in results]
  entries = {}
  for i, name in enumerate(names):
    runs = [
      figure(
        results[0]['first'][i], results[0]['first_samples'][:, i], **counts[i]
      )
    ]
    differences = []
    for result, p_holm in zip(results, adjusted, strict=True):
      runs.append(
        figure(result['second'][i], result['second_samples'][:, i], **counts[i])
      )
      difference = figure(
        result['difference'][i], result['difference_samples'][:, i], **counts[i]
      )
      for key, p in (('p', result['p'][i]), ('p_holm', p_holm[i])):
        difference[key] = None if math.isnan(p) else float(p)
      differences.append(difference)
    entries[name] = {'runs': runs, 'difference': differences[0]}
    if len(differences) > 1:
      entries[name]['differences'] = differences
  return entries


def _placements(score, label):
  """Share of negatives below each positive, and of positives above each
  negative; ties count half (Sun and Xu 2014)."""
  positive, negative = score[label == 1], score[label == 0]
  joint = stats.rankdata(np.concatenate([positive, negative]))
  count = len(positive)
  of_positive = joint[:count] - stats.rankdata(positive)
  of_negative = joint[count:] - stats.rankdata(negative)
  return of_positive / len(negative), 1 - of_negative / count


def delong(
  score: Float[np.ndarray, 'n m'], label: Float[np.ndarray, ' n']
) -> tuple[Float[np.ndarray, ' m'], Float[np.ndarray, 'm m']]:
  """AUROC of m scores of the same films, and their covariance.

  DeLong, DeLong, Clarke-Pearson 1988. Films count as independent: where
  patients have several, the interval is too narrow (use the bootstrap).
  NaN labels are left out; fewer than two films of a kind give NaN covariance.
  """
  score, label = np.asarray(score, np.float64), np.asarray(label, np.float64)
  score, label = score[~np.isnan(label)], label[~np.isnan(label)]
  size = score.shape[1]
  kinds = min((label == 1).sum(), (label == 0).sum())
  if not kinds:
    return np.full(size, np.nan), np.full((size, size), np.nan)
  columns = [_placements(score[:, i], label) for i in range(size)]
  of_positive = np.stack([a for a, _ in columns])
  of_negative = np.stack([b for _, b in columns])
  if kinds < 2:
    return of_positive.mean(axis=1), np.full((size, size), np.nan)
  covariance = np.cov(of_positive).reshape(size, size) / of_positive.shape[1]
  covariance += np.cov(of_negative).reshape(size, size) / of_negative.shape[1]
  return of_positive.mean(axis=1), covariance


def delong_test(
  first: Float[np.ndarray, ' n'],
  second: Float[np.ndarray, ' n'],
  label: Float[np.ndarray, ' n'],
) -> dict[str, float]:
  """Paired test of two scores' AUROC: second - first, se, z, p, 95 % interval.

  Equal scores give z = 0 and p = 1.
  """
  area, covariance = delong(np.stack([first, second], axis=1), label)
  difference = float(area[1] - area[0])
  variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
  # Rounding can leave a variance of -1e-18 for two equal rankings.
  se = (
    math.sqrt(max(float(variance), 0.0)) if variance == variance else math.nan
  )
  z = 0.0 if difference == 0 and not math.isnan(se) else math.nan
  if se > 0:
    z = difference / se
  margin = float(stats.norm.ppf(0.975)) * se
  return {
    'difference': difference,
    'se': se,
    'z': z,
    'p': float(2 * stats.norm.sf(abs(z))),
    'low': difference - margin,
    'high': difference + margin,
  }
