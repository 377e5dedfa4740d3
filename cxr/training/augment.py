"""Augmentation of one image 'h w 1' in [0, 1], on the device; vmap it.

augment = jax.vmap(make_augment(rotation=5.0, translation=0.05))
image = augment(jax.random.split(key, len(image)), image)

The warp has to keep what it moves sharp. BatchNorm learns its statistics from
warped films, and evaluation shows films that were never warped: of a bilinear
warp's films, blurred as they are, the statistics do not fit (docs/training.md
has the measurements).
"""

import functools
import math
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
  form: str = 'loop',
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
    form: of the warp; see `warp`.

  Rotation, translation, scale and flip are one warp; outside of the image its
  edge pixels are repeated.

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
      matrix, offset = _random_motion(
        warp_key, image, rotation, translation, scale, flip
      )
      image = warp(image, matrix, offset, form=form)
      # Beside an edge, weights below 0 overshoot.
      image = jnp.clip(image, 0, 1)
    if brightness or contrast or gamma:
      image = _random_tone(tone_key, image, brightness, contrast, gamma)
    return image

  return augment


def _random_motion(key, image, rotation, translation, scale, flip):
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
  # On a grid of 1/4096, so that positions are exact in float32: a compiler
  # computes them once for the indices of pixels and once for their weights, and
  # where it rounds them in two ways a pixel is taken for its neighbour.
  return tuple(jnp.round(a * 4096) / 4096 for a in (matrix, offset))


def warp(
  image: Image,
  matrix: Float[Array, '2 2'],
  offset: Float[Array, ' 2'],
  *,
  form: str = 'loop',
) -> Image:
  """Warps an image by Lanczos interpolation.

  The pixel at position p of the result is the image at matrix @ (p - centre) +
  centre + offset. Positions are (row, column) in pixels; outside of the image
  its edge pixels are repeated. The value at a position (y, x) is

    sum_ij L(y - i) L(x - j) image_ij,  L(d) = sinc(d) sinc(d / 3), |d| < 3,

  with weights that are divided by their sum. White noise keeps 89 % of its
  standard deviation (67 % under bilinear interpolation), and a whole number of
  pixels moves an image exactly.

  The forms give the same numbers but for rounding: 'loop' gathers the 36 pixels
  about a position row by row in a loop, 'gathers' does it at once, 'products'
  takes matrix products of all pixels.

  References:
    Duchon 1979, Lanczos Filtering in One and Two Dimensions.
  """
  height, width, _ = image.shape
  middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
  row = (jnp.arange(height, dtype=image.dtype) - middle_row)[:, None]
  column = (jnp.arange(width, dtype=image.dtype) - middle_column)[None]
  # Written out: a matrix product may round positions to TF32 on a GPU.
  rows = matrix[0, 0] * row + matrix[0, 1] * column + middle_row + offset[0]
  columns = (
    matrix[1, 0] * row + matrix[1, 1] * column + middle_column + offset[1]
  )
  # Every position then has six pixels along each axis.
  padded = jnp.pad(image[..., 0], _REACH, mode='edge')
  moved = _FORMS[form](
    padded,
    jnp.clip(rows, 0, height - 1) + _REACH,
    jnp.clip(columns, 0, width - 1) + _REACH,
  )
  return moved[..., None]


_REACH = 3  # pixels, of Lanczos' kernel to either side
_BLOCK = 2048  # positions


def _by_gathers(image, rows, columns, in_loop=False):
  """The image at positions, each from the 36 pixels about it."""
  first_row, row_weights = _lanczos_weights(rows)
  first_column, column_weights = _lanczos_weights(columns)
  row_weights = jnp.stack(row_weights)

  def add_row(i, total):
    along = sum(
      weight * image[first_row + i, first_column + j]
      for j, weight in enumerate(column_weights)
    )
    return total + row_weights[i] * along

  if in_loop:
    # What reads the warped image would else compute it again: on a CPU the mean
    # that contrast asks for made the warp seven times as slow.
    return jax.lax.fori_loop(0, 2 * _REACH, add_row, jnp.zeros_like(rows))
  # A GPU computes the mean with the image, and a loop would write and read the
  # sum six times.
  return functools.reduce(
    lambda total, i: add_row(i, total), range(2 * _REACH), jnp.zeros_like(rows)
  )


def _by_products(image, rows, columns):
  """The same from all pixels, most of them with a weight of 0.

  Two small products take the place of gathers, which a TPU does pixel by pixel.
  """

  def spread(position, size):
    first, weights = _lanczos_weights(position)
    pixel = jnp.arange(size)[None]
    return sum(
      jnp.where(pixel == (first + i)[:, None], weight[:, None], 0)
      for i, weight in enumerate(weights)
    )

  def one_block(position):
    row, column = map(spread, position, image.shape)
    # At the default precision a TPU would round the pixels to 8 bits.
    down = jnp.matmul(row, image, precision=jax.lax.Precision.HIGHEST)
    return (down * column).sum(axis=1)

  # In blocks, since the weights of a whole image are as large as a batch. By
  # XLA's count a row of 224 pixels at a time takes a TPU 7 times as long.
  in_blocks = lambda position: jnp.pad(
    position.ravel(), (0, -position.size % _BLOCK), mode='edge'
  ).reshape(-1, _BLOCK)
  moved = jax.lax.map(one_block, (in_blocks(rows), in_blocks(columns)))
  return moved.ravel()[: rows.size].reshape(rows.shape)


_FORMS = {
  'loop': functools.partial(_by_gathers, in_loop=True),
  'gathers': _by_gathers,
  'products': _by_products,
}


def _lanczos_weights(position):
  """(first of the six pixels about a position, their six weights).

  Of pixel k = -2 ... 3 from the one below, at a fraction f, Lanczos' kernel is
  proportional to (-1)^k sinc((f - k) / 3) / (f - k): the factor sin(pi f) is
  common to all. Times f (1 - f), nothing is divided by 0.
  """
  below = jnp.floor(position)
  f = position - below
  weights = []
  for k in range(1 - _REACH, _REACH + 1):
    share = {0: 1 - f, 1: -f}.get(k)
    if share is None:
      share = f * (1 - f) / (f - k)
    weights.append((-1) ** k * share * _sinc((f - k) / _REACH))
  total = sum(weights)
  return below.astype(jnp.int32) + 1 - _REACH, [w / total for w in weights]


def _sinc(x):
  """sin(pi x) / (pi x) for |x| <= 1, to rounding.

  By its series: on a CPU a sine took most of the warp's time.
  """
  series = [
    (-1) ** n * math.pi ** (2 * n) / math.factorial(2 * n + 1)
    for n in reversed(range(9))
  ]
  return jnp.polyval(jnp.array(series, x.dtype), x * x)


def _random_tone(key, image, brightness, contrast, gamma):
  shift, stretch, power = jax.random.uniform(key, (3,), image.dtype, -1, 1)
  mean = image.mean()
  image = (image - mean) * (1 + contrast * stretch) + mean
  image = jnp.clip(image + brightness * shift, 0, 1)
  return image ** jnp.exp(gamma * power) if gamma else image
