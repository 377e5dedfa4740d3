"""Where a film lies in its prepared image, and its true regions with it.

The whole film is shown upright in a square, with black beside it. Boxes and
masks are given of the film as it is stored; boxes are (ymin, xmin, ymax, xmax).
"""

import base64
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from input_pipeline import run_lengths
from input_pipeline.sources.film_table import Mask

# A box may reach so many pixels over the film's border, as sums of rounded
# numbers do; it is cut there.
_OVERHANG = 1 + 1e-6


class Square(NamedTuple):
  """A film as it is prepared; y before x."""

  image: UInt8[np.ndarray, 's s']
  height: int  # of the film as it is stored, in its own pixels
  width: int
  turn: tuple[bool, bool, bool]  # to upright: views.Turn
  # Where the upright film lies in the image: y, x, height, width.
  place: tuple[int, int, int, int]
  doubts: tuple[str, ...] = ()  # why it may not be what the models know


class MaskError(ValueError):
  """A mask that cannot be one of its film; its text is half a sentence."""


def place_box(
  square: Square, box: Sequence[float], frame: tuple[int, int] | None
) -> tuple[float, float, float, float]:
  """A box of the stored film -> the same in [0, 1] of the prepared image.

  Args:
    square: the film.
    box: (ymin, xmin, ymax, xmax) in pixels of a film of `frame`.
    frame: height and width; None: the film's own.

  Raises:
    ValueError: `(reason, detail)`, where it has no size or is not on the film.
  """
  height, width = frame or (square.height, square.width)
  shares = np.asarray(box, np.float64) / (height, width, height, width)
  y, x = _OVERHANG / height, _OVERHANG / width
  inside = np.clip(shares, 0, 1)
  detail = ', '.join(f'{v:g}' for v in box)
  if not (shares[2] > shares[0] and shares[3] > shares[1]):
    raise ValueError('box of no size', detail)
  if np.any(np.abs(inside - shares) > (y, x, y, x)):
    raise ValueError(
      'box outside the film',
      f'{detail} (ymin, xmin, ymax, xmax) of {height} x {width} pixels',
    )
  if not (inside[2] > inside[0] and inside[3] > inside[1]):
    raise ValueError('box of no size', detail)
  if any(square.turn):
    inside = _turn(square).boxes(inside, 1, 1)
  top, left, high, wide = square.place
  size = len(square.image)
  # In this order: a film that fills the image keeps its shares bit by bit.
  shares = inside * np.divide((high, wide, high, wide), size)
  shares += np.divide((top, left, top, left), size)
  return tuple(shares.tolist())


def place_mask(square: Square, mask: Mask) -> Bool[np.ndarray, 's s'] | None:
  """A mask of the stored film at the prepared image's size; None: it is empty.

  A pixel belongs to it where most of what it shows does; of a region too small
  for that, where it shows most of it.

  Raises:
    MaskError: it cannot be read, or is of another size than its film.
  """
  if mask.path:
    pixels = _read_mask(mask.path, square)
  else:
    _check_size('of run lengths', mask.size, square)
    pixels = run_lengths.decode(mask.counts, mask.size)
  if not pixels.any():
    return None
  top, left, high, wide = square.place
  picture = Image.fromarray(_turn(square).apply(pixels).astype(np.float32))
  if picture.size != (wide, high):
    picture = picture.resize((wide, high), Image.Resampling.BOX)
  share = np.zeros(square.image.shape, np.float32)
  share[top : top + high, left : left + wide] = picture
  return share >= min(0.5, share.max())


def _turn(square: Square):
  from input_pipeline.radiograph import views

  return views.Turn(*square.turn)


def _check_size(name: str, size: tuple[int, int], square: Square) -> None:
  if size != (square.height, square.width):
    raise MaskError(
      f'the mask {name} is of {size[0]} x {size[1]} pixels (height x width) '
      f'and its film of {square.height} x {square.width}; a mask must have the '
      'size of its film.'
    )


def _read_mask(path: str, square: Square) -> Bool[np.ndarray, 'h w']:
  """What is not black."""
  try:
    with Image.open(path, formats=('PNG',)) as picture:
      _check_size(path, (picture.height, picture.width), square)
      if picture.mode not in ('1', 'L') and not picture.mode.startswith('I'):
        picture = picture.convert('RGBA')
        visible = np.asarray(picture)[..., 3] > 0
        return (np.asarray(picture)[..., :3] > 0).any(-1) & visible
      return np.asarray(picture) > 0
  except MaskError:
    raise
  # Pillow raises nearly anything on a damaged file.
  except Exception as e:
    raise MaskError(
      f'the mask {path} cannot be read as a PNG ({type(e).__name__}); write '
      'it anew, or remove it.'
    ) from e


def pack(mask: Bool[np.ndarray, 's s']) -> str:
  """A mask as a text."""
  return base64.b64encode(zlib.compress(np.packbits(mask))).decode('ascii')


def unpack(text: str) -> UInt8[np.ndarray, ' bytes']:
  """The bits of a mask, as np.packbits orders them."""
  return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
