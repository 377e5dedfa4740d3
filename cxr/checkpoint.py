"""TrainState <-> disk, and the workdir's config and lock.

A workdir holds one run: config.json says which, checkpoints/ how far it is.
"""

import contextlib
import os
from collections.abc import Iterator

import jax
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from cxr import run_files, train_state
from input_pipeline.findings import FINDINGS


def checkpointer(
  workdir: str, *, best_metric: str, writes: bool = False
) -> ocp.training.Checkpointer:
  """Keeps the latest checkpoint and the one whose `best_metric` is highest.

  Only who `writes` may sweep out half-written checkpoints: they could be those
  of a run that is at work.
  """
  folder = os.path.abspath(os.path.join(workdir, 'checkpoints'))
  policies = ocp.training.preservation_policies
  keep = policies.AnyPreservationPolicy(
    [
      policies.LatestN(1),
      policies.BestN(
        get_metric_fn=lambda metrics: _rank(metrics, best_metric),
        n=1,
        keep_checkpoints_without_metrics=False,
      ),
    ]
  )
  try:
    return ocp.training.Checkpointer(
      folder, preservation_policy=keep, cleanup_tmp_directories=writes
    )
  except ValueError as e:
    # It reads each checkpoint's metrics at once.
    raise ValueError(
      f'A checkpoint in {folder} is damaged ({e}); delete its folder, the '
      'newest as a rule, and --mode=train goes on from the one before it.'
    ) from e


def _rank(metrics, name: str) -> float:
  value = (metrics or {}).get(name)
  return float('-inf') if value is None else value


def save(
  saver,
  state: train_state.TrainState,
  metrics: dict[str, float],
  config: ConfigDict,
):
  """Writes the state under its step; NaN metrics do not rank.

  Raises:
    OSError: it could not be written; those before it stay as they are.
  """
  try:
    saver.save(
      int(state.step),
      state,
      metrics={k: float(v) for k, v in metrics.items() if v == v},
      custom_metadata=_made_for(config),
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


def _made_for(config: ConfigDict) -> dict:
  """What the arrays do not say of themselves."""
  fields = run_files.flat(config)
  names = [n for n in fields if n.startswith('model.')]
  return {n: fields[n] for n in (*names, 'data.image_size')} | {
    'findings': list(FINDINGS)
  }


def _check_made_for(saver, step: int, config: ConfigDict, workdir: str):
  """Raises ValueError where a checkpoint is of another model or other films."""
  with _told(saver, step, workdir):
    there = saver.metadata(step).custom_metadata or {}
  here = _made_for(config)
  differ = [
    f'{name} ({there[name]!r} there, {here.get(name)!r} here)'
    for name in there
    if there[name] != here.get(name)
  ]
  if differ:
    raise ValueError(
      f'The checkpoint of step {step} in {workdir} is of another model: '
      f'{"; ".join(differ)}.'
    )


def step_of(saver, which: str, *, best_metric: str) -> int | None:
  """The step of the 'best' or 'latest' checkpoint; None where there is none."""
  found = list(saver.checkpoints)
  if not found:
    return None
  if which == 'latest':
    return max(c.step for c in found)
  # Ties go to the earlier one: a plateau's later half is the more overfitted.
  return max(found, key=lambda c: (_rank(c.metrics, best_metric), -c.step)).step


def restore(
  saver,
  step: int,
  like: train_state.TrainState,
  config: ConfigDict,
  workdir: str,
):
  """The state of `step`, laid out over devices as `like` is.

  Raises:
    ValueError: it is another model's.
  """
  _check_made_for(saver, step, config, workdir)
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
    like,
  )
  with _told(saver, step, workdir):
    return saver.load(step, abstract)


@contextlib.contextmanager
def _told(saver, step: int, workdir: str) -> Iterator[None]:
  """Orbax raises nearly anything on a damaged checkpoint; we say what it is."""
  try:
    yield
  except Exception as e:
    others = [c.step for c in saver.checkpoints if c.step < step]
    before = f'from step {max(others)}' if others else 'from the start'
    folder = os.path.join(workdir, 'checkpoints', str(step))
    raise ValueError(
      f'The checkpoint in {folder} cannot be read '
      f'({type(e).__name__}: {str(e).strip().splitlines()[0][:200]}); delete '
      f'that folder and --mode=train goes on {before}.'
    ) from e
