"""One update: augment, maximize over the film, minimize over the weights.

  min_params E max_{|delta| <= epsilon} loss(params, film + delta, label)

`make_train_step` closes over what never changes and returns
`(state, key, batch) -> (state, metrics)`, to be jitted by the caller. A batch
is {'image': uint8 'b h w 1', 'label': float32 'b k'}, labels NaN where
unknown. Films are attacked on running BatchNorm statistics and learned on the
batch's.

Objectives:

  none         loss(film)
  adversarial  w loss(film) + (1 - w) loss(attacked film), w = clean_weight
  trades       loss(film) + beta KL(p(film) || p(attacked film)), the attack
               maximizing the KL (Zhang et al. 2019, multi-label: Bernoulli)
  free         m updates a batch, each gradient shared between weights and
               perturbation (Shafahi et al. 2019)
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from cxr import losses, train_state


def make_train_step(
  model,
  tx: optax.GradientTransformation,
  attack: Callable | None = None,
  *,
  objective: str = 'none',
  augment: Callable | None = None,
  batch_weighting: bool = False,
  positive_weight=None,
  epsilon: float = 0.0,
  epsilon_steps: int = 0,
  clean_weight: float = 0.0,
  trades_beta: float = 6.0,
  free_replays: int = 4,
  ema: float = 0.0,
) -> Callable:
  """Returns `(state, key, batch) -> (state, metrics)`.

  Args:
    model: a Flax module; see cxr/models.py.
    tx: the optimizer.
    attack: from attacks.make_attack; None for 'none' and 'free'. For 'trades'
      its loss takes (logits, clean logits).
    objective: 'none' | 'adversarial' | 'trades' | 'free'.
    augment: (key, image 'h w 1') -> 'h w 1', one film in [0, 1].
    batch_weighting: Wang's W-CEL weights from each batch's labels.
    positive_weight: 'k', or None.
    epsilon: radius in [0, 1] pixels, reached after `epsilon_steps` updates.
    epsilon_steps: length of the linear warm-up from 0.
    clean_weight: the clean loss's share in 'adversarial'.
    trades_beta: weight of the KL in 'trades'.
    free_replays: updates per batch in 'free'.
    ema: decay of the averaged weights, where the state keeps them.
  """

  def label_loss(logits, label):
    weights = losses.batch_weights(label) if batch_weighting else None
    return jnp.mean(
      losses.sigmoid_cross_entropy(
        logits,
        label,
        positive_weight=positive_weight,
        class_weights=weights,
      )
    )

  def forward(params, batch_stats, image):
    (logits, _), updated = model.apply(
      {'params': params, 'batch_stats': batch_stats},
      image,
      train=True,
      mutable=['batch_stats'],
    )
    return logits, updated['batch_stats']

  def two_forwards(params, state, image, adversarial):
    """(clean logits, adversarial logits, the two new statistics)."""
    if state.adversarial_batch_stats is None:
      # One pass over both: the statistics are the mixture's.
      logits, stats = forward(
        params, state.batch_stats, jnp.concatenate([image, adversarial])
      )
      return *jnp.split(logits, 2), stats, None
    clean, stats = forward(params, state.batch_stats, image)
    attacked, adversarial_stats = forward(
      params, state.adversarial_batch_stats, adversarial
    )
    return clean, attacked, stats, adversarial_stats

  def clean_loss(params, state, image, adversarial, label):
    del adversarial
    logits, stats = forward(params, state.batch_stats, image)
    loss = label_loss(logits, label)
    return loss, ({'train/clean_loss': loss}, stats, None)

  def adversarial_loss(params, state, image, adversarial, label):
    if clean_weight == 0 and state.adversarial_batch_stats is None:
      logits, stats = forward(params, state.batch_stats, adversarial)
      loss = label_loss(logits, label)
      return loss, ({'train/adversarial_loss': loss}, stats, None)
    clean, attacked, *stats = two_forwards(params, state, image, adversarial)
    parts = label_loss(clean, label), label_loss(attacked, label)
    loss = clean_weight * parts[0] + (1 - clean_weight) * parts[1]
    names = 'train/clean_loss', 'train/adversarial_loss'
    return loss, (dict(zip(names, parts, strict=True)), *stats)

  def trades_loss(params, state, image, adversarial, label):
    clean, attacked, *stats = two_forwards(params, state, image, adversarial)
    natural = label_loss(clean, label)
    divergence = jnp.mean(losses.bernoulli_kl(clean, attacked, label))
    loss = natural + trades_beta * divergence
    metrics = {'train/clean_loss': natural, 'train/divergence': divergence}
    return loss, (metrics, *stats)

  def learn(state, grads, stats, adversarial_stats):
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if average is not None:
      # Early on the average follows closely, else it would remember the
      # initial weights for 1 / (1 - ema) updates.
      step = state.step.astype(jnp.float32)
      decay = jnp.minimum(ema, (1 + step) / (10 + step))
      average = optax.incremental_update(params, average, 1 - decay)
    return state.replace(
      step=state.step + 1,
      params=params,
      batch_stats=stats,
      opt_state=opt_state,
      adversarial_batch_stats=adversarial_stats,
      average=average,
    )

  def radius(step):
    if not epsilon_steps:
      return jnp.float32(epsilon)
    return epsilon * jnp.minimum(1.0, (step + 1) / epsilon_steps)

  def prepare(key, batch):
    image = batch['image'].astype(jnp.float32) / 255
    if augment is not None:
      image = jax.vmap(augment)(jax.random.split(key, len(image)), image)
    return image

  def min_max_step(state, key, batch):
    augment_key, attack_key = jax.random.split(
      jax.random.fold_in(key, state.step)
    )
    image, label = prepare(augment_key, batch), batch['label']
    adversarial = image
    if attack is not None:
      which = (
        'clean' if state.adversarial_batch_stats is None else 'adversarial'
      )
      # The weights of this step, not their average.
      frozen = train_state.variables(
        state.replace(average=None), batch_stats=which
      )
      target = label
      if objective == 'trades':
        target, _ = model.apply(frozen, image)
      adversarial = attack(
        frozen, attack_key, image, target, epsilon=radius(state.step)
      )
    (loss, (metrics, *stats)), grads = jax.value_and_grad(
      objective_loss, has_aux=True
    )(state.params, state, image, adversarial, label)
    metrics |= {'train/loss': loss, 'train/grad_norm': optax.global_norm(grads)}
    return learn(state, grads, *stats), metrics

  def free_step(state, key, batch):
    augment_key, start_key = jax.random.split(
      jax.random.fold_in(key, state.step)
    )
    image, label = prepare(augment_key, batch), batch['label']

    def loss_fn(params, delta, state):
      attacked = jnp.clip(image + delta, 0, 1)
      logits, stats = forward(params, state.batch_stats, attacked)
      return label_loss(logits, label), stats

    delta = radius(state.step) * jax.random.uniform(
      start_key, image.shape, minval=-1, maxval=1
    )
    step = state.step
    # A Python loop: `scan` around convolutions is slow on a CPU.
    for _ in range(free_replays):
      (loss, stats), (grads, ascent) = jax.value_and_grad(
        loss_fn, argnums=(0, 1), has_aux=True
      )(state.params, delta, state)
      size = radius(step)
      delta = jnp.clip(delta + size * jnp.sign(ascent), -size, size)
      state = learn(state, grads, stats, None)
    # A step is a batch; the optimizer counts its own updates.
    return state.replace(step=step + 1), {
      'train/loss': loss,
      'train/adversarial_loss': loss,
      'train/grad_norm': optax.global_norm(grads),
    }

  objective_losses = {
    'none': clean_loss,
    'adversarial': adversarial_loss,
    'trades': trades_loss,
    'free': None,
  }
  if objective not in objective_losses:
    raise ValueError(
      f'attack.objective ({objective!r}) must be one of '
      f'{", ".join(objective_losses)}.'
    )
  if (attack is None) != (objective in ('none', 'free')):
    raise ValueError(f'The objective {objective!r} and the attack do not fit.')
  objective_loss = objective_losses[objective]
  return free_step if objective == 'free' else min_max_step
