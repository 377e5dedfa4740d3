"""Insertion, deletion and ROAD, on a linear model: its maps are its weights."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from cxr.attribution import road, sanity
from cxr.localization import controls
from cxr.measures import faithfulness, measure_table
from input_pipeline.findings import BOXED
from tests.measures.made_subject import (
  SIZE,
  N,
  by_key,
  films,
  labels,
  make_subject,
  split,
  taken,
  weights,
)


def test_insertion_and_deletion_are_those_of_each_film_with_its_finding():
  subject = make_subject(
    weights(0.05), {'test': split('test', films(), labels(*[2] * N))}
  )
  subject.config.evaluate.sanity_films = 16  # two of each finding
  subject.config.evaluate.smooth = 0.0
  found = by_key(taken('faithfulness', subject))
  assert found.keys() == {
    (name, method, '')
    for name in ('insertion', 'deletion')
    for method in ('gradient', 'random')
  }
  image = np.float32(subject.test.image[[0, N - 1]]) / 255
  kernel = subject.variables['params']['fc']['kernel'][:, 2]
  for name, curve in (
    ('insertion', sanity.insertion),
    ('deletion', sanity.deletion),
  ):
    value = found[name, 'gradient', '']
    assert value.shape == (2, len(BOXED))
    assert np.isnan(np.delete(value, 2, axis=1)).all()
    for i in range(2):
      expected = curve(
        lambda x: jax.nn.sigmoid(x.ravel() @ kernel),
        jnp.asarray(image[i]),
        jnp.abs(kernel).reshape(SIZE, SIZE),
        num_steps=faithfulness.CURVE_STEPS,
      )
      assert value[i, 2] == pytest.approx(sanity.area(expected), abs=1e-5)


def test_road_is_the_probability_without_the_first_pixels():
  subject = make_subject(
    weights(0.05),
    {'test': split('test', films(), labels(*[2] * N))},
    sanity_films=8,  # one of each finding
    smooth=0.0,
  )
  found = by_key(taken('road', subject))
  names = 'road_morf', 'road_lerf', 'road'
  assert found.keys() == {
    (name, method, '') for name in names for method in ('gradient', 'random')
  }
  morf, lerf, road_value = (found[name, 'gradient', ''] for name in names)
  np.testing.assert_array_equal(road_value, lerf - morf)
  assert morf.shape == (1, len(BOXED))
  assert np.isnan(np.delete(morf, 2, axis=1)).all()
  film = np.float32(subject.test.image[0]) / 255
  kernel = np.asarray(subject.variables['params']['fc']['kernel'])[:, 2]
  seed = controls.film_seed(
    str(subject.test.image_name[0]), 2, subject.config.seed
  )
  expected = []
  for i, share in enumerate(faithfulness.SHARES):
    left = road.remove(
      np.random.default_rng([*seed, i]),
      film,
      np.abs(kernel).reshape(SIZE, SIZE),
      share,
      most_relevant=True,
    )
    expected.append(1 / (1 + np.exp(-left.ravel() @ kernel)))
  assert morf[0, 2] == pytest.approx(np.mean(expected), abs=1e-5)


def test_road_prefers_the_map_that_the_network_goes_by():
  """Only a bright square counts, and the gradient says where it is."""
  kernel = np.zeros((SIZE, SIZE, 14))
  kernel[10:20, 10:20] = 0.1
  image = np.full((N, SIZE, SIZE, 1), 50)
  image[:, 10:20, 10:20] = 250
  subject = make_subject(
    kernel, {'test': split('test', image, labels(*[2] * N))}, sanity_films=8
  )
  found = taken('road', subject)
  value = measure_table.estimates(found, num_resamples=10, seed=0)
  of = lambda name, method: value[name][method]['']['mean']['value']
  assert of('road_morf', 'gradient') < of('road_morf', 'random') - 0.05
  assert of('road', 'gradient') > of('road', 'random') + 0.05
