"""Class activation maps against the identities that define them."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from cxr.attribution import cam

METHODS = {
  'grad_cam': cam.grad_cam,
  'grad_cam_plus_plus': cam.grad_cam_plus_plus,
  'hires_cam': cam.hires_cam,
  'layer_cam': cam.layer_cam,
}


def _features(shape=(3, 4, 5, 6), seed=0):
  return jax.nn.relu(jax.random.normal(jax.random.key(seed), shape))


def _kernel(d=6, k=4):
  return jax.random.normal(jax.random.key(7), (d, k))


def _pooled_head(kernel, bias=0.5):
  return lambda features: features.mean((1, 2)) @ kernel + bias


def _deep_head(features):
  """Not linear, and no two cells alike."""
  d = features.shape[-1]
  keys = jax.random.split(jax.random.key(3), 3)
  hidden = jnp.tanh(features @ jax.random.normal(keys[0], (d, 5)))
  cells = jax.random.uniform(keys[1], (*features.shape[1:3], 1))
  pooled = (hidden * cells[None]).sum((1, 2))
  return pooled @ jax.random.normal(keys[2], (5, 4))


def test_cam_by_hand():
  features = jnp.array([[[[1.0, 2.0], [0.0, 3.0]]]])
  kernel = jnp.array([[1.0, -1.0], [10.0, 0.5]])
  expected = [[[[21.0, 0.0], [30.0, 1.5]]]]
  np.testing.assert_array_equal(cam.cam(features, kernel), expected)


def test_cam_plus_bias_averages_to_the_logits():
  features, kernel = _features(), _kernel()
  logits = _pooled_head(kernel, 0.5)(features)
  maps = cam.cam(features, kernel)
  np.testing.assert_allclose(maps.mean((1, 2)) + 0.5, logits, rtol=1e-5)


@pytest.mark.parametrize('name', ['grad_cam', 'hires_cam'])
def test_of_a_pooled_linear_head_is_cam_over_cells(name):
  features, kernel = _features(), _kernel()
  maps = METHODS[name](_pooled_head(kernel), features)
  np.testing.assert_allclose(
    maps, cam.cam(features, kernel) / 20, rtol=1e-5, atol=1e-7
  )


def test_layer_cam_of_a_pooled_linear_head_takes_the_positive_weights():
  features, kernel = _features(), _kernel()
  maps = cam.layer_cam(_pooled_head(kernel), features)
  expected = cam.cam(features, jnp.maximum(kernel, 0)) / 20
  np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-7)


def test_grad_cam_plus_plus_is_the_published_quotient():
  features = _features()
  logits = _deep_head(features)
  maps = cam.grad_cam_plus_plus(_deep_head, features)
  for k in range(logits.shape[1]):
    g = np.asarray(
      jax.grad(lambda f, k=k: _deep_head(f)[:, k].sum())(features), np.float64
    )
    f = np.asarray(features, np.float64)
    total = f.sum((1, 2), keepdims=True)
    alpha = g**2 / (2 * g**2 + total * g**3)
    weights = (alpha * np.maximum(g, 0)).sum((1, 2))
    expected = np.einsum('buvd,bd->buv', f, weights)
    np.testing.assert_allclose(maps[..., k], expected, rtol=1e-4)


def test_grad_cam_plus_plus_without_gradient_or_with_negative_features():
  flat = cam.grad_cam_plus_plus(
    lambda f: 0 * f.sum((1, 2, 3))[:, None], _features()
  )
  np.testing.assert_array_equal(flat, 0)
  signed = jax.random.normal(jax.random.key(0), (1, 3, 3, 6))
  maps = cam.grad_cam_plus_plus(_pooled_head(_kernel()), signed)
  assert np.isfinite(maps).all()


@pytest.mark.parametrize('name', METHODS)
def test_each_finding_is_the_map_of_its_own_logit(name):
  features = _features()
  maps = METHODS[name](_deep_head, features)
  for k in range(4):
    alone = METHODS[name](lambda f, k=k: _deep_head(f)[:, k : k + 1], features)
    np.testing.assert_allclose(
      maps[..., k : k + 1], alone, rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize('name', METHODS)
def test_an_image_does_not_depend_on_its_batch(name):
  features = _features()
  together = METHODS[name](_deep_head, features)
  for i in range(3):
    alone = METHODS[name](_deep_head, features[i : i + 1])
    np.testing.assert_allclose(together[i : i + 1], alone, rtol=1e-5, atol=1e-6)


def test_relu_keeps_the_positive_part():
  features, kernel = _features(), _kernel()
  signed = cam.cam(features, kernel)
  assert (signed < 0).any()
  np.testing.assert_array_equal(
    cam.cam(features, kernel, relu=True), np.maximum(signed, 0)
  )
  for method in METHODS.values():
    np.testing.assert_array_equal(
      method(_deep_head, features, relu=True),
      np.maximum(method(_deep_head, features), 0),
    )


def test_bfloat16_features_give_float32_maps():
  features = _features().astype(jnp.bfloat16)
  kernel = _kernel()
  assert cam.cam(features, kernel).dtype == jnp.float32
  head = lambda f: f.astype(jnp.float32).mean((1, 2)) @ kernel
  np.testing.assert_allclose(
    cam.grad_cam(head, features),
    cam.cam(features, kernel) / 20,
    rtol=2e-2,
    atol=1e-2,
  )


def test_fuse_by_hand():
  coarse = jnp.ones((1, 2, 2, 1))
  fine = jnp.array([[[[4.0], [-3.0]], [[2.0], [0.0]]]])
  fused = cam.fuse([fine], gamma=2.0)
  expected = np.tanh([[[[2.0], [0.0]], [[1.0], [0.0]]]])
  np.testing.assert_allclose(fused, expected, rtol=1e-6)
  both = cam.fuse([fine, coarse], gamma=0.5)
  np.testing.assert_allclose(both, np.tanh(np.full((1, 2, 2, 1), 0.5)))


def test_fuse_of_negative_maps_is_zero():
  fused = cam.fuse([-jnp.ones((1, 4, 4, 3))])
  np.testing.assert_array_equal(fused, np.zeros((1, 4, 4, 3)))


def test_enlarge_keeps_a_constant_and_the_centre():
  maps = jnp.zeros((1, 3, 3, 1)).at[0, 1, 1].set(1.0)
  large = cam.enlarge(maps, (9, 9), stride=3, offset=1)
  assert np.unravel_index(large.argmax(), large.shape) == (0, 4, 4, 0)
  np.testing.assert_allclose(
    cam.enlarge(maps + 2, (9, 9), stride=3, offset=1), large + 2, rtol=1e-6
  )


@pytest.mark.parametrize('stride', [2, 3, 8])
def test_cells_in_the_middle_of_their_pixels_are_a_plain_enlargement(stride):
  maps = jax.random.normal(jax.random.key(0), (2, 4, 3, 5))
  size = 4 * stride, 3 * stride
  np.testing.assert_allclose(
    cam.enlarge(maps, size, stride=stride, offset=(stride - 1) / 2),
    jax.image.resize(maps, (2, *size, 5), 'bilinear'),
    atol=1e-5,
  )


@pytest.mark.parametrize('stride, offset', [(4, 0), (8, 2), (16, 6.0)])
def test_a_cell_is_highest_at_the_pixel_it_looks_at(stride, offset):
  maps = jnp.zeros((1, 4, 4, 1)).at[0, 1, 2].set(1.0)
  side = 4 * stride
  large = cam.enlarge(maps, (side, side), stride=stride, offset=offset)[
    0, ..., 0
  ]
  peak = offset + stride * 1, offset + stride * 2
  assert np.unravel_index(large.argmax(), large.shape) == peak


def test_one_compilation_under_jit():
  count = []

  @jax.jit
  def maps(features):
    count.append(1)
    return cam.grad_cam(_deep_head, features)

  maps(_features(seed=0))
  maps(_features(seed=1))
  assert len(count) == 1
