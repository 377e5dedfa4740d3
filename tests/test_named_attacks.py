"""The attacks of a config: their labels, and one program for every epsilon."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxr import named_attacks
from tests.made_row_sums import EPSILON, SIZE, K, make


def test_labels_tell_attacks_apart():
  config = make().config
  label = lambda name, *steps: named_attacks.label(config, name, *steps)
  assert label('pgd') == 'pgd-10'
  assert label('pgd', 100) == 'pgd-100'
  assert label('square') == 'square-1000'
  assert label('fgsm') == 'fgsm'
  config.evaluate.restarts = 3
  assert label('pgd') == 'pgd-10x3'
  assert label('fgsm') == 'fgsm'  # it has one start
  config.evaluate.norm = 'l2'
  assert label('apgd') == 'apgd-10x3-l2'
  assert label('fgsm') == 'fgsm-l2'
  assert named_attacks.middle_epsilon(config) == EPSILON


@pytest.mark.parametrize('name', ['pgd', 'square'])
def test_named_attacks_take_every_epsilon_in_one_program(name):
  subject = make()
  subject.config.evaluate.num_steps = subject.config.evaluate.queries = 2
  attack = named_attacks.make(subject, name)
  image = jnp.full((4, SIZE, SIZE, 1), 0.5)
  label = jnp.ones((4, K))
  for epsilon in (0.01, 0.02):
    found = attack({}, jax.random.key(0), image, label, epsilon=epsilon)
    moved = np.abs(np.asarray(found - image)).max()
    assert epsilon / 2 < moved <= epsilon + 1e-7
