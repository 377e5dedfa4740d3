"""TrainState: the arrays that training changes, and nothing else."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax


class TrainState(flax.struct.PyTreeNode):
  """What a checkpoint holds. Optional parts are None: an empty tree."""

  step: jax.Array  # int32, updates made so far
  params: Any
  batch_stats: Any  # of clean films; of all films where they are not apart
  opt_state: optax.OptState
  adversarial_batch_stats: Any = None
  average: Any = None  # exponential moving average of params


def create(
  model, tx, key, image, *, separate_batch_stats=False, average=False
) -> TrainState:
  """Initial state; `image` 'b h w 1' gives the shapes only."""
  variables = model.init(key, image)
  batch_stats = variables.get('batch_stats', {})
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=variables['params'],
    batch_stats=batch_stats,
    opt_state=tx.init(variables['params']),
    # Copies: a donated buffer may appear in the state only once.
    adversarial_batch_stats=(
      jax.tree.map(jnp.copy, batch_stats) if separate_batch_stats else None
    ),
    average=(jax.tree.map(jnp.copy, variables['params']) if average else None),
  )


def variables(state: TrainState, *, batch_stats: str = 'clean') -> dict:
  """What the model is applied with: averaged weights where they are kept."""
  if batch_stats == 'adversarial' and state.adversarial_batch_stats is None:
    raise ValueError(
      "evaluate.batch_stats ('adversarial') needs a model trained with "
      'attack.separate_batch_stats=True.'
    )
  return {
    'params': state.params if state.average is None else state.average,
    'batch_stats': {
      'clean': state.batch_stats,
      'adversarial': state.adversarial_batch_stats,
    }[batch_stats],
  }
