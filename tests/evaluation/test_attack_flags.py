"""Flags of attacks on models whose answer is known."""

import numpy as np
import pytest

from cxr.evaluation import attack_flags
from tests.made_row_sums import EPSILON, make


def flags_of(subject):
  return {flag['name']: flag for flag in attack_flags.run(subject)}


def test_a_linear_model_passes_every_check():
  found = flags_of(make())
  assert found.keys() == {
    'randomized_output',
    'zero_gradient',
    'black_box_wins',
    'not_converged',
  }
  assert not any(flag['raised'] for flag in found.values())
  assert found['not_converged']['attack'] == 'pgd-10'
  assert found['black_box_wins']['attack'] == 'pgd-100'
  assert found['black_box_wins']['epsilon'] == EPSILON
  assert all(flag['images'] == 6 for flag in found.values())


def test_a_fall_within_chance_is_no_lack_of_convergence():
  rng = np.random.default_rng(0)
  label = (rng.random((16, 3)) < 0.5).astype(float)
  short = rng.normal(size=label.shape) + label
  long = short + 0.2 * rng.normal(size=label.shape)
  fall, (low, high) = attack_flags._fall(short, long, label, np.arange(16))
  assert low < fall < high and low < 0.01
  # Much stronger, and it is seen on 200 films.
  label = (rng.random((200, 3)) < 0.5).astype(float)
  short = rng.normal(size=label.shape) + label
  fall, (low, high) = attack_flags._fall(
    short, short - label, label, np.arange(200)
  )
  assert fall == pytest.approx(0.26, abs=0.05) and low > 0.1


def test_a_model_without_gradients_is_found_out():
  """Steps of 4/255 hide the gradient; epsilon is larger than a step."""
  found = flags_of(make(grain=4.0))
  assert found['zero_gradient']['value'] == 1
  # Of the six, two films are so sure that no loss moves.
  assert found['black_box_wins']['value'] == pytest.approx(4 / 6)
  assert found['black_box_wins']['raised']
  assert not found['randomized_output']['raised']


def figure(value, images=100, width=0.02):
  if value is None:
    return {'value': None, 'low': None, 'high': None, 'images': images}
  return {
    'value': value,
    'low': value - width,
    'high': value + width,
    'images': images,
  }


def entry(epsilon, value, attack='pgd-10', **options):
  return {
    'attack': attack,
    'epsilon': epsilon,
    'auroc': {'mean': figure(value)},
    **options,
  }


def test_larger_epsilon_is_held_against_the_interval():
  falling = [entry(1.0, 0.5), entry(4.0, 0.1), entry(2.0, 0.3)]
  rising = [entry(1.0, 0.5, 'apgd-10'), entry(2.0, 0.53, 'apgd-10')]
  other = [entry(2.0, 0.9, split='test_without_shortcut')]
  flags = attack_flags.of_estimates(falling + rising + other)
  assert [(f['attack'], f['raised']) for f in flags] == [
    ('pgd-10', False),
    ('apgd-10', True),
  ]
  assert flags[1]['value'] == pytest.approx(0.03)
  assert flags[1]['low'] == pytest.approx(0.01)
  # The same films without the attack are a point, too.
  falling[0]['clean'] = figure(0.4)
  (flag,) = attack_flags.of_estimates(falling)
  assert flag['raised'] and flag['value'] == pytest.approx(0.1)
  assert attack_flags.of_estimates([entry(1.0, None)]) == []


def test_a_withheld_interval_raises_no_flag():
  """More than 5 % of resamples were undefined: value, but no interval."""
  withheld = entry(4.0, 0.9)
  withheld['auroc']['mean'] |= {'low': None, 'high': None}
  assert attack_flags.of_estimates([withheld]) == []
  clean = {'clean': withheld['auroc']['mean']}
  (flag,) = attack_flags.of_estimates(
    [entry(1.0, 0.5, **clean), withheld, entry(2.0, 0.3)]
  )
  assert not flag['raised'] and flag['epsilon'] == 2.0


def test_an_attack_that_changes_nothing_is_flagged():
  def flags(change, unmoved=0):
    effect = {'clean': figure(0.5), 'change': change, 'unmoved': unmoved}
    found = attack_flags.of_estimates([entry(1.0, 0.5, **effect)])
    return {flag['name']: flag for flag in found}

  same = flags(figure(0.0, width=0.0004))['no_effect']
  assert same['raised'] and same['attack'] == 'pgd-10' and same['count'] == 0
  assert 'no sign of robustness' in same['why']
  assert not flags(figure(-0.03))['no_effect']['raised']
  # Few films may hide a fall.
  assert not flags(figure(0.0))['no_effect']['raised']
  assert flags(figure(None), unmoved=100)['no_effect']['raised']
