"""What a validation says of the attack that it measures under."""

import numpy as np

from cxr.training import validation


def test_an_attack_that_leaves_auroc_as_it_was_is_told():
  label = np.array([[0, 1], [0, 1], [1, 0], [1, np.nan]])
  clean = np.array([[0.1, 0.2], [0.4, 0.3], [0.3, 0.1], [0.6, 0.5]])
  text = validation.describe_no_effect(clean, clean + 0.01, label)
  assert 'on 4 validation films as it is without it (0.875 for 0.875)' in text
  assert 'config.attack.epsilon, in 1/255, may be too small' in text
  assert not validation.describe_no_effect(clean, -clean, label)
  unknown = np.full((4, 2), np.nan)
  assert not validation.describe_no_effect(clean, clean, unknown)
