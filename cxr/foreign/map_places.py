"""Where the cells of a map from elsewhere look, and the map drawn there."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from cxr.attribution import cam
from cxr.localization import regions
from input_pipeline.radiograph import radiograph, views

# What a map's cells may cover.
COVERS = ('film', 'square')


class Place(NamedTuple):
  """Where the cells of maps look.

  Cell i looks at pixel offset + stride * i of a network's input of `size`
  pixels a side, whose pixels count from 0 by their centres. Without a stride
  the cells share the input evenly. The input showed `covers`: the 'film' as it
  is stored, drawn to a square if it is none, or the 'square' that this program
  prepares, with black beside a film that is no square.
  """

  stride: float | None = None
  offset: float | None = None
  size: float | None = None  # None: config.data.image_size
  covers: str | None = None  # None: 'film'
  # Rows, columns, stride and offset of the cells that the random map is drawn
  # on, in pixels of the prepared film; None: the maps' own cells.
  cells: tuple[float, ...] | None = None
  method: str | None = None  # what made the maps


def check_place(place: Place) -> Place:
  """The place; ValueError where its numbers mean no place."""
  if (place.stride is None) != (place.offset is None):
    given = 'stride' if place.offset is None else 'offset'
    raise ValueError(
      f'The place of a cell needs both stride and offset, and {given} alone is '
      'given; without either the cells share the film evenly.'
    )
  for name, least in (('stride', 0), ('size', 0), ('offset', -math.inf)):
    value = getattr(place, name)
    if value is not None and not (math.isfinite(value) and value > least):
      raise ValueError(
        f'{name} ({value:g}) must be a number'
        + (' above 0.' if least == 0 else '.')
      )
  if place.covers not in (None, *COVERS):
    raise ValueError(
      f'covers ({place.covers!r}) must be one of {", ".join(COVERS)}.'
    )
  if place.cells is not None and not (
    len(place.cells) == 4
    and all(map(math.isfinite, place.cells))
    and min(place.cells[:3]) > 0
  ):
    raise ValueError(
      f'cells ({place.cells}) must be rows, columns, stride and offset.'
    )
  return place


def placed(
  cells: np.ndarray, place: Place, size: int, frame: Sequence[int]
) -> Float[np.ndarray, 's s']:
  """A map on the pixels of the prepared film, in float32.

  Between the points that two cells look at, values are linear; a map that is
  finer than the film's pixels is averaged over each of them. Beside a film that
  is no square a map has its lowest value, and so where it is not finite. A map
  of values beyond float32 is scaled, which no score depends on.

  Args:
    cells: the map, 'h w'.
    place: of its cells.
    size: of the prepared film, in pixels.
    frame: of the film: height, width and turn, as in `pipeline.Split.frame`.

  Examples:
    >>> whole = (1024, 1024, 0, 0, 0)
    >>> placed(np.array([[0, 4], [0, 4]]), Place(), 2, whole).tolist()
    [[0.0, 4.0], [0.0, 4.0]]
    >>> wide = (512, 1024, 0, 0, 0)
    >>> placed(np.array([[1, 4]]), Place(), 4, wide)[:2, :2].tolist()
    [[1.0, 1.0], [1.0, 1.0]]
  """
  values = regions.clean(cells.astype(np.float64))
  height, width, *turned = map(int, frame)
  turn = views.Turn(*map(bool, turned))
  top, left, high, wide = 0, 0, size, size
  if place.covers != 'square':
    upright = (width, height) if turn.transpose else (height, width)
    top, left, high, wide = radiograph.padded(*upright, size)
  else:
    turn = views.Turn()
  sides = (wide, high) if turn.transpose else (high, wide)
  rows, columns = (
    cell_weights(count, side, place, size)
    for count, side in zip(values.shape, sides, strict=True)
  )
  values = values if rows is None else rows @ values
  values = values if columns is None else values @ columns.T
  result = np.full((size, size), values.min())
  result[top : top + high, left : left + wide] = turn.apply(values)
  peak = np.abs(result).max()
  if peak and not 1e-30 < peak < 1e30:
    result = result / peak
  return result.astype(np.float32)


@functools.lru_cache(maxsize=64)
def cell_weights(
  num_cells: int, num_pixels: int, place: Place, size: int
) -> Float[np.ndarray, 'p c'] | None:
  """Weights of a line's cells in each of its pixels; None: they are the pixels.

  Args:
    num_cells: of the map.
    num_pixels: of the prepared film that the map covers.
    place: of the cells.
    size: of the prepared film, in pixels.
  """
  stride, offset = num_pixels / num_cells, (num_pixels / num_cells - 1) / 2
  if place.stride is not None:
    scale = num_pixels / (place.size or size)
    stride = place.stride * scale
    offset = (place.offset + 0.5) * scale - 0.5
  if (num_cells, stride, offset) == (num_pixels, 1, 0):
    return None
  if stride >= 1:
    return cam.interpolation(
      num_cells, num_pixels, stride=stride, offset=offset
    )
  # Finer than the pixels: the share of each pixel that each cell covers.
  edge = offset + 0.5 + stride * (np.arange(num_cells + 1) - 0.5)
  edge[0], edge[-1] = min(edge[0], 0.0), max(edge[-1], num_pixels)
  pixel = np.arange(num_pixels)[:, None]
  shared = np.minimum(edge[1:], pixel + 1) - np.maximum(edge[:-1], pixel)
  shared = np.maximum(shared, 0.0)
  return shared / shared.sum(axis=1, keepdims=True)


def describe(place: Place, image_size: int) -> Mapping[str, object]:
  """The place of cells in plain values, as evaluation.json has it."""
  if place.stride is None:
    return {'covers': place.covers or 'film'}
  return {
    'covers': place.covers or 'film',
    'stride': place.stride,
    'offset': place.offset,
    'size': place.size or image_size,
  }
