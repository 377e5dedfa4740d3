"""What a run was made from."""

from cxr.reporting import part_origin


def test_a_finding_s_own_scalar_is_no_curve_of_the_training():
  """Its name may be anything: 'volume loss', say."""
  records = [
    {'step': step, 'train/loss': 1.0, 'val/auroc/volume loss': 0.5}
    for step in (1, 2)
  ]
  losses, aurocs, speed = part_origin.training(records).figures
  assert 'train/loss' in losses.picture
  assert 'volume' not in losses.picture
  assert aurocs is None and speed is None
