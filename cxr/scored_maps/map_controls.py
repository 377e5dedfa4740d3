"""The controls of maps: what scores are worth to whoever knows less.

A random map, a blob at the film's centre and the mean box of other patients see
no film. A map of another patient, and the map's own boxes set down in random
places, know how the maps of one origin look.
"""

import functools
from collections.abc import Sequence

import numpy as np
from absl import logging
from jaxtyping import Bool, Int

from cxr import data, stored_rows
from cxr.localization import controls, overlap, scoring
from cxr.reporting import wording
from cxr.scored_maps import map_rows
from input_pipeline import pipeline

CONTROLS = ('random', 'centre', 'mean_box')
# Maps of other patients that a true box is held against.
NUM_DRAWS = 3
_NAMED_FILMS = 5  # in a line of the log
# Films without any box that are mapped, where boxed films cannot be donors.
MOST_UNBOXED_DONORS = 64


def of_finding(films: data.BoxedFilms, k: int) -> map_rows.FindingFilms:
  """The films as the boxed finding k sees them: all that a worker is sent."""
  return map_rows.FindingFilms(
    films.findings[k],
    films.name,
    films.patient,
    films.truth[:, k],
    {film: mask for (film, of), mask in films.masks.items() if of == k},
  )


def unboxed_donors(
  split: pipeline.Split,
  films: data.BoxedFilms,
  mapped: Bool[np.ndarray, 'n k'] | None = None,
) -> data.BoxedFilms:
  """Films without any box, for findings that every boxed film may have.

  Of a data set whose boxes are of one finding, no boxed film is known to be
  without it. Then films without a box that are labelled as without the finding
  give the maps of other patients: at most MOST_UNBOXED_DONORS, evenly spread.

  Args:
    split: with all its films.
    films: those of them that have a true region.
    mapped: which films of the split have a map of which finding of `films`;
      None: all of them can be mapped.
  """
  lacking = ~_without(films).any(axis=0)
  column = data.columns_of(films.findings, split.findings)[lacking]
  without = split.label[:, column] == 0
  if mapped is not None:
    without &= mapped[:, lacking]
  wanted = without.any(axis=1)
  wanted[films.row] = False
  rows = np.flatnonzero(wanted)
  count = min(MOST_UNBOXED_DONORS, len(rows))
  chosen = np.linspace(0, len(rows) - 1, count).round().astype(int)
  return data.boxed_films(split, rows[chosen])


def _without(films: data.BoxedFilms) -> Bool[np.ndarray, 'n k']:
  """Whether a film is known to be without a finding."""
  return (films.label == 0) & ~films.boxed


def draw_donors(
  films: data.BoxedFilms,
  finding: int,
  seed: int,
  beside: data.BoxedFilms,
  mapped: Bool[np.ndarray, ' m'] | None = None,
) -> Int[np.ndarray, 'n d']:
  """Of which films the maps stand beside each film's: d = NUM_DRAWS indices.

  They are boxed films, since these are mapped anyway, or films `beside` them,
  whose indices follow. All are of other patients and labelled as without the
  finding. A film without a true box of the finding can only earn false
  positives, and one draw is enough for it. -1: no draw.

  `mapped`: which of the films, and of those beside, have a map of the finding;
  None: all.
  """
  without = np.concatenate([_without(films), _without(beside)])[:, finding]
  if mapped is not None:
    without &= mapped
  patient = np.concatenate([films.patient, beside.patient])
  donors = np.full((len(films.row), NUM_DRAWS), -1)
  for i, name in enumerate(films.name.tolist()):
    drawn = controls.draw_donors(
      controls.film_seed(name, finding, seed),
      patient,
      without,
      i,
      NUM_DRAWS if films.boxed[i, finding] else 1,
    )
    donors[i, : len(drawn)] = drawn
  return donors


def say_without_donor(films: data.BoxedFilms, donors) -> None:
  for k, of_films in enumerate(donors):
    lonely = films.boxed[:, k] & (of_films < 0).all(axis=1)
    if lonely.any():
      logging.warning(
        'No control of another patient for %s with a box of %s: no mapped test '
        'film of another patient is labelled as without it (boxes.csv has no '
        'row of the control for %s%s).',
        wording.count(int(lonely.sum()), 'film'),
        films.findings[k],
        ', '.join(films.name[lonely][:_NAMED_FILMS].tolist()),
        ', …' if lonely.sum() > _NAMED_FILMS else '',
      )


def set_down(
  own: stored_rows.Boxes, findings: Sequence[str], seed: int
) -> stored_rows.Boxes:
  """The rows of a method, its boxes set down whole in random places.

  There is no map that would draw them, so scores of a map are NaN. `findings`:
  those of the rows; a film's draws depend on the finding's place among them.
  """
  scores = np.full(own.score.shape, np.nan)
  iou, iobb = (scoring.SCORES.index(name) for name in ('iou', 'iobb'))
  boxes = []
  for i, (image, finding, of_row) in enumerate(
    zip(
      own.image.tolist(),
      own.finding.tolist(),
      own.boxes_of_rows(),
      strict=True,
    )
  ):
    film_seed = controls.film_seed(image, findings.index(finding), seed)
    boxes.append(controls.set_down(film_seed, of_row))
    truth = own.truth[i]
    if overlap.has_box(truth):
      scores[i, iou] = overlap.iou(boxes[-1], truth).max(initial=0.0)
      scores[i, iobb] = overlap.iobb(boxes[-1], truth).max(initial=0.0)
  name = own.method.astype(object) + wording.SET_DOWN
  return own._replace(
    method=name.astype(np.str_),
    box=np.concatenate([np.zeros((0, 4)), *boxes]),
    score=scores,
  )


def control_maps(
  name: str,
  films: map_rows.FindingFilms,
  finding: int,
  *,
  weights: tuple[np.ndarray, np.ndarray],
  size: tuple[int, int],
  seed: int,
) -> map_rows.Maps:
  """The maps of one of CONTROLS, which see no film.

  They show what a score is worth to whoever knows only where findings lie.

  Args:
    name: of the control.
    films: as the finding sees them.
    finding: its index, which a film's draws depend on.
    weights: of the rows of cells in each row of pixels and of the columns, as
      `heatmaps.Grid.weights` gives them: a random map is noise on such cells.
    size: of the maps, in pixels.
    seed: of the run.
  """
  if name == 'random':
    make = functools.partial(_random_map, weights)
    names = films.name.tolist()
    return map_rows.Maps(
      make, [(controls.film_seed(n, finding, seed),) for n in names]
    )
  if name == 'centre':
    make = functools.partial(controls.centre_map, size)
    return map_rows.Maps(make, [()] * len(films.name))
  boxes = controls.mean_boxes(films.truth, films.patient)
  make = functools.partial(controls.box_map, size=size)
  return map_rows.Maps(make, [(box,) for box in boxes])


def _random_map(weights, seed):
  return controls.random_map(seed, *weights)
