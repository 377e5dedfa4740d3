"""Parts of an evaluation that are kept, each under what it was made from.

An evaluation is many parts: the logits of a split, the logits under one attack,
the boxes of one method, a measure. Each is stored as soon as it is computed, so
that an interrupted evaluation goes on, and one that asks for one attack or
method more computes that alone. The name of a part's file holds a hash of
everything that moves its values: the weights, the films, the settings.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
from absl import logging

from cxr import files, usage
from cxr.inference import Subject

# Of what a part's values mean; parts that an older one made are made anew.
# 2: class activation maps are drawn where their cells look; boxes have draws,
# and a row for each true box of a film.
VERSION = 2
# Fields of config.model that change no output of given weights.
_FREE_MODEL_FIELDS = ('init_findings', 'init_from', 'init_pixels', 'remat')


class Parts:
  """The stored parts of one run: <workdir>/evaluation/parts.

  `step` is that of the checkpoint whose weights they are of.
  """

  def __init__(self, workdir: str, subject: Subject, *, step: int = 0):
    self._log, self._step = os.path.join(workdir, 'train.jsonl'), step
    self._folder = os.path.join(workdir, 'evaluation')
    self._model = {
      name: value
      for name, value in subject.config.model.to_dict().items()
      if name not in _FREE_MODEL_FIELDS
    }
    self.weights = hash_weights(subject.variables)
    self._films = {name: s.content for name, s in subject.splits.items()}
    os.makedirs(os.path.join(self._folder, 'parts'), exist_ok=True)

  def path(
    self,
    name: str,
    settings: Mapping,
    *,
    splits: Sequence[str] = ('test',),
    trained: bool = True,
  ) -> str:
    """The file of a part.

    Args:
      name: of the part, with the file's ending.
      settings: whatever moves its values, but for the model and the films.
      splits: whose films it is made from.
      trained: whether it is made from the trained weights.
    """
    stem, ending = os.path.splitext(name)
    key = self._key(settings, splits, trained)
    return os.path.join(self._folder, 'parts', f'{stem}-{key}{ending}')

  @contextlib.contextmanager
  def timed(self, name: str) -> Iterator[None]:
    """Takes the time of a part that is computed, and names it in a trace.

    Seconds and memory are a line of train.jsonl, at the step of the weights.
    """
    since = time.monotonic()
    with jax.profiler.TraceAnnotation(name):
      yield
    if jax.process_index() == 0:
      cost = {'seconds': time.monotonic() - since, **usage.gibibytes()}
      record = {f'evaluate/{name}/{k}': round(v, 3) for k, v in cost.items()}
      with open(self._log, 'a') as f:
        f.write(json.dumps({'step': self._step, **record}) + '\n')

  def export_folder(self, settings: Mapping) -> str:
    """The folder for files of other tools, made from the test films' maps."""
    key = self._key(settings, ('test',), True)
    folder = os.path.join(self._folder, key)
    os.makedirs(folder, exist_ok=True)
    return folder

  def _key(self, settings, splits, trained) -> str:
    made_from = {
      'version': VERSION,
      'settings': settings,
      'films': {name: self._films.get(name) for name in splits},
      'model': self._model,
    }
    if trained:
      made_from['weights'] = self.weights
    text = json.dumps(made_from, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def stored(path: str, compute: Callable, write: Callable, read: Callable):
  """read(path), after write(path, compute()) where there is no such file.

  A damaged file, which `read` refuses with a ValueError, is made anew. All
  processes compute, the first alone writes; where the others would read a file
  that may not be whole yet, they take what they computed.
  """
  if is_whole(path, read):
    return read(path)
  value = compute()
  if jax.process_index():
    return value
  write(path, value)
  return read(path)


def is_whole(path: str, read: Callable = files.read_arrays) -> bool:
  """Whether there is such a file and `read` reads it."""
  if not os.path.exists(path):
    return False
  try:
    read(path)
  except ValueError as error:
    logging.warning('%s It is made anew.', error)
    return False
  return True


def hash_weights(variables) -> str:
  """SHA-256 of all arrays of a model and their names."""
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    array = np.asarray(leaf)
    digest.update(
      f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}'.encode()
    )
    digest.update(array.tobytes())
  return digest.hexdigest()
