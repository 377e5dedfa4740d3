"""--mode=train: from a folder of films to a workdir with checkpoints.

A run that is stopped and started again ends with the same bits: the state
holds every array that moves, the order of films is a function of (seed, epoch)
and every random draw one of (seed, step).
"""

import os
from collections.abc import Callable

import jax
from absl import logging
from ml_collections import ConfigDict

from cxr import caches, checkpoint, data, run_files, sharding
from cxr.training import (
  configured_step,
  guards,
  loop,
  profile,
  signals,
  validation,
  writer,
)
from cxr.training.setup import (
  Setup,
  initial_state,
  make_setup,
  parameter_table,
)


def train(
  config: ConfigDict, workdir: str, *, span: profile.Span | None = None
) -> None:
  """Trains until config.train.num_epochs; goes on where the workdir stands.

  A run that collapsed is over: its last sound checkpoint stays, and the log
  says so. With a `span` of steps these are traced in <workdir>/profile.

  Raises:
    ValueError: the config, the films or the workdir do not fit, or a step was
      not finite.
    signals.Stopped: a signal came; a checkpoint is written.
  """
  mesh = sharding.make_mesh()
  sharding.check_batch(
    mesh,
    config.train.batch_size,
    field='config.train.batch_size',
    accumulate=config.train.accumulate,
  )
  run_files.check_config(workdir, config)
  # Else one process would read what another has just replaced.
  sharding.wait_for_all('config')
  if _collapsed_before(config, workdir):
    return
  splits = data.load(config)
  findings = splits['train'].findings
  data.check_both_kinds(config, splits['train'])
  lacking = data.without_both_kinds(splits['validation'])
  if lacking:
    logging.warning(
      'The validation films have %s: it counts in no val/auroc, which chooses '
      'the best checkpoint, and gets no calibration.',
      lacking,
    )
  data.check_same_films(workdir, splits)
  # Only now: a folder that is not read must not claim the workdir.
  if jax.process_index() == 0:
    run_files.write_config(workdir, config)
  data.write_summary(workdir, config, splits)

  config = caches.resolve(config, splits['train'], mesh)
  setup = make_setup(config, splits['train'], mesh)
  init_key, step_key, attack_key = jax.random.split(
    jax.random.key(config.seed), 3
  )
  checkpoints = checkpoint.open_folder(workdir, config, findings, writes=True)
  state, start = _latest_state(setup, checkpoints, init_key)
  if start:
    logging.info('Continuing at step %d of %d.', start, setup.plan.num_steps)
  else:
    logging.info('Parameters:\n%s', parameter_table(state.params))
  log = writer.Writer(
    workdir,
    step=start,
    num_steps=setup.plan.num_steps,
    enabled=jax.process_index() == 0,
  )
  batches = data.train_batches(config, setup.films, mesh, start_step=start)
  step_fn = configured_step.make_jit_step(setup, step_key)
  guard = guards.CollapseGuard(
    guards.collapse_tolerance(config.attack),
    os.path.join(workdir, 'train.jsonl'),
    step=start,
  )
  # Process 0 speaks for all.
  span = span if jax.process_index() == 0 else None
  tracer = profile.Tracer(span, os.path.join(workdir, 'profile'))
  try:
    with signals.catch_signals() as stopped:
      what = loop.Loop(
        plan=setup.plan,
        step=step_fn,
        validate=validation.make_validate(
          setup, splits['validation'], attack_key
        ),
        save=lambda state, values: checkpoint.save(checkpoints, state, values),
        guard=guard,
        log=log,
        stopped=stopped,
        tracer=tracer,
      )
      loop.fit(what, state, batches, start=start)
  except guards.NotFinite as e:
    state, sound = _latest_state(setup, checkpoints, init_key)
    raise _lost(e, setup, step_fn, state, sound) from e
  finally:
    # TensorFlow complains of a stream that ends with the process.
    batches.close()
    tracer.close()
    checkpoints.saver.close()
    log.close()


def _collapsed_before(config: ConfigDict, workdir: str) -> bool:
  """Whether an earlier start ended in a collapse, to which every start would
  come again; logs it."""
  findings = run_files.read_findings(workdir)
  checkpoints = checkpoint.open_folder(workdir, config, findings)
  saved = checkpoint.step_of(checkpoints, 'latest')
  checkpoints.saver.close()
  log_path = os.path.join(workdir, 'train.jsonl')
  collapse = guards.find_collapse(config, log_path, saved or 0)
  if collapse:
    logging.error('%s does not train again: %s', workdir, collapse)
  return bool(collapse)


def _latest_state(
  setup: Setup, checkpoints: checkpoint.Checkpoints, key: jax.Array
):
  """(state, step) of the latest checkpoint, or the first weights and 0."""
  state = initial_state(setup, key)
  step = checkpoint.step_of(checkpoints, 'latest')
  if step is None:
    return state, 0
  return checkpoint.restore(checkpoints, step, state), step


def _lost(
  error: guards.NotFinite, setup: Setup, step_fn: Callable, state, sound: int
) -> ValueError:
  """The error for the user: which step, whose film, what is kept."""
  films = guards.blame(setup, step_fn, state, error.step)
  kept = 'no checkpoint was written yet'
  if sound:
    kept = f'the last sound checkpoint is that of step {sound}'
  return ValueError(
    f'The {error.name} at step {error.step} is {error.value}, {films}; '
    f'{kept}. Try a lower train.learning_rate.'
  )
