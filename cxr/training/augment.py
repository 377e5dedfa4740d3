"""Augmentation of one image 'h w 1' in [0, 1], on the device; vmap it.

augment = jax.vmap(make_augment(rotation=5.0, translation=0.05))
image = augment(jax.random.split(key, len(image)), image)
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Image = Float[Array, 'h w 1']


def make_augment(
  *,
  rotation: float = 0.0,
  translation: float = 0.0,
  scale: float = 0.0,
  flip: bool = False,
  brightness: float = 0.0,
  contrast: float = 0.0,
  gamma: float = 0.0,
) -> Callable[[Key[Array, ''], Image], Image]:
  """Returns augment(key, image 'h w 1') -> 'h w 1' in [0, 1].

  Each amount is drawn uniformly between minus and plus its argument; where the
  argument is 0 that part is left out.

  Args:
    rotation: degrees about the centre.
    translation: share of the side, down and across independently.
    scale: the size is multiplied by 1 + a draw.
    flip: mirror half of the images, left to right. Off by default, since it
      puts the heart on the wrong side.
    brightness: a draw is added to the pixels.
    contrast: the pixels' distance to their mean is multiplied by 1 + a draw.
    gamma: the pixels are raised to the power exp(draw).

  Rotation, translation, scale and flip are one bilinear warp; outside of the
  image its edge pixels are repeated.

  Raises:
    ValueError: for a negative range, and a scale or contrast of 1 or more.
  """
  ranges = {
    'rotation': rotation,
    'translation': translation,
    'scale': scale,
    'brightness': brightness,
    'contrast': contrast,
    'gamma': gamma,
  }
  for name, value in ranges.items():
    if not value >= 0:
      raise ValueError(f'Augmentation {name} ({value}) must not be negative.')
    if name in ('scale', 'contrast') and value >= 1:
      raise ValueError(f'Augmentation {name} ({value}) must be below 1.')

  def augment(key, image):
    warp_key, tone_key = jax.random.split(key)
    if rotation or translation or scale or flip:
      image = _random_warp(warp_key, image, rotation, translation, scale, flip)
      # The shares of four pixels may add up to a rounding more than 1.
      image = jnp.clip(image, 0, 1)
    if brightness or contrast or gamma:
      image = _random_tone(tone_key, image, brightness, contrast, gamma)
    return image

  return augment


def _random_warp(key, image, rotation, translation, scale, flip):
  key, flip_key = jax.random.split(key)
  angle, down, across, zoom = jax.random.uniform(key, (4,), image.dtype, -1, 1)
  angle = jnp.deg2rad(rotation * angle)
  zoom = 1 + scale * zoom
  mirror = 1.0
  if flip:
    mirror = jnp.where(jax.random.bernoulli(flip_key), -1.0, 1.0)
  # From a position in the result to one in the image.
  cos, sin = jnp.cos(angle) / zoom, jnp.sin(angle) / zoom
  matrix = jnp.array([[cos, sin], [-sin * mirror, cos * mirror]])
  height, width, _ = image.shape
  offset = translation * jnp.array([down * height, across * width])
  return warp(image, matrix, offset)


def warp(
  image: Image, matrix: Float[Array, '2 2'], offset: Float[Array, ' 2']
) -> Image:
  """Warps an image by bilinear interpolation.

  The pixel at position p of the result is the image at matrix @ (p - centre) +
  centre + offset. Positions are (row, column) in pixels; outside of the image
  its edge pixels are repeated.
  """
  height, width, _ = image.shape
  middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
  row = (jnp.arange(height, dtype=image.dtype) - middle_row)[:, None]
  column = (jnp.arange(width, dtype=image.dtype) - middle_column)[None]
  # Written out: a matrix product may round positions to TF32 on a GPU.
  rows = matrix[0, 0] * row + matrix[0, 1] * column + middle_row
  columns = matrix[1, 0] * row + matrix[1, 1] * column + middle_column
  # 0.03 ms an image of 64 px and 0.3 ms of 224 px under vmap on a CPU core or
  # two, no slower than a hand-written gather of the four neighbours.
  moved = jax.scipy.ndimage.map_coordinates(
    image[..., 0],
    [rows + offset[0], columns + offset[1]],
    order=1,
    mode='nearest',
  )
  return moved[..., None]


def _random_tone(key, image, brightness, contrast, gamma):
  shift, stretch, power = jax.random.uniform(key, (3,), image.dtype, -1, 1)
  mean = image.mean()
  image = (image - mean) * (1 + contrast * stretch) + mean
  image = jnp.clip(image + brightness * shift, 0, 1)
  return image ** jnp.exp(gamma * power) if gamma else image
