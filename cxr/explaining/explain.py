"""--mode=explain: a user's films -> probabilities, maps, boxes and one page.

  predictions.csv    a row per film, the unreadable ones with their reason
  boxes.csv          a row per box, in the film's own pixels, half-open
  coco_<method>.json the same boxes as detections that pycocotools' loadRes
                     takes, of the films in coco_films.json
  overlays/          a picture per film: the film, its maps, its boxes
  explain.html       the first films, with their maps, on one page

predictions.csv has a film's raw probabilities and, apart from them, what the
run's calibration.json makes of them: the calibrated probability, and whether
the finding is called (1) or not (0) at its operating point. They are empty
where the run has none.

Films are read ahead by threads, so that a folder of any length needs the memory
of a few batches (plus its boxes). A film is called by its path below the folder
given, and nothing else about it is written than what stands in
`radiograph.Radiograph`.
"""

import collections
import contextlib
import csv
import hashlib
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np
import tqdm
from absl import logging
from jaxtyping import Float
from ml_collections import ConfigDict

from cxr import files, inference, platforms, run_files, sharding
from cxr.explaining import interpret, origin, overlays
from cxr.exporting import coco
from cxr.reporting import pages, wording
from cxr.shipped import networks
from cxr.statistics import calibration
from input_pipeline.radiograph import radiograph
from input_pipeline.workers import cores

_FILM_COLUMNS = (
  'image',
  'error',
  'height',
  'width',
  'fit',
  'warnings',
  'notes',
  'overlay',
)
_BOX_COLUMNS = (
  'image',
  'finding',
  'probability',
  'method',
  'rule',
  'ymin',
  'xmin',
  'ymax',
  'xmax',
)


class Explained(NamedTuple):
  """What `explain_films` did."""

  cases: list[dict]  # of the first films, for pages.write_explain
  read: int
  errors: dict[str, str]  # film -> why it was not read


def explain(
  config: ConfigDict, workdir: str, images: str, output_dir: str = ''
) -> str:
  """Explains the films at `images` with the run in `workdir`.

  Args:
    config: of the run; `config.explain` says what is made.
    workdir: holds the checkpoint.
    images: a film, or a folder of them.
    output_dir: by default a folder of its own for each `images`, below
      <workdir>/explain.

  Returns:
    The path of explain.html.

  Raises:
    FileNotFoundError: no films there, or no checkpoint.
    ValueError: none of the files is a film that can be read.
  """
  options = config.explain
  output_dir = output_dir or _default_output(networks.results(workdir), images)
  paths, skipped = radiograph.find(images)
  # Results inside the folder of films are not films.
  inside = os.path.realpath(output_dir) + os.sep
  paths = [p for p in paths if not os.path.realpath(p).startswith(inside)]
  logging.info(
    '%s at %s; passed by: %d hidden, %d other',
    wording.count(len(paths), 'film'),
    images,
    skipped['hidden'],
    skipped['other'],
  )
  training = origin.describe(workdir, paths)
  for sentence in training.sentences:
    logging.info('%s', sentence)
  for warning in training.warnings:
    logging.warning('%s', warning)
  forms = platforms.of(sharding.make_mesh(1))
  config, model, variables, step = inference.load_model(workdir, config, forms)
  stored = run_files.read_calibration(
    workdir, step, config.evaluate.batch_stats
  )
  if stored is None:
    logging.info('The run has no calibration of step %d.', step)
  findings = run_files.read_findings(workdir)
  fitted = stored and calibration.from_json(stored['findings'], findings)
  explained = explain_films(
    interpret.from_run(config, model, variables, findings, fitted),
    paths,
    output_dir,
    root=images if os.path.isdir(images) else os.path.dirname(images),
    page_films=options.page_films,
  )
  page = pages.write_explain(
    os.path.join(output_dir, 'explain.html'),
    explained.cases,
    operating_points=stored,
    network=training.sentences,
    warnings=[*training.warnings, *_left_out(explained, skipped)],
  )
  if not explained.read:
    raise ValueError(
      f'None of the {wording.count(len(paths), "file")} could be read; '
      f'{os.path.join(output_dir, "predictions.csv")} says why, the first: '
      f'{next(iter(explained.errors.values()), "there is none")}'
    )
  logging.info(
    'Done: %s (%s, %d not read)',
    page,
    wording.count(explained.read, 'film'),
    len(explained.errors),
  )
  return page


def explain_films(
  interpreter: interpret.Interpreter,
  paths: Sequence[str],
  output_dir: str,
  *,
  root: str,
  page_films: int = 50,
  workers: int = 0,
) -> Explained:
  """Writes predictions.csv, boxes.csv, COCO files and overlays.

  Args:
    interpreter: makes maps and boxes of films.
    paths: of the films.
    output_dir: made where it is absent.
    root: films are called by their path relative to it.
    page_films: films whose maps are kept for the page.
    workers: threads that read; 0: a few.
  """
  findings, methods = interpreter.findings, interpreter.methods
  os.makedirs(os.path.join(output_dir, 'overlays'), exist_ok=True)
  cases, errors, sizes = [], {}, {}
  predicted = {method: [] for method in methods}
  films = _read_ahead(
    paths,
    lambda path: _read(path, size=interpreter.size, fit=interpreter.fit),
    ahead=2 * interpreter.batch_size,
    workers=workers or min(4, cores()),
  )
  with (
    _table(output_dir, 'predictions.csv') as film_rows,
    _table(output_dir, 'boxes.csv') as box_rows,
  ):
    columns = [
      *_FILM_COLUMNS,
      *(f'{kind}_{name}' for kind in interpret.KINDS for name in findings),
    ]
    blank = [''] * (len(columns) - 2)  # of a film that was not read
    film_rows.writerow(columns)
    box_rows.writerow(_BOX_COLUMNS)
    # A terminal gets a bar; a log file need not be told of every film.
    bar = tqdm.tqdm(
      interpret.interpret(interpreter, films),
      total=len(paths),
      unit='film',
      disable=not sys.stderr.isatty(),
    )
    for number, said in enumerate(bar, start=1):
      film, name = said.film, _name(said.path, root)
      if isinstance(film, radiograph.RadiographError):
        errors[name] = str(film)
        blank = [''] * (
          len(_FILM_COLUMNS) - 2 + len(interpret.KINDS) * len(findings)
        )
        film_rows.writerow([files.escape_cell(name), str(film), *blank])
        continue
      sizes[name] = (film.height, film.width)
      overlay = _overlay_name(number, name)
      film_rows.writerow(_film_row(name, said, overlay))
      for finding, method, pixels in _film_boxes(said):
        box_rows.writerow(
          _box_row(name, finding, method, interpreter.rule, pixels)
        )
        box = pixels / np.tile(sizes[name], 2)
        predicted[method].append(
          (name, finding['finding'], box, finding['probability'])
        )
      image = np.round(film.image[..., 0] * 255).astype(np.uint8)
      # Four times as quick as the default, for a file a seventh larger.
      overlays.draw(image, said.findings).save(
        os.path.join(output_dir, 'overlays', overlay), compress_level=1
      )
      if len(cases) < page_films:
        cases.append(
          {
            'name': name,
            'image': image,
            'warnings': list(film.warnings),
            'findings': said.findings,
          }
        )
  path = lambda kind: os.path.join(output_dir, f'coco_{kind}.json')
  coco.write_truth(path('films'), sizes, findings)
  for method, boxes in predicted.items():
    coco.write_detections(path(method), sizes, findings, boxes)
  return Explained(cases, len(sizes), errors)


def _film_boxes(
  said: interpret.Interpreted,
) -> Iterator[tuple[dict, str, Float[np.ndarray, '4']]]:
  """(finding, method, box in the film's pixels) of every box."""
  for finding in said.findings:
    for method, boxes in finding['boxes'].items():
      for box in boxes:
        yield finding, method, said.film.to_film_pixels(box)


def _film_row(
  name: str, said: interpret.Interpreted, overlay: str
) -> list[str | int]:
  """A row of predictions.csv."""
  film = said.film
  decimals = {'probability': 6, 'calibrated': 6, 'called': 0}
  return [
    files.escape_cell(name),
    '',
    film.height,
    film.width,
    film.fit,
    ' '.join(film.warnings),
    '; '.join(film.notes),
    overlay,
    *(
      '' if np.isnan(value) else f'{value:.{decimals[kind]}f}'
      for kind in interpret.KINDS
      for value in said.values[kind]
    ),
  ]


def _box_row(
  name: str,
  finding: Mapping,
  method: str,
  rule: str,
  pixels: Float[np.ndarray, '4'],
) -> list[str]:
  """A row of boxes.csv."""
  return [
    files.escape_cell(name),
    finding['finding'],
    f'{finding["probability"]:.6f}',
    method,
    rule,
    *(f'{v:.2f}' for v in pixels),
  ]


# Films, one after the other.


def _read(
  path: str, *, size: int, fit: str
) -> radiograph.Radiograph | radiograph.RadiographError:
  """The film, or why it is not read."""
  try:
    return radiograph.read(path, size=size, fit=fit)
  except radiograph.RadiographError as error:
    return error


def _read_ahead(
  paths: Sequence[str], read: Callable, *, ahead: int, workers: int
) -> Iterator[tuple]:
  """(path, read(path)) in order; at most `ahead` results wait."""
  remaining = iter(paths)
  pool = futures.ThreadPoolExecutor(workers)
  try:
    waiting = collections.deque(
      (path, pool.submit(read, path))
      for path in itertools.islice(remaining, ahead)
    )
    while waiting:
      path, future = waiting.popleft()
      yield path, future.result()
      for path in itertools.islice(remaining, 1):
        waiting.append((path, pool.submit(read, path)))
  finally:
    pool.shutdown(cancel_futures=True)


# Names.


def _default_output(workdir: str, images: str) -> str:
  """A folder for each `images`: two folders of one name keep apart."""
  path = os.path.realpath(images)
  digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:6]
  name = f'{_safe(os.path.basename(path))}-{digest}'
  return os.path.join(workdir, 'explain', name)


def _name(path: str, root: str) -> str:
  """Relative to the root, printable, and different for different films."""
  name = os.path.relpath(path, root or os.curdir).replace(os.sep, '/')
  return ''.join(
    c if c.isprintable() and c != '\\' else c.encode('unicode_escape').decode()
    for c in name
  )


def _overlay_name(number: int, name: str) -> str:
  """A file name of plain characters, in the order of the films."""
  return f'{number:05d}_{_safe(os.path.basename(name))}.png'


def _safe(name: str) -> str:
  """A name without characters that a file system or a shell could mind."""
  return re.sub(r'[^A-Za-z0-9._-]+', '_', name)[:80] or 'film'


def _left_out(explained: Explained, skipped: Mapping[str, int]) -> list[str]:
  """Sentences for the page; its head is no place for a thousand of them."""
  shown = [f'{name}: {why}' for name, why in explained.errors.items()]
  if len(shown) > 20:
    shown[20:] = [f'… and {len(shown) - 20} more files; see predictions.csv.']
  if explained.read > len(explained.cases):
    shown.append(
      f'The page has the first {len(explained.cases)} of {explained.read} '
      'films; predictions.csv, boxes.csv and overlays have all.'
    )
  if skipped['hidden']:
    hidden = wording.count(
      skipped['hidden'], 'hidden file or folder', 'hidden files or folders'
    )
    shown.append(f'{hidden} passed by.')
  return shown


@contextlib.contextmanager
def _table(folder: str, name: str) -> Iterator[Any]:
  """Yields the csv writer of a new table."""
  path = os.path.join(folder, name)
  with open(path, 'w', newline='', encoding='utf-8') as f:
    yield csv.writer(f, lineterminator='\n')
