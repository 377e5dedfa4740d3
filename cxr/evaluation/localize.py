"""Weakly supervised localization: the maps of boxed films, scored.

Every film with a true box or mask is mapped for every finding that has some: a
film without one of a finding can only earn false positives, and they count.
Each method has controls of its own: the same network's maps of other patients,
its boxes set down elsewhere, and the maps of the network with shuffled weights.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from absl import logging
from jaxtyping import Bool, Float, Int

from cxr import data, files, heatmaps, sharding, stored_rows
from cxr.attribution import by_name
from cxr.evaluation import map_rows
from cxr.evaluation.parts import Parts, is_whole
from cxr.exporting import boxes_and_masks
from cxr.inference import Subject
from cxr.localization import controls, overlap, scoring, thresholds
from cxr.reporting import wording
from input_pipeline import pipeline, workers

CONTROLS = ('random', 'centre', 'mean_box')
# Maps of other patients that a true box is held against.
NUM_DRAWS = 3
_NAMED_FILMS = 5  # in a line of the log
# Films without any box that are mapped, where boxed films cannot be donors.
MOST_UNBOXED_DONORS = 64
# There are as many tasks a method as findings with boxes.
MOST_WORKERS = 8


def export_folder(subject: Subject, parts: Parts) -> str:
  """Where the files for other tools stand: one folder for one kind of maps."""
  config = subject.config
  methods = {m: heatmaps.settings(config, m) for m in by_name.METHODS}
  rule = thresholds.main_rule(config.evaluate.rules)
  return parts.export_folder({'rule': rule, 'methods': methods})


def localize(
  subject: Subject, parts: Parts
) -> tuple[stored_rows.Boxes, dict[str, heatmaps.Grid]]:
  """Maps the boxed test films by every method and control, and scores them.

  Returns:
    the rows of boxes.csv, and each method's grid of cells.
  """
  films = data.boxed_films(subject.test)
  if not len(films.row):
    logging.warning(
      'No test film has a true box or mask: localization is left out.'
    )
    return stored_rows.no_boxes(), {}
  grids = heatmaps.grids(subject)
  # They score maps while the device makes the next ones.
  with workers.pool(min(workers.cores(), MOST_WORKERS)) as executor:
    scored = []
    for path, job_of in _maps_to_score(subject, parts, films, grids):
      futures = None
      if job_of is not None and jax.process_index() == 0:
        findings = range(len(films.findings))
        futures = [executor.submit(*job_of(k)) for k in findings]
      scored.append((path, futures))
    # What the workers have not done by now.
    with parts.timed('scoring'):
      for path, futures in scored:
        if futures is not None:
          of_findings = [future.result() for future in futures]
          boxes = stored_rows.concatenate_boxes(of_findings)
          files.write_arrays(path, boxes._asdict())
  # The rows say which films are examples, so every process needs them.
  sharding.wait_for_all('boxes')
  tables = [stored_rows.boxes_of(files.read_arrays(path)) for path, _ in scored]
  boxes = stored_rows.concatenate_boxes(tables)
  own = [
    boxes.where(method=method) for method in subject.config.evaluate.methods
  ]
  moved = [set_down(rows, films.findings, subject.config.seed) for rows in own]
  return stored_rows.concatenate_boxes([boxes, *moved]), grids


def _maps_to_score(
  subject: Subject, parts: Parts, films: data.BoxedFilms, grids
) -> Iterator[tuple[str, Callable | None]]:
  """(path of the boxes of a method or control, what makes them).

  What makes them is a function of the finding: (function, its arguments), to be
  run by a worker; None where the boxes are stored already.
  """
  config = subject.config
  rules = {'rules': config.evaluate.rules}
  if films.masks:  # Older parts are of boxes alone.
    rules['masks'] = len(films.masks)
  size = (config.data.image_size,) * 2
  shuffled = functools.cache(lambda: heatmaps.shuffled(subject))
  findings = range(len(films.findings))
  beside = unboxed_donors(subject.test, films)
  donors = [draw_donors(films, k, config.seed, beside) for k in findings]
  _say_without_donor(films, donors)
  draws = {'draws': NUM_DRAWS}
  if len(beside.row):
    draws['unboxed'] = len(beside.row)

  def job(make_boxes, name, maps_of, *more):
    return lambda k: (
      make_boxes,
      maps_of(k),
      of_finding(films, k),
      name,
      config.evaluate.rules,
      *(of_finding[k] for of_finding in more),
    )

  for method in config.evaluate.methods:
    settings = heatmaps.settings(config, method) | rules
    another = method + wording.ANOTHER_PATIENT
    path = parts.path(f'boxes-{method}.npz', settings)
    another_path = parts.path(f'boxes-{another}.npz', settings | draws)
    exports = _exports(subject, parts, method)
    if _all_whole([path, another_path], exports):
      yield path, None
      yield another_path, None
    else:
      own = _by_finding(_compute(subject, parts, films, method, method))
      yield path, job(map_rows.score, method, own)
      of_all = own
      if len(beside.row):
        maps = _maps(subject, method, beside)
        of_all = lambda k, own=own, maps=maps: np.concatenate(
          [own(k), maps[..., k]]
        )
      yield another_path, job(map_rows.score_donors, another, of_all, donors)
    name = method + wording.SHUFFLED_WEIGHTS
    path = parts.path(f'boxes-{name}.npz', settings)
    exports = _exports(subject, parts, name)
    if _all_whole([path], exports):
      yield path, None
    else:
      maps = _compute(shuffled(), parts, films, method, name)
      yield path, job(map_rows.score, name, _by_finding(maps))
  grid = grids[config.evaluate.methods[0]]
  for name in CONTROLS:
    settings = rules | {'seed': config.seed, 'grid': grid, 'size': size}
    path = parts.path(f'boxes-{name}.npz', settings, trained=False)
    maps_of = functools.partial(
      control_maps, name, films, grid=grid, size=size, seed=config.seed
    )
    yield path, None if is_whole(path) else job(map_rows.score, name, maps_of)


def _all_whole(parts: Sequence[str], exports: Sequence[str]) -> bool:
  return all(map(is_whole, parts)) and all(map(os.path.exists, exports))


def _by_finding(maps: Float[np.ndarray, 'n h w k']) -> Callable:
  # Contiguous by finding: a worker is sent its finding's maps alone.
  return lambda k: np.ascontiguousarray(maps[..., k])


def _compute(
  subject: Subject, parts: Parts, films: data.BoxedFilms, method: str, name: str
) -> Float[np.ndarray, 'n h w k']:
  """The method's maps of the boxed films; exported, where the config says so.

  `name`: of the maps, which may be those of shuffled weights.
  """
  logging.info('Maps of %d boxed films: %s.', len(films.row), name)
  config = subject.config
  with parts.timed(f'maps-{name}'):
    maps = _maps(subject, method, films)
  if jax.process_index() == 0:
    folder = export_folder(subject, parts)
    if config.evaluate.save_maps:
      files.write_arrays(
        os.path.join(folder, f'maps-{name}.npz'),
        {'name': films.name, 'maps': maps},
      )
    if 'chexlocalize' in config.evaluate.export:
      rule = thresholds.main_rule(config.evaluate.rules)
      boxes_and_masks.write_chexlocalize(folder, name, films, maps, rule=rule)
  return maps


def _maps(
  subject: Subject, method: str, films: data.BoxedFilms
) -> Float[np.ndarray, 'n h w k']:
  return heatmaps.compute_maps(
    subject, heatmaps.make_maps(subject, method), films.row
  )


def _exports(subject: Subject, parts: Parts, name: str) -> list[str]:
  """The files that `_compute` leaves of these maps for other tools."""
  evaluate = subject.config.evaluate
  names = [f'maps-{name}.npz'] if evaluate.save_maps else []
  if 'chexlocalize' in evaluate.export:
    names += boxes_and_masks.chexlocalize_files(name)
  folder = export_folder(subject, parts) if names else ''
  return [os.path.join(folder, file) for file in names]


def of_finding(films: data.BoxedFilms, k: int) -> map_rows.FindingFilms:
  """The films as the boxed finding k sees them: all that a worker is sent."""
  return map_rows.FindingFilms(
    films.findings[k],
    films.name,
    films.patient,
    films.truth[:, k],
    {film: mask for (film, of), mask in films.masks.items() if of == k},
  )


# Controls.


def unboxed_donors(
  split: pipeline.Split, films: data.BoxedFilms
) -> data.BoxedFilms:
  """Films without any box, for findings that every boxed film may have.

  Of a data set whose boxes are of one finding, no boxed film is known to be
  without it. Then films without a box that are labelled as without the finding
  give the maps of other patients: at most MOST_UNBOXED_DONORS, evenly spread.
  """
  lacking = ~_without(films).any(axis=0)
  column = data.columns_of(films.findings, split.findings)[lacking]
  unboxed = np.ones(len(split.label), bool)
  unboxed[films.row] = False
  wanted = unboxed & (split.label[:, column] == 0).any(axis=1)
  rows = np.flatnonzero(wanted)
  count = min(MOST_UNBOXED_DONORS, len(rows))
  chosen = np.linspace(0, len(rows) - 1, count).round().astype(int)
  return data.boxed_films(split, rows[chosen])


def _without(films: data.BoxedFilms) -> Bool[np.ndarray, 'n k']:
  """Whether a film is known to be without a finding."""
  return (films.label == 0) & ~films.boxed


def draw_donors(
  films: data.BoxedFilms, finding: int, seed: int, beside: data.BoxedFilms
) -> Int[np.ndarray, 'n d']:
  """Of which films the maps stand beside each film's: d = NUM_DRAWS indices.

  They are boxed films, since these are mapped anyway, or films `beside` them,
  whose indices follow. All are of other patients and labelled as without the
  finding. A film without a true box of the finding can only earn false
  positives, and one draw is enough for it. -1: no draw.
  """
  without = np.concatenate([_without(films), _without(beside)])[:, finding]
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


def _say_without_donor(films: data.BoxedFilms, donors) -> None:
  for k, of_finding in enumerate(donors):
    lonely = films.boxed[:, k] & (of_finding < 0).all(axis=1)
    if lonely.any():
      logging.warning(
        '%d films with a box of %s have no control of another patient: no '
        'mapped test film of another patient is labelled as without it '
        '(boxes.csv has these films without it: %s%s).',
        lonely.sum(),
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
  films: data.BoxedFilms,
  finding: int,
  *,
  grid: heatmaps.Grid,
  size: tuple[int, int],
  seed: int,
) -> Float[np.ndarray, 'n h w']:
  """The maps of one of CONTROLS, which see no film.

  They show what a score is worth to whoever knows only where findings lie.
  """
  if name == 'random':
    weights = grid.weights(size[0])
    return np.stack(
      [
        controls.random_map(controls.film_seed(image, finding, seed), *weights)
        for image in films.name.tolist()
      ]
    )
  if name == 'centre':
    return np.broadcast_to(controls.centre_map(size), (len(films.name), *size))
  boxes = controls.mean_boxes(films.truth[:, finding], films.patient)
  return np.stack([controls.box_map(box, size) for box in boxes])
