"""Topology, strides, statistics and the exactness of the linear head."""

import functools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxr.models import architectures, resnet


def config(**changes):
  fields = {
    'arch': 'resnet18',
    'num_filters': 8,
    'num_stages': 4,
    'output_stride': None,
    'input_mean': 0.5,
    'input_std': 0.25,
    'dtype': 'float32',
    'remat': False,
    'pooling': 'mean',
    'pooling_sharpness': 4.0,
    'pooling_share': 0.1,
  }
  return types.SimpleNamespace(**(fields | changes))


def randomize(variables, seed=0):
  """Statistics and scales as after a training, so that no part is idle."""
  rng = np.random.default_rng(seed)

  def draw(path, x):
    if path[-1].key in ('scale', 'var'):
      value = rng.uniform(0.5, 1.5, x.shape)
    elif path[-1].key in ('mean', 'bias'):
      value = rng.normal(0, 0.2, x.shape)
    else:
      value = rng.normal(0, math.prod(x.shape[:-1]) ** -0.5, x.shape)
    return value.astype(np.float32)

  return jax.device_put(jax.tree.map_with_path(draw, variables))


@functools.cache
def shapes(model):
  return jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 1))
  )


def build(**changes):
  """A model and trained-like variables, without running its init."""
  model = architectures.make_model(config(**changes), num_findings=14)
  return model, randomize(shapes(model))


# These tests compile far longer than they run.
quick_jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


@functools.partial(quick_jit, static_argnames=('model', 'start'))
def apply(model, variables, image, start='image'):
  return model.apply(variables, image, start=start)


def images(b=2, size=32, seed=0):
  return jax.random.uniform(jax.random.key(seed), (b, size, size, 1))


def count(tree):
  return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
  'arch, with_3_channels_and_1000_classes, d',
  [
    ('resnet18', 11_689_512, 512),
    ('resnet34', 21_797_672, 512),
    ('resnet50', 25_557_032, 2048),
    ('resnet101', 44_549_160, 2048),
  ],
)
def test_parameter_count(arch, with_3_channels_and_1000_classes, d):
  """torchvision's published counts, less two channels and 986 classes."""
  model = architectures.make_model(config(arch=arch, num_filters=64), 14)
  expected = with_3_channels_and_1000_classes
  expected += -2 * 7 * 7 * 64 - 1000 * (d + 1) + 14 * (d + 1)
  assert count(shapes(model)['params']) == expected
  assert shapes(model)['params']['fc']['kernel'].shape == (d, 14)


def test_names():
  _, variables = build(arch='resnet50', num_stages=2)
  params = variables['params']
  assert set(params) == (
    {'conv1', 'bn1', 'fc'}
    | {f'layer1_{i}' for i in range(3)}
    | {f'layer2_{i}' for i in range(4)}
  )
  assert set(params['layer2_0']) == (
    {f'{kind}{i}' for kind in ('conv', 'bn') for i in (1, 2, 3)}
    | {'downsample_0', 'downsample_1'}
  )
  assert 'downsample_0' not in params['layer2_1']


@pytest.mark.parametrize('arch', ['resnet18', 'resnet50'])
def test_cam_is_exact(arch):
  model, variables = build(arch=arch)
  logits, endpoints = apply(model, variables, images(size=64))
  kernel, bias = model.head(variables['params'])
  activation = endpoints['features'] @ kernel
  np.testing.assert_allclose(
    activation.mean((1, 2)) + bias[None], logits, atol=1e-5
  )


@pytest.mark.parametrize('num_stages', [1, 2])
def test_start_at_an_endpoint(num_stages):
  model, variables = build(num_stages=num_stages)
  logits, endpoints = apply(model, variables, images())
  names = [f'stage{i + 1}' for i in range(num_stages)]
  assert set(endpoints) == {*names, 'features'}
  for name in endpoints:
    again, _ = apply(model, variables, endpoints[name], start=name)
    np.testing.assert_array_equal(again, logits)
  with pytest.raises(ValueError, match='must be one of image'):
    apply(model, variables, images(), start=f'stage{num_stages + 1}')


def test_statistics_move_only_in_training():
  model, variables = build(num_stages=1)
  learn = quick_jit(
    lambda train: model.apply(
      variables, images(), train=train, mutable=['batch_stats']
    )[1],
    static_argnums=0,
  )
  for a, b in zip(
    jax.tree.leaves(learn(False)['batch_stats']),
    jax.tree.leaves(variables['batch_stats']),
    strict=True,
  ):
    np.testing.assert_array_equal(a, b)
  updates = learn(True)
  mean = updates['batch_stats']['bn1']['mean']
  assert not np.allclose(mean, variables['batch_stats']['bn1']['mean'])


def test_training_without_mutable_statistics_raises():
  model, variables = build(num_stages=1)
  with pytest.raises(Exception, match='immutable'):
    jax.eval_shape(lambda: model.apply(variables, images(), train=True))


@pytest.mark.parametrize(
  'num_stages, output_stride, expected',
  [
    (4, None, [(1, 1), (2, 1), (2, 1), (2, 1)]),
    (4, 32, [(1, 1), (2, 1), (2, 1), (2, 1)]),
    (4, 16, [(1, 1), (2, 1), (2, 1), (1, 2)]),
    (4, 8, [(1, 1), (2, 1), (1, 2), (1, 4)]),
    (4, 4, [(1, 1), (1, 2), (1, 4), (1, 8)]),
    (3, None, [(1, 1), (2, 1), (2, 1)]),
    (3, 8, [(1, 1), (2, 1), (1, 2)]),
    (1, 4, [(1, 1)]),
  ],
)
def test_stage_grid(num_stages, output_stride, expected):
  assert resnet.stage_grid(num_stages, output_stride) == expected


@pytest.mark.parametrize(
  'num_stages, output_stride, message',
  [
    (5, None, r'num_stages \(5\) must be 1, 2, 3 or 4'),
    (3, 32, r'output_stride \(32\) must be one of \[4, 8, 16\] with num_st'),
    (4, 12, r'output_stride \(12\) must be one of \[4, 8, 16, 32\]'),
    (4, 2, r'output_stride \(2\) must be one of'),
  ],
)
def test_stage_grid_errors(num_stages, output_stride, message):
  with pytest.raises(ValueError, match=message):
    resnet.stage_grid(num_stages, output_stride)


@pytest.mark.parametrize('arch', ['resnet18', 'resnet50'])
@pytest.mark.parametrize(
  'num_stages, output_stride, size',
  [(4, 32, 2), (4, 16, 4), (4, 8, 8), (3, 16, 4), (3, 8, 8), (3, 4, 16)],
)
def test_map_size(arch, num_stages, output_stride, size):
  model = architectures.make_model(
    config(arch=arch, num_stages=num_stages, output_stride=output_stride), 14
  )
  (_, endpoints), _ = jax.eval_shape(
    model.init_with_output, jax.random.key(0), jnp.zeros((1, 64, 64, 1))
  )
  channels = 8 * 2 ** (num_stages - 1) * (4 if arch == 'resnet50' else 1)
  assert endpoints['features'].shape == (1, size, size, channels)


@pytest.mark.parametrize('arch', ['resnet18', 'resnet50'])
def test_dilation_refines_the_same_features(arch):
  """At every n-th position the dilated network equals the strided one."""
  model, variables = build(arch=arch)
  _, coarse = apply(model, variables, images(size=64))
  for output_stride in (16, 4):
    model, _ = build(arch=arch, output_stride=output_stride)
    _, fine = apply(model, variables, images(size=64))
    step = 32 // output_stride
    np.testing.assert_allclose(
      fine['features'][:, ::step, ::step],
      coarse['features'],
      atol=1e-4,
    )


def stem_of(model, variables, film, name):
  """What the first convolution gives."""
  _, state = model.apply(
    variables, film, capture_intermediates=lambda module, _: module.name == name
  )
  return state['intermediates'][name]['__call__'][0]


def check_stem(make, name, **options):
  """In bfloat16 the first convolution sees every step that float32 sees."""
  film = images(size=32)
  model, variables = make(**options)
  half, _ = make(dtype='bfloat16', **options)
  stem = functools.partial(stem_of, half, variables, name=name)
  assert stem(film).dtype == jnp.float32
  np.testing.assert_array_equal(
    stem(film), stem_of(model, variables, film, name)
  )
  # A step of 1/8 gray level: the response is that of the step alone.
  step = np.float32(0.125 / 255)
  response = (stem(film + step) - stem(film))[:, 4:-4, 4:-4]
  kernel = variables['params'][name]['kernel'].sum((0, 1, 2))
  np.testing.assert_allclose(
    response, np.broadcast_to(kernel * step / 0.25, response.shape), atol=1e-5
  )


def test_the_stem_is_float32():
  check_stem(build, 'conv1')


def test_bfloat16_stays_near_float32():
  model, variables = build()
  logits, _ = apply(model, variables, images(size=64))
  half, _ = build(dtype='bfloat16')
  near, endpoints = apply(half, variables, images(size=64))
  assert endpoints['stage1'].dtype == jnp.bfloat16
  assert endpoints['features'].dtype == near.dtype == jnp.float32
  assert not np.array_equal(near, logits)
  np.testing.assert_allclose(near, logits, atol=0.05 * float(logits.std()))
  assert {x.dtype for x in jax.tree.leaves(shapes(half))} == {
    jnp.dtype('float32')
  }


def test_remat_changes_nothing():
  gradients = []
  for remat in (False, True):
    model, variables = build(remat=remat, num_stages=1)

    def loss(params, model=model, variables=variables):
      (logits, _), _ = model.apply(
        variables | {'params': params},
        images(),
        train=True,
        mutable=['batch_stats'],
      )
      return jnp.sum(jnp.sin(logits))

    gradients.append(quick_jit(jax.grad(loss))(variables['params']))
  assert jax.tree.structure(gradients[0]) == jax.tree.structure(gradients[1])
  for a, b in zip(*map(jax.tree.leaves, gradients), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_normalisation_is_the_first_line():
  """A film scaled and shifted is undone by input_mean and input_std."""
  model, variables = build(num_stages=1, input_mean=0.0, input_std=1.0)
  moved, _ = build(num_stages=1, input_mean=-1024.0, input_std=2048.0)
  film = images()
  np.testing.assert_allclose(
    apply(model, variables, film)[0],
    apply(moved, variables, film * 2048 - 1024)[0],
    atol=1e-4,
  )


def test_blocks_begin_as_the_identity():
  model = architectures.make_model(config(num_stages=1), 14)
  variables = quick_jit(model.init)(jax.random.key(0), images())
  params = variables['params']
  assert float(jnp.abs(params['layer1_1']['bn2']['scale']).max()) == 0
  assert float(params['layer1_1']['bn1']['scale'].min()) == 1
  # Kaiming, fan out: variance 2 / (3 * 3 * 8).
  kernel = params['layer1_0']['conv1']['kernel']
  assert float(kernel.std()) == pytest.approx((2 / 72) ** 0.5, rel=0.15)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'arch': 'vgg16'}, r'model.arch \(vgg16\) must be one of resnet18, '),
    ({'dtype': 'half'}, r'model.dtype \(half\) must be one of float32, '),
    ({'num_filters': 0}, r'model.num_filters \(0\) must be'),
    ({'input_std': 0.0}, r'model.input_std \(0.0\) must be positive'),
    ({'output_stride': 64}, r'output_stride \(64\) must be one of'),
    ({'num_stages': 0}, r'num_stages \(0\) must be'),
  ],
)
def test_configuration_errors(changes, message):
  with pytest.raises(ValueError, match=message):
    architectures.make_model(config(**changes), 14)


def test_the_smooth_network_comes_to_the_network_and_has_second_derivatives():
  model, variables = build(num_filters=2, num_stages=2)
  image = images(1)
  logits, endpoints = apply(model, variables, image)
  near, _ = apply(model.smooth(1e4), variables, image)
  np.testing.assert_allclose(near, logits, atol=1e-3)
  # Behind the maximum, whose derivative jumps: the second derivative along a
  # direction, and the difference of two gradients.
  x = endpoints['stage1']
  direction = jnp.sign(jax.random.normal(jax.random.key(1), x.shape))
  logit = lambda model, x: model.apply(variables, x, start='stage1')[0][0, 0]
  gradient = jax.grad(lambda x: logit(model.smooth(2.0), x))
  along = quick_jit(jax.grad(lambda x: jnp.vdot(gradient(x), direction)))(x)
  step, gradient = 1e-2, quick_jit(gradient)
  two = gradient(x + step * direction) - gradient(x - step * direction)
  expected = np.asarray(two) / (2 * step)
  scale = np.abs(expected).max()
  assert scale > 1e-3
  np.testing.assert_allclose(along, expected, atol=0.01 * scale)
