"""torchvision and TorchXRayVision weights -> variables, and back.

A weights file is safetensors or what `torch.save` wrote, in its zip form or
the older one (torchvision's published files are of the older one). A PyTorch
file holds a pickle; it is read by an unpickler that knows tensors and
dictionaries, and stops at anything else. No code from the file is ever run.

Names are torchvision's: 'layer1.0.conv1.weight' is
`params['layer1_0']['conv1']['kernel']`. Kernels are transposed, the first
convolution is summed over its input channels, and the pixel range the weights
were trained on is folded into it, so that the model keeps its own `input_mean`
and `input_std`.
"""

import collections
import functools
import io
import math
import os
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from cxr import files
from input_pipeline import findings as findings_lib

# What the weights' pixels were, in units of an image in [0, 1].
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TORCHXRAYVISION = ((0.5,), (1 / 2048,))  # [-1024, 1024]
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

_DTYPES = {
  'FloatStorage': np.dtype('float32'),
  'DoubleStorage': np.dtype('float64'),
  'HalfStorage': np.dtype('float16'),
  'BFloat16Storage': np.dtype(jnp.bfloat16),
  'LongStorage': np.dtype('int64'),
  'IntStorage': np.dtype('int32'),
  'ShortStorage': np.dtype('int16'),
  'CharStorage': np.dtype('int8'),
  'ByteStorage': np.dtype('uint8'),
  'BoolStorage': np.dtype('bool'),
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_WAY_OUT = (
  'if you trust it, open it once with PyTorch and keep its '
  'state_dict() as safetensors.'
)


# ---- reading -------------------------------------------------------------


def read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict]:
  """The named tensors of a weights file, and its metadata (safetensors).

  Raises:
    FileNotFoundError: no such file.
    ValueError: not a weights file, damaged, or one that holds more than
      tensors.
  """
  if not os.path.isfile(path):
    raise FileNotFoundError(f'No weights file at {path}.')
  try:
    if zipfile.is_zipfile(path):
      return _read_zip(path), {}
    with open(path, 'rb') as f:
      start = f.read(16)
    if start[8:9] == b'{':  # eight bytes of length, then JSON
      with safetensors.safe_open(path, framework='numpy') as f:
        tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
        return tensors, f.metadata() or {}
    if start[:1] == b'\x80':
      return _read_legacy(path), {}
  except _Refused as e:
    raise ValueError(f'{path} {e}') from None
  except Exception as e:
    # Whatever a damaged or hostile file provokes on the way.
    raise ValueError(
      f'{path} cannot be read as weights ({type(e).__name__}: {e}).'
    ) from e
  raise ValueError(
    f'{path} is neither safetensors nor a PyTorch file; {_WAY_OUT}'
  )


class _Refused(Exception):
  """What the file asks for is not a tensor."""


class _Storage(NamedTuple):
  dtype: str
  key: str


class _Tensor(NamedTuple):
  storage: _Storage
  offset: int
  size: tuple[int, ...]
  stride: tuple[int, ...]


class _TensorUnpickler(pickle.Unpickler):
  """Admits dictionaries and descriptions of tensors, nothing else."""

  def __init__(self, file):
    super().__init__(file)
    self.dtypes = {}  # of every storage that was mentioned, by its key

  def find_class(self, module, name):
    # Functions are made anew for every load: a pickle may set attributes of
    # what it is given.
    tensor = lambda storage, offset, size, stride, *_: _Tensor(
      storage, int(offset), tuple(map(int, size)), tuple(map(int, stride))
    )
    admitted = {
      ('collections', 'OrderedDict'): collections.OrderedDict,
      ('torch._utils', '_rebuild_tensor'): tensor,
      ('torch._utils', '_rebuild_tensor_v2'): tensor,
      ('torch._utils', '_rebuild_parameter'): lambda data, *_: data,
      **{('torch', name): name for name in _DTYPES},
    }
    if (module, name) not in admitted:
      raise _Refused(
        f'holds more than tensors ({module}.{name}) and is not opened; '
        f'{_WAY_OUT}'
      )
    return admitted[module, name]

  def persistent_load(self, pid):
    kind, dtype, key, *_ = pid
    if kind != 'storage' or dtype not in _DTYPES:
      raise _Refused(f'refers to {kind} {dtype}, which is no plain tensor.')
    self.dtypes[str(key)] = _DTYPES[dtype]
    return _Storage(dtype, str(key))


def _read_zip(path):
  with zipfile.ZipFile(path) as archive:
    names = archive.namelist()
    inner = [name for name in names if name.endswith('/data.pkl')]
    if len(inner) != 1:
      raise _Refused('is a zip file, but not one that torch.save wrote.')
    folder = inner[0].removesuffix('data.pkl')
    order = f'{folder}byteorder'
    if order in names and archive.read(order) != b'little':
      raise _Refused(f'was written on a big-endian machine; {_WAY_OUT}')
    found = _TensorUnpickler(io.BytesIO(archive.read(inner[0]))).load()
    # Storages may be shared: each is read once.
    storage = functools.cache(lambda key: archive.read(f'{folder}data/{key}'))
    return _arrays(found, storage)


def _read_legacy(path):
  """Pickles one after the other, then each storage: a count and raw bytes."""
  with open(path, 'rb') as f:
    load = lambda: _TensorUnpickler(f).load()
    if load() != _LEGACY_MAGIC:
      raise _Refused(f'is a pickle, but not one of tensors; {_WAY_OUT}')
    load()  # protocol
    if not load().get('little_endian', True):
      raise _Refused(f'was written on a big-endian machine; {_WAY_OUT}')
    unpickler = _TensorUnpickler(f)
    found = unpickler.load()
    storages = {}
    for key in load():
      size = int.from_bytes(f.read(8), 'little')
      storages[key] = f.read(size * unpickler.dtypes[key].itemsize)
    return _arrays(found, storages.__getitem__)


def _named_tensors(found: Any) -> dict[str, _Tensor]:
  """The tensors of a state_dict, or of the one in a training checkpoint."""
  for key in ('state_dict', 'model_state_dict', 'model'):
    if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
      found = found[key]
  if not isinstance(found, Mapping):
    raise _Refused(f'holds a {type(found).__name__}, not named tensors.')
  return {
    name: value
    for name, value in found.items()
    if isinstance(name, str) and isinstance(value, _Tensor)
  }


def _arrays(found, storage) -> dict[str, np.ndarray]:
  arrays = {}
  for name, tensor in _named_tensors(found).items():
    flat = np.frombuffer(
      storage(tensor.storage.key), _DTYPES[tensor.storage.dtype]
    )
    size, stride = tensor.size, tensor.stride
    last = tensor.offset + sum(
      (n - 1) * step for n, step in zip(size, stride, strict=True)
    )
    # as_strided checks nothing: a false stride would read foreign memory, and
    # a stride of 0 could ask for any amount of it.
    if (
      min((tensor.offset, *size, *stride)) < 0
      or math.prod(size) > flat.size
      or (math.prod(size) and last >= flat.size)
    ):
      raise _Refused(f'is damaged: {name} reaches beyond its data.')
    arrays[name] = np.lib.stride_tricks.as_strided(
      flat[tensor.offset :], size, [step * flat.itemsize for step in stride]
    ).copy()
  return arrays


# ---- names and shapes ----------------------------------------------------


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
  """Without a wrapper's prefix ('module.', 'model.') and old spellings."""
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


# ---- into a model --------------------------------------------------------


def init_from(
  path: str | os.PathLike,
  variables: Mapping,
  config_model,
  *,
  findings: Sequence[str] = findings_lib.FINDINGS,
) -> tuple[dict, dict]:
  """Variables with a file's weights in place of the random ones.

  The pixel range that the weights were trained on is taken from the file's own
  metadata, else it is ImageNet's for three input channels and
  TorchXRayVision's for one. Outputs are matched by their findings' names;
  those of another meaning, or marked as untrained, are left out and the head's
  random columns stay.

  Args:
    path: a safetensors or PyTorch file.
    variables: of the model to fill, as `model.init` gives them.
    config_model: its configuration; arch, input_mean, input_std are read.
    findings: the names of the model's outputs.

  Returns:
    (variables, report). The report has 'loaded' and 'left_out' (numbers of
    tensors), 'left_out_names', 'head' (the findings whose output was taken),
    'random_head' (the others) and 'pixels' (the range, in words).

  Raises:
    FileNotFoundError, ValueError: see `read`; or the architectures differ.
  """
  target = to_torch(variables)
  densenet = 'features.conv0.weight' in target
  first = 'features.conv0.weight' if densenet else 'conv1.weight'
  first_norm = 'features.norm0' if densenet else 'bn1'
  head = 'classifier' if densenet else 'fc'
  tensors, metadata = read(path)
  source = _plain_names(path, tensors, first)

  (mean, std), pixels = _pixels(path, source[first].shape[1], metadata)
  names = _finding_names(source, f'{head}.weight', metadata, pixels)
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
  }
  put = lambda path, old: jax.device_put(
    _from_torch_layout(new[_torch_name(path)]).astype(old.dtype), old.sharding
  )
  return jax.tree.map_with_path(put, dict(variables)), report


def _pixels(path, channels: int, metadata):
  """((mean, std) of every input channel in an image in [0, 1], in words)."""
  if 'input_mean' in metadata and 'input_std' in metadata:
    mean, std = float(metadata['input_mean']), float(metadata['input_std'])
    return ((mean,) * channels, (std,) * channels), 'as the file states'
  if channels == 3:
    return IMAGENET, 'ImageNet mean and std'
  if channels == 1:
    return TORCHXRAYVISION, '[-1024, 1024]'
  raise ValueError(
    f'{path} expects {channels} input channels; only 1 and 3 can be taken.'
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
  mean, std = (np.reshape(a, (1, -1, 1, 1)) for a in (mean, std))
  folded = (kernel * config_model.input_std / std).sum(1, keepdims=True)
  shift = (kernel * (config_model.input_mean - mean) / std).sum((1, 2, 3))
  return folded, shift


def _finding_names(source, head, metadata, pixels) -> Sequence[str]:
  """What each output of the file means; '' for unknown or untrained."""
  if head not in source:
    return ()
  outputs = len(source[head])
  if 'findings' in metadata:
    names = metadata['findings'].split(',')
  elif pixels == '[-1024, 1024]':
    names = TORCHXRAYVISION_FINDINGS
  else:
    return ('',) * outputs
  thresholds = next(
    (v for k, v in source.items() if k.endswith('op_threshs')),
    np.zeros(len(names)),
  )
  if len(names) != outputs or len(thresholds) != outputs:
    return ('',) * outputs
  return [
    name if np.isfinite(threshold) else ''
    for name, threshold in zip(names, thresholds, strict=True)
  ]


def _columns(source, target, head, names, findings) -> dict[str, int]:
  """finding -> the file's output, where the head reads the same features."""
  weight = f'{head}.weight'
  if not names or source[weight].shape[1] != target[weight].shape[1]:
    return {}
  return {name: row for row, name in enumerate(names) if name in findings}


# ---- out of it -----------------------------------------------------------


def save(
  path: str | os.PathLike,
  variables: Mapping,
  config_model,
  *,
  findings: Sequence[str] = findings_lib.FINDINGS,
) -> None:
  """Writes safetensors in torchvision's names, with how to feed them.

  The metadata: arch, num_stages, input_mean and input_std (what an image in
  [0, 1] is normalised by) and findings, the order of the outputs.
  """
  fields = ('arch', 'num_stages', 'input_mean', 'input_std')
  metadata = {name: str(getattr(config_model, name)) for name in fields}
  metadata |= {'format': 'pt', 'findings': ','.join(findings)}
  # Not save_file: what it writes none but its owner may read.
  with files.replacing(path) as temporary, open(temporary, 'wb') as f:
    f.write(safetensors.numpy.save(to_torch(variables), metadata))
