"""The loop over steps: when it logs, validates, saves and stops."""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
from absl import logging

from cxr import usage
from cxr.training import guards, profile, signals
from cxr.training.setup import Plan


class Loop(NamedTuple):
  """What `fit` calls, by a plan."""

  plan: Plan
  step: Callable  # (state, batch) -> (state, metrics)
  validate: Callable  # (state) -> scalars
  save: Callable  # (state, scalars) writes a checkpoint
  guard: guards.CollapseGuard
  log: Any  # a writer.Writer
  stopped: Callable  # (step) -> the signal to end there, or 0
  tracer: profile.Tracer = profile.Tracer(None)


def fit(loop: Loop, state: Any, batches: Iterable, *, start: int) -> None:
  """Trains from step `start` to the end of the plan.

  Metrics are read one log step late, so that the device never waits.

  Raises:
    guards.NotFinite: the weights are lost; they are not saved.
    signals.Stopped: a signal came; a checkpoint is written.
  """
  plan = loop.plan
  if start < plan.num_steps:
    logging.info(
      'Compiling the step: up to minutes on the first start, afterwards read '
      'from %s.',
      jax.config.jax_compilation_cache_dir or 'no compilation cache',
    )
  pending, recent = None, []
  clock = Clock(plan, start)
  for step, batch in zip(range(start, plan.num_steps), batches, strict=False):
    done = step + 1
    loop.tracer.before(step)
    with jax.profiler.StepTraceAnnotation('train', step_num=done):
      state, step_metrics = loop.step(state, batch)
    loop.tracer.after(done, state)
    stop = loop.stopped(done)
    recent.append((done, step_metrics))
    loop.log.advance()
    if step == start:
      # With the first films fetched. Given to the device, not yet computed.
      logging.info('First step on its way after %.1f s.', clock.restart(start))
    validates = done % plan.validate_every == 0 or done == plan.num_steps
    logs = done % plan.log_every == 0 or done == plan.num_steps
    if pending is not None and (logs or validates or stop):
      write_metrics(loop.log, *pending)
      pending = None
    if logs:
      pending, recent = (done, recent, clock), []
    if validates:
      if pending is not None:
        write_metrics(loop.log, *pending)
        pending = None
      guards.check_finite(recent)
      recent = []
      since = time.monotonic()
      with jax.profiler.TraceAnnotation('validation'):
        values = loop.validate(state)
      seconds = {'val/seconds': time.monotonic() - since}
      epoch = {'epoch': done / plan.steps_per_epoch}
      loop.log.scalars(done, values | seconds | epoch)
      if loop.guard.collapsed(values):
        sentence = guards.describe_collapse(loop.guard, values, done)
        logging.error('Training stops: %s', sentence)
        return
      loop.save(state, values)
      clock.restart(done)
    if stop and done < plan.num_steps:
      if pending is not None:
        # The run that goes on does not write this step again.
        write_metrics(loop.log, *pending)
      if not validates:
        guards.check_finite(recent)
        loop.save(state, {})
      raise signals.Stopped(
        f'Stopped at step {done} of {plan.num_steps}; a checkpoint is '
        'written and the same command goes on from there.',
        stop,
      )


class Clock:
  """Measures films a second between moments at which the device had done as
  many steps as it was given."""

  def __init__(self, plan: Plan, step: int):
    self._plan = plan
    self._since, self._step = time.monotonic(), step

  def restart(self, step: int) -> float:
    """Counts anew from `step`; returns the seconds counted so far."""
    before, self._since = self._since, time.monotonic()
    self._step = step
    return self._since - before

  def __call__(self, step: int) -> dict[str, float]:
    """The scalars of a `step` whose metrics are on the host."""
    films = (step - self._step) * self._plan.batch_size
    values = {'epoch': step / self._plan.steps_per_epoch}
    return values | {'films_per_second': films / self.restart(step)}


def write_metrics(
  log: Any, step: int, steps: list[tuple[int, dict]], clock: Clock
) -> None:
  """Logs the metrics of `step`, the last of the steps since the log step
  before it, and checks them all. Raises guards.NotFinite."""
  values = {k: float(v) for k, v in jax.device_get(steps[-1][1]).items()}
  log.scalars(step, values | clock(step) | usage.gibibytes())
  guards.check_finite(steps)
