"""One film file -> one gray square of the wanted size.

`decode` is the only place where a film's pixels are read and resized for
training. A film is gray, 8-bit and square; one of the wanted size is left as
it is, any other is resized by a triangle filter as wide as the reduction
(bilinear with anti-aliasing). A smaller one is refused: enlarged among reduced
ones it would be recognised by its blur.

Nothing is imported here but Pillow, so that workers start quickly.
"""

import json
import os
import warnings
import zlib
from collections.abc import Sequence

from PIL import Image, ImageOps

_GRAY_FROM = ('1', 'L', 'LA', 'P', 'RGB', 'RGBA')

# Of a film that cannot be decoded: its file, the reason, and the detail.
Fault = tuple[str, str, str]


def to_gray(picture: Image.Image) -> Image.Image:
  """The picture in 8-bit gray, as every viewer shows it on black.

  Turned as its EXIF orientation says, and laid on black where it is
  transparent. What a picture of a film contains is decided here alone.
  """
  picture = ImageOps.exif_transpose(picture)
  if picture.mode in ('1', 'L'):
    return picture.convert('L')
  if not picture.has_transparency_data:
    return picture.convert('RGB').convert('L')
  picture = picture.convert('RGBA')
  black = Image.new('L', picture.size)
  # Rounds to the nearest level, as ImageChops.multiply does not.
  return Image.composite(picture.convert('L'), black, picture.getchannel('A'))


def decode(path: str, image_size: int) -> Image.Image:
  """The film at `path` as an 8-bit gray image, `image_size` pixels square.

  Raises:
    ValueError: `(reason, detail)`, for whatever is not a whole, 8-bit, square
      PNG or JPEG of at least that size.
  """
  try:
    with warnings.catch_warnings():
      # Some 90 megapixels and more: never decoded.
      warnings.simplefilter('error', Image.DecompressionBombWarning)
      with Image.open(path, formats=('PNG', 'JPEG')) as image:
        mode, (width, height) = image.mode, image.size
        if mode in _GRAY_FROM and width == height:
          gray = to_gray(image)
  except (Image.DecompressionBombWarning, Image.DecompressionBombError) as e:
    raise ValueError('too large', str(e)) from e
  # Pillow's parsers raise nearly anything on a damaged file (SyntaxError,
  # struct.error, zlib.error, ...): to us they all mean the same.
  except Exception as e:
    detail = f'{type(e).__name__}: {e}'.replace(path, os.path.basename(path))
    raise ValueError('undecodable', detail[:200]) from e
  if mode not in _GRAY_FROM:
    raise ValueError('not 8-bit gray or colour', f'mode {mode}')
  if width != height:
    raise ValueError('not square', f'{width} x {height} pixels')
  if width < image_size:
    raise ValueError('smaller than image_size', f'{width} < {image_size}')
  if gray.size != (image_size, image_size):
    gray = gray.resize((image_size, image_size), Image.Resampling.BILINEAR)
  return gray


def decode_chunk(
  films: Sequence[Sequence[str]], image_size: int, out: str
) -> list[Fault | None]:
  """Decodes a chunk of films, each in all its renditions, into two files.

  `out`.u8 holds the pixels, uint8 `(film, rendition, h, w)`, zeros for a film
  of which a rendition cannot be decoded; `out`.json for each film null or its
  fault, and the CRC-32 of the pixels. The second is renamed into place last:
  where it stands, the chunk is complete, whatever was killed when.

  Args:
    films: paths, `[film][rendition]`.
    image_size: pixels.
    out: path without its ending.

  Returns:
    for each film None or its fault.
  """
  faults, crc = [], 0
  temporary = f'{out}.{os.getpid()}.tmp'
  with open(temporary, 'wb') as f:
    for renditions in films:
      pixels, fault = [], None
      for path in renditions:
        try:
          pixels.append(decode(path, image_size).tobytes())
        except ValueError as e:
          fault = (path, *e.args)
          pixels = [bytes(image_size * image_size * len(renditions))]
          break
      faults.append(fault)
      for part in pixels:
        f.write(part)
        crc = zlib.crc32(part, crc)
    f.flush()
    # Before the rename: else a power cut can leave a complete name over
    # missing pixels.
    os.fsync(f.fileno())
  os.replace(temporary, f'{out}.u8')
  with open(temporary, 'w', encoding='utf-8') as f:
    json.dump({'faults': faults, 'crc32': crc}, f)
    f.flush()
    os.fsync(f.fileno())
  os.replace(temporary, f'{out}.json')
  return faults


def chunk_faults(out: str, films: int) -> list[Fault | None] | None:
  """The faults of a decoded chunk; None where it is not whole, or not there.

  Args:
    out: as of `decode_chunk`.
    films: how many films it must hold.
  """
  try:
    with open(f'{out}.json', encoding='utf-8') as f:
      stored = json.load(f)
    faults = [fault and tuple(map(str, fault)) for fault in stored['faults']]
    crc = 0
    with open(f'{out}.u8', 'rb') as f:
      while part := f.read(2**20):
        crc = zlib.crc32(part, crc)
  except (OSError, ValueError, TypeError, KeyError):
    return None
  whole = len(faults) == films and crc == stored['crc32']
  return faults if whole else None
