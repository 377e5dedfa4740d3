"""Figures that are sums over rows divided by sums, and the same of runs paired.

A row is a film (or a film and what was seen in it) of one patient; a score's
figure is its numerators' sum over its denominators'. A mean is a ratio whose
denominator is 1 where the value is defined and 0, with numerator 0, elsewhere.
Every score has a figure per finding and, first, their mean.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cxr.statistics import bootstrap


class Ratios(NamedTuple):
  """Rows' shares of every score."""

  numerator: Float[np.ndarray, 'n s c']  # scores by findings
  denominator: Float[np.ndarray, 'n s c']
  findings: tuple[str, ...]


def _make_statistic(ratios: Ratios, unit, num_units) -> bootstrap.Statistic:
  """'p r' -> 'r s*(1 + c)': each score's mean over findings, then findings."""
  n, s, c = ratios.numerator.shape
  ratio = bootstrap.make_ratio(
    ratios.numerator.reshape(n, s * c),
    ratios.denominator.reshape(n, s * c),
    unit,
    num_units,
  )

  def statistic(weight):
    by_finding = ratio(weight).reshape(-1, s, c)
    mean = bootstrap.defined_mean(by_finding)[..., None]
    return np.concatenate([mean, by_finding], axis=2).reshape(-1, s * (1 + c))

  return statistic


def sample(
  ratios: Ratios, patient: Int[np.ndarray, ' n'], **options
) -> tuple[Float[np.ndarray, 's m'], Float[np.ndarray, 'r s m']]:
  """Each score's mean and findings: the figures, and those of every resample.

  `options`: num_resamples and seed of the bootstrap over patients.
  """
  unit, num_units = bootstrap.units(patient)
  statistic = _make_statistic(ratios, unit, num_units)
  shape = ratios.numerator.shape[1], 1 + len(ratios.findings)
  values = bootstrap.value(statistic, num_units).reshape(shape)
  samples = bootstrap.bootstrap(statistic, num_units, **options)
  return values, samples.reshape(-1, *shape)


def figures(
  ratios: Ratios,
  patient: Int[np.ndarray, ' n'],
  counts: Sequence[Sequence[dict]],
  **options,
) -> list[dict[str, dict]]:
  """Per score {'mean' | finding: figure}.

  `counts[s]` has what `stats.figure` says of the mean and of each finding;
  `options` are num_resamples and seed.
  """
  values, samples = sample(ratios, patient, **options)
  return [
    {
      name: bootstrap.figure(values[s, c], samples[:, s, c], **counts[s][c])
      for c, name in enumerate(('mean', *ratios.findings))
    }
    for s in range(len(values))
  ]


def paired(
  runs: Sequence[Ratios],
  patient: Int[np.ndarray, ' n'],
  counts: Sequence[Sequence[dict]],
  **options,
) -> list[dict[str, dict]]:
  """Per score {'mean' | finding: entry of `stats.paired_figures`}.

  The runs' rows stand for the same films in the same order.
  """
  unit, num_units = bootstrap.units(patient)
  singles = [_make_statistic(r, unit, num_units) for r in runs]
  results = []
  for single, other in zip(singles[1:], runs[1:], strict=True):
    both = Ratios(
      np.concatenate([runs[0].numerator, other.numerator]),
      np.concatenate([runs[0].denominator, other.denominator]),
      other.findings,
    )
    joint = _make_statistic(
      both, bootstrap.pair_units(unit, num_units), 2 * num_units
    )
    results.append(
      bootstrap.paired_difference(
        singles[0], single, joint, num_units, **options
      )
    )
  names = ('mean', *runs[0].findings)
  return [
    bootstrap.paired_figures(
      names,
      [
        {
          key: value[..., s * len(names) : (s + 1) * len(names)]
          for key, value in result.items()
        }
        for result in results
      ],
      counts[s],
    )
    for s in range(runs[0].numerator.shape[1])
  ]
