"""The training state on disk: checkpoints/ in a workdir, written by Orbax.

checkpoints = checkpoint.open_folder(workdir, config, findings)
state = checkpoint.read(checkpoints, checkpoint.step_of(checkpoints, 'best'))
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from cxr import run_files, train_state


class Checkpoints(NamedTuple):
  """The checkpoints of a workdir; `saver.close()` ends their use."""

  saver: ocp.training.Checkpointer
  workdir: str
  config: ConfigDict
  findings: tuple[str, ...]  # that the model's logits stand for


def open_folder(
  workdir: str,
  config: ConfigDict,
  findings: Sequence[str],
  *,
  writes: bool = False,
) -> Checkpoints:
  """Opens a workdir's checkpoints.

  Of those written, the latest is kept and the one with the highest
  config.train.best_metric.

  Args:
    workdir: of the run.
    config: of the run.
    findings: of the run, in the order of the model's logits.
    writes: only a process that writes may delete half-written checkpoints:
      they could be those of a run that is at work.

  Raises:
    ValueError: the metrics of a checkpoint are damaged.
  """
  folder = os.path.abspath(os.path.join(workdir, 'checkpoints'))
  policies = ocp.training.preservation_policies
  keep = policies.AnyPreservationPolicy(
    [
      policies.LatestN(1),
      policies.BestN(
        get_metric_fn=lambda metrics: _rank(metrics, config),
        n=1,
        keep_checkpoints_without_metrics=False,
      ),
    ]
  )
  try:
    saver = ocp.training.Checkpointer(
      folder, preservation_policy=keep, cleanup_tmp_directories=writes
    )
  except ValueError as e:
    # It reads each checkpoint's metrics at once.
    raise ValueError(
      f'A checkpoint in {folder} is damaged ({e}); delete its folder, the '
      'newest as a rule, and --mode=train goes on from the one before it.'
    ) from e
  return Checkpoints(saver, workdir, config, tuple(findings))


def _rank(metrics, config: ConfigDict) -> float:
  value = (metrics or {}).get(config.train.best_metric)
  return float('-inf') if value is None else value


def step_of(checkpoints: Checkpoints, which: str) -> int | None:
  """The step of the 'best' or 'latest' checkpoint; None where there is none.

  Where none was measured, as validation had films of one kind only, the latest
  is the best.
  """
  stored = list(checkpoints.saver.checkpoints)
  if not stored:
    return None
  rank = lambda c: _rank(c.metrics, checkpoints.config)
  measured = [c for c in stored if rank(c) > float('-inf')]
  if which == 'latest' or not measured:
    return max(c.step for c in stored)
  # Ties go to the earlier one: a plateau's later half is the more overfitted.
  return max(measured, key=lambda c: (rank(c), -c.step)).step


def save(
  checkpoints: Checkpoints,
  state: train_state.TrainState,
  metrics: dict[str, float],
) -> None:
  """Writes the state under its step, with the metrics that rank it.

  Raises:
    OSError: it could not be written; the checkpoints before it are kept.
  """
  try:
    checkpoints.saver.save(
      int(state.step),
      state,
      # A NaN does not rank.
      metrics={k: float(v) for k, v in metrics.items() if v == v},
      custom_metadata=_made_for(checkpoints),
      force=True,
      overwrite=True,
    )
  except (OSError, ValueError) as e:
    # TensorStore's own: 'RESOURCE_EXHAUSTED: … No space left on device'.
    full = 'No space left' in str(e)
    reason = 'no space is left' if full else str(e).splitlines()[0][:200]
    raise OSError(
      f'The checkpoint of step {int(state.step)} could not be written: '
      f'{reason}. The last one before it is kept; the same command goes on '
      'from there.'
    ) from e


def restore(
  checkpoints: Checkpoints, step: int, like: train_state.TrainState
) -> train_state.TrainState:
  """The state of `step`, on the devices where the arrays of `like` are.

  Raises:
    ValueError: the checkpoint is damaged, of another model, or holds what
      another optimizer keeps.
  """
  _check_made_for(checkpoints, step)
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
    like,
  )
  try:
    with _damage_named(checkpoints, step):
      return checkpoints.saver.load(step, abstract)
  except ValueError as e:
    if not _has_weights(checkpoints, step, like):
      raise
    raise ValueError(
      f'The checkpoint of step {step} in {checkpoints.workdir} is whole, but '
      'holds what the optimizer of another version kept (SGD, before weight '
      'decay left its momentum): a training cannot go on from it. Its weights '
      'can be evaluated, explained and exported; to go on, train in another '
      '--workdir with config.model.init_from=the safetensors file that '
      '--mode=export writes.'
    ) from e


def _has_weights(
  checkpoints: Checkpoints, step: int, like: train_state.TrainState
) -> bool:
  """Whether a checkpoint can be read, with the parameters that are wanted."""
  try:
    params = read(checkpoints, step).params
  except ValueError:
    return False
  shapes = lambda tree: jax.tree.map(np.shape, tree)
  return shapes(params) == shapes(like.params)


def read(checkpoints: Checkpoints, step: int) -> train_state.TrainState:
  """The state of `step` as it was saved, on one device of this process.

  Raises:
    ValueError: the checkpoint is damaged or of another model.
  """
  _check_made_for(checkpoints, step)
  # The devices that it was saved from may be others.
  device = SingleDeviceSharding(jax.local_devices()[0])
  with _damage_named(checkpoints, step):
    abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
      checkpoints.saver.metadata(step).metadata,
    )
    stored = checkpoints.saver.load(step, abstract)
  names = [field.name for field in dataclasses.fields(train_state.TrainState)]
  return train_state.TrainState(**{name: stored.get(name) for name in names})


def _made_for(checkpoints: Checkpoints) -> dict[str, Any]:
  """What a checkpoint's arrays do not say: the model, film size, findings."""
  fields = run_files.flat(checkpoints.config)
  free = run_files.FREE_MODEL_FIELDS
  names = [n for n in fields if n.startswith('model.') and n not in free]
  # A checkpoint's record is JSON, which has no tuples.
  plain = lambda x: list(x) if isinstance(x, tuple) else x
  return {n: plain(fields[n]) for n in (*names, 'data.image_size')} | {
    'findings': list(checkpoints.findings)
  }


def _check_made_for(checkpoints: Checkpoints, step: int) -> None:
  """Raises ValueError where a checkpoint is not of the config's model."""
  with _damage_named(checkpoints, step):
    stored = checkpoints.saver.metadata(step).custom_metadata or {}
  wanted = _made_for(checkpoints)
  differ = [
    f'{name} ({stored[name]!r} there, {wanted.get(name)!r} here)'
    for name in stored
    if stored[name] != wanted.get(name)
    # Checkpoints of older versions hold them.
    and name not in run_files.FREE_MODEL_FIELDS
  ]
  if differ:
    raise ValueError(
      f'The checkpoint of step {step} in {checkpoints.workdir} is of another '
      f'model: {"; ".join(differ)}.'
    )


@contextlib.contextmanager
def _damage_named(checkpoints: Checkpoints, step: int) -> Iterator[None]:
  """Turns what Orbax raises on a damaged checkpoint, nearly anything, into
  a ValueError that names the folder and the way back."""
  try:
    yield
  except Exception as e:
    steps = [c.step for c in checkpoints.saver.checkpoints]
    earlier = [other for other in steps if other < step]
    before = f'from step {max(earlier)}' if earlier else 'from the start'
    folder = os.path.join(checkpoints.workdir, 'checkpoints', str(step))
    reason = str(e).strip().splitlines()[:1] or ['']
    raise ValueError(
      f'The checkpoint in {folder} cannot be read ({type(e).__name__}: '
      f'{reason[0][:200]}); delete that folder and --mode=train goes on '
      f'{before}.'
    ) from e
