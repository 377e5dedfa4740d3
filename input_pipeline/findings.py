"""Names of findings: NIH's fourteen, and what other data sets call them.

A data set names its findings as it likes. Whether two names mean the same is
decided here alone, by one table of synonyms (`SYNONYMS`), which a user extends
with a csv (`read_synonyms`). The table is asked where films of one data set
meet a network that learned from another, and where weights of another program
are loaded.

A name that covers several findings ('Lung Opacity') is a finding of its own: it
is the same as no part of it.

`FINDINGS` are NIH ChestX-ray14's, in CheXNet's order; the first eight, `BOXED`,
have boxes. Only the standard library is imported here, so that processes which
draw or count films start quickly.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

FINDINGS = (
  'Atelectasis',
  'Cardiomegaly',
  'Effusion',
  'Infiltration',
  'Mass',
  'Nodule',
  'Pneumonia',
  'Pneumothorax',
  'Consolidation',
  'Edema',
  'Emphysema',
  'Fibrosis',
  'Pleural_Thickening',
  'Hernia',
)
BOXED = FINDINGS[:8]
_LISTED = 40  # findings that a sentence names

# A finding and the names that mean exactly it. Case, blanks and punctuation do
# not matter. Names are those of NIH ChestX-ray14, CheXpert, CheXlocalize,
# MIMIC-CXR-JPG, VinDr-CXR, RSNA 2018, PadChest and TorchXRayVision.
_SAME = {
  **dict.fromkeys(FINDINGS, ()),
  'Cardiomegaly': ('enlarged heart', 'enlarged cardiac silhouette'),
  'Effusion': ('pleural effusion', 'pleural effusions'),
  'Infiltration': ('infiltrate', 'infiltrates', 'pulmonary infiltrate'),
  'Mass': ('lung mass', 'pulmonary mass'),
  'Nodule': ('lung nodule', 'pulmonary nodule'),
  'Consolidation': ('lung consolidation', 'pulmonary consolidation'),
  'Edema': ('oedema', 'pulmonary edema', 'pulmonary oedema', 'lung edema'),
  'Emphysema': ('pulmonary emphysema', 'lung emphysema'),
  'Fibrosis': ('pulmonary fibrosis', 'lung fibrosis'),
  'Hernia': ('hiatal hernia', 'hiatus hernia'),
  # CheXpert's column; CheXlocalize and MIMIC's test labels say airspace.
  'Lung Opacity': (
    'airspace opacity',
    'lung opacities',
    'pulmonary opacity',
    'pulmonary opacification',
  ),
  'Lung Lesion': ('pulmonary lesion',),
  'Pleural Other': (),
  'Enlarged Cardiomediastinum': ('enlarged cardiomediastinal silhouette',),
  'Fracture': ('fractures', 'bone fracture'),
  'Support Devices': ('support device',),
  'No Finding': ('no findings', 'normal'),
  'Aortic enlargement': ('enlarged aorta',),
  'Calcification': ('calcifications',),
  'ILD': ('interstitial lung disease',),
  'Nodule/Mass': ('nodule or mass',),
  'Enlarged PA': ('pulmonary artery enlargement', 'enlarged pulmonary artery'),
  'Lung cavity': ('cavitation', 'pulmonary cavity'),
  'Lung cyst': ('pulmonary cyst',),
  'Rib fracture': ('rib fractures',),
  'COPD': ('chronic obstructive pulmonary disease', 'copd signs'),
  'Lung tumor': ('lung tumour', 'pulmonary tumor'),
  'Other diseases': ('other disease',),
  'Tuberculosis': ('tb',),
}
# What a name covers that is no synonym of any of these: for sentences.
_COVERS = {
  'Lung Opacity': (
    'Atelectasis',
    'Infiltration',
    'Pneumonia',
    'Consolidation',
    'Edema',
  ),
  'Lung Lesion': ('Mass', 'Nodule'),
  'Nodule/Mass': ('Mass', 'Nodule'),
  'Pleural Other': ('Pleural_Thickening',),
  'ILD': ('Fibrosis',),
}


def plain(name: str) -> str:
  """A name as the table of synonyms holds it.

  Examples:
    >>> plain(' Pleural_Thickening '), plain('Nodule/Mass')
    ('pleural thickening', 'nodule mass')
  """
  return ' '.join(re.findall(r'[^\W_]+', name.casefold()))


SYNONYMS: Mapping[str, str] = {
  plain(name): finding
  for finding, names in _SAME.items()
  for name in (finding, *names)
}


def tidy(name: str) -> str:
  """The name with single blanks and none at its ends."""
  return ' '.join(name.split())


def standard(name: str, synonyms: Mapping[str, str] = SYNONYMS) -> str:
  """The name under which the table has a finding; an unknown one stays itself.

  Two names mean the same finding exactly if their standard names have the same
  `plain` form.

  Examples:
    >>> standard('pleural effusion'), standard('Lung_Opacity')
    ('Effusion', 'Lung Opacity')
    >>> standard('Ground  glass')
    'Ground glass'
  """
  return synonyms.get(plain(name), tidy(name))


def same(one: str, other: str, synonyms: Mapping[str, str] = SYNONYMS) -> bool:
  """Whether two names mean one finding.

  Examples:
    >>> same('Pleural Thickening', 'Pleural_Thickening')
    True
    >>> same('Lung Opacity', 'Consolidation')
    False
  """
  return plain(standard(one, synonyms)) == plain(standard(other, synonyms))


def _covered(name: str, synonyms: Mapping[str, str]) -> set[str]:
  """The finding, and those that it covers."""
  finding = standard(name, synonyms)
  return {finding, *_COVERS.get(finding, ())}


def _keys(finding: str, synonyms: Mapping[str, str]) -> list[str]:
  """The plain names by which a finding is known."""
  wanted = standard(finding, synonyms)
  return [plain(finding), *(k for k, v in synonyms.items() if v == wanted)]


def index_of(
  name: str,
  findings: Sequence[str],
  synonyms: Mapping[str, str] = SYNONYMS,
) -> int:
  """The index of the one of `findings` that `name` means.

  Examples:
    >>> index_of('infiltrate', FINDINGS)
    3

  Raises:
    ValueError: it means none of them; the sentence says which it covers, or
      which is the nearest.
  """
  for index, finding in enumerate(findings):
    if same(name, finding, synonyms):
      return index
  parts = _covered(name, synonyms)
  overlap = [
    finding for finding in findings if parts & _covered(finding, synonyms)
  ]
  if overlap:
    reason = (
      f'it overlaps with {" and ".join(map(repr, overlap))}, and is the same '
      'as none'
    )
  elif findings:
    plains = {key: name for name in findings for key in _keys(name, synonyms)}
    near = difflib.get_close_matches(plain(name), plains, n=1, cutoff=0)
    reason = f'the nearest is {plains[near[0]]!r}'
  else:
    reason = 'there is none'
  listed = ', '.join(findings[:_LISTED])
  if len(findings) > _LISTED:
    listed += f' and {len(findings) - _LISTED} more'
  raise ValueError(
    f'{name!r} is not a finding here; {reason}. The findings are: {listed}. If '
    'a name means one of these, say so in a csv with the columns name and '
    'finding (--config.data.synonyms).'
  )


def canonical(name: str, synonyms: Mapping[str, str] = SYNONYMS) -> str:
  """The one of NIH's fourteen that `name` spells.

  Examples:
    >>> canonical('infiltrate'), canonical('Pleural Effusion')
    ('Infiltration', 'Effusion')

  Raises:
    ValueError: `name` means none of the fourteen, or could mean several.
  """
  return FINDINGS[index_of(name, FINDINGS, synonyms)]


class Matched(NamedTuple):
  """Which findings of two lists are the same."""

  pairs: tuple[tuple[int, int], ...]  # (index in ours, index in theirs)
  only_ours: tuple[str, ...]
  only_theirs: tuple[str, ...]


def match(
  ours: Sequence[str],
  theirs: Sequence[str],
  synonyms: Mapping[str, str] = SYNONYMS,
) -> Matched:
  """Pairs the findings of two lists by their meaning, in our order.

  Examples:
    >>> match(('Effusion', 'Mass'), ('Lung Opacity', 'Pleural Effusion'))
    Matched(pairs=((0, 1),), only_ours=('Mass',), only_theirs=('Lung Opacity',))

  Raises:
    ValueError: two names of one list mean the same.
  """
  keys = []
  for names in (ours, theirs):
    found = {}
    for index, name in enumerate(names):
      key = plain(standard(name, synonyms))
      if key in found:
        raise ValueError(
          f'{names[found[key]]!r} and {name!r} mean the same finding; a list '
          'of findings has each once.'
        )
      found[key] = index
    keys.append(found)
  mine, yours = keys
  return Matched(
    tuple((mine[key], yours[key]) for key in mine if key in yours),
    tuple(ours[mine[key]] for key in mine if key not in yours),
    tuple(theirs[yours[key]] for key in yours if key not in mine),
  )
