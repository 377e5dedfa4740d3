"""The elements of a DICOM file that are read, and how.

Only those in `READ` are ever read, and none of their texts is passed on: notes
and warnings are made of our words and of numbers.
"""

import math

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from input_pipeline.radiograph.errors import RadiographError

COLOURS = ('Red', 'Green', 'Blue')
READ = [
  'AcquisitionDeviceProcessingDescription',
  'BitsAllocated',
  'BitsStored',
  'BodyPartExamined',
  'Columns',
  'DoubleFloatPixelData',
  'FloatPixelData',
  'HighBit',
  'ModalityLUTSequence',
  'Modality',
  'NumberOfFrames',
  'PatientOrientation',
  'PerformedProcedureStepDescription',
  'PhotometricInterpretation',
  'PixelData',
  'PixelPaddingRangeLimit',
  'PixelPaddingValue',
  'PixelRepresentation',
  'PlanarConfiguration',
  'PresentationLUTShape',
  'ProtocolName',
  'RescaleIntercept',
  'RescaleSlope',
  'Rows',
  'SamplesPerPixel',
  'SeriesDescription',
  'VOILUTFunction',
  'VOILUTSequence',
  'ViewCodeSequence',
  'ViewPosition',
  'WindowCenter',
  'WindowWidth',
  *(f'{c}PaletteColorLookupTableDescriptor' for c in COLOURS),
  *(f'{c}PaletteColorLookupTableData' for c in COLOURS),
  *(f'Segmented{c}PaletteColorLookupTableData' for c in COLOURS),
]
# Without these, pixels have no meaning.
REQUIRED = (
  'Rows',
  'Columns',
  'BitsAllocated',
  'BitsStored',
  'PixelRepresentation',
  'PhotometricInterpretation',
)


def require(film: Dataset, keyword: str) -> None:
  """Raises RadiographError where an element is absent or not of its type."""
  try:
    value = film.get(keyword, '')
  except Exception:
    value = None
  if value == '':
    raise RadiographError(
      f'The DICOM lacks {keyword}, without which its pixels have no meaning.'
    )
  if not isinstance(value, int | str):
    raise RadiographError(f'The DICOM has a {keyword} that cannot be read.')


def text(film: Dataset, keyword: str) -> str:
  """An element's text, in capitals; '' where it is absent."""
  return str(film.get(keyword) or '').strip().upper()


def numbers(
  film: Dataset,
  keyword: str,
  *,
  strict: bool = False,
  passed_by: list[str] | None = None,
) -> list[float]:
  """The numbers of an element; [] where it is absent, empty or no number.

  Args:
    film: the DICOM.
    keyword: of the element.
    strict: raise for what is no number.
    passed_by: gets a note on what is no number; of several values the others
      are still given, beside a NaN in its place.

  Raises:
    RadiographError: what is no number, where `strict`.
  """
  try:
    value = film.get(keyword)
  except Exception:
    value = math.nan
  if value is None or value == '':
    return []
  values = value if isinstance(value, MultiValue | list) else [value]
  found = [_number(v) for v in values]
  if strict and not np.isfinite(found).all():
    raise RadiographError(f'The DICOM has a {keyword} that is no number.')
  if np.isnan(found).any():
    if passed_by is None:
      return []
    passed_by.append(f'its {keyword} is no number and was passed by')
  return found


def _number(value: object) -> float:
  try:
    return float(value)
  except (TypeError, ValueError):
    return math.nan
