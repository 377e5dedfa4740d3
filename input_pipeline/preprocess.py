"""One film file -> one gray square of the wanted size, and its regions in it.

Films are read by `radiograph`, which reads them for explanations as well: the
same file gives the same pixels. The whole film is shown, with black beside it
where it is not square. A film smaller than the square is refused: enlarged
among reduced ones it would be recognised by its blur.

pydicom takes a second to import, so `radiograph` is imported where a film is
read: by worker processes, and not by what only finds a set prepared.
"""

import json
import os
import warnings
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from input_pipeline import placement
from input_pipeline.sources.film_table import Box, FilmRow

# Of a film that cannot be decoded: its file, the reason, and the detail.
Fault = tuple[str, str, str]


def decode(path: str, image_size: int) -> placement.Square:
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
  return placement.Square(image, height, width, turn, place, tuple(doubts))


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
      boxes.append(
        Box(box.finding, placement.place_box(square, box.box, film.frame))
      )
    except ValueError as e:
      reason, detail = e.args
      where = f'{box.where}: ' if box.where else ''
      left_out.append((reason, f'{where}{detail}', box.finding))
  for mask in film.masks:
    try:
      pixels = placement.place_mask(square, mask)
    except ValueError as e:
      raise ValueError(f'{film.where}, {film.image}: {e}') from e
    if pixels is None:
      left_out.append(('mask without a pixel', mask.path, mask.finding))
    else:
      masks.append((mask.finding, placement.pack(pixels)))
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
