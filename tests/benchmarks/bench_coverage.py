"""How often intervals of 95 % cover the truth, by simulation.

python -m tests.benchmarks.bench_coverage [--quick]

Films are drawn from populations whose truth is known: patients with one to some
five films, whose films are alike (half of a score's variance is the patient's).
Every repetition is a study of its own; the intervals are made by the code that
makes a run's. A coverage from 1,000 repetitions is good to 1.4 points.
`--quick` makes a tenth of them. All takes some five minutes of one core.
"""

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import stats

from cxr.statistics import agreement, bootstrap, intervals, rankings, ratios

NUM_RESAMPLES = 1000
COLUMNS = 50  # repetitions that share their resamples


class Population(NamedTuple):
  """Draws runs on the same films, and knows what they scatter about."""

  name: str
  scale: str
  # (rng, patient of each film, seeds' effects 'k c') -> a statistic of each run
  draw: Callable
  truth: Callable  # seeds' effects -> value of a run on all films of the world


def _films(rng, num_patients):
  return np.repeat(np.arange(num_patients), rng.geometric(0.5, num_patients))


def _noise(rng, patient, columns):
  """Of unit variance, half of it the patient's."""
  of_patient = rng.normal(size=(patient.max() + 1, columns))
  of_film = rng.normal(size=(len(patient), columns))
  return (of_patient[patient] + of_film) / 2**0.5


def auroc(gap, prevalence, paired=0.7) -> Population:
  """Scores of positive films are higher by `gap` (and a seed's effect)."""

  def draw(rng, patient, effects):
    label = rng.random((len(patient), effects.shape[1])) < prevalence
    label = label.astype(float)
    common = _noise(rng, patient, effects.shape[1])
    for effect in effects:
      own = _noise(rng, patient, effects.shape[1])
      score = paired**0.5 * common + (1 - paired) ** 0.5 * own
      yield rankings.make_auroc(
        score + (gap + effect) * label, label, patient, patient.max() + 1
      )

  truth = lambda effect: stats.norm.cdf((gap + effect) / 2**0.5)
  name = f'AUROC {truth(0.0):.2f}, {prevalence:.0%} positive'
  return Population(name, 'logit', draw, truth)


def accuracy(share, paired=0.7) -> Population:
  """Hits at boxes: whether a patient's noise stays below a limit."""
  limit = stats.norm.ppf(share)

  def draw(rng, patient, effects):
    common = _noise(rng, patient, effects.shape[1])
    for effect in effects:
      own = _noise(rng, patient, effects.shape[1])
      noise = paired**0.5 * common + (1 - paired) ** 0.5 * own
      hit = (noise < limit + effect).astype(float)
      yield ratios.make_ratio(
        hit, np.ones_like(hit), patient, patient.max() + 1
      )

  truth = lambda effect: stats.norm.cdf(limit + effect)
  return Population(f'accuracy {share:g}', 'logit', draw, truth)


def boxes_per_box(wrong=2.0, boxed=0.4) -> Population:
  """False boxes per true box: a ratio of sums with a long tail."""

  def draw(rng, patient, effects):
    has_box = rng.random((len(patient), effects.shape[1])) < boxed
    has_box = has_box.astype(float)
    common = _noise(rng, patient, effects.shape[1])
    for effect in effects:
      rate = wrong * np.exp(0.8 * common + effect)
      yield ratios.make_ratio(
        rng.poisson(rate).astype(float), has_box, patient, patient.max() + 1
      )

  truth = lambda effect: wrong * np.exp(0.32 + effect) / boxed
  return Population('false boxes a true box', 'log', draw, truth)


def kappa(share, correlation) -> Population:
  """Two raters who call a share of the films; noises with a correlation."""
  limit = stats.norm.ppf(share)

  def draw(rng, patient, effects):
    common = _noise(rng, patient, effects.shape[1])
    for effect in effects:
      own = _noise(rng, patient, effects.shape[1])
      other = correlation * common + (1 - correlation**2) ** 0.5 * own
      yield agreement.make_cohen_kappa(
        (common < limit + effect).astype(float),
        (other < limit).astype(float),
        patient,
        patient.max() + 1,
      )

  def truth(effect):
    both = stats.multivariate_normal(
      cov=[[1, correlation], [correlation, 1]]
    ).cdf([limit + effect, limit])
    rated = stats.norm.cdf(limit + effect)
    agreeing = 1 - rated - share + 2 * both
    by_chance = rated * share + (1 - rated) * (1 - share)
    return (agreeing - by_chance) / (1 - by_chance)

  name = f'kappa {truth(0.0):.2f}, {share:.0%} called'
  return Population(name, 'fisher', draw, truth)


POPULATIONS = (
  auroc(1.0, 0.3),
  auroc(2.0, 0.1),
  accuracy(0.3),
  accuracy(0.08),
  boxes_per_box(),
  kappa(0.3, 0.75),
  kappa(0.1, 0.5),
)


def _patients_alone(population, num_patients, repetitions):
  """(method, low, high, truth, patients) of one run in every repetition."""
  rng = np.random.default_rng(0)
  truth = float(population.truth(0.0))
  for part in range(repetitions // COLUMNS):
    patient = _films(rng, num_patients)
    (statistic,) = population.draw(rng, patient, np.zeros((1, COLUMNS)))
    sampled = intervals.sample(
      statistic, num_patients, num_resamples=NUM_RESAMPLES, seed=part
    )
    spread = intervals.over_patients(sampled)
    yield 'percentile', *_percentile(sampled.samples), truth
    for scale in dict.fromkeys(('linear', population.scale)):
      yield (
        f'Student, {scale}',
        *intervals.student_interval(
          sampled.values, spread, num_patients=num_patients, scale=scale
        ),
        truth,
      )


def _difference(population, num_patients, repetitions):
  """The same of two runs' difference on the same films, whose truth is 0."""
  rng = np.random.default_rng(0)
  for part in range(repetitions // COLUMNS):
    patient = _films(rng, num_patients)
    first, second = population.draw(rng, patient, np.zeros((2, COLUMNS)))
    sampled = intervals.sample(
      lambda weight, a=first, b=second: b(weight) - a(weight),
      num_patients,
      num_resamples=NUM_RESAMPLES,
      seed=part,
    )
    yield 'percentile', *_percentile(sampled.samples), 0.0
    yield (
      'Student, linear',
      *intervals.student_interval(
        sampled.values,
        intervals.over_patients(sampled),
        num_patients=num_patients,
      ),
      0.0,
    )


def _percentile(samples):
  """What Student's interval is held against; NaN where too few are defined."""
  few = np.isnan(samples).mean(axis=0) > bootstrap.MAX_UNDEFINED
  with np.errstate(invalid='ignore'):
    low, high = np.nanquantile(samples, [0.025, 0.975], axis=0)
  return np.where(few, np.nan, low), np.where(few, np.nan, high)


def _runs(population, rng, patient, effects, seed):
  num_patients = patient.max() + 1
  return [
    intervals.sample(
      statistic, num_patients, num_resamples=NUM_RESAMPLES, seed=seed
    )
    for statistic in population.draw(rng, patient, effects)
  ]


def _pigeonhole(rng, groups, signs):
  """Runs drawn anew in each resample, with replacement (Owen 2007)."""
  total = 0.0
  for sign, group in zip(signs, groups, strict=True):
    count = len(group)
    samples = np.stack([run.samples for run in group])
    drawn = rng.integers(0, count, (count, NUM_RESAMPLES))
    total = total + sign * samples[drawn, np.arange(NUM_RESAMPLES)].mean(0)
  return _percentile(total)


def _patient_deviation(population, num_patients):
  """How far one run's value scatters over patients, without seeds."""
  rng = np.random.default_rng(1)
  values = []
  for _ in range(4):
    patient = _films(rng, num_patients)
    (statistic,) = population.draw(rng, patient, np.zeros((1, COLUMNS)))
    values.append(bootstrap.observed(statistic, num_patients))
  return np.nanstd(values)


def _seeds(population, num_patients, num_seeds, ratio, repetitions):
  """One group's mean, and the difference of two groups alike."""
  rng = np.random.default_rng(0)
  # The effect that moves the value by `ratio` times the patients' variance.
  step = 1e-3
  slope = (population.truth(step) - population.truth(-step)) / (2 * step)
  deviation = ratio**0.5 * _patient_deviation(population, num_patients) / slope
  nodes, weights = np.polynomial.hermite_e.hermegauss(41)
  truth = float(population.truth(deviation * nodes) @ weights / weights.sum())
  for part in range(repetitions // COLUMNS):
    patient = _films(rng, num_patients)
    effects = deviation * rng.normal(size=(2 * num_seeds, COLUMNS))
    runs = _runs(population, rng, patient, effects, part)
    groups = runs[:num_seeds], runs[num_seeds:]
    means = [np.mean([r.values for r in group], axis=0) for group in groups]
    for what, chosen, signs, values, of_truth, scale in (
      ('mean', groups[:1], (1,), means[0], truth, population.scale),
      ('difference', groups, (-1, 1), means[1] - means[0], 0.0, 'linear'),
    ):
      yield f'{what}: pigeonhole', *_pigeonhole(rng, chosen, signs), of_truth
      spread = intervals.over_seeds(chosen, signs=signs)
      yield (
        f'{what}: Student, {scale}',
        *intervals.student_interval(
          values, spread, num_patients=num_patients, scale=scale
        ),
        of_truth,
      )


def _table(title, results: Iterator) -> None:
  rows = {}
  for method, low, high, truth in results:
    defined = ~np.isnan(low)
    rows.setdefault(method, []).append(
      np.stack([(low > truth), (high < truth), high - low])[:, defined]
    )
  print(title)
  for method, parts in rows.items():
    above, below, width = np.concatenate(parts, axis=1)
    print(
      f'  {method:<28}{100 * (1 - above.mean() - below.mean()):6.1f} %'
      f'{100 * above.mean():8.1f}{100 * below.mean():6.1f}'
      f'{np.mean(width):9.3f}'
    )
  sys.stdout.flush()


if __name__ == '__main__':
  repetitions = 100 if '--quick' in sys.argv else 1000
  print('covers; lies above the truth, below it; mean width')
  for num_patients in (60, 300):
    for population in POPULATIONS:
      _table(
        f'{population.name}, {num_patients} patients',
        _patients_alone(population, num_patients, repetitions),
      )
    for population in POPULATIONS[:3]:
      _table(
        f'difference, {population.name}, {num_patients} patients',
        _difference(population, num_patients, repetitions),
      )
  for num_seeds in (3, 5):
    for ratio in (2, 4):
      for population in (POPULATIONS[0], POPULATIONS[2]):
        _table(
          f'{population.name}, 300 patients, {num_seeds} seeds, their variance '
          f'{ratio} times that of patients',
          _seeds(population, 300, num_seeds, ratio, repetitions),
        )
