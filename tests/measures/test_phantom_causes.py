"""Causes of a finding on films whose causes are known."""

import numpy as np
import pytest

from input_pipeline.findings import BOXED, FINDINGS
from input_pipeline.phantom import draw
from tests.measures.made_subject import (
  SIZE,
  by_key,
  caused,
  make_subject,
  taken,
  weights,
)


def test_effects_of_known_causes():
  made = caused()
  kernel = weights()
  found = by_key(taken('causes', make_subject(kernel, made.splits)))
  finding = [0, 1, 1, 12]
  effects = {}
  for cause, added in (('lesion', made.lesion), ('shortcut', made.grating)):
    value = found['effect', '', cause]
    # A film without a cause, or with two findings, is left out.
    assert value.shape == (4, len(FINDINGS))
    effects[cause] = np.einsum('bhwc,hwk->bk', added / 255, kernel)[
      np.arange(4), finding
    ]
    np.testing.assert_allclose(
      value[np.arange(4), finding], effects[cause], atol=1e-4
    )
    assert np.isnan(value).sum() == 4 * (len(FINDINGS) - 1)
  lesion, shortcut = np.abs(list(effects.values()))
  share = lesion / (lesion + shortcut)
  by_logits = found['lesion_share', '', ''][np.arange(4), finding]
  np.testing.assert_allclose(by_logits, share, rtol=1e-3)
  # The model is linear: its gradient knows the effects. Of boxed findings only.
  by_map = found['lesion_share', 'gradient', '']
  assert by_map.shape == (3, len(BOXED))
  np.testing.assert_allclose(
    by_map[np.arange(3), finding[:3]], share[:3], rtol=1e-3
  )


def test_maps_on_the_lesion_and_on_the_shortcut():
  made = caused()
  kernel = weights()
  kernel[..., 0] = 3 * draw.grating(FINDINGS[0], SIZE, phase=0.3)
  kernel[..., 1] = 0
  kernel[5:15, 20:30, 1], kernel[0, 0, 1] = 1, 25
  found = by_key(taken('causes', make_subject(kernel, made.splits)))
  on_lesion = found['on_lesion', 'gradient', '']
  np.testing.assert_allclose(on_lesion[1:, 1], 0.8)
  area = found['on_lesion', 'uniform', '']
  np.testing.assert_allclose(area[[0, 1], [0, 1]], 100 / SIZE**2)
  on_shortcut = found['on_shortcut', 'gradient', '']
  assert on_shortcut[0, 0] == pytest.approx(1)
  assert on_shortcut[1, 1] < 0.1


def test_films_of_unknown_causes_have_none():
  made = caused()
  test = made.splits['test']
  assert taken('causes', make_subject(weights(), {'test': test})) == []
  nothing = test._replace(label=np.zeros_like(test.label))
  splits = made.splits | {'test': nothing}
  assert taken('causes', make_subject(weights(), splits)) == []
  assert taken('faithfulness', make_subject(weights(), splits)) == []
