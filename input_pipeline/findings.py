"""The fourteen findings of ChestX-ray14, their order and their spellings.

The order is CheXNet's: the first eight are those with boxes. Everything that
has a finding axis has it in this order. Nothing is imported here but the
standard library, so that processes which only draw or count films stay light.
"""

import difflib

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

# Other data sets' names that mean one of ours and nothing else. CheXpert's
# 'Lung Opacity', 'Airspace Opacity' and 'Lung Lesion' cover several of ours,
# its 'Pleural Other' more than thickening: they are refused.
_OTHER_NAMES = {
  'infiltrate': 'Infiltration',
  'infiltrates': 'Infiltration',
  'pleural effusion': 'Effusion',
  'enlarged heart': 'Cardiomegaly',
  'lung mass': 'Mass',
  'lung nodule': 'Nodule',
  'pulmonary nodule': 'Nodule',
  'pulmonary edema': 'Edema',
  'oedema': 'Edema',
  'pulmonary fibrosis': 'Fibrosis',
  'hiatal hernia': 'Hernia',
  'hiatus hernia': 'Hernia',
}


def _plain(name: str) -> str:
  return ' '.join(name.replace('_', ' ').replace('-', ' ').lower().split())


_CANONICAL = {_plain(name): name for name in FINDINGS} | _OTHER_NAMES


def canonical(name: str) -> str:
  """The finding that `name` spells, e.g. 'Infiltrate' -> 'Infiltration'.

  Case, underscores, hyphens and blanks do not matter.

  Raises:
    ValueError: `name` is none of them, or could mean several.
  """
  plain = _plain(name)
  if plain not in _CANONICAL:
    near = difflib.get_close_matches(plain, _CANONICAL, n=1, cutoff=0)
    raise ValueError(
      f'{name!r} is not a finding; the nearest is {_CANONICAL[near[0]]!r} '
      f'of {", ".join(FINDINGS)}.'
    )
  return _CANONICAL[plain]
