"""From the tensors of a file to the fields of config.model that describe it."""

import re
from collections.abc import Mapping
from typing import Any

from cxr.models import densenet, resnet
from cxr.models.foreign_weights import Weights


def fields(weights: Weights, exported: Mapping[str, Any] = {}) -> dict:
  """The fields of config.model that a file of weights shows, by name.

  They are arch, num_filters, num_stages, output_stride, input_mean, input_std,
  dtype and pooling. The stride is that of the network as it was published,
  without dilation, the dtype float32 and the pooling the mean, unless a run was
  exported with another.

  Args:
    weights: of the file.
    exported: the config.json of an export.

  Raises:
    ValueError: the file holds a network that is none of ours.
  """
  metadata = weights.metadata
  stated = lambda name: exported.get(name) or metadata.get(name)
  num_filters = len(weights.tensors[weights.first])
  arch, num_stages = _arch(weights, stated('arch'))
  fields = {
    'arch': arch,
    'num_filters': num_filters,
    'num_stages': num_stages,
    'output_stride': int(
      stated('output_stride') or resnet.STEM_STRIDE * 2 ** (num_stages - 1)
    ),
    'input_mean': weights.mean,
    'input_std': weights.std,
    'dtype': stated('dtype') or 'float32',
  }
  if (stated('pooling') or 'mean') != 'mean':
    fields |= {
      'pooling': stated('pooling'),
      'pooling_sharpness': float(stated('pooling_sharpness')),
      'pooling_share': float(stated('pooling_share')),
    }
  _check_widths(weights, fields)
  return fields


def _arch(weights: Weights, stated: str | None) -> tuple[str, int]:
  """(arch, stages), by the number of blocks of each stage."""
  pattern, known = {
    'densenet': (r'features\.denseblock(\d)\.denselayer(\d+)\.', _DENSENETS),
    'resnet': (r'layer(\d)\.(\d+)\.', _RESNETS),
  }[weights.family]
  stages: dict[int, set[str]] = {}
  for name in weights.tensors:
    match = re.match(pattern, name)
    if match:
      stages.setdefault(int(match[1]), set()).add(match[2])
  counts = tuple(len(stages[i]) for i in sorted(stages))
  kind = 'densenet'
  if weights.family == 'resnet':
    deep = 'layer1.0.conv3.weight' in weights.tensors
    kind = 'bottleneck' if deep else 'basic'
  fits = [
    arch
    for arch, (of_arch, blocks) in known.items()
    if of_arch == kind and blocks[: len(counts)] == counts and counts
  ]
  if not fits:
    what = f'a {weights.family} of {kind} blocks'.replace('densenet of ', '')
    raise ValueError(
      f'{weights.path} holds {what} in stages of {counts}, and none of the '
      f'networks here has these: {", ".join(known)}.'
    )
  # A network that was cut may be the beginning of several.
  return (stated if stated in fits else fits[0]), len(counts)


_RESNETS = resnet.BLOCKS
_DENSENETS = {
  arch: ('densenet', counts) for arch, counts in densenet.NUM_LAYERS.items()
}


def _check_widths(weights: Weights, fields: Mapping[str, Any]) -> None:
  """Refuses wide and grouped ResNets, and DenseNets of another growth."""
  filters = fields['num_filters']
  name, wanted = {
    'bottleneck': ('layer1.0.conv2.weight', (filters, filters)),
    'basic': ('layer1.0.conv2.weight', (filters, filters)),
    'densenet': (
      'features.denseblock1.denselayer1.conv2.weight',
      (filters // 2, densenet.BOTTLENECK * filters // 2),
    ),
  }[(_RESNETS | _DENSENETS)[fields['arch']][0]]
  shape = weights.tensors[name].shape if name in weights.tensors else wanted
  if shape[:2] != wanted:
    raise ValueError(
      f'{name} in {weights.path} goes from {shape[1]} channels to {shape[0]}, '
      f'and from {wanted[1]} to {wanted[0]} in a {fields["arch"]} of {filters} '
      'filters: wide and grouped networks (wide_resnet, resnext) are not among '
      'those here.'
    )
