"""Numbers and names as text."""

import pytest

from cxr.reporting import wording


@pytest.mark.parametrize(
  ('estimate', 'text'),
  [
    ({'value': 0.8123, 'low': 0.79, 'high': 0.831}, '0.812 (0.790 to 0.831)'),
    ({'value': 0.5, 'low': None, 'high': None}, '0.500'),
    ({'value': None}, '–'),
    ({'value': float('nan')}, '–'),
    (None, '–'),
  ],
)
def test_with_interval(estimate, text):
  assert wording.with_interval(estimate) == text


def test_p_text():
  assert wording.p_text(0.0004) == '< 0.001'
  assert wording.p_text(0.0123) == '0.012'
  assert wording.p_text(None) == '–'


def test_the_mean_of_one_finding_is_that_finding_s():
  one = {'mean': {}, 'Mass': {}}
  assert wording.mean_of('AUROC', one) == 'AUROC of Mass'
  assert wording.mean_of('AUROC', one | {'Edema': {}}) == 'mean AUROC'
