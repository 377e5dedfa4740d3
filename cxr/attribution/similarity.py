"""How alike two maps are. NumPy alone: a study of stored maps needs no JAX.

Maps are 'b h w' (one finding) or 'b h w k', and the values float64. Anything of
a map with NaN in it is NaN.
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import ndimage, stats

# Arrays of NumPy or of JAX.
Maps = Float[Any, 'b h w *k']


def correlation(
  a: Maps, b: Maps, *, rank: bool = False
) -> Float[np.ndarray, ' b *k']:
  """Correlation over the pixels of each map: Pearson's, or Spearman's `rank`.

  Two constant maps agree (1); a constant and a varying one do not (0).

  Examples:
    >>> a = np.array([[[1.0, 2.0, 9.0]]])
    >>> correlation(a, a**3, rank=True).round(6).tolist()
    [1.0]
  """
  return agreement(standardize(a, rank), standardize(b, rank))


def agreement(
  a: Float[np.ndarray, 'b p *k'], b: Float[np.ndarray, 'b p *k']
) -> Float[np.ndarray, ' b *k']:
  """`correlation` of maps that are standardized already.

  For one map that is held against many: most of the time goes into its ranks.

  Examples:
    >>> a = standardize(np.array([[[1.0, 2.0, 3.0]]]))
    >>> agreement(a, -a).round(6).tolist()
    [-1.0]
  """
  constant = ~a.any(1) & ~b.any(1)
  return np.where(constant, 1.0, (a * b).sum(1))


def standardize(maps: Maps, rank: bool = False) -> Float[np.ndarray, 'b p *k']:
  """Pixels on one axis, of mean 0 and length 1; 0 where the map is constant.

  Args:
    maps: raw.
    rank: take the ranks of the pixels in the place of their values.

  Examples:
    >>> standardize(np.array([[[1.0, 2.0, 3.0]]])).round(3).tolist()
    [[-0.707, 0.0, 0.707]]
  """
  maps = np.asarray(maps, np.float64)
  maps = maps.reshape(maps.shape[0], -1, *maps.shape[3:])
  bad = ~np.isfinite(maps).all(1, keepdims=True)
  maps = np.where(bad, 0, maps)
  if rank:
    maps = stats.rankdata(maps, axis=1)
  # Compared before the mean is taken off, which leaves rounding behind.
  constant = maps.max(1, keepdims=True) == maps.min(1, keepdims=True)
  maps = maps - maps.mean(1, keepdims=True)
  length = np.sqrt((maps**2).sum(1, keepdims=True))
  maps = np.where(constant, 0, maps / np.where(constant, 1, length))
  return np.where(bad, np.nan, maps)


def ssim(
  a: Maps,
  b: Maps,
  *,
  data_range: float | Float[np.ndarray, ' b *k'],
  sigma: float = 1.5,
) -> Float[np.ndarray, ' b *k']:
  """Structural similarity of each pair of maps: Wang et al. 2004, equation 13.

  Means and covariances are taken under a Gaussian of `sigma` pixels, cut at 3.5
  sigma. The result is the mean over the pixels whose whole window lies in the
  map.

  Args:
    a: maps.
    b: maps of the same shape.
    data_range: L of the constants (0.01 L)^2 and (0.03 L)^2, one for all maps
      or one for each.
    sigma: in pixels.

  Raises:
    ValueError: maps smaller than a window.

  Examples:
    >>> a = np.random.default_rng(0).normal(size=(1, 12, 12))
    >>> ssim(a, a, data_range=1.0).round(6).tolist()
    [1.0]
  """
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  radius = int(3.5 * sigma + 0.5)
  if min(a.shape[1:3]) < 2 * radius + 1:
    raise ValueError(
      f'Maps of {a.shape[1]} by {a.shape[2]} are smaller than a window of '
      f'{2 * radius + 1}; choose a sigma below {sigma}.'
    )

  def local_mean(x):
    return ndimage.gaussian_filter(x, sigma, axes=(1, 2), radius=radius)[
      :, radius:-radius, radius:-radius
    ]

  data_range = np.asarray(data_range, np.float64)
  if data_range.ndim:
    data_range = data_range[:, None, None]
  luminance, contrast = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
  mean_a, mean_b = local_mean(a), local_mean(b)
  product = mean_a * mean_b
  squares = mean_a**2 + mean_b**2
  covariance = local_mean(a * b) - product
  variances = local_mean(a**2) + local_mean(b**2) - squares
  numerator = (2 * product + luminance) * (2 * covariance + contrast)
  denominator = (squares + luminance) * (variances + contrast)
  # Both maps 0 throughout and so no range: equal.
  same = denominator == 0
  ratio = np.where(same, 1.0, numerator / np.where(same, 1.0, denominator))
  return ratio.mean((1, 2))
