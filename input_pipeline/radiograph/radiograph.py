"""A user's film file (PNG, JPEG, DICOM) -> an image as the models know films.

The image is gray, float32 in [0, 1], lungs dark and bones bright, cut to 8 bits
and resized as the training films were: the same film gives the same image. Its
aspect ratio is kept; `Radiograph.to_film_pixels` leads from the image's boxes
back to the film's own pixels, counted from the top left as a viewer shows them.

A film that must not be interpreted (damaged, in colour, lateral, several
frames, a decompression bomb) raises `RadiographError`, one sentence. A film
that can be read but may not be what the models know comes with warnings.
"""

import os
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from input_pipeline.radiograph import dicom, likeness, pictures, views
from input_pipeline.radiograph.errors import RadiographError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.dcm', '.dicom')
FITS = ('pad', 'crop')
MAX_BYTES = 400_000_000


class Radiograph(NamedTuple):
  """A film, ready for a model; y before x, as in all boxes."""

  image: Float[np.ndarray, 'h w 1']  # [0, 1]; h = w = size
  height: int  # of the film as it is stored, in its own pixels
  width: int
  turn: views.Turn  # from the stored film to the upright one in the image
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
    lies in the padding alone comes back without area. Where the stored film
    was turned upright, the boxes are those of the stored one.
    """
    upright = self.height, self.width
    if self.turn.transpose:
      upright = upright[::-1]
    size = np.tile(self.image.shape[:2], 2)
    corner = np.asarray(boxes, np.float64) * size - np.tile(self.offset, 2)
    pixels = np.clip(corner / np.tile(self.scale, 2), 0, np.tile(upright, 2))
    return self.turn.undo(pixels, *upright)


def find(path: str) -> tuple[list[str], dict[str, int]]:
  """The films in a folder and all folders below it, or the one file given.

  A film is a file with one of `SUFFIXES`, or one that begins as a DICOM does
  (their names are often bare numbers). Hidden files and folders are passed by.
  Links to folders are followed, each folder once.

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
  found, seen = [], set()

  def unreadable(error):
    del error
    skipped['other'] += 1

  for folder, folders, files in os.walk(
    path, onerror=unreadable, followlinks=True
  ):
    real = os.path.realpath(folder)
    if real in seen:  # links may lead in circles
      folders.clear()
      continue
    seen.add(real)
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
  """Whether a file has a film's ending or begins as a DICOM file does."""
  # A DICOMDIR begins as a film does, and a pipe would be waited for.
  if not os.path.isfile(path) or os.path.basename(path) == 'DICOMDIR':
    return False
  if path.lower().endswith(SUFFIXES):
    return True
  try:
    with open(path, 'rb') as f:
      return dicom.begins(f.read(dicom.HEAD_BYTES))
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
  film, turn, notes, doubts = decode(path)
  height, width = film.shape
  upright = turn.apply(film)
  doubts += likeness.doubts(_in_unit(upright), size)
  fitted = fit_square(upright, size, fit)
  return Radiograph(
    fitted.image[..., None] / np.float32(255),
    height,
    width,
    turn,
    fitted.offset,
    fitted.scale,
    fit,
    tuple(notes),
    tuple(doubts),
  )


def decode(path: str) -> dicom.Decoded:
  """Reads one film as it is stored, in its own pixels.

  Raises:
    RadiographError: the film is not interpreted, and why.
  """
  try:
    return _decode(path)
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
      'The file is damaged, or holds what no film holds.'
    ) from None


def _decode(path: str) -> dicom.Decoded:
  with open(path, 'rb') as f:
    head = f.read(dicom.HEAD_BYTES)
    f.seek(0)
    if os.fstat(f.fileno()).st_size > MAX_BYTES:
      raise RadiographError(
        f'The file is larger than {MAX_BYTES // 1_000_000} MB.'
      )
    if head.startswith((b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff')):
      gray, notes = pictures.decode(f)
      return dicom.Decoded(gray, views.Turn(), notes, [])
    if dicom.begins(head):
      return dicom.decode(f)
  raise RadiographError('The file is not a PNG, JPEG or DICOM file.')


class Fitted(NamedTuple):
  """A film in a square; y before x."""

  image: UInt8[np.ndarray, 's s']
  offset: tuple[float, float]  # the film's top left corner, in image pixels
  scale: tuple[float, float]  # image pixels per film pixel


def fit_square(film: dicom.Gray, size: int, fit: str) -> Fitted:
  """An upright film cut to 8 bits and resized into a square."""
  height, width = film.shape
  if fit == 'crop':
    side = min(height, width)
    y, x = (height - side) // 2, (width - side) // 2
    image = _resize(film[y : y + side, x : x + side], size, size)
    scale = size / side
    return Fitted(image, (-y * scale, -x * scale), (scale, scale))
  y, x, h, w = padded(height, width, size)
  image = np.zeros((size, size), np.uint8)
  image[y : y + h, x : x + w] = _resize(film, h, w)
  return Fitted(image, (float(y), float(x)), (h / height, w / width))


def padded(height: int, width: int, size: int) -> tuple[int, int, int, int]:
  """Where a film lies in a square that shows all of it: y, x, height, width.

  Examples:
    >>> padded(2000, 1000, 224)
    (0, 56, 224, 112)
  """
  scale = size / max(height, width)
  h, w = max(1, round(height * scale)), max(1, round(width * scale))
  return (size - h) // 2, (size - w) // 2, h, w


def _in_unit(film: dicom.Gray) -> Float[np.ndarray, 'h w']:
  """A film of 8 bits, or already in [0, 1], in [0, 1]."""
  return film / np.float32(255) if film.dtype == np.uint8 else film


def _resize(
  film: dicom.Gray, height: int, width: int
) -> UInt8[np.ndarray, 'u v']:
  """First 8 bits, then the size, by a triangle filter as wide as the reduction
  (bilinear with anti-aliasing); a film of the wanted size stays as it is."""
  if film.dtype != np.uint8:
    film = np.round(film * 255).astype(np.uint8)
  if film.shape == (height, width):
    return film
  picture = Image.fromarray(film)
  return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
