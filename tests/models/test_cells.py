"""Where the cells of a network look, by its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxr.attribution import by_name, cam
from tests.models import test_resnet

# Wider than the field of view of every cell below.
SIZE = 512


def _even(path, x):
  """Kernels that sum what they see, and normalisations that change nothing.

  On positive images every ReLU lets all pass: the gradient is as wide as the
  field of view, and symmetric but for the pooling.
  """
  name = path[-1].key
  if name == 'kernel':
    return jnp.full_like(x, 1 / np.prod(x.shape[:-1]))
  return jnp.full_like(x, name in ('scale', 'var'))


def _centroids(model, variables):
  """endpoint -> the pixel that its middle cell's gradient is centred on."""
  image = jax.random.uniform(jax.random.key(0), (SIZE, SIZE, 1))
  variables = jax.tree.map_with_path(_even, variables)

  def middles(image):
    _, endpoints = model.apply(variables, image[None])
    return {
      name: x[0, x.shape[1] // 2, x.shape[2] // 2].sum()
      for name, x in endpoints.items()
    }

  pixels, found = np.arange(SIZE), {}
  for name, gradient in jax.jit(jax.jacrev(middles))(image).items():
    weight = np.abs(np.asarray(gradient)[..., 0])
    weight /= weight.sum()
    found[name] = weight.sum(1) @ pixels, weight.sum(0) @ pixels
  return found


@pytest.mark.parametrize(
  'changes',
  [
    {'arch': 'resnet18'},
    {'arch': 'resnet18', 'output_stride': 16},
    {'arch': 'resnet50', 'num_stages': 3, 'output_stride': 8},
    {'arch': 'densenet121', 'num_stages': 2},
  ],
  ids=str,
)
def test_a_cell_looks_where_its_model_says(changes):
  model, variables = test_resnet.build(input_mean=0.0, **changes)
  for endpoint, centre in _centroids(model, variables).items():
    stride, offset = model.cells(endpoint)
    expected = offset + stride * (-(-SIZE // stride) // 2)
    np.testing.assert_allclose(centre, expected, atol=1.1, err_msg=endpoint)


def test_an_unknown_endpoint_is_refused():
  model, _ = test_resnet.build(num_stages=2)
  with pytest.raises(ValueError, match='stage3'):
    model.cells('stage3')


def test_densenets_transitions_lie_between_two_cells():
  model, _ = test_resnet.build(arch='densenet121')
  cells = [model.cells(f'stage{i}') for i in (1, 2, 3, 4)]
  assert cells == [(4, 0), (8, 2), (16, 6), (32, 14)]


def test_cells_of_equal_value_are_drawn_at_one_place():
  """Every second cell of the dense twin is the network's own cell."""
  model, variables = test_resnet.build(num_stages=3, output_stride=16)
  variables = test_resnet.randomize(variables)
  image = test_resnet.images(size=64)
  maps = {
    method: jax.jit(by_name.make_attribution(model, method))(
      variables, jax.random.key(0), image
    )
    for method in ('cam', by_name.DENSE_CAM)
  }
  stride, offset = model.cells('features')
  inner = np.arange(offset, 64, stride)[1:-1]
  np.testing.assert_allclose(
    *(np.asarray(m)[:, inner][:, :, inner] for m in maps.values()),
    rtol=1e-3,
    atol=1e-4,
  )


def test_a_map_on_the_film_is_the_native_one_drawn_where_it_looks():
  model, variables = test_resnet.build(num_stages=2)
  image, key = test_resnet.images(size=32), jax.random.key(0)
  native, large = (
    by_name.make_attribution(model, 'cam', native=native)(variables, key, image)
    for native in (True, False)
  )
  stride, offset = model.cells('features')
  np.testing.assert_allclose(
    large,
    cam.enlarge(native, (32, 32), stride=stride, offset=offset),
    rtol=1e-5,
    atol=1e-6,
  )
