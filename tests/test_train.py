"""Decisions of the training loop that need no training."""

from configs import baseline, robust
from cxr import train


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
