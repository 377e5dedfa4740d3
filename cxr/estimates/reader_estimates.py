"""A network beside the readers of its films, and what its labels are worth.

Contract. A finding's labels were mined from a report, or come from whoever made
the data set; readers looked at the film. An AUROC against such labels is not to
be read against 1: it is to be read against that of the readers' own votes on
the same labels. A film counts where at least one reader read it. The majority
of its readers is unknown in a tie, and a reader is always measured against the
majority of the OTHERS (statistics/agreement.py). Every estimate has an interval
over patients; the readers are fixed.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging
from jaxtyping import Float

from cxr import stored_rows
from cxr.estimates import ranking_estimates
from cxr.estimates.readings import Readings
from cxr.statistics import (
  agreement,
  bootstrap,
  intervals,
  metrics,
  rankings,
  ratios,
)

# Of the curves: the false positive rates at which they are stored.
RATES = np.linspace(0, 1, 101)


def estimates(
  block: stored_rows.Predictions, readings: Readings, **options: int
) -> dict:
  """Compares a network with its films' readers, and these with the labels.

  Args:
    block: the clean test films.
    readings: of the same findings in the same order.
    **options: num_resamples and seed.

  Returns:
    {} without readings, else
    'readers': {name: {'films': how many, and of 'sensitivity', 'specificity'
    and 'kappa' {'mean' | finding: estimate} against the majority of the
    others}};
    'auroc': {'mean' | finding: estimate} of the network against the majority;
    'label': {'network' | 'votes' | 'difference': {'mean' | finding: estimate}},
    the AUROC of both against the labels, and the votes' less the network's;
    'kappa': {'readers': Fleiss' of all, 'one_and_others': the mean of the
    readers', 'label': of the label and the majority}, each {'mean' | finding:
    estimate};
    'positives': {finding: films whose majority is 1};
    'not_scored': findings whose majority is not of both kinds;
    'roc': {finding: the network's sensitivity against the majority at false
    positive rates 0, .01, … 1}.
  """
  block = read_films(block, readings)
  if not len(block.image):
    return {}
  findings = readings.findings
  votes = readings.of_films(block.image).astype(np.float64)
  majority = agreement.majority(votes)
  others = agreement.majority_of_others(votes)
  of_majority = block._replace(label=majority)
  kappas = _kappas(block, findings, votes, others, **options)
  of_readers = {
    name: {
      'films': int((~np.isnan(votes[i])).any(axis=1).sum()),
      **_against_others(block, findings, votes[i], others[i], **options),
      'kappa': kappas.pop(f'reader {i}'),
    }
    for i, name in enumerate(readings.readers)
  }
  positive, negative = ((majority == kind).sum(axis=0) for kind in (1, 0))
  return {
    'films': len(block.image),
    'readers': of_readers,
    **ranking_estimates.estimates(
      of_majority,
      findings=findings,
      makers={'auroc': rankings.make_auroc},
      **options,
    ),
    'label': _of_label(block, findings, votes, **options),
    'kappa': kappas,
    'positives': dict(zip(findings, positive.tolist(), strict=True)),
    'not_scored': [
      name
      for k, name in enumerate(findings)
      if not (positive[k] and negative[k])
    ],
    'roc': _curves(of_majority, findings),
  }


def read_films(
  block: stored_rows.Predictions, readings: Readings
) -> stored_rows.Predictions:
  """The films of the block that somebody read."""
  read = (~np.isnan(readings.of_films(block.image))).any(axis=(0, 2))
  return stored_rows.Predictions(*(column[read] for column in block))


def against_majority(
  block: stored_rows.Predictions, readings: Readings
) -> stored_rows.Predictions:
  """The films that somebody read, with the readers' majority for labels."""
  block = read_films(block, readings)
  votes = readings.of_films(block.image).astype(np.float64)
  return block._replace(label=agreement.majority(votes))


def warn(estimated: Mapping) -> None:
  """Says which findings are not scored against the readers."""
  if estimated.get('not_scored'):
    logging.warning(
      'The majority of the readers does not have both positive and negative '
      'films of %s: not scored against it.',
      ', '.join(estimated['not_scored']),
    )


def _of_label(block, findings, votes, **options) -> dict[str, dict]:
  """AUROC of the network and of the votes against the label, and less."""
  vote = agreement.mean_vote(votes)
  # Both are of the films that somebody read for the finding.
  label = np.where(np.isnan(vote), np.nan, block.label)
  network = block._replace(label=label)
  compared = ranking_estimates.compare(
    [network, network._replace(logit=vote)],
    findings,
    rankings.make_auroc,
    **options,
  )
  return {
    'network': {name: entry['runs'][0] for name, entry in compared.items()},
    'votes': {name: entry['runs'][1] for name, entry in compared.items()},
    'difference': {n: entry['difference'] for n, entry in compared.items()},
  }


def _against_others(block, findings, vote, truth, **options) -> dict[str, dict]:
  """A reader's sensitivity and specificity."""
  read = ~np.isnan(vote)
  result = {}
  for name, kind in (('sensitivity', 1), ('specificity', 0)):
    of_kind = (truth == kind) & read
    rows = ratios.Ratios(
      (of_kind & (vote == kind)).astype(np.float64)[:, None],
      of_kind.astype(np.float64)[:, None],
      tuple(findings),
      ('logit',),
    )
    why = f'of no film that this reader read the others say {kind}'
    counts = _counts(block, of_kind, why)
    (result[name],) = ratios.estimates(rows, block.patient, [counts], **options)
  return result


def _kappas(block, findings, votes, others, **options) -> dict[str, dict]:
  """'readers', 'one_and_others', 'label', and 'reader 0', 'reader 1', …"""
  patient, num_patients = bootstrap.index_patients(block.patient)
  of_patients = patient, num_patients
  majority = agreement.majority(votes)
  label = block.label.astype(np.float64)
  fleiss = agreement.make_fleiss_kappa(votes, *of_patients)
  of_label = agreement.make_cohen_kappa(label, majority, *of_patients)
  of_each = [
    agreement.make_cohen_kappa(vote, truth, *of_patients)
    for vote, truth in zip(votes, others, strict=True)
  ]

  def statistic(weight: Float[np.ndarray, 'p r']) -> Float[np.ndarray, 'r m']:
    each = np.stack([of_one(weight) for of_one in of_each], axis=-1)
    found = [
      fleiss(weight),
      bootstrap.defined_mean(each),
      of_label(weight),
      *np.moveaxis(each, -1, 0),
    ]
    with_mean = lambda k: np.column_stack([bootstrap.defined_mean(k), k])
    return np.concatenate(list(map(with_mean, found)), axis=1)

  sampled = intervals.sample(statistic, num_patients, **options)
  both = ~np.isnan(votes) & ~np.isnan(others)
  counted = {
    'readers': (~np.isnan(votes)).sum(axis=0) > 1,
    'one_and_others': both.any(axis=0),
    'label': ~np.isnan(label) & ~np.isnan(majority),
    **{f'reader {i}': mask for i, mask in enumerate(both)},
  }
  result, width = {}, 1 + len(findings)
  for i, (name, mask) in enumerate(counted.items()):
    part = sampled.take(slice(i * width, (i + 1) * width))
    result[name] = intervals.estimates(
      ('mean', *findings),
      part.values,
      intervals.over_patients(part),
      _counts(
        block, mask, 'those who are the reference see it on no film or on all'
      ),
      scale='fisher',
    )
  return result


def _counts(block, mask, why: str) -> list[dict]:
  """The counts of `intervals.estimate`: `mask` 'n k' has the films."""
  return [
    {
      'images': int(films.sum()),
      'patients': ranking_estimates.count_patients(block.patient[films]),
      'why': why,
    }
    for films in (mask.any(axis=1), *mask.T)
  ]


def _curves(
  block: stored_rows.Predictions, findings: Sequence[str]
) -> dict[str, list[float]]:
  """Of each finding the best sensitivity at each of RATES."""
  curves = {}
  for name, (score, label) in zip(
    findings, metrics.known(block.logit, block.label), strict=True
  ):
    if 0 < label.sum() < len(label):
      rate, sensitivity, _ = metrics.roc_curve(score, label)
      # 3/10 and .3 are not the same number.
      last = np.searchsorted(rate, RATES + 1e-9, side='right') - 1
      curves[name] = sensitivity[last].tolist()
  return curves
