"""How far a gradient is like the film that it was taken at."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Image = Float[Array | np.ndarray, 'h w 1']
Gradient = Float[Array | np.ndarray, 'h w']
Scalar = Float[Array, '']


def alignment(image: Image, gradient: Gradient) -> Scalar:
  """|<image, gradient>| / |gradient|; 0 where the gradient is 0.

  For a linear score without bias it is the distance to the decision boundary;
  it grows with robustness. Its unit is that of the image's norm.

  References:
    Etmann et al. 2019, On the Connection Between Adversarial Robustness and
    Saliency Map Interpretability, definition 3.

  Examples:
    >>> image, gradient = jnp.array([[[3.0], [4.0]]]), jnp.array([[0.0, -2.0]])
    >>> float(alignment(image, gradient))
    4.0
  """
  product = jnp.abs(jnp.vdot(image[..., 0], gradient))
  return _ratio(product, jnp.linalg.norm(gradient))


def cosine(image: Image, gradient: Gradient) -> Scalar:
  """Cosine of the angle between the image, less its mean, and the gradient.

  The mean is taken off, since a film's mean gray says nothing of what it shows.
  0 where the image is constant or the gradient is 0.

  Examples:
    >>> image, gradient = jnp.array([[[1.0], [3.0]]]), jnp.array([[-2.0, 2.0]])
    >>> round(float(cosine(image, gradient)), 4)
    1.0
  """
  image = image[..., 0] - image.mean()
  length = jnp.linalg.norm(image) * jnp.linalg.norm(gradient)
  return _ratio(jnp.vdot(image, gradient), length)


def _ratio(numerator, denominator):
  """The quotient; 0 where the denominator is not positive."""
  positive = denominator > 0
  return jnp.where(positive, numerator / jnp.where(positive, denominator, 1), 0)
