"""Decisions of the training loop that need no training."""

import json
import os
import signal

import pytest

from configs import baseline, robust
from cxr.training import train

NAME = 'val/robust_auroc'


def guard(tmp_path, tolerance=0.1, records=(), **options):
  path = tmp_path / 'train.jsonl'
  path.write_text(''.join(json.dumps(r) + '\n' for r in records))
  return train.CollapseGuard(tolerance, str(path), **options)


def test_a_fall_from_the_best_by_more_than_the_tolerance(tmp_path):
  watch = guard(tmp_path)
  assert not watch.collapsed({NAME: 0.5})
  assert not watch.collapsed({NAME: 0.7})
  assert not watch.collapsed({NAME: 0.61})
  assert watch.best == 0.7
  assert watch.collapsed({NAME: 0.59})


def test_a_slow_slide_is_held_against_the_best(tmp_path):
  watch = guard(tmp_path)
  found = [watch.collapsed({NAME: v}) for v in (0.7, 0.66, 0.62, 0.58)]
  assert found == [False, False, False, True]


def test_unwatched_or_without_tolerance_nothing_collapses(tmp_path):
  watch = guard(tmp_path)
  watch.collapsed({NAME: 0.9})
  assert not watch.collapsed({'val/auroc': 0.1})
  watch = guard(tmp_path, tolerance=0.0)
  watch.collapsed({NAME: 0.9})
  assert not watch.collapsed({NAME: 0.1})


def test_a_continued_run_remembers_its_best(tmp_path):
  records = [
    {'step': 1, NAME: 0.6},
    {'step': 2, 'train/loss': 0.5},
    {'step': 3, NAME: 0.8},
    {'step': 4, NAME: 0.75},
    {'step': 9, NAME: 0.95},  # behind the checkpoint that it goes on from
  ]
  watch = guard(tmp_path, records=records, step=4)
  assert watch.best == 0.8
  assert watch.collapsed({NAME: 0.65})


class Log:
  def advance(self):
    pass

  def scalars(self, step, values):
    pass


@pytest.mark.parametrize('collapses', [False, True])
def test_a_collapsed_run_stops_and_keeps_the_last_sound_state(
  tmp_path, collapses
):
  """State i is the state after i steps; validation every second step."""
  aurocs = {2: 0.7, 4: 0.2 if collapses else 0.65, 6: 0.7}
  saved = []
  plan = train.Plan(
    num_steps=6,
    steps_per_epoch=2.0,
    validate_every=2,
    log_every=100,
    batch_size=1,
  )
  train.fit(
    0,
    lambda state, batch: (
      state + 1,
      {'train/loss': 1.0, 'train/grad_norm': 1.0},
    ),
    iter([None] * 6),
    plan,
    start=0,
    validate=lambda state: {NAME: aurocs[state]},
    guard=guard(tmp_path),
    save=lambda state, values: saved.append(state),
    log=Log(),
    stopped=lambda step: False,
  )
  assert saved == ([2] if collapses else [2, 4, 6])


def test_only_training_against_an_attack_is_stopped_by_a_collapse(tmp_path):
  path = str(tmp_path / 'train.jsonl')
  values = [{'val/robust_auroc': v} for v in (0.8, 0.7, 0.6)]
  stopped = {}
  for module in (baseline, robust):
    config = module.get_config()
    guard = train.CollapseGuard(train.collapse_tolerance(config.attack), path)
    stopped[config.name] = [guard.collapsed(v) for v in values]
  # Of a baseline it falls as the net finds what is predictive, not robust.
  assert stopped == {
    'baseline': [False, False, False],
    'robust': [False, False, True],
  }


def test_the_rate_counts_steps_that_the_device_has_done(monkeypatch):
  plan = train.make_plan(baseline.get_config('smoke').train, num_films=64)
  now = iter([0.0, 10.0, 14.0, 16.0])
  monkeypatch.setattr(train.time, 'monotonic', lambda: next(now))
  clock = train.Clock(plan, 0)
  assert clock.restart(0) == 10  # of compiling, which is no rate
  assert clock(2) == {'epoch': 0.5, 'films_per_second': 2 * 16 / 4}
  assert clock(3) == {'epoch': 0.75, 'films_per_second': 1 * 16 / 2}


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_behind_the_last_step_still_stops(number):
  handler = signal.getsignal(number)
  with pytest.raises(train.Stopped) as stopped, train.catch_signals() as asked:
    assert not asked(1)
    os.kill(os.getpid(), number)
  assert stopped.value.number == number
  assert signal.getsignal(number) == handler
