"""Hashes by which films are known again, whatever they are called.

Other hospitals' films may have the same names, and the same films may lie in
another folder. So a film is known by its pixels, as they are after preparation:
films of another size are other films here.
"""

import hashlib
import os

import numpy as np
from jaxtyping import UInt64

from cxr import files
from input_pipeline import pipeline

_READ_FILMS = 256  # whose pixels are held at a time


def of_split(split: pipeline.Split) -> UInt64[np.ndarray, ' n']:
  """The hash of each film: the first 8 bytes of its pixels' SHA-256.

  Among 100,000 films and 100,000 others, two that differ share a hash with a
  probability of 5e-10.
  """
  found = []
  for k in range(0, len(split.label), _READ_FILMS):
    for image in np.asarray(split.image[k : k + _READ_FILMS]):
      digest = hashlib.sha256(np.ascontiguousarray(image)).digest()
      found.append(int.from_bytes(digest[:8], 'little'))
  return np.array(found, np.uint64)


def write(path: str, hashes: UInt64[np.ndarray, ' n']) -> None:
  """Writes the hashes in order of their size, which tells nothing of films."""
  with files.replacing(path, '.npy') as temporary:
    np.save(temporary, np.sort(hashes), allow_pickle=False)


def read(path: str | os.PathLike) -> UInt64[np.ndarray, ' n']:
  """What `write` wrote.

  Raises:
    ValueError: it is no such file.
  """
  try:
    hashes = np.load(path, allow_pickle=False)
  except (OSError, EOFError, ValueError) as error:
    raise ValueError(f'{path} is damaged; export the run again.') from error
  if not isinstance(hashes, np.ndarray) or hashes.dtype != np.uint64:
    raise ValueError(f'{path} holds no hashes of films; export the run again.')
  return hashes
