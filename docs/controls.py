"""Draws docs/controls.png: a map and its controls, on four films.

  python -m docs.controls runs/robust gradient docs/controls.png

The run has to be trained; its films are taken from where its config says.
"""

import io
import sys

import numpy as np
from absl import logging
from PIL import Image

from cxr import data, heatmaps, inference, platforms, sharding
from cxr.localization import controls, regions, scoring, thresholds
from cxr.reporting import plots
from cxr.scored_maps import map_controls

SHOWN = ('Atelectasis', 'Effusion', 'Mass', 'Pneumothorax')
ROWS = 'own map', 'another patient', 'set down', 'shuffled weights'


def main(workdir: str, method: str, path: str) -> None:
  mesh = sharding.make_mesh()
  config, model, variables, _ = inference.load_model(
    workdir, forms=platforms.of(mesh)
  )
  subject = inference.Subject(
    config, model, sharding.replicate(mesh, variables), mesh, data.load(config)
  )
  films = data.boxed_films(subject.test)
  nobody = data.boxed_films(subject.test, np.zeros(0, int))
  maps_fn = heatmaps.make_maps(subject, method)
  own = heatmaps.compute_maps(subject, maps_fn, films.row)
  shuffled = heatmaps.compute_maps(
    heatmaps.shuffled(subject), maps_fn, films.row
  )

  cases = []
  for finding in SHOWN:
    k = subject.mapped.index(finding)
    donors = map_controls.draw_donors(films, k, config.seed, nobody)
    # The film whose map is of median energy in the true box: no choice of ours.
    boxed = np.flatnonzero(films.boxed[:, k] & (donors[:, 0] >= 0))
    energy = [_energy(own[i, ..., k], films.truth[i, k]) for i in boxed]
    i = boxed[np.argsort(energy)[len(boxed) // 2]]
    maps = dict(
      zip(ROWS, (own[i], own[donors[i, 0]], None, shuffled[i]), strict=True)
    )
    boxes = {
      row: regions.levels_to_boxes(m[..., k], thresholds.wang_levels(m[..., k]))
      for row, m in maps.items()
      if m is not None
    }
    seed = controls.film_seed(str(films.name[i]), k, config.seed)
    boxes[ROWS[2]] = controls.set_down(seed, boxes[ROWS[0]])
    cases.append(
      {
        'finding': finding,
        'image': subject.test.image[films.row[i : i + 1]][0, ..., 0],
        'truth': [box for box in films.truth[i, k] if np.isfinite(box).all()],
        'maps': {
          row: {method: m[..., k]} for row, m in maps.items() if m is not None
        },
        'boxes': {row: {method: of_row} for row, of_row in boxes.items()},
      }
    )
  drawn = plots.gallery_figure(cases, runs=ROWS, methods=(method,))
  picture = io.BytesIO()
  drawn.savefig(picture, dpi=110, facecolor='white')
  Image.open(picture).convert('RGB').quantize(256).save(path, optimize=True)
  logging.info('Done: %s', path)


def _energy(heatmap, truth):
  return scoring.energy(heatmap, truth[np.isfinite(truth).all(axis=1)])


if __name__ == '__main__':
  main(*sys.argv[1:])
