"""One film file -> one gray square of the wanted size, and its regions in it.

Films are read by `radiograph`, which reads them for explanations as well: the
same file gives the same pixels. The whole film is shown, with black beside it
where it is not square. A film smaller than the square is refused: enlarged
among reduced ones it would be recognised by its blur.

pydicom takes a second to import, so `radiograph` is imported where a film is
read: by worker processes, and not by what only finds a set prepared.
"""

import base64
import json
import os
import warnings
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from input_pipeline import run_lengths
from input_pipeline.sources.film_table import Box, FilmRow, Mask

# Of a film that cannot be decoded: its file, the reason, and the detail.
Fault = tuple[str, str, str]

# A box may reach so many pixels over the film's border, as sums of rounded
# numbers do; it is cut there.
_OVERHANG = 1.0


class Square(NamedTuple):
  """A film as it is prepared; y before x."""

  image: UInt8[np.ndarray, 's s']
  height: int  # of the film as it is stored, in its own pixels
  width: int
  turn: tuple[bool, bool, bool]  # to upright: views.Turn
  # Where the upright film lies in the image: y, x, height, width.
  place: tuple[int, int, int, int]
  doubts: tuple[str, ...] = ()  # why it may not be what the models know


def decode(path: str, image_size: int) -> Square:
  """The film at `path` in a square of `image_size` pixels.

  Raises:
    ValueError: `(reason, detail)`, for what is not read, or is smaller.
  """
  from input_pipeline.radiograph import errors, radiograph

  try:
    with warnings.catch_warnings():
      # Pillow's, of the size that the reader refuses by itself.
      warnings.simplefilter('ignore', Image.DecompressionBombWarning)
      film, turn, _, doubts = radiograph.decode(path)
  except errors.RadiographError as e:
    raise ValueError(e.reason, str(e)) from e
  height, width = film.shape
  if max(height, width) < image_size:
    raise ValueError(
      'smaller than image_size', f'{max(height, width)} < {image_size}'
    )
  upright = turn.apply(film)
  place = radiograph.padded(*upright.shape, image_size)
  image = radiograph.fit_square(upright, image_size, 'pad').image
  return Square(image, height, width, turn, place, tuple(doubts))


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
    ValueError: the mask cannot be read, or is of another size than its film.
  """
  if mask.path:
    pixels, name = _read_mask(mask.path), mask.path
  else:
    pixels, name = run_lengths.decode(mask.counts, mask.size), 'its run lengths'
  if pixels.shape != (square.height, square.width):
    raise ValueError(
      f'the mask {name} is of {pixels.shape[0]} x {pixels.shape[1]} pixels '
      f'(height x width) and its film of {square.height} x {square.width}; a '
      'mask must have the size of its film.'
    )
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


def _read_mask(path: str) -> Bool[np.ndarray, 'h w']:
  """What is not black."""
  try:
    with Image.open(path, formats=('PNG',)) as picture:
      if picture.mode not in ('1', 'L') and not picture.mode.startswith('I'):
        picture = picture.convert('RGBA')
        visible = np.asarray(picture)[..., 3] > 0
        return (np.asarray(picture)[..., :3] > 0).any(-1) & visible
      return np.asarray(picture) > 0
  # Pillow raises nearly anything on a damaged file.
  except Exception as e:
    raise ValueError(
      f'the mask {path} cannot be read as a PNG ({type(e).__name__}).'
    ) from e


class Decoded(NamedTuple):
  """What a chunk's file says of one film; all but the pixels."""

  fault: Fault | None = None
  boxes: tuple[Box, ...] = ()  # in [0, 1] of the prepared image
  masks: tuple[tuple[int, str], ...] = ()  # (finding, `pack`ed pixels)
  left_out: tuple[tuple[str, str, int], ...] = ()  # reason, detail, finding
  # Height and width of the film that boxes are measured on, and its turn to
  # upright (views.Turn) as 0 or 1.
  frame: tuple[int, ...] = ()
  doubts: tuple[str, ...] = ()  # sentences


def pack(mask: Bool[np.ndarray, 's s']) -> str:
  """A mask as a text."""
  return base64.b64encode(zlib.compress(np.packbits(mask))).decode('ascii')


def unpack(text: str) -> UInt8[np.ndarray, ' bytes']:
  """The bits of a mask, as np.packbits orders them."""
  return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)


def decode_film(
  film: FilmRow, image_size: int
) -> tuple[list[UInt8[np.ndarray, 's s']], Decoded]:
  """The pixels of all renditions, and what is known of the film.

  Raises:
    ValueError: one sentence, where a mask contradicts its film.
  """
  squares = []
  for path in film.paths:
    try:
      square = decode(path, image_size)
      if film.frame and square.height * film.frame[1] != (
        square.width * film.frame[0]
      ):
        # Its boxes were drawn on a film of another shape.
        raise ValueError(
          'not square'
          if film.frame[0] == film.frame[1]
          else 'of another shape than its boxes say',
          f'{square.width} x {square.height} pixels',
        )
    except ValueError as e:
      reason, detail = e.args
      return [], Decoded((path, reason, detail))
    squares.append(square)
  square = squares[0]
  boxes, masks, left_out = [], [], []
  for box in film.boxes:
    try:
      boxes.append(Box(box.finding, place_box(square, box.box, film.frame)))
    except ValueError as e:
      reason, detail = e.args
      where = f'{box.where}: ' if box.where else ''
      left_out.append((reason, f'{where}{detail}', box.finding))
  for mask in film.masks:
    try:
      pixels = place_mask(square, mask)
    except ValueError as e:
      raise ValueError(f'{film.where}, {film.image}: {e}') from e
    if pixels is None:
      left_out.append(('mask without a pixel', mask.path, mask.finding))
    else:
      masks.append((mask.finding, pack(pixels)))
  images = [square.image for square in squares]
  frame = film.frame or (square.height, square.width)
  known = tuple(boxes), tuple(masks), tuple(left_out)
  frame = *frame, *map(int, square.turn)
  return images, Decoded(None, *known, frame, square.doubts)


def decode_chunk(
  films: Sequence[FilmRow], image_size: int, out: str
) -> list[Decoded]:
  """Decodes a chunk of films, each in all its renditions, into two files.

  `out`.u8 holds the pixels, uint8 `(film, rendition, h, w)`, zeros for a film
  of which a rendition cannot be decoded; `out`.json what else is known, and the
  CRC-32 of the pixels. The second is renamed into place last: where it stands,
  the chunk is complete, whatever was killed when.

  Args:
    films: with as many renditions each.
    image_size: pixels.
    out: path without its ending.

  Raises:
    ValueError: as `decode_film`.
  """
  known, crc = [], 0
  temporary = f'{out}.{os.getpid()}.tmp'
  with open(temporary, 'wb') as f:
    for film in films:
      images, decoded = decode_film(film, image_size)
      known.append(decoded)
      blank = bytes(image_size * image_size * len(film.paths))
      for part in [image.tobytes() for image in images] or [blank]:
        f.write(part)
        crc = zlib.crc32(part, crc)
    f.flush()
    # Before the rename: else a power cut can leave a complete name over
    # missing pixels.
    os.fsync(f.fileno())
  os.replace(temporary, f'{out}.u8')
  with open(temporary, 'w', encoding='utf-8') as f:
    json.dump({'films': known, 'crc32': crc}, f)
    f.flush()
    os.fsync(f.fileno())
  os.replace(temporary, f'{out}.json')
  return known


def read_chunk(out: str, films: int) -> list[Decoded] | None:
  """What is known of a decoded chunk; None where it is not whole, or not there.

  Args:
    out: as of `decode_chunk`.
    films: how many films it must hold.
  """
  try:
    with open(f'{out}.json', encoding='utf-8') as f:
      stored = json.load(f)
    known = [
      Decoded(
        fault and tuple(map(str, fault)),
        tuple(Box(int(k), tuple(map(float, box))) for k, box, *_ in boxes),
        tuple((int(k), str(text)) for k, text in masks),
        tuple((str(r), str(d), int(k)) for r, d, k in left_out),
        tuple(map(int, frame)),
        tuple(map(str, doubts)),
      )
      for fault, boxes, masks, left_out, frame, doubts in stored['films']
    ]
    crc = 0
    with open(f'{out}.u8', 'rb') as f:
      while part := f.read(2**20):
        crc = zlib.crc32(part, crc)
  except (OSError, ValueError, TypeError, KeyError):
    return None
  whole = len(known) == films and crc == stored['crc32']
  return known if whole else None
