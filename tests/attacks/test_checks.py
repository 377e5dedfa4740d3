"""Audits and flags of an evaluation under attack, by hand."""

import functools

import jax
import numpy as np
import pytest
from scipy import stats

from cxr.attacks import checks


def extremes(image, adversarial, **options):
  fn = jax.jit(functools.partial(checks.extremes, **options))
  return jax.device_get(fn(image, adversarial))


def test_audit_measures():
  image = np.full((3, 2, 2, 1), 0.5, np.float32)
  adversarial = image.copy()
  adversarial[0, 0, 0] += 0.25
  adversarial[1] -= 0.125
  first = extremes(image, adversarial)
  audit = checks.audit([first], epsilon=0.2)
  assert audit == {
    'max_perturbation': 0.25,
    'excess': pytest.approx(0.05),
    'nan': 0,
    'min': 0.375,
    'max': 0.75,
  }
  broken = adversarial.copy()
  broken[0, 1, 1] = np.nan
  second = extremes(image, broken, norm='l2')
  of_second = checks.audit([second], epsilon=0.5)
  # The film with a NaN does not count: the next one moved by 4 x 1/8.
  assert of_second['max_perturbation'] == 0.25 and of_second['excess'] == 0
  assert of_second['nan'] == 1 and of_second['max'] == 0.75
  merged = checks.audit([first, second], epsilon=0.2)
  assert merged['nan'] == 1 and merged['excess'] == audit['excess']
  nothing = extremes(image[:1], broken[:1] * np.nan)
  empty = checks.audit([nothing], epsilon=1.0)
  assert empty['max_perturbation'] is None and empty['min'] is None
  assert checks.audit([nothing, first], epsilon=1.0)['max'] == 0.75
  assert checks.audit([], epsilon=1.0) == empty | {'nan': 0}
  assert checks.describe(merged) == (
    'max perturbation: 0.25000, nan in tensor: 1, max: 0.75000, min: 0.37500'
  )
  assert 'max perturbation: none, nan in tensor: 4' in checks.describe(empty)
  with pytest.raises(ValueError, match="'l1'"):
    checks.extremes(image, image, norm='l1')


def test_flags():
  logits = np.zeros((3, 4, 2))
  assert not checks.randomized_output(logits)['raised']
  logits[1, 2, 0] = 0.01
  flag = checks.randomized_output(logits)
  assert flag['raised'] and flag['value'] == pytest.approx(0.01)

  gradient = np.ones((10, 2, 2, 1))
  assert checks.zero_gradient(gradient)['value'] == 0
  gradient[0], gradient[1, 0], gradient[2] = 0, np.nan, 1e-20
  flag = checks.zero_gradient(gradient)
  assert flag['raised'] and flag['value'] == pytest.approx(0.3)

  white = np.array([1.0, 2, 3, 4] * 25)
  black = np.array([1.0, 2.5, 0, 4.0001] * 25)
  flag = checks.black_box_wins(white, black)
  assert flag['raised'] and flag['value'] == 0.25 and flag['count'] == 25
  assert not checks.black_box_wins(white, white)['raised']

  assert checks.not_converged(0.05, (0.02, 0.08))['raised']
  assert not checks.not_converged(0.05, (-0.02, 0.12))['raised']
  unknown = checks.not_converged(np.nan, (np.nan, np.nan))
  assert not unknown['raised'] and unknown['value'] is None

  films = {'unmoved': 3, 'num_films': 16}
  assert checks.no_effect(0.002, (-0.0004, 0.004), **films)['raised']
  assert not checks.no_effect(-0.02, (-0.04, 0.0), **films)['raised']
  unknown = checks.no_effect(np.nan, (np.nan, np.nan), **films)
  assert not unknown['raised'] and unknown['count'] == 3
  films = {'unmoved': 16, 'num_films': 16}
  assert checks.no_effect(np.nan, (np.nan, np.nan), **films)['raised']

  epsilon = np.array([4.0, 0, 1, 2])
  figure = np.array([0.3, 0.9, 0.5, 0.2])
  flag = checks.larger_epsilon_weaker(epsilon, figure, half_width=0.05)
  assert (flag['low'], flag['high']) == pytest.approx((0.05, 0.15))
  assert flag['raised'] and flag['value'] == pytest.approx(0.1)
  falling = np.array([0.1, 0.9, 0.5, 0.2])
  assert not checks.larger_epsilon_weaker(epsilon, falling, half_width=0)[
    'raised'
  ]


def test_one_film_of_sixteen_raises_nothing():
  """1 of 16 is above the limit of 5 %; its interval reaches to .2 %."""
  white = np.zeros(16)
  black = np.zeros(16)
  black[3] = 1
  flag = checks.black_box_wins(white, black)
  exact = stats.binomtest(1, 16).proportion_ci(method='exact')
  assert flag['value'] > flag['limit'] and not flag['raised']
  assert (flag['count'], flag['low'], flag['high']) == (1, *exact)


def test_a_film_with_two_outputs_is_a_proof():
  logits = np.zeros((2, 16, 3))
  logits[1, 5, 2] = 1
  flag = checks.randomized_output(logits)
  assert flag['raised'] and flag['count'] == 1
