"""PGD and FGSM: the image near a given one that maximises a loss, by gradients.

The functions maximise any `loss_fn(image 'h w 1') -> scalar`. Images are in
[0, 1], epsilon and step_size in the same unit (2.0 / 255, say). The result is
in [0, 1] and no further than epsilon away. With epsilon 0 it is the image
itself. No gradient passes through an attack. For a batch, vmap:

    attack = jax.vmap(lambda key, image: pgd.pgd(
        loss_fn, key, image, epsilon=2/255, step_size=0.5/255, num_steps=10))

`batched` joins an attack to a model and its labels.

References:
  Goodfellow et al. 2015, arXiv 1412.6572 (FGSM); Madry et al. 2018, arXiv
  1706.06083 (PGD); Dong et al. 2018, arXiv 1710.06081 (momentum).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from cxr.attacks import ascent
from cxr.attacks.ascent import Image, LossFn, Scalar


class _PGDState(NamedTuple):
  image: Image
  velocity: Image
  best: Image
  best_loss: Scalar


def make_steps(
  loss_fn: LossFn,
  image: Image,
  *,
  epsilon: float | Scalar,
  step_size: float | Scalar,
  norm: str = 'linf',
  random_start: bool = True,
  momentum: float = 0.0,
  keep_best: bool = False,
) -> ascent.Steps:
  """The attack on one image as `ascent.Steps`; see `pgd`."""
  ball = ascent.ball(norm)

  def init(key):
    start = ball.sample(key, image, epsilon) if random_start else image
    lowest = jnp.asarray(-jnp.inf, image.dtype)
    return _PGDState(start, jnp.zeros_like(image), start, lowest)

  def kept(state, loss):
    return ascent.better((state.best, state.best_loss), (state.image, loss))

  def step(i, state):
    loss, gradient = jax.value_and_grad(loss_fn)(state.image)
    best = (state.best, state.best_loss)
    if keep_best:
      best = kept(state, loss)
    velocity = gradient
    if momentum:
      mean = jnp.abs(gradient).mean()
      mean = jnp.maximum(mean, jnp.finfo(image.dtype).tiny)
      velocity = momentum * state.velocity + gradient / mean
    moved = state.image + step_size * ball.direction(velocity)
    return _PGDState(ball.project(moved, image, epsilon), velocity, *best)

  def result(state):
    loss = loss_fn(state.image)
    return kept(state, loss) if keep_best else (state.image, loss)

  return ascent.Steps(init, step, result)


def pgd(
  loss_fn: LossFn,
  key: Key[Array, ''],
  image: Image,
  *,
  epsilon: float | Scalar,
  step_size: float | Scalar,
  num_steps: int,
  norm: str = 'linf',
  random_start: bool = True,
  momentum: float = 0.0,
  restarts: int = 1,
  keep_best: bool = False,
) -> Image:
  """Projected gradient ascent on loss_fn over the ball around one image.

  Args:
    loss_fn: image -> scalar, to be maximised.
    key: for the random starts.
    image: the clean image, in [0, 1].
    epsilon: radius of the ball, in [0, 1] pixels.
    step_size: length of a step in the same norm.
    num_steps: gradients taken per restart.
    norm: 'linf' (steps along the sign) or 'l2' (along the unit gradient).
    random_start: from a random point of the ball (for 'l2' one within a tenth
      of its radius), else from the image.
    momentum: decay of the accumulated gradient, 0 for none (Dong et al. 2018).
    restarts: independent starts, of which the best by loss is returned.
    keep_best: return the best iterate (one more forward pass), not the last.

  Raises:
    ValueError: an unknown norm.

  Examples:
    >>> darker = lambda image: -image.sum()
    >>> key, image = jax.random.key(0), jnp.full((1, 2, 1), 0.5)
    >>> options = {'epsilon': 0.25, 'step_size': 0.125, 'num_steps': 4}
    >>> pgd(darker, key, image, **options).ravel().tolist()
    [0.25, 0.25]
  """
  steps = make_steps(
    loss_fn,
    image,
    epsilon=epsilon,
    step_size=step_size,
    norm=norm,
    random_start=random_start,
    momentum=momentum,
    keep_best=keep_best,
  )
  return ascent.run(steps, key, num_steps=num_steps, restarts=restarts)


def fgsm(
  loss_fn: LossFn,
  image: Image,
  *,
  epsilon: float | Scalar,
  norm: str = 'linf',
) -> Image:
  """The fast gradient (sign) method: one step of length epsilon, no noise.

  With a random start (FGSM-RS, Wong et al. 2020) it is `pgd` of one step.

  Examples:
    >>> darker = lambda image: -image.sum()
    >>> image = jnp.full((1, 2, 1), 0.5)
    >>> fgsm(darker, image, epsilon=0.25).ravel().tolist()
    [0.25, 0.25]
  """
  return pgd(
    loss_fn,
    jax.random.key(0),
    image,
    epsilon=epsilon,
    step_size=epsilon,
    num_steps=1,
    norm=norm,
    random_start=False,
  )
