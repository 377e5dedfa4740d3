"""Masks as run lengths: the compressed counts of COCO and of CheXlocalize.

Runs of 0 and of 1 take turns, column by column, and the first is of 0. From the
fourth on a run is written as its difference to the one two before it, in digits
of 5 bits with a sign and a bit for 'more follows', from '0' on (pycocotools,
maskApi.c, rleFrString).
"""

import numpy as np
from jaxtyping import Bool


def runs(counts: str, size: tuple[int, int]) -> list[int]:
  """The lengths of the runs, in pixels.

  Examples:
    >>> runs('132', (2, 3))
    [1, 3, 2]

  Raises:
    ValueError: the text is no run lengths, or not of `size`.
  """
  lengths, number, shift = [], 0, 0
  for letter in counts:
    digit = ord(letter) - 48
    if not 0 <= digit < 64 or shift > 60:
      raise ValueError(f'{counts[:40]!r} are no run lengths.')
    number |= (digit & 31) << shift
    shift += 5
    if digit & 32:
      continue
    if digit & 16:
      number -= 1 << shift
    if len(lengths) > 2:
      number += lengths[-2]
    lengths.append(number)
    number, shift = 0, 0
  height, width = size
  if shift or min(lengths, default=-1) < 0 or sum(lengths) != height * width:
    raise ValueError(
      f'the run lengths {counts[:40]!r} are not of {height} x {width} pixels.'
    )
  return lengths


def decode(counts: str, size: tuple[int, int]) -> Bool[np.ndarray, 'h w']:
  """The mask of height and width `size`.

  Examples:
    >>> decode('132', (2, 3)).astype(int).tolist()
    [[0, 1, 0], [1, 1, 0]]

  Raises:
    ValueError: as `runs`.
  """
  lengths = runs(counts, size)
  values = np.arange(len(lengths)) % 2 == 1
  return np.repeat(values, lengths).reshape(size, order='F')
