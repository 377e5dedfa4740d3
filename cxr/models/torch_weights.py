"""torchvision and TorchXRayVision weights -> variables, and back.

Names are torchvision's: 'layer1.0.conv1.weight' is
`params['layer1_0']['conv1']['kernel']`. Kernels are transposed, the first
convolution is summed over its input channels, and the pixel range the weights
were trained on is folded into it, so that the model keeps its own `input_mean`
and `input_std`. A model that has the file's own takes the kernel as it is.
`foreign_weights` reads the files.
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
from cxr.models import foreign_weights, head
from cxr.models.foreign_weights import Weights
from input_pipeline import findings as findings_lib


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


def init_from(
  path: str | os.PathLike,
  variables: Mapping,
  config_model: Any,
  *,
  findings: Sequence[str],
  synonyms: Mapping[str, str] = findings_lib.SYNONYMS,
) -> tuple[dict, dict]:
  """Variables with a file's weights in place of the random ones.

  What the file's pixels and outputs are is found out by `foreign_weights.read`.
  Outputs are matched by their findings' names. Those of another meaning, and
  those that are or may be untrained, are left out, and the head's random
  columns stay.

  Args:
    path: a safetensors or PyTorch file.
    variables: of the model to fill, as `model.init` gives them.
    config_model: its configuration; arch, input_mean, input_std, init_pixels
      and init_findings are read.
    findings: the names of the model's outputs.
    synonyms: of the names of findings.

  Returns:
    (variables, report). The report has 'loaded' and 'left_out' (numbers of
    tensors), 'left_out_names', 'head' (the findings whose output was taken),
    'random_head' (the others), 'pixels' (the range, in words) and, where the
    file does not tell which of its outputs were trained, 'head_note'.

  Raises:
    FileNotFoundError, ValueError: see `foreign_weights.read`; or the
      architectures differ.
  """
  target = to_torch(variables)
  densenet = 'features.conv0.weight' in target
  weights = foreign_weights.read(
    path, config_model, 'densenet' if densenet else 'resnet'
  )
  note = {}
  if weights.doubt:
    note['head_note'] = f'{weights.doubt}, so none is taken'
    weights = weights._replace(outputs=('',) * len(weights.outputs))
  taken = {}
  if weights.outputs and _reads_same_features(weights, target):
    taken = columns(weights.outputs, findings, synonyms)
  new, used = fill(weights, variables, config_model, findings, taken)
  left_out = left_out_of_file(weights, used)
  return new, {
    'loaded': len(used),
    'left_out': len(left_out),
    'left_out_names': left_out,
    'head': sorted(taken, key=taken.get),
    'random_head': [name for name in findings if name not in taken],
    'pixels': weights.pixels,
  } | note


def fill(
  weights: Weights,
  variables: Mapping,
  config_model: Any,
  findings: Sequence[str],
  taken: Mapping[str, int],
) -> tuple[dict, set[str]]:
  """Variables with the tensors of a file.

  Args:
    weights: of the file.
    variables: of the model to fill, as `model.init` gives them.
    config_model: its configuration; arch, input_mean and input_std are read.
    findings: the names of the model's outputs.
    taken: {finding: the file's output}; the others keep the model's own.

  Returns:
    (variables, the names of the tensors that went into them).

  Raises:
    ValueError: the file holds another architecture.
  """
  target, source, path = to_torch(variables), weights.tensors, weights.path
  head = _head(weights)
  body = {k: v.shape for k, v in target.items() if k not in head}
  missing = [name for name in body if name not in source]
  if missing:
    raise ValueError(
      f'{path} lacks {missing[0]} ({len(missing)} of {len(body)} tensors are '
      f'absent): it holds another architecture than {config_model.arch}.'
    )
  for name, wanted in body.items():
    found = source[name].shape
    if name == weights.first and wanted[1] == 1:
      found = (found[0], 1, *found[2:])
    if found != wanted:
      raise ValueError(
        f'{name} is {found} in {path} and {wanted} in the model: set '
        'model.arch and model.num_filters to what the file holds (64 filters '
        'in published weights).'
      )
  new = {name: source[name] for name in body}
  if target[weights.first].shape[1] == 1:
    new[weights.first], shift = _fold_pixels(
      source[weights.first], weights.mean, weights.std, config_model
    )
    mean = f'{_first_norm(weights)}.running_mean'
    new[mean] = new[mean] - shift
  used = set(body)
  for name in head:
    new[name] = target[name].copy()
  if taken:
    used |= head
    for name in head:
      for finding, row in taken.items():
        new[name][findings.index(finding)] = source[name][row]
  put = lambda path, old: jax.device_put(
    _from_torch_layout(new[_torch_name(path)]).astype(old.dtype), old.sharding
  )
  return jax.tree.map_with_path(put, dict(variables)), used


def _head(weights: Weights) -> set[str]:
  return {f'{weights.head}.weight', f'{weights.head}.bias'}


def _first_norm(weights: Weights) -> str:
  return {'densenet': 'features.norm0', 'resnet': 'bn1'}[weights.family]


def _reads_same_features(weights: Weights, target) -> bool:
  name = f'{weights.head}.weight'
  return weights.tensors[name].shape[1] == target[name].shape[1]


def left_out_of_file(weights: Weights, used: set[str]) -> list[str]:
  """The tensors that went nowhere, but for those that no network computes
  with: BatchNorm's counters and TorchXRayVision's operating points."""
  return sorted(
    name
    for name in weights.tensors.keys() - used
    if not name.endswith(('num_batches_tracked', 'op_threshs'))
  )


def columns(
  outputs: Sequence[str],
  findings: Sequence[str],
  synonyms: Mapping[str, str] = findings_lib.SYNONYMS,
) -> dict[str, int]:
  """{finding: the file's output of the same meaning}.

  Of several such outputs it is the one that has the finding's own name, else
  the last.

  Examples:
    >>> columns(['Pleural Effusion', '', 'Mass'], ['Mass', 'Effusion', 'Edema'])
    {'Mass': 2, 'Effusion': 0}
  """
  found = {}
  for finding in findings:
    fits = [
      row
      for row, name in enumerate(outputs)
      if name and findings_lib.same(name, finding, synonyms)
    ]
    own = findings_lib.plain(finding)
    named = [row for row in fits if findings_lib.plain(outputs[row]) == own]
    if fits:
      found[finding] = (named or fits)[-1]
  return found


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


def save(
  path: str | os.PathLike,
  variables: Mapping,
  config_model,
  *,
  findings: Sequence[str],
) -> None:
  """Writes safetensors in torchvision's names, with how to feed them.

  The metadata: arch, num_stages, input_mean and input_std (what an image in
  [0, 1] is normalised by), pooling where it is not the mean, and findings, the
  order of the outputs.
  """
  fields = ('arch', 'num_stages', 'input_mean', 'input_std')
  if config_model.pooling != 'mean':
    fields += head.FIELDS
  text = lambda x: x if isinstance(x, str) else json.dumps(x)
  metadata = {name: text(getattr(config_model, name)) for name in fields}
  # With commas between them, as other programs expect; JSON where a name has
  # a comma itself.
  names = ','.join(findings)
  if names.count(',') >= len(findings):
    names = json.dumps(findings)
  metadata |= {'format': 'pt', 'findings': names}
  # Not save_file: what it writes none but its owner may read.
  with files.replacing(path) as temporary, open(temporary, 'wb') as f:
    f.write(safetensors.numpy.save(to_torch(variables), metadata))
