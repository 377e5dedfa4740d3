"""Watches a training for catastrophic overfitting and for lost weights."""

import contextlib
import math
from collections.abc import Callable, Mapping

import jax
import numpy as np
from ml_collections import ConfigDict

from cxr import data, files, inference, losses, train_state
from cxr.training.setup import Setup
from input_pipeline import pipeline


def collapse_tolerance(attack: ConfigDict) -> float:
  """config.attack.collapse_tolerance; 0 for clean training, whose AUROC under
  attack is expected to fall."""
  return 0.0 if attack.objective == 'clean' else attack.collapse_tolerance


class CollapseGuard:
  """Compares AUROC under attack with its best value so far.

  Args:
    tolerance: a fall by more than this is a collapse; 0 watches nothing.
    log_path: train.jsonl, for the best value before a continued run's start.
    step: that start; the lines after it are of no account.
  """

  def __init__(
    self, tolerance: float, log_path: str, *, step: float = math.inf
  ):
    self.best = -math.inf
    self._tolerance = tolerance
    for record in files.read_json_lines(log_path):
      # Lines after it may still be there: one process of several drops them.
      if record['step'] <= step:
        self.best = max(self.best, record.get('val/robust_auroc') or -math.inf)

  def collapsed(self, values: dict[str, float]) -> bool:
    """Whether the scalars of a validation are those of a collapse."""
    value = values.get('val/robust_auroc')
    if value is None or not self._tolerance:
      return False
    if value < self.best - self._tolerance:
      return True
    self.best = max(self.best, value)
    return False


def find_collapse(config: ConfigDict, log_path: str, step: int) -> str:
  """Describes the collapse that ended an earlier start of a run; '' if none.

  Args:
    config: of the run.
    log_path: its train.jsonl.
    step: of its latest checkpoint; none is written at a collapse, nor behind.
  """
  guard = CollapseGuard(collapse_tolerance(config.attack), log_path, step=step)
  for record in files.read_json_lines(log_path):
    if record['step'] > step and guard.collapsed(record):
      return describe_collapse(guard, record, record['step'])
  return ''


def describe_collapse(
  guard: CollapseGuard, values: Mapping[str, float], step: int
) -> str:
  """What a collapse is, and the way out, in a sentence for the user."""
  return (
    f'AUROC under attack fell from {guard.best:.3f} to '
    f'{values["val/robust_auroc"]:.3f} at step {step}: catastrophic '
    'overfitting. The last sound checkpoint is kept; for another outcome train '
    'in another --workdir with more attack.num_steps, a smaller '
    'attack.epsilon, or attack.collapse_tolerance=0 to go on regardless.'
  )


class NotFinite(ValueError):
  """The metric `name` of a step is NaN or infinite: the weights are lost."""

  def __init__(self, step: int, name: str, value: float):
    super().__init__(f'The {name} at step {step} is {value}.')
    self.step, self.name, self.value = step, name, value


def check_finite(steps: list[tuple[int, dict]]) -> None:
  """Raises NotFinite for the first step whose loss or gradient is not finite.

  Where the gradient's norm is not, the step's loss still is, but no weight
  after it.
  """
  for step, values in jax.device_get(steps):
    for name in ('loss', 'grad_norm'):
      value = float(values[f'train/{name}'])
      if not math.isfinite(value):
        raise NotFinite(step, name, value)


def blame(
  setup: Setup,
  step_fn: Callable,
  state: train_state.TrainState,
  step: int,
) -> str:
  """Names the films of the batch at `step` that are to blame, in half a
  sentence.

  Training goes on from `state`, an earlier one, to the step before: every
  random draw is a function of the step, so it comes to the very weights that
  the batch was shown to.
  """
  config, films = setup.config, setup.films
  start = int(state.step)
  batches = data.train_batches(config, films, setup.mesh, start_step=start)
  with contextlib.closing(batches):
    for _, batch in zip(range(start, step - 1), batches, strict=False):
      state, _ = step_fn(state, batch)
  index = next(
    pipeline.index_batches(
      len(films.label),
      batch_size=config.train.batch_size,
      seed=config.seed,
      start_step=step - 1,
    )
  )
  index = np.unique(index)
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  subject = inference.Subject(
    config, setup.model, variables, setup.mesh, {'train': films}
  )
  logits = inference.predict_split(subject, 'train', index=index)
  loss = np.abs(losses.sigmoid_cross_entropy(logits, films.label[index]))
  bad = ~np.isfinite(loss)
  name = films.image_name[index][np.argmax(np.where(bad, np.inf, loss))]
  if bad.any():
    return f'as of {bad.sum()} of its {len(loss)} films, {name} among them'
  return f'where {name} has the largest loss of {len(loss)} films'
