"""The rows of boxes.csv of one finding's maps: what worker processes compute.

A spawned worker imports this module before it can work, so that neither JAX nor
TensorFlow is imported here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cxr import stored_rows
from cxr.localization import regions, scoring
from input_pipeline import workers

# A method has as many tasks as findings with boxes.
MOST_WORKERS = 8
# A process takes as long to start as to score so many maps.
MAPS_A_START = 2000


def num_workers(num_maps: int) -> int:
  """How many processes score so many maps; 1 is the calling process itself."""
  worth = max(num_maps // MAPS_A_START, 1)
  return min(workers.cores(), MOST_WORKERS, worth)


class FindingFilms(NamedTuple):
  """The boxed films of a split, as one finding sees them."""

  finding: str
  name: np.ndarray  # 'n' str
  patient: Int[np.ndarray, ' n']
  truth: Float[np.ndarray, 'n t 4']  # the finding's true boxes; NaN: none
  masks: Mapping[int, scoring.Mask]  # its masks, by the film's index

  def take(self, index: Int[np.ndarray, ' m']) -> 'FindingFilms':
    """The films at these indices, in this order."""
    finding, *columns, masks = self
    return FindingFilms(
      finding,
      *(column[index] for column in columns),
      {
        new: masks[old]
        for new, old in enumerate(index.tolist())
        if old in masks
      },
    )


class Maps(Sequence):
  """Maps 'h w' that are made when they are asked for.

  None of them waits in memory, and a worker is sent what they are made from.

  Examples:
    >>> maps = Maps(np.full, [((1, 2), 5.0), ((1, 2), 7.0)])
    >>> len(maps), maps[1].tolist(), maps[np.array([1, 0])][1].tolist()
    (2, [[7.0, 7.0]], [[5.0, 5.0]])
  """

  def __init__(self, make: Callable, arguments: Sequence[tuple]):
    """Args: make, of a map, and what it takes for each of them."""
    self._make, self._arguments = make, arguments

  def __len__(self) -> int:
    return len(self._arguments)

  def __getitem__(self, index):
    """A map; of several indices the Maps of these, in their order."""
    if isinstance(index, np.ndarray):
      chosen = [self._arguments[i] for i in index.tolist()]
      return Maps(self._make, chosen)
    return self._make(*self._arguments[index])


class Stored(NamedTuple):
  """Placed maps in one file, of which each is read as it is asked for."""

  path: str
  size: int

  def read(self, index: int) -> Float[np.ndarray, 's s']:
    """The map at an index.

    Not by np.memmap: what was read of it would count as this process's memory.
    """
    count = self.size**2
    start = index * count * np.float32().itemsize
    pixels = np.fromfile(self.path, np.float32, count, offset=start)
    return pixels.reshape(self.size, self.size)


def score(
  maps: regions.Heatmaps,
  films: FindingFilms,
  method: str,
  rules: Sequence[str],
  *,
  draw: int = 0,
) -> stored_rows.Boxes:
  """The rows of one finding's maps under every rule.

  Args:
    maps: one of each of the films.
    films: the boxed films and the finding.
    method: what the rows are called.
    rules: that make boxes of the maps.
    draw: which draw of another patient's map these are.
  """
  by_rule = scoring.score_finding(
    maps, films.truth, films.patient, masks=films.masks, rules=tuple(rules)
  )
  return stored_rows.concatenate_boxes(
    [
      stored_rows.from_scored(
        scored,
        films.name,
        films.patient,
        finding=films.finding,
        method=method,
        rule=rule,
        draw=draw,
      )
      for rule, scored in by_rule.items()
    ]
  )


def score_donors(
  maps: Float[np.ndarray, 'm h w'] | Maps,
  films: FindingFilms,
  method: str,
  rules: Sequence[str],
  donors: Int[np.ndarray, 'n d'],
) -> stored_rows.Boxes:
  """The rows of other patients' maps, held against each film's true boxes.

  Args:
    maps: the finding's map of each film that may be a donor.
    films: the boxed films and the finding.
    method: what the rows are called.
    rules: that make boxes of the maps.
    donors: by draw the index of the film whose map is taken; -1: none.
  """
  tables = []
  for draw, of_draw in enumerate(donors.T):
    film = np.flatnonzero(of_draw >= 0)
    if len(film):
      donated = maps[of_draw[film]]
      tables.append(score(donated, films.take(film), method, rules, draw=draw))
  return stored_rows.concatenate_boxes(tables)
