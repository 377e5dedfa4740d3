"""Classification figures from scores and labels, on the host in float64.

Contract. `score` and `label` have shape 'n k': n films, k findings. A label is
0, 1 or NaN (unknown; that film is left out for that finding). Larger scores
mean present; only `brier` and `calibration_error` read them as probabilities.
A figure of a finding without both kinds of film is NaN. A score that is NaN
raises: a ranking with holes has no AUROC.
"""

import math

import numpy as np
from jaxtyping import Float


def known(
  score: Float[np.ndarray, '*a'], label: Float[np.ndarray, '*b']
) -> list[tuple[Float[np.ndarray, ' m'], Float[np.ndarray, ' m']]]:
  """Per finding the (score, label) of the films whose label is known.

  Raises:
    ValueError: shapes differ, a score is NaN, or a label is not 0, 1 or NaN.
  """
  score, label = np.asarray(score, np.float64), np.asarray(label, np.float64)
  if score.shape != label.shape or score.ndim != 2:
    raise ValueError(
      f'score {score.shape} and label {label.shape} must have one shape '
      '(films, findings).'
    )
  mask = ~np.isnan(label)
  holes = np.isnan(score) & mask
  if holes.any():
    raise ValueError(
      f'{int(holes.sum())} of {score.size} scores are NaN; the model diverged '
      'or its input was not finite.'
    )
  if not np.isin(label[mask], (0, 1)).all():
    raise ValueError('A label must be 0, 1 or NaN (unknown).')
  return [
    (score[mask[:, k], k], label[mask[:, k], k]) for k in range(label.shape[1])
  ]


def _both_kinds(label):
  return 0 < label.sum() < len(label)


def _per_finding(function, score, label):
  return np.array(
    [
      function(s, y) if _both_kinds(y) else math.nan
      for s, y in known(score, label)
    ]
  )


def roc_curve(
  score: Float[np.ndarray, ' n'], label: Float[np.ndarray, ' n']
) -> tuple[
  Float[np.ndarray, ' t'], Float[np.ndarray, ' t'], Float[np.ndarray, ' t']
]:
  """(false positive rate, sensitivity, threshold) for 'score >= threshold'.

  One point per distinct score, highest threshold first, after (0, 0, inf).
  """
  order = np.argsort(-score, kind='stable')
  score, label = score[order], label[order]
  last = np.append(score[1:] != score[:-1], True)
  true, false = np.cumsum(label)[last], np.cumsum(1 - label)[last]
  return (
    np.append(0.0, false / false[-1]),
    np.append(0.0, true / true[-1]),
    np.append(np.inf, score[last]),
  )


def auroc(
  score: Float[np.ndarray, 'n k'], label: Float[np.ndarray, 'n k']
) -> Float[np.ndarray, ' k']:
  """Area under the ROC curve: P(positive > negative), ties counting half."""

  def one(score, label):
    positive, negative = score[label == 1], np.sort(score[label == 0])
    below = np.searchsorted(negative, positive, 'left')
    up_to = np.searchsorted(negative, positive, 'right')
    return (below + up_to).sum() / (2 * len(positive) * len(negative))

  return _per_finding(one, score, label)


def average_precision(
  score: Float[np.ndarray, 'n k'], label: Float[np.ndarray, 'n k']
) -> Float[np.ndarray, ' k']:
  """Sum over distinct scores of precision x gain in recall (no interpolation);
  films with equal scores enter together."""

  def one(score, label):
    order = np.argsort(-score, kind='stable')
    score, label = score[order], label[order]
    last = np.append(score[1:] != score[:-1], True)
    true = np.cumsum(label)[last]
    precision = true / (np.flatnonzero(last) + 1)
    return np.sum(precision * np.diff(true, prepend=0.0)) / true[-1]

  return _per_finding(one, score, label)


def operating_threshold(
  score: Float[np.ndarray, 'n k'],
  label: Float[np.ndarray, 'n k'],
  *,
  sensitivity: float | None = None,
) -> Float[np.ndarray, ' k']:
  """The threshold per finding, to be chosen on validation films.

  With `sensitivity`, the highest threshold that reaches it; without, the one
  with the largest Youden index (sensitivity + specificity - 1), the highest
  if several tie. Films with score >= threshold are called positive.
  """
  if sensitivity is not None and not 0 < sensitivity <= 1:
    raise ValueError(f'sensitivity ({sensitivity}) must lie in (0, 1].')

  def one(score, label):
    false_rate, true_rate, threshold = roc_curve(score, label)
    if sensitivity is None:
      youden = true_rate - false_rate
      # 2/3 - 0 and 1 - 1/3 differ by rounding: a tie all the same.
      return threshold[np.argmax(youden >= youden.max() - 1e-12)]
    return threshold[np.argmax(true_rate >= sensitivity - 1e-12)]

  return _per_finding(one, score, label)


def confusion(
  score: Float[np.ndarray, 'n k'],
  label: Float[np.ndarray, 'n k'],
  threshold: Float[np.ndarray, ' k'],
) -> dict[str, Float[np.ndarray, ' k']]:
  """Sensitivity, specificity and predictive values at a threshold each;
  NaN where nothing is counted."""
  score, label = np.asarray(score, np.float64), np.asarray(label, np.float64)
  called = score >= threshold
  counts = {
    (kind, call): ((label == kind) & (called == call)).sum(axis=0)
    for kind in (0, 1)
    for call in (False, True)
  }

  def ratio(part, rest):
    whole = counts[part] + counts[rest]
    return np.divide(
      counts[part], whole, out=np.full(len(whole), np.nan), where=whole > 0
    )

  return {
    'sensitivity': ratio((1, True), (1, False)),
    'specificity': ratio((0, False), (0, True)),
    'positive_predictive_value': ratio((1, True), (0, True)),
    'negative_predictive_value': ratio((0, False), (1, False)),
  }


def brier(
  probability: Float[np.ndarray, 'n k'], label: Float[np.ndarray, 'n k']
) -> Float[np.ndarray, ' k']:
  """Mean squared error of the probabilities (Brier 1950)."""
  return _per_finding(lambda p, y: np.mean((p - y) ** 2), probability, label)


def calibration_error(
  probability: Float[np.ndarray, 'n k'],
  label: Float[np.ndarray, 'n k'],
  *,
  num_bins: int = 15,
) -> Float[np.ndarray, ' k']:
  """Expected calibration error (Naeini et al. 2015) over bins of equal width:
  mean over films of |mean label - mean probability| of the film's bin."""

  def one(probability, label):
    index = np.clip((probability * num_bins).astype(int), 0, num_bins - 1)
    gap = np.bincount(index, label - probability, num_bins)
    return np.abs(gap).sum() / len(label)

  return _per_finding(one, probability, label)
