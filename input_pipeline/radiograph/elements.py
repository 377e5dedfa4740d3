"""The elements of a DICOM file that are read, and how.

Only those in `READ` are ever read, and none of their texts is passed on: notes
and warnings are made of our words and of numbers.
"""

import numpy as np
from pydicom.dataset import Dataset

from input_pipeline.radiograph.errors import RadiographError

COLOURS = ('Red', 'Green', 'Blue')
READ = [
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
  'PhotometricInterpretation',
  'PixelData',
  'PixelPaddingRangeLimit',
  'PixelPaddingValue',
  'PixelRepresentation',
  'PlanarConfiguration',
  'PresentationLUTShape',
  'RescaleIntercept',
  'RescaleSlope',
  'Rows',
  'SamplesPerPixel',
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
  """The numbers of an element; [] where it is absent or empty.

  What is no number is passed by, with a note in `passed_by`.

  Raises:
    RadiographError: what is no number, where `strict`.
  """
  try:
    value = film.get(keyword)
    found = [] if value in (None, '') else np.atleast_1d(value).tolist()
    found = [float(v) for v in found]
    if strict and not np.isfinite(found).all():
      raise ValueError(keyword)
    return found
  except Exception:
    if strict:
      raise RadiographError(
        f'The DICOM has a {keyword} that is no number.'
      ) from None
    if passed_by is not None:
      passed_by.append(f'its {keyword} is no number and was passed by')
    return []
