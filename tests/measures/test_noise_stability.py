"""Stability of maps: what linear and quadratic networks have is known."""

import numpy as np
import pytest
from flax import linen as nn

from cxr.attribution import stability
from input_pipeline.findings import BOXED, FINDINGS
from tests.measures.made_subject import (
  SIZE,
  Linear,
  N,
  by_key,
  labels,
  make_subject,
  split,
  taken,
  weights,
)


def test_a_map_that_ignores_the_film_is_stable():
  (found,) = taken('stability', make_subject(weights(), sanity_films=3))
  assert found.key == ('stability', 'gradient', '')
  np.testing.assert_allclose(found.value, np.ones((3, len(BOXED))))


class Quadratic(Linear):
  """The gradient of its logits is the film, times weights."""

  @nn.compact
  def __call__(self, x, train=False, start='image'):
    logits = nn.Dense(len(FINDINGS), name='fc')(x.reshape(len(x), -1) ** 2 / 2)
    return logits, {'features': x}


@pytest.fixture
def splits():
  """Films that noise neither darkens to a gray level nor clips."""
  image = np.random.default_rng(2).integers(100, 150, (N, SIZE, SIZE, 1))
  return {
    'test': split('test', image, labels(*range(N))),
    'validation': split('validation', image, labels(*range(N))),
  }


def test_a_gradient_that_is_the_film_moves_as_the_film(splits):
  subject = make_subject(weights(1e-3), splits, sanity_films=3)
  found = by_key(
    taken('relative_stability', subject._replace(model=Quadratic()))
  )
  assert list(found) == [
    (f'relative_{name}_stability', 'gradient', '')
    for name in ('input', 'output', 'representation')
  ]
  by_input, by_output, by_features = found.values()
  assert by_input.shape == (3, len(BOXED))
  # log10 of 1, but where every copy of a film changes the answer.
  defined = ~np.isnan(by_input)
  assert defined.mean() > 0.5
  np.testing.assert_allclose(by_input[defined], 0, atol=1e-3)
  # The logits and the mean of the film hardly move.
  assert (by_output[defined] > 0).all()
  assert (by_features[defined] > 0).all()


def test_a_map_that_never_moves_has_the_smallest_change(splits):
  found = by_key(
    taken('relative_stability', make_subject(weights(), splits, sanity_films=3))
  )
  value = found['relative_input_stability', 'gradient', '']
  film = np.sqrt(SIZE**2 * (0.01 / (125 / 255)) ** 2)
  expected = np.log10(stability.SMALLEST / film)
  # As above, but where every copy of a film changes the answer.
  defined = ~np.isnan(value)
  assert value.shape == (3, len(BOXED)) and defined.mean() > 0.5
  np.testing.assert_allclose(value[defined], expected, atol=0.1)
