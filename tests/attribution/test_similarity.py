"""Correlation and structural similarity against SciPy and scikit-image."""

import numpy as np
import pytest
from scipy import stats

from cxr.attribution import similarity

RNG = np.random.default_rng(0)


def _maps(*shape):
  return RNG.normal(size=shape)


@pytest.mark.parametrize('rank', [False, True])
def test_correlation_is_scipys(rank):
  a, b = _maps(3, 5, 6, 2), _maps(3, 5, 6, 2)
  a[0] = np.round(a[0])  # ties
  oracle = stats.spearmanr if rank else stats.pearsonr
  for i in range(3):
    for k in range(2):
      expected = oracle(a[i, ..., k].ravel(), b[i, ..., k].ravel())[0]
      value = similarity.correlation(a, b, rank=rank)[i, k]
      assert value == pytest.approx(expected, abs=1e-12)


def test_rank_correlation_sees_order_only():
  a = _maps(2, 4, 4)
  np.testing.assert_allclose(similarity.correlation(a, np.exp(a), rank=True), 1)
  np.testing.assert_allclose(similarity.correlation(a, -a, rank=True), -1)


def test_correlation_of_constant_and_broken_maps():
  flat, varied = np.full((1, 4, 4), 0.1), _maps(1, 4, 4)
  broken = varied.copy()
  broken[0, 0, 0] = np.nan
  for rank in (False, True):
    assert similarity.correlation(flat, 3 * flat, rank=rank) == 1
    assert similarity.correlation(flat, varied, rank=rank) == 0
    assert np.isnan(similarity.correlation(broken, varied, rank=rank))
    assert np.isnan(similarity.correlation(varied, broken, rank=rank))


def naive_ssim(a, b, data_range, sigma=1.5, radius=5):
  """Wang et al. 2004 by loops over every whole window."""
  at = np.arange(-radius, radius + 1)
  window = np.exp(-(at[:, None] ** 2 + at**2) / (2 * sigma**2))
  window /= window.sum()
  c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
  values = []
  for i in range(radius, len(a) - radius):
    for j in range(radius, a.shape[1] - radius):
      here = np.s_[i - radius : i + radius + 1, j - radius : j + radius + 1]
      x, y = a[here], b[here]
      mx, my = (window * x).sum(), (window * y).sum()
      vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
      cov = (window * (x - mx) * (y - my)).sum()
      values.append(
        (2 * mx * my + c1)
        * (2 * cov + c2)
        / ((mx**2 + my**2 + c1) * (vx + vy + c2))
      )
  return np.mean(values)


def test_ssim_equals_its_definition():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 3, 14, 17))
  b += a
  expected = [naive_ssim(x, y, 4.0) for x, y in zip(a, b, strict=True)]
  np.testing.assert_allclose(similarity.ssim(a, b, data_range=4.0), expected)
  by_map = similarity.ssim(a, b, data_range=np.array([4.0, 2.0, 9.0]))
  np.testing.assert_allclose(by_map[0], expected[0])
  np.testing.assert_allclose(by_map[1], naive_ssim(a[1], b[1], 2.0))
  findings = np.stack([a, b], -1)
  both = similarity.ssim(findings, np.stack([b, b], -1), data_range=4.0)
  assert both.shape == (3, 2)
  np.testing.assert_allclose(both[:, 0], expected)
  np.testing.assert_allclose(both[:, 1], 1)


def test_ssim_closed_forms():
  a = np.random.default_rng(1).normal(size=(1, 16, 16))
  np.testing.assert_allclose(similarity.ssim(a, a, data_range=2.0), 1)
  # Constant maps: what is left is the comparison of their means.
  low, high = np.full((1, 16, 16), 0.2), np.full((1, 16, 16), 0.6)
  c1 = 0.01**2
  expected = (2 * 0.2 * 0.6 + c1) / (0.2**2 + 0.6**2 + c1)
  np.testing.assert_allclose(
    similarity.ssim(low, high, data_range=1.0), expected
  )
  zero = np.zeros((1, 16, 16))
  np.testing.assert_array_equal(similarity.ssim(zero, zero, data_range=0.0), 1)
  assert np.isnan(similarity.ssim(a * np.nan, a, data_range=1.0)).all()
  with pytest.raises(
    ValueError, match='8 by 8 are smaller than a window of 11'
  ):
    similarity.ssim(a[:, :8, :8], a[:, :8, :8], data_range=1.0)


def test_ssim_equals_scikit_image():
  metrics = pytest.importorskip(
    'skimage.metrics', reason='the oracle is scikit-image'
  )
  a, b = np.random.default_rng(2).normal(size=(2, 1, 24, 20))
  expected = metrics.structural_similarity(
    a[0],
    b[0],
    data_range=5.0,
    gaussian_weights=True,
    use_sample_covariance=False,
  )
  np.testing.assert_allclose(similarity.ssim(a, b, data_range=5.0), expected)
