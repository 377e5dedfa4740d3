"""torchvision and TorchXRayVision weights -> variables, and back.

Names are torchvision's: 'layer1.0.conv1.weight' is
`params['layer1_0']['conv1']['kernel']`. Kernels are transposed, the first
convolution is summed over its input channels, and the pixel range the weights
were trained on is folded into it, so that the model keeps its own `input_mean`
and `input_std`. `torch_files` reads the files.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from cxr import files
from cxr.models import torch_files
from input_pipeline import findings as findings_lib

# Mean and standard deviation by which an image in [0, 1] was normalised.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TORCHXRAYVISION = (0.5, 1 / 2048)  # pixels in [-1024, 1024]
# What config.model.init_pixels may say of a file's weights; '' leaves it to the
# file.
PIXELS = ('', 'unit', 'xrv', 'imagenet')
# The order of TorchXRayVision's outputs. A model of one data set leaves some
# of them untrained and marks them by NaN in its buffer 'op_threshs'.
TORCHXRAYVISION_FINDINGS = (
  'Atelectasis',
  'Consolidation',
  'Infiltration',
  'Pneumothorax',
  'Edema',
  'Emphysema',
  'Fibrosis',
  'Effusion',
  'Pneumonia',
  'Pleural_Thickening',
  'Cardiomegaly',
  'Nodule',
  'Mass',
  'Hernia',
  'Lung Lesion',
  'Fracture',
  'Lung Opacity',
  'Enlarged Cardiomediastinum',
)


def to_torch(variables: Mapping) -> dict[str, np.ndarray]:
  """The parameters and statistics under torchvision's names and layouts."""
  tensors = {}
  for path, value in jax.tree.leaves_with_path(
    {k: variables[k] for k in ('params', 'batch_stats')}
  ):
    value = np.asarray(value)
    if value.ndim == 4:
      value = value.transpose(3, 2, 0, 1)
    elif value.ndim == 2:
      value = value.T
    tensors[_torch_name(path)] = np.ascontiguousarray(value)
  return tensors


def _torch_name(path) -> str:
  _, *modules, leaf = (key.key for key in path)
  leaf = {
    'kernel': 'weight',
    'scale': 'weight',
    'bias': 'bias',
    'mean': 'running_mean',
    'var': 'running_var',
  }[leaf]
  in_densenet = re.match('conv0|norm|denseblock|transition', modules[0])
  prefix = ['features'] if in_densenet else []
  # The underscores are those of 'layer1_0' and 'downsample_0'.
  return '.'.join([*prefix, *modules]).replace('_', '.') + f'.{leaf}'


def _from_torch_layout(value: np.ndarray) -> np.ndarray:
  value = np.asarray(value, np.float32)
  if value.ndim == 4:
    return value.transpose(2, 3, 1, 0)
  return value.T


def _plain_names(path, tensors, first: str) -> dict[str, np.ndarray]:
  """The tensors without a wrapper's prefix ('module.') and old spellings."""
  # In torchvision's first DenseNet files 'norm1' is 'norm.1'.
  tensors = {
    re.sub(r'(denselayer\d+\.(?:norm|conv))\.([12]\.)', r'\1\2', name): value
    for name, value in tensors.items()
  }
  fits = [
    name
    for name in tensors
    # Not the 'conv1' inside 'layer1.0' or 'denselayer1'.
    if f'.{name}'.endswith(f'.{first}') and not re.search(r'layer\d', name)
  ]
  if not fits:
    raise ValueError(
      f'{path} has no {first}, so it is not of the architecture that '
      f'model.arch names; its first tensors are {list(tensors)[:3]}.'
    )
  prefix = min(fits, key=len).removesuffix(first)
  return {name.removeprefix(prefix): value for name, value in tensors.items()}


def init_from(
  path: str | os.PathLike,
  variables: Mapping,
  config_model: Any,
  *,
  findings: Sequence[str],
) -> tuple[dict, dict]:
  """Variables with a file's weights in place of the random ones.

  The pixel range that the weights were trained on is config_model.init_pixels:
  'unit' (pixels in [0, 1], normalised by input_mean and input_std), 'xrv'
  ([-1024, 1024], TorchXRayVision's) or 'imagenet' (ImageNet's mean and standard
  deviation; for one channel, their means over the three). Where that is '' or
  absent, the file's own metadata say it, or that it is TorchXRayVision's; three
  input channels are else taken for ImageNet's.

  Outputs are matched by their findings' names. Those of another meaning, or
  marked as untrained, are left out and the head's random columns stay.

  Args:
    path: a safetensors or PyTorch file.
    variables: of the model to fill, as `model.init` gives them.
    config_model: its configuration; arch, input_mean, input_std and init_pixels
      are read.
    findings: the names of the model's outputs.

  Returns:
    (variables, report). The report has 'loaded' and 'left_out' (numbers of
    tensors), 'left_out_names', 'head' (the findings whose output was taken),
    'random_head' (the others), 'pixels' (the range, in words) and, where the
    file does not tell which of its outputs were trained, 'head_note'.

  Raises:
    FileNotFoundError, ValueError: see `torch_files.read`; or the architectures
      differ, or nobody says what pixels the weights were trained on.
  """
  target = to_torch(variables)
  densenet = 'features.conv0.weight' in target
  first = 'features.conv0.weight' if densenet else 'conv1.weight'
  first_norm = 'features.norm0' if densenet else 'bn1'
  head = 'classifier' if densenet else 'fc'
  tensors, metadata = torch_files.read(path)
  source = _plain_names(path, tensors, first)

  stated = getattr(config_model, 'init_pixels', '')
  from_xrv = stated == 'xrv' or _is_torchxrayvision(source, metadata)
  channels = source[first].shape[1]
  (mean, std), pixels = _pixels(
    path, channels, metadata, from_xrv, config_model
  )
  names, head_note = _finding_names(
    source, f'{head}.weight', metadata, from_xrv
  )
  head_names = {f'{head}.weight', f'{head}.bias'}
  body = {k: v.shape for k, v in target.items() if k not in head_names}
  missing = [name for name in body if name not in source]
  if missing:
    raise ValueError(
      f'{path} lacks {missing[0]} ({len(missing)} of {len(body)} tensors are '
      f'absent): it holds another architecture than {config_model.arch}.'
    )
  for name, wanted in body.items():
    found = source[name].shape
    if name == first:
      found = (found[0], 1, *found[2:])
    if found != wanted:
      raise ValueError(
        f'{name} is {found} in {path} and {wanted} in the model: set '
        'model.arch and model.num_filters to what the file holds (64 filters '
        'in published weights).'
      )
  new = {name: source[name] for name in body}
  new[first], shift = _fold_pixels(new[first], mean, std, config_model)
  new[f'{first_norm}.running_mean'] = new[f'{first_norm}.running_mean'] - shift
  taken = _columns(source, target, head, names, findings)
  for name in head_names:
    new[name] = target[name].copy()
    for finding, row in taken.items():
      new[name][findings.index(finding)] = source[name][row]

  used = body.keys() | (head_names if taken else set())
  left_out = sorted(
    name
    for name in source.keys() - used
    if not name.endswith(('num_batches_tracked', 'op_threshs'))
  )
  report = {
    'loaded': len(used),
    'left_out': len(left_out),
    'left_out_names': left_out,
    'head': list(taken),
    'random_head': [name for name in findings if name not in taken],
    'pixels': pixels,
  } | ({'head_note': head_note} if head_note else {})
  put = lambda path, old: jax.device_put(
    _from_torch_layout(new[_torch_name(path)]).astype(old.dtype), old.sharding
  )
  return jax.tree.map_with_path(put, dict(variables)), report


def _is_torchxrayvision(tensors, metadata) -> bool:
  """Whether the file shows by itself that TorchXRayVision made it."""
  return _thresholds(tensors) is not None or metadata.get(
    'class', ''
  ).startswith('torchxrayvision.')


def _thresholds(tensors) -> np.ndarray | None:
  """TorchXRayVision's operating points: NaN where an output is untrained."""
  named = (v for k, v in tensors.items() if k.endswith('op_threshs'))
  return next(named, None)


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
    'xrv': (TORCHXRAYVISION, '[-1024, 1024]'),
    'imagenet': (imagenet, 'ImageNet mean and std'),
  }
  stated = getattr(config_model, 'init_pixels', '')
  if stated:
    return known[stated]
  if 'input_mean' in metadata and 'input_std' in metadata:
    mean, std = float(metadata['input_mean']), float(metadata['input_std'])
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


def _fold_pixels(kernel, mean, std, config_model):
  """The kernel for one channel (x - input_mean) / input_std, and a constant.

  sum_c k_c (x - mean_c) / std_c
    = (sum_c k_c input_std / std_c) (x - input_mean) / input_std
      + sum_c k_c (input_mean - mean_c) / std_c.
  The constant is left to the normalisation that follows. That is exact where
  input_mean = mean, else everywhere but where the window hangs over the
  border, since zeros are then another gray.
  """
  kernel = np.asarray(kernel, np.float64)
  mean, std = (
    np.broadcast_to(a, kernel.shape[1]).reshape(1, -1, 1, 1)
    for a in (mean, std)
  )
  folded = (kernel * config_model.input_std / std).sum(1, keepdims=True)
  shift = (kernel * (config_model.input_mean - mean) / std).sum((1, 2, 3))
  return folded, shift


def _finding_names(
  source, head: str, metadata, from_xrv: bool
) -> tuple[Sequence[str], str]:
  """What each output of the file means, '' for unknown or untrained; a note."""
  if head not in source:
    return (), ''
  outputs = len(source[head])
  thresholds = _thresholds(source)
  if 'findings' in metadata:
    names = _read_names(metadata['findings'])
  elif from_xrv:
    names = TORCHXRAYVISION_FINDINGS
  else:
    names = ()
  if len(names) != outputs:
    return ('',) * outputs, ''
  if from_xrv and thresholds is None and '' not in names:
    # All 18 names stand in such a file whatever its outputs learned.
    return ('',) * outputs, (
      'the file does not tell which of its outputs were trained, so none is '
      'taken: load the weights by name with torchxrayvision and keep the '
      "loaded model's state_dict(), which holds op_threshs"
    )
  if thresholds is None or len(thresholds) != outputs:
    return names, ''
  return [
    name if np.isfinite(threshold) else ''
    for name, threshold in zip(names, thresholds, strict=True)
  ], ''


def _read_names(text: str) -> list[str]:
  """The names of outputs as `save` writes them."""
  return json.loads(text) if text.startswith('["') else text.split(',')


def _columns(source, target, head, names, findings) -> dict[str, int]:
  """{finding: the file's output}; empty where the head reads other features."""
  weight = f'{head}.weight'
  if not names or source[weight].shape[1] != target[weight].shape[1]:
    return {}
  return {
    finding: row
    for row, name in enumerate(names)
    for finding in findings
    if name and findings_lib.same(name, finding)
  }


def save(
  path: str | os.PathLike,
  variables: Mapping,
  config_model,
  *,
  findings: Sequence[str],
) -> None:
  """Writes safetensors in torchvision's names, with how to feed them.

  The metadata: arch, num_stages, input_mean and input_std (what an image in
  [0, 1] is normalised by) and findings, the order of the outputs.
  """
  fields = ('arch', 'num_stages', 'input_mean', 'input_std')
  metadata = {name: str(getattr(config_model, name)) for name in fields}
  # With commas between them, as other programs expect; JSON where a name has
  # a comma itself.
  names = ','.join(findings)
  if names.count(',') >= len(findings):
    names = json.dumps(findings)
  metadata |= {'format': 'pt', 'findings': names}
  # Not save_file: what it writes none but its owner may read.
  with files.replacing(path) as temporary, open(temporary, 'wb') as f:
    f.write(safetensors.numpy.save(to_torch(variables), metadata))
