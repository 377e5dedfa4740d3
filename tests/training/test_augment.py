"""Augmentation against its definition and against exact cases."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cxr.training import augment
from input_pipeline.phantom import draw

KEY = jax.random.key(0)


def draws(image, num=32, **ranges):
  """The image under `num` draws of the augmentation, on the host."""
  batched = jax.jit(jax.vmap(augment.make_augment(**ranges), in_axes=(0, None)))
  return np.asarray(batched(jax.random.split(KEY, num), image))


@pytest.fixture
def image():
  return jax.random.uniform(jax.random.key(1), (9, 12, 1))


def test_identity_where_all_ranges_are_zero(image):
  np.testing.assert_array_equal(augment.make_augment()(KEY, image), image)


@pytest.mark.parametrize(
  'matrix, offset',
  [
    ([[1, 0], [0, 1]], [0, 0]),
    ([[1, 0], [0, 1]], [2, -3]),
    ([[0.9, 0.2], [-0.2, 0.9]], [0.3, -1.2]),
    ([[1.1, -0.1], [0.1, -1.1]], [-20, 0.5]),
  ],
)
def lanczos(distance):
  return np.where(
    abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0
  )


@pytest.mark.parametrize('form', ['loop', 'gathers', 'products'])
@pytest.mark.parametrize(
  'matrix, offset',
  [
    ([[1, 0], [0, 1]], [2, -3]),
    ([[1, 0], [0, -1]], [0, 0]),
    ([[0.9, 0.2], [-0.2, 0.9]], [0.3, -1.2]),
    ([[1.1, -0.1], [0.1, -1.1]], [-20, 0.5]),
  ],
)
def test_warp_is_the_sum_over_all_pixels(image, matrix, offset, form):
  """By its definition in float64, the edge repeated by hand; in both forms."""
  matrix, offset = np.array(matrix, np.float32), np.array(offset, np.float32)
  middle = np.array([4, 5.5])
  position = np.moveaxis(np.indices((9, 12)), 0, -1) - middle
  position = position @ matrix.T.astype(np.float64) + middle + offset
  position = np.clip(position, 0, [8, 11])
  margin = 4
  enlarged = np.pad(np.asarray(image[..., 0], np.float64), margin, mode='edge')
  weights = []
  for axis, size in enumerate(enlarged.shape):
    pixel = np.arange(size) - margin
    weight = lanczos(position[..., axis, None] - pixel)
    weights.append(weight / weight.sum(-1, keepdims=True))
  expected = np.einsum('rci,ij,rcj->rc', weights[0], enlarged, weights[1])
  warp = jax.jit(functools.partial(augment.warp, form=form))
  found = warp(image, jnp.array(matrix), jnp.array(offset))
  np.testing.assert_allclose(found[..., 0], expected, atol=2e-6)


def test_identity_warp_is_exact(image):
  found = jax.jit(augment.warp)(image, jnp.eye(2), jnp.zeros(2))
  np.testing.assert_array_equal(found, image)


def test_warped_films_stay_as_sharp_as_evaluation_shows_them():
  """Noise and the phantom's shortcuts keep their contrast.

  A bilinear warp leaves .67 of noise and .68 to .82 of a shortcut.
  """
  noise = 0.5 + 0.01 * jax.random.normal(jax.random.key(2), (64, 64, 1))
  inside = np.s_[:, 8:-8, 8:-8]
  ranges = {'rotation': 5.0, 'translation': 0.04, 'scale': 0.05}
  kept = draws(noise, **ranges)[inside].std() / noise[inside[1:]].std()
  assert 0.86 < kept < 1
  for finding in ('Atelectasis', 'Hernia'):
    grating = draw.grating(finding, 64, phase=1.0)[..., None]
    film = jnp.asarray(0.5 + 0.01 * grating, jnp.float32)
    warped = draws(film, **ranges)[inside]
    assert 0.96 < warped.std() / film[inside[1:]].std() < 1.04


def test_flip_is_a_mirror_half_of_the_time(image):
  found = draws(image, 64, flip=True)
  mirrored = np.array([np.array_equal(x, image[:, ::-1]) for x in found])
  kept = np.array([np.array_equal(x, image) for x in found])
  assert (mirrored ^ kept).all() and 16 < mirrored.sum() < 48


def test_rotation_turns_about_the_centre():
  spot = jnp.zeros((41, 41, 1)).at[20, 35].set(1)
  found = draws(spot, rotation=30.0)[..., 0]
  for turned in found:
    row, column = ndimage.center_of_mass(turned)
    assert np.hypot(row - 20, column - 20) == pytest.approx(15, abs=0.3)
  angles = [
    np.degrees(np.arctan2(row - 20, column - 20))
    for row, column in map(ndimage.center_of_mass, found)
  ]
  assert max(np.abs(angles)) < 31 and np.ptp(angles) > 30


def test_translation_and_scale_stay_in_their_range():
  ramp = jnp.broadcast_to(jnp.arange(40.0)[None, :, None] / 64, (40, 40, 1))
  shift = (draws(ramp, translation=0.1)[:, 20, 20, 0] * 64) - 20
  assert np.abs(shift).max() <= 4.0001 and np.ptp(shift) > 4
  zoomed = draws(ramp, scale=0.2)[:, 20, :, 0] * 64
  factor = 1 / (zoomed[:, 21] - zoomed[:, 20])
  assert factor.min() >= 0.7999 and factor.max() <= 1.2001
  assert np.ptp(factor) > 0.2


def test_tone_changes_what_it_says(image):
  middle = 0.3 + 0.4 * np.asarray(image)
  shift = draws(middle, brightness=0.2) - middle
  np.testing.assert_allclose(
    shift, np.broadcast_to(shift[:, :1, :1], shift.shape), atol=1e-6
  )
  assert np.abs(shift).max() <= 0.2001 and np.ptp(shift) > 0.2
  stretched = draws(middle, contrast=0.2)
  np.testing.assert_allclose(
    stretched.mean((1, 2, 3)), middle.mean(), atol=1e-5
  )
  ratio = stretched.std((1, 2, 3)) / np.std(middle)
  assert 0.7999 < ratio.min() < 0.9 and 1.1 < ratio.max() < 1.2001
  power = np.log(draws(middle, gamma=0.3)) / np.log(middle)
  assert np.ptp(power, axis=(1, 2, 3)).max() < 1e-4
  assert np.abs(np.log(power)).max() <= 0.3001 and np.ptp(power) > 0.3


def test_result_is_in_range_and_independent_of_the_batch(image):
  full = jax.vmap(
    augment.make_augment(
      rotation=20.0,
      translation=0.3,
      scale=0.5,
      flip=True,
      brightness=0.5,
      contrast=0.9,
      gamma=1.0,
    )
  )
  full = jax.jit(full)
  images = jnp.stack([jnp.zeros_like(image), image, jnp.ones_like(image)])
  keys = jax.random.split(KEY, 3)
  batched = full(keys, images)
  assert batched.shape == images.shape and batched.dtype == jnp.float32
  assert batched.min() >= 0 and batched.max() <= 1
  alone = full(keys[1:2], images[1:2])
  np.testing.assert_allclose(batched[1:2], alone, atol=1e-6)
  warped = draws(images[2], rotation=20.0, scale=0.5)
  assert warped.min() >= 1 - 1e-6 and warped.max() <= 1


def test_rejects():
  with pytest.raises(ValueError, match='rotation .-1'):
    augment.make_augment(rotation=-1.0)
  with pytest.raises(ValueError, match='scale .1.0'):
    augment.make_augment(scale=1.0)


def test_no_pixel_is_taken_for_its_neighbour():
  """Whatever else a program computes; it may round positions in two ways."""
  key = jax.random.split(jax.random.key(1), 32)
  image = np.random.default_rng(0).random((32, 128, 128, 1), np.float32)
  motion = {'rotation': 5.0, 'translation': 0.04, 'scale': 0.05}
  alone = augment.make_augment(**motion)
  with_tone = augment.make_augment(**motion, contrast=1e-9)
  expected = jax.jit(jax.vmap(alone))(key, image)
  one_by_one = jax.jit(lambda *args: jax.lax.map(lambda a: alone(*a), args))
  for program in (one_by_one, jax.jit(jax.vmap(with_tone))):
    np.testing.assert_allclose(program(key, image), expected, atol=1e-6)
