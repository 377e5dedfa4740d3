"""Weakly supervised localization: the maps of boxed films, scored.

Every film with a box is mapped for every boxed finding: a film without a box
of a finding can only earn false positives, and they count.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Float

from cxr import data, files, heatmaps, sharding, stored_rows
from cxr.evaluation.parts import Parts, is_whole
from cxr.exporting import boxes_and_masks
from cxr.inference import Subject
from cxr.localization import controls, scoring, thresholds
from cxr.reporting import wording
from input_pipeline import workers
from input_pipeline.findings import BOXED

CONTROLS = ('random', 'centre', 'mean_box')


def export_folder(subject: Subject, parts: Parts) -> str:
  """Where the files for other tools stand: one folder for one kind of maps."""
  evaluate = subject.config.evaluate
  return parts.export_folder(
    {
      'rule': thresholds.main_rule(evaluate.rules),
      'seed': subject.config.seed,
      'smooth': evaluate.smooth,
      'stages': evaluate.stages,
      'integration_steps': evaluate.integration_steps,
    }
  )


def localize(
  subject: Subject, parts: Parts
) -> tuple[stored_rows.Boxes, dict[str, tuple[int, int]]]:
  """Maps the boxed test films by every method and control, and scores them.

  Returns:
    the rows of boxes.csv, and each method's grid of cells.
  """
  films = data.boxed_films(subject.test)
  if not len(films.row):
    logging.warning('No test film has a box: localization is left out.')
    return stored_rows.no_boxes(), {}
  grids = heatmaps.map_sizes(subject)
  rules = subject.config.evaluate.rules
  # They score maps while the device makes the next ones.
  with workers.pool() as executor:
    scored = []
    for name, path, maps_of in _maps_to_score(subject, parts, films, grids):
      futures = None
      if maps_of is not None and jax.process_index() == 0:
        futures = [
          executor.submit(score, maps_of(k), films, k, name, rules)
          for k in range(len(BOXED))
        ]
      scored.append((path, futures))
    for path, futures in scored:
      if futures is not None:
        of_findings = [future.result() for future in futures]
        boxes = stored_rows.concatenate_boxes(of_findings)
        files.write_arrays(path, boxes._asdict())
  # The rows say which films are examples, so every process needs them.
  sharding.wait_for_all('boxes')
  tables = [stored_rows.Boxes(**files.read_arrays(path)) for path, _ in scored]
  return stored_rows.concatenate_boxes(tables), grids


def _maps_to_score(
  subject: Subject, parts: Parts, films: data.BoxedFilms, grids
) -> Iterator[tuple[str, str, Callable | None]]:
  """(method or control, path of its boxes, finding -> its maps 'n h w').

  None instead of the function where the boxes are stored already.
  """
  config = subject.config
  rules = {'rules': config.evaluate.rules}
  size = (config.data.image_size,) * 2
  untrained = functools.cache(lambda: _untrained(subject))
  for method in config.evaluate.methods:
    settings = heatmaps.settings(config, method) | rules
    moved = method + wording.MOVED
    moved_path = parts.path(f'boxes-{moved}.npz', settings)
    path = parts.path(f'boxes-{method}.npz', settings)
    exports = _exports(subject, parts, method)
    if _all_whole([path, moved_path], exports):
      yield method, path, None
      yield moved, moved_path, None
    else:
      maps = _compute(subject, parts, films, method, method)
      yield method, path, _by_finding(maps)
      yield (
        moved,
        moved_path,
        lambda k, maps=maps: moved_maps(
          maps[..., k], films, k, seed=config.seed
        ),
      )
    name = method + wording.RANDOM_WEIGHTS
    path = parts.path(f'boxes-{name}.npz', settings, trained=False)
    exports = _exports(subject, parts, name)
    maps_of = None
    if not _all_whole([path], exports):
      maps = _compute(untrained(), parts, films, method, name)
      maps_of = _by_finding(maps)
    yield name, path, maps_of
  grid = grids[config.evaluate.methods[0]]
  for name in CONTROLS:
    settings = rules | {'seed': config.seed, 'grid': grid, 'size': size}
    path = parts.path(f'boxes-{name}.npz', settings, trained=False)
    maps_of = None
    if not is_whole(path):
      maps_of = lambda k, name=name: control_maps(
        name, films, k, grid=grid, size=size, seed=config.seed
      )
    yield name, path, maps_of


def _all_whole(parts: Sequence[str], exports: Sequence[str]) -> bool:
  return all(map(is_whole, parts)) and all(map(os.path.exists, exports))


def _by_finding(maps: Float[np.ndarray, 'n h w k']) -> Callable:
  # Contiguous by finding: a worker is sent its finding's maps alone.
  return lambda k: np.ascontiguousarray(maps[..., k])


def _compute(
  subject: Subject, parts: Parts, films: data.BoxedFilms, method: str, name: str
) -> Float[np.ndarray, 'n h w k']:
  """The method's maps of the boxed films; exported, where the config says so.

  `name`: of the maps, which may be those of untrained weights.
  """
  logging.info('Maps of %d boxed films: %s.', len(films.row), name)
  config = subject.config
  maps = heatmaps.compute_maps(
    subject, heatmaps.make_maps(config, subject.model, method), films.row
  )
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


def _exports(subject: Subject, parts: Parts, name: str) -> list[str]:
  """The files that `_compute` leaves of these maps for other tools."""
  evaluate = subject.config.evaluate
  names = [f'maps-{name}.npz'] if evaluate.save_maps else []
  if 'chexlocalize' in evaluate.export:
    names += boxes_and_masks.chexlocalize_files(name)
  folder = export_folder(subject, parts) if names else ''
  return [os.path.join(folder, file) for file in names]


def _untrained(subject: Subject) -> Subject:
  """The same architecture with the random weights of a first step."""
  config = subject.config
  image = jnp.zeros((1, config.data.image_size, config.data.image_size, 1))
  key = jax.random.fold_in(jax.random.key(config.seed), 1)
  variables = subject.model.init(key, image)
  return subject._replace(variables=sharding.replicate(subject.mesh, variables))


# At module level: worker processes call it.
def score(
  maps: Float[np.ndarray, 'n h w'],
  films: data.BoxedFilms,
  finding: int,
  method: str,
  rules: Sequence[str],
) -> stored_rows.Boxes:
  """The rows of boxes.csv of one finding's maps, under every rule."""
  by_rule = scoring.score_finding(
    maps, films.truth[:, finding], films.patient, rules=tuple(rules)
  )
  return stored_rows.concatenate_boxes(
    [
      stored_rows.from_scored(
        scored,
        films.name,
        films.patient,
        finding=BOXED[finding],
        method=method,
        rule=rule,
      )
      for rule, scored in by_rule.items()
    ]
  )


# Controls.


def moved_maps(
  maps: Float[np.ndarray, 'n h w'],
  films: data.BoxedFilms,
  finding: int,
  *,
  seed: int,
) -> Float[np.ndarray, 'n h w']:
  """A finding's maps, each moved at random: the control of where they point."""
  return np.stack(
    [
      controls.moved_map(controls.film_seed(image, finding, seed), heatmap)
      for image, heatmap in zip(films.name.tolist(), maps, strict=True)
    ]
  )


def control_maps(
  name: str, films: data.BoxedFilms, finding: int, *, grid, size, seed: int
) -> Float[np.ndarray, 'n h w']:
  """The maps of one of CONTROLS, which see no film.

  They show what a score is worth to whoever knows only where findings lie.
  """
  if name == 'random':
    return np.stack(
      [
        controls.random_map(
          controls.film_seed(image, finding, seed), grid=grid, size=size
        )
        for image in films.name.tolist()
      ]
    )
  if name == 'centre':
    return np.broadcast_to(controls.centre_map(size), (len(films.name), *size))
  boxes = controls.mean_boxes(films.truth[:, finding], films.patient)
  return np.stack([controls.box_map(box, size) for box in boxes])
