"""Likeness of film and gradient where it is known in closed form."""

import jax
import numpy as np
from jax import numpy as jnp

from cxr.attribution import gradient_alignment

SHAPE = (6, 8, 1)
IMAGE = jax.random.uniform(jax.random.key(1), SHAPE)
WEIGHT = jax.random.normal(jax.random.key(2), SHAPE[:2])


def test_alignment_is_the_distance_to_the_boundary_of_a_linear_score():
  weight = WEIGHT
  expected = abs((weight * IMAGE[..., 0]).sum()) / jnp.linalg.norm(weight)
  np.testing.assert_allclose(
    gradient_alignment.alignment(IMAGE, weight), expected, rtol=1e-5
  )
  # Neither the gradient's length nor its sign counts.
  np.testing.assert_allclose(
    gradient_alignment.alignment(IMAGE, -3 * weight), expected, rtol=1e-5
  )
  assert gradient_alignment.alignment(IMAGE, 0 * weight) == 0


def test_cosine_of_film_and_gradient():
  centred = IMAGE[..., 0] - IMAGE.mean()
  np.testing.assert_allclose(
    gradient_alignment.cosine(IMAGE, 2 * centred), 1, rtol=1e-5
  )
  np.testing.assert_allclose(
    gradient_alignment.cosine(IMAGE, -centred), -1, rtol=1e-5
  )
  # A gradient that only brightens the film shows nothing of it.
  np.testing.assert_allclose(
    gradient_alignment.cosine(IMAGE, jnp.ones(SHAPE[:2])), 0, atol=1e-6
  )
  assert gradient_alignment.cosine(jnp.ones(SHAPE), centred) == 0
