"""Masks, textures and bounding boxes, from which a chest film is drawn.

A field is a float32 array over the film, '(s, s)', supersampled. Fields must
stay float32: that is twice as fast, and small enough that the allocator keeps
their memory. Beware NumPy's own float64 scalars, which widen a field.
"""

import math

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

Field = Float[np.ndarray, 's s']  # on the film, supersampled

Box = tuple[float, float, float, float]  # ymin, xmin, ymax, xmax in [0, 1]


def smooth(x):
  """A step from 0 to 1 that rises between x = 0 and x = 1."""
  x = np.clip(x, 0, 1)
  return x * x * (3 - 2 * x)


def ball(dx, dy, rx, ry, angle: float = 0.0):
  """The length of a ray's way through an ellipsoid, 1 through its centre.

  Args:
    dx, dy: offsets from the centre.
    rx, ry: half-axes across and down, before the ellipsoid is turned.
    angle: of the turn, in radians.
  """
  c, s = math.cos(angle), math.sin(angle)
  r2 = ((dx * c + dy * s) / rx) ** 2 + ((dy * c - dx * s) / ry) ** 2
  return np.sqrt(np.maximum(1 - r2, 0))


def noise(rng: np.random.Generator, size: int, cells: int) -> Field:
  """Smooth noise of about unit variance, with `cells` cells a side."""
  grid = rng.standard_normal((cells, cells)).astype(np.float32)
  return 1.3 * np.asarray(Image.fromarray(grid).resize((size, size), 3))


def fractal(
  rng: np.random.Generator, size: int, cells: int, octaves: int
) -> Field:
  """Noise of several sizes of cells, each half as large and .6 as strong."""
  return sum(noise(rng, size, cells * 2**k) * 0.6**k for k in range(octaves))


def extent(mask: Bool[np.ndarray, 's s']) -> Box | None:
  """(ymin, xmin, ymax, xmax) in [0, 1], or None where nothing is."""
  rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
  if not rows.size:
    return None
  size = len(mask)
  edges = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
  return tuple(float(edge) / size for edge in edges)
