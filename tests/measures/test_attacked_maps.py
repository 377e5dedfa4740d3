"""Attacks on maps: a linear network's gradient map cannot be moved."""

import numpy as np
import pytest
from flax import linen as nn

from cxr.attribution import by_name
from cxr.measures import attacked_maps
from input_pipeline.findings import BOXED, FINDINGS
from tests.measures.made_subject import (
  SIZE,
  Linear,
  N,
  labels,
  make_subject,
  split,
  taken,
  weights,
)

EPSILON = 4.0
NOISE = f'noise {EPSILON:g}'


class Quadratic(Linear):
  """The gradient of its logits is the film, times weights."""

  @nn.compact
  def __call__(self, x, train=False, start='image'):
    logits = nn.Dense(len(FINDINGS), name='fc')(x.reshape(len(x), -1) ** 2 / 2)
    return logits, {'features': x}


@pytest.fixture(scope='module')
def film_splits():
  """Gray films with a box each: no attack of EPSILON clips a pixel."""
  image = np.random.default_rng(2).integers(100, 150, (N, SIZE, SIZE, 1))
  test = split('test', image, labels(*range(N)))
  boxes = np.tile([0.25, 0.25, 0.75, 0.75], (len(BOXED), 1))
  of_boxes = {'box': boxes, 'box_image': np.arange(len(BOXED))}
  return {'test': test._replace(**of_boxes, box_finding=np.arange(len(BOXED)))}


def attacked(film_splits, kernel, model=None, **options):
  options = {'sanity_films': 8, 'epsilons': (EPSILON,)} | options
  subject = make_subject(kernel, film_splits, **options)
  if model is not None:
    subject = subject._replace(model=model)
  return {
    (m.measure, m.condition): m.value for m in taken('map_attacks', subject)
  }


@pytest.mark.parametrize('devices', [1, 4])
def test_the_map_of_a_linear_network_stays_and_its_logit_falls(
  film_splits, devices
):
  kernel = weights()
  found = attacked(film_splits, kernel, mesh=devices)
  goals = [f'{goal}-20 {EPSILON:g}' for goal in attacked_maps.GOALS]
  for condition in (*goals, NOISE):
    value = found['attacked_map', condition]
    assert value.shape == (len(BOXED), len(BOXED))
    own = np.diagonal(value)
    np.testing.assert_allclose(own, 1)
    assert np.isnan(value).sum() == value.size - len(own)
    np.testing.assert_allclose(np.diagonal(found['attacked_top', condition]), 1)
    np.testing.assert_array_equal(
      found['attacked_iou', condition], found['attacked_iou', 'clean']
    )
  # Every pixel moves by epsilon against its weight.
  fallen = np.diagonal(found['attacked_logit', goals[2]])
  largest = EPSILON / 255 * np.abs(kernel).sum((0, 1))[: len(BOXED)]
  np.testing.assert_allclose(fallen, -largest, rtol=1e-4)
  for goal in goals[:2]:
    moved = found['attacked_logits', goal]
    assert np.nanmax(moved) <= 0.1 + 1e-4


def test_a_map_that_is_the_film_moves_farther_than_noise_moves_it(film_splits):
  found = attacked(
    film_splits, 0.01 + 0 * weights(), Quadratic(), map_attack_tolerance=0.05
  )
  away, mirror, _ = (f'{goal}-20 {EPSILON:g}' for goal in attacked_maps.GOALS)
  mean = lambda name, condition: np.nanmean(found[name, condition])
  for goal in (away, mirror):
    assert mean('attacked_map', goal) < mean('attacked_map', NOISE) - 0.01
    assert np.nanmax(found['attacked_logits', goal]) <= 0.05 + 1e-4
  assert mean('attacked_top', away) < mean('attacked_top', NOISE) - 0.1


def test_films_without_boxes_are_taken_by_their_labels(film_splits):
  test = film_splits['test']
  unboxed = test._replace(
    box=np.zeros((0, 4)),
    box_image=np.zeros(0, int),
    box_finding=np.zeros(0, int),
  )
  pairs = attacked_maps._pairs(
    make_subject(weights(), {'test': unboxed}, sanity_films=8)
  )
  assert pairs.film.tolist() == pairs.finding.tolist() == list(range(8))


def test_methods_that_are_not_attacked_are_named(film_splits, caplog):
  subject = make_subject(weights(), film_splits, methods=('rise',))
  caplog.set_level('INFO', logger='absl')
  assert taken('map_attacks', subject) == []
  assert 'Maps of rise are not attacked' in caplog.text
  assert set(attacked_maps.METHODS) <= set(by_name.METHODS)
