"""What a weights file holds, as far as the file and its user say.

Published networks differ in the prefix of their names, the pixels that they
take, and in what says which output stands for which finding. `read` answers
all of this once, for a training that starts from the weights and for an
evaluation of them as they are.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from cxr.models import torch_files, torchxrayvision

# Mean and standard deviation by which an image in [0, 1] was normalised.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# What config.model.init_pixels may say of a file's weights; '' leaves it to the
# file.
PIXELS = ('', 'unit', 'xrv', 'imagenet')
NO_FINDING = '-'  # in config.model.init_findings: the output stands for none

Number = float | tuple[float, ...]


class Weights(NamedTuple):
  """The tensors of a file under torchvision's names, and what they mean."""

  path: str
  tensors: dict[str, np.ndarray]
  metadata: Mapping[str, str]
  family: str  # a key of `FIRST`
  mean: Number  # by which an image in [0, 1] is normalised, a number or three
  std: Number
  pixels: str  # the same in words
  # The finding of each output: '' where it was not trained, or nobody says.
  outputs: tuple[str, ...]
  # Why some of the named outputs may not have been trained; '' if none.
  doubt: str
  # The probability from which on an output is positive, and who says so.
  points: Float[np.ndarray, ' k'] | None
  points_from: str

  @property
  def first(self) -> str:
    return FIRST[self.family]

  @property
  def head(self) -> str:
    return HEAD[self.family]

  @property
  def from_xrv(self) -> bool:
    return self.pixels == _XRV


FIRST = {'densenet': 'features.conv0.weight', 'resnet': 'conv1.weight'}
HEAD = {'densenet': 'classifier', 'resnet': 'fc'}
_XRV = '[-1024, 1024]'


def read(path: str | os.PathLike, config_model: Any, family: str) -> Weights:
  """Reads a file of one family of networks.

  The pixel range that the weights were trained on is config_model.init_pixels:
  'unit' (pixels in [0, 1], normalised by input_mean and input_std), 'xrv'
  ([-1024, 1024], TorchXRayVision's) or 'imagenet' (ImageNet's mean and standard
  deviation; for one channel, their means over the three). Where that is '' or
  absent, the file's own metadata say it, or that it is TorchXRayVision's; three
  input channels are else taken for ImageNet's.

  The outputs are named by config_model.init_findings, by the file's metadata,
  or by TorchXRayVision's order.

  Args:
    path: a safetensors or PyTorch file.
    config_model: input_mean, input_std, init_pixels and init_findings are read.
    family: a key of `FIRST`; '' for what the file holds.

  Raises:
    FileNotFoundError, ValueError: see `torch_files.read`; or the file is of
      another family, or nobody says what pixels the weights were trained on.
  """
  path = os.fspath(path)
  tensors, metadata = torch_files.read(path)
  tensors = _old_spellings_replaced(tensors)
  family, prefix = _family(path, tensors, family)
  tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
  tensors = _head_named(tensors, HEAD[family])
  stated = getattr(config_model, 'init_pixels', '')
  points, points_from = _points(path, tensors)
  from_xrv = (
    stated == 'xrv'
    or points is not None
    or torchxrayvision.is_its_class(metadata.get('class', ''))
  )
  channels = tensors[FIRST[family]].shape[1]
  (mean, std), pixels = _pixels(
    path, channels, metadata, from_xrv, config_model
  )
  num_outputs = len(tensors.get(f'{HEAD[family]}.weight', ()))
  outputs, doubt = _outputs(
    path, num_outputs, metadata, from_xrv, points, config_model
  )
  if points is not None and len(points) != num_outputs:
    points = None
  return Weights(
    path,
    tensors,
    metadata,
    family,
    mean,
    std,
    pixels,
    outputs,
    doubt,
    points,
    points_from,
  )


def _old_spellings_replaced(tensors) -> dict[str, np.ndarray]:
  """In torchvision's first DenseNet files 'norm1' is 'norm.1'."""
  spelled = r'(denselayer\d+\.(?:norm|conv))\.([12]\.)'
  return {re.sub(spelled, r'\1\2', name): v for name, v in tensors.items()}


def _family(path, tensors, wanted: str) -> tuple[str, str]:
  """(family, what a wrapper puts before its names: 'module.')."""
  for family, first in FIRST.items():
    fits = [
      name
      for name in tensors
      # Not the 'conv1' inside 'layer1.0' or 'denselayer1'.
      if f'.{name}'.endswith(f'.{first}') and not re.search(r'layer\d', name)
    ]
    if fits and wanted in ('', family):
      return family, min(fits, key=len).removesuffix(first)
  if wanted:
    raise ValueError(
      f'{path} has no {FIRST[wanted]}, so it is not of the architecture that '
      f'model.arch names; its first tensors are {list(tensors)[:3]}.'
    )
  raise ValueError(
    f'{path} holds neither a ResNet nor a DenseNet under the names of '
    f'torchvision ({" or ".join(FIRST.values())}); its first tensors are '
    f'{list(tensors)[:3]}.'
  )


def _head_named(tensors, head: str) -> dict[str, np.ndarray]:
  """The tensors with the last layer's own name, where it was one of several
  modules: 'classifier.0.weight', as CheXNet's, with a sigmoid behind it."""
  layers = {
    name.removesuffix('.weight')
    for name, value in tensors.items()
    if re.fullmatch(rf'{head}\.\d+\.weight', name) and value.ndim == 2
  }
  if f'{head}.weight' in tensors or len(layers) != 1:
    return tensors
  (layer,) = layers
  return {
    name.replace(layer, head) if name.startswith(f'{layer}.') else name: value
    for name, value in tensors.items()
  }


def _points(path, tensors) -> tuple[np.ndarray | None, str]:
  """TorchXRayVision's operating points; NaN where an output is untrained."""
  for name, value in tensors.items():
    if name.endswith('op_threshs'):
      return np.asarray(value, np.float64), f'op_threshs of {_name(path)}'
  points = torchxrayvision.points(path)
  said = f'TorchXRayVision 1.5.7, of its published file {_name(path)}'
  return points, '' if points is None else said


def _name(path) -> str:
  return os.path.basename(path)


def _pixels(path, channels: int, metadata, from_xrv: bool, config_model):
  """((mean, std) by which an image in [0, 1] is normalised, in words)."""
  if channels not in (1, 3):
    raise ValueError(
      f'{path} expects {channels} input channels; only 1 and 3 can be taken.'
    )
  imagenet = IMAGENET
  if channels == 1:
    imagenet = tuple(float(np.mean(value)) for value in IMAGENET)
  known = {
    'unit': (
      (config_model.input_mean, config_model.input_std),
      '[0, 1], normalised by model.input_mean and model.input_std',
    ),
    'xrv': (torchxrayvision.PIXELS, _XRV),
    'imagenet': (imagenet, 'ImageNet mean and std'),
  }
  stated = getattr(config_model, 'init_pixels', '')
  if stated:
    return known[stated]
  if 'input_mean' in metadata and 'input_std' in metadata:
    mean, std = (_number(metadata[f'input_{k}']) for k in ('mean', 'std'))
    return (mean, std), 'as the file states'
  if from_xrv:
    return known['xrv']
  if channels == 3:
    return known['imagenet']
  raise ValueError(
    f'{path} holds weights for one input channel and does not say what pixels '
    'they were trained on: set config.model.init_pixels to unit (pixels in '
    '[0, 1], normalised by model.input_mean and model.input_std), xrv '
    '([-1024, 1024], as TorchXRayVision) or imagenet (ImageNet mean and std).'
  )


def _number(text: str) -> Number:
  """A number or three, as `torch_weights.save` writes them."""
  value = json.loads(text)
  return tuple(map(float, value)) if isinstance(value, list) else float(value)


def _outputs(
  path, num_outputs: int, metadata, from_xrv: bool, points, config_model
) -> tuple[tuple[str, ...], str]:
  """(what each output means, why some may be untrained)."""
  stated = getattr(config_model, 'init_findings', ())
  if stated:
    if len(stated) != num_outputs:
      raise ValueError(
        f'config.model.init_findings names {len(stated)} findings, and {path} '
        f'has {num_outputs} outputs; name each, in their order, and write '
        f'{NO_FINDING} for one that stands for no finding.'
      )
    return tuple('' if name == NO_FINDING else name for name in stated), ''
  if 'findings' in metadata:
    names = _read_names(metadata['findings'])
  elif from_xrv:
    names = torchxrayvision.FINDINGS
  else:
    names = ()
  if len(names) != num_outputs:
    return ('',) * num_outputs, ''
  if points is not None and len(points) == num_outputs:
    pairs = zip(names, points, strict=True)
    return tuple(n if np.isfinite(p) else '' for n, p in pairs), ''
  doubt = ''
  if from_xrv and '' not in names:
    # All 18 names stand in such a file whatever its outputs learned.
    doubt = (
      'the file does not tell which of its outputs were trained: it has '
      "neither op_threshs nor the name of TorchXRayVision's published files"
    )
  return tuple(names), doubt


def _read_names(text: str) -> Sequence[str]:
  """The names of outputs as `torch_weights.save` writes them."""
  return json.loads(text) if text.startswith('["') else text.split(',')
