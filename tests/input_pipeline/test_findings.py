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
    ('Infiltrate', 'Infiltration'),  # NIH's own file of boxes
    ('Pleural Effusion', 'Effusion'),  # CheXpert
    ('Pleural effusion', 'Effusion'),  # VinDr-CXR
    ('pleural effusion', 'Effusion'),  # PadChest
    ('pleural-thickening', 'Pleural_Thickening'),
    ('Pulmonary fibrosis', 'Fibrosis'),  # VinDr-CXR
    ('infiltrates', 'Infiltration'),  # PadChest
    ('pulmonary edema', 'Edema'),  # PadChest
    ('Hiatal Hernia', 'Hernia'),
  ],
)
def test_other_spellings(name, finding):
  assert findings.canonical(name) == finding


@pytest.mark.parametrize(
  'one, other',
  [
    ('Airspace Opacity', 'Lung Opacity'),  # CheXlocalize, CheXpert
    ('Other disease', 'Other diseases'),  # VinDr-CXR's test and train files
    ('pulmonary artery enlargement', 'Enlarged PA'),  # PadChest, VinDr-CXR
    ('cavitation', 'Lung cavity'),  # PadChest, VinDr-CXR
    ('Support_Devices', 'Support Devices'),
    ('No finding', 'No Finding'),  # VinDr-CXR, CheXpert
    ('Ground glass', 'ground-glass'),  # in no table
  ],
)
def test_names_of_one_finding(one, other):
  assert findings.same(one, other)
  assert findings.index_of(one, ('Mass', other)) == 1


@pytest.mark.parametrize(
  'one, other',
  [
    ('Lung Opacity', 'Consolidation'),
    ('Lung Lesion', 'Nodule'),
    ('Nodule/Mass', 'Mass'),
    ('subcutaneous emphysema', 'Emphysema'),
    ('Rib fracture', 'Fracture'),
    ('Enlarged Cardiomediastinum', 'Cardiomegaly'),
  ],
)
def test_what_covers_more_stays_itself(one, other):
  assert not findings.same(one, other)


def test_no_synonym_is_the_name_of_another_finding():
  standards = set(findings.SYNONYMS.values())
  for name in standards:
    assert findings.standard(name) == name


def test_unknown_name_names_the_nearest():
  with pytest.raises(ValueError, match="'Cardiomegali'.*'Cardiomegaly'"):
    findings.canonical('Cardiomegali')
  # The nearest by any of its names.
  with pytest.raises(ValueError, match="nearest is 'Effusion'"):
    findings.index_of('plural efusion', ('Effusion', 'Infiltration'))


@pytest.mark.parametrize('name', ['Airspace Opacity', 'Lung Opacity', ''])
def test_ambiguous_names_are_refused(name):
  with pytest.raises(ValueError, match='is not a finding'):
    findings.canonical(name)


@pytest.mark.parametrize(
  'name, findings_there, overlap',
  [
    ('Lung Lesion', ('Nodule', 'Edema', 'Mass'), "'Nodule' and 'Mass'"),
    ('Consolidation', ('Lung Opacity', 'Edema'), "'Lung Opacity'"),
    ('Lung Lesion', ('Nodule/Mass', 'Edema'), "'Nodule/Mass'"),
  ],
)
def test_the_sentence_says_what_overlaps(name, findings_there, overlap):
  with pytest.raises(ValueError, match=f'overlaps with {overlap}, and is'):
    findings.index_of(name, findings_there)


def test_lists_are_paired_in_our_order():
  chexpert = ('Lung Opacity', 'Pleural Effusion', 'Edema')
  matched = findings.match(('Edema', 'Hernia', 'Effusion'), chexpert)
  assert matched.pairs == ((0, 2), (2, 1))
  assert matched.only_ours == ('Hernia',)
  assert matched.only_theirs == ('Lung Opacity',)
  assert findings.match((), chexpert) == ((), (), chexpert)


def test_a_list_has_a_finding_once():
  twice = ('Pleural Thickening', 'Mass', 'Pleural_Thickening')
  with pytest.raises(ValueError, match='mean the same finding'):
    findings.match(('Mass',), twice)
