"""A PNG or JPEG file -> a gray film."""

from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Integer, UInt8
from PIL import Image, ImageChops, ImageOps, ImageStat

from input_pipeline.radiograph.errors import RadiographError, check_size

# Mean difference between a pixel's highest and lowest channel, of 255, above
# which a picture is in colour: a gray film with a coloured mark stays below.
MAX_COLOUR = 0.05 * 255


def decode(
  file: BinaryIO,
) -> tuple[UInt8[np.ndarray, 'h w'] | Float[np.ndarray, 'h w'], list[str]]:
  """The film, turned as its eXIf orientation says; notes.

  In 8 bits, or in [0, 1] where the file has more.

  Raises:
    RadiographError: it has several frames, is in colour or too large.
  """
  with Image.open(file, formats=('PNG', 'JPEG')) as picture:
    check_size(picture.height, picture.width)
    kind = picture.format
    if kind == 'PNG' and getattr(picture, 'n_frames', 1) > 1:
      raise RadiographError('The PNG has several frames; one film is read.')
    if picture.mode.startswith('I'):
      return _sixteen_bits(np.asarray(ImageOps.exif_transpose(picture)))
    return to_gray(picture), [f'{kind}, 8 bits']


def to_gray(picture: Image.Image) -> UInt8[np.ndarray, 'h w']:
  """A picture of at most 8 bits a channel, as every viewer shows it on black.

  Turned as its EXIF orientation says, and laid on black where it is
  transparent.

  Raises:
    RadiographError: it is in colour.
  """
  if picture.mode not in ('1', 'L', 'LA'):
    red, green, blue = picture.convert('RGB').split()
    highest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    lowest = ImageChops.darker(ImageChops.darker(red, green), blue)
    spread = ImageStat.Stat(ImageChops.difference(highest, lowest))
    if spread.mean[0] > MAX_COLOUR:
      raise RadiographError(
        'The picture is in colour; a film in shades of gray is read.',
        reason='in colour',
      )
  return np.asarray(_on_black(ImageOps.exif_transpose(picture)))


def _on_black(picture: Image.Image) -> Image.Image:
  if picture.mode in ('1', 'L'):
    return picture.convert('L')
  if not picture.has_transparency_data:
    return picture.convert('RGB').convert('L')
  picture = picture.convert('RGBA')
  black = Image.new('L', picture.size)
  # Rounds to the nearest level, as ImageChops.multiply does not.
  return Image.composite(picture.convert('L'), black, picture.getchannel('A'))


def _sixteen_bits(
  values: Integer[np.ndarray, 'h w'],
) -> tuple[Float[np.ndarray, 'h w'], list[str]]:
  """Films of 10 to 14 bits are commonly stored in PNGs of 16."""
  highest = int(values.max())
  bits = next(b for b in (8, 10, 12, 14, 16) if highest < 2**b)
  film = values.astype(np.float32) / np.float32(2**bits - 1)
  return film, [f'PNG of 16 bits, {bits} of them used']
