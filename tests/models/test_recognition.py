"""Which network a file holds, by the names and shapes of its tensors."""

import numpy as np
import pytest

from cxr.models import densenet, recognition, resnet
from cxr.models.foreign_weights import Weights

BLOCK = {
  'basic': 'layer{}.{}.conv2.weight',
  'bottleneck': 'layer{}.{}.conv3.weight',
}


def weights(names, filters, family, **metadata):
  first = {'resnet': 'conv1.weight', 'densenet': 'features.conv0.weight'}
  tensors = {name: np.zeros(1, np.float32) for name in names}
  tensors[first[family]] = np.zeros((filters, 1, 7, 7), np.float32)
  return Weights(
    'w.pt', tensors, metadata, family, 0.5, 0.25, '', (), '', None, ''
  )


def resnet_names(arch, stages=4):
  kind, blocks = resnet.BLOCKS[arch]
  return [
    BLOCK[kind].format(i + 1, j)
    for i, count in enumerate(blocks[:stages])
    for j in range(count)
  ]


def densenet_names(arch, stages=4):
  return [
    f'features.denseblock{i + 1}.denselayer{j + 1}.norm1.weight'
    for i, count in enumerate(densenet.NUM_LAYERS[arch][:stages])
    for j in range(count)
  ]


@pytest.mark.parametrize('arch', resnet.BLOCKS)
def test_resnets(arch):
  names = [n for n in resnet_names(arch) if n != 'layer1.0.conv2.weight']
  names = names if 'layer1.0.conv3.weight' in names else [*names, 'layer1.0.x']
  found = recognition.fields(weights(names, 64, 'resnet'))
  assert (found['arch'], found['num_filters']) == (arch, 64)
  assert (found['num_stages'], found['output_stride']) == (4, 32)


@pytest.mark.parametrize('arch', densenet.NUM_LAYERS)
def test_densenets(arch):
  found = recognition.fields(weights(densenet_names(arch), 64, 'densenet'))
  assert (found['arch'], found['num_stages']) == (arch, 4)


def test_pooling_is_the_mean_unless_it_is_stated():
  names = densenet_names('densenet121')
  assert 'pooling' not in recognition.fields(weights(names, 64, 'densenet'))
  stated = {'pooling_sharpness': '6.0', 'pooling_share': '0.1'}
  found = recognition.fields(
    weights(names, 64, 'densenet', pooling='lse', **stated)
  )
  assert (found['pooling'], found['pooling_sharpness']) == ('lse', 6.0)


def test_what_is_stated_chooses_among_those_that_fit():
  """Two stages of a ResNet-50 are two of a ResNet-101."""
  names = resnet_names('resnet50', stages=2)
  found = recognition.fields(
    weights(names, 8, 'resnet', arch='resnet101', output_stride='4')
  )
  assert (found['arch'], found['num_stages']) == ('resnet101', 2)
  assert found['output_stride'] == 4
  assert recognition.fields(weights(names, 8, 'resnet'))['output_stride'] == 8


def test_no_network_of_ours():
  with pytest.raises(ValueError, match=r'in stages of \(1,\), and none'):
    recognition.fields(weights(['layer1.0.bn1.bias'], 8, 'resnet'))
