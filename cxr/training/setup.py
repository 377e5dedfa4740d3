"""What a training is made of: plan, model, optimizer and first weights."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from absl import logging
from flax import linen as nn
from ml_collections import ConfigDict

from cxr import platforms, sharding, train_state
from cxr.models import architectures, origins, torch_weights
from input_pipeline import pipeline


class Plan(NamedTuple):
  """How long a run is, in steps of one batch."""

  num_steps: int
  steps_per_epoch: float
  validate_every: int  # steps; a checkpoint is written with each validation
  log_every: int  # steps
  batch_size: int

  def to_steps(self, epochs: float) -> int:
    return round(epochs * self.steps_per_epoch)


def make_plan(config: ConfigDict, num_films: int) -> Plan:
  """The plan of config.train, over `num_films` training films."""
  steps_per_epoch = num_films / config.batch_size
  return Plan(
    num_steps=math.ceil(config.num_epochs * steps_per_epoch),
    steps_per_epoch=steps_per_epoch,
    validate_every=max(1, round(config.validate_every * steps_per_epoch)),
    log_every=config.log_every,
    batch_size=config.batch_size,
  )


class Setup(NamedTuple):
  """What stays the same through a training."""

  config: ConfigDict
  model: nn.Module
  tx: optax.GradientTransformation  # the optimizer
  plan: Plan
  films: pipeline.Split  # those it learns from
  mesh: jax.sharding.Mesh


def make_setup(
  config: ConfigDict, films: pipeline.Split, mesh: jax.sharding.Mesh
) -> Setup:
  """The setup that the config asks for."""
  plan = make_plan(config.train, len(films.label))
  model = architectures.make_model(
    config.model, len(films.findings), platforms.of(mesh)
  )
  return Setup(config, model, make_optimizer(config, plan), plan, films, mesh)


def updates_a_step(config: ConfigDict) -> int:
  """Updates that are made from one batch: 'free' makes several."""
  free = config.attack.objective == 'free'
  return config.attack.free_replays if free else 1


def learning_rate(config: ConfigDict, plan: Plan) -> optax.Schedule:
  """(number of updates made) -> the rate of the next.

  It warms up linearly and falls as a cosine.
  """
  num_updates = plan.num_steps * updates_a_step(config)
  warmup = plan.to_steps(config.train.warmup_epochs) * updates_a_step(config)
  warmup = min(warmup, num_updates - 1)
  return optax.warmup_cosine_decay_schedule(
    # Not 0: the first update would learn nothing.
    config.train.learning_rate / (warmup + 1),
    config.train.learning_rate,
    warmup_steps=warmup,
    decay_steps=num_updates,
  )


def make_optimizer(
  config: ConfigDict, plan: Plan
) -> optax.GradientTransformation:
  """AdamW or SGD at the rate of `learning_rate`."""
  train_config = config.train
  schedule = learning_rate(config, plan)
  # BatchNorm's scales and every bias are not decayed: they set no direction.
  decayed = lambda params: jax.tree.map(lambda x: x.ndim > 1, params)
  decay = train_config.weight_decay
  if train_config.optimizer == 'adamw':
    return optax.adamw(schedule, weight_decay=decay, mask=decayed)
  # Behind the momentum, so that decay means what it does with AdamW
  # (Loshchilov and Hutter 2019, algorithm 1).
  return optax.chain(
    optax.trace(train_config.momentum, nesterov=True),
    optax.add_decayed_weights(decay, mask=decayed),
    optax.scale_by_learning_rate(schedule),
  )


def parameter_table(params: Mapping) -> str:
  """The parameters of each part of a network and of all, a part a line."""
  sizes = {
    name: sum(leaf.size for leaf in jax.tree.leaves(part))
    for name, part in params.items()
  }
  total = sum(sizes.values())
  lines = [f'{name:12} {size:>12,}' for name, size in sizes.items()]
  return '\n'.join(
    [*lines, f'{"all":12} {total:>12,} parameters, {4 * total / 1e6:,.1f} MB']
  )


def initial_state(setup: Setup, key: jax.Array) -> train_state.TrainState:
  """Random weights, or those of config.model.init_from, on every device."""
  config = setup.config
  size = config.data.image_size
  state = jax.jit(
    lambda key: train_state.create(
      setup.model,
      setup.tx,
      key,
      jnp.zeros((1, size, size, 1), jnp.float32),
      separate_batch_stats=config.attack.separate_batch_stats,
      average=config.train.ema > 0,
    ),
    out_shardings=sharding.replicated(setup.mesh),
  )(key)
  if not config.model.init_from:
    return state
  origin = origins.find(config.model.init_from, config.seed)
  variables, report = torch_weights.init_from(
    origin.path,
    train_state.variables(state),
    config.model,
    findings=setup.films.findings,
  )
  logging.info('Weights of %s: %s', origin.stated, report)
  params, batch_stats = variables['params'], variables['batch_stats']
  copy = lambda old, new: None if old is None else jax.tree.map(jnp.copy, new)
  return state.replace(
    params=params,
    batch_stats=batch_stats,
    average=copy(state.average, params),
    adversarial_batch_stats=copy(state.adversarial_batch_stats, batch_stats),
  )
