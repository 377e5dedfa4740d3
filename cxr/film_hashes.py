"""Hashes by which films are known again, whatever they are called.

Other hospitals' films may have the same names, and the same films may lie in
another folder. So a film is known by its pixels, as they are after preparation:
films of another size are other films here.
"""

import hashlib
from typing import NamedTuple

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


class Seen(NamedTuple):
  """The films that weights have seen."""

  train: UInt64[np.ndarray, ' n']  # they learned from these
  validation: UInt64[np.ndarray, ' m']  # the checkpoint was chosen on these


def write(path: str, seen: Seen) -> None:
  """Writes the hashes, sorted: their order would tell that of the films."""
  files.write_arrays(path, {k: np.sort(v) for k, v in seen._asdict().items()})


def read(path: str) -> Seen:
  """What `write` wrote.

  Raises:
    ValueError: it is no such file.
  """
  way_out = 'Export the run again.'
  try:
    stored = files.read_arrays(path)
  except ValueError as error:
    raise ValueError(f'{error} {way_out}') from error
  kinds = {name: value.dtype for name, value in stored.items()}
  if kinds != dict.fromkeys(Seen._fields, np.dtype(np.uint64)):
    raise ValueError(f'{path} holds no hashes of films. {way_out}')
  return Seen(**stored)
