"""Published results, and when they may stand beside others."""

import numpy as np
import pytest

from cxr.reporting import published
from input_pipeline.findings import FINDINGS


def test_wangs_means():
  # Their own tables' macro averages.
  for score, mean in {
    'iobb@0.1': 0.6811,
    'iobb@0.25': 0.5457,
    'iobb@0.5': 0.4078,
    'iobb@0.75': 0.2752,
    'iobb@0.9': 0.2085,
  }.items():
    assert published.WANG_LOCALIZATION['mean'][score] == pytest.approx(
      mean, abs=1e-4
    )
  of_findings = [published.WANG_AUROC[f] for f in FINDINGS]
  assert np.mean(of_findings) == pytest.approx(
    published.WANG_AUROC['mean'], abs=1e-4
  )


def test_caveat_knows_the_official_list():
  assert 'same official test list' in published.caveat(25596, 984)
  for images, boxes in ((1987, 984), (25596, 700), (None, 984)):
    assert 'another test set' in published.caveat(images, boxes)
