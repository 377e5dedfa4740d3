"""Multi-label losses of logits: one value per example, pure functions.

Logits and labels are '... k' with one column per finding; a label is 0, 1 or
NaN for unknown. Unknown labels carry no loss and no gradient, and an example
of unknown labels alone has loss 0. Every loss is a mean over findings, so that
the objectives below mix terms of one scale.

An objective joins the losses of the clean and of the adversarial films:

    objective = make_objective('trades', beta=6.0)
    loss, (logits, aux) = objective(forward, image, adversarial, label)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

Floats = Array | np.ndarray
Scalar = float | Float[Floats, '']
# (logits 'b k', label 'b k', **weights) -> 'b'
LossFn = Callable[..., Float[Array, ' b']]


def _known_mean(
  loss: Float[Floats, '... k'], label: Float[Floats, '... k']
) -> Float[Array, '...']:
  known = ~jnp.isnan(label)
  count = jnp.maximum(known.sum(-1), 1)
  return jnp.where(known, loss, 0).sum(-1) / count


def sigmoid_cross_entropy(
  logits: Float[Floats, '... k'],
  label: Float[Floats, '... k'],
  *,
  positive_weight: Float[Floats, ' k'] | Scalar | None = None,
  negative_weight: Float[Floats, ' k'] | Scalar | None = None,
) -> Float[Array, '...']:
  """Mean over the known findings of -w+ y ln f - w- (1 - y) ln(1 - f).

  Args:
    logits: logits of the findings, f = sigmoid(logits).
    label: 0, 1 (or between, as smoothed labels are) or NaN for unknown.
    positive_weight: weight of the positives, one for all or one per finding.
    negative_weight: the same for the negatives.
  """
  # NaN must be gone before the arithmetic: a `where` behind it still passes
  # NaN to the gradient.
  target = jnp.nan_to_num(label)
  positive = target * jax.nn.softplus(-logits)
  negative = (1 - target) * jax.nn.softplus(logits)
  if positive_weight is not None:
    positive *= _per_finding(positive_weight, logits)
  if negative_weight is not None:
    negative *= _per_finding(negative_weight, logits)
  return _known_mean(positive + negative, label)


def _per_finding(weight, logits):
  return jnp.broadcast_to(jnp.asarray(weight, logits.dtype), logits.shape[-1:])[
    (None,) * (logits.ndim - 1)
  ]


def batch_weights(
  label: Float[Floats, 'b k'],
) -> dict[str, Float[Array, '']]:
  """Wang's beta_P and beta_N over all known labels of a batch.

  As the weights of `sigmoid_cross_entropy`, which with them is his W-CEL:
  beta_P = (|P| + |N|) / |P| and beta_N = (|P| + |N|) / |N|. A kind that does
  not occur counts as one label: its weight is finite and multiplies nothing.
  The pair is, up to the common factor beta_N, one positive weight |N| / |P|.

  An example's loss then depends on its batch: one to learn from, none to
  attack with.

  References:
    Wang et al. 2017, ChestX-ray8, arXiv 1705.02315, section 3.2 (W-CEL).
  """
  positive = (label == 1).sum().astype(label.dtype)
  negative = (label == 0).sum().astype(label.dtype)
  total = positive + negative
  return {
    'positive_weight': total / jnp.maximum(positive, 1),
    'negative_weight': total / jnp.maximum(negative, 1),
  }


def finding_weights(
  label: Float[np.ndarray, 'n k'], *, cap: float
) -> Float[np.ndarray, ' k']:
  """Positive weight per finding, negatives / positives, at most `cap`.

  Counted once on the host over the training labels, NaN left out. A finding
  of one kind only has weight 1. Raises ValueError if `cap` is not positive.
  """
  if not cap > 0:
    raise ValueError(f'The cap of the finding weights ({cap}) must be above 0.')
  positive = (label == 1).sum(0)
  negative = (label == 0).sum(0)
  ratio = np.where(negative > 0, negative / np.maximum(positive, 1), 1.0)
  return np.minimum(np.where(positive > 0, ratio, 1.0), cap).astype(np.float32)


def bernoulli_kl(
  logits: Float[Floats, '... k'], reference: Float[Floats, '... k']
) -> Float[Array, '...']:
  """Mean over findings of KL(sigmoid(reference) || sigmoid(logits)).

  As the loss of an attack (`loss_fn(logits, target)`, target the clean logits)
  it needs a random start: at the clean film its gradient is zero. Nothing is
  stopped here: in TRADES the parameters learn through both arguments.
  """
  probability = jax.nn.sigmoid(reference)
  complement = jax.nn.sigmoid(-reference)
  gap = jax.nn.softplus(-logits) - jax.nn.softplus(-reference)
  complement_gap = jax.nn.softplus(logits) - jax.nn.softplus(reference)
  return (probability * gap + complement * complement_gap).mean(-1)


def margin(
  logits: Float[Floats, '... k'],
  label: Float[Floats, '... k'],
  *,
  finding: int | Num[Array, ''] | None = None,
) -> Float[Array, '...']:
  """How far the logits are on the wrong side: the mean of (1 - 2 y) logits.

  For attacks: its gradient does not vanish where the sigmoid saturates, and
  unlike the difference-of-logits ratio it needs no third class and no single
  true label. With `finding` it is that finding's margin alone, 0 where its
  label is unknown.
  """
  wrong = (1 - 2 * jnp.nan_to_num(label)) * logits
  if finding is None:
    return _known_mean(wrong, label)
  known = ~jnp.isnan(label[..., finding])
  return jnp.where(known, wrong[..., finding], 0)


def make_targeted(
  finding: int | Num[Array, ''], direction: str, *, hold_weight: Scalar = 1.0
) -> Callable[[Float[Floats, ' k'], Float[Floats, ' k']], Float[Array, '']]:
  """The loss of an attack that hides or plants one finding and moves no other.

  Args:
    finding: the finding's column; may be traced.
    direction: 'hide' lowers its logit, 'plant' raises it.
    hold_weight: price of the mean squared move of the other logits.

  Returns:
    loss_fn(logits 'k', clean_logits 'k') -> scalar, to be maximised: the clean
    logits stand where other losses have the label.

  Raises:
    ValueError: an unknown direction.

  Examples:
    >>> hide = make_targeted(0, 'hide', hold_weight=2.0)
    >>> float(hide(jnp.array([5.0, 1.0]), jnp.array([5.0, 4.0])))
    -23.0
  """
  signs = {'hide': -1.0, 'plant': 1.0}
  if direction not in signs:
    raise ValueError(
      f'Unknown direction {direction!r}; choose one of {", ".join(signs)}.'
    )

  def loss_fn(logits, clean_logits):
    others = jnp.arange(logits.shape[-1]) != finding
    moved = jnp.where(others, jnp.square(logits - clean_logits), 0).sum()
    moved /= max(logits.shape[-1] - 1, 1)
    return signs[direction] * logits[finding] - hold_weight * moved

  return loss_fn


Forward = Callable[[Float[Array, 'n h w 1']], tuple[Float[Array, 'n k'], Any]]
# (forward, image, adversarial, label, **weights); see `make_objective`.
Objective = Callable[
  ..., tuple[Float[Array, ' b'], tuple[dict[str, Array], Any]]
]

OBJECTIVES = ('clean', 'adversarial', 'mixed', 'trades')


def make_objective(
  name: str,
  *,
  loss_fn: LossFn = sigmoid_cross_entropy,
  clean_weight: float = 0.5,
  beta: float = 6.0,
) -> Objective:
  """Returns objective(forward, image, adversarial, label) -> (loss, ...).

  With l = loss_fn, z the clean and z' the adversarial logits, per example:

    clean        l(z, y)
    adversarial  l(z', y)                              (Madry et al. 2018)
    mixed        clean_weight l(z, y) + (1 - clean_weight) l(z', y)
    trades       l(z, y) + beta KL(sigmoid(z) || sigmoid(z'))   (Zhang 2019)

  `forward(image 'n h w 1') -> (logits 'n k', aux)` is called exactly once, so
  that BatchNorm's statistics move once: 'mixed' and 'trades' give it clean and
  adversarial films in turn (even rows clean, odd rows adversarial), which one
  normalisation sees together. The objective returns the loss 'b' and, beside
  it, ({'clean': logits, 'adversarial': logits} as far as computed, aux).

  Keywords of the objective, a batch's weights, go on to `loss_fn`.

  TRADES lets gradients pass through both logits, as its authors' code does;
  `adversarial` is taken as data in every objective. It may be None in 'clean'.

  Raises:
    ValueError: for an unknown name, a clean_weight outside [0, 1], a beta < 0.
  """
  if name not in OBJECTIVES:
    raise ValueError(
      f'Unknown objective {name!r}; choose one of {", ".join(OBJECTIVES)}.'
    )
  if not 0 <= clean_weight <= 1:
    raise ValueError(f'clean_weight ({clean_weight}) must lie in [0, 1].')
  if not beta >= 0:
    raise ValueError(f'beta ({beta}) must not be negative.')

  def objective(forward, image, adversarial, label, **weights):
    if name == 'clean':
      logits, aux = forward(image)
      return loss_fn(logits, label, **weights), ({'clean': logits}, aux)
    adversarial = jax.lax.stop_gradient(adversarial)
    if name == 'adversarial':
      logits, aux = forward(adversarial)
      return loss_fn(logits, label, **weights), ({'adversarial': logits}, aux)
    # In turn, not one behind the other: on a sharded batch each device then
    # keeps its own films.
    both = jnp.stack([image, adversarial], axis=1)
    logits, aux = forward(both.reshape(-1, *image.shape[1:]))
    logits = logits.reshape(-1, 2, logits.shape[-1])
    clean_logits, adversarial_logits = logits[:, 0], logits[:, 1]
    loss = loss_fn(clean_logits, label, **weights)
    if name == 'mixed':
      loss *= clean_weight
      attacked = loss_fn(adversarial_logits, label, **weights)
      loss += (1 - clean_weight) * attacked
    else:
      loss += beta * bernoulli_kl(adversarial_logits, clean_logits)
    outputs = {'clean': clean_logits, 'adversarial': adversarial_logits}
    return loss, (outputs, aux)

  return objective
