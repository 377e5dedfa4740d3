"""What scores say of labels, finding by finding, without resampling.

Contract. `score` and `label` have shape 'n k' (films, findings). A label is 0,
1 or NaN (unknown: the film is left out for that finding). Larger scores mean
present; only `calibration_error` reads them as probabilities. The result is NaN
for a finding without both positive and negative films. A score that is NaN is
refused: films with holes cannot be ranked. All is computed in float64.
"""

import math

import numpy as np
from jaxtyping import Float


def known(
  score: Float[np.ndarray, '*a'], label: Float[np.ndarray, '*b']
) -> list[tuple[Float[np.ndarray, ' _'], Float[np.ndarray, ' _']]]:
  """Of each finding the scores and labels of the films whose label is known.

  Raises:
    ValueError: shapes differ, a score is NaN, or a label is not 0, 1 or NaN.

  Examples:
    >>> label = np.array([[1.0], [np.nan]])
    >>> ((score, label),) = known(np.array([[0.2], [0.9]]), label)
    >>> score.tolist(), label.tolist()
    ([0.2], [1.0])
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


def _per_finding(function, score, label):
  return np.array(
    [
      function(s, y) if 0 < y.sum() < len(y) else math.nan
      for s, y in known(score, label)
    ]
  )


def roc_curve(
  score: Float[np.ndarray, ' n'], label: Float[np.ndarray, ' n']
) -> tuple[
  Float[np.ndarray, ' t'], Float[np.ndarray, ' t'], Float[np.ndarray, ' t']
]:
  """The ROC curve of one finding whose labels are all known.

  Returns:
    (false positive rate, sensitivity, threshold), one point for each distinct
    score, the highest first, after (0, 0, infinity). Films with
    score >= threshold are called positive.

  Examples:
    >>> curve = roc_curve(np.array([0.9, 0.5, 0.1]), np.array([1.0, 0, 1]))
    >>> [column.tolist() for column in curve]
    [[0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0], [inf, 0.9, 0.5, 0.1]]
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


def operating_threshold(
  score: Float[np.ndarray, 'n k'], label: Float[np.ndarray, 'n k']
) -> Float[np.ndarray, ' k']:
  """The threshold of each finding with the largest Youden index.

  The index is sensitivity + specificity - 1 (Youden 1950); of several such
  thresholds the highest is taken. Films with score >= threshold are called
  positive. It is to be chosen on validation films.

  Raises:
    ValueError: as `known`.

  Examples:
    >>> label = np.array([[0.0], [1], [0], [1]])
    >>> operating_threshold(np.array([[1.0], [2], [3], [4]]), label).tolist()
    [4.0]
  """

  def one(score, label):
    false_rate, true_rate, threshold = roc_curve(score, label)
    youden = true_rate - false_rate
    # 2/3 - 0 and 1 - 1/3 differ by rounding: a tie all the same.
    return threshold[np.argmax(youden >= youden.max() - 1e-12)]

  return _per_finding(one, score, label)


def calibration_error(
  probability: Float[np.ndarray, 'n k'],
  label: Float[np.ndarray, 'n k'],
  *,
  num_bins: int = 15,
) -> Float[np.ndarray, ' k']:
  """Expected calibration error over bins of equal width (Naeini et al. 2015).

  This is the mean over films of |mean label - mean probability| of the bin
  that the film's probability falls in.

  Raises:
    ValueError: as `known`.

  Examples:
    >>> label = np.array([[0.0], [1], [1], [1]])
    >>> says = np.array([[0.25], [0.25], [1], [1]])
    >>> calibration_error(says, label).tolist()
    [0.125]
  """

  def one(probability, label):
    index = np.clip((probability * num_bins).astype(int), 0, num_bins - 1)
    gap = np.bincount(index, label - probability, num_bins)
    return np.abs(gap).sum() / len(label)

  return _per_finding(one, probability, label)
