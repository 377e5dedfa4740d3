"""The maps of a run's test films as files, for --mode=export and --mode=score.

They are of the films with a true region, and of those without one that lend
their maps as another patient's: with these --mode=score makes the same rows as
the run's own evaluation.
"""

import os
from collections.abc import Iterator

import jax
import numpy as np
from absl import logging
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from cxr import data, heatmaps
from cxr.evaluation import evaluate
from cxr.exporting import saved_maps
from cxr.inference import Subject
from cxr.scored_maps import map_controls

_FILMS = 64  # whose maps are held at a time


def write_maps(config: ConfigDict, workdir: str, output: str) -> None:
  """Writes maps-<method>.npz of each of config.evaluate.methods.

  Args:
    config: of the run.
    workdir: of the run.
    output: the folder of the files.

  Raises:
    FileNotFoundError: the workdir has no checkpoint.
    ValueError: no test film has a true box or mask.
  """
  subject, _ = evaluate.open_subject(config, workdir, ('test',))
  films = data.boxed_films(subject.test)
  if not len(films.row):
    raise ValueError(
      f'No test film of {config.data.dir} has a true box or mask, so that no '
      'map is written; leave --config.evaluate.save_maps out.'
    )
  beside = map_controls.unboxed_donors(subject.test, films)
  rows = np.concatenate([films.row, beside.row])
  first, *_ = heatmaps.grids(subject).values()
  for method in config.evaluate.methods:
    path = os.path.join(output, saved_maps.file_name(method))
    logging.info('Maps of %d films: %s.', len(rows), path)
    batches = _batches(subject, method, rows)
    if jax.process_index():
      for _ in batches:  # a part of it is computed here
        pass
      continue
    saved_maps.write(
      path,
      subject.test.image_name[rows].tolist(),
      films.findings,
      batches,
      size=config.data.image_size,
      method=method,
      cells=first,
    )


def _batches(
  subject: Subject, method: str, rows: Int[np.ndarray, ' n']
) -> Iterator[Float[np.ndarray, 'b h w k']]:
  maps_fn = heatmaps.make_maps(subject, method)
  for k in range(0, len(rows), _FILMS):
    yield heatmaps.compute_maps(subject, maps_fn, rows[k : k + _FILMS])
