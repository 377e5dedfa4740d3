"""The fourteen findings of ChestX-ray14, their order and their spellings.

The order is CheXNet's: the first eight findings are those with boxes. Every
array with an axis of findings has them in this order. Only the standard library
is imported here, so that processes which draw or count films start quickly.
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

# Names in other data sets that mean exactly one of the fourteen. CheXpert's
# 'Lung Opacity', 'Airspace Opacity' and 'Lung Lesion' cover several of them and
# its 'Pleural Other' is more than thickening, so these names are refused.
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
  """The finding that `name` spells.

  Case, underscores, hyphens and blanks do not matter.

  >>> canonical('infiltrate'), canonical('Pleural Effusion')
  ('Infiltration', 'Effusion')

  Raises:
    ValueError: `name` means none of the fourteen, or could mean several.
  """
  plain = _plain(name)
  if plain not in _CANONICAL:
    near = difflib.get_close_matches(plain, _CANONICAL, n=1, cutoff=0)
    raise ValueError(
      f'{name!r} is not a finding; the nearest is {_CANONICAL[near[0]]!r} '
      f'of {", ".join(FINDINGS)}.'
    )
  return _CANONICAL[plain]
