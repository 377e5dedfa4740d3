"""Does a film look like the films that the models know?"""

import numpy as np
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
MAX_ASPECT = 1.6  # a whole film's longer side is at most 1.4 of the shorter


def doubts(film, size: int) -> list[str]:
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
  if film.std() < MIN_CONTRAST:
    found.append('The film has almost no contrast.')
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
