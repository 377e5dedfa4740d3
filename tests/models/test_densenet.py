"""DenseNet-121: topology, truncation and the exactness of the head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import densenet as densenet_config
from cxr import configuration
from cxr.models import architectures
from tests.models import test_resnet


def build(**changes):
  return test_resnet.build(arch='densenet121', **changes)


def shapes_of(size=64, **changes):
  model = architectures.make_model(
    test_resnet.config(arch='densenet121', **changes), 14
  )
  return jax.eval_shape(
    model.init_with_output, jax.random.key(0), jnp.zeros((1, size, size, 1))
  )


def test_parameter_count():
  """torchvision's published count, less two channels and 986 classes."""
  _, variables = shapes_of(num_filters=64)
  expected = 7_978_856 - 2 * 7 * 7 * 64 - 1000 * 1025 + 14 * 1025
  assert test_resnet.count(variables['params']) == expected


@pytest.mark.parametrize(
  'num_stages, shape',
  [(1, (56, 256)), (2, (28, 512)), (3, (14, 1024)), (4, (7, 1024))],
)
def test_truncation_at_224_pixels(num_stages, shape):
  (_, endpoints), variables = shapes_of(
    224, num_filters=64, num_stages=num_stages
  )
  size, channels = shape
  assert endpoints['features'].shape == (1, size, size, channels)
  assert set(endpoints) == {
    'features',
    *(f'stage{i + 1}' for i in range(num_stages)),
  }
  # The last normalisation is the one torchvision applies to these channels.
  last = 'norm5' if num_stages == 4 else f'transition{num_stages}'
  assert last in variables['params']
  assert 'conv' not in variables['params'][last]


def test_cam_is_exact_and_start_skips():
  model, variables = build(num_stages=2)
  logits, endpoints = test_resnet.apply(model, variables, test_resnet.images())
  kernel, bias = model.head(variables['params'])
  cam = endpoints['features'] @ kernel
  np.testing.assert_allclose(cam.mean((1, 2)) + bias[None], logits, atol=1e-5)
  assert float(endpoints['features'].min()) >= 0
  for name in ('features', 'stage2', 'stage1'):
    again, _ = test_resnet.apply(model, variables, endpoints[name], start=name)
    np.testing.assert_allclose(again, logits, atol=1e-5)


def test_statistics_move_only_in_training():
  model, variables = build(num_stages=1)
  film = test_resnet.images()
  _, updates = test_resnet.quick_jit(
    lambda: model.apply(variables, film, mutable=['batch_stats'])
  )()
  for a, b in zip(
    jax.tree.leaves(updates['batch_stats']),
    jax.tree.leaves(variables['batch_stats']),
    strict=True,
  ):
    np.testing.assert_array_equal(a, b)
  with pytest.raises(Exception, match='immutable'):
    jax.eval_shape(lambda: model.apply(variables, film, train=True))


def test_remat_keeps_names_and_logits():
  film = test_resnet.images()
  model, variables = build(num_stages=1)
  again, same = build(num_stages=1, remat=True)
  assert jax.tree.structure(same) == jax.tree.structure(variables)
  gradient = lambda model: test_resnet.quick_jit(
    jax.grad(lambda x: jnp.sin(model.apply(variables, x)[0]).sum())
  )(film)
  np.testing.assert_allclose(gradient(model), gradient(again), atol=1e-5)


def test_the_stem_is_float32():
  test_resnet.check_stem(build, 'conv0', num_stages=1)


def test_bfloat16_stays_near_float32():
  film = test_resnet.images()
  model, variables = build(num_stages=2)
  half, _ = build(num_stages=2, dtype='bfloat16')
  logits, _ = test_resnet.apply(model, variables, film)
  near, endpoints = test_resnet.apply(half, variables, film)
  assert endpoints['stage1'].dtype == jnp.bfloat16
  assert near.dtype == jnp.float32
  np.testing.assert_allclose(near, logits, atol=0.05 * float(logits.std()))


def test_output_stride_is_a_resnets():
  with pytest.raises(ValueError, match='needs a ResNet: densenet121'):
    build(output_stride=8)
  build(num_stages=2, output_stride=8)


@pytest.mark.parametrize('preset', ['phantom', 'nih', 'smoke'])
def test_the_config_of_the_likely_baseline(preset):
  config = densenet_config.get_config(preset)
  configuration.validate(config)
  assert config.name.endswith('densenet')
  size = config.data.image_size
  model = architectures.make_model(config.model, 14)
  (_, endpoints), variables = jax.eval_shape(
    model.init_with_output, jax.random.key(0), jnp.zeros((1, size, size, 1))
  )
  channels = 8 * config.model.num_filters
  assert endpoints['features'].shape == (1, size // 8, size // 8, channels)
  if preset == 'nih':
    assert endpoints['features'].shape == (1, 28, 28, 512)
    assert test_resnet.count(variables['params']) == 1_299_470
    assert (config.loss.weighting, config.train.batch_size) == ('batch', 32)
