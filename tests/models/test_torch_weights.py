"""Weights files: what is read, what is refused, and parity with PyTorch."""

import functools
import os

import jax
import numpy as np
import pytest
import safetensors.numpy

from cxr.models import (
  architectures,
  foreign_weights,
  torch_weights,
  torchxrayvision,
)
from input_pipeline import findings as findings_lib
from tests.models import test_resnet, test_torch_files, torch_nets

FINDINGS = findings_lib.FINDINGS
init_from = functools.partial(torch_weights.init_from, findings=FINDINGS)
save = functools.partial(torch_weights.save, findings=FINDINGS)


def torch_or_skip():
  return pytest.importorskip('torch', reason='the oracle of these tests')


def films(b=2, size=64, seed=0):
  rng = np.random.default_rng(seed)
  return rng.uniform(0, 1, (b, size, size, 1)).astype(np.float32)


def torch_logits(net, x):
  torch = torch_or_skip()
  with torch.no_grad():
    return net(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()


def arrays(net):
  return {name: value.numpy() for name, value in net.state_dict().items()}


# ---- parity --------------------------------------------------------------


@pytest.mark.parametrize('arch', ['resnet18', 'resnet50'])
def test_resnet_parity_and_round_trip(tmp_path, arch):
  """TorchXRayVision's ResNet: 'model.' before the names, 18 outputs."""
  torch = torch_or_skip()
  net = torch_nets.resnet(torch_or_skip(), arch, 8, outputs=18)
  state = {f'model.{name}': v for name, v in net.state_dict().items()}
  thresholds = torch.full((18,), 0.5)
  thresholds[-1] = torch.nan
  torch.save(state | {'op_threshs': thresholds}, tmp_path / 'weights.pt')
  config = test_resnet.config(arch=arch)
  model, variables = test_resnet.build(arch=arch)
  variables, report = init_from(tmp_path / 'weights.pt', variables, config)
  assert report['head'] == [
    name for name in torchxrayvision.FINDINGS if name in FINDINGS
  ]
  assert report['left_out'] == 0
  assert report['random_head'] == []

  logits, _ = test_resnet.apply(model, variables, films())
  expected = torch_logits(net, 2048 * films() - 1024)
  order = [torchxrayvision.FINDINGS.index(f) for f in FINDINGS]
  np.testing.assert_allclose(logits, expected[:, order], atol=1e-4)

  # Back: PyTorch loads what is saved, and so do we.
  path = tmp_path / 'weights.safetensors'
  save(path, variables, config)
  again, report = init_from(
    path, test_resnet.randomize(variables, seed=1), config
  )
  assert report['pixels'] == 'as the file states'
  np.testing.assert_allclose(
    test_resnet.apply(model, again, films())[0], logits, atol=1e-5
  )
  net = torch_nets.resnet(torch_or_skip(), arch, 8)
  tensors = safetensors.numpy.load_file(path)
  net.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
  np.testing.assert_allclose(
    torch_logits(net, (films() - 0.5) / 0.25), logits, atol=1e-4
  )


def test_densenet_parity_and_round_trip(tmp_path):
  torch = torch_or_skip()
  net = torch_nets.densenet(torch_or_skip(), 8)
  # The names of torchvision's first files.
  state = {
    name.replace('.norm1.', '.norm.1.').replace('.conv2.', '.conv.2.'): value
    for name, value in net.state_dict().items()
  }
  path = tmp_path / 'weights.pth'
  torch.save(state | {'op_threshs': torch.full((18,), 0.5)}, path)
  config = test_resnet.config(arch='densenet121')
  model, variables = test_resnet.build(arch='densenet121')
  variables, _ = init_from(path, variables, config)
  logits, _ = test_resnet.apply(model, variables, films(1))
  expected = torch_logits(net, 2048 * films(1) - 1024)
  order = [torchxrayvision.FINDINGS.index(f) for f in FINDINGS]
  np.testing.assert_allclose(logits, expected[:, order], atol=1e-4)
  tensors = torch_weights.to_torch(variables)
  names = {n for n in net.state_dict() if 'num_batches' not in n}
  assert set(tensors) == names

  # Cut after two blocks: the rest and the head are left out, and counted.
  config = test_resnet.config(arch='densenet121', num_stages=2)
  model, variables = test_resnet.build(arch='densenet121', num_stages=2)
  new, report = init_from(path, variables, config)
  np.testing.assert_array_equal(
    new['params']['transition2']['norm']['scale'],
    net.features.transition2.norm.weight.detach(),
  )
  assert report['loaded'] + report['left_out'] == len(names)
  assert 'features.transition2.conv.weight' in report['left_out_names']
  assert report['head'] == []
  np.testing.assert_array_equal(
    model.head(new['params'])[0],
    model.head(variables['params'])[0],
  )


def test_three_channels_are_summed_with_their_means(tmp_path):
  """ImageNet's means and deviations go into the first convolution."""
  torch = torch_or_skip()
  net = torch_nets.resnet(
    torch_or_skip(), 'resnet18', 8, channels=3, outputs=1000
  )
  torch.save(net.state_dict(), tmp_path / 'weights.pth')
  config = test_resnet.config(num_stages=1)
  model, variables = test_resnet.build(num_stages=1)
  variables, report = init_from(tmp_path / 'weights.pth', variables, config)
  assert report['pixels'] == 'ImageNet mean and std'
  assert report['head'] == [] and report['random_head'] == list(FINDINGS)
  assert 'fc.weight' in report['left_out_names']
  mean, std = foreign_weights.IMAGENET
  x = ((films() - mean) / std).astype(np.float32).transpose(0, 3, 1, 2).copy()
  with torch.no_grad():
    x = torch.relu(net.bn1(net.conv1(torch.from_numpy(x))))
    x = net.layer1(torch.nn.functional.max_pool2d(x, 3, 2, 1))
  _, endpoints = test_resnet.apply(model, variables, films())
  # Zeros beyond the border are another gray: exact six cells from it.
  np.testing.assert_allclose(
    endpoints['stage1'][:, 6:-6, 6:-6],
    x.numpy().transpose(0, 2, 3, 1)[:, 6:-6, 6:-6],
    atol=1e-4,
  )


def test_three_channels_as_they_are(tmp_path):
  """A model of three means has PyTorch's logits, at the border too."""
  torch = torch_or_skip()
  net = torch_nets.resnet(torch, 'resnet18', 8, channels=3)
  torch.save(net.state_dict(), tmp_path / 'weights.pth')
  mean, std = foreign_weights.IMAGENET
  stated = {'input_mean': mean, 'input_std': std}
  model, variables = test_resnet.build(**stated)
  config = test_resnet.config(**stated)
  weights = foreign_weights.read(tmp_path / 'weights.pth', config, '')
  taken = {finding: row for row, finding in enumerate(FINDINGS)}
  variables, _ = torch_weights.fill(weights, variables, config, FINDINGS, taken)
  logits, _ = test_resnet.apply(model, variables, films())
  x = ((films() - mean) / std).astype(np.float32)
  np.testing.assert_allclose(logits, torch_logits(net, x), atol=1e-4)


def saved(tmp_path, variables, changes=(), **metadata):
  """A file of these variables, with some tensors changed."""
  path = tmp_path / 'w.safetensors'
  tensors = torch_weights.to_torch(variables)
  for name, value in dict(changes).items():
    if value is None:
      del tensors[name]
    else:
      tensors[name] = value
  safetensors.numpy.save_file(tensors, path, metadata or None)
  return path


STATED = {'input_mean': '0.5', 'input_std': '0.25'}


def init(tmp_path, changes=(), *, metadata=(), **config):
  """(the file's variables, those made of the file, the report)."""
  _, original = test_resnet.build(num_stages=1)
  path = saved(tmp_path, original, changes, **dict(metadata))
  blank = test_resnet.randomize(original, seed=1)
  config = test_resnet.config(num_stages=1, **config)
  return original, *init_from(path, blank, config)


def test_pixels_that_nobody_states_are_asked_for(tmp_path):
  with pytest.raises(ValueError, match='set config.model.init_pixels to unit'):
    init(tmp_path)
  with pytest.raises(ValueError, match='does not say what pixels'):
    init(tmp_path, init_pixels='')


@pytest.mark.parametrize(
  ('pixels', 'mean', 'std'),
  [('unit', 0.5, 0.25), ('xrv', 0.5, 1 / 2048), ('imagenet', 0.449, 0.226)],
)
def test_the_user_states_the_pixels_of_one_channel(tmp_path, pixels, mean, std):
  old, new, report = init(tmp_path, init_pixels=pixels)
  old_conv, conv = (v['params']['conv1']['kernel'] for v in (old, new))
  np.testing.assert_allclose(conv, old_conv * 0.25 / std, rtol=1e-5)
  shift = np.sum(old_conv * (0.5 - mean) / std, (0, 1, 2))
  np.testing.assert_allclose(
    new['batch_stats']['bn1']['mean'],
    old['batch_stats']['bn1']['mean'] - shift,
    rtol=1e-4,
    atol=1e-4,
  )
  assert report['head'] == []  # the outputs have no names


@pytest.mark.parametrize('prefix', ['', 'module.', 'model.'])
def test_the_user_goes_before_the_file(tmp_path, prefix):
  _, variables = test_resnet.build(num_stages=1)
  named = torch_weights.to_torch(variables)
  path = tmp_path / 'w.safetensors'
  tensors = {
    f'{prefix}{name}': value.astype(np.float16) for name, value in named.items()
  }
  safetensors.numpy.save_file(tensors, path, STATED | {'input_std': '1.0'})
  for stated, factor in (('', 0.25), ('unit', 1.0)):
    config = test_resnet.config(num_stages=1, init_pixels=stated)
    new, _ = init_from(path, variables, config)
    np.testing.assert_allclose(
      new['params']['conv1']['kernel'],
      factor * variables['params']['conv1']['kernel'],
      rtol=1e-2,
      atol=1e-4,
    )


def test_three_channels_may_be_of_other_pixels(tmp_path):
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=(8, 3, 7, 7)).astype(np.float32)
  _, new, report = init(tmp_path, {'conv1.weight': kernel}, init_pixels='unit')
  np.testing.assert_allclose(
    new['params']['conv1']['kernel'][:, :, 0],
    kernel.sum(1).transpose(1, 2, 0),
    rtol=1e-4,
    atol=1e-5,
  )
  assert report['pixels'].startswith('[0, 1]')


def test_outputs_that_may_be_untrained_are_not_taken(tmp_path):
  outputs = {
    'fc.weight': np.ones((18, 8), np.float32),
    'fc.bias': np.ones(18, np.float32),
  }
  _, _, report = init(tmp_path, outputs, init_pixels='xrv')
  assert report['head'] == [] and 'op_threshs' in report['head_note']


def test_a_pickled_module_of_torchxrayvision(tmp_path, monkeypatch):
  """Its class says the pixels; its list of outputs, which were trained."""
  model, variables = test_resnet.build(num_stages=1)
  names = list(torchxrayvision.FINDINGS)
  names[0] = ''
  rng = np.random.default_rng(0)
  tensors = torch_weights.to_torch(variables) | {
    'fc.weight': rng.normal(size=(18, 8)).astype(np.float32),
    'fc.bias': rng.normal(size=18).astype(np.float32),
  }
  path = tmp_path / 'w.pt'
  test_torch_files.save_module(
    monkeypatch,
    path,
    {f'model.{name}': value for name, value in tensors.items()},
    targets=names,
  )
  new, report = init_from(path, variables, test_resnet.config(num_stages=1))
  assert report['pixels'] == '[-1024, 1024]'
  assert report['random_head'] == ['Atelectasis']
  kernel, _ = model.head(new['params'])
  row = names.index('Mass')
  np.testing.assert_array_equal(
    kernel[:, FINDINGS.index('Mass')], tensors['fc.weight'][row]
  )


def test_untrained_outputs_keep_the_models_own(tmp_path):
  _, file_variables = test_resnet.build(num_stages=1)
  model, variables = test_resnet.build(num_stages=1)
  variables = test_resnet.randomize(variables, seed=1)
  rng = np.random.default_rng(0)
  weight = rng.normal(size=(18, 8)).astype(np.float32)
  thresholds = np.full(18, 0.5, np.float32)
  thresholds[[0, 15]] = np.nan
  path = saved(
    tmp_path,
    file_variables,
    {
      'fc.weight': weight,
      'fc.bias': np.arange(18, dtype=np.float32),
      'op_threshs': thresholds,
    },
  )
  new, report = init_from(path, variables, test_resnet.config(num_stages=1))
  assert report['random_head'] == ['Atelectasis']
  kernel, bias = model.head(new['params'])
  old_kernel, old_bias = model.head(variables['params'])
  np.testing.assert_array_equal(kernel[:, 0], old_kernel[:, 0])
  assert bias[0] == old_bias[0]
  for i, finding in enumerate(FINDINGS[1:], 1):
    row = torchxrayvision.FINDINGS.index(finding)
    np.testing.assert_array_equal(kernel[:, i], weight[row])
    assert bias[i] == row


def test_findings_are_mapped_by_name(tmp_path):
  model, variables = test_resnet.build(num_stages=1)
  path = tmp_path / 'w.safetensors'
  config = test_resnet.config(num_stages=1)
  order = FINDINGS[::-1]
  save(path, variables, config, findings=order)
  new, report = init_from(path, variables, config)
  assert report['random_head'] == []
  np.testing.assert_array_equal(
    model.head(new['params'])[0],
    model.head(variables['params'])[0][:, ::-1],
  )


def test_findings_are_mapped_by_meaning(tmp_path):
  """Other spellings, a name with a comma, and one that covers several."""
  path, config = tmp_path / 'w.safetensors', test_resnet.config(num_stages=1)
  _, variables = test_resnet.build(num_stages=1)
  theirs = ['pleural effusion', 'Mass, left', 'Lung Opacity']
  head = jax.tree.map(lambda x: x[..., :3], variables['params']['fc'])
  three = variables | {'params': variables['params'] | {'fc': head}}
  save(path, three, config, findings=theirs)
  ours = ('Mass, left', 'Consolidation', 'Effusion')
  blank = jax.device_put(jax.tree.map(np.zeros_like, three))
  new, report = init_from(path, blank, config, findings=ours)
  assert report['head'] == ['Effusion', 'Mass, left']
  assert report['random_head'] == ['Consolidation']
  bias = np.asarray(new['params']['fc']['bias'])
  assert bias[1] == 0
  np.testing.assert_array_equal(bias[[2, 0]], head['bias'][:2])


def test_weights_of_other_pixels(tmp_path):
  """Another input_std of the same mean gives the same logits."""
  model, variables = test_resnet.build(num_stages=1)
  path = tmp_path / 'w.safetensors'
  save(path, variables, test_resnet.config(num_stages=1))
  other = test_resnet.config(num_stages=1, input_std=1.5)
  new, _ = init_from(path, variables, other)
  other_model = architectures.make_model(other, 14)
  np.testing.assert_allclose(
    test_resnet.apply(other_model, new, films(size=32))[0],
    test_resnet.apply(model, variables, films(size=32))[0],
    atol=1e-5,
  )


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'bn1.weight': None}, r'lacks bn1.weight \(1 of \d+ tensors are absent'),
    ({'conv1.weight': None}, 'has no conv1.weight, so it is not of the arch'),
    (
      {'bn1.bias': np.zeros(9, np.float32)},
      r'bn1.bias is \(9,\) in .* and \(8,\) in the model: set model.arch',
    ),
    (
      {'conv1.weight': np.zeros((8, 2, 7, 7), np.float32)},
      'expects 2 input channels; only 1 and 3',
    ),
  ],
)
def test_another_architecture(tmp_path, changes, message):
  _, variables = test_resnet.build(num_stages=1)
  path = saved(tmp_path, variables, changes, **STATED)
  with pytest.raises(ValueError, match=message):
    init_from(path, variables, test_resnet.config(num_stages=1))


def test_save_leaves_no_half_file(tmp_path):
  _, variables = test_resnet.build(num_stages=1)
  with pytest.raises(KeyError):
    save(tmp_path / 'w', {'params': {}}, test_resnet.config(num_stages=1))
  assert os.listdir(tmp_path) == []
