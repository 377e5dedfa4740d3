"""The rows of boxes.csv of one finding's maps: what worker processes compute.

A spawned worker imports this module before it can work, so that neither JAX nor
TensorFlow is imported here.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cxr import stored_rows
from cxr.localization import scoring


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


def score(
  maps: Float[np.ndarray, 'n h w'],
  films: FindingFilms,
  method: str,
  rules: Sequence[str],
  *,
  draw: int = 0,
) -> stored_rows.Boxes:
  """The rows of one finding's maps under every rule.

  Args:
    maps: of the n films.
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
  maps: Float[np.ndarray, 'm h w'],
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
