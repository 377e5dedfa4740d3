"""A user's films -> probabilities, maps and boxes: files, pictures, one page.

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

Films are read ahead by threads and go through the device in batches of one
size, so that a folder of any length needs the memory of a few batches (plus
its boxes). Films are called by their path below the folder given, and nothing
else about them is written than what stands in `radiograph.Radiograph`.
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
from typing import NamedTuple

import jax
import numpy as np
import tqdm
from absl import logging
from jax import numpy as jnp
from jaxtyping import Float, Int
from ml_collections import ConfigDict
from scipy import special

from cxr import files, heatmaps, inference, run_files
from cxr.attribution import by_name
from cxr.explaining import overlays, radiograph
from cxr.exporting import coco
from cxr.localization import overlap, regions, thresholds
from cxr.reporting import pages
from cxr.statistics import calibration
from input_pipeline.findings import FINDINGS

# image 'b h w 1' in [0, 1] -> logits 'b k'
PredictFn = Callable[[Float[np.ndarray, 'b h w 1']], Float[np.ndarray, 'b k']]
# image, findings wanted 'b n' -> {method: 'b h w n'}
MapsFn = Callable[
  [Float[np.ndarray, 'b h w 1'], Int[np.ndarray, 'b n']],
  Mapping[str, Float[np.ndarray, 'b h w n']],
]
# map 'h w' -> boxes 'm 4' in [0, 1]
BoxesFn = Callable[[Float[np.ndarray, 'h w']], Float[np.ndarray, 'm 4']]

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


# Columns of predictions.csv that each finding has.
_KINDS = ('probability', 'calibrated', 'called')


class Explained(NamedTuple):
  """What `explain_films` did."""

  cases: list[dict]  # for report.write_explain, of the first films
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
  output_dir = output_dir or _default_output(workdir, images)
  paths, skipped = radiograph.find(images)
  # Results inside the folder of films are not films.
  inside = os.path.realpath(output_dir) + os.sep
  paths = [p for p in paths if not os.path.realpath(p).startswith(inside)]
  logging.info(
    '%d film(s) at %s; passed by: %d hidden, %d other',
    len(paths),
    images,
    skipped['hidden'],
    skipped['other'],
  )
  config, model, variables, step = inference.load_model(workdir, config)
  stored = run_files.read_calibration(
    workdir, step, config.evaluate.batch_stats
  )
  if stored is None:
    logging.info('The run has no calibration of step %d.', step)
  explained = explain_films(
    _make_predict(model, variables),
    _make_maps(
      model,
      variables,
      {m: heatmaps.options(config, m) for m in options.methods},
      smooth=config.evaluate.smooth,
    ),
    _make_boxes(options.rule),
    paths,
    output_dir,
    root=images if os.path.isdir(images) else os.path.dirname(images),
    size=config.data.image_size,
    fit=options.fit,
    rule=options.rule,
    methods=options.methods,
    top_findings=options.top_findings,
    batch_size=options.batch_size,
    page_films=options.page_films,
    fitted=stored and calibration.from_json(stored['findings'], FINDINGS),
  )
  page = pages.write_explain(
    os.path.join(output_dir, 'explain.html'),
    explained.cases,
    operating_points=stored,
    left_out=_left_out(explained, skipped),
  )
  if not explained.read:
    raise ValueError(
      f'None of the {len(paths)} file(s) could be read; '
      f'{os.path.join(output_dir, "predictions.csv")} says why, the first: '
      f'{next(iter(explained.errors.values()), "there is none")}'
    )
  logging.info(
    'Done: %s (%d film(s), %d not read)',
    page,
    explained.read,
    len(explained.errors),
  )
  return page


def explain_films(
  predict_fn: PredictFn,
  maps_fn: MapsFn,
  boxes_fn: BoxesFn,
  paths: Sequence[str],
  output_dir: str,
  *,
  root: str,
  size: int,
  rule: str,
  methods: Sequence[str],
  fit: str = 'pad',
  findings: Sequence[str] = FINDINGS,
  top_findings: int = 3,
  batch_size: int = 16,
  page_films: int = 50,
  workers: int = 0,
  fitted: calibration.Fitted | None = None,
) -> Explained:
  """Writes predictions.csv, boxes.csv, COCO files and overlays.

  Args:
    predict_fn: image 'b h w 1' -> logits 'b k'; b is always batch_size.
    maps_fn: image, indices of the findings wanted 'b n' -> {method: map 'b h w
      n'}, as they are shown and as `boxes_fn` takes them.
    boxes_fn: map 'h w' -> boxes 'm 4' in [0, 1].
    paths: of the films.
    output_dir: made where it is absent.
    root: films are called by their path relative to it.
    size: the images' height and width.
    rule: the name of `boxes_fn`'s rule, for boxes.csv.
    methods: the keys of what `maps_fn` returns.
    fit: 'pad' | 'crop', see `radiograph.read`.
    findings: names of the k findings.
    top_findings: the most probable ones of each film get maps and boxes.
    batch_size: films in one batch; the last is filled with black.
    page_films: films whose maps are kept for the page.
    workers: threads that read; 0: a few.
    fitted: calibration and operating points of the k findings.
  """
  os.makedirs(os.path.join(output_dir, 'overlays'), exist_ok=True)
  cases, errors, sizes = [], {}, {}
  predicted = {method: [] for method in methods}
  interpreted = _interpret(
    predict_fn,
    maps_fn,
    boxes_fn,
    _read_ahead(
      paths,
      lambda path: _read(path, size=size, fit=fit),
      ahead=2 * batch_size,
      workers=workers or min(4, os.cpu_count() or 1),
    ),
    findings=findings,
    top_findings=min(top_findings, len(findings)),
    batch_size=batch_size,
    size=size,
    fitted=fitted,
  )
  with (
    _table(output_dir, 'predictions.csv') as film_rows,
    _table(output_dir, 'boxes.csv') as box_rows,
  ):
    film_rows.writerow(
      [
        *_FILM_COLUMNS,
        *(f'{kind}_{name}' for kind in _KINDS for name in findings),
      ]
    )
    box_rows.writerow(_BOX_COLUMNS)
    # A terminal gets a bar; a log file need not be told of every film.
    bar = tqdm.tqdm(
      interpreted,
      total=len(paths),
      unit='film',
      disable=not sys.stderr.isatty(),
    )
    for number, (path, film, values, found) in enumerate(bar, start=1):
      name = _name(path, root)
      if isinstance(film, radiograph.RadiographError):
        errors[name] = str(film)
        blank = [''] * (len(_FILM_COLUMNS) - 2 + len(_KINDS) * len(findings))
        film_rows.writerow([files.escape_cell(name), str(film), *blank])
        continue
      sizes[name] = (film.height, film.width)
      overlay = _overlay_name(number, name)
      film_rows.writerow(_film_row(name, film, overlay, values))
      for one, method, pixels in _film_boxes(film, found):
        box_rows.writerow(_box_row(name, one, method, rule, pixels))
        box = pixels / np.tile(sizes[name], 2)
        predicted[method].append(
          (name, one['finding'], box, one['probability'])
        )
      image = np.round(film.image[..., 0] * 255).astype(np.uint8)
      # Four times as quick as the default, for a file a seventh larger.
      overlays.draw(image, found).save(
        os.path.join(output_dir, 'overlays', overlay), compress_level=1
      )
      if len(cases) < page_films:
        cases.append(
          {
            'name': name,
            'image': image,
            'warnings': list(film.warnings),
            'findings': found,
          }
        )
  path = lambda kind: os.path.join(output_dir, f'coco_{kind}.json')
  coco.write_truth(path('films'), sizes, findings)
  for method, boxes in predicted.items():
    coco.write_detections(path(method), sizes, findings, boxes)
  return Explained(cases, len(sizes), errors)


def _interpret(
  predict_fn,
  maps_fn,
  boxes_fn,
  films,
  *,
  findings,
  top_findings,
  batch_size,
  size,
  fitted,
) -> Iterator[tuple]:
  """(path, film or error) -> (path, film or error, values, findings).

  The values are 'k' for each of _KINDS, NaN where they are undefined; a finding
  is what report.write_explain takes for one.
  """
  films = iter(films)
  while batch := list(itertools.islice(films, batch_size)):
    readable = [
      film for _, film in batch if isinstance(film, radiograph.Radiograph)
    ]
    # One size for all batches: one compilation.
    image = np.zeros((batch_size, size, size, 1), np.float32)
    for i, film in enumerate(readable):
      image[i] = film.image
    if readable:
      logits = np.asarray(predict_fn(image))
      values = _values(logits, fitted)
      top = np.argsort(-logits, axis=1, kind='stable')[:, :top_findings]
      maps = {m: np.asarray(v) for m, v in maps_fn(image, top).items()}
    rows = iter(range(batch_size))
    for path, film in batch:
      if isinstance(film, radiograph.RadiographError):
        yield path, film, None, []
        continue
      i = next(rows)
      found = []
      for j, k in enumerate(top[i]):
        of_finding = {m: v[i, ..., j] for m, v in maps.items()}
        found.append(
          {
            'finding': findings[k],
            **{kind: _plain(of[i, k]) for kind, of in values.items()},
            'truth': [],
            'maps': of_finding,
            'boxes': {
              m: _on_film(film, boxes_fn(v)) for m, v in of_finding.items()
            },
          }
        )
      yield path, film, {kind: of[i] for kind, of in values.items()}, found


def _values(logits, fitted) -> dict[str, Float[np.ndarray, 'b k']]:
  """One array for each of _KINDS."""
  nothing = np.full(logits.shape, np.nan)
  values = dict.fromkeys(_KINDS, nothing)
  values['probability'] = special.expit(logits)
  if fitted is not None:
    values['calibrated'] = calibration.probability(logits, fitted)
    values['called'] = np.where(
      np.isnan(fitted['threshold']),
      np.nan,
      calibration.called(logits, fitted),
    )
  return values


def _plain(value) -> float | None:
  return None if np.isnan(value) else float(value)


def _on_film(film, boxes):
  """Without those that lie in the padding beside the film."""
  area = overlap.area(film.to_film_pixels(boxes))
  return list(np.asarray(boxes)[area > 0])


def _film_boxes(film, found) -> Iterator[tuple]:
  """(finding, method, box in the film's pixels) of every box."""
  for one in found:
    for method, boxes in one['boxes'].items():
      for box in boxes:
        yield one, method, film.to_film_pixels(box)


def _film_row(name, film, overlay, values):
  cell = {
    'probability': '{:.6f}'.format,
    'calibrated': '{:.6f}'.format,
    'called': '{:.0f}'.format,
  }
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
      '' if np.isnan(v) else cell[kind](v)
      for kind in _KINDS
      for v in values[kind]
    ),
  ]


def _box_row(name, one, method, rule, pixels):
  return [
    files.escape_cell(name),
    one['finding'],
    f'{one["probability"]:.6f}',
    method,
    rule,
    *(f'{v:.2f}' for v in pixels),
  ]


# From a model and a config to functions.


def _make_predict(model, variables) -> PredictFn:
  @jax.jit
  def predict(variables, image):
    return model.apply(variables, image)[0]

  return lambda image: predict(variables, image)


def _make_maps(
  model, variables, methods: Mapping[str, dict], *, smooth: float
) -> MapsFn:
  """`methods`: name -> options of its attribution."""
  attributions = {
    method: by_name.make_attribution(model, method, **options)
    for method, options in methods.items()
  }

  @jax.jit
  def select(maps, finding):
    return jnp.take_along_axis(maps, finding[:, None, None, :], axis=-1)

  def maps_fn(image, finding):
    # A key for each film, the same for all: a film's maps must not depend on
    # its place in the folder.
    keys = jnp.stack([jax.random.key(0)] * len(image))
    maps = {}
    for method, attribute in attributions.items():
      maps[method] = select(attribute(variables, keys, image), finding)
      # As where the maps were scored.
      if method in heatmaps.BY_MAGNITUDE:
        maps[method] = by_name.magnitude(maps[method], sigma=smooth)
    return maps

  return maps_fn


def _make_boxes(rule: str) -> BoxesFn:
  levels_fn = thresholds.RULES[rule]
  return lambda heatmap: regions.levels_to_boxes(heatmap, levels_fn(heatmap))


# Films, one after the other.


def _read(path, *, size, fit):
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
  return f'{number:05d}_{_safe(os.path.basename(name))}.png'


def _safe(name: str) -> str:
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
    shown.append(f'{skipped["hidden"]} hidden files or folders passed by.')
  return shown


@contextlib.contextmanager
def _table(folder: str, name: str):
  path = os.path.join(folder, name)
  with open(path, 'w', newline='', encoding='utf-8') as f:
    yield csv.writer(f, lineterminator='\n')
