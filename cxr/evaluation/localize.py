"""Weakly supervised localization: the maps of boxed films, scored.

Every film with a true box or mask is mapped for every finding that has some: a
film without one of a finding can only earn false positives, and they count.
Each method has controls of its own: the same network's maps of other patients,
its boxes set down elsewhere, and the maps of the network with shuffled weights.
"""

import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
from absl import logging
from jaxtyping import Float

from cxr import data, files, heatmaps, inference, sharding, stored_rows
from cxr.attribution import by_name
from cxr.evaluation.parts import Parts, is_whole
from cxr.exporting import boxes_and_masks, saved_maps
from cxr.inference import Subject
from cxr.localization import scoring, thresholds
from cxr.reporting import wording
from cxr.scored_maps import coarse_maps, map_controls, map_rows
from input_pipeline import workers


def export_folder(subject: Subject, parts: Parts) -> str:
  """Where the files for other tools stand: one folder for one kind of maps."""
  config = subject.config
  methods = {m: heatmaps.settings(config, m) for m in by_name.METHODS}
  rule = thresholds.main_rule(config.evaluate.rules)
  return parts.export_folder({'rule': rule, 'methods': methods})


def localize(
  subject: Subject, parts: Parts
) -> tuple[stored_rows.Boxes, dict[str, heatmaps.Grid], dict[str, np.ndarray]]:
  """Maps the boxed test films by every method and control, and scores them.

  Returns:
    the rows of boxes.csv; each method's grid of cells; and
    `Subject.boxed_maps`, of the methods whose boxes were not stored already.
  """
  films = data.boxed_films(subject.test)
  if not len(films.row):
    logging.warning(
      'No test film has a true box or mask: localization is left out.'
    )
    return stored_rows.no_boxes(), {}, {}
  grids = heatmaps.grids(subject)
  boxed_maps = {}
  # Each method's own, of shuffled weights and about one of another patient.
  kinds = 3 * len(subject.config.evaluate.methods) + len(map_controls.CONTROLS)
  num_maps = films.boxed.size * kinds
  # They score maps while the device makes the next ones.
  with workers.pool(map_rows.num_workers(num_maps)) as executor:
    scored = []
    for path, job_of in _maps_to_score(
      subject, parts, films, grids, boxed_maps
    ):
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
  moved = [
    map_controls.set_down(rows, films.findings, subject.config.seed)
    for rows in own
  ]
  return stored_rows.concatenate_boxes([boxes, *moved]), grids, boxed_maps


def _maps_to_score(
  subject: Subject,
  parts: Parts,
  films: data.BoxedFilms,
  grids: Mapping[str, heatmaps.Grid],
  boxed_maps: dict[str, np.ndarray],
) -> Iterator[tuple[str, Callable | None]]:
  """(path of the boxes of a method or control, what makes them).

  What makes them is a function of the finding: (function, its arguments), to be
  run by a worker; None where the boxes are stored already. What maps the
  measure 'under_attack' asks for again are added to `boxed_maps`.
  """
  config = subject.config
  rules = {'rules': config.evaluate.rules, 'scores': scoring.SCORES}
  if films.masks:  # Older parts are of boxes alone.
    rules['masks'] = len(films.masks)
  size = (config.data.image_size,) * 2
  shuffled = functools.cache(lambda: heatmaps.shuffled(subject))
  findings = range(len(films.findings))
  beside = map_controls.unboxed_donors(subject.test, films)
  donors = [
    map_controls.draw_donors(films, k, config.seed, beside) for k in findings
  ]
  map_controls.say_without_donor(films, donors)
  draws = {'draws': map_controls.NUM_DRAWS}
  if len(beside.row):
    draws['unboxed'] = len(beside.row)

  def job(make_boxes, name, maps_of, *more):
    return lambda k: (
      make_boxes,
      maps_of(k),
      map_controls.of_finding(films, k),
      name,
      config.evaluate.rules,
      *(by_finding[k] for by_finding in more),
    )

  for method in config.evaluate.methods:
    settings = heatmaps.settings(config, method) | rules
    another = method + wording.ANOTHER_PATIENT
    path = parts.path(f'boxes-{method}.npz', settings)
    another_path = parts.path(f'boxes-{another}.npz', settings | draws)
    exports = _exports(subject, parts, method)
    coarse_path = _coarse_path(subject, parts, method)
    if _all_whole([path, another_path, coarse_path], exports):
      yield path, None
      yield another_path, None
    else:
      maps = _compute(subject, parts, films, beside, method, method)
      _write_coarse(coarse_path, films, method, maps)
      if 'under_attack' in config.evaluate.measures:
        film, finding = np.nonzero(films.boxed)
        boxed_maps[method] = maps[film, ..., finding]
      own = _by_finding(maps)
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
      maps = _compute(shuffled(), parts, films, beside, method, name)
      yield path, job(map_rows.score, name, _by_finding(maps))
  grid = grids[config.evaluate.methods[0]]
  for name in map_controls.CONTROLS:
    settings = rules | {'seed': config.seed, 'grid': grid, 'size': size}
    path = parts.path(f'boxes-{name}.npz', settings, trained=False)
    maps_of = lambda k, name=name: map_controls.control_maps(
      name,
      map_controls.of_finding(films, k),
      k,
      weights=grid.weights(size[0]),
      size=size,
      seed=config.seed,
    )
    yield path, None if is_whole(path) else job(map_rows.score, name, maps_of)


def _coarse_path(subject: Subject, parts: Parts, method: str) -> str:
  settings = heatmaps.settings(subject.config, method) | {
    'films': coarse_maps.MOST_FILMS,
    'cells': coarse_maps.CELLS,
  }
  return parts.path(f'coarse_maps-{method}.npz', settings)


def _write_coarse(
  path: str,
  films: data.BoxedFilms,
  method: str,
  maps: Float[np.ndarray, 'n h w k'],
) -> None:
  if jax.process_index():
    return
  film = inference.evenly_spread(len(films.row), coarse_maps.MOST_FILMS)
  coarse_maps.write(
    path,
    coarse_maps.CoarseMaps(
      films.name[film].astype(np.str_),
      films.patient[film],
      np.array(films.findings),
      {method: coarse_maps.reduce(maps[film])},
    ),
  )


def write_coarse_maps(workdir: str, subject: Subject, parts: Parts) -> None:
  """Joins the coarse maps of all methods in one file of the workdir."""
  if jax.process_index():
    return
  path = os.path.join(workdir, coarse_maps.FILE)
  if not len(data.boxed_films(subject.test).row):
    # Those of an earlier evaluation are of other films.
    pathlib.Path(path).unlink(missing_ok=True)
    return
  arrays = {}
  for method in subject.config.evaluate.methods:
    arrays |= files.read_arrays(_coarse_path(subject, parts, method))
  files.write_arrays(path, arrays)


def _all_whole(parts: Sequence[str], exports: Sequence[str]) -> bool:
  return all(map(is_whole, parts)) and all(map(os.path.exists, exports))


def _by_finding(maps: Float[np.ndarray, 'n h w k']) -> Callable:
  # Contiguous by finding: a worker is sent its finding's maps alone.
  return lambda k: np.ascontiguousarray(maps[..., k])


def _compute(
  subject: Subject,
  parts: Parts,
  films: data.BoxedFilms,
  beside: data.BoxedFilms,
  method: str,
  name: str,
) -> Float[np.ndarray, 'n h w k']:
  """The method's maps of the boxed films; exported, where the config says so.

  Args:
    subject: the network, and its films.
    parts: the folder of the files.
    films: those with a true region.
    beside: films whose maps stand beside theirs; they are exported, too.
    method: of attribution.
    name: of the maps, which may be those of shuffled weights.
  """
  count = wording.count(len(films.row), 'boxed film')
  logging.info('Maps of %s: %s.', count, name)
  config = subject.config
  with parts.timed(f'maps-{name}'):
    maps = _maps(subject, method, films)
  names, saved = films.name, [maps]
  if config.evaluate.save_maps and len(beside.row) and name == method:
    names = np.concatenate([names, beside.name])
    saved.append(_maps(subject, method, beside))
  if jax.process_index() == 0:
    folder = export_folder(subject, parts)
    if config.evaluate.save_maps:
      saved_maps.write(
        os.path.join(folder, saved_maps.file_name(name)),
        names.tolist(),
        films.findings,
        saved,
        size=config.data.image_size,
        method=name,
        cells=next(iter(heatmaps.grids(subject).values())),
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
  names = [saved_maps.file_name(name)] if evaluate.save_maps else []
  if 'chexlocalize' in evaluate.export:
    names += boxes_and_masks.chexlocalize_files(name)
  folder = export_folder(subject, parts) if names else ''
  return [os.path.join(folder, file) for file in names]
