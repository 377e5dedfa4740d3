"""Weakly supervised localization: the maps of boxed films, scored.

Every film with a box is mapped for every boxed finding: a film without a box
of a finding can only earn false positives, and they count.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from cxr import data, files
from cxr.localization import controls, overlap, scoring
from input_pipeline.findings import BOXED

CONTROLS = ('random', 'centre', 'mean_box')


def film_noise(
  image: str, finding: int, *, grid, size, seed: int
) -> Float[np.ndarray, 'h w']:
  """The random map of a film: the same whichever films are scored."""
  return controls.random_map(
    _seed_of(image, finding, seed), grid=grid, size=size
  )


def _seed_of(image: str, finding: int, seed: int) -> tuple[int, ...]:
  return seed, finding, zlib.crc32(image.encode())


def moved_maps(
  maps: Float[np.ndarray, 'n h w'],
  films: data.BoxedFilms,
  finding: int,
  *,
  seed: int,
) -> Float[np.ndarray, 'n h w']:
  """What a map's scores are worth without where it points."""
  return np.stack(
    [
      controls.moved_map(_seed_of(str(image), finding, seed), heatmap)
      for image, heatmap in zip(films.name, maps, strict=True)
    ]
  )


def control_maps(
  name: str, films: data.BoxedFilms, finding: int, *, grid, size, seed: int
) -> Float[np.ndarray, 'n h w']:
  """What a score is worth without looking at the film."""
  if name == 'random':
    return np.stack(
      [
        film_noise(str(image), finding, grid=grid, size=size, seed=seed)
        for image in films.name
      ]
    )
  if name == 'centre':
    return np.broadcast_to(controls.centre_map(size), (len(films.name), *size))
  boxes = controls.mean_boxes(films.truth[:, finding], films.patient)
  return np.stack(
    [
      np.zeros(size) if np.isnan(box).any() else overlap.box_cover(box, size)
      for box in boxes
    ]
  )


def score(
  maps: Float[np.ndarray, 'n h w'],
  truth: Float[np.ndarray, 'n 4'],
  patient: Int[np.ndarray, ' n'],
  rules: Sequence[str],
) -> dict[str, list[dict]]:
  """`localization.score_finding`, at module level for the worker processes."""
  return scoring.score_finding(maps, truth, patient, rules=tuple(rules))


def rows_of(
  films: data.BoxedFilms,
  method: str,
  by_finding: Sequence[dict[str, list[dict]]],
) -> list[dict]:
  """Rows of boxes.csv."""
  return [
    {
      'split': 'test',
      'image': str(name),
      'patient': int(patient),
      'finding': finding,
      'method': method,
      'rule': rule,
      **row,
    }
    for finding, by_rule in zip(BOXED, by_finding, strict=True)
    for rule, rows in by_rule.items()
    for name, patient, row in zip(films.name, films.patient, rows, strict=True)
  ]


KINDS = ('best', 'median', 'worst', 'typical')


def choose_examples(
  films: data.BoxedFilms, ious: Float[np.ndarray, 'n 8']
) -> list[tuple[int, int, str]]:
  """(film, finding, kind) by rule, none by hand.

  best, median, worst: by the IoU of this run's first method. typical: the film
  whose true box has the finding's median area, so the same in every run.
  """
  chosen = []
  for finding in range(len(BOXED)):
    boxed = np.flatnonzero(overlap.has_box(films.truth[:, finding]))
    if not len(boxed):
      continue
    area = overlap.area(films.truth[boxed, finding])
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


def save_examples(
  path: str,
  films: data.BoxedFilms,
  split,
  chosen,
  maps: dict[str, dict[int, np.ndarray]],
  logits: Float[np.ndarray, 'n k'],
) -> None:
  """examples.npz: what the gallery shows."""
  film = np.array([c[0] for c in chosen], np.int64)
  finding = np.array([c[1] for c in chosen], np.int64)
  arrays = {
    'image': split.image[films.row[film]][..., 0],
    'name': films.name[film].astype(str),
    'finding': np.array(BOXED)[finding],
    'kind': np.array([c[2] for c in chosen]),
    'probability': 1 / (1 + np.exp(-logits[films.row[film], finding])),
    'truth': films.truth[film, finding],
  } | {
    f'map_{method}': np.stack(
      [of_film[i][..., j] for i, j in zip(film, finding, strict=True)]
    )
    for method, of_film in maps.items()
  }
  with files.replacing(path, '.npz') as temporary:
    np.savez_compressed(temporary, **arrays)


def to_plain(rows: list[dict]) -> list[dict]:
  """Rows for a part file: arrays as lists, NaN as None."""

  def plain(value):
    if isinstance(value, np.ndarray):
      return value.tolist()
    if isinstance(value, float) and np.isnan(value):
      return None
    return value.item() if isinstance(value, np.generic) else value

  return [{name: plain(v) for name, v in row.items()} for row in rows]


def from_plain(rows: list[dict]) -> list[dict]:
  """The inverse of `to_plain`."""
  for row in rows:
    row['boxes'] = np.asarray(row['boxes'], np.float64).reshape(-1, 4)
    for name in scoring.SCORES:
      row[name] = np.nan if row[name] is None else row[name]
    if row['truth'] is not None:
      row['truth'] = np.asarray(row['truth'], np.float64)
  return rows
