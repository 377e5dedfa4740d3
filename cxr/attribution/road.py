"""ROAD: remove pixels so that their absence says nothing (Rong et al. 2022).

Deletion paints pixels black, and the outline of what was painted tells the
network where they were. Here each removed pixel is the weighted mean of its
neighbours (removed ones too: a linear system), plus a little noise, so that
hardly anything is left of where pixels were removed.

References:
  Rong et al. 2022, A Consistent and Efficient Evaluation Strategy for
  Attribution Methods, arXiv 2202.00449, section 4.2.
"""

import numpy as np
from jaxtyping import Array, Bool, Float
from scipy import sparse
from scipy.sparse import linalg

# Weights of the neighbours: straight ones count twice as much as diagonal ones.
_NEIGHBOURS = {
  (dy, dx): 1 / 6 if dy == 0 or dx == 0 else 1 / 12
  for dy in (-1, 0, 1)
  for dx in (-1, 0, 1)
  if dy or dx
}


def impute(
  image: Float[np.ndarray, 'h w'], removed: Bool[np.ndarray, 'h w']
) -> Float[np.ndarray, 'h w']:
  """The image, each removed pixel the weighted mean of its neighbours.

  At the border the weights of the neighbours that exist add up to 1.

  Raises:
    ValueError: every pixel is removed: nothing is left to take a mean of.

  Examples:
    >>> impute(np.array([[0.0, 9.0, 2.0]]), np.array([[False, True, False]]))
    array([[0., 1., 2.]])
  """
  if removed.all():
    raise ValueError('Every pixel is removed; leave some.')
  filled = np.array(image, np.float64)
  y, x = np.nonzero(removed)
  if not len(y):
    return filled
  number = np.full(removed.shape, -1)
  number[y, x] = np.arange(len(y))
  known, total = np.zeros(len(y)), np.zeros(len(y))
  rows, columns, weights = [], [], []
  for (dy, dx), weight in _NEIGHBOURS.items():
    v, u = y + dy, x + dx
    there = (v >= 0) & (v < image.shape[0]) & (u >= 0) & (u < image.shape[1])
    of = np.flatnonzero(there)
    v, u = v[of], u[of]
    total[of] += weight
    other = number[v, u]
    known[of] += np.where(other < 0, weight * filled[v, u], 0.0)
    rows.append(of[other >= 0])
    columns.append(other[other >= 0])
    weights.append(np.full((other >= 0).sum(), -weight))
  diagonal = np.arange(len(y))
  index = (
    np.concatenate([*rows, diagonal]),
    np.concatenate([*columns, diagonal]),
  )
  # Symmetric and positive definite.
  system = sparse.csc_array((np.concatenate([*weights, total]), index))
  solver = linalg.splu(
    system, permc_spec='MMD_AT_PLUS_A', options={'SymmetricMode': True}
  )
  filled[y, x] = solver.solve(known)
  return filled


def remove(
  rng: np.random.Generator,
  image: Float[np.ndarray, 'h w 1'],
  heatmap: Float[Array | np.ndarray, 'h w'],
  share: float,
  *,
  most_relevant: bool,
  noise: float = 0.01,
) -> Float[np.ndarray, 'h w 1']:
  """The image without a share of its pixels, by the order of the map.

  Args:
    rng: for the noise.
    image: in [0, 1].
    heatmap: pixels that tie go row by row.
    share: of the pixels, from 0 to below 1; rounded down to whole pixels.
    most_relevant: the hottest pixels go first (MoRF), else the coldest (LeRF).
    noise: standard deviation of what is added to the removed pixels; the
      result is clipped to [0, 1].

  Examples:
    >>> rng, image = np.random.default_rng(0), np.array([[[0.0], [0.9], [0.2]]])
    >>> heatmap = image[..., 0]
    >>> options = {'most_relevant': True, 'noise': 0.0}
    >>> remove(rng, image, heatmap, 0.4, **options).ravel().tolist()
    [0.0, 0.1, 0.2]
  """
  heat = np.ravel(np.asarray(heatmap, np.float64))
  order = np.argsort(-heat if most_relevant else heat, kind='stable')
  removed = np.zeros(heat.size, bool)
  removed[order[: int(share * heat.size)]] = True
  removed = removed.reshape(image.shape[:2])
  filled = impute(image[..., 0], removed)
  filled += np.where(removed, noise * rng.normal(size=filled.shape), 0.0)
  return np.clip(filled, 0, 1)[..., None]
