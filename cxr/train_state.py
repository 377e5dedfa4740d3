"""The training state: every array that training changes, and nothing else."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float


class TrainState(flax.struct.PyTreeNode):
  """What a checkpoint holds. A part that a run does not have is None."""

  # A tree map may put anything in the place of an array: no type is checked.
  step: Any  # int32, batches learned so far
  params: Any
  batch_stats: Any  # of clean films, or of all where these are not kept apart
  opt_state: optax.OptState
  adversarial_batch_stats: Any = None
  average: Any = None  # exponential moving average of params


def create(
  model: nn.Module,
  tx: optax.GradientTransformation,
  key: jax.Array,
  image: Float[Array | np.ndarray, 'b h w 1'],
  *,
  separate_batch_stats: bool = False,
  average: bool = False,
) -> TrainState:
  """The state before the first step, with random weights.

  Args:
    model: a Flax module.
    tx: the optimizer.
    key: of the weights.
    image: 'b h w 1'; its shape alone is used.
    separate_batch_stats: keep BatchNorm's statistics of adversarial films too.
    average: keep an average of the weights.
  """
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
  """The variables that the model is applied with.

  The weights are the averaged ones where the state keeps them.

  Args:
    state: of the training.
    batch_stats: 'clean' or 'adversarial', the films whose statistics are used.

  Raises:
    ValueError: the state does not keep those of adversarial films.
  """
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
