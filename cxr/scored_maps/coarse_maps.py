"""Coarse copies of the maps that are scored: coarse_maps.npz, for studies.

A study asks how alike the maps of several networks are on one film, and whole
maps are too large to be kept by every run. Of at most
config.evaluate.measure_films boxed films each map is reduced to CELLS by CELLS
cells, the mean of what lies below each, and divided by its largest magnitude,
so that half precision keeps it.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cxr import files

FILE = 'coarse_maps.npz'
MOST_FILMS = 128
CELLS = 32  # a side, where the film has as many pixels
_PREFIX = 'map_'


class CoarseMaps(NamedTuple):
  """The reduced maps of some films, by method."""

  name: np.ndarray  # 'n' str
  patient: Int[np.ndarray, ' n']
  finding: np.ndarray  # 'k' str
  maps: Mapping[str, Float[np.ndarray, 'n u v k']]


def reduce(
  maps: Float[np.ndarray, 'n h w k'], cells: int = CELLS
) -> np.ndarray:  # 'n u v k' float16
  """Means over cells of equal area, over the map's largest magnitude.

  A pixel that lies on a border counts in both cells, by its shares. A film of
  fewer pixels than cells keeps its pixels.
  """
  height, width = (_means(side, min(cells, side)) for side in maps.shape[1:3])
  reduced = np.einsum('uh,nhwk,vw->nuvk', height, maps, width, optimize=True)
  largest = np.abs(reduced).max((1, 2), keepdims=True)
  return (reduced / np.where(largest > 0, largest, 1)).astype(np.float16)


def _means(num_pixels: int, num_cells: int) -> Float[np.ndarray, 'c p']:
  """The weight of each pixel of a line in the mean of each cell."""
  size = num_pixels / num_cells
  start = size * np.arange(num_cells)[:, None]
  pixel = np.arange(num_pixels)[None]
  shared = np.minimum(start + size, pixel + 1) - np.maximum(start, pixel)
  return np.maximum(shared, 0.0) / size


def write(path: str, coarse: CoarseMaps) -> None:
  """Writes the file whole or not at all."""
  arrays = {f'{_PREFIX}{method}': maps for method, maps in coarse.maps.items()}
  columns = {'name': coarse.name, 'patient': coarse.patient}
  files.write_arrays(path, columns | {'finding': coarse.finding} | arrays)


def read(workdir: str) -> CoarseMaps | None:
  """The maps of a run; None where it has none.

  Raises:
    ValueError: the file is damaged.
  """
  path = os.path.join(workdir, FILE)
  if not os.path.exists(path):
    return None
  arrays = files.read_arrays(path)
  columns = [arrays.pop(name) for name in ('name', 'patient', 'finding')]
  maps = {name.removeprefix(_PREFIX): maps for name, maps in arrays.items()}
  return CoarseMaps(*columns, maps)
