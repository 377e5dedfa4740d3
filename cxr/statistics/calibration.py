"""Calibrated probabilities and operating points, fitted on validation films.

Contract. Logits and labels have shape 'n k', a label is 0, 1 or NaN (unknown).
What `fit` returns is a dict of arrays 'k', one entry a finding:

  temperature, bias   probability = sigmoid(logit / temperature + bias)
  threshold           of the logit: 'called' is logit >= threshold

A finding without both kinds of film has NaN in all three: it keeps its raw
probability and is never called either way.

Temperature alone (Guo et al. 2017) cannot mend a loss that weights positive
films up: its probabilities are too high by a factor of the odds, and a
temperature leaves sigmoid(0) where it is. Hence the bias (Platt 1999). The
operating point is the largest Youden index; it does not depend on either.
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
  """{'temperature', 'bias', 'threshold'}, each 'k'; see the module's top.

  Raises:
    ValueError: as `metrics.known`.
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
  """Calibrated probabilities; NaN where nothing was fitted."""
  z = np.asarray(logits, np.float64) / fitted['temperature'] + fitted['bias']
  return special.expit(z)


def called(
  logits: Float[np.ndarray, '... k'], fitted: Fitted
) -> Bool[np.ndarray, '... k']:
  """At or above the operating point; False where there is none."""
  # float32 on both sides: a threshold is a film's own logit.
  return np.asarray(logits, np.float32) >= np.float32(fitted['threshold'])


def to_json(
  fitted: Fitted, label: Float[np.ndarray, 'n k'], findings: Sequence[str]
) -> dict[str, dict]:
  """Finding -> its numbers, None with 'why' where they are undefined."""
  rows = {}
  for k, name in enumerate(findings):
    row = {field: _plain(fitted[field][k]) for field in FIELDS}
    at = probability(fitted['threshold'], fitted)[k]
    row['probability_at_threshold'] = _plain(at)
    row['positives'] = int((label[:, k] == 1).sum())
    row['negatives'] = int((label[:, k] == 0).sum())
    if row['threshold'] is None:
      row['why'] = (
        f'{row["positives"]} positive and {row["negatives"]} negative films: '
        'needs both'
      )
    rows[name] = row
  return rows


def from_json(rows: Mapping[str, Mapping], findings: Sequence[str]) -> Fitted:
  """What `to_json` was made from, in the order of `findings`."""
  return {
    field: np.array(
      [
        math.nan if rows[name][field] is None else rows[name][field]
        for name in findings
      ]
    )
    for field in FIELDS
  }


def _plain(value) -> float | None:
  return None if np.isnan(value) else float(value)
