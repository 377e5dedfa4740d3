"""Maps of films as a file that --mode=score, NumPy and PyTorch users read.

An .npz file with `image`, `finding` and `map`, a row for each film and finding,
and where the cells of the maps look (docs/maps.md). It is written batch by
batch, so that all maps need not be held.
"""

import zipfile
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from cxr import files


def file_name(method: str) -> str:
  """Of the maps of a method.

  Examples:
    >>> file_name('cam')
    'maps-cam.npz'
  """
  return f'maps-{method}.npz'


def write(
  path: str,
  films: Sequence[str],
  findings: Sequence[str],
  batches: Iterable[Float[np.ndarray, 'b h w k']],
  *,
  size: int,
  method: str,
  cells: Sequence[float],
) -> None:
  """Writes the file.

  Args:
    path: of it.
    films: the names of all films, in order.
    findings: the k findings.
    batches: the maps of the films, one batch after the other.
    size: of the maps and of the prepared films, in pixels.
    method: what made the maps.
    cells: rows, columns, stride and offset of the cells that a random map is
      drawn on, where one stands beside these.
  """
  arrays = {
    'image': np.repeat(np.array(films, np.str_), len(findings)),
    'finding': np.tile(np.array(findings, np.str_), len(films)),
    'covers': np.array('square'),
    'size': np.array(size),
    'cells': np.array(cells, np.float64),
    'method': np.array(method),
  }
  header = {
    'descr': np.dtype(np.float32).str,
    'fortran_order': False,
    'shape': (len(films) * len(findings), size, size),
  }
  with (
    files.replacing(path) as temporary,
    # Little of a map can be pressed out, and much time be lost at it.
    zipfile.ZipFile(
      temporary, 'w', zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive,
  ):
    for name, array in arrays.items():
      with archive.open(f'{name}.npy', 'w') as f:
        np.lib.format.write_array(f, array, allow_pickle=False)
    with archive.open('map.npy', 'w', force_zip64=True) as f:
      np.lib.format.write_array_header_1_0(f, header)
      for maps in batches:
        rows = np.moveaxis(maps, -1, 1)
        f.write(np.ascontiguousarray(rows, np.float32).tobytes())
