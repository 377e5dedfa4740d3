"""--mode=evaluate: a trained model -> predictions.csv, boxes.csv, metrics.json,
calibration.json.

The device's work is stored part by part under <workdir>/evaluation/<key>, so
that an interrupted evaluation goes on; `key` stands for everything that moves
a figure. The csv files (stored_rows.py, measures.py) are written from the
parts, and every figure from the csv files (summary.py).
"""

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cxr import (
  data,
  files,
  heatmaps,
  inference,
  losses,
  run_files,
  sharding,
  stored_rows,
)
from cxr.evaluation import (
  attack_flags,
  localize,
  measure_attacks,
  measure_maps,
  measures,
  named_attacks,
  summary,
)
from cxr.exporting import boxes_and_masks
from cxr.inference import Subject, by_index, predict_split
from cxr.localization import thresholds
from cxr.reporting import card, pages, wording
from input_pipeline import workers
from input_pipeline.findings import FINDINGS

# Name in config.evaluate.measures -> (subject) -> rows of measures.csv.
MEASURES: dict[str, Callable[[Subject], list[measures.Measure]]] = {
  'alignment': measure_attacks.alignment,
  'targeted': measure_attacks.targeted,
  'under_attack': measure_attacks.under_attack,
  'maps': measure_maps.whole_maps,  # sameness, outside_body, completeness_gap
  'stability': measure_maps.stability,
  'randomisation': measure_maps.randomisation,
  'faithfulness': measure_maps.faithfulness,  # insertion, deletion
  'causes': measure_maps.causes,  # of phantoms: effects, maps on what causes
}
# What config.evaluate.export may ask for; see localize_export.py.
EXPORTS = ('coco', 'chexlocalize')


def evaluate(config: ConfigDict, workdir: str) -> None:
  """Evaluates the workdir's checkpoint and writes all results.

  Raises:
    FileNotFoundError: the workdir has no checkpoint.
    ValueError: the config or the data do not fit.
  """
  mesh = sharding.make_mesh()
  config, model, variables, step = inference.load_model(workdir, config)
  variables = sharding.replicate(mesh, variables)
  splits = data.load(config)
  described = data.write_summary(workdir, config, splits)
  parts = _parts_folder(workdir, config, step, described)

  of = Subject(config, model, variables, mesh, splits)
  test = splits['test']
  blocks, audits = _predictions(of, parts)
  rows, map_size = _boxes(config, model, variables, mesh, test, parts)
  logits = blocks[stored_rows.Condition('test')].logit
  _examples(config, model, variables, mesh, test, rows, logits, workdir)
  measured = _measures(of, parts)
  checks = _checks(of, parts)
  if jax.process_index() == 0:
    details = {
      'step': step,
      'batch_stats': config.evaluate.batch_stats,
      'audits': audits,
      'attack_checks': checks,
      'map_size': map_size,
    }
    _write_results(config, workdir, blocks, rows, measured, details)
    if 'coco' in config.evaluate.export:
      rule = thresholds.main_rule(config.evaluate.rules)
      films = data.boxed_films(test)
      boxes_and_masks.write_coco(parts, films, rows, logits, rule=rule)
    if config.evaluate.export:
      logging.info('Files for other tools: %s', parts)
  # Who leaves first waits five minutes for the others, and no longer.
  sharding.wait_for_all('results')


def _write_results(config, workdir, blocks, rows, measured, details) -> None:
  stored_rows.write_predictions(
    os.path.join(workdir, 'predictions.csv'), blocks
  )
  stored_rows.write_boxes(os.path.join(workdir, 'boxes.csv'), rows)
  measures.write(os.path.join(workdir, 'measures.csv'), measured)
  files.write_json(os.path.join(workdir, 'evaluation.json'), details, indent=2)
  summarize(config, workdir)


def summarize(config: ConfigDict, workdir: str) -> None:
  """metrics.json, calibration.json, card and page from the csv files.

  Raises:
    FileNotFoundError, ValueError: the workdir was not evaluated, or by a
      version that wrote less.
  """
  described = run_files.read(workdir, 'data.json', 'splits')
  details = run_files.read(
    workdir, 'evaluation.json', 'step', 'batch_stats', 'audits', 'map_size'
  )
  figures = summary.summarize(
    workdir, num_resamples=config.evaluate.num_resamples, seed=config.seed
  )
  for entry in figures['robustness']:
    entry |= details['audits'].get(
      f'{entry["attack"]} {entry["epsilon"]:g}', {}
    )
  figures['localization']['map_size'] = details['map_size']
  clean = figures['classification'].get('test', {}).get('auroc', {}).get('mean')
  flags = attack_flags.of_figures(clean, figures['robustness'])
  metrics = {
    'data': described,
    'versions': versions(),
    'step': details['step'],
    'warnings': measure_maps.warnings(figures['measures']),
    **figures,
    'attack_checks': details.get('attack_checks', []) + flags,
  }
  files.write_json(os.path.join(workdir, 'metrics.json'), metrics, indent=2)
  if 'fitted' in figures['calibration']:
    files.write_json(
      os.path.join(workdir, 'calibration.json'),
      {
        'step': details['step'],
        'batch_stats': details['batch_stats'],
        **figures['calibration']['fitted'],
      },
      indent=2,
    )
  card.write(workdir)
  pages.write(workdir)


def versions() -> dict[str, str]:
  """What the figures were made with."""
  packages = 'jax', 'flax', 'optax', 'numpy', 'scipy', 'tensorflow-cpu'
  found = {'python': platform.python_version()}
  for name in packages:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue  # another build of it, under another name
  return found | {'device': jax.devices()[0].device_kind}


# Parts.


def _parts_folder(workdir, config, step, described) -> str:
  moves_figures = config.evaluate.to_dict() | {
    'step': step,
    'seed': config.seed,
    'splits': {k: v['content_sha256'] for k, v in described['splits'].items()},
    'size': config.data.image_size,
  }
  for name in (
    'num_resamples',
    'batch_size',
    'chunk',
    'save_maps',
    'export',
    # In the names of their own parts.
    'attacks',
    'queries',
    'measures',
    'measure_films',
    'sanity_films',
    'check_films',
  ):
    moves_figures.pop(name)
  text = json.dumps(moves_figures, sort_keys=True, default=str)
  key = hashlib.sha256(text.encode()).hexdigest()[:12]
  folder = os.path.join(workdir, 'evaluation', key)
  os.makedirs(folder, exist_ok=True)
  return folder


def _stored(path: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
  """What `compute` returned the first time."""
  if os.path.exists(path):
    return np.load(path, allow_pickle=False)
  value = compute()
  if jax.process_index() == 0:
    with files.replacing(path, '.npy') as temporary:
      np.save(temporary, value)
  return value


def _save_maps(path: str, name: np.ndarray, maps: np.ndarray) -> None:
  with files.replacing(path, '.npz') as temporary:
    np.savez_compressed(temporary, name=name, maps=maps)


# Logits, clean and attacked.


def _predictions(
  of: Subject, parts: str
) -> tuple[dict[stored_rows.Condition, stored_rows.Predictions], dict]:
  """Blocks of predictions.csv, and the audit of each attack."""
  config, model, splits = of.config, of.model, of.splits
  blocks = {}

  def logits_of(name, split, **options):
    return _stored(
      os.path.join(parts, f'{name}.npy'),
      lambda: predict_split(of, split, **options),
    )

  for name, split in splits.items():
    if name != 'train' and len(split.label):
      logging.info('Predicting %s: %d films.', name, len(split.label))
      blocks[stored_rows.Condition(name)] = _block(split, logits_of(name, name))

  test = splits['test']
  rows = inference.subset(test, config.evaluate.attack_films or len(test.label))
  audits = {}
  # Made once: every epsilon is a run of the same program.
  made = {
    name: named_attacks.make(config, model, name)
    for name in config.evaluate.attacks
  }
  for epsilon in config.evaluate.epsilons:
    under = {}
    for name, attack in made.items():
      label = named_attacks.label(config, name)
      logging.info(
        'Attacking %d test films: %s, epsilon %g/255.',
        len(rows),
        label,
        epsilon,
      )
      audit = named_attacks.Audit(epsilon / 255, config.evaluate.norm)
      attack = by_index(
        audit.watch(attack),
        jax.random.key(config.seed),
        epsilon=jnp.float32(epsilon / 255),
      )
      part = f'{label}-{epsilon:g}'
      under[label] = logits_of(part, 'test', index=rows, attack=attack)
      audits[f'{label} {epsilon:g}'] = audit.stored(
        os.path.join(parts, f'{part}.json')
      ) | {'norm': config.evaluate.norm}
    if len(under) > 1:
      under['worst_case'] = worst_logits(
        np.stack(list(under.values())), test.label[rows]
      )
      audits[f'worst_case {epsilon:g}'] = {'norm': config.evaluate.norm}
    for label, logits in under.items():
      condition = stored_rows.Condition('test', label, float(epsilon))
      blocks[condition] = _block(test, logits, rows)
  return blocks, audits


def worst_logits(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
  """Of 'a n k' logits under a attacks, each film's at its largest loss."""
  loss = np.asarray(losses.sigmoid_cross_entropy(logits, label[None]))
  return logits[loss.argmax(0), np.arange(len(label))]


def _block(split, logits, rows=slice(None)) -> stored_rows.Predictions:
  return stored_rows.Predictions(
    split.image_name[rows],
    split.patient[rows],
    split.view[rows],
    split.age[rows],
    split.sex[rows],
    split.label[rows],
    logits,
  )


# Boxes.


def _boxes(
  config, model, variables, mesh, split, parts
) -> tuple[list[dict], dict[str, tuple[int, int]]]:
  """Rows of boxes.csv, and the native grid of each method's maps."""
  films = data.boxed_films(split)
  if not len(films.row):
    logging.warning('No test film has a box: localization is left out.')
    return [], {}
  grids = heatmaps.map_sizes(config, model, variables)
  size = (config.data.image_size,) * 2
  rows = []
  # They score maps while the device makes the next ones.
  with workers.pool() as executor:
    waiting = []
    for name, maps in _all_maps(
      config, model, variables, mesh, split, films, grids, size, parts
    ):
      path = os.path.join(parts, f'boxes-{name}.json')
      if maps is None or jax.process_index():
        waiting.append((name, path, None))
        continue
      waiting.append(
        (
          name,
          path,
          [
            executor.submit(
              localize.score,
              maps(finding),
              films.truth[:, finding],
              films.patient,
              config.evaluate.rules,
            )
            for finding in range(films.truth.shape[1])
          ],
        )
      )
    for name, path, futures in waiting:
      if futures is not None:
        by_finding = [future.result() for future in futures]
        found = localize.rows_of(films, name, by_finding)
        files.write_json(path, localize.to_plain(found))
  # The rows say which films are examples, so every process needs them.
  sharding.wait_for_all('boxes')
  for _, path, _ in waiting:
    rows += localize.from_plain(files.read_json(path))
  return rows, grids


def _all_maps(
  config, model, variables, mesh, split, films, grids, size, parts
) -> Iterator[tuple[str, Callable | None]]:
  """(method, finding -> 'n h w'), None where the part is stored."""
  chexlocalize = 'chexlocalize' in config.evaluate.export

  def done(name, *, of_model=False):
    needed = [f'boxes-{name}.json']
    if of_model and config.evaluate.save_maps:
      needed.append(f'maps-{name}.npz')
    if of_model and chexlocalize:
      needed += boxes_and_masks.chexlocalize_files(name)
    return all(os.path.exists(os.path.join(parts, f)) for f in needed)

  batch_size = sharding.round_up(mesh, config.evaluate.batch_size)
  key = jax.random.key(config.seed)
  random_variables = sharding.replicate(
    mesh, model.init(jax.random.fold_in(key, 1), jnp.zeros((1, *size, 1)))
  )
  for method in config.evaluate.methods:
    for name, moved, of in (
      (method, method + wording.MOVED, variables),
      (method + wording.RANDOM_WEIGHTS, None, random_variables),
    ):
      if done(name, of_model=True) and (moved is None or done(moved)):
        yield from ((which, None) for which in (name, moved) if which)
        continue
      logging.info('Maps of %d boxed films: %s.', len(films.row), name)
      maps = heatmaps.compute_maps(
        heatmaps.make_maps(config, model, method),
        of,
        key,
        mesh,
        split,
        films.row,
        batch_size=batch_size,
      )
      if jax.process_index() == 0:
        if config.evaluate.save_maps:
          _save_maps(os.path.join(parts, f'maps-{name}.npz'), films.name, maps)
        if chexlocalize:
          rule = thresholds.main_rule(config.evaluate.rules)
          boxes_and_masks.write_chexlocalize(
            parts, name, films, maps, rule=rule
          )
      # Contiguous by finding: a worker is sent its finding's maps alone.
      yield name, lambda f, maps=maps: np.ascontiguousarray(maps[..., f])
      if moved:
        yield (
          moved,
          lambda f, maps=maps: localize.moved_maps(
            maps[..., f], films, f, seed=config.seed
          ),
        )
  for name in localize.CONTROLS:
    yield (
      name,
      None
      if done(name)
      else lambda f, name=name: localize.control_maps(
        name,
        films,
        f,
        grid=grids[config.evaluate.methods[0]],
        size=size,
        seed=config.seed,
      ),
    )


# Whatever else is measured of a film.


def _measures(of: Subject, parts: str) -> list[measures.Measure]:
  found = []
  films = (
    f'{of.config.evaluate.measure_films}-{of.config.evaluate.sanity_films}'
  )
  for name in of.config.evaluate.measures:
    path = os.path.join(parts, f'measures-{name}-{films}.csv')
    if not os.path.exists(path):
      logging.info('Measuring: %s.', name)
      measured = MEASURES[name](of)
      if jax.process_index():
        continue  # the first process writes and reads
      measures.write(path, measured)
    found += measures.read(path)
  return found


def _checks(of: Subject, parts: str) -> list[dict]:
  films = of.config.evaluate.check_films
  path = os.path.join(parts, f'checks-{films}.json')
  if films and not os.path.exists(path):
    logging.info('Checking the attacks on %d test films.', films)
    flags = attack_flags.run(of)
    if jax.process_index() == 0:
      files.write_json(path, flags)
  if jax.process_index() or not films:
    return []  # the first process writes and reads
  flags = files.read_json(path)
  for flag in flags:
    if flag['raised']:
      logging.warning('%s: %s', flag['name'], flag['why'])
  return flags


# The gallery.


def _examples(
  config, model, variables, mesh, split, rows, logits, workdir
) -> None:
  films = data.boxed_films(split)
  path = os.path.join(workdir, 'examples.npz')
  if not len(films.row):
    return
  rule = thresholds.main_rule(config.evaluate.rules)
  first = config.evaluate.methods[0], rule
  ious = np.full(films.truth.shape[:2], np.nan)
  place = {name: i for i, name in enumerate(films.name)}
  for row in rows:
    if (row['method'], row['rule']) == first:
      ious[place[row['image']], FINDINGS.index(row['finding'])] = row['iou']
  chosen = localize.choose_examples(films, ious)
  shown = np.unique([film for film, _, _ in chosen])
  maps = {}
  for method in config.evaluate.methods:
    some = heatmaps.compute_maps(
      heatmaps.make_maps(config, model, method),
      variables,
      jax.random.key(config.seed),
      mesh,
      split,
      films.row[shown],
      batch_size=sharding.round_up(mesh, min(32, config.evaluate.batch_size)),
    )
    maps[method] = dict(zip(shown, some, strict=True))
  if jax.process_index() == 0:
    localize.save_examples(path, films, split, chosen, maps, logits)
