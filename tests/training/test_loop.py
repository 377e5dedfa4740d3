"""The loop's order of steps, validations, checkpoints and ends."""

import math

import pytest

from configs import baseline
from cxr.training import guards, loop, setup, signals

NAME = 'val/robust_auroc'
PLAN = setup.Plan(
  num_steps=16, steps_per_epoch=8, validate_every=8, log_every=100, batch_size=4
)


class Log:
  """A writer that writes nothing."""

  def advance(self):
    pass

  def scalars(self, step, values):
    pass


def step(state, batch):
  """State i is the state after i steps."""
  del batch
  return state + 1, {'train/loss': 0.5, 'train/grad_norm': 1.0}


def fit(**parts):
  """Runs the loop with some parts of a test; the states that were saved."""
  saved = []
  defaults = {
    'plan': PLAN,
    'step': step,
    'validate': lambda state: {},
    'save': lambda state, values: saved.append(state),
    'guard': guards.CollapseGuard(0.1, ''),
    'log': Log(),
    'stopped': lambda step: 0,
  }
  loop.fit(loop.Loop(**defaults | parts), 0, range(100), start=0)
  return saved


@pytest.mark.parametrize('collapses', [False, True])
def test_a_collapsed_run_stops_and_keeps_the_last_sound_state(collapses):
  aurocs = {2: 0.7, 4: 0.2 if collapses else 0.65, 6: 0.7}
  saved = fit(
    plan=PLAN._replace(num_steps=6, validate_every=2),
    validate=lambda state: {NAME: aurocs[state]},
  )
  assert saved == ([2] if collapses else [2, 4, 6])


def test_the_rate_counts_steps_that_the_device_has_done(monkeypatch):
  plan = setup.make_plan(baseline.get_config('smoke').train, num_films=64)
  now = iter([0.0, 10.0, 14.0, 16.0])
  monkeypatch.setattr(loop.time, 'monotonic', lambda: next(now))
  clock = loop.Clock(plan, 0)
  assert clock.restart(0) == 10  # of compiling, which is no rate
  assert clock(2) == {'epoch': 0.5, 'films_per_second': 2 * 16 / 4}
  assert clock(3) == {'epoch': 0.75, 'films_per_second': 1 * 16 / 2}


def test_metrics_are_read_one_log_step_late(monkeypatch):
  given, read = [], []

  def counted(state, batch):
    given.append(batch)
    return step(state, batch)

  # What is read, and how many steps the device had been given by then.
  monkeypatch.setattr(
    loop,
    'write_metrics',
    lambda log, step, steps, clock: read.append((step, len(given))),
  )
  plan = PLAN._replace(num_steps=12, validate_every=8, log_every=3)
  fit(plan=plan, step=counted)
  # At a validation, which waits in any case, nothing is left over.
  assert read == [(3, 6), (6, 8), (9, 12), (12, 12)]


def fit_with_bad(bad_step, *, stops=False, plan=PLAN, **bad):
  """Runs the loop where the metrics of one step are `bad`.

  Returns the states saved, and the step and name that NotFinite gave.
  """
  saved = []

  def bad_at(state, batch):
    done, metrics = step(state, batch)
    if done == bad_step:
      metrics |= {f'train/{name}': value for name, value in bad.items()}
    return done, metrics

  try:
    fit(
      plan=plan,
      step=bad_at,
      save=lambda state, values: saved.append(state),
      stopped=lambda done: 15 * stops,
    )
  except signals.Stopped:
    pass
  except guards.NotFinite as e:
    return saved, (e.step, e.name)
  return saved, None


def test_sound_steps_are_kept():
  assert fit_with_bad(0) == ([8, 16], None)


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('name', ['loss', 'grad_norm'])
@pytest.mark.parametrize('log_every', [1, 3, 100])
@pytest.mark.parametrize('step', [1, 5, 8, 9, 15, 16])
def test_no_checkpoint_is_written_after_a_step_that_is_not_finite(
  name, value, step, log_every
):
  plan = PLAN._replace(log_every=log_every)
  saved, raised = fit_with_bad(step, plan=plan, **{name: value})
  assert raised == (step, name)
  assert saved == [8] * (step > 8)


def test_a_signal_saves_no_unsound_weights():
  assert fit_with_bad(1, stops=True, loss=math.nan) == ([], (1, 'loss'))
  assert fit_with_bad(2, stops=True, loss=math.nan) == ([1], None)
