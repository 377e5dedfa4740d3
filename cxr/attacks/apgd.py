"""APGD: an attack by gradients that finds its own step size.

The contract is that of `pgd`: one image 'h w 1' in [0, 1], any
`loss_fn(image) -> scalar` to be maximised, and the best image seen is returned.
For a multi-label model give it the cross-entropy and, since its gradient
vanishes where the sigmoid saturates, a margin of the logits as well.

References:
  Croce & Hein 2020, arXiv 2003.01690, algorithm 1, with the checkpoints and
  the comparison (<=) of its authors' code.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from cxr.attacks import ascent
from cxr.attacks.ascent import Image, LossFn, Scalar

# The paper's constants: the share of the last step that is kept, and the share
# of steps that must raise the loss between two checkpoints.
_STEP_SHARE = 0.75
_RISING_SHARE = 0.75


class _APGDState(NamedTuple):
  image: Image
  previous: Image
  loss: Scalar
  gradient: Image
  best: Image
  best_loss: Scalar
  best_gradient: Image
  step_size: Scalar
  rises: Int[Array, '']
  best_at_checkpoint: Scalar
  halved: Bool[Array, '']


def _checkpoints(num_steps: int) -> list[int]:
  """The length of the period that ends at each step; 0 where none ends.

  The periods are those between the paper's checkpoints p_j.
  """
  period = max(int(0.22 * num_steps), 1)
  least, less = max(int(0.06 * num_steps), 1), max(int(0.03 * num_steps), 1)
  periods, since = [], 0
  for _ in range(num_steps):
    since += 1
    periods.append(period if since == period else 0)
    if since == period:
      since, period = 0, max(period - less, least)
  return periods


def make_steps(
  loss_fn: LossFn,
  image: Image,
  *,
  epsilon: float | Scalar,
  num_steps: int,
  norm: str = 'linf',
  random_start: bool = True,
) -> ascent.Steps:
  """The attack on one image as `ascent.Steps`; see `apgd`."""
  ball = ascent.ball(norm)
  periods = np.asarray(_checkpoints(num_steps), np.int32)
  loss_and_gradient = jax.value_and_grad(loss_fn)

  def init(key):
    start = ball.sample(key, image, epsilon) if random_start else image
    loss, gradient = loss_and_gradient(start)
    return _APGDState(
      image=start,
      previous=start,
      loss=loss,
      gradient=gradient,
      best=start,
      best_loss=loss,
      best_gradient=gradient,
      step_size=jnp.asarray(2 * epsilon, image.dtype),
      rises=jnp.asarray(0),
      best_at_checkpoint=loss,
      halved=jnp.asarray(True),
    )

  def step(i, state):
    move = state.step_size * ball.direction(state.gradient)
    ahead = ball.project(state.image + move, image, epsilon)
    share = jnp.where(i == 0, 1.0, _STEP_SHARE)
    moved = (
      state.image
      + share * (ahead - state.image)
      + (1 - share) * (state.image - state.previous)
    )
    moved = ball.project(moved, image, epsilon)
    loss, gradient = loss_and_gradient(moved)
    rises = state.rises + (loss > state.loss)
    best, best_loss, best_gradient = jax.tree.map(
      lambda new, old: jnp.where(loss > state.best_loss, new, old),
      (moved, loss, gradient),
      (state.best, state.best_loss, state.best_gradient),
    )

    period = jnp.asarray(periods)[i]
    ends = period > 0
    oscillates = rises <= _RISING_SHARE * period
    stalls = ~state.halved & (best_loss <= state.best_at_checkpoint)
    halve = ends & (oscillates | stalls)
    restart = lambda best, current: jnp.where(halve, best, current)
    return _APGDState(
      image=restart(best, moved),
      previous=state.image,
      loss=loss,
      gradient=restart(best_gradient, gradient),
      best=best,
      best_loss=best_loss,
      best_gradient=best_gradient,
      step_size=jnp.where(halve, state.step_size / 2, state.step_size),
      rises=jnp.where(ends, 0, rises),
      best_at_checkpoint=jnp.where(ends, best_loss, state.best_at_checkpoint),
      halved=jnp.where(ends, halve, state.halved),
    )

  return ascent.Steps(init, step, lambda state: (state.best, state.best_loss))


def apgd(
  loss_fn: LossFn,
  key: Key[Array, ''],
  image: Image,
  *,
  epsilon: float | Scalar,
  num_steps: int,
  norm: str = 'linf',
  random_start: bool = True,
  restarts: int = 1,
) -> Image:
  """Auto-PGD: gradient ascent whose step halves where the loss stops rising.

  The step begins at 2 epsilon. At checkpoints it is halved, and the ascent
  goes on from the best image so far, if the loss rose in at most three
  quarters of the steps since the last one, or if neither the step nor the best
  loss has changed since. It takes num_steps + 1 gradients per restart.

  Args:
    loss_fn: image -> scalar, to be maximised.
    key: for the random starts.
    image: the clean image, in [0, 1].
    epsilon: radius of the ball, in [0, 1] pixels.
    num_steps: steps per restart.
    norm: 'linf' or 'l2'.
    random_start: from a random point of the ball, else from the image.
    restarts: independent starts, of which the best by loss is returned.

  Raises:
    ValueError: an unknown norm.

  Examples:
    >>> darker = lambda image: -image.sum()
    >>> key, image = jax.random.key(0), jnp.full((1, 2, 1), 0.5)
    >>> apgd(darker, key, image, epsilon=0.25, num_steps=5).ravel().tolist()
    [0.25, 0.25]
  """
  steps = make_steps(
    loss_fn,
    image,
    epsilon=epsilon,
    num_steps=num_steps,
    norm=norm,
    random_start=random_start,
  )
  return ascent.run(steps, key, num_steps=num_steps, restarts=restarts)
