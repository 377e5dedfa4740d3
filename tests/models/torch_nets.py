"""PyTorch's networks, for tests and benchmarks that hold ours against them.

`torch` is the module: whoever calls has seen that it is there.
"""

import collections


def conv_bn(nn, modules, conv, bn, c, d, size, stride=1):
  modules[conv] = nn.Conv2d(c, d, size, stride, size // 2, bias=False)
  modules[bn] = nn.BatchNorm2d(d)


def resnet(torch, arch, filters, channels=1, outputs=14):
  """torchvision's ResNet, in as few lines as it can be said."""
  nn = torch.nn
  wide = arch == 'resnet50'
  expansion = 4 if wide else 1

  class Block(nn.Module):
    def __init__(self, c, d, stride):
      super().__init__()
      shapes = [(c, d, 1, 1), (d, d, 3, stride), (d, 4 * d, 1, 1)]
      shapes = shapes if wide else [(c, d, 3, stride), (d, d, 3, 1)]
      self.count = len(shapes)
      for i, shape in enumerate(shapes):
        conv_bn(nn, self._modules, f'conv{i + 1}', f'bn{i + 1}', *shape)
      self.downsample = None
      if stride > 1 or c != expansion * d:
        self.downsample = nn.Sequential(
          nn.Conv2d(c, expansion * d, 1, stride, bias=False),
          nn.BatchNorm2d(expansion * d),
        )

    def forward(self, x):
      y = x
      for i in range(1, self.count + 1):
        y = self._modules[f'bn{i}'](self._modules[f'conv{i}'](y))
        y = y if i == self.count else torch.relu(y)
      return torch.relu(y + (self.downsample(x) if self.downsample else x))

  class Net(nn.Module):
    def __init__(self):
      super().__init__()
      conv_bn(nn, self._modules, 'conv1', 'bn1', channels, filters, 7, 2)
      c = filters
      for i, count in enumerate((3, 4, 6, 3) if wide else (2, 2, 2, 2)):
        blocks = []
        for j in range(count):
          blocks.append(Block(c, filters * 2**i, 2 if i and not j else 1))
          c = expansion * filters * 2**i
        self._modules[f'layer{i + 1}'] = nn.Sequential(*blocks)
      self.fc = nn.Linear(c, outputs)

    def forward(self, x):
      x = torch.relu(self.bn1(self.conv1(x)))
      x = nn.functional.max_pool2d(x, 3, 2, 1)
      for i in range(4):
        x = self._modules[f'layer{i + 1}'](x)
      return self.fc(x.mean((2, 3)))

  return trained(torch, Net())


def densenet(torch, filters, channels=1, outputs=18):
  """torchvision's DenseNet-121."""
  nn = torch.nn
  growth = filters // 2

  class Layer(nn.Sequential):
    def __init__(self, c):
      parts = collections.OrderedDict()
      parts['norm1'] = nn.BatchNorm2d(c)
      parts['relu1'] = nn.ReLU()
      parts['conv1'] = nn.Conv2d(c, 4 * growth, 1, bias=False)
      parts['norm2'] = nn.BatchNorm2d(4 * growth)
      parts['relu2'] = nn.ReLU()
      parts['conv2'] = nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False)
      super().__init__(parts)

    def forward(self, x):
      return torch.cat([x, super().forward(x)], 1)

  class Net(nn.Module):
    def __init__(self):
      super().__init__()
      parts = collections.OrderedDict()
      conv_bn(nn, parts, 'conv0', 'norm0', channels, filters, 7, 2)
      parts['relu0'] = nn.ReLU()
      parts['pool0'] = nn.MaxPool2d(3, 2, 1)
      c = filters
      for i, count in enumerate((6, 12, 24, 16)):
        block = collections.OrderedDict()
        for j in range(count):
          block[f'denselayer{j + 1}'] = Layer(c + j * growth)
        parts[f'denseblock{i + 1}'] = nn.Sequential(block)
        c += count * growth
        if i < 3:
          transition = collections.OrderedDict()
          transition['norm'] = nn.BatchNorm2d(c)
          transition['relu'] = nn.ReLU()
          transition['conv'] = nn.Conv2d(c, c // 2, 1, bias=False)
          transition['pool'] = nn.AvgPool2d(2, 2)
          parts[f'transition{i + 1}'] = nn.Sequential(transition)
          c //= 2
      parts['norm5'] = nn.BatchNorm2d(c)
      self.features = nn.Sequential(parts)
      self.classifier = nn.Linear(c, outputs)

    def forward(self, x):
      return self.classifier(torch.relu(self.features(x)).mean((2, 3)))

  return trained(torch, Net())


def trained(torch, net, seed=0):
  """Scales and statistics as after a training, so that no part is idle."""
  torch.manual_seed(seed)
  for module in net.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      torch.nn.init.uniform_(module.weight, 0.5, 1.0)
      torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
      torch.nn.init.normal_(module.bias, 0, 0.1)
      torch.nn.init.normal_(module.running_mean, 0, 0.1)
  return net.eval()
