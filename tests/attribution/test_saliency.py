"""Saliency maps of functions whose maps are known."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.tree_util import Partial
from scipy import ndimage

from cxr.attribution import saliency

SHAPE = (6, 8, 1)
KEY = jax.random.key(0)
IMAGE = jax.random.uniform(jax.random.key(1), SHAPE)
WEIGHT = jax.random.normal(jax.random.key(2), (*SHAPE, 3))
_DRAW = np.random.default_rng(0).normal
INNER = np.float32(_DRAW(size=(48, 512)))
OUTER = np.float32(_DRAW(size=(512, 2)) / 60)


def linear(image):
  """Three scores, linear in the image, without bias."""
  return jnp.einsum('hwc,hwck->k', image, WEIGHT)


def smooth(image):
  """Three scores, not linear."""
  return jnp.tanh(linear(image)) + (image**3).sum()


def component(k, image):
  """One score; k is an array, so that all are one compilation."""
  return smooth(image)[k]


def rectified(image):
  """Piecewise linear with many kinks, as the networks are."""
  return jax.nn.relu(image.ravel() @ INNER - 0.3) @ OUTER


METHODS = {
  'gradient': jax.jit(saliency.gradient),
  'gradient_x_input': jax.jit(saliency.gradient_x_input),
  'smooth_grad': lambda f, x, **options: saliency.smooth_grad(
    f, KEY, x, num_samples=5, **options
  ),
  'integrated_gradients': lambda f, x, **options: saliency.integrated_gradients(
    f, x, num_steps=5, **options
  )[0],
  'occlusion': lambda f, x, **options: saliency.occlusion(
    f, x, window=3 / 6, **options
  ),
  'rise': lambda f, x, **options: saliency.rise(
    f, KEY, x, num_masks=5, grid=3, **options
  ),
}


def test_gradient_of_a_linear_score_is_its_weight():
  np.testing.assert_allclose(
    saliency.gradient(linear, IMAGE), WEIGHT[:, :, 0], rtol=1e-6
  )


@pytest.mark.parametrize('name', METHODS)
def test_all_scores_at_once_are_each_score_alone(name):
  maps = METHODS[name](Partial(smooth), IMAGE)
  assert maps.shape == (6, 8, 3)
  assert maps.dtype == jnp.float32
  for k in range(3):
    alone = METHODS[name](Partial(component, jnp.asarray(k)), IMAGE)
    assert alone.shape == (6, 8)
    np.testing.assert_allclose(maps[..., k], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['smooth_grad', 'occlusion'])
def test_under_jit_and_vmap_the_same(name):
  images = jnp.stack([IMAGE, 1 - IMAGE])
  score_fn = Partial(smooth)
  expected = jnp.stack([METHODS[name](score_fn, x) for x in images])
  mapped = jax.jit(jax.vmap(lambda x: METHODS[name](score_fn, x)))
  np.testing.assert_allclose(mapped(images), expected, rtol=1e-4, atol=1e-5)


def test_gradient_x_input_of_a_linear_score_sums_to_it():
  maps = saliency.gradient_x_input(linear, IMAGE)
  np.testing.assert_allclose(maps.sum((0, 1)), linear(IMAGE), rtol=1e-4)
  maps = saliency.gradient_x_input(linear, IMAGE, baseline=0.25)
  expected = linear(IMAGE) - linear(jnp.full(SHAPE, 0.25))
  np.testing.assert_allclose(maps.sum((0, 1)), expected, rtol=1e-4)


def test_smooth_grad_of_a_linear_score_is_the_gradient():
  maps = saliency.smooth_grad(linear, KEY, IMAGE, num_samples=7, noise=0.5)
  np.testing.assert_allclose(maps, WEIGHT[:, :, 0], rtol=1e-5)


def test_smooth_grad_without_noise_is_the_gradient():
  maps = saliency.smooth_grad(smooth, KEY, IMAGE, num_samples=5, noise=0.0)
  np.testing.assert_allclose(
    maps, saliency.gradient(smooth, IMAGE), rtol=1e-5, atol=1e-6
  )


def test_smooth_grad_of_a_cube_adds_the_variance():
  # E[3 (x + n)^2] = 3 x^2 + 3 sigma^2
  maps = saliency.smooth_grad(
    lambda x: (x**3).sum(), KEY, IMAGE, num_samples=4000, noise=0.3, chunk=500
  )
  expected = 3 * IMAGE[..., 0] ** 2 + 3 * 0.3**2
  np.testing.assert_allclose(maps, expected, atol=0.15)
  assert abs(float((maps - expected).mean())) < 0.01


def test_integrated_gradients_of_a_square_by_hand():
  maps, gap = saliency.integrated_gradients(
    lambda x: (x**2).sum(), IMAGE, baseline=0.5, num_steps=2
  )
  np.testing.assert_allclose(maps, IMAGE[..., 0] ** 2 - 0.25, atol=1e-6)
  np.testing.assert_allclose(gap, 0, atol=1e-5)


@pytest.mark.parametrize('baseline', saliency.BASELINES)
def test_integrated_gradients_are_complete(baseline):
  baseline = saliency.BASELINES[baseline](IMAGE)
  maps, gap = saliency.integrated_gradients(
    smooth, IMAGE, baseline=baseline, num_steps=64
  )
  change = smooth(IMAGE) - smooth(baseline)
  np.testing.assert_allclose(maps.sum((0, 1)), change, rtol=1e-3, atol=1e-3)
  np.testing.assert_allclose(gap, maps.sum((0, 1)) - change, atol=1e-5)


def test_the_completeness_gap_of_kinks_falls_with_the_steps():
  # A kink between two nodes is seen from one side: off by its jump of slope
  # times half a step, at most.
  slope = IMAGE.ravel() @ INNER
  crossed = slope > 0.3  # 0.3 is the threshold that the path from 0 passes
  bound = np.abs(OUTER * slope[:, None])[crossed].sum(0) / 2
  for n in (8, 64):
    _, gap = saliency.integrated_gradients(rectified, IMAGE, num_steps=n)
    assert (abs(gap) <= bound / n).all()
  assert (abs(gap) > 0).all()


def test_occlusion_of_a_linear_score_by_hand():
  # Disjoint windows: the loss is the window's own sum of weight x pixel.
  maps = saliency.occlusion(linear, IMAGE, window=2 / 6, stride=1)
  product = np.asarray(IMAGE * WEIGHT[:, :, 0])
  blocks = product.reshape(3, 2, 4, 2, 3).sum((1, 3))
  expected = blocks.repeat(2, 0).repeat(2, 1)
  np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5)


def test_occlusion_averages_over_overlapping_windows():
  # 1 x 4 pixels would need windows of 1: a 3 x 3 image, windows of 2.
  image = jnp.arange(9.0).reshape(3, 3, 1)
  maps = saliency.occlusion(jnp.sum, image, window=2 / 3, stride=1 / 2)
  np.testing.assert_allclose(
    maps, [[8, 10, 12], [14, 16, 18], [20, 22, 24]], rtol=1e-6
  )


def test_occlusion_hides_every_pixel_when_windows_do_not_divide():
  maps = saliency.occlusion(
    jnp.sum, jnp.ones((7, 5, 1)), window=3 / 5, stride=1
  )
  np.testing.assert_allclose(maps, np.full((7, 5), 9.0), rtol=1e-6)


def test_occlusion_by_the_image_itself_loses_nothing():
  maps = saliency.occlusion(smooth, IMAGE, window=3 / 6, baseline=IMAGE)
  np.testing.assert_allclose(maps, 0, atol=1e-5)


def test_the_window_is_as_large_a_part_of_a_film_of_any_size():
  widths = []
  for side in (16, 64):
    image = jnp.zeros((side, side, 1)).at[side // 2, side // 2].set(1.0)
    maps = saliency.occlusion(lambda x, s=side: x[s // 2, s // 2, 0], image)
    # Every window that hides the one pixel: 1/4 of the side, moved by half.
    widths.append(float((maps > 0).any(0).mean()))
  assert widths == [0.375, 0.375]


def test_rise_expectation_of_one_pixel():
  # score = the mask at one pixel: E[m_p m_q] / E[m_q] is E[m^2] / keep at that
  # pixel, and keep where the two have no coin in common.
  keep, pixel = 0.4, (2, 2)
  maps = saliency.rise(
    lambda x: x[(*pixel, 0)],
    KEY,
    jnp.ones((24, 24, 1)),
    num_masks=4000,
    grid=6,
    keep=keep,
    chunk=500,
  )
  np.testing.assert_allclose(maps[12:, 12:], keep, atol=0.04)
  assert np.unravel_index(maps.argmax(), maps.shape) == pixel
  # A coin's weight at a random offset t is (1 - t, t) on each axis, so the
  # squares sum to 2/3 an axis: E[m^2] = keep^2 + (4/9) keep (1 - keep).
  assert maps[pixel] == pytest.approx(keep + 4 / 9 * (1 - keep), abs=0.02)


def test_rise_of_a_constant_score_is_that_constant():
  maps = METHODS['rise'](smooth, IMAGE, baseline=IMAGE)
  expected = np.broadcast_to(smooth(IMAGE), (6, 8, 3))
  np.testing.assert_allclose(maps, expected, rtol=1e-5)


@pytest.mark.parametrize(
  'name', ['smooth_grad', 'integrated_gradients', 'occlusion', 'rise']
)
def test_from_the_host_the_maps_are_the_same(name):
  np.testing.assert_allclose(
    METHODS[name](smooth, IMAGE, chunk=2, from_host=True),
    METHODS[name](smooth, IMAGE, chunk=2),
    rtol=1e-6,
    atol=1e-6,
  )


@pytest.mark.parametrize('from_host', [False, True])
def test_a_partial_compiles_once_for_all_images(from_host):
  traces = []

  def score(weight, image):
    traces.append(1)
    return (image * weight).sum() ** 2

  def maps(weight, image):
    return saliency.smooth_grad(
      Partial(score, weight),
      KEY,
      image,
      num_samples=6,
      chunk=2,
      from_host=from_host,
    )

  maps(jnp.float32(1), IMAGE)
  first = len(traces)
  maps(jnp.float32(2), 1 - IMAGE)
  assert len(traces) == first


@pytest.mark.parametrize(
  ('name', 'chunk'),
  [
    ('smooth_grad', 2),
    ('smooth_grad', 100),
    ('integrated_gradients', 2),
    ('occlusion', 5),
    ('rise', 2),
  ],
)
def test_the_chunk_does_not_change_the_maps(name, chunk):
  np.testing.assert_allclose(
    METHODS[name](smooth, IMAGE, chunk=chunk),
    METHODS[name](smooth, IMAGE),
    rtol=1e-5,
    atol=1e-5,
  )


def test_blur():
  point = jnp.zeros((9, 11)).at[4, 5].set(1.0)
  np.testing.assert_allclose(
    saliency.blur(point, 0.8),
    ndimage.gaussian_filter(np.asarray(point), 0.8, truncate=8),
    atol=1e-4,
  )
  ones = jnp.ones((5, 7, 2))
  np.testing.assert_allclose(saliency.blur(ones, 3.0), ones, rtol=1e-5)
  np.testing.assert_array_equal(saliency.blur(point, 0.0), point)


def test_baselines():
  made = {name: f(IMAGE) for name, f in saliency.BASELINES.items()}
  assert all(x.shape == SHAPE for x in made.values())
  assert made['black'].max() == 0
  assert made['white'].min() == 1
  np.testing.assert_allclose(made['mean'], IMAGE.mean(), rtol=1e-6)
  assert made['blurred'].std() < IMAGE.std()


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: saliency.smooth_grad(linear, KEY, IMAGE, num_samples=0), 'num_sa'),
    (lambda: saliency.smooth_grad(linear, KEY, IMAGE, chunk=0), 'chunk'),
    (
      lambda: saliency.integrated_gradients(linear, IMAGE, num_steps=0),
      'num_steps',
    ),
    (lambda: saliency.occlusion(linear, IMAGE, window=1.2), 'window'),
    (lambda: saliency.occlusion(linear, IMAGE, stride=0.0), 'stride'),
    (lambda: saliency.rise(linear, KEY, IMAGE, num_masks=0), 'num_masks'),
    (lambda: saliency.rise(linear, KEY, IMAGE, grid=0), 'grid'),
    (lambda: saliency.rise(linear, KEY, IMAGE, keep=1.0), 'keep'),
  ],
)
def test_bad_options_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
