"""Lets the network and its training be imported on a bare machine.

  bare.install()  # before anything of cxr is imported

Such a machine has JAX, Flax, Optax and PyTorch, and what these bring. Packages
that read films, write logs and check types are stood in for by empty modules,
but for ConfigDict, which has to hold fields. What is installed is used as it
is, so that elsewhere this module does nothing.
"""

import copy
import importlib.abc
import importlib.machinery
import sys
import types

_ABSENT = (
  'PIL',
  'array_record',
  'jaxtyping',
  'ml_collections',
  'orbax',  # of Flax, but its older versions have no v1
  'safetensors',
  'tensorboardX',
  'tensorflow_datasets',
  'tqdm',
)


class _Kind(type):
  """A class whose every attribute is such a class; X[...] is `object`, so that
  it may stand in an annotation."""

  def __getattr__(cls, name):
    if name.startswith('__'):
      raise AttributeError(name)
    return Anything

  def __getitem__(cls, item):
    return object


class Anything(metaclass=_Kind):
  def __init__(self, *args, **options):
    pass


class ConfigDict(dict):
  """As much of ml_collections' as a training asks for."""

  def __getattr__(self, name):
    try:
      return self[name]
    except KeyError:
      raise AttributeError(name) from None

  def __setattr__(self, name, value):
    self[name] = value

  def to_dict(self):
    return {
      name: value.to_dict() if isinstance(value, ConfigDict) else value
      for name, value in self.items()
    }

  def copy_and_resolve_references(self):
    return copy.deepcopy(self)


class _Module(types.ModuleType):
  __path__ = ()

  def __getattr__(self, name):
    if name.startswith('__'):
      raise AttributeError(name)
    return ConfigDict if name == 'ConfigDict' else Anything


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
  def find_spec(self, name, path=None, target=None):
    if name.partition('.')[0] in _ABSENT:
      return importlib.machinery.ModuleSpec(name, self, is_package=True)

  def create_module(self, spec):
    return _Module(spec.name)

  def exec_module(self, module):
    pass


def install() -> None:
  """Stands in for what is absent from here on."""
  if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
    # Last: what another finder finds is taken.
    sys.meta_path.append(_Finder())
