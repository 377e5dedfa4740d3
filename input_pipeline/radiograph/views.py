"""How a film was taken and how it lies, from what its DICOM says.

The models know upright frontal films with the patient's right on the left. A
lateral film is refused, an oblique, decubitus or lordotic one warned of, a
mirrored or rotated one turned, and a view that is not known is said to be so.

Views are named in three elements. ViewPosition (0018,5101) is a short text:
the standard's terms (PS3.3, C.8.1.1 and C.8.11.5), what MIMIC-CXR ('XTABLE
LATERAL', 'PA LLD', 'AP AXIAL') and PadChest ('POSTEROANTERIOR', 'L', 'COSTAL')
hold, and what vendors write in several languages. ViewCodeSequence (0054,0220)
has codes of PS3.16, context group 4010, with modifiers. PatientOrientation
(0020,0020) says towards which side of the patient rows and columns run. Where
none of these names a view, descriptions that people wrote are looked at: they
may be of a whole study ('CHEST PA AND LAT'), so a film is only warned of.
"""

import re
import unicodedata
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from input_pipeline.radiograph.errors import RadiographError

# In this order: 'LEFT LATERAL DECUBITUS' is no lateral film, and 'LATERAL
# OBLIQUE' is an oblique one. Texts are in capitals, without accents.
_VIEWS = {
  'decubitus': r'DECUB(?!\w* (DORSAL|SUPIN))|\b[LR]LD\b|\bDEC LAT|LAT DEC\b',
  'oblique': r'OBL|SCHRAE?G|\b[LR][APL]?O\b|\bO[AP][DIS]\b|斜',
  'lateral': r'(?<!BI)(?<!UNI)LATERAL|\b[LR]?LAT|(?<!BI)(?<!\bF)LAT\b'
  r'|\b[LRD] ?L\b|^L$|PROFIL|PERFIL|\bSEIT|SAGITTAL|SWIMMER|\bML\b|\bLM\b'
  r'|^(CROSS|X) ?TABLE$|BOCZN|ZIJDE|SIDOBILD|БОК|[侧側]',
  'special': r'LORDO|AXIAL|APICAL|APEX|COST[AI]|\bRIBS?\b|RIPPEN|TANGENTIAL'
  r'|CAUDA|CRANIAL|CRANIO|CEPHALAD',
  'frontal': r'\b(A ?P|P ?A)\d*\b|\b(DV|VD|FACE)\b|CHEST(AP|PA)\b|ANTER'
  r'|POSTER|FRONT|CORONAL|DORSO ?VENTR|VENTRO ?DORS|DECUB\w* (DORSAL|SUPIN)'
  r'|^(AP|PA)(ERECT|SUP|PORT|UPR|SIT|VIEW|HOR)|ПРЯМ|正|[前后後]{2}',
}
_DOUBTS = {
  'decubitus': 'This is a decubitus film, taken of a patient who lies on the '
  'side; the models know upright ones.',
  'oblique': 'This is an oblique film; the models know straight frontal ones.',
  'special': 'This film was taken at a special angle or of a special part '
  '(lordotic, axial, apical, ribs); the models know plain frontal ones.',
}


_DESCRIPTIONS = (
  'SeriesDescription',
  'AcquisitionDeviceProcessingDescription',
  'ProtocolName',
  'PerformedProcedureStepDescription',
)


class Turn(NamedTuple):
  """How stored pixels become an upright film: transposed, then flipped."""

  transpose: bool = False
  flip_rows: bool = False  # top and bottom change places
  flip_columns: bool = False  # left and right change places

  def apply(self, film: Shaped[np.ndarray, 'h w']) -> Shaped[np.ndarray, 'u v']:
    film = film.T if self.transpose else film
    film = film[::-1] if self.flip_rows else film
    return film[:, ::-1] if self.flip_columns else film

  def boxes(
    self, boxes: Float[np.ndarray, '*n 4'], height: int, width: int
  ) -> Float[np.ndarray, '*n 4']:
    """Boxes (ymin, xmin, ymax, xmax) of the stored film in the turned one.

    Args:
      boxes: in pixels of the stored film, or shares of it.
      height: of the turned film; 1 for shares.
      width: of the turned film; 1 for shares.
    """
    ymin, xmin, ymax, xmax = np.moveaxis(boxes, -1, 0)
    if self.transpose:
      ymin, xmin, ymax, xmax = xmin, ymin, xmax, ymax
    if self.flip_rows:
      ymin, ymax = height - ymax, height - ymin
    if self.flip_columns:
      xmin, xmax = width - xmax, width - xmin
    return np.stack([ymin, xmin, ymax, xmax], axis=-1)

  def undo(
    self, boxes: Float[np.ndarray, '*n 4'], height: int, width: int
  ) -> Float[np.ndarray, '*n 4']:
    """Boxes (ymin, xmin, ymax, xmax) of the turned film in stored pixels.

    Args:
      boxes: in pixels of the turned film.
      height: of the turned film.
      width: of the turned film.
    """
    ymin, xmin, ymax, xmax = np.moveaxis(boxes, -1, 0)
    if self.flip_rows:
      ymin, ymax = height - ymax, height - ymin
    if self.flip_columns:
      xmin, xmax = width - xmax, width - xmin
    box = [ymin, xmin, ymax, xmax]
    if self.transpose:
      box = [xmin, ymin, xmax, ymax]
    return np.stack(box, axis=-1)


def view(text: str) -> str | None:
  """The kind of view that a text names; None where it names none.

  Examples:
    >>> view('LEFT LATERAL'), view('p.a.'), view('LAO'), view('AP_SUPINE')
    ('lateral', 'frontal', 'oblique', 'frontal')
    >>> view('UNKNOWN') is None
    True
  """
  found = words(text)
  for kind, pattern in _VIEWS.items():
    if re.search(pattern, found):
      return kind
  return None


def words(text: str) -> str:
  """The words of a text in capitals, without accents and punctuation."""
  # Accents become characters of their own, which go.
  text = unicodedata.normalize('NFKD', text.upper())
  text = ''.join(c for c in text if not unicodedata.combining(c))
  return ' '.join(re.split(r'[\W_]+', text)).strip()


def orientation(values: list[str]) -> tuple[str, Turn] | None:
  """What PatientOrientation's two values say; None where they say nothing.

  Each value names the sides of the patient towards which a row runs from left
  to right, and a column from top to bottom: L(eft), R(ight), A(nterior),
  P(osterior), H(ead), F(oot), the main one first (PS3.3, C.7.6.1.1.1).

  Returns:
    ('frontal' | 'oblique' | 'lateral' | 'special', the turn to upright).

  Examples:
    >>> orientation(['R', 'F'])
    ('frontal', Turn(transpose=False, flip_rows=False, flip_columns=True))
    >>> orientation(['A', 'F'])[0]
    'lateral'
  """
  values = [value.strip().upper() for value in values]
  if len(values) != 2 or not all(
    re.fullmatch('[LRAPHF]{1,3}', value) for value in values
  ):
    return None
  transpose = values[0][0] in 'HF'
  if transpose:
    values = values[::-1]
  row, column = (value[0] for value in values)
  if column not in 'HF':
    return 'special', Turn()
  if row in 'AP':
    return 'lateral', Turn()
  if row not in 'LR':
    return None
  turn = Turn(transpose, flip_rows=column == 'H', flip_columns=row == 'R')
  if set('AP') & set(values[0]):
    return 'oblique', turn
  # A column that runs forwards or backwards, too: the film was tilted.
  return 'special' if set('AP') & set(values[1]) else 'frontal', turn


def examine(film: Dataset) -> tuple[Turn, list[str], list[str]]:
  """How the stored pixels are turned upright; notes; warnings.

  Raises:
    RadiographError: the film is a lateral one.
  """
  notes, doubts = [], []
  kinds = {}
  position = _text(film.get('ViewPosition'))
  if position:
    kinds['ViewPosition'] = view(position)
  coded = [_coded(item) for item in film.get('ViewCodeSequence') or ()]
  if coded:
    kinds['ViewCodeSequence'] = next((kind for kind in coded if kind), None)
  turn = Turn()
  sides = film.get('PatientOrientation') or ()
  if any(sides):
    found = orientation([sides] if isinstance(sides, str) else list(sides))
    kinds['PatientOrientation'], turn = found or (None, turn)
  for element, kind in kinds.items():
    if kind is None:
      notes.append(f'its {element} is not one that is known')
  if kinds.get('PatientOrientation') == 'lateral' and 'frontal' in (
    kinds.get('ViewPosition'),
    kinds.get('ViewCodeSequence'),
  ):
    doubts.append(
      'The file calls this film frontal, but its PatientOrientation is that of '
      'a lateral one.'
    )
  else:
    for element, kind in kinds.items():
      if kind == 'lateral':
        raise RadiographError(
          'This is a lateral film; the models know frontal ones only '
          f'({element}).',
          reason='lateral film',
        )
  if not any(kinds.values()):
    element, kind = _described(film)
    if kind == 'lateral':
      doubts.append(
        'This may be a lateral film; the models know frontal ones only '
        f'({element}).'
      )
    elif kind is None:
      notes.append('nothing in it says which view it is')
    kinds[element] = kind
  doubts += [_DOUBTS[k] for k in _DOUBTS if k in kinds.values()]
  if turn != Turn():
    doubts.append(
      f'The film is stored {_said(turn)} (PatientOrientation) and was turned '
      'upright; boxes are in its stored pixels.'
    )
  return turn, notes, doubts


def _said(turn: Turn) -> str:
  if turn.transpose:
    return 'lying on its side'
  if turn.flip_rows:
    return 'upside down' + ('' if turn.flip_columns else ' and mirrored')
  return 'mirrored'


def _described(film: Dataset) -> tuple[str, str | None]:
  """The description that names one kind of view, and the kind."""
  for element in _DESCRIPTIONS:
    text = words(_text(film.get(element)))
    named = [kind for kind in _VIEWS if re.search(_VIEWS[kind], text)]
    if named and not {'lateral', 'frontal'} <= {*named}:
      return element, named[0]
  return '', None


def _text(value) -> str:
  return str(value or '').strip()


def _coded(item: Dataset) -> str | None:
  """The kind of view of an item of ViewCodeSequence.

  That of a modifier which is no plain view (caudad, decubitus) comes first.
  """
  for modifier in item.get('ViewModifierCodeSequence') or ():
    if (kind := _coded(modifier)) in _DOUBTS:
      return kind
  value = _text(item.get('CodeValue'))
  scheme = _text(item.get('CodingSchemeDesignator')).upper()
  if not scheme or scheme in ('SNM3', '99SDM'):
    # Older names of SNOMED, whose concepts of today are numbers.
    scheme = 'SCT' if value.isdigit() else 'SRT'
  code = Code(value, scheme, '')
  for known in (codes.cid4010, codes.cid4011):
    for name in known.dir():
      if getattr(known, name) == code:
        return view(re.sub('(?<=[a-z])(?=[A-Z])', ' ', name))
  return view(_text(item.get('CodeMeaning')))
