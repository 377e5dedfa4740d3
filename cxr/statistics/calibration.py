"""Calibrated probabilities and operating points, fitted on validation films.

Contract. Logits and labels have shape 'n k' (films, findings); a label is 0, 1
or NaN (unknown). `fit` returns three arrays 'k' by name:

  temperature, bias   probability = sigmoid(logit / temperature + bias)
  threshold           a film is called positive if logit >= threshold

A finding without both positive and negative films has NaN in all three: it has
no calibrated probability and none of its films is called positive.

A temperature alone (Guo et al. 2017) cannot mend a loss that weights positive
films up: the probabilities are too high by a factor of the odds, and a
temperature leaves sigmoid(0) where it is. Hence the bias (Platt 1999). The
operating point has the largest Youden index and depends on neither.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import optimize, special

from cxr.statistics import metrics

TEMPERATURES = (1e-2, 1e2)
BIAS = 30.0  # at the mean logit; odds beyond any count of films
FIELDS = ('temperature', 'bias', 'threshold')

Fitted = Mapping[str, Float[np.ndarray, ' k']]


def fit(
  logits: Float[np.ndarray, 'n k'], label: Float[np.ndarray, 'n k']
) -> dict[str, Float[np.ndarray, ' k']]:
  """Fits the calibration and the operating point of each finding.

  Returns:
    'temperature', 'bias' and 'threshold', as the module's top says.

  Raises:
    ValueError: as `metrics.known`.

  Examples:
    >>> logits = np.array([[-2.0], [0], [3]])
    >>> label = np.array([[0.0], [1], [1]])
    >>> fitted = fit(logits, label)
    >>> fitted['threshold'].tolist()
    [0.0]
    >>> probability(logits, fitted).round(2).tolist()
    [[0.42], [0.6], [0.81]]
  """
  scaled = [_platt(x, y) for x, y in metrics.known(logits, label)]
  temperature, bias = np.array(scaled).reshape(-1, 2).T
  return {
    'temperature': temperature,
    'bias': bias,
    'threshold': metrics.operating_threshold(logits, label),
  }


def _platt(logit, label) -> tuple[float, float]:
  """(temperature, bias) of the lowest cross-entropy against Platt's targets."""
  positives = label.sum()
  negatives = len(label) - positives
  if not (positives and negatives):
    return math.nan, math.nan
  # Not 1 and 0 but what Laplace's rule expects of the next film: kinds that
  # happen to be apart among a few films would sharpen without end.
  target = np.where(
    label == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2)
  )

  # Of unit spread about 0: a network that hardly tells films apart has logits
  # in a narrow band far from 0, where the two are all but one.
  centre, spread = logit.mean(), logit.std() or 1.0
  x = (logit - centre) / spread

  def cross_entropy(slope_and_bias):
    slope, bias = slope_and_bias
    z = slope * x + bias
    error = special.expit(z) - target
    # log_expit and not log(expit): no infinity for confident mistakes.
    loss = -(
      target * special.log_expit(z) + (1 - target) * special.log_expit(-z)
    )
    return loss.mean(), np.array([(error * x).mean(), error.mean()])

  # Convex in the slope, not in the temperature.
  slopes = (spread / t for t in reversed(TEMPERATURES))
  slope, bias = optimize.minimize(
    cross_entropy,
    (1.0, 0.0),
    jac=True,
    method='L-BFGS-B',
    bounds=(tuple(slopes), (-BIAS, BIAS)),
  ).x
  return spread / slope, bias - slope / spread * centre


def probability(
  logits: Float[np.ndarray, '... k'], fitted: Fitted
) -> Float[np.ndarray, '... k']:
  """The calibrated probabilities; NaN where nothing was fitted.

  Examples:
    >>> fitted = {'temperature': np.array([2.0]), 'bias': np.array([1.0])}
    >>> probability(np.array([[-2.0]]), fitted).tolist()
    [[0.5]]
  """
  z = np.asarray(logits, np.float64) / fitted['temperature'] + fitted['bias']
  return special.expit(z)


def called(
  logits: Float[np.ndarray, '... k'], fitted: Fitted
) -> Bool[np.ndarray, '... k']:
  """Whether a film is called positive; False without an operating point.

  Examples:
    >>> fitted = {'threshold': np.array([0.1, np.nan])}
    >>> called(np.array([[0.1, 9.0]]), fitted).tolist()
    [[True, False]]
  """
  # float32 on both sides: a threshold is a film's own logit.
  return np.asarray(logits, np.float32) >= np.float32(fitted['threshold'])


def to_json(
  fitted: Fitted, label: Float[np.ndarray, 'n k'], findings: Sequence[str]
) -> dict[str, dict]:
  """What a run's calibration.json holds of each finding.

  Args:
    fitted: by `fit`.
    label: of the films that it was fitted on.
    findings: their names.

  Returns:
    {finding: the numbers of FIELDS, 'probability_at_threshold', 'positives'
    and 'negatives' (films)}; undefined numbers are None, and 'why' says why.
    So is the threshold of a finding that is worth calling on no film.

  Examples:
    >>> label = np.array([[0.0], [0.0]])
    >>> stored = to_json(fit(np.array([[1.0], [2.0]]), label), label, ['Mass'])
    >>> stored['Mass']['threshold'], stored['Mass']['why']
    (None, '0 positive and 2 negative films: needs both')
  """
  rows = {}
  for k, name in enumerate(findings):
    row = {field: _number_or_none(fitted[field][k]) for field in FIELDS}
    row['probability_at_threshold'] = _number_or_none(
      probability(fitted['threshold'], fitted)[k]
    )
    row['positives'] = int((label[:, k] == 1).sum())
    row['negatives'] = int((label[:, k] == 0).sum())
    if row['threshold'] is None:
      row['why'] = (
        f'{row["positives"]} positive and {row["negatives"]} negative films: '
        'needs both'
        if np.isnan(fitted['threshold'][k])
        else 'no threshold calls more of the positive films than of the others'
      )
    rows[name] = row
  return rows


def from_json(rows: Mapping[str, Mapping], findings: Sequence[str]) -> Fitted:
  """The inverse of `to_json`, in the order of `findings`.

  Examples:
    >>> stored = {'Mass': {'temperature': 2.0, 'bias': 0.5, 'threshold': None}}
    >>> fitted = from_json(stored, ['Mass'])
    >>> [fitted[field].tolist() for field in FIELDS]
    [[2.0], [0.5], [nan]]
  """
  return {
    field: np.array(
      [
        math.nan if rows[name][field] is None else rows[name][field]
        for name in findings
      ]
    )
    for field in FIELDS
  }


def _number_or_none(value) -> float | None:
  return float(value) if np.isfinite(value) else None
