"""Does a film look like the films that the models know?"""

import numpy as np
from jaxtyping import Float
from PIL import Image

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
# Share of the film: of 600 of those films at most 21 % are pure black or white,
# and at most 23 % lie within one level of another.
MAX_FLAT = 0.8
MAX_ASPECT = 1.6  # a whole film's longer side is at most 1.4 of the shorter


def doubts(film: Float[np.ndarray, 'h w'], size: int) -> list[str]:
  """Reasons to think that this is not the kind of film the models know."""
  height, width = film.shape
  found = []
  if min(height, width) < size:
    found.append(
      f'The film is small: {height} x {width} pixels were enlarged to {size}.'
    )
  if max(height, width) > MAX_ASPECT * min(height, width):
    found.append(
      f'The film may be cropped: {height} x {width} is not the shape of a '
      'whole chest film.'
    )
  levels = np.bincount(np.uint8(film.ravel() * 255 + 0.5), minlength=256)
  levels = levels / film.size
  saturated = levels[0] + levels[255]
  # A level and its two neighbours: compression blurs a flat film.
  one_level = np.convolve(levels, np.ones(3), 'same').max()
  if saturated > MAX_FLAT:
    found.append(
      f'{saturated:.0%} of the film is pure black or white: its window may not '
      'be meant for these pixels.'
    )
  elif film.std() < MIN_CONTRAST or one_level > MAX_FLAT:
    found.append(
      'The film has almost no contrast: '
      f'{one_level:.0%} of it is nearly one level of gray.'
    )
  if film.std() < MIN_CONTRAST:
    return found
  cells = np.asarray(Image.fromarray(film).resize((8, 8), Image.Resampling.BOX))
  mean = np.array([row + row[::-1] for row in _MEAN_FILM], np.float32)
  if cells.std() == 0:
    likeness = 0.0
  else:
    likeness = float(np.corrcoef(cells.ravel(), mean.ravel())[0, 1])
  if likeness < MAX_INVERTED:
    found.append('The film looks inverted: its lungs or its border are bright.')
  elif likeness < MIN_LIKENESS:
    found.append(
      'The picture does not look like an upright frontal chest film: '
      'another view or body part, cropped, rotated or framed.'
    )
  return found
