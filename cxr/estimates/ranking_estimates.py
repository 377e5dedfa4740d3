"""How well logits rank films: AUROC and average precision, with intervals.

Contract. A block is films of predictions.csv (stored_rows.Predictions); a label
is 0, 1 or NaN (unknown). Of every ranking there is the mean over findings and
then a value for each finding. Intervals are by bootstrap over patients.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from cxr import stored_rows
from cxr.reporting import wording
from cxr.statistics import (
  bootstrap,
  intervals,
  paired,
  rankings,
)

RANKINGS = {
  'auroc': rankings.make_auroc,
  'average_precision': rankings.make_average_precision,
}
SCALE = 'logit'  # of their intervals


def rankings_of(condition: stored_rows.Condition) -> dict[str, Callable]:
  """The rankings that mean something of the films of a condition.

  Where every finding is attacked alone, its films are chosen by their labels.
  AUROC compares films of the two kinds and does not depend on how many there
  are of each; average precision does.
  """
  if wording.is_alone(condition.attack):
    return {'auroc': RANKINGS['auroc']}
  return RANKINGS


def count_patients(patient: Int[np.ndarray, ' n']) -> int:
  """The number of different patients."""
  return len(np.unique(patient))


def counts_of(block: stored_rows.Predictions, findings) -> list[dict]:
  """The counts of `intervals.estimate`, for the mean and then each finding."""
  counts = [
    {
      'images': len(block.image),
      'patients': count_patients(block.patient),
      'why': 'no finding has both positive and negative films',
    }
  ]
  for k, _ in enumerate(findings):
    label = block.label[:, k]
    known = ~np.isnan(label)
    of_kind = [count_patients(block.patient[label == x]) for x in (0, 1)]
    counts.append(
      {
        'images': known.sum(),
        'patients': count_patients(block.patient[known]),
        'carriers': min(of_kind),
        'why': f'{int((label == 1).sum())} positive and '
        f'{int((label == 0).sum())} negative films: needs both',
      }
    )
  carriers = [c['carriers'] for c in counts[1:] if c['carriers']]
  counts[0]['carriers'] = min(carriers, default=0)
  return counts


def sample(
  block: stored_rows.Predictions, make: Callable, **options
) -> intervals.Sampled:
  """A ranking of the films, and of every resample of their patients.

  Args:
    block: the films.
    make: of the ranking: rankings.make_auroc, say.
    **options: num_resamples and seed.

  Returns:
    the ranking's mean over findings followed by each finding's.
  """
  unit, num_units = bootstrap.index_patients(block.patient)
  statistic = bootstrap.with_mean(
    make(block.logit, block.label, unit, num_units)
  )
  return intervals.sample(statistic, num_units, **options)


def estimates(
  block: stored_rows.Predictions,
  *,
  findings: Sequence[str],
  makers: Mapping[str, Callable] = RANKINGS,
  **options,
) -> dict[str, dict[str, dict]]:
  """How well the logits rank the films.

  Returns:
    {'auroc': {'mean' | finding: estimate}, 'average_precision': the same}.
  """
  counts = counts_of(block, findings)
  result = {}
  for name, make in makers.items():
    sampled = sample(block, make, **options)
    result[name] = intervals.estimates(
      ('mean', *findings),
      sampled.values,
      intervals.over_patients(sampled),
      counts,
      scale=SCALE,
    )
  return result


def compare(
  blocks: Sequence[stored_rows.Predictions], findings, make: Callable, **options
) -> dict[str, dict]:
  """Compares the first block's ranking with each other block's.

  Args:
    blocks: the same films in the same order.
    findings: names of the logits.
    make: of the ranking: rankings.make_auroc, say.
    **options: num_resamples and seed.

  Returns:
    {'mean' | finding: entry of `paired.estimates`}.
  """
  first, *others = blocks
  results = [
    paired.compare_rankings(
      make, first.logit, b.logit, first.label, first.patient, **options
    )
    for b in others
  ]
  counts = counts_of(first, findings)
  return paired.estimates(('mean', *findings), results, counts, scale=SCALE)
