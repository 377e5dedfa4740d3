"""An attack that raises one value while others stay as they are.

It moves inside the ball along the steepest direction of the value, less what
would move the others: to first order each step leaves them within half of a
tolerance. They are not linear, so a step is taken back, and the next one is
half as long, where it breaks the whole tolerance or gains nothing; where it
gains, the next one may be twice as long again. The given image keeps every
tolerance: the attack never breaks the constraint, but may gain nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cxr.attacks import ascent
from cxr.attacks.ascent import Image, LossFn, Scalar

# Of the mean square of the gradients: the others may depend on each other.
_RIDGE = 1e-4


class _State(NamedTuple):
  """The best image so far, what is known there, and the image to try."""

  trial: Image
  image: Image
  value: Scalar
  gradient: Image
  residual: Float[Array, ' m']
  rows: Float[Array, 'm n']  # gradients of the residual
  scale: Scalar  # of the next step


def make_steps(
  value_fn: LossFn,
  residual_fn: Callable[[Image], Float[Array, ' m']],
  image: Image,
  *,
  epsilon: float | Scalar,
  step_size: float | Scalar,
  tolerance: float | Scalar,
  norm: str = 'linf',
) -> ascent.Steps:
  """The attack on one image as `ascent.Steps`; `ascent.run` walks them.

  The first step looks at the image itself, each later one at where the step
  before it led.

  Args:
    value_fn: image -> scalar, to be raised.
    residual_fn: image -> what should stay 0, as it is at the given image.
    image: in [0, 1].
    epsilon: radius of the ball, in [0, 1] pixels.
    step_size: length of a step in the same norm.
    tolerance: how large a residual may be.
    norm: 'linf' or 'l2'.

  Examples:
    The left pixel is raised, and the sum of both stays:

    >>> image = jnp.array([[0.25, 0.5]])
    >>> steps = make_steps(
    ...   lambda image: image[0, 0],
    ...   lambda image: (image.sum() - 0.75)[None],
    ...   image,
    ...   epsilon=0.125,
    ...   step_size=0.0625,
    ...   tolerance=1e-3,
    ... )
    >>> result = ascent.run(steps, jax.random.key(0), num_steps=8)
    >>> [round(float(pixel), 2) for pixel in result[0]]
    [0.38, 0.38]
  """
  ball = ascent.ball(norm)

  size = len(jax.eval_shape(residual_fn, image))

  def init(key):
    del key  # it starts at the image, which keeps every tolerance
    lowest, one = jnp.asarray([-jnp.inf, 1], image.dtype)
    nothing = jnp.zeros((size, image.size), image.dtype)
    start = jnp.asarray(image)
    return _State(
      start, start, lowest, jnp.zeros_like(start), nothing[:, 0], nothing, one
    )

  def step(i, state):
    del i
    value, gradient = jax.value_and_grad(value_fn)(state.trial)
    residual = residual_fn(state.trial)
    rows = jax.jacrev(residual_fn)(state.trial).reshape(size, -1)
    better = jnp.abs(residual).max() <= tolerance
    better &= value > state.value
    scale = jnp.where(better, jnp.minimum(2 * state.scale, 1), state.scale / 2)
    found = state.trial, value, gradient, residual, rows
    known = jax.tree.map(
      lambda new, old: jnp.where(better, new, old), found, tuple(state[1:6])
    )
    trial = _move(*known, scale)
    return _State(trial, *known, scale)

  def _move(image_now, value, gradient, residual, rows, scale):
    del value
    move = scale * step_size * ball.direction(gradient)
    # Where the others would be, and where they may.
    expected = residual + rows @ move.ravel()
    wanted = jnp.clip(expected, -tolerance / 2, tolerance / 2)
    gram = rows @ rows.T
    ridge = _RIDGE * jnp.trace(gram) / size
    ridge = jnp.maximum(ridge, jnp.finfo(image.dtype).tiny)
    gram += ridge * jnp.eye(size, dtype=image.dtype)
    back = jnp.linalg.solve(gram, wanted - expected)
    move += (back @ rows).reshape(image.shape)
    return ball.project(image_now + move, image, epsilon)

  def result(state):
    return state.image, state.value

  return ascent.Steps(init, step, result)


# What is said of a map: numbers that can be differentiated.


def correlation(
  heatmap: Float[Array, 'h w'], target: Float[Array, 'h w']
) -> Scalar:
  """Pearson's correlation of two maps over the pixels; 0 if one is constant.

  It depends neither on a map's scale nor on what is added to it.

  Examples:
    >>> heatmap = jnp.array([[0.0, 1.0, 2.0]])
    >>> round(float(correlation(heatmap, 7 - 3 * heatmap)), 4)
    -1.0
  """
  heatmap, target = heatmap - heatmap.mean(), target - target.mean()
  squares = (heatmap**2).sum() * (target**2).sum()
  varies = squares > 0
  # The root's derivative at 0 is not finite.
  length = jnp.sqrt(jnp.where(varies, squares, 1))
  return jnp.where(varies, (heatmap * target).sum() / length, 0)


def top(
  heatmap: Float[Array | np.ndarray, 'h w'], share: float
) -> Float[Array, 'h w']:
  """1 at the hottest `share` of the pixels, else 0; ties are all in.

  Examples:
    >>> top(jnp.array([[0.0, 3.0, 2.0, 1.0]]), 0.5).tolist()
    [[0.0, 1.0, 1.0, 0.0]]
  """
  count = max(1, round(share * heatmap.size))
  level = jax.lax.top_k(heatmap.ravel(), count)[0][-1]
  return (heatmap >= level).astype(heatmap.dtype)


def with_gradient_of(
  real: Float[Array, '*shape'], smooth: Float[Array, '*shape']
) -> Float[Array, '*shape']:
  """The value of `real`, and the derivative of `smooth`.

  Examples:
    >>> fn = lambda x: with_gradient_of(jnp.sign(x), jnp.tanh(x))
    >>> float(fn(0.5)), round(float(jax.grad(fn)(0.5)), 3)
    (1.0, 0.786)
  """
  return smooth + jax.lax.stop_gradient(real - smooth)
