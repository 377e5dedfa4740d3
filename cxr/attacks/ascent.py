"""What every attack is made of: the ball it moves in, and the loop.

All functions see one image in [0, 1], 'h w 1' or 'h w'; callers vmap.
Perturbations are measured in pixels of that image. An attack is a `Steps`,
three functions of one image, which `run` walks.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

Image = Float[Array | np.ndarray, 'h w *channel']
Scalar = Float[Array | np.ndarray | np.floating, '']
LossFn = Callable[[Image], Scalar]

# On a CPU, XLA runs convolutions inside a `while` 1.6 to 6 times slower than
# outside, so short attacks may be unrolled; longer ones would take minutes to
# compile. `batched.make_host_attack` drives the steps from the host instead.
MOST_UNROLLED_STEPS = 10


class Ball(NamedTuple):
  """The perturbations of norm <= epsilon that keep the image in [0, 1].

  Attributes:
    sample: (key, image, epsilon) -> a random image of the ball, to start from:
      uniform in the L-inf ball; within a tenth of the L2 ball's radius.
    direction: (gradient) -> the steepest perturbation of norm 1.
    project: (adversarial, image, epsilon) -> the image inside the ball.
  """

  sample: Callable[[Key[Array, ''], Image, Scalar], Image]
  direction: Callable[[Image], Image]
  project: Callable[[Image, Image, Scalar], Image]


def _draw(distribution, key, image, *bounds):
  """A number for each pixel.

  They are drawn in one row, which has the same bits: a program that counts
  along two axes takes XLA more than twice as long to compile.
  """
  row = distribution(key, (image.size,), image.dtype, *bounds)
  return row.reshape(image.shape)


def _linf_sample(key, image, epsilon):
  noise = _draw(jax.random.uniform, key, image, -1, 1)
  return _linf_project(image + epsilon * noise, image, epsilon)


def _linf_project(adversarial, image, epsilon):
  # Bounds, not a clipped difference: adding that back overshoots by rounding.
  lower = jnp.maximum(image - epsilon, 0)
  upper = jnp.minimum(image + epsilon, 1)
  return jnp.clip(adversarial, lower, upper)


def _l2_norm(x):
  # Scaled first: the square of a saturated model's gradient underflows.
  largest = jnp.maximum(jnp.abs(x).max(), jnp.finfo(x.dtype).tiny)
  return largest * jnp.sqrt(jnp.square(x / largest).sum())


def _l2_direction(gradient):
  gradient = gradient / jnp.maximum(
    jnp.abs(gradient).max(), jnp.finfo(gradient.dtype).tiny
  )
  return gradient / jnp.maximum(_l2_norm(gradient), 1)


def _l2_sample(key, image, epsilon):
  # Near the image. A start on the surface (where nearly all of the ball is, in
  # so many dimensions) spends the radius on noise, which an attack of 40 steps
  # does not get rid of: docs/attacks.md has the losses reached.
  direction_key, radius_key = jax.random.split(key)
  noise = _draw(jax.random.normal, direction_key, image)
  radius = epsilon * jax.random.uniform(radius_key, (), image.dtype, 0, 0.1)
  return _l2_project(image + radius * _l2_direction(noise), image, epsilon)


def _l2_project(adversarial, image, epsilon):
  delta = adversarial - image
  # A hair inside, since the sum of squares and the result are rounded.
  radius = epsilon * (1 - 1e-6)
  tiny = jnp.finfo(image.dtype).tiny
  scale = jnp.minimum(1, radius / jnp.maximum(_l2_norm(delta), tiny))
  # Clipping moves every pixel towards the image, so it keeps the norm.
  return jnp.clip(image + scale * delta, 0, 1)


BALLS = {
  'linf': Ball(_linf_sample, jnp.sign, _linf_project),
  'l2': Ball(_l2_sample, _l2_direction, _l2_project),
}


def ball(norm: str) -> Ball:
  """The ball of a norm by name, 'linf' or 'l2'; ValueError for another.

  Examples:
    >>> image = jnp.full((1, 2, 1), 0.5)
    >>> ball('linf').project(image + 1, image, 0.25).ravel().tolist()
    [0.75, 0.75]
  """
  if norm not in BALLS:
    raise ValueError(
      f'Unknown norm {norm!r}; choose one of {", ".join(BALLS)}.'
    )
  return BALLS[norm]


class Steps(NamedTuple):
  """An attack on one image.

  Attributes:
    init: (key) -> state, a pytree of arrays.
    step: (i, state) -> state; i counts from 0 and may be traced.
    result: (state) -> (image, its loss); where the loss is not used, `jit`
      prunes what it costs.
  """

  init: Callable[[Key[Array, '']], Any]
  step: Callable[[Int[Array, ''], Any], Any]
  result: Callable[[Any], tuple[Image, Scalar]]


def better(
  a: tuple[Image, Scalar], b: tuple[Image, Scalar]
) -> tuple[Image, Scalar]:
  """The (image, loss) of higher loss; the first on a tie or if b is NaN.

  Examples:
    >>> light, dark = jnp.ones((1, 1, 1)), jnp.zeros((1, 1, 1))
    >>> image, loss = better((light, jnp.float32(1)), (dark, jnp.float32(2)))
    >>> image.item(), loss.item()
    (0.0, 2.0)
  """
  # A NaN that came first must lose as well.
  take = (b[1] > a[1]) | (jnp.isnan(a[1]) & ~jnp.isnan(b[1]))
  return jax.tree.map(lambda x, y: jnp.where(take, y, x), a, b)


def run(
  steps: Steps,
  key: Key[Array, ''],
  *,
  num_steps: int,
  restarts: int = 1,
  unroll: bool = False,
) -> Image:
  """The attack's image, the best by loss of all restarts.

  Meant for `jit`. Nothing is differentiated through it. `unroll`: the steps are
  written out where they are MOST_UNROLLED_STEPS or fewer.
  """
  unroll = unroll and num_steps * restarts <= MOST_UNROLLED_STEPS
  loop = _unrolled_loop if unroll else jax.lax.fori_loop

  def attempt(restart):
    state = steps.init(jax.random.fold_in(key, restart))
    return steps.result(loop(0, num_steps, steps.step, state))

  best = attempt(0)
  if restarts > 1:
    best = loop(1, restarts, lambda i, best: better(best, attempt(i)), best)
  return jax.lax.stop_gradient(best[0])


def _unrolled_loop(start, stop, body, state):
  # Not fori_loop(unroll=True): that leaves a loop of one turn a `while`, and
  # an attack of one step took 4.5 times as long as its gradient.
  for i in range(start, stop):
    state = body(jnp.int32(i), state)
  return state
