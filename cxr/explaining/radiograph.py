"""A user's film file (PNG, JPEG, DICOM) -> an image as the models know films.

The image is gray, float32 in [0, 1], lungs dark and bones bright, cut to 8 bits
and resized as the training films were: the same film gives the same image. Its
aspect ratio is kept; `Radiograph.to_film_pixels` leads from the image's boxes
back to the film's own pixels, counted from the top left as a viewer shows them.

A film that must not be interpreted (damaged, colour, lateral, several frames,
a decompression bomb) raises `RadiographError`, one sentence. A film that can
be read but may not be what the models know comes with warnings.

Of a DICOM only the elements in `_ELEMENTS` are ever read, and none of their
texts is passed on: notes and warnings are made of our words and of numbers.
"""

import logging
import os
import warnings
from typing import NamedTuple

import numpy as np
import pydicom
from jaxtyping import Float
from PIL import Image, ImageOps
from pydicom import filereader, pixels, uid

# Its warnings quote the file, and so could print what it says of a patient.
warnings.filterwarnings('ignore', module='pydicom')
logging.getLogger('pydicom').setLevel(logging.CRITICAL)

SUFFIXES = ('.png', '.jpg', '.jpeg', '.dcm', '.dicom')
FITS = ('pad', 'crop')
MAX_PIXELS = 50_000_000  # thrice the largest film plate's
MAX_BYTES = 400_000_000


class RadiographError(ValueError):
  """A film that is not interpreted; its text is one sentence that says why."""


class Radiograph(NamedTuple):
  """A film, ready for a model; y before x, as in all boxes."""

  image: Float[np.ndarray, 'h w 1']  # [0, 1]; h = w = size
  height: int  # of the film, in its own pixels
  width: int
  offset: tuple[float, float]  # the film's top left corner, in image pixels
  scale: tuple[float, float]  # image pixels per film pixel
  fit: str  # 'pad' | 'crop'
  notes: tuple[str, ...]  # how the pixels were made
  warnings: tuple[str, ...]  # why the result may not be trusted

  def to_film_pixels(
    self, boxes: Float[np.ndarray, '*n 4']
  ) -> Float[np.ndarray, '*n 4']:
    """Boxes in [0, 1] of the image -> the same in the film's own pixels.

    (ymin, xmin, ymax, xmax), half-open, cut at the film's border: a box that
    lies in the padding alone comes back without area.
    """
    size = np.tile(self.image.shape[:2], 2)
    film = np.tile((self.height, self.width), 2)
    corner = np.asarray(boxes, np.float64) * size - np.tile(self.offset, 2)
    return np.clip(corner / np.tile(self.scale, 2), 0, film)


def find(path: str) -> tuple[list[str], dict[str, int]]:
  """The films in a folder and all folders below it, or the one file given.

  A film is a file with one of `SUFFIXES`, or one that begins as a DICOM does
  (their names are often bare numbers). Hidden files and folders are passed by.

  Returns:
    The paths, sorted; and how many entries were passed by: {'hidden', 'other'}.

  Raises:
    FileNotFoundError: nothing is at `path`.
    ValueError: there is no film in it.
  """
  if not os.path.exists(path):
    raise FileNotFoundError(f'There is no file or folder at {path}.')
  skipped = {'hidden': 0, 'other': 0}
  if not os.path.isdir(path):
    return [path], skipped
  found = []
  for folder, folders, files in os.walk(path):
    skipped['hidden'] += sum(n.startswith('.') for n in folders + files)
    folders[:] = [n for n in folders if not n.startswith('.')]
    for name in files:
      if name.startswith('.'):
        continue
      if _looks_like_film(os.path.join(folder, name)):
        found.append(os.path.join(folder, name))
      else:
        skipped['other'] += 1
  if not found:
    raise ValueError(f'{path} holds no PNG, JPEG or DICOM file.')
  return sorted(found, key=lambda p: p.split(os.sep)), skipped


def _looks_like_film(path: str) -> bool:
  # A DICOMDIR begins as a film does, and a pipe would be waited for.
  if not os.path.isfile(path) or os.path.basename(path) == 'DICOMDIR':
    return False
  if path.lower().endswith(SUFFIXES):
    return True
  try:
    with open(path, 'rb') as f:
      return f.read(132)[128:] == b'DICM'
  except OSError:
    return False


def read(path: str, *, size: int, fit: str = 'pad') -> Radiograph:
  """Reads one film.

  Args:
    path: a PNG, JPEG or DICOM file; its content decides which, not its name.
    size: the image's height and width, in pixels.
    fit: 'pad' keeps the whole film, with black beside it; 'crop' takes the
      largest square from its centre.

  Raises:
    RadiographError: the film is not interpreted, and why.
    ValueError: `fit` is unknown.
  """
  if fit not in FITS:
    raise ValueError(f'fit ({fit!r}) must be one of {", ".join(FITS)}.')
  try:
    film, notes, doubts = _decode(path)
  except RadiographError:
    raise
  except PermissionError:
    raise RadiographError('The file may not be opened.') from None
  except FileNotFoundError:
    raise RadiographError('The file is gone.') from None
  except Exception:
    # Damaged files make the decoders raise anything. The cause is not shown:
    # its text may quote the file.
    raise RadiographError(
      'The file is damaged: its pixels cannot be decoded.'
    ) from None
  if not np.isfinite(film).all():
    raise RadiographError('The file is damaged: its values are not numbers.')
  height, width = film.shape
  doubts += _doubts(film, size)
  image, offset, scale = _fit(film, size, fit)
  return Radiograph(
    image[..., None] / np.float32(255),
    height,
    width,
    offset,
    scale,
    fit,
    tuple(notes),
    tuple(doubts),
  )


def _decode(path):
  """The film 'h w' float32 in [0, 1], bones bright; notes; warnings."""
  with open(path, 'rb') as f:
    head = f.read(132)
    f.seek(0)
    if os.fstat(f.fileno()).st_size > MAX_BYTES:
      raise RadiographError(
        f'The file is larger than {MAX_BYTES // 1_000_000} MB.'
      )
    if head[128:] == b'DICM':
      return _decode_dicom(f)
    if head.startswith((b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff')):
      return _decode_picture(f)
  raise RadiographError('The file is not a PNG, JPEG or DICOM file.')


def _check_size(height: int, width: int) -> None:
  # Before anything is decoded: a file of a few bytes can claim any size.
  if not 0 < height * width <= MAX_PIXELS:
    raise RadiographError(
      f'The film claims {height} x {width} pixels; '
      f'1 to {MAX_PIXELS:,} are read.'
    )


# --- PNG and JPEG -----------------------------------------------------------

# Mean difference between a pixel's highest and lowest channel above which a
# picture is a colour one: a gray film with a coloured mark stays below.
MAX_COLOUR = 0.05


def _decode_picture(file):
  with Image.open(file, formats=('PNG', 'JPEG')) as picture:
    _check_size(picture.height, picture.width)
    kind = picture.format
    if kind == 'PNG' and getattr(picture, 'n_frames', 1) > 1:
      raise RadiographError('The PNG has several frames; one film is read.')
    # As every viewer shows it, and so every box drawn by hand.
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith('I'):
      return _sixteen_bits(np.asarray(picture))
    has_alpha = picture.has_transparency_data
    if picture.mode not in ('1', 'L'):
      picture = picture.convert('RGBA' if has_alpha else 'RGB')
      r, g, b = (np.asarray(picture.getchannel(c)) for c in 'RGB')
      highest = np.maximum(np.maximum(r, g), b)
      lowest = np.minimum(np.minimum(r, g), b)
      if (highest - lowest).mean() / 255 > MAX_COLOUR:
        raise RadiographError(
          'The picture is in colour; a film in shades of gray is read.'
        )
    gray = np.asarray(picture.convert('L'), np.float32) / 255
    if picture.mode == 'RGBA':
      gray = gray * (np.asarray(picture.getchannel('A'), np.float32) / 255)
    return gray, [f'{kind}, 8 bits'], []


def _sixteen_bits(values):
  """Films of 10 to 14 bits are commonly stored in PNGs of 16."""
  highest = int(values.max())
  bits = next(b for b in (8, 10, 12, 14, 16) if highest < 2**b)
  film = values.astype(np.float32) / np.float32(2**bits - 1)
  return film, [f'PNG of 16 bits, {bits} of them used'], []


# --- DICOM ------------------------------------------------------------------

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


def _decode_dicom(file):
  syntax = filereader.read_file_meta_info(file.name).TransferSyntaxUID
  if syntax == uid.DeflatedExplicitVRLittleEndian:
    # It would be inflated whole before its claimed size could be looked at.
    raise RadiographError(
      'The DICOM file is deflated; inflate it first (dcmconv +te).'
    )
  film = pydicom.dcmread(file, specific_tags=_ELEMENTS)
  doubts = _check_dicom(film)
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


def _check_dicom(film) -> list[str]:
  """Raises RadiographError for what is no single gray frontal film."""
  if 'PixelData' not in film:
    raise RadiographError('The DICOM file holds no image.')
  _check_size(film.Rows, film.Columns)
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


# --- Fit and doubt ----------------------------------------------------------


def _fit(film, size: int, fit: str):
  """The image 'size size', and where in it the film's corner is, and scale."""
  height, width = film.shape
  if fit == 'crop':
    side = min(height, width)
    y, x = (height - side) // 2, (width - side) // 2
    image = _resize(film[y : y + side, x : x + side], size, size)
    scale = size / side
    return image, (-y * scale, -x * scale), (scale, scale)
  scale = size / max(height, width)
  h, w = max(1, round(height * scale)), max(1, round(width * scale))
  y, x = (size - h) // 2, (size - w) // 2
  image = np.zeros((size, size), np.uint8)
  image[y : y + h, x : x + w] = _resize(film, h, w)
  return image, (float(y), float(x)), (h / height, w / width)


def _resize(film, height: int, width: int):
  """As input_pipeline.preprocess does it: first 8 bits, then the size."""
  picture = Image.fromarray(np.round(film * 255).astype(np.uint8))
  if film.shape != (height, width):
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
  return np.asarray(picture)


# The mean frontal film, left half of 8 x 8 cells (the right is its mirror), in
# per cent: lungs dark between arms, spine and abdomen. Mean of 11,023 films of
# NIH ChestX-ray14.
_MEAN_FILM = (
  (20, 25, 33, 54),
  (47, 51, 42, 51),
  (57, 54, 35, 50),
  (54, 52, 38, 57),
  (48, 52, 48, 66),
  (43, 56, 62, 74),
  (38, 63, 74, 80),
  (36, 66, 79, 83),
)
# Correlation with the mean film. Of those films 1 % are below the first (and
# are rotated, framed or inverted), most mirrored in gray are below the second.
MIN_LIKENESS = 0.25
MAX_INVERTED = -0.25
MIN_CONTRAST = 0.04  # standard deviation; the lowest of those films has 0.09
MAX_ASPECT = 1.6  # a whole film's longer side is at most 1.4 of the shorter


def _doubts(film, size: int) -> list[str]:
  """Reasons to think that this is not the kind of film the models know."""
  height, width = film.shape
  doubts = []
  if min(height, width) < size:
    doubts.append(
      f'The film is small: {height} x {width} pixels were enlarged to {size}.'
    )
  if max(height, width) > MAX_ASPECT * min(height, width):
    doubts.append(
      f'The film may be cropped: {height} x {width} is not the shape of a '
      'whole chest film.'
    )
  if film.std() < MIN_CONTRAST:
    doubts.append('The film has almost no contrast.')
    return doubts
  cells = np.asarray(Image.fromarray(film).resize((8, 8), Image.Resampling.BOX))
  mean = np.array([row + row[::-1] for row in _MEAN_FILM], np.float32)
  if cells.std() == 0:
    likeness = 0.0
  else:
    likeness = float(np.corrcoef(cells.ravel(), mean.ravel())[0, 1])
  if likeness < MAX_INVERTED:
    doubts.append(
      'The film looks inverted: its lungs or its border are bright.'
    )
  elif likeness < MIN_LIKENESS:
    doubts.append(
      'The picture does not look like an upright frontal chest film: '
      'another view or body part, cropped, rotated or framed.'
    )
  return doubts
