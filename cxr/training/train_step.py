"""One step of training: augment, attack the films, update the weights.

  min_params E max_{|delta| <= epsilon} loss(params, film + delta, label)

`make_train_step` returns `(state, key, batch) -> (state, metrics)`, which the
caller jits. A batch is {'image': uint8 'b h w 1', 'label': float32 'b k'}; an
unknown label is NaN. The attack sees BatchNorm's running statistics, the
update those of the batch. `make_free_step` is the same for 'free' training.

Gradient accumulation: with `accumulate` above 1 a batch is split into so many
passes for one update, so that the activations of one pass are in memory at a
time. Random draws and the loss's weights are those of the whole batch, and the
gradient is the mean over the passes, so that without BatchNorm the update is
that of the whole batch up to rounding. BatchNorm normalises each pass by the
films of that pass; the running statistics become the mean over the passes, so
their means are those of the whole batch and their variances those within
passes.

Device operations are named by the part of the step that they belong to, for
traces and counts: augmentation, attack, update.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from cxr import losses, train_state


def unweighted(label: Float[Array | np.ndarray, 'b k']) -> dict:
  """A `weigh` that gives every film and finding the same weight."""
  del label
  return {}


def radius(epsilon: float, warmup_steps: int, step) -> Float[Array, '']:
  """epsilon at a step: it rises linearly from 0 over `warmup_steps`."""
  if not warmup_steps:
    return jnp.float32(epsilon)
  return epsilon * jnp.minimum(1.0, (step + 1) / warmup_steps)


def make_train_step(
  model,
  tx: optax.GradientTransformation,
  attack: Callable | None = None,
  *,
  objective: Callable = losses.make_objective('clean'),
  augment: Callable | None = None,
  epsilon: float = 0.0,
  warmup_steps: int = 0,
  target_is_logits: bool = False,
  ema: float = 0.0,
  weigh: Callable = unweighted,
  accumulate: int = 1,
  unroll: bool = False,
) -> Callable:
  """Returns `(state, key, batch) -> (state, metrics)`.

  Args:
    model: a Flax module; see cxr/models/architectures.py.
    tx: the optimizer.
    attack: of batched.make_attack; None trains on the films as they are.
    objective: of losses.make_objective.
    augment: (key, image 'h w 1') -> 'h w 1', for one film in [0, 1].
    epsilon: the attack's radius after the warm-up, for pixels in [0, 1].
    warmup_steps: updates over which the radius rises from 0.
    target_is_logits: the attack moves away from the clean logits, as in
      TRADES, and not from the label.
    ema: decay of the averaged weights, where the state keeps these.
    weigh: (label 'b k' of the whole batch) -> keywords of the objective.
    accumulate: passes that a batch is split into; must divide its size.
    unroll: the passes are written out one behind the other, not a loop.
  """

  def adversary(state, keys, image, label):
    if attack is None:
      return None
    which = 'clean' if state.adversarial_batch_stats is None else 'adversarial'
    # The weights of this step, not their average.
    frozen = train_state.variables(
      state.replace(average=None), batch_stats=which
    )
    target = model.apply(frozen, image)[0] if target_is_logits else label
    size = radius(epsilon, warmup_steps, state.step)
    with jax.named_scope('attack'):
      return attack(frozen, keys, image, target, epsilon=size)

  def train_step(state, key, batch):
    augment_key, attack_key = jax.random.split(
      jax.random.fold_in(key, state.step)
    )
    image, label = _films(augment, augment_key, batch), batch['label']
    weights = weigh(label)

    def learn(keys, image, label):
      adversarial = adversary(state, keys, image, label)

      def loss_fn(params):
        forward = _forward(model, params, state)
        loss, (logits, stats) = objective(
          forward, image, adversarial, label, **weights
        )
        return loss.mean(), (logits, stats)

      with jax.named_scope('update'):
        (loss, (logits, stats)), grads = jax.value_and_grad(
          loss_fn, has_aux=True
        )(state.params)
      metrics = {'train/loss': loss}
      for kind, of_kind in logits.items():
        metrics[f'train/{kind}_loss'] = losses.sigmoid_cross_entropy(
          of_kind, label
        ).mean()
      return (grads, stats, metrics), ()

    keys = jax.random.split(attack_key, len(image))
    (grads, stats, metrics), _ = _in_passes(
      learn, accumulate, unroll, keys, image, label
    )
    metrics['train/grad_norm'] = optax.tree.norm(grads)
    return _update(tx, ema, state, grads, *stats), metrics

  return train_step


def make_free_step(
  model,
  tx: optax.GradientTransformation,
  *,
  loss_fn: Callable = losses.sigmoid_cross_entropy,
  augment: Callable | None = None,
  epsilon: float,
  warmup_steps: int = 0,
  replays: int = 4,
  ema: float = 0.0,
  weigh: Callable = unweighted,
  accumulate: int = 1,
  unroll: bool = False,
) -> Callable:
  """As `make_train_step`, but one gradient updates weights and films.

  A batch is replayed `replays` times; every replay updates the weights and
  moves the perturbation by epsilon along the gradient's sign. Unlike the
  reference, the perturbation starts at random with every batch: a state that
  does not depend on the batch before can be continued and sharded freely.

  References:
    Shafahi et al. 2019, Adversarial Training for Free!, algorithm 1.
  """

  def free_step(state, key, batch):
    augment_key, start_key = jax.random.split(
      jax.random.fold_in(key, state.step)
    )
    image, label = _films(augment, augment_key, batch), batch['label']
    step = state.step
    size = radius(epsilon, warmup_steps, step)

    weights = weigh(label)

    def learn(state, image, delta, label):
      def pass_loss(params, delta):
        forward = _forward(model, params, state)
        logits, stats = forward(jnp.clip(image + delta, 0, 1))
        return loss_fn(logits, label, **weights).mean(), stats

      with jax.named_scope('update'):
        (loss, stats), (grads, ascent) = jax.value_and_grad(
          pass_loss, argnums=(0, 1), has_aux=True
        )(state.params, delta)
      return (loss, stats, grads), ascent

    delta = jax.random.uniform(start_key, image.shape, minval=-1, maxval=1)
    delta *= size
    # A Python loop: `scan` around convolutions is slow on a CPU.
    for _ in range(replays):
      (loss, stats, grads), ascent = _in_passes(
        functools.partial(learn, state),
        accumulate,
        unroll,
        image,
        delta,
        label,
      )
      delta = jnp.clip(delta + size * jnp.sign(ascent), -size, size)
      state = _update(tx, ema, state, grads, *stats)
    metrics = {
      'train/loss': loss,
      'train/adversarial_loss': loss,
      'train/grad_norm': optax.tree.norm(grads),
    }
    # A step is a batch; the optimizer counts its own updates.
    return state.replace(step=step + 1), metrics

  return free_step


def _in_passes(function, num_passes: int, unroll: bool, *arrays):
  """Calls `function` on each part of the arrays and joins what it returns.

  Args:
    function: (*parts) -> two trees, the first to be averaged over the parts,
      the second to be joined along the leading axis.
    num_passes: parts of the leading axis.
    unroll: write the passes out, in the place of a loop.
    *arrays: that are split.

  Returns:
    The averaged tree and the joined tree.
  """
  if num_passes == 1:
    return function(*arrays)
  # In turn, not one behind the other: on a sharded batch each device then
  # keeps its own films.
  parts = jax.tree.map(
    lambda x: x.reshape(-1, num_passes, *x.shape[1:]).swapaxes(0, 1), arrays
  )
  part = lambda i: jax.tree.map(lambda x: x[i], parts)
  if unroll:
    # On a CPU, `scan` takes 14 to 20 times as long.
    total, joined = None, []
    for i in range(num_passes):
      mean, apart = function(*(part(i) if i == 0 else _after(total, part(i))))
      total = mean if total is None else jax.tree.map(jnp.add, total, mean)
      joined.append(apart)
    joined = jax.tree.map(lambda *x: jnp.stack(x), *joined)
  else:
    shapes, _ = jax.eval_shape(function, *part(0))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def add(total, part):
      mean, apart = function(*part)
      return jax.tree.map(jnp.add, total, mean), apart

    total, joined = jax.lax.scan(add, zeros, parts)
  return (
    jax.tree.map(lambda x: x / num_passes, total),
    jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), joined),
  )


def _after(earlier, arrays):
  """The same arrays, made to wait until `earlier` is computed.

  Else XLA's CPU schedule runs the passes side by side and holds the
  activations of all; `optimization_barrier` does not keep it from that. A
  value in `earlier` that is not finite spreads; the update is lost anyway.
  """
  zero = 0 * sum(jnp.sum(x.ravel()[:1]) for x in jax.tree.leaves(earlier))
  return jax.tree.map(
    lambda x: x + zero if jnp.issubdtype(x.dtype, jnp.floating) else x, arrays
  )


@jax.named_scope('augmentation')
def _films(augment, key, batch):
  image = batch['image'].astype(jnp.float32) / 255
  if augment is not None:
    image = jax.vmap(augment)(jax.random.split(key, len(image)), image)
  return image


def _forward(model, params, state):
  """Returns image -> (logits, new statistics of (clean, adversarial) films)."""

  def apply(batch_stats, image):
    (logits, _), updated = model.apply(
      {'params': params, 'batch_stats': batch_stats},
      image,
      train=True,
      mutable=['batch_stats'],
    )
    return logits, updated['batch_stats']

  def together(image):
    logits, stats = apply(state.batch_stats, image)
    return logits, (stats, None)

  def apart(image):
    # losses.make_objective's order: even rows clean, odd rows adversarial.
    clean, stats = apply(state.batch_stats, image[::2])
    attacked, adversarial_stats = apply(
      state.adversarial_batch_stats, image[1::2]
    )
    logits = jnp.stack([clean, attacked], axis=1)
    logits = logits.reshape(-1, logits.shape[-1])
    return logits, (stats, adversarial_stats)

  return together if state.adversarial_batch_stats is None else apart


@jax.named_scope('update')
def _update(tx, ema, state, grads, batch_stats, adversarial_batch_stats):
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  average = state.average
  if average is not None:
    # Early on the average follows closely, else it would remember the initial
    # weights for 1 / (1 - ema) updates.
    step = state.step.astype(jnp.float32)
    decay = jnp.minimum(ema, (1 + step) / (10 + step))
    average = optax.incremental_update(params, average, 1 - decay)
  return state.replace(
    step=state.step + 1,
    params=params,
    batch_stats=batch_stats,
    opt_state=opt_state,
    adversarial_batch_stats=adversarial_batch_stats,
    average=average,
  )
