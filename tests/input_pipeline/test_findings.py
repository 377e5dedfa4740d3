"""Names of findings."""

import pytest

from input_pipeline import findings


def test_order_is_chexnets():
  assert len(findings.FINDINGS) == len(set(findings.FINDINGS)) == 14
  assert findings.BOXED[0] == 'Atelectasis'
  assert findings.BOXED[-1] == 'Pneumothorax'
  assert len(findings.BOXED) == 8


@pytest.mark.parametrize('name', findings.FINDINGS)
def test_own_names_map_to_themselves(name):
  assert findings.canonical(name) == name
  assert findings.canonical(f' {name.upper().replace("_", " ")} ') == name


@pytest.mark.parametrize(
  'name, finding',
  [
    ('Infiltrate', 'Infiltration'),
    ('Pleural Effusion', 'Effusion'),
    ('pleural-thickening', 'Pleural_Thickening'),
    ('Hiatal Hernia', 'Hernia'),
  ],
)
def test_other_spellings(name, finding):
  assert findings.canonical(name) == finding


def test_unknown_name_names_the_nearest():
  with pytest.raises(ValueError, match="'Cardiomegali'.*'Cardiomegaly'"):
    findings.canonical('Cardiomegali')


@pytest.mark.parametrize('name', ['Airspace Opacity', 'Lung Opacity', ''])
def test_ambiguous_names_are_refused(name):
  with pytest.raises(ValueError, match='is not a finding'):
    findings.canonical(name)
