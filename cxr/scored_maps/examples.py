"""The films that the report shows with their maps: chosen by rule, not by hand.

Written as examples.npz, which the pages draw their gallery from.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from cxr import data, files, heatmaps, stored_rows
from cxr.inference import Subject
from cxr.localization import overlap, scoring, thresholds
from cxr.reporting import main_result
from cxr.scored_maps import map_controls
from input_pipeline import pipeline

KINDS = ('best', 'median', 'worst', 'typical')


class Donors(NamedTuple):
  """Another patient's map beside each of the c examples: that of its draw 0."""

  method: str
  name: np.ndarray  # 'c' str, of the donor; '': the film has none
  maps: Float[np.ndarray, 'c h w']  # of the donors; anything without one


def write_examples(
  path: str,
  subject: Subject,
  boxes: stored_rows.Boxes,
  logits: Float[np.ndarray, 'n k'],
) -> None:
  """examples.npz: films, true boxes, probabilities and maps by every method,
  and another patient's map.

  Args:
    path: of the file.
    subject: whose test films are shown.
    boxes: the rows of boxes.csv; they say which films are best and worst.
    logits: of all test films.
  """
  config, test = subject.config, subject.test
  films = data.boxed_films(test)
  if not len(films.row):
    # Those of an earlier evaluation are of other films.
    if jax.process_index() == 0:
      pathlib.Path(path).unlink(missing_ok=True)
    return
  rule = thresholds.main_rule(config.evaluate.rules)
  first = boxes.where(method=config.evaluate.methods[0], rule=rule)
  chosen = choose_examples(films, worst_ious(films, first))
  film, finding = np.array([c[:2] for c in chosen], np.int64).T
  shown, index = np.unique(film, return_inverse=True)
  maps = {}
  for method in config.evaluate.methods:
    of_shown = heatmaps.compute_maps(
      subject,
      heatmaps.make_maps(subject, method),
      films.row[shown],
    )
    maps[method] = of_shown[index, ..., finding]
  donors = _donors(subject, films, chosen)
  if jax.process_index() == 0:
    write(
      path,
      test,
      films,
      chosen,
      logits[:, subject.mapped_columns],
      maps,
      donors,
    )


def write(
  path: str,
  test: pipeline.Split,
  films: data.BoxedFilms,
  chosen: Sequence[tuple[int, int, str]],
  logits: Float[np.ndarray, 'n k'],
  maps: Mapping[str, Float[np.ndarray, 'c h w']],
  donors: Donors,
) -> None:
  """Writes examples.npz.

  Args:
    path: of the file.
    test: the test films.
    films: those with a true region.
    chosen: by `choose_examples`.
    logits: of all test films, and of the findings of `films`; NaN: unknown.
    maps: of each method the maps of the chosen films and findings.
    donors: of other patients, beside them.
  """
  film, finding = np.array([c[:2] for c in chosen], np.int64).T
  files.write_arrays(
    path,
    {
      'image': test.image[films.row[film]][..., 0],
      'name': films.name[film].astype(str),
      'finding': np.array(films.findings)[finding],
      'kind': np.array([kind for _, _, kind in chosen]),
      'probability': special.expit(logits[films.row[film], finding]),
      'truth': films.truth[film, finding],
    }
    | {f'map_{method}': of_method for method, of_method in maps.items()}
    | {'donor': donors.name, f'donor_map_{donors.method}': donors.maps},
  )


def first_donors(
  films: data.BoxedFilms,
  beside: data.BoxedFilms,
  chosen: Sequence[tuple[int, int, str]],
  seed: int,
  mapped: Bool[np.ndarray, 'm k'] | None = None,
) -> Int[np.ndarray, ' c']:
  """Of each chosen film and finding the donor whose map is scored in draw 0.

  Args:
    films: those with a true region.
    beside: of map_controls.unboxed_donors.
    chosen: by `choose_examples`.
    seed: of the run.
    mapped: which of both have a map of a finding; None: all.

  Returns:
    indices of `films`, then of those beside them; -1: none.
  """
  draws = {
    k: map_controls.draw_donors(
      films, k, seed, beside, None if mapped is None else mapped[:, k]
    )[:, 0]
    for k in sorted({k for _, k, _ in chosen})
  }
  return np.array([draws[k][i] for i, k, _ in chosen], np.int64)


def donor_names(
  films: data.BoxedFilms,
  beside: data.BoxedFilms,
  donor: Int[np.ndarray, ' c'],
) -> np.ndarray:
  """'c' str: the names of `first_donors`, '' where there is none."""
  names = np.concatenate([films.name, beside.name]).astype(str)
  return np.where(donor >= 0, names[donor], '')


def _donors(
  subject: Subject,
  films: data.BoxedFilms,
  chosen: Sequence[tuple[int, int, str]],
) -> Donors:
  """By the method that the first sentence of the page speaks of."""
  config = subject.config
  beside = map_controls.unboxed_donors(subject.test, films)
  donor = first_donors(films, beside, chosen, config.seed)
  mapped, index = np.unique(np.maximum(donor, 0), return_inverse=True)
  method = main_result.main_method(dict.fromkeys(config.evaluate.methods))
  maps = heatmaps.compute_maps(
    subject,
    heatmaps.make_maps(subject, method),
    np.concatenate([films.row, beside.row])[mapped],
  )
  finding = [k for _, k, _ in chosen]
  names = donor_names(films, beside, donor)
  return Donors(method, names, maps[index, ..., finding])


def worst_ious(
  films: data.BoxedFilms, rows: stored_rows.Boxes
) -> Float[np.ndarray, 'n k']:
  """IoU by film and finding, of the rows of one method and rule."""
  film = {name: i for i, name in enumerate(films.name.tolist())}
  ious = np.full(films.boxed.shape, np.nan)
  row = [film[name] for name in rows.image.tolist()]
  column = data.columns_of(rows.finding.tolist(), films.findings)
  # The worst of several true boxes; NaN where there is none.
  iou = rows.score[:, scoring.SCORES.index('iou')]
  np.fmin.at(ious, (row, column), iou)
  return ious


def choose_examples(
  films: data.BoxedFilms, ious: Float[np.ndarray, 'n k']
) -> list[tuple[int, int, str]]:
  """(film, finding, kind) by rule, none by hand.

  best, median, worst: by the IoU of this run's first method. typical: the film
  whose true boxes have the finding's median area, so the same in every run.
  """
  chosen = []
  for finding in range(len(films.findings)):
    # Maps from elsewhere may be missing.
    scored = films.boxed[:, finding] & ~np.isnan(ious[:, finding])
    boxed = np.flatnonzero(scored)
    if not len(boxed):
      continue
    area = np.array(
      [
        overlap.area(overlap.disjoint(np.nan_to_num(boxes))).sum()
        for boxes in films.truth[boxed, finding]
      ]
    )
    # Ties go by name, so that the choice does not hang on the order of films.
    by_iou = boxed[np.lexsort((films.name[boxed], ious[boxed, finding]))]
    by_area = boxed[np.lexsort((films.name[boxed], area))]
    middle = len(boxed) // 2
    films_of_kind = by_iou[-1], by_iou[middle], by_iou[0], by_area[middle]
    chosen += [
      (int(film), finding, kind)
      for film, kind in zip(films_of_kind, KINDS, strict=True)
    ]
  return chosen
