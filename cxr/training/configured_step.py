"""The step that a config asks for: its attack, its loss, and one program."""

from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from cxr import data, losses, platforms, sharding
from cxr.attacks import batched
from cxr.training import augment, train_step
from cxr.training.setup import Setup, learning_rate, updates_a_step
from input_pipeline import memory


def make_attack(setup: Setup) -> Callable | None:
  """The inner maximization of config.attack.objective; None where it has none.

  'free' has none: its step moves the films itself.
  """
  model, attack = setup.model, setup.config.attack
  if attack.objective in ('clean', 'free'):
    return None
  loss_fn = {
    'adversarial': losses.sigmoid_cross_entropy,
    'trades': losses.bernoulli_kl,
  }[attack.objective]
  return batched.make_attack(
    lambda variables, image: model.apply(variables, image)[0],
    loss_fn,
    batched.Options(
      norm=attack.norm,
      epsilon=attack.epsilon / 255,
      step_size=step_size(attack) / 255,
      num_steps=attack.num_steps,
      random_start=attack.random_start,
    ),
    unroll=platforms.of(setup.mesh).unrolled,
  )


def step_size(attack: ConfigDict) -> float:
  """The attack's step in 1/255: config.attack.step_size, or where that is 0 a
  fitting one.

  2.5 epsilon / num_steps lets the attack cross the ball (Madry et al. 2018);
  a single step is 1.25 epsilon from its random start (Wong et al. 2020).
  """
  fitting = 2.5 * attack.epsilon / attack.num_steps
  return attack.step_size or min(fitting, 1.25 * attack.epsilon)


def make_weigh(config: ConfigDict, label: np.ndarray) -> Callable:
  """Returns weigh(label 'b k' of a batch) -> the loss's weights.

  Args:
    config: its loss.weighting says how.
    label: 'n k', of all training films.
  """
  weighting = config.loss.weighting
  if weighting == 'batch':
    return losses.batch_weights
  if weighting == 'finding':
    weight = losses.finding_weights(label, cap=config.loss.weight_cap)
    return lambda label: {'positive_weight': weight}
  return train_step.unweighted


def make_step(setup: Setup) -> Callable:
  """(state, key, batch) -> (state, metrics), by config.attack.objective."""
  config, attack = setup.config, setup.config.attack
  ranges, forms = config.augment.to_dict(), platforms.of(setup.mesh)
  augmentation = None
  if any(ranges.values()):
    augmentation = augment.make_augment(**ranges, form=forms.warp)
  common = {
    'augment': augmentation,
    'epsilon': attack.epsilon / 255,
    'warmup_steps': setup.plan.to_steps(attack.warmup_epochs),
    'ema': config.train.ema,
    'weigh': make_weigh(config, setup.films.label),
    'accumulate': config.train.accumulate,
    'unroll': forms.unrolled,
  }
  if attack.objective == 'free':
    return train_step.make_free_step(
      setup.model, setup.tx, replays=attack.free_replays, **common
    )
  name = attack.objective
  if name == 'adversarial' and attack.clean_weight:
    name = 'mixed'
  return train_step.make_train_step(
    setup.model,
    setup.tx,
    make_attack(setup),
    objective=losses.make_objective(
      name, clean_weight=attack.clean_weight, beta=attack.trades_beta
    ),
    target_is_logits=name == 'trades',
    **common,
  )


def make_settings(setup: Setup) -> Callable:
  """Returns (step) -> the scalars that a plan moves from step to step.

  train/learning_rate: of the step's first update; train/epsilon: the attack's
  radius in 1/255, where the training has an attack.
  """
  config, plan = setup.config, setup.plan
  rate, updates = learning_rate(config, plan), updates_a_step(config)
  warmup_steps = plan.to_steps(config.attack.warmup_epochs)

  def settings_at(step):
    settings = {'train/learning_rate': rate(step * updates)}
    if config.attack.objective != 'clean':
      epsilon = train_step.radius(config.attack.epsilon, warmup_steps, step)
      settings['train/epsilon'] = epsilon
    return settings

  return settings_at


def make_jit_step(setup: Setup, key: jax.Array) -> Callable:
  """(state, batch) -> (state, metrics): one program on the whole mesh.

  It is compiled at the first call. The state that it is given is lost.
  """
  on_device = {}
  if setup.config.data.cache == 'device':
    on_device = data.on_device(setup.films, setup.mesh)
  jit_step = jitted(setup, key)
  program = None

  def step(state, batch):
    nonlocal program
    if program is None:
      program = jit_step.lower(state, batch, on_device).compile()
      _check_memory(program, setup.mesh)
    return program(state, batch, on_device)

  return step


def jitted(setup: Setup, key: jax.Array) -> jax.stages.Wrapped:
  """(state, batch, films) -> (state, metrics), not yet compiled.

  The films are those of `data.on_device`, or {} where the batch has its own.
  """
  step_fn, settings_at = make_step(setup), make_settings(setup)

  def one_step(state, batch, films):
    settings = settings_at(state.step)
    state, metrics = step_fn(state, key, data.take(batch, films))
    return state, metrics | settings

  return jax.jit(
    one_step, donate_argnums=0, out_shardings=sharding.replicated(setup.mesh)
  )


def _check_memory(
  program: jax.stages.Compiled, mesh: jax.sharding.Mesh
) -> None:
  """Refuses a step that the host cannot hold: Linux would kill the process.

  A GPU says itself that it has too little.
  """
  if platforms.of(mesh).in_host_memory:
    stats = program.memory_analysis()
    memory.require(
      stats.temp_size_in_bytes + stats.output_size_in_bytes,
      'A training step',
      'try a smaller train.batch_size or a larger train.accumulate',
    )
