"""Measures of maps, on a linear model whose maps are its weights."""

import numpy as np
import pytest
from flax import linen as nn

from cxr.measures import map_sanity, measure_table
from input_pipeline.findings import BOXED, FINDINGS
from tests.measures.made_subject import (
  SIZE,
  Linear,
  N,
  by_key,
  films,
  labels,
  make_subject,
  split,
  taken,
  weights,
)

# Maps as they are.


def test_one_map_for_every_film_is_the_same_map_and_a_warning():
  found = taken('maps', make_subject(weights()))
  assert found[1].image.tolist() == [f'{i:03d}.png' for i in range(N)]
  np.testing.assert_allclose(
    by_key(found)['sameness', 'gradient', ''], np.ones((N, len(BOXED)))
  )
  figures = measure_table.estimates(found, num_resamples=10, seed=0)
  (sentence,) = map_sanity.warnings(figures)
  assert sentence.startswith('gradient is nearly one map for every film')
  assert all(finding in sentence for finding in BOXED)
  figures['sameness']['gradient'][''] = dict.fromkeys(BOXED, {'value': 0.9})
  assert not map_sanity.warnings(figures)


def test_share_outside_the_body():
  kernel = np.zeros((SIZE, SIZE, len(FINDINGS)))
  kernel[10:20, 10:20] = -2  # in the body
  kernel[:2, :5, 0] = 30  # in the air
  kernel[:, :, 1] = 0
  found = by_key(taken('maps', make_subject(kernel)))
  value = found['outside_body', 'gradient', '']
  np.testing.assert_allclose(value[:, 0], 0.6)
  assert np.isnan(value[:, 1]).all()
  assert not value[:, 2:].any()
  uniform = found['outside_body', 'uniform', '']
  np.testing.assert_allclose(uniform, 1 - (32 / SIZE) ** 2, atol=0.03)


def test_the_same_on_several_devices_and_in_other_batches():
  kernel, splits = weights(), {'test': split('test', films(), labels(*[0] * N))}
  one, four = (
    by_key(taken('maps', make_subject(kernel, splits, **options)))
    for options in ({'mesh': 1, 'batch_size': 5}, {'mesh': 4})
  )
  for key, value in one.items():
    np.testing.assert_allclose(value, four[key], rtol=1e-5)


@pytest.mark.parametrize(('steps', 'complete'), [(1, False), (64, True)])
def test_completeness_gap_of_integrated_gradients(steps, complete):
  class Square(Linear):
    @nn.compact
    def __call__(self, x, train=False, start='image'):
      logits = nn.Dense(len(FINDINGS), name='fc')(x.reshape(len(x), -1))
      return logits**4, {'features': x}

  subject = make_subject(
    weights(),
    methods=('integrated_gradients',),
    integration_steps=steps,
    measure_films=2,
  )
  found = taken('maps', subject._replace(model=Square()))
  gap = by_key(found)['completeness_gap', 'integrated_gradients', '']
  assert gap.shape == (2, 1)
  # One step of Gauss-Legendre: 4 (1/2)^3 = 1/2 of the change.
  np.testing.assert_allclose(gap, 0.0 if complete else 0.5, atol=1e-4)
  warned = [
    'integration_steps' in sentence
    for sentence in map_sanity.warnings(
      measure_table.estimates(found, num_resamples=10, seed=0)
    )
  ]
  assert any(warned) != complete


def test_sparsity_of_one_pixel_and_of_all():
  kernel = np.zeros((SIZE, SIZE, len(FINDINGS)))
  kernel[10, 10, 0] = -2
  kernel[:, :, 1] = 3
  found = by_key(taken('maps', make_subject(kernel)))
  value = found['sparsity', 'gradient', '']
  np.testing.assert_allclose(value[:, 0], 1 - 1 / SIZE**2)
  np.testing.assert_allclose(value[:, 1], 0, atol=1e-9)
  assert np.isnan(value[:, 2:]).all()


# Many maps of a film.


def test_shuffled_weights_leave_nothing_of_the_map():
  subject = make_subject(weights(), sanity_films=3)
  (found,) = taken('randomisation', subject)
  assert found.key == ('randomisation', 'gradient', 'fc')
  assert found.value.shape == (3, len(BOXED))
  assert np.abs(found.value).max() < 0.1
