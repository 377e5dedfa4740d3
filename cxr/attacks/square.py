"""Square: an attack that reads values of the loss alone, no gradient.

The contract is that of `pgd`: one image 'h w 1' in [0, 1], any
`loss_fn(image) -> scalar` to be maximised, and the best image seen is returned.

References:
  Andriushchenko et al. 2020, arXiv 1912.00049, with the schedule of AutoAttack
  (first share 0.8).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from cxr.attacks import ascent
from cxr.attacks.ascent import Image, LossFn, Scalar


class _SquareState(NamedTuple):
  best: Image
  best_loss: Scalar
  key: Key[Array, '']


# The first squares hold this share of the pixels. It is halved each time that
# one of these numbers of ten-thousandths of the queries is spent.
_FIRST_SHARE = 0.8
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def _sides(num_steps: int, height: int, width: int, norm: str) -> list[int]:
  """The side of each query's square, in pixels."""
  sides = []
  for i in range(num_steps):
    spent = int(i / num_steps * 10_000)
    halvings = sum(spent > after for after in _HALVED_AFTER)
    share = _FIRST_SHARE / 2**halvings
    side = max(round(math.sqrt(share * height * width)), 1)
    if norm == 'l2':
      side = max(side, 3) // 2 * 2 + 1
    sides.append(min(side, height, width))
  return sides


def _sign(draw):
  return jnp.where(draw < 0.5, -1.0, 1.0)


def _corner(draw, image, side):
  """The top left corner of a square inside the image, from two draws."""
  last = jnp.array([image.shape[0] - side + 1, image.shape[1] - side + 1])
  return jnp.floor(draw * last).astype(jnp.int32)


def _square_mask(image, corner, side):
  row = jnp.arange(image.shape[0])[:, None] - corner[0]
  column = jnp.arange(image.shape[1])[None] - corner[1]
  inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
  return inside.reshape(image.shape)


def _square_bump(draw, image, corner, side):
  """A positive and a negative pyramid side by side, of norm 1, in a square.

  The paper's eta: halves of the square, in random orientation, each falling
  off from its centre as the tail of the sum of 1 / m^2.
  """
  row = jnp.arange(image.shape[0])[:, None] - corner[0]
  column = jnp.arange(image.shape[1])[None] - corner[1]
  row, column = jnp.broadcast_arrays(row, column)
  upright = draw < 0.5
  along = jnp.where(upright, row, column)
  across = jnp.where(upright, column, row)
  half = side // 2
  first = along < half
  centre = jnp.where(first, half // 2, half + (side - half) // 2)
  distance = jnp.maximum(jnp.abs(along - centre), jnp.abs(across - half))
  # tail[n] = sum of 1 / m^2 over m > n, up to the square's own half + 1.
  terms = 1 / np.arange(1, max(image.shape) + 2, dtype=np.float64) ** 2
  tail = jnp.asarray(np.append(terms[::-1].cumsum()[::-1], 0), image.dtype)
  height = tail[jnp.clip(distance, 0, half + 1)] - tail[half + 1]
  inside = _square_mask(image, corner, side).reshape(height.shape)
  height = jnp.where(inside, height, 0)
  bump = _unit(jnp.where(first, height, 0)) - _unit(jnp.where(first, 0, height))
  return _unit(bump).reshape(image.shape)


def _unit(x):
  norm = jnp.sqrt(jnp.square(x).sum())
  return x / jnp.maximum(norm, jnp.finfo(x.dtype).tiny)


def make_steps(
  loss_fn: LossFn,
  image: Image,
  *,
  epsilon: float | Scalar,
  num_steps: int,
  norm: str = 'linf',
) -> ascent.Steps:
  """The attack on one image as `ascent.Steps`; see `square`."""
  ball = ascent.ball(norm)
  height, width = image.shape[:2]
  sides = np.asarray(_sides(num_steps, height, width, norm), np.int32)

  def linf_start(key):
    stripes = _sign(jax.random.uniform(key, (1, *image.shape[1:])))
    return jnp.broadcast_to(stripes, image.shape)

  def linf_propose(draw, best, side):
    square = _square_mask(image, _corner(draw[:2], image, side), side)
    return jnp.where(square, image + epsilon * _sign(draw[2]), best)

  def l2_start(key):
    side = max(min(height, width) // 5, 1)
    rows = jnp.arange(height % side // 2, height - side + 1, side)
    columns = jnp.arange(width % side // 2, width - side + 1, side)
    corners = jnp.stack(jnp.meshgrid(rows, columns), -1).reshape(-1, 2)

    def add(delta, tile):
      corner, draw = tile
      bump = _square_bump(draw[0], image, corner, side)
      return delta + _sign(draw[1]) * bump, None

    draws = jax.random.uniform(key, (len(corners), 2))
    delta, _ = jax.lax.scan(add, jnp.zeros_like(image), (corners, draws))
    return _unit(delta)

  def l2_propose(draw, best, side):
    delta = best - image
    corner = _corner(draw[:2], image, side)
    new = _square_mask(image, corner, side)
    old = _square_mask(image, _corner(draw[2:4], image, side), side)
    bump = _sign(draw[4]) * _square_bump(draw[5], image, corner, side)
    bump = _unit(bump + _unit(jnp.where(new, delta, 0)))
    # The square takes what norm the two windows had and what was unspent.
    unspent = jnp.maximum(epsilon**2 - jnp.square(delta).sum(), 0)
    window = jnp.where(new | old, jnp.square(delta), 0).sum()
    bump *= jnp.sqrt(unspent + window)
    delta = jnp.where(new, bump, jnp.where(old, 0, delta))
    return image + epsilon * _unit(delta)

  start, propose = {
    'linf': (linf_start, linf_propose),
    'l2': (l2_start, l2_propose),
  }[norm]

  def init(key):
    start_key, key = jax.random.split(key)
    best = ball.project(image + epsilon * start(start_key), image, epsilon)
    return _SquareState(best, loss_fn(best), key)

  def step(i, state):
    # One draw of all numbers: each call of the generator is slow to compile.
    draw = jax.random.uniform(jax.random.fold_in(state.key, i), (6,))
    tried = propose(draw, state.best, jnp.asarray(sides)[i])
    tried = ball.project(tried, image, epsilon)
    best = ascent.better((state.best, state.best_loss), (tried, loss_fn(tried)))
    return _SquareState(*best, state.key)

  return ascent.Steps(init, step, lambda state: (state.best, state.best_loss))


def square(
  loss_fn: LossFn,
  key: Key[Array, ''],
  image: Image,
  *,
  epsilon: float | Scalar,
  num_steps: int,
  norm: str = 'linf',
  restarts: int = 1,
) -> Image:
  """Square attack: random search over squares, by values of the loss alone.

  'linf' sets a square to image +- epsilon; 'l2' moves the norm of one window
  into a bump in another. A proposal stays if the loss rises. The squares
  shrink as the queries are spent. It takes num_steps + 1 values of the loss per
  restart and no gradient, so it also works where gradients are masked.

  Args:
    loss_fn: image -> scalar, to be maximised.
    key: for the starts and the proposals.
    image: the clean image, in [0, 1].
    epsilon: radius of the ball, in [0, 1] pixels.
    num_steps: queries per restart.
    norm: 'linf' or 'l2'.
    restarts: independent starts, of which the best by loss is returned.

  Raises:
    ValueError: an unknown norm.

  Examples:
    >>> darker = lambda image: -image.sum()
    >>> key, image = jax.random.key(0), jnp.full((1, 2, 1), 0.5)
    >>> square(darker, key, image, epsilon=0.25, num_steps=20).ravel().tolist()
    [0.25, 0.25]
  """
  steps = make_steps(
    loss_fn, image, epsilon=epsilon, num_steps=num_steps, norm=norm
  )
  return ascent.run(steps, key, num_steps=num_steps, restarts=restarts)
