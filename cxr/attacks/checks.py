"""Whether an evaluation under attack may be believed.

`extremes` and `audit` say what attacked films are. The checks, after
AutoAttack's, are host functions of numpy arrays and return a flag each:

    {'name': ..., 'raised': bool, 'value': float, 'low': float, 'high': float,
     'count': int, 'limit': float, 'why': ...}

A flag is raised where the whole 95 % interval of `value`, from `low` on, lies
above `limit`: what a few films show by chance raises none. `count` is the
number of films that it rests on, None where it is no share of films; `value` is
None where it could not be measured. `why` says in one sentence what a raised
flag means. It is a warning about the measurement, not about the model.

References:
  Croce & Hein 2020, arXiv 2003.01690; its code's `checks.py`; Carlini et al.
  2019, On evaluating adversarial robustness, arXiv 1902.06705.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import stats

Films = Float[Array | np.ndarray, 'b h w 1']


def extremes(
  image: Films, adversarial: Films, *, norm: str = 'linf'
) -> dict[str, Float[Array, ''] | Int[Array, '']]:
  """What attacked films are, in a few numbers; for `jit`, where the films are.

  Returns:
    perturbation: the largest norm of a film's perturbation; min and max: the
    range of the pixels; nan: how many of them are NaN. Films with a NaN do not
    count for the perturbation, nor NaN for the range. Of nothing the largest is
    -inf, the smallest inf.

  Raises:
    ValueError: an unknown norm.

  Examples:
    >>> image = jnp.full((1, 1, 2, 1), 0.5)
    >>> found = extremes(image, image.at[0, 0, 1].set(0.75))
    >>> {name: value.item() for name, value in found.items()}
    {'perturbation': 0.25, 'min': 0.5, 'max': 0.75, 'nan': 0}
  """
  if norm not in ('linf', 'l2'):
    raise ValueError(f'Unknown norm {norm!r}; choose one of linf, l2.')
  delta = (adversarial - image).reshape(len(image), -1)
  order = {'linf': jnp.inf, 'l2': 2}[norm]
  size = jnp.linalg.norm(delta, order, axis=1)
  nan = jnp.isnan(adversarial)
  return {
    'perturbation': jnp.where(jnp.isnan(size), -jnp.inf, size).max(),
    'min': jnp.where(nan, jnp.inf, adversarial).min(),
    'max': jnp.where(nan, -jnp.inf, adversarial).max(),
    'nan': nan.sum(),
  }


def audit(
  batches: Sequence[Mapping[str, Any]], *, epsilon: float
) -> dict[str, float | int | None]:
  """What the attack really did, from the `extremes` of its batches.

  Returns:
    max_perturbation, and excess, by how much it is above epsilon (0 if not), in
    [0, 1] pixels; nan; min and max. What no film says is None.

  Examples:
    >>> batch = {'perturbation': 0.25, 'min': 0.5, 'max': 0.75, 'nan': 0}
    >>> audit([batch], epsilon=0.25)['excess']
    0.0
  """
  known = lambda value: float(value) if np.isfinite(value) else None
  largest, top = (
    known(max((batch[name] for batch in batches), default=-np.inf))
    for name in ('perturbation', 'max')
  )
  return {
    'max_perturbation': largest,
    'excess': None if largest is None else max(largest - epsilon, 0.0),
    'nan': int(sum(batch['nan'] for batch in batches)),
    'min': known(min((batch['min'] for batch in batches), default=np.inf)),
    'max': top,
  }


def describe(audit: dict[str, float | int | None]) -> str:
  """An audit as the line that AutoAttack closes with."""

  def text(key):
    return 'none' if audit[key] is None else f'{audit[key]:.5f}'

  return (
    f'max perturbation: {text("max_perturbation")}, nan in tensor: '
    f'{audit["nan"]}, max: {text("max")}, min: {text("min")}'
  )


def _flag(name, value, interval, limit, why, *, count=None):
  """A flag; NaN, which could not be measured, raises none."""
  low, high = interval
  plain = lambda number: None if np.isnan(number) else float(number)
  return {
    'name': name,
    'raised': bool(low > limit),
    'value': plain(value),
    'low': plain(low),
    'high': plain(high),
    'count': count,
    'limit': limit,
    'why': why,
  }


def _share_flag(name, films, limit, why):
  """A flag on a share of films, with the interval of Clopper and Pearson."""
  count = int(np.count_nonzero(films))
  share = stats.binomtest(count, len(films))
  interval = share.proportion_ci(method='exact')
  return _flag(name, share.statistic, interval, limit, why, count=count)


def randomized_output(
  logits: Float[np.ndarray, 'r n k'], *, limit: float = 1e-4
) -> dict:
  """Largest spread of a logit over r calls on the same films.

  Its interval is the value itself: one film is a proof. 'count' is the number
  of films whose spread is above the limit.
  """
  logits = np.asarray(logits, np.float64)
  spread = (logits.max(0) - logits.min(0)).max(1)
  return _flag(
    'randomized_output',
    spread.max(),
    (spread.max(), spread.max()),
    limit,
    'The same film gets different logits at each call; attacks must then '
    'average their gradients.',
    count=int((spread > limit).sum()),
  )


def zero_gradient(
  gradient: Float[np.ndarray, 'n h w 1'],
  *,
  vanishing: float = 1e-12,
  limit: float = 0.05,
) -> dict:
  """Share of films whose loss has no gradient above `vanishing` anywhere.

  NaN and infinite gradients count as vanished: no attack can follow them.
  """
  gradient = np.abs(np.asarray(gradient)).reshape(len(gradient), -1)
  with np.errstate(invalid='ignore'):
    sound = np.isfinite(gradient).all(1) & (gradient.max(1) > vanishing)
  return _share_flag(
    'zero_gradient',
    ~sound,
    limit,
    'The loss is flat at many films, so gradient attacks stand still; use a '
    'margin loss and believe only the black-box attack.',
  )


def black_box_wins(
  white_box: Float[np.ndarray, ' n'],
  black_box: Float[np.ndarray, ' n'],
  *,
  tolerance: float = 1e-3,
  limit: float = 0.05,
) -> dict:
  """Share of films whose loss is higher under the black-box attack.

  Args:
    white_box: loss per film under the strongest gradient attack.
    black_box: the same loss under the attack by values, same films and radius.
    tolerance: how much higher counts.
    limit: the share that the interval must lie above.
  """
  return _share_flag(
    'black_box_wins',
    np.asarray(black_box) > np.asarray(white_box) + tolerance,
    limit,
    'An attack without gradients beats the one with them: the gradients are '
    'masked, or the white-box attack is too weak.',
  )


def not_converged(
  fall: float, interval: tuple[float, float], *, limit: float = 0.01
) -> dict:
  """By how much an estimate (mean AUROC, say) falls with many more steps.

  Args:
    fall: of the few steps less of the many, on the same films.
    interval: of the fall; NaN where there is none.
    limit: the fall that the interval must lie above.
  """
  return _flag(
    'not_converged',
    fall,
    interval,
    limit,
    'Many more steps make the attack clearly stronger, so the short one '
    'overstates the robustness.',
  )


def no_effect(
  change: float,
  interval: tuple[float, float],
  *,
  unmoved: int,
  num_films: int,
  limit: float = -0.001,
) -> dict:
  """How an estimate (mean AUROC, say) changes from clean to attacked films.

  It is raised as well where no film has a logit that moved, whatever the
  estimate is.

  Args:
    change: of the estimate, attacked less clean, on the same films.
    interval: of the change; NaN where there is none.
    unmoved: films of which the attack moved no logit.
    num_films: that were attacked.
    limit: the change that the interval must lie above: a fall is below 0.
  """
  flag = _flag(
    'no_effect',
    change,
    interval,
    limit,
    'The attack leaves AUROC as it is without it. This is no sign of '
    'robustness: epsilon may be too small, or the attack may have failed.',
    count=unmoved,
  )
  return flag | {'raised': flag['raised'] or unmoved == num_films}


def larger_epsilon_weaker(
  epsilon: Float[np.ndarray, ' e'],
  estimate: Float[np.ndarray, ' e'],
  *,
  half_width: float,
  limit: float = 0.005,
) -> dict:
  """Largest rise of an estimate (mean AUROC, say) as epsilon grows.

  Args:
    epsilon: in any order, 0 (clean) among them.
    estimate: at each epsilon. A rise counts from the lowest one at any smaller
      epsilon.
    half_width: of the estimates' intervals; a smaller rise may be chance.
    limit: the rise that its interval must lie above.
  """
  order = np.argsort(epsilon)
  estimate = np.asarray(estimate, np.float64)[order]
  rise = (estimate - np.minimum.accumulate(estimate)).max()
  return _flag(
    'larger_epsilon_weaker',
    rise,
    (rise - half_width, rise + half_width),
    limit,
    'A larger epsilon allows all that a smaller one does, so the attack '
    'failed there; take more steps or another step size.',
  )
