"""A DICOM file -> a gray film in [0, 1], bones bright.

Stored values become the modality's, then those of interest, then gray (PS3.4,
N.2). pydicom parses the file and decodes its pixels; windows are pydicom's.
Kept here is what it leaves out or gets wrong (test_dicom.py shows each): bits
beside those stored, padding, tables of 8 bits, windows below one gray level,
and elements that hold no number.

Of a file only the elements in `elements.READ` are ever read, and none of their
texts is passed on: notes and warnings are made of our words and of numbers.
"""

import io
import logging
import re
import warnings
from typing import BinaryIO, NamedTuple

import numpy as np
import pydicom
from jaxtyping import Bool, Float, Integer, UInt8
from PIL import Image
from pydicom import encaps, pixels, uid
from pydicom.dataset import Dataset

from input_pipeline.radiograph import elements, gray_levels, pictures, views
from input_pipeline.radiograph.errors import (
  RadiographError,
  check_size,
  undecoded,
)

# Its warnings quote the file, and so could print what it says of a patient.
warnings.filterwarnings('ignore', module='pydicom')
logging.getLogger('pydicom').setLevel(logging.CRITICAL)

_GRAY = ('MONOCHROME1', 'MONOCHROME2')
_COLOUR = (
  'RGB',
  'YBR_FULL',
  'YBR_FULL_422',
  'YBR_ICT',
  'YBR_RCT',
  'PALETTE COLOR',
)
_RADIOGRAPHY = ('CR', 'DX', 'DR', 'RG', 'OT')
_CHEST = (
  *('CHEST', 'THORA', 'TORA', 'LUNG', 'PULM', 'BRUST', 'POITRINE', 'PECHO'),
  *('KLATKA', 'ГРУД', '胸', '肺'),
)
# Markers of a JPEG's frame header: all of C0 to CF but three, and JPEG-LS's.
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
HEAD_BYTES = 136  # of a file, to see what it is
_MAX_FIRST = 1024  # bytes of a data set's first element
_ITEM = b'\xfe\xff\x00\xe0'  # how compressed pixels begin (PS3.5, A.4)
# Share of pixels with bits above those stored, above which these are no
# overlay: BitsStored itself is in doubt.
_MAX_UPPER = 0.5


# 8 bits as a file has them, or [0, 1].
Gray = UInt8[np.ndarray, 'h w'] | Float[np.ndarray, 'h w']


class Decoded(NamedTuple):
  """A film as its file means it, not yet turned upright."""

  gray: Gray  # bones bright
  turn: views.Turn  # to upright
  notes: list[str]  # how the pixels were made
  doubts: list[str]  # why the film may not be what the models know


def begins(head: bytes) -> bool:
  """Whether a file that begins so is a DICOM file, with preamble or without."""
  return _start(head) is not None


def _start(head: bytes) -> int | None:
  """Where a file that begins so has what pydicom reads; None: nowhere.

  A whole file has a preamble of 128 bytes and 'DICM' at its start. Without it,
  or with one of the two alone, the first element follows at once.
  """
  if head[128:132] == b'DICM' or _is_element(head):
    return 0
  if head[:4] == b'DICM' and _is_element(head[4:]):
    return 4
  return 128 if _is_element(head[128:]) else None


def _is_element(head: bytes) -> bool:
  """Whether bytes begin as a data set does: with a tag of group 2 (the file's
  meta information) or 8 (of most data sets), then a VR or a short length."""
  if head[4:6] in (b'UL', b'UI', b'CS', b'OB', b'DA', b'LO', b'SH'):
    return head[:2] in (b'\x02\0', b'\x08\0', b'\0\x08')
  length = int.from_bytes(head[4:8], 'little')
  return len(head) >= 8 and head[:2] == b'\x08\0' and length <= _MAX_FIRST


def decode(file: BinaryIO) -> Decoded:
  """Reads a DICOM file.

  Raises:
    RadiographError: it is no single gray frontal film, or cannot be decoded.
  """
  film, notes = _parse(file)
  doubts = _check(film)
  notes += _agree_with_codestream(film)
  turn, said, more = views.examine(film)
  notes = [
    f'DICOM, {film.BitsStored} bits, {film.PhotometricInterpretation}',
    *notes,
    *said,
  ]
  doubts += more
  if film.PhotometricInterpretation in _COLOUR:
    return Decoded(_colour(film), turn, notes, doubts)
  cells = _cells(film)
  shift, note = _shift(film, cells)
  notes += note
  values = (cells >> shift) & (2**film.BitsStored - 1)
  if film.PixelRepresentation == 1:
    values = _signed(values, film.BitsStored)
  padding = _padding(film, cells, values)
  upper = (cells >> (film.BitsStored + shift) != 0) & ~padding
  if film.PixelRepresentation == 0 and upper.mean() > _MAX_UPPER:
    doubts.append(
      f'Most pixels have bits set above the {film.BitsStored} that the file '
      'says it stores (BitsStored): its gray values may be wrong.'
    )
  values, unit, note = gray_levels.modality(film, values)
  notes += note
  gray, note = gray_levels.of_interest(film, values, unit, padding)
  notes += note
  # One inversion, not two: a MONOCHROME1 film's shape is INVERSE by rule
  # (PS3.3, C.8.11.3.1.2), and both say the same.
  if (
    film.PhotometricInterpretation == 'MONOCHROME1'
    or elements.text(film, 'PresentationLUTShape') == 'INVERSE'
  ):
    gray = 1 - gray
    notes.append('inverted, as the file asks')
  if padding.any():
    gray = np.where(padding, 0, gray)
    notes.append(f'{padding.mean():.1%} of it is padding, shown black')
  return Decoded(gray.astype(np.float32), turn, notes, doubts)


# Parsing and refusing.


def _parse(file: BinaryIO) -> tuple[Dataset, list[str]]:
  """The elements of `elements.READ`, with a transfer syntax; notes."""
  notes = []
  head = file.read(2048)
  file.seek(0)
  if uid.DeflatedExplicitVRLittleEndian.encode() in head:
    # It would be inflated whole before its claimed size could be looked at.
    raise RadiographError(
      'The DICOM file is deflated; inflate it first (dcmconv +te of DCMTK).'
    )
  if head[128:132] != b'DICM':
    notes.append('the file has no preamble')
    start = _start(head)
    if start:
      # pydicom looks for elements at the start of a file, or after 'DICM'.
      file = io.BytesIO(file.read()[start:])
  try:
    film = pydicom.dcmread(file, specific_tags=elements.READ, force=True)
  except Exception:
    raise RadiographError(
      'The DICOM is damaged: its elements cannot be read.'
    ) from None
  if 'TransferSyntaxUID' not in film.file_meta:
    if 'PixelData' in film and film['PixelData'].is_undefined_length:
      raise RadiographError(
        'The DICOM has no TransferSyntaxUID, so nothing says how its pixels '
        'are compressed.'
      )
    implicit, little = film.original_encoding
    film.file_meta.TransferSyntaxUID = (
      uid.ImplicitVRLittleEndian
      if implicit
      else uid.ExplicitVRLittleEndian
      if little
      else uid.ExplicitVRBigEndian
    )
    notes.append('no TransferSyntaxUID: uncompressed, as its elements are')
  return film, notes + _mend_syntax(film)


def _mend_syntax(film: Dataset) -> list[str]:
  """Sets the transfer syntax that its pixels have; notes.

  Raises:
    RadiographError: nothing says what it is.
  """
  syntax = film.file_meta.TransferSyntaxUID
  if syntax.is_private or not syntax.is_transfer_syntax:
    raise RadiographError(
      'The DICOM has a TransferSyntaxUID that is not one of the standard; '
      'convert it first, by the program that wrote it.'
    )
  if 'PixelData' not in film or not isinstance(film.PixelData, bytes):
    return []
  in_items = film.PixelData.startswith(_ITEM)
  if in_items and not syntax.is_encapsulated:
    raise RadiographError(
      'The DICOM is compressed, but its TransferSyntaxUID is that of '
      'uncompressed pixels, so nothing says how.'
    )
  if film.PixelData and syntax.is_encapsulated and not in_items:
    film.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    return ['not compressed, though its TransferSyntaxUID says so']
  return []


def _check(film: Dataset) -> list[str]:
  """Refuses what is no single film; returns doubts. Sets what has a default."""
  if 'FloatPixelData' in film or 'DoubleFloatPixelData' in film:
    raise RadiographError(
      'The DICOM holds fractions (FloatPixelData), not the gray values of a '
      'film.'
    )
  if not len(film):
    # Of a file that is cut short amid its fragments, pydicom keeps nothing.
    raise RadiographError(
      'The DICOM is damaged, or holds none of the elements of a film.'
    )
  if not film.get('PixelData'):
    raise RadiographError('The DICOM file holds no image (PixelData).')
  for keyword in elements.REQUIRED:
    elements.require(film, keyword)
  check_size(film.Rows, film.Columns)
  frames = elements.numbers(film, 'NumberOfFrames', strict=True)
  if frames and frames[0] not in (0, 1):
    raise RadiographError('The DICOM has several frames; one film is read.')
  kind = elements.text(film, 'PhotometricInterpretation')
  if kind.startswith('MONOCHROME'):
    kind = re.sub('[ _-]', '', kind)
  film.PhotometricInterpretation = kind
  if kind not in (*_GRAY, *_COLOUR):
    raise RadiographError(
      'The DICOM has a PhotometricInterpretation that is not read; '
      f'{", ".join(_GRAY)} and common kinds of colour are.'
    )
  samples = 1 if kind in _GRAY or kind == 'PALETTE COLOR' else 3
  if film.get('SamplesPerPixel') is None:
    film.SamplesPerPixel = samples
  if film.SamplesPerPixel != samples:
    raise RadiographError(
      f'The DICOM contradicts itself: {film.SamplesPerPixel} SamplesPerPixel '
      f'of PhotometricInterpretation {kind}.'
    )
  if samples == 3:
    syntax = film.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and film.get('PlanarConfiguration') is None:
      film.PlanarConfiguration = 0  # the decoders give it so
    elements.require(film, 'PlanarConfiguration')
  if (
    film.BitsAllocated not in (8, 16, 32)
    or not 0 < film.BitsStored <= film.BitsAllocated
  ):
    raise RadiographError(
      f'The DICOM has {film.BitsStored} bits in {film.BitsAllocated} a pixel '
      '(BitsStored, BitsAllocated), which is not read.'
    )
  if film.PixelRepresentation not in (0, 1):
    raise RadiographError(
      'The DICOM has a PixelRepresentation that is neither 0 nor 1.'
    )
  doubts = []
  modality = elements.text(film, 'Modality')
  if modality and modality not in _RADIOGRAPHY:
    doubts.append('The file says that this is not a radiograph.')
  part = views.words(elements.text(film, 'BodyPartExamined'))
  if part and not any(word in part for word in _CHEST):
    doubts.append('The file names a body part other than the chest.')
  return doubts


# Stored values.


def _agree_with_codestream(film: Dataset) -> list[str]:
  """Sets elements that contradict the compressed pixels; notes.

  Decoders believe the elements, and so give nonsense, or nothing: of a gray
  film whose JPEG has three channels, or one of 8 bits in 16 (BitsAllocated).
  """
  syntax = film.file_meta.TransferSyntaxUID
  found = _codestream(film.PixelData) if syntax.is_encapsulated else None
  if found is None:
    return []
  bits, samples = found
  contradicted = []
  allocated = 8 if bits <= 8 else 16
  if allocated != film.BitsAllocated:
    contradicted.append('BitsAllocated')
    film.BitsStored = min(8, film.BitsStored) if bits <= 8 else bits
    film.BitsAllocated = allocated
    film.HighBit = film.BitsStored - 1
  if samples != film.SamplesPerPixel:
    contradicted.append('SamplesPerPixel')
    film.SamplesPerPixel, film.PlanarConfiguration = samples, 0
    colour = 'YBR_FULL_422' if syntax == uid.JPEGBaseline8Bit else 'RGB'
    film.PhotometricInterpretation = 'MONOCHROME2' if samples == 1 else colour
  return [
    f'its {keyword} contradicts its pixels and was passed by'
    for keyword in contradicted
  ]


def _codestream(data: bytes) -> tuple[int, int] | None:
  """(bits, samples) of compressed pixels by their own header; None: unknown."""
  try:
    frame = encaps.get_frame(data, 0, number_of_frames=1)
    if frame[:2] == b'\xff\xd8':  # JPEG and JPEG-LS
      place = 2
      while frame[place + 1] not in _START_OF_FRAME:
        place += 2 + int.from_bytes(frame[place + 2 : place + 4], 'big')
      bits, samples = frame[place + 4], frame[place + 9]
    elif b'\xff\x4f\xff\x51' in frame[:1024]:  # JPEG 2000
      size = frame[frame.index(b'\xff\x4f\xff\x51') :]
      bits, samples = (size[42] & 0x7F) + 1, int.from_bytes(size[40:42], 'big')
    else:
      return None
  except Exception:
    return None
  return (bits, samples) if bits <= 16 and samples in (1, 3) else None


def _cells(film: Dataset) -> Integer[np.ndarray, 'h w']:
  """All bits of every pixel, without sign: BitsAllocated, or what a decoder
  found."""
  array = _pixel_array(film)
  if array.shape != (film.Rows, film.Columns):
    raise RadiographError(
      'The DICOM is damaged: its pixels have another size than Rows x Columns.'
    )
  bits = max(film.BitsAllocated, 8 * array.dtype.itemsize)
  return array.astype(np.int64 if bits > 16 else np.int32) & (2**bits - 1)


def _pixel_array(film: Dataset, *, raw: bool = True) -> np.ndarray:
  """pydicom's array; `raw`: as stored, else with YBR made RGB."""
  syntax = film.file_meta.TransferSyntaxUID
  if not syntax.is_encapsulated:
    samples = film.SamplesPerPixel
    if film.PhotometricInterpretation == 'YBR_FULL_422':
      samples = 2
    asked = film.Rows * film.Columns * samples * film.BitsAllocated // 8
    if len(film.PixelData) < asked:
      raise RadiographError(
        f'The DICOM is damaged: it holds {len(film.PixelData)} bytes of '
        f'pixels, and its size asks for {asked}.'
      )
  try:
    # The bits are cut below, since pydicom takes HighBit for BitsStored - 1.
    return pixels.pixel_array(film, raw=raw, correct_unused_bits=False)
  except Exception:
    raise undecoded(syntax, film.BitsStored) from None


def _shift(
  film: Dataset, cells: Integer[np.ndarray, 'h w']
) -> tuple[int, list[str]]:
  """How many bits lie below the stored ones in each cell; notes."""
  bits, highest = film.BitsStored, film.get('HighBit')
  shift = 0 if highest is None else highest + 1 - bits
  if not 0 <= shift <= film.BitsAllocated - bits:
    return 0, ['its HighBit contradicts its other bits and was passed by']
  # JPEG and its kin keep whole cells or the stored bits alone, lowest. And some
  # write a HighBit of 15 whatever they store: then nothing is in the highest
  # bits, and something is below those that it means.
  if shift and cells.max() < 2**bits:
    syntax = film.file_meta.TransferSyntaxUID
    keeps_cells = not syntax.is_encapsulated or syntax == uid.RLELossless
    if not keeps_cells:
      return 0, []
    if (cells & (2**shift - 1)).any():
      return 0, ['its HighBit contradicts its pixels and was passed by']
  return shift, []


def _signed(values: np.ndarray | int, bits: int) -> np.ndarray | int:
  """The lowest bits of integers, as two's complement."""
  sign = 1 << (bits - 1)
  return ((values & (2**bits - 1)) ^ sign) - sign


def _padding(
  film: Dataset,
  cells: Integer[np.ndarray, 'h w'],
  values: Integer[np.ndarray, 'h w'],
) -> Bool[np.ndarray, 'h w']:
  """Where a pixel is no part of the film (PS3.3, C.7.5.1.1.2).

  A padding value may need more bits than are stored (65535 of 12 bits): then
  whole cells are compared, or, where none holds it, the stored bits of both.
  """
  ends = [
    int(elements.numbers(film, keyword)[0])
    for keyword in ('PixelPaddingValue', 'PixelPaddingRangeLimit')
    if elements.numbers(film, keyword)
  ]
  none = np.zeros(cells.shape, bool)
  if not elements.numbers(film, 'PixelPaddingValue'):
    return none
  bits, allocated = film.BitsStored, film.BitsAllocated
  if film.PixelRepresentation == 1:
    # Written as unsigned by many.
    ends = [_signed(end, allocated) for end in ends]
    cells = _signed(cells, allocated)
    cut = [_signed(end, bits) for end in ends]
  else:
    ends = [end & (2**allocated - 1) for end in ends]  # -1 is 65535
    cut = [end & (2**bits - 1) for end in ends]
  padding = none
  if cut != ends:
    padding = (cells >= min(ends)) & (cells <= max(ends))
  if not padding.any():
    padding = (values >= min(cut)) & (values <= max(cut))
  # All of it: the element is wrong, not the film.
  return padding & ~padding.all()


def _colour(film: Dataset) -> Float[np.ndarray, 'h w']:
  """A gray film that is stored in colour, as screen captures are."""
  array = _pixel_array(film, raw=False)
  try:
    if film.PhotometricInterpretation != 'PALETTE COLOR':
      channels = array / (2**film.BitsStored - 1)
    elif 'RedPaletteColorLookupTableData' in film:
      channels = np.stack(
        [_palette(film, c, array) for c in elements.COLOURS], axis=-1
      )
    else:
      channels = pixels.apply_color_lut(array, film)  # of segments
      channels = channels / (2 ** (8 * channels.dtype.itemsize) - 1)
    picture = Image.fromarray(np.uint8(np.clip(channels, 0, 1) * 255 + 0.5))
  except Exception:
    raise RadiographError(
      'The DICOM lacks a part of its palette (PaletteColorLookupTable), or it '
      'is damaged.'
    ) from None
  return pictures.to_gray(picture) / np.float32(255)


def _palette(
  film: Dataset, colour: str, values: Integer[np.ndarray, 'h w']
) -> Float[np.ndarray, 'h w']:
  """One channel, in [0, 1]."""
  channel, bits = gray_levels.look_up(
    film[f'{colour}PaletteColorLookupTableDescriptor'].value,
    film[f'{colour}PaletteColorLookupTableData'].value,
    values,
    film,
  )
  return channel / (2**bits - 1)
