"""A DICOM file -> a gray film in [0, 1]."""

import logging
import warnings

import numpy as np
import pydicom
from pydicom import filereader, pixels, uid

from cxr.explaining.errors import RadiographError, check_size

# Its warnings quote the file, and so could print what it says of a patient.
warnings.filterwarnings('ignore', module='pydicom')
logging.getLogger('pydicom').setLevel(logging.CRITICAL)


_ELEMENTS = [
  'BitsAllocated',
  'BitsStored',
  'BodyPartExamined',
  'Columns',
  'HighBit',
  'ModalityLUTSequence',
  'Modality',
  'NumberOfFrames',
  'PhotometricInterpretation',
  'PixelData',
  'PixelPaddingRangeLimit',
  'PixelPaddingValue',
  'PixelRepresentation',
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
]

_LATERAL_POSITIONS = ('LATERAL', 'LAT', 'LL', 'RL')
# DICOM PS3.16, context group 4010: lateral, left lateral, right lateral, in
# SNOMED CT and in the older SNOMED-RT codes.
_LATERAL_CODES = (
  '399067008',
  '399173006',
  '399198007',
  'R-102CD',
  'R-10236',
  'R-10232',
)
_RADIOGRAPHY = ('CR', 'DX', 'DR', 'RG', 'OT')
_CHEST = ('CHEST', 'THORAX', 'TORAX', 'LUNG')

# Decoders under permissive licences. pylibjpeg-libjpeg is GPL: not named.
_DECODERS = {
  uid.JPEGBaseline8Bit: 'pillow',
  uid.JPEGExtended12Bit: 'python-gdcm',
  uid.JPEGLossless: 'python-gdcm',
  uid.JPEGLosslessSV1: 'python-gdcm',
  uid.JPEGLSLossless: 'pyjpegls',
  uid.JPEGLSNearLossless: 'pyjpegls',
  uid.JPEG2000Lossless: 'pylibjpeg pylibjpeg-openjpeg',
  uid.JPEG2000: 'pylibjpeg pylibjpeg-openjpeg',
  uid.HTJ2KLossless: 'pylibjpeg pylibjpeg-openjpeg',
  uid.HTJ2KLosslessRPCL: 'pylibjpeg pylibjpeg-openjpeg',
  uid.HTJ2K: 'pylibjpeg pylibjpeg-openjpeg',
}


def decode(file):
  syntax = filereader.read_file_meta_info(file.name).TransferSyntaxUID
  if syntax == uid.DeflatedExplicitVRLittleEndian:
    # It would be inflated whole before its claimed size could be looked at.
    raise RadiographError(
      'The DICOM file is deflated; inflate it first (dcmconv +te).'
    )
  film = pydicom.dcmread(file, specific_tags=_ELEMENTS)
  doubts = _check(film)
  stored = _stored_values(film, syntax)
  padding = _padding(film, stored)
  notes = [f'DICOM, {film.BitsStored} bits, {film.PhotometricInterpretation}']
  values, note = _modality(film, stored)
  notes += note
  gray, note = _values_of_interest(film, values, padding)
  notes += note
  # One inversion, not two: a MONOCHROME1 film's shape is INVERSE by rule
  # (PS3.3, C.8.11.3.1.2), and both say the same.
  if (
    film.PhotometricInterpretation == 'MONOCHROME1'
    or film.get('PresentationLUTShape') == 'INVERSE'
  ):
    gray = 1 - gray
    notes.append('inverted, as the file asks')
  if padding.any():
    gray = np.where(padding, np.float32(0), gray)
    notes.append(f'{padding.mean():.1%} of it is padding, shown black')
  return gray.astype(np.float32), notes, doubts


def _check(film) -> list[str]:
  """Raises RadiographError for what is no single gray frontal film."""
  if 'PixelData' not in film:
    raise RadiographError('The DICOM file holds no image.')
  check_size(film.Rows, film.Columns)
  if int(film.get('NumberOfFrames') or 1) != 1:
    raise RadiographError('The DICOM has several frames; one film is read.')
  if film.get('SamplesPerPixel', 1) != 1 or (
    film.PhotometricInterpretation not in ('MONOCHROME1', 'MONOCHROME2')
  ):
    raise RadiographError(
      'The DICOM is in colour; a film in shades of gray is read.'
    )
  position = str(film.get('ViewPosition') or '').strip().upper()
  codes = [item.get('CodeValue') for item in film.get('ViewCodeSequence') or ()]
  if position in _LATERAL_POSITIONS or set(codes) & set(_LATERAL_CODES):
    raise RadiographError(
      'This is a lateral film; the models know frontal ones only.'
    )
  doubts = []
  modality = str(film.get('Modality') or '').strip().upper()
  if modality and modality not in _RADIOGRAPHY:
    doubts.append('The file says that this is not a radiograph.')
  part = str(film.get('BodyPartExamined') or '').strip().upper()
  if part and not any(word in part for word in _CHEST):
    doubts.append('The file names a body part other than the chest.')
  return doubts


def _stored_values(film, syntax):
  """The stored values, of BitsStored bits and the sign they were meant with."""
  allocated, bits = film.BitsAllocated, film.BitsStored
  if allocated not in (8, 16, 32) or not 0 < bits <= allocated:
    raise RadiographError(
      f'The DICOM has {bits} bits in {allocated} a pixel, which is not read.'
    )
  try:
    # The bits are cut below, since pydicom takes HighBit for BitsStored - 1.
    values = pixels.pixel_array(film, raw=True, correct_unused_bits=False)
  except Exception:
    raise RadiographError(_why_undecoded(syntax)) from None
  if values.shape != (film.Rows, film.Columns):
    raise RadiographError('The DICOM is damaged: its size is not what it says.')
  values = values.astype(np.int32 if allocated < 32 else np.int64)
  if not syntax.is_encapsulated:
    values = values >> (film.get('HighBit', bits - 1) + 1 - bits)
  values &= 2**bits - 1
  if film.PixelRepresentation == 1:
    values = _signed(values, bits)
  return values


def _signed(value, bits: int):
  """Two's complement."""
  sign = 1 << (bits - 1)
  return ((value & (2**bits - 1)) ^ sign) - sign


def _why_undecoded(syntax) -> str:
  if not syntax.is_encapsulated or syntax == uid.RLELossless:
    return 'The DICOM is damaged: its pixels cannot be decoded.'
  if syntax not in _DECODERS:
    return 'The DICOM is compressed in a way that is not read; decompress it.'
  if pixels.get_decoder(syntax).is_available:
    return (
      f'The DICOM is damaged, or is {syntax.name} of a kind that needs '
      f'another decoder: pip install {_DECODERS[syntax]}.'
    )
  return (
    f'The DICOM is compressed as {syntax.name}: '
    f'pip install {_DECODERS[syntax]}.'
  )


def _padding(film, stored):
  """Where a pixel is no part of the film: 'h w' bool (PS3.3, C.7.5.1.1.2)."""
  if film.get('PixelPaddingValue') is None:
    return np.zeros(stored.shape, bool)
  ends = [film.PixelPaddingValue, film.get('PixelPaddingRangeLimit')]
  ends = [int(end) for end in ends if end is not None]
  if film.PixelRepresentation == 1:
    # Written as unsigned by many.
    ends = [_signed(end, film.BitsAllocated) for end in ends]
  padding = (stored >= min(ends)) & (stored <= max(ends))
  # All of it: the element is wrong, not the film.
  return padding & ~padding.all()


def _modality(film, stored):
  """Stored values -> the modality's, by table or by slope and intercept."""
  if film.get('ModalityLUTSequence'):
    values, _ = _lookup(film.ModalityLUTSequence[0], stored, film)
    return values, ['modality table']
  slope = film.get('RescaleSlope')
  intercept = film.get('RescaleIntercept')
  slope = 1.0 if slope is None else float(slope)
  intercept = 0.0 if intercept is None else float(intercept)
  if slope == 0 or not np.isfinite([slope, intercept]).all():
    raise RadiographError('The DICOM is damaged: its rescaling is not a scale.')
  # float32 holds integers of up to 24 bits.
  precision = np.float32 if film.BitsStored <= 16 else np.float64
  values = stored.astype(precision) * precision(slope) + precision(intercept)
  if (slope, intercept) == (1, 0):
    return values, []
  return values, [f'rescaled by {slope:g}, {intercept:+g}']


def _values_of_interest(film, values, padding):
  """Modality values -> gray in [0, 1]: by table, else window, else range."""
  tables = film.get('VOILUTSequence')
  if tables:
    # Before the window: the standard offers them as alternatives, and a table
    # is the vendor's own curve.
    gray, bits = _lookup(tables[0], values, film)
    return gray / (2**bits - 1), [f'VOI table 1 of {len(tables)}']
  notes = []
  centers = _numbers(film.get('WindowCenter'))
  widths = _numbers(film.get('WindowWidth'))
  if centers and widths:
    center, width = centers[0], widths[0]
    name = str(film.get('VOILUTFunction') or 'LINEAR').strip().upper()
    if name not in _WINDOWS:
      raise RadiographError('The DICOM has a VOI function that is not known.')
    if np.isfinite([center, width]).all() and width >= _WINDOWS[name][1]:
      return _WINDOWS[name][0](values, center, width), [
        f'window 1 of {min(len(centers), len(widths))}: '
        f'centre {center:g}, width {width:g}, {name}'
      ]
    notes.append('its window is not a window and was passed by')
  known = values[~padding]
  low, high = known.min(), known.max()
  gray = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
  return gray, notes + [f'no window: {low:g} to {high:g} made black to white']


def _linear(values, center, width):
  # PS3.3, C.11.2.1.2.1: half a value and one less, since values are integers.
  # Width 1 is a step.
  step = values > center - 0.5
  if width == 1:
    return step.astype(values.dtype)
  return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _linear_exact(values, center, width):
  return np.clip((values - center) / width + 0.5, 0, 1)


def _sigmoid(values, center, width):
  # Clipped: exp overflows far outside of the window.
  return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -80, 80)))


# The function, and the narrowest width for which it is defined.
_WINDOWS = {
  'LINEAR': (_linear, 1),
  'LINEAR_EXACT': (_linear_exact, 1e-9),
  'SIGMOID': (_sigmoid, 1e-9),
}


def _numbers(value) -> list[float]:
  if value is None or value == '':
    return []
  return [float(v) for v in np.atleast_1d(value)]


def _lookup(item, values, film):
  """A lookup table (PS3.3, C.11.1.1): the values mapped, and their bits."""
  count, first, bits = (int(v) for v in item.LUTDescriptor)
  count = (count & 0xFFFF) or 2**16
  if film.PixelRepresentation == 0 and 'RescaleSlope' not in film:
    first &= 0xFFFF
  if not 8 <= bits <= 16:
    raise RadiographError(f'The DICOM has a table of {bits} bits an entry.')
  data = item.LUTData
  if not isinstance(data, bytes):
    data = np.atleast_1d(np.asarray(data, np.int64)).astype('<u2').tobytes()
  # Entries of 8 bits are found both packed and in 16 bits each.
  kind = '<u2' if len(data) >= 2 * count else 'u1'
  table = np.frombuffer(data, kind)[:count].astype(np.float32)
  if len(table) < count or (kind == 'u1' and bits > 8):
    raise RadiographError('The DICOM is damaged: its table is too short.')
  index = np.rint(values).astype(np.int64) - first
  mapped = table[np.clip(index, 0, count - 1)]
  return np.minimum(mapped, np.float32(2**bits - 1)), bits
