"""Catastrophic overfitting is seen in what validations measured."""

import json

from configs import baseline, robust
from cxr.training import guards

NAME = 'val/robust_auroc'


def guard(tmp_path, tolerance=0.1, records=(), **options):
  path = tmp_path / 'train.jsonl'
  path.write_text(''.join(json.dumps(r) + '\n' for r in records))
  return guards.CollapseGuard(tolerance, str(path), **options)


def test_a_fall_from_the_best_by_more_than_the_tolerance(tmp_path):
  watch = guard(tmp_path)
  assert not watch.collapsed({NAME: 0.5})
  assert not watch.collapsed({NAME: 0.7})
  assert not watch.collapsed({NAME: 0.61})
  assert watch.best == 0.7
  assert watch.collapsed({NAME: 0.59})


def test_a_slow_slide_is_held_against_the_best(tmp_path):
  watch = guard(tmp_path)
  collapsed = [watch.collapsed({NAME: v}) for v in (0.7, 0.66, 0.62, 0.58)]
  assert collapsed == [False, False, False, True]


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


def test_only_training_against_an_attack_is_stopped_by_a_collapse(tmp_path):
  path = str(tmp_path / 'train.jsonl')
  values = [{'val/robust_auroc': v} for v in (0.8, 0.7, 0.6)]
  stopped = {}
  for module in (baseline, robust):
    config = module.get_config()
    watch = guards.CollapseGuard(guards.collapse_tolerance(config.attack), path)
    stopped[config.name] = [watch.collapsed(v) for v in values]
  # Of a baseline it falls as the net finds what is predictive, not robust.
  assert stopped == {
    'baseline': [False, False, False],
    'robust': [False, False, True],
  }


def test_a_collapse_is_found_behind_the_last_checkpoint(tmp_path):
  config = robust.get_config()
  path = tmp_path / 'train.jsonl'
  records = [{'step': 2, NAME: 0.7}, {'step': 4, NAME: 0.8}]
  for collapses, value in ((False, 0.7), (True, 0.3)):
    lines = [*records, {'step': 6, NAME: value}]
    path.write_text(''.join(json.dumps(r) + '\n' for r in lines))
    text = guards.find_collapse(config, str(path), 4)
    assert bool(text) == collapses
  assert 'fell from 0.800 to 0.300 at step 6' in text
  assert 'another --workdir with more attack.num_steps' in text
  # A baseline is expected to fall.
  assert not guards.find_collapse(baseline.get_config(), str(path), 4)
