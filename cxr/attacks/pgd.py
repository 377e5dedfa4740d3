"""Attacks: the image near a given one that maximises a loss.

The single-image functions (`pgd`, `fgsm` here, `apgd` and `square` in
`attacks_adaptive`) maximise any `loss_fn(image 'h w 1') -> scalar`. Images are
in [0, 1], epsilon and step_size in the same unit (2.0 / 255, say) and the
result is in [0, 1], no further than epsilon away, behind `stop_gradient`.
With epsilon 0 the result is the image itself.

    attack = jax.vmap(lambda key, image: attacks.pgd(
        loss_fn, key, image, epsilon=2/255, step_size=0.5/255, num_steps=10))

`make_attack` joins one of them to a model and a loss of logits and vmaps it:

    attack = attacks.make_attack(
        lambda variables, image: model.apply(variables, image)[0],
        losses.sigmoid_cross_entropy, epsilon=2/255, num_steps=7)
    adversarial = attack(variables, key, image, label)

The variables are frozen: BatchNorm stands on its running statistics.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num

from cxr.attacks import adaptive, ascent

Image = Float[Array, 'h w 1']
Scalar = Float[Array, '']
LossFn = Callable[[Image], Scalar]
Attack = Callable[..., Float[Array, 'b h w 1']]


class _PGDState(NamedTuple):
  image: Image
  velocity: Image
  best: Image
  best_loss: Scalar


def _pgd_steps(
  loss_fn, image, *, epsilon, step_size, norm, random_start, momentum, keep_best
) -> ascent.Steps:
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
    key: for the random start.
    image: the clean image, in [0, 1].
    epsilon: radius of the ball, in [0, 1] pixels.
    step_size: length of a step in the same norm.
    num_steps: gradients taken per restart.
    norm: 'linf' (steps along the sign) or 'l2' (along the unit gradient).
    random_start: from a random point of the ball (of its surface, for 'l2'),
      else from the image.
    momentum: decay of the accumulated gradient, 0 for none (Dong et al. 2018).
    restarts: independent starts, of which the best by loss is returned.
    keep_best: return the best iterate (one more forward pass), not the last.

  References:
    Madry et al. 2018, arXiv 1706.06083; Dong et al. 2018, arXiv 1710.06081.
  """
  steps = _pgd_steps(
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


def targeted_loss(
  finding: int | Num[Array, ''], direction: str, *, hold_weight: float = 1.0
) -> Callable[[Float[Array, ' k'], Float[Array, ' k']], Scalar]:
  """Loss of an attack that hides or plants one finding and moves no other.

  Args:
    finding: the finding's column; may be traced.
    direction: 'hide' lowers its logit, 'plant' raises it.
    hold_weight: price of the mean squared move of the other logits.

  Returns:
    loss_fn(logits 'k', clean_logits 'k'): in the attack that make_attack
    returns, the clean logits stand in the label's place.
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


METHODS = ('fgsm', 'pgd', 'apgd', 'square')


def make_attack(
  apply_fn: Callable[[Any, Float[Array, 'b h w 1']], Float[Array, 'b k']],
  loss_fn: Callable[[Float[Array, ' k'], Any], Scalar],
  *,
  epsilon: float,
  method: str = 'pgd',
  norm: str = 'linf',
  step_size: float | None = None,
  num_steps: int = 10,
  random_start: bool = True,
  momentum: float = 0.0,
  restarts: int = 1,
  keep_best: bool = False,
) -> Attack:
  """Returns attack(variables, key, image, label, epsilon=None) -> image.

  The attack takes and returns images 'b h w 1', each attacked by itself. Its
  `key` is one typed key, split over the batch, or an array of b keys, one per
  image: then an image's result does not depend on its batch. `label` is any
  pytree with leading axis b whose entry goes to loss_fn. `epsilon`, one or one
  per image, may be traced: it replaces the radius and scales step_size.

  It may be called inside `jit` or outside, where it compiles itself, once, and
  on a CPU drives the steps from the host, the quickest way there (`ascent`).

  Args:
    apply_fn: (variables, image 'b h w 1') -> logits 'b k'.
    loss_fn: (logits 'k', an image's entry of label) -> scalar, maximised.
    epsilon: radius in [0, 1] pixels.
    method: 'fgsm' reads epsilon and norm; 'pgd' every option; 'apgd' num_steps,
      random_start and restarts beside them; 'square' num_steps (its queries)
      and restarts. What a method does not read has no effect.
    norm: 'linf' or 'l2'.
    step_size: None for 2.5 epsilon / num_steps (Madry et al. 2018).
    num_steps, random_start, momentum, restarts, keep_best: see `pgd`.

  Raises:
    ValueError: for an unknown method or norm or a value out of its range.
  """
  ascent.ball(norm)
  if method not in METHODS:
    raise ValueError(
      f'Unknown attack {method!r}; choose one of {", ".join(METHODS)}.'
    )
  for name, value, least in (
    ('epsilon', epsilon, 0),
    ('step_size', step_size or 0, 0),
    ('momentum', momentum, 0),
    ('num_steps', num_steps, 1),
    ('restarts', restarts, 1),
  ):
    if not value >= least:
      raise ValueError(f'{name} ({value}) of an attack must be >= {least}.')
  if method == 'fgsm':
    num_steps, restarts, momentum = 1, 1, 0.0
    random_start, keep_best, step_size = False, False, epsilon
  if step_size is None or not epsilon:
    relative_step = 1.0 if method == 'fgsm' else 2.5 / num_steps
  else:
    relative_step = step_size / epsilon

  def steps(variables, image, label, epsilon):
    def image_loss(image):
      return loss_fn(apply_fn(variables, image[None])[0], label)

    if method == 'apgd':
      return adaptive.apgd_steps(
        image_loss,
        image,
        epsilon=epsilon,
        num_steps=num_steps,
        norm=norm,
        random_start=random_start,
      )
    if method == 'square':
      return adaptive.square_steps(
        image_loss, image, epsilon=epsilon, num_steps=num_steps, norm=norm
      )
    return _pgd_steps(
      image_loss,
      image,
      epsilon=epsilon,
      step_size=relative_step * epsilon,
      norm=norm,
      random_start=random_start,
      momentum=momentum,
      keep_best=keep_best,
    )

  def over_batch(function):
    # The variables and the step are shared, the rest has a batch axis.
    return jax.vmap(function, in_axes=(None, 0, 0, 0, None, 0))

  @over_batch
  def whole(variables, image, label, epsilon, _, key):
    return ascent.run(
      steps(variables, image, label, epsilon),
      key,
      num_steps=num_steps,
      restarts=restarts,
    )

  @over_batch
  def init(variables, image, label, epsilon, restart, key):
    key = jax.random.fold_in(key, restart)
    return steps(variables, image, label, epsilon).init(key)

  @over_batch
  def step(variables, image, label, epsilon, i, state):
    return steps(variables, image, label, epsilon).step(i, state)

  @over_batch
  def result(variables, image, label, epsilon, _, state):
    return steps(variables, image, label, epsilon).result(state)

  better = jax.jit(jax.vmap(ascent.better))
  whole_jit, init_jit, result_jit = map(jax.jit, (whole, init, result))
  image_jit = jax.jit(lambda *a: result(*a)[0])
  # Not donated: without a random start the state holds the caller's image.
  step_jit = jax.jit(step)

  def from_host(key, *inputs):
    best = None
    for restart in range(restarts):
      state = init_jit(*inputs, restart, key)
      for i in range(num_steps):
        state = step_jit(*inputs, i, state)
      if restarts == 1:
        return image_jit(*inputs, 0, state)
      attempt = result_jit(*inputs, 0, state)
      best = attempt if best is None else better(best, attempt)
    return best[0]

  default_epsilon = epsilon

  def attack(variables, key, image, label, epsilon=None):
    key = _keys(key, image.shape[0])
    radius = default_epsilon if epsilon is None else epsilon
    radius = jnp.asarray(radius, image.dtype)
    radius = jnp.broadcast_to(radius, image.shape[:1])
    inputs = jax.lax.stop_gradient((variables, image, label, radius))
    leaves = jax.tree.leaves((inputs, key))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
      return whole(*inputs, 0, key)
    if jax.default_backend() == 'cpu':
      return from_host(key, *inputs)
    return whole_jit(*inputs, 0, key)

  return attack


def _keys(key: Key[Array, '...'], batch_size: int) -> Key[Array, ' b']:
  if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
    raise ValueError('An attack takes typed keys; make them by jax.random.key.')
  if key.ndim == 0:
    return jax.random.split(key, batch_size)
  if key.shape != (batch_size,):
    raise ValueError(
      f'An attack on {batch_size} images takes one key or {batch_size}, '
      f'not keys of shape {key.shape}.'
    )
  return key


def worst_case(
  attacks: Sequence[Attack],
  apply_fn: Callable[[Any, Float[Array, 'b h w 1']], Float[Array, 'b k']],
  loss_fn: Callable[[Float[Array, ' k'], Any], Scalar],
) -> Attack:
  """Returns the attack that gives each image the worst of `attacks`.

  Of the clean image and every attack's result, the one of highest
  loss_fn(logits 'k', label) is taken, image by image. Every attack has the
  same key and label. Within an attack the best of the restarts is taken by
  the attack's own loss, and the best of the steps by 'apgd', by 'square' and
  by 'pgd' with keep_best.
  """

  @jax.jit
  def worst(variables, images, label):
    def film_loss(image, label):
      return loss_fn(apply_fn(variables, image[None])[0], label)

    losses = [jax.vmap(film_loss)(image, label) for image in images]
    best = images[0], losses[0]
    for image, loss in zip(images[1:], losses[1:], strict=True):
      best = jax.vmap(ascent.better)(best, (image, loss))
    return jax.lax.stop_gradient(best[0])

  def attack(variables, key, image, label, epsilon=None):
    key = _keys(key, image.shape[0])
    found = [a(variables, key, image, label, epsilon) for a in attacks]
    return worst(variables, [image, *found], label)

  return attack
