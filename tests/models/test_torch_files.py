"""Weights files: what is read, what is refused, and that no code is run."""

import io
import os
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from cxr.models import torch_files


def torch_or_skip():
  return pytest.importorskip('torch', reason='the oracle of these tests')


def tensors():
  return {
    'a': np.arange(6, dtype=np.float32).reshape(2, 3),
    'b': np.array(7, np.int64),
    'c': np.array([True, False]),
    'd': np.zeros((0, 3), np.float64),
  }


@pytest.mark.parametrize('wrapped', [False, True])
@pytest.mark.parametrize('zipped', [False, True])
def test_pytorch_files(tmp_path, zipped, wrapped):
  torch = torch_or_skip()
  state = {name: torch.tensor(value) for name, value in tensors().items()}
  state['parameter'] = torch.nn.Parameter(torch.ones(2))
  state['half'] = torch.tensor([1.5, 2.5], dtype=torch.bfloat16)
  # Views with an offset and strides of their own, sharing one storage.
  whole = torch.arange(24.0).reshape(2, 3, 4)
  state['whole'], state['view'] = whole, whole[1].T
  found = {'state_dict': state, 'epoch': 3} if wrapped else state
  torch.save(found, tmp_path / 'f.pt', _use_new_zipfile_serialization=zipped)
  read, metadata = torch_files.read(tmp_path / 'f.pt')
  assert metadata == {}
  assert set(read) == set(state)
  for name, value in state.items():
    if name == 'half':
      value = value.float()
      read[name] = read[name].astype(np.float32)
    np.testing.assert_array_equal(read[name], value.detach().numpy())
    assert read[name].dtype == value.detach().numpy().dtype


def test_safetensors_file(tmp_path):
  path = tmp_path / 'f.safetensors'
  safetensors.numpy.save_file(tensors(), path, {'note': 'x'})
  read, metadata = torch_files.read(path)
  assert metadata == {'note': 'x'}
  for name, value in tensors().items():
    np.testing.assert_array_equal(read[name], value)


class Marker:
  """Unpickling an instance creates a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return (os.mkdir, (self.path,))


def zip_of(path, data, **others):
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', data)
    for name, value in others.items():
      archive.writestr(f'archive/{name}', value)


def legacy(path, data):
  """The older form: a magic number, a protocol, a system; no storages after."""
  header = torch_files._LEGACY_MAGIC, 1001, {'little_endian': True}
  path.write_bytes(
    b''.join(map(pickle.dumps, header)) + data + pickle.dumps([])
  )


@pytest.mark.parametrize('zipped', [False, True])
def test_code_is_never_run(tmp_path, zipped):
  ran = str(tmp_path / 'ran')
  path = tmp_path / 'f.pt'
  data = pickle.dumps({'a': Marker(ran)})
  if zipped:
    zip_of(path, data)
  else:
    legacy(path, data)
  with pytest.raises(ValueError, match=r'holds more than tensors \(posix.mkd'):
    torch_files.read(path)
  assert not os.path.exists(ran)


@pytest.mark.parametrize('zipped', [False, True])
def test_code_in_a_module_is_never_run(tmp_path, zipped):
  """A module is read by stand-ins, whatever its attributes ask for."""
  ran = str(tmp_path / 'ran')
  module = Module()
  module.extra = Marker(ran)
  data = pickle.dumps(module, protocol=2)
  if zipped:
    zip_of(tmp_path / 'f.pt', data)
  else:
    legacy(tmp_path / 'f.pt', data)
  tensors, metadata = torch_files.read(tmp_path / 'f.pt')
  assert tensors == {} and metadata['class'].endswith('test_torch_files.Module')
  assert not os.path.exists(ran)


class Module:
  """With the attributes by which a torch.nn.Module is known."""

  def __init__(self):
    self._parameters, self._buffers, self._modules = {}, {}, {}


def test_a_module_that_holds_itself_is_refused(tmp_path):
  module = Module()
  module._modules['a'] = module
  zip_of(tmp_path / 'f.pt', pickle.dumps(module))
  with pytest.raises(ValueError, match='more than 100000 tensors'):
    torch_files.read(tmp_path / 'f.pt')


class TorchPickler(pickle.Pickler):
  """Writes arrays as torch.save writes tensors, their storages apart."""

  def __init__(self, file, modules):
    super().__init__(file, protocol=2)
    self.torch, self.storages = modules, []

  def persistent_id(self, value):
    if not isinstance(value, Storage):
      return None
    self.storages.append(value.array.tobytes())
    key = str(len(self.storages) - 1)
    kind = self.torch['torch'].FloatStorage
    return 'storage', kind, key, 'cpu', value.array.size

  def reducer_override(self, value):
    if not isinstance(value, np.ndarray):
      return NotImplemented
    strides = tuple(s // value.itemsize for s in value.strides)
    arguments = Storage(value), 0, value.shape, strides, False, None
    return self.torch['torch._utils']._rebuild_tensor_v2, arguments


class Storage:
  def __init__(self, array):
    self.array = np.ascontiguousarray(array)


def save_module(monkeypatch, path, tensors, **attributes):
  """A pickled module in the zip form, without PyTorch; names make it nested."""
  modules = {
    name: types.ModuleType(name)
    for name in (
      'torch',
      'torch._utils',
      'torchxrayvision',
      'torchxrayvision.models',
    )
  }
  for name, owner in (
    ('FloatStorage', 'torch'),
    ('_rebuild_tensor_v2', 'torch._utils'),
    ('DenseNet', 'torchxrayvision.models'),
  ):
    setattr(modules[owner], name, type(name, (Module,), {'__module__': owner}))
  layer = modules['torchxrayvision.models'].DenseNet
  root = layer()
  for name, value in tensors.items():
    *parents, leaf = name.split('.')
    module = root
    for parent in parents:
      module = module._modules.setdefault(parent, layer())
    module._parameters[leaf] = value
  root.__dict__.update(attributes)
  data = io.BytesIO()
  with monkeypatch.context() as patch:
    for name, module in modules.items():
      patch.setitem(sys.modules, name, module)
    pickler = TorchPickler(data, modules)
    pickler.dump(root)
  storages = {f'data/{i}': s for i, s in enumerate(pickler.storages)}
  zip_of(path, data.getvalue(), **storages)


def test_a_module_written_without_pytorch(tmp_path, monkeypatch):
  tensors = {
    'a.b.weight': np.arange(6, dtype=np.float32).reshape(2, 3),
    'bias': np.ones(2, np.float32),
  }
  path = tmp_path / 'f.pt'
  save_module(monkeypatch, path, tensors, pathologies=['Mass', ''])
  read, metadata = torch_files.read(path)
  assert metadata == {
    'class': 'torchxrayvision.models.DenseNet', 'findings': 'Mass,'
  }  # fmt: skip
  assert set(read) == set(tensors)
  for name, value in tensors.items():
    np.testing.assert_array_equal(read[name], value)


@pytest.mark.parametrize('nested', [False, True])
@pytest.mark.parametrize('zipped', [False, True])
def test_a_pickled_module_is_its_state_dict(tmp_path, zipped, nested):
  torch = torch_or_skip()
  torch.manual_seed(0)
  module = torch.nn.Sequential(
    torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.ReLU()
  )
  module.register_buffer('op_threshs', torch.tensor([0.5, float('nan')]))
  module.register_buffer('absent', None)
  module.pathologies = ['Mass', '']
  saved = {'model': module, 'epoch': 3} if nested else module
  path = tmp_path / 'f.pt'
  torch.save(saved, path, _use_new_zipfile_serialization=zipped)
  tensors, metadata = torch_files.read(path)
  assert metadata['findings'] == 'Mass,'
  assert metadata['class'].startswith('torch.nn.modules.')
  expected = module.state_dict()
  assert set(tensors) == set(expected)
  for name, value in expected.items():
    np.testing.assert_array_equal(tensors[name], value.numpy())


@pytest.mark.parametrize(
  'offset, size, stride',
  [
    (0, (5,), (1,)),
    (1, (4,), (1,)),
    (0, (2, 2), (3, 1)),
    (0, (4,), (-1,)),
    (-1, (2,), (1,)),
    (0, (10**9,), (0,)),
  ],
)
def test_a_tensor_stays_within_its_data(offset, size, stride):
  """Strides come from the file, and must not reach foreign memory."""
  storage = torch_files._Storage('FloatStorage', '0')
  tensor = torch_files._Tensor(storage, offset, size, stride)
  with pytest.raises(torch_files._Refused, match='a reaches beyond its data'):
    torch_files._arrays({'a': tensor}, lambda _: bytes(16))


@pytest.mark.parametrize(
  'content, message',
  [
    (b'', 'is neither safetensors nor a PyTorch file'),
    (b'\x89PNG\r\n', 'is neither safetensors nor a PyTorch file'),
    (b'\x80\x02', 'cannot be read as weights'),
    (b'\xff' * 8 + b'{', 'cannot be read as weights'),
    (pickle.dumps({'a': 1}), 'is a pickle, but not one of tensors'),
  ],
)
def test_other_files(tmp_path, content, message):
  (tmp_path / 'f').write_bytes(content)
  with pytest.raises(ValueError, match=message):
    torch_files.read(tmp_path / 'f')


def test_other_zips(tmp_path):
  path = tmp_path / 'f.zip'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('readme', 'x')
  with pytest.raises(ValueError, match='not one that torch.save wrote'):
    torch_files.read(path)
  zip_of(path, pickle.dumps([1, 2]))
  with pytest.raises(ValueError, match='holds a list, not named tensors'):
    torch_files.read(path)
  zip_of(path, pickle.dumps({}), byteorder='big')
  with pytest.raises(ValueError, match='big-endian'):
    torch_files.read(path)


def test_no_file(tmp_path):
  with pytest.raises(FileNotFoundError, match='No weights file at'):
    torch_files.read(tmp_path / 'absent.pt')
