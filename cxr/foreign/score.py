"""--mode=score: maps from elsewhere -> everything that needs no network.

Boxes by every rule of config.evaluate.rules, all scores, the controls and the
intervals are those of an evaluation (evaluation/localize.py). The output folder
is read as a workdir is by report, compare and study.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import tqdm
from jaxtyping import Float
from ml_collections import ConfigDict

from cxr import data, files, heatmaps, stored_rows
from cxr.estimates import readings, run_tables
from cxr.evaluation import evaluate, other_films, parts
from cxr.foreign import map_files, map_places, matched_maps, prediction_table
from cxr.localization import thresholds
from cxr.reporting import wording
from cxr.scored_maps import examples, map_controls, map_rows
from input_pipeline import pipeline, synonyms, workers

LEFT_OUT_FILE = 'left_out.csv'
IMAGE_SIZE = 224  # pixels, where neither the user nor the maps say
METHOD = 'given'  # what maps are called where nobody says


class Given(NamedTuple):
  """What the user gives."""

  path: str  # of the maps
  place: map_places.Place = map_places.Place()
  predictions: str = ''  # a csv; '': predictions.csv beside the maps, or none
  predictions_are: str = ''  # one of prediction_table.KINDS


class Predicted(NamedTuple):
  """The block of predictions.csv, and the findings of its columns."""

  findings: tuple[str, ...]
  block: stored_rows.Predictions | None
  logits: Float[np.ndarray, 'n k']  # of all test films and boxed findings
  kind: str = ''


def open_source(given: Given) -> map_files.Source:
  """The maps, as `map_files.open_source` lists them.

  Raises:
    FileNotFoundError, ValueError: they cannot be read, or their method has a
      name that stands for something else.
  """
  source = map_files.open_source(given.path, given.place)
  method = source.place.method
  if method is not None and not (
    re.fullmatch(r'\w[\w.+-]{0,99}', method) and wording.is_own(method)
  ):
    raise ValueError(
      f'The method ({method!r}) must be a name of letters, digits, _, -, + and '
      'dots that stands for no control.'
    )
  if source.place.method is None:
    return source._replace(place=source.place._replace(method=METHOD))
  return source


def with_defaults(
  config: ConfigDict,
  overrides: Mapping[str, object],
  source: map_files.Source,
) -> ConfigDict:
  """The config with what these maps ask for, where the user does not say.

  The name is that of the file, the films are prepared in the size of the
  network's input (IMAGE_SIZE, where it is not known), and films without a split
  are test films, all of them. Drawn films keep their size.
  """
  config = config.copy_and_resolve_references()
  if 'name' not in overrides:
    stem = os.path.splitext(os.path.basename(os.path.normpath(source.path)))[0]
    config.name = re.sub(r'[^\w.+-]|^\W', '_', stem)[:100] or 'maps'
  if 'data.test_fraction' not in overrides:
    config.data.test_fraction = 1.0
  # The pixels of a few films are shown, and no others needed.
  if 'data.cache' not in overrides:
    config.data.cache = 'none'
  chosen = 'data.image_size' in overrides or config.preset != 'phantom'
  if not chosen and not _is_drawn(config):
    config.data.image_size = int(source.place.size or IMAGE_SIZE)
  return config


def score(
  config: ConfigDict, given: Given, source: map_files.Source, output: str
) -> None:
  """Scores the maps, and writes all results into the output folder.

  Args:
    config: of the films, the rules and the seed.
    given: maps and predictions.
    source: of the maps.
    output: the folder.

  Raises:
    FileNotFoundError, ValueError: films or predictions cannot be read, or
      nothing of the maps can be scored.
  """
  splits = data.load(config, ('test',))
  test = splits['test']
  if not len(test.box_image) and not len(test.mask_image):
    raise ValueError(
      f'No test film of {config.data.dir} has a true box or mask: there is '
      'nothing to score maps against.'
    )
  known = synonyms.read(config.data.synonyms)
  names = matched_maps.TestFilms(splits, config.data.dir)
  path = lambda name: os.path.join(output, name)
  with map_files.storing(path(other_films.STORE)) as store:
    matched = matched_maps.match(
      source,
      test,
      names.row_of,
      known,
      size=config.data.image_size,
      store=store,
    )
    other_films.claim_maps(output, given.path)
    predicted = _predict(given, test, names, known, matched)
    boxes = _score(config, source.place, matched)
    _write_examples(
      path('examples.npz'), config, source.place, test, matched, boxes,
      predicted,
    )  # fmt: skip
  matched_maps.tell(matched.left_out, path(LEFT_OUT_FILE))
  blocks = {}
  if predicted.block is not None:
    blocks[stored_rows.Condition('test')] = predicted.block
  stored_rows.write_predictions(
    path('predictions.csv'), blocks, findings=predicted.findings
  )
  stored_rows.write_boxes(path('boxes.csv'), boxes)
  read = readings.of_split(test) if blocks else readings.Readings()
  if read.findings != predicted.findings and read:
    column = data.columns_of(predicted.findings, read.findings)
    read = read.of_findings(predicted.findings, column)
  readings.write(path('readers.csv'), read)
  tests = pipeline.Splits({'test': test})
  tests.left_out = getattr(splits, 'left_out', {})
  described = data.summary(config, tests)
  described['findings'] = list(predicted.findings)
  stored = _stored_config(config)
  files.write_json(path('config.json'), stored, indent=2)
  files.write_json(path('data.json'), described, indent=2)
  details = {
    'step': None,
    'batch_stats': None,
    'audits': {},
    'map_size': {source.place.method: list(matched.shape)}
    if matched.shapes == 1
    else {},
    'rows': run_tables.row_counts(blocks, boxes, [], read),
    'weights': matched.digest,
    'version': parts.VERSION,
    'config': stored,
    'data': described,
    'films': other_films.named(config),
    'maps': _describe(config, given, source, matched, predicted),
  }
  files.write_json(path('evaluation.json'), details, indent=2)
  evaluate.summarize(config, output)


def _stored_config(config: ConfigDict) -> dict:
  """The fields that these results depend on; there is no model."""
  fields = config.to_dict()
  evaluated = ('rules', 'num_resamples')
  return {
    'name': fields['name'],
    'seed': fields['seed'],
    'data': {k: v for k, v in fields['data'].items() if k != 'phantom'}
    | ({'phantom': fields['data']['phantom']} if _is_drawn(config) else {}),
    'model': {},
    'train': {},
    'evaluate': {k: fields['evaluate'][k] for k in evaluated},
  }


def _is_drawn(config: ConfigDict) -> bool:
  return config.data.source == 'phantom'


def _describe(config, given, source, matched, predicted) -> dict:
  """What evaluation.json and the page say of the maps."""
  boxed = matched.films.boxed
  true_boxes = np.isfinite(matched.films.truth).all(axis=-1).sum(axis=-1)
  mapped = matched.mapped
  return {
    'file': os.path.basename(os.path.normpath(given.path)),
    'method': source.place.method,
    'given': len(source.entries),
    'scored': int(mapped.sum()),
    'pairs': int(mapped.size),
    'boxes': int(true_boxes[boxed & mapped].sum()),
    'all_boxes': int(true_boxes[boxed].sum()),
    'missing': int((~mapped).sum()),
    'place': map_places.describe(source.place, config.data.image_size),
    'predictions': predicted.kind,
    'left_out': matched_maps.counts(matched.left_out),
  }


def _predict(given, test, names, known, matched) -> Predicted:
  """The predictions that are given; none where none are."""
  unknown = np.full(
    (len(test.label), len(matched.films.findings)), np.nan, np.float32
  )
  path = given.predictions
  if not path and os.path.isdir(given.path):
    beside = os.path.join(given.path, 'predictions.csv')
    path = beside if os.path.exists(beside) else ''
  if not path:
    return Predicted(tuple(test.findings), None, unknown)
  read = prediction_table.read(
    path,
    names.row_of,
    len(test.label),
    test.findings,
    known,
    kind=given.predictions_are,
  )
  matched.left_out.extend(
    matched_maps.Row(*row, where=os.path.basename(path))
    for row in read.left_out
  )
  films = np.flatnonzero(~np.isnan(read.logit).all(axis=1))
  matched.left_out.extend(
    matched_maps.Row(name, '', 'a test film without a prediction')
    for name in np.delete(test.image_name, films).tolist()
  )
  column = data.columns_of(read.findings, test.findings)
  logit = read.logit[films]
  # Where the logit is unknown no label can be held against it.
  label = np.where(np.isnan(logit), np.nan, test.label[films][:, column])
  for k, finding in enumerate(matched.films.findings):
    if finding in read.findings:
      unknown[:, k] = read.logit[:, read.findings.index(finding)]
  block = stored_rows.Predictions(
    image=test.image_name[films].astype(np.str_),
    patient=test.patient[films].astype(np.int64),
    view=test.view[films],
    age=test.age[films],
    sex=test.sex[films],
    label=label.astype(np.float32),
    logit=logit,
  )
  return Predicted(read.findings, block, unknown, read.kind)


# Scoring.


def _score(
  config: ConfigDict, place: map_places.Place, matched: matched_maps.Matched
) -> stored_rows.Boxes:
  """The rows of boxes.csv: the maps', and those of their controls."""
  jobs = list(_jobs(config, place, matched))
  interval = 0.1 if sys.stderr.isatty() else 60
  maps = sum(len(job[1]) for job in jobs)
  with (
    tqdm.tqdm(
      total=maps, desc='Scoring', unit=' maps', mininterval=interval
    ) as bar,
    workers.pool(min(map_rows.num_workers(maps), len(jobs))) as executor,
  ):
    futures = [executor.submit(*job) for job in jobs]
    tables = []
    for job, future in zip(jobs, futures, strict=True):
      tables.append(future.result())
      bar.update(len(job[1]))
  boxes = stored_rows.concatenate_boxes(tables)
  own = boxes.where(method=place.method)
  findings = matched.films.findings
  moved = map_controls.set_down(own, findings, config.seed)
  return stored_rows.concatenate_boxes([boxes, moved])


def _jobs(config, place, matched) -> Iterator[tuple]:
  """What workers do, in the order of the rows: (function, maps, ...)."""
  films, rules = matched.films, config.evaluate.rules
  size = (config.data.image_size,) * 2
  every = range(len(films.findings))
  donors = [
    map_controls.draw_donors(
      films, k, config.seed, matched.beside, matched.index[:, k] >= 0
    )
    for k in every
  ]
  # A film without a map needs no other patient's.
  map_controls.say_without_donor(
    films,
    [np.where(matched.mapped[:, k, None], donors[k], 0) for k in every],
  )
  findings = [k for k in every if matched.mapped[:, k].any()]
  mapped = {k: np.flatnonzero(matched.mapped[:, k]) for k in findings}
  of_finding = {
    k: map_controls.of_finding(films, k).take(mapped[k]) for k in findings
  }
  for k in findings:
    own = matched.maps(mapped[k], k)
    yield map_rows.score, own, of_finding[k], place.method, rules
  another = place.method + wording.ANOTHER_PATIENT
  for k in findings:
    everybody = matched.maps(np.arange(len(matched.index)), k)
    drawn = donors[k][mapped[k]]
    if (drawn >= 0).any():
      yield (
        map_rows.score_donors, everybody, of_finding[k], another, rules, drawn
      )  # fmt: skip
  weights = _random_weights(config, place, matched)
  for name in map_controls.CONTROLS:
    for k in findings:
      maps = map_controls.control_maps(
        name, of_finding[k], k, weights=weights, size=size, seed=config.seed
      )
      yield map_rows.score, maps, of_finding[k], name, rules


def _random_weights(config, place, matched):
  """Of the cells that the random map is noise on: the maps' own."""
  size = config.data.image_size
  if place.cells is not None:
    rows, columns, stride, offset = place.cells
    grid = heatmaps.Grid(int(rows), int(columns), stride, offset)
    return grid.weights(size)
  weights = (
    map_places.cell_weights(min(count, size), size, place, size)
    for count in matched.shape
  )
  return tuple(np.eye(size) if w is None else w for w in weights)


def _write_examples(path, config, place, test, matched, boxes, predicted):
  rule = thresholds.main_rule(config.evaluate.rules)
  rows = boxes.where(method=place.method, rule=rule)
  films = matched.films
  ious = examples.worst_ious(films, rows)
  chosen = examples.choose_examples(films, ious)
  read = lambda i, k: matched.stored.read(int(matched.index[i, k]))
  maps = [read(i, k) for i, k, _ in chosen]
  donor = examples.first_donors(
    films, matched.beside, chosen, config.seed, matched.index >= 0
  )
  # Where there is no donor any map will do: its name is empty.
  donated = [
    read(d if d >= 0 else i, k)
    for d, (i, k, _) in zip(donor.tolist(), chosen, strict=True)
  ]
  examples.write(
    path,
    test,
    films,
    chosen,
    predicted.logits,
    {place.method: np.stack(maps)},
    examples.Donors(
      place.method,
      examples.donor_names(films, matched.beside, donor),
      np.stack(donated),
    ),
  )
