"""Maps by name, of a small network with the models' interface."""

import importlib

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax import numpy as jnp

from configs import default
from cxr.attribution import by_name
from cxr.models import architectures, densenet, resnet

KEY = jax.random.key(0)
IMAGE = jax.random.uniform(jax.random.key(1), (3, 12, 16, 1))
QUICK = {
  'smooth_grad': {'num_samples': 3, 'chunk': 2},
  'integrated_gradients': {'num_steps': 3, 'chunk': 2},
  'occlusion': {'window': 1 / 2, 'stride': 1.0},
  'rise': {'num_masks': 6, 'grid': 3, 'chunk': 4},
}


class Net(nn.Module):
  """Two stages and a pooled linear head."""

  num_findings: int = 4
  smooth: bool = False

  @nn.compact
  def __call__(self, x, train=False, start='image'):
    act = nn.softplus if self.smooth else nn.relu
    pad = ((1, 1), (1, 1))
    endpoints = {}
    stages = ('image', 'stage1', 'stage2', 'features')
    first = stages.index(start)
    if first < 1:
      x = (x - 0.5) / 0.25
      x = act(nn.Conv(5, (3, 3), (2, 2), padding=pad, name='conv1')(x))
    if first < 2:
      endpoints['stage1'] = x
      x = act(nn.Conv(6, (3, 3), (2, 2), padding=pad, name='conv2')(x))
    endpoints['stage2'] = endpoints['features'] = x
    logits = nn.Dense(self.num_findings, name='fc')(x.mean((1, 2)))
    return logits, endpoints

  def head(self, params):
    return params['fc']['kernel'], params['fc']['bias']

  def cells(self, endpoint):
    return 2 if endpoint == 'stage1' else 4, 0


NET = Net()
VARIABLES = jax.jit(NET.init)(jax.random.key(2), IMAGE)
APPLY = jax.jit(NET.apply)


def _maps(method, image=IMAGE, key=KEY, model=NET, **options):
  options = {**QUICK.get(method, {}), **options}
  fn = by_name.make_host_attribution(model, method, **options)
  return fn(VARIABLES, key, image)


# Of any model; dense_cam is of ResNets (below).
METHODS = [m for m in by_name.METHODS if m != by_name.DENSE_CAM]


@pytest.mark.parametrize('method', METHODS)
def test_shape_findings_and_batch(method):
  keys = jax.random.split(KEY, 3)
  options = QUICK.get(method, {})
  fn = by_name.make_host_attribution(NET, method, **options)
  maps = fn(VARIABLES, keys, IMAGE)
  assert maps.shape == (3, 12, 16, 4)
  assert maps.dtype == jnp.float32
  assert (maps < 0).any() == (method not in ('grad_cam_plus_plus', 'layer_cam'))
  # An image with its key is the same anywhere.
  last = fn(VARIABLES, keys[2:], IMAGE[2:])
  np.testing.assert_allclose(last, maps[2:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('method', ['cam', 'grad_cam', 'gradient'])
def test_findings_are_chosen_and_ordered(method):
  some, maps = _maps(method, findings=[2, 0]), _maps(method)
  np.testing.assert_allclose(some, maps[..., [2, 0]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('method', METHODS)
def test_each_image_may_be_mapped_for_one_finding_alone(method):
  options = {'findings': [3, 0, 2], **QUICK.get(method, {})}
  fn = by_name.make_host_attribution(NET, method, **options)
  maps = np.asarray(fn(VARIABLES, KEY, IMAGE))
  finding = np.array([2, 0, 1])
  own = fn(VARIABLES, KEY, IMAGE, finding)
  wanted = np.take_along_axis(maps, finding[:, None, None, None], axis=-1)
  np.testing.assert_allclose(own, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('method', ['cam', 'gradient', 'smooth_grad'])
def test_from_the_host_the_same(method):
  pure = jax.jit(by_name.make_attribution(NET, method, **QUICK.get(method, {})))
  np.testing.assert_allclose(
    _maps(method), pure(VARIABLES, KEY, IMAGE), rtol=1e-4, atol=1e-5
  )


def test_a_single_key_is_split_over_the_batch():
  np.testing.assert_array_equal(
    _maps('smooth_grad'), _maps('smooth_grad', key=jax.random.split(KEY, 3))
  )


def test_native_cam_averages_to_the_logits():
  maps = _maps('cam', native=True)
  logits, endpoints = APPLY(VARIABLES, IMAGE)
  assert maps.shape == (*endpoints['features'].shape[:3], 4)
  bias = VARIABLES['params']['fc']['bias']
  np.testing.assert_allclose(
    maps.mean((1, 2)) + bias[None], logits, rtol=1e-4, atol=1e-6
  )


@pytest.mark.parametrize('method', ['grad_cam', 'hires_cam'])
def test_grad_cam_of_the_last_stage_is_cam_over_cells(method):
  cells = 3 * 4
  np.testing.assert_allclose(
    _maps(method), _maps('cam') / cells, rtol=1e-4, atol=1e-6
  )
  np.testing.assert_allclose(
    _maps(method, stage='stage2'), _maps('cam') / cells, rtol=1e-4, atol=1e-6
  )


def test_stage_gives_a_finer_grid():
  assert _maps('layer_cam', stage='stage1', native=True).shape == (3, 6, 8, 4)
  fused = _maps('layer_cam', stage=('stage1', 'features'))
  assert fused.shape == (3, 12, 16, 4)
  assert fused.min() >= 0


def test_hires_cam_at_any_stage_is_gradient_times_feature():
  features = APPLY(VARIABLES, IMAGE)[1]['stage1']

  @jax.jit
  @jax.grad
  def gradient(features):
    return NET.apply(VARIABLES, features, start='stage1')[0][:, 1].sum()

  expected = (features * gradient(features)).sum(-1)
  maps = _maps('hires_cam', stage='stage1', native=True)
  np.testing.assert_allclose(maps[..., 1], expected, rtol=1e-4, atol=1e-6)


def test_relu():
  signed = _maps('cam')
  assert _maps('cam', relu=True).min() >= 0
  assert signed.min() < 0


def test_gradient_is_jaxs():
  score = lambda x: NET.apply(VARIABLES, x[None])[0][0, 3]
  expected = jax.jit(jax.vmap(jax.grad(score)))(IMAGE)[..., 0]
  for chunk in (1, 2, 8):
    np.testing.assert_allclose(
      _maps('gradient', chunk=chunk)[..., 3], expected, rtol=1e-4, atol=1e-6
    )


def test_gradient_x_input_takes_its_baseline_from_each_image():
  gradient = _maps('gradient')
  np.testing.assert_allclose(
    _maps('gradient_x_input'), IMAGE * gradient, rtol=1e-4, atol=1e-6
  )
  mean = IMAGE.mean((1, 2, 3), keepdims=True)
  np.testing.assert_allclose(
    _maps('gradient_x_input', baseline='mean'),
    (IMAGE - mean) * gradient,
    rtol=1e-4,
    atol=1e-6,
  )
  np.testing.assert_allclose(
    _maps('gradient_x_input', baseline=0.5),
    (IMAGE - 0.5) * gradient,
    rtol=1e-4,
    atol=1e-6,
  )


def test_integrated_gradients_of_a_network_are_complete_at_64_steps():
  model = Net(smooth=True)
  maps = _maps(
    'integrated_gradients', model=model, num_steps=64, chunk=16, baseline='mean'
  )
  mean = jnp.broadcast_to(IMAGE.mean((1, 2, 3), keepdims=True), IMAGE.shape)
  logits_fn = jax.jit(lambda x: model.apply(VARIABLES, x)[0])
  change = logits_fn(IMAGE) - logits_fn(mean)
  np.testing.assert_allclose(maps.sum((1, 2)), change, atol=1e-3 / 64)


def test_magnitude_and_positive():
  maps = _maps('gradient')
  np.testing.assert_array_equal(
    by_name.magnitude(maps, sigma=0.0), jnp.abs(maps)
  )
  blurred = by_name.magnitude(maps, sigma=0.1)
  assert blurred.shape == maps.shape
  assert blurred.min() >= 0
  assert blurred.std() < jnp.abs(maps).std()
  np.testing.assert_allclose(
    by_name.magnitude(-maps, sigma=0.1), blurred, rtol=1e-6
  )
  np.testing.assert_array_equal(by_name.positive(maps), jnp.maximum(maps, 0))


@pytest.mark.parametrize(
  ('method', 'options', 'message'),
  [
    ('camera', {}, 'choose from cam, dense_cam'),
    ('cam', {'stage': 'stage1'}, 'cam has no option stage; it has relu'),
    ('rise', {'num_samples': 3}, 'no option num_samples; it has .*num_masks'),
    ('gradient', {'native': True}, 'gradient has none'),
    ('rise', {'baseline': 'grey'}, 'choose from black'),
  ],
)
def test_bad_options_are_named(method, options, message):
  with pytest.raises(ValueError, match=message):
    by_name.make_attribution(NET, method, **options)


def test_an_unknown_stage_is_named():
  with pytest.raises(ValueError, match='no stage .stage9.; it has stage1'):
    _maps('grad_cam', stage='stage9')


def _torch_net(torch):
  """The same network and weights; channels first."""
  params = jax.tree.map(np.array, VARIABLES['params'])

  class TorchNet(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.conv1 = torch.nn.Conv2d(1, 5, 3, 2, 1)
      self.act1 = torch.nn.ReLU()
      self.conv2 = torch.nn.Conv2d(5, 6, 3, 2, 1)
      self.act2 = torch.nn.ReLU()
      self.fc = torch.nn.Linear(6, 4)

    def forward(self, x):
      x = self.act1(self.conv1((x - 0.5) / 0.25))
      return self.fc(self.act2(self.conv2(x)).mean((2, 3)))

  net = TorchNet().eval()
  with torch.no_grad():
    for name in ('conv1', 'conv2', 'fc'):
      kernel, layer = params[name]['kernel'], getattr(net, name)
      axes = (1, 0) if name == 'fc' else (3, 2, 0, 1)
      layer.weight.copy_(torch.tensor(kernel.transpose(axes)))
      layer.bias.copy_(torch.tensor(params[name]['bias']))
  return net, torch.tensor(np.array(IMAGE).transpose(0, 3, 1, 2))


def _assert_near(ours, theirs):
  """To 1e-4 of the largest value."""
  theirs = np.asarray(theirs)
  np.testing.assert_allclose(ours, theirs, atol=1e-4 * abs(theirs).max())


def _import_or_skip(name):
  """A module that is absent, or that the installed PyTorch does not fit."""
  try:
    return importlib.import_module(name)
  except Exception as error:  # torchvision of another build: RuntimeError
    pytest.skip(f'{name} cannot be imported: {error}')


def test_against_captum():
  torch = _import_or_skip('torch')
  captum = _import_or_skip('captum.attr')
  net, x = _torch_net(torch)
  to_map = lambda a: a.detach().numpy().sum(1)

  k = 2
  theirs = captum.Saliency(net).attribute(x, target=k, abs=False)
  _assert_near(_maps('gradient')[..., k], to_map(theirs))
  theirs = captum.InputXGradient(net).attribute(x, target=k)
  _assert_near(_maps('gradient_x_input')[..., k], to_map(theirs))
  theirs = captum.IntegratedGradients(net).attribute(x, 1.0, k, n_steps=9)
  ours = _maps('integrated_gradients', baseline='white', num_steps=9)
  _assert_near(ours[..., k], to_map(theirs))
  theirs = captum.Occlusion(net).attribute(
    x, (1, 4, 4), strides=(1, 2, 2), target=k
  )
  ours = _maps('occlusion', window=1 / 3, stride=1 / 2)
  _assert_near(ours[..., k], to_map(theirs))
  theirs = captum.LayerGradCam(net, net.act1).attribute(x, target=k)
  ours = _maps('grad_cam', stage='stage1', native=True)
  _assert_near(ours[..., k], to_map(theirs))


def test_against_pytorch_grad_cam():
  torch = _import_or_skip('torch')
  theirs = _import_or_skip('pytorch_grad_cam')
  net, x = _torch_net(torch)
  k, scale = 2, 100.0
  for method, oracle in (
    ('grad_cam', theirs.GradCAM),
    ('grad_cam_plus_plus', theirs.GradCAMPlusPlus),
    ('hires_cam', theirs.HiResCAM),
    ('layer_cam', theirs.LayerCAM),
  ):
    with oracle(net, [net.act1]) as tool:
      # Large logits drown the constant that theirs adds to a denominator.
      (scale * tool.activations_and_grads(x)[:, k]).sum().backward()
      stored = tool.activations_and_grads
      activations = stored.activations[0].detach().numpy()
      gradients = stored.gradients[0].detach().numpy()
      # Before they resize and scale it.
      expected = tool.get_cam_image(
        x, net.act1, None, activations, gradients, False
      )
    variables = jax.tree.map(lambda v: v, VARIABLES)
    variables['params']['fc'] = jax.tree.map(
      lambda v: scale * v, variables['params']['fc']
    )
    fn = by_name.make_host_attribution(NET, method, stage='stage1', native=True)
    _assert_near(fn(variables, KEY, IMAGE)[..., k], expected)


def test_the_projects_network():
  config = default.get_config().model
  config.num_filters, config.num_stages = 4, 2
  model = architectures.make_model(config, num_findings=3)
  image = jax.random.uniform(KEY, (2, 32, 32, 1))
  variables = jax.jit(model.init)(KEY, image)
  make = lambda method, **options: by_name.make_host_attribution(
    model, method, native=True, **options
  )(variables, KEY, image)
  maps = make('cam')
  assert maps.shape == (2, 4, 4, 3)
  logits, _ = jax.jit(model.apply)(variables, image)
  _, bias = model.head(variables['params'])
  np.testing.assert_allclose(
    maps.mean((1, 2)) + bias[None], logits, rtol=1e-4, atol=1e-5
  )
  np.testing.assert_allclose(make('grad_cam'), maps / 16, rtol=1e-4, atol=1e-6)
  assert make('layer_cam', stage='stage1').shape == (2, 8, 8, 3)


@pytest.mark.parametrize(
  'num_stages, output_stride', [(3, None), (3, 8), (4, 8)]
)
def test_every_second_cell_of_the_dense_cam_is_the_cam(
  num_stages, output_stride
):
  model = resnet.ResNet(
    'resnet18',
    num_findings=3,
    num_filters=4,
    num_stages=num_stages,
    output_stride=output_stride,
  )
  image = jax.random.uniform(KEY, (2, 64, 48, 1))
  variables = jax.jit(model.init)(KEY, image)
  # Blocks begin as the identity: with weights of their own they are none.
  variables = jax.tree.map(
    lambda x: x + 0.3 * jax.random.uniform(KEY, x.shape), variables
  )
  coarse, dense = (
    by_name.make_host_attribution(model, method, native=True, findings=(2, 0))(
      variables, KEY, image
    )
    for method in ('cam', 'dense_cam')
  )
  assert dense.shape == (2, 2 * coarse.shape[1], 2 * coarse.shape[2], 2)
  np.testing.assert_allclose(dense[:, ::2, ::2], coarse, rtol=1e-4, atol=1e-4)
  assert np.ptp(dense[:, 1::2] - dense[:, ::2]) > 1e-3


def test_a_model_without_a_stride_has_no_dense_cam():
  for model in (
    densenet.DenseNet('densenet121', 3),
    resnet.ResNet('resnet18', 3, num_stages=1),
  ):
    with pytest.raises(ValueError, match='needs a ResNet'):
      by_name.make_attribution(model, 'dense_cam')
