"""The tensors of a weights file, read without running code from it.

A file is safetensors or what `torch.save` wrote, in its zip form or the older
one (torchvision's and TorchXRayVision's published files are of the older one).
A PyTorch file holds a pickle. The unpickler here knows tensors and
dictionaries; it imports nothing and calls nothing that the file names. For any
other name it puts a stand-in, which does nothing but keep the state that it is
given: the layers of a pickled module are read from such stand-ins. A file whose
tensors do not lie in a dictionary or a module, or that holds anything else
beside a dictionary's tensors, is refused.
"""

import collections
import functools
import io
import math
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors

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
  'if you trust it, load the model with the library that wrote it and keep '
  "the loaded model's state_dict() as safetensors."
)
# More names than any network has: a module may contain another many times.
_MOST_TENSORS = 100_000


def read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict]:
  """The named tensors of a weights file, and its metadata.

  The metadata of safetensors is what the file says. That of a pickled module is
  'class', the name of its class, and 'findings', where the module lists the
  names of its outputs (as TorchXRayVision's do), joined by commas and empty
  where an output was not trained. Other files have none.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not a weights file, damaged, or one that holds more than
      tensors.
  """
  if not os.path.isfile(path):
    raise FileNotFoundError(f'No weights file at {path}.')
  try:
    if zipfile.is_zipfile(path):
      return _read_zip(path)
    with open(path, 'rb') as f:
      start = f.read(16)
    if start[8:9] == b'{':  # eight bytes of length, then JSON
      with safetensors.safe_open(path, framework='numpy') as f:
        tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
        return tensors, f.metadata() or {}
    if start[:1] == b'\x80':
      return _read_legacy(path)
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


class _StandIn:
  """Stands for an object of a class that is not imported; keeps its state."""

  origin = ''  # the name of that class

  def __init__(self, *args, **kwargs):
    del args, kwargs

  def __new__(cls, *args, **kwargs):
    del args, kwargs
    return super().__new__(cls)

  def __setstate__(self, state):
    self.state = state


class _TensorUnpickler(pickle.Unpickler):
  """Makes dictionaries and descriptions of tensors; the rest are stand-ins."""

  def __init__(self, file):
    super().__init__(file)
    self.dtypes = {}  # of every storage that was mentioned, by its key
    self.unknown = []  # the names that stand-ins were made for

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
      ('torch._utils', '_rebuild_parameter_with_state'): lambda data, *_: data,
      **{('torch', name): name for name in _DTYPES},
    }
    if (module, name) in admitted:
      return admitted[module, name]
    origin = f'{module}.{name}'
    self.unknown.append(origin)
    return type('StandIn', (_StandIn,), {'origin': origin})

  def persistent_load(self, pid):
    kind, dtype, key, *_ = pid
    if kind == 'module':  # the older form: (class, its file, its source)
      return dtype
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
    unpickler = _TensorUnpickler(io.BytesIO(archive.read(inner[0])))
    tensors, metadata = _named_tensors(unpickler.load(), unpickler.unknown)
    # Storages may be shared: each is read once.
    storage = functools.cache(lambda key: archive.read(f'{folder}data/{key}'))
    return _arrays(tensors, storage), metadata


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
    tensors, metadata = _named_tensors(unpickler.load(), unpickler.unknown)
    storages = {}
    for key in load():
      size = int.from_bytes(f.read(8), 'little')
      storages[key] = f.read(size * unpickler.dtypes[key].itemsize)
    return _arrays(tensors, storages.__getitem__), metadata


def _named_tensors(
  loaded: Any, unknown: list[str]
) -> tuple[dict[str, _Tensor], dict[str, str]]:
  """The tensors of a state_dict, a module, or the one in a checkpoint."""
  for key in ('state_dict', 'model_state_dict', 'model'):
    inner = loaded.get(key) if isinstance(loaded, Mapping) else None
    if isinstance(inner, Mapping) or _is_module(inner):
      loaded = inner
  if _is_module(loaded):
    return dict(_state_dict(loaded)), _module_metadata(loaded)
  if unknown:
    raise _Refused(
      f'holds more than tensors ({unknown[0]}) and is not opened; {_WAY_OUT}'
    )
  if not isinstance(loaded, Mapping):
    raise _Refused(f'holds a {type(loaded).__name__}, not named tensors.')
  return {
    name: value
    for name, value in loaded.items()
    if isinstance(name, str) and isinstance(value, _Tensor)
  }, {}


def _is_module(value: Any) -> bool:
  """Whether it is a stand-in with the state of a torch.nn.Module."""
  state = getattr(value, 'state', None)
  return (
    isinstance(value, _StandIn)
    and isinstance(state, Mapping)
    and all(
      isinstance(state.get(part), Mapping)
      for part in ('_parameters', '_buffers', '_modules')
    )
  )


def _state_dict(module: _StandIn) -> Iterator[tuple[str, _Tensor]]:
  """Parameters and buffers under the names that state_dict() gives them."""
  open_modules, count = [('', module)], 0
  while open_modules:
    prefix, module = open_modules.pop()
    named = module.state['_parameters'] | module.state['_buffers']
    for name, value in named.items():
      if isinstance(value, _Tensor):
        yield f'{prefix}{name}', value
    for name, child in module.state['_modules'].items():
      if _is_module(child):
        open_modules.append((f'{prefix}{name}.', child))
    count += 1 + len(named)
    if count > _MOST_TENSORS:
      raise _Refused(f'holds more than {_MOST_TENSORS} tensors.')


def _module_metadata(module: _StandIn) -> dict[str, str]:
  metadata = {'class': module.origin}
  for attribute in ('targets', 'pathologies'):
    names = module.state.get(attribute)
    if isinstance(names, list) and all(isinstance(n, str) for n in names):
      metadata['findings'] = ','.join(names)
  return metadata


def _arrays(
  tensors: Mapping[str, _Tensor], storage: Callable[[str], bytes]
) -> dict[str, np.ndarray]:
  arrays = {}
  for name, tensor in tensors.items():
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
