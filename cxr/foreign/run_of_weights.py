"""A run that is made of weights from elsewhere, and so evaluated as they are.

Such a run has what a training leaves, without a step of one: config.json,
data.json and a checkpoint of step 0 that holds the file's weights and BatchNorm
statistics. Whatever reads a run reads it. `weights.json` says where the weights
come from, and `weights.csv` lists the file's arrays. config.json is written
last: where it is absent, the run is made again from its beginning.

The architecture, the pixels and what an export says of its training are taken
from the file. Its outputs are matched with the findings of the films by name;
the run knows the findings that match, and no others.
"""

import csv
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from ml_collections import ConfigDict

from cxr import (
  checkpoint,
  data,
  files,
  film_hashes,
  platforms,
  run_files,
  sharding,
  train_state,
)
from cxr.exporting import companions
from cxr.models import (
  architectures,
  foreign_weights,
  origins,
  recognition,
  torch_weights,
  torchxrayvision,
)
from cxr.models.foreign_weights import Weights
from cxr.models.origins import Origin
from cxr.reporting import part_origin
from input_pipeline import findings as findings_lib
from input_pipeline import pipeline, synonyms

ARRAYS = 'weights.csv'
# Fields that a user may have otherwise than the file says.
_FREE = ('model.dtype', 'model.output_stride', 'seed')


class Start(NamedTuple):
  """What a run of step 0 is made of: weights from elsewhere, and its config."""

  origin: Origin
  weights: Weights
  config: ConfigDict


def find(
  config: ConfigDict, overrides: Mapping[str, Any], workdir: str
) -> Start:
  """Reads the weights of config.model.init_from.

  Args:
    config: of the command line.
    overrides: the fields that the user set, by dotted name.
    workdir: of the run; its last part becomes the run's name.

  Raises:
    FileNotFoundError, ValueError: the file is absent, is no weights file or of
      no network that is known here; or an override contradicts it.
  """
  origin = origins.find(config.model.init_from, config.seed)
  weights = foreign_weights.read(origin.path, config.model, '')
  fields = {
    f'model.{name}': value
    for name, value in recognition.fields(weights, origin.exported).items()
  } | _exported_fields(config, origin.exported, weights.metadata)
  for name, value in fields.items():
    given = overrides.get(name, value)
    if given != value and name not in _FREE:
      raise ValueError(
        f'config.{name} ({given!r} here) is {value!r} in {origin.stated}, '
        'whose weights are evaluated as they are; leave it out.'
      )
  fields |= {name: overrides[name] for name in _FREE if name in overrides}
  name = os.path.basename(os.path.abspath(workdir))
  if 'name' not in overrides and re.fullmatch(r'\w[\w.+-]{0,99}', name):
    fields['name'] = name
  config = config.copy_and_resolve_references()
  with config.ignore_type():  # three means in the place of one
    config.update_from_flattened_dict(fields)
  return Start(origin, weights, config)


def _exported_fields(
  config: ConfigDict, exported: Mapping, metadata: Mapping
) -> dict[str, Any]:
  """What an export says of the run that it came from, by name of a field."""
  size = exported.get('input', {}).get('height') or metadata.get('image_size')
  fields = {'data.image_size': int(size)} if size else {}
  trained = run_files.flat(_trained_config(exported))
  kept = ('attack.', 'augment.', 'loss.', 'train.')
  fields |= {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in trained.items()
    if name.startswith(kept) or name == 'seed'
  }
  known = run_files.flat(config)
  return {name: value for name, value in fields.items() if name in known}


def _trained_config(exported: Mapping) -> dict:
  """The config of the run that an export came from; {} of other files."""
  training = exported.get('training') or {}
  # An older export has these fields alone.
  older = {
    'model': {'arch': exported.get('arch')},
    'attack': training,
    'data': {'source': training.get('data', '')},
  }
  return exported.get('run') or (older if training else {})


def check_same_file(workdir: str, config: ConfigDict) -> None:
  """Refuses a second file for a run that was made of another.

  Raises:
    ValueError: the workdir's weights are of other bytes, or were trained.
  """
  stored = run_files.read_weights_from(workdir)
  trained_from = run_files.read_config(workdir).model.init_from
  if not stored and trained_from == config.model.init_from:
    return  # the training began with the file
  if not stored:
    raise ValueError(
      f'{workdir} holds a run that was trained; to evaluate the weights of '
      f'{config.model.init_from} as they are, choose another --workdir.'
    )
  origin = origins.find(config.model.init_from, config.seed)
  if origin.sha256 != stored['sha256']:
    raise ValueError(
      f'{workdir} holds the evaluation of other weights '
      f'({stored["init_from"]}, SHA-256 {stored["sha256"][:12]}…) than '
      f'{origin.stated} ({origin.sha256[:12]}…); choose another --workdir.'
    )


def check_trained(workdir: str) -> None:
  """Raises ValueError where the run was made of weights from elsewhere."""
  stored = run_files.read_weights_from(workdir)
  if stored:
    raise ValueError(
      f'{workdir} holds the weights of {stored["init_from"]}, evaluated as '
      'they are; to train from them choose another --workdir.'
    )


def make_run(start: Start, workdir: str) -> None:
  """Makes the run, and says what was matched and what was left out.

  Raises:
    ValueError: no output of the file is a finding of the films, an array is not
      finite, or the workdir holds something else.
  """
  origin, weights, config = start
  splits = data.load(config, ('validation', 'test'))
  known = next(iter(splits.values())).findings
  table = synonyms.read(config.data.synonyms)
  weights, notes = _with_named_outputs(weights, known)
  taken = torch_weights.columns(weights.outputs, known, table)
  findings = tuple(name for name in known if name in taken)
  if not findings:
    raise ValueError(
      f'None of the {len(weights.outputs)} outputs of {origin.stated} '
      f'({_listed(weights.outputs)}) is a finding of the films '
      f'({_listed(known)}). If a name means the same as another, say so in a '
      'csv with the columns name and finding (--config.data.synonyms); or name '
      "the file's outputs in their order with config.model.init_findings."
    )
  _check_finite(weights)
  mesh = sharding.make_mesh()
  state, used = _state(weights, config, mesh, findings, taken)
  notes += _size_note(weights, config)
  record = _record(start._replace(weights=weights), known, taken, used, notes)
  _say(weights, record)

  aligned = data.with_findings(splits, findings, table)
  checkpoints = checkpoint.open_folder(workdir, config, findings, writes=True)
  later = checkpoint.step_of(checkpoints, 'latest')
  if later:
    raise ValueError(
      f'{workdir} has a checkpoint of step {later} and no config.json: it is '
      'what is left of a training; choose another --workdir.'
    )
  checkpoint.save(checkpoints, state, {})
  checkpoints.saver.close()
  if jax.process_index() == 0:
    path = lambda name: os.path.join(workdir, name)
    files.replace_file(path(ARRAYS), lambda f: _write_arrays(f, weights, used))
    seen = _seen_films(origin)
    if seen:
      film_hashes.write(path(companions.SEEN_FILMS), film_hashes.read(seen))
    files.write_json(path(run_files.WEIGHTS_FROM), record, indent=2)
    described = data.summary(config, _without_training(aligned))
    described['weights_from'] = {
      name: record[name]
      for name in (
        'file',
        'sha256',
        'trained',
        'films_known',
        'notes',
        'operating_points',
        'operating_points_from',
      )
    }
    files.write_json(path('data.json'), described, indent=2)
    run_files.write_config(workdir, config)
  sharding.wait_for_all('weights')


def _without_training(
  splits: Mapping[str, pipeline.Split],
) -> pipeline.Splits:
  """The splits but for the films that a training here would learn from."""
  kept = pipeline.Splits(
    {name: split for name, split in splits.items() if name != 'train'}
  )
  kept.left_out = getattr(splits, 'left_out', {})
  return kept


def _with_named_outputs(
  weights: Weights, known: Sequence[str]
) -> tuple[Weights, list[str]]:
  """The weights with a name for each output, and what has to be said of it."""
  num_outputs = len(weights.outputs)
  if any(weights.outputs):
    doubt = weights.doubt and [
      f'{findings_lib.tidy(weights.doubt)}. All named outputs are scored, and '
      'one that was never trained ranks films by chance'
    ]
    return weights, list(doubt or [])
  if num_outputs == len(known):
    return weights._replace(outputs=tuple(known)), [
      'the file does not name its outputs: they are taken for the '
      f'{num_outputs} findings of the films, in this order: {_listed(known)}. '
      'config.model.init_findings names them otherwise'
    ]
  raise ValueError(
    f'{weights.path} has {num_outputs} outputs and does not say which findings '
    f'they stand for, and the films have {len(known)} findings '
    f'({_listed(known)}); name the outputs in their order with '
    f'config.model.init_findings, {foreign_weights.NO_FINDING} for one that '
    'stands for no finding.'
  )


def _listed(names: Sequence[str], most: int = 20) -> str:
  named = [name for name in names if name]
  more = f' and {len(named) - most} more' if len(named) > most else ''
  return (', '.join(named[:most]) or 'without names') + more


def _check_finite(weights: Weights) -> None:
  """Refuses what no training gives: the file is damaged."""
  for name, value in weights.tensors.items():
    bad = '' if name.endswith('op_threshs') else _what_is_wrong(name, value)
    if bad:
      raise ValueError(
        f'{name} in {weights.path} {bad}; the file is damaged, or is not what '
        'its name says.'
      )


def _what_is_wrong(name: str, value: np.ndarray) -> str:
  value = np.asarray(value, np.float64)
  count = int((~np.isfinite(value)).sum())
  if count:
    return f'has {count} numbers of {value.size} that are not finite'
  if name.endswith('running_var') and value.size and value.min() < 0:
    return f'is a variance, and has {value.min():g}'
  return ''


def _state(weights, config, mesh, findings, taken):
  """The state of step 0, and the arrays of the file that went into it."""
  model = architectures.make_model(
    config.model, len(findings), platforms.of(mesh)
  )
  size = config.data.image_size
  shapes = jax.eval_shape(
    lambda key: train_state.create(
      model, optax.identity(), key, jnp.zeros((1, size, size, 1), jnp.float32)
    ),
    jax.random.key(0),
  )
  # All of it comes from the file: random weights would be compiled for nothing.
  state = sharding.replicate(
    mesh, jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  )
  variables, used = torch_weights.fill(
    weights, train_state.variables(state), config.model, findings, taken
  )
  return state.replace(**variables), used


def _size_note(weights: Weights, config: ConfigDict) -> list[str]:
  trained = torchxrayvision.SIZES[weights.family]
  if not weights.from_xrv or trained == config.data.image_size:
    return []
  return [
    f"TorchXRayVision's {weights.family} networks are made for films of "
    f'{trained} pixels a side, and these are shown {config.data.image_size}: '
    f'set config.data.image_size to {trained} for what they were trained on'
  ]


def _record(
  start: Start, known: Sequence[str], taken: Mapping[str, int], used, notes
) -> dict:
  """What weights.json holds."""
  origin, weights, config = start
  left_out = torch_weights.left_out_of_file(weights, used)
  counters = [n for n in weights.tensors if n.endswith('num_batches_tracked')]
  rows = set(taken.values())
  logits, points_from = _operating_points(start, taken)
  return {
    'init_from': origin.stated,
    'file': origin.name,
    'sha256': origin.sha256,
    'arch': config.model.arch,
    'num_filters': config.model.num_filters,
    'num_stages': config.model.num_stages,
    'pixels': weights.pixels,
    # What an export of ours was trained on; None: nobody says.
    'trained': _trained(origin),
    # Whether the films that they have seen can be told from the others.
    'films_known': _seen_films(origin) is not None,
    'findings': {
      finding: {'output': row, 'name': weights.outputs[row]}
      for finding, row in taken.items()
    },
    'outputs_left_out': [
      name or f'output {row}'
      for row, name in enumerate(weights.outputs)
      if row not in rows
    ],
    'findings_left_out': [name for name in known if name not in taken],
    'arrays': len(used),
    'arrays_left_out': left_out,
    'counters_left_out': len(counters),
    'operating_points': logits,
    'operating_points_from': points_from,
    'notes': notes,
  }


def _trained(origin: Origin) -> dict | None:
  """What an export says of its training; None of other files.

  Returns:
    'text', what the network is and was trained on; 'source', the data set;
    'films', how many (None: unknown).
  """
  config = _trained_config(origin.exported)
  if 'attack' not in config:
    return None
  beside = os.path.join(os.path.dirname(origin.path), 'data.json')
  stored = files.read_json(beside) if os.path.exists(beside) else {}
  if 'weights_from' in stored:  # it was itself made of weights from elsewhere
    return stored['weights_from']['trained']
  train = part_origin.splits(stored).get('train', {})
  return {
    'text': part_origin.network(config, stored),
    'source': config['data'].get('source') or stored.get('name'),
    'films': train.get('images'),
  }


def _seen_films(origin: Origin) -> str | None:
  """The file of hashes that an export has beside its weights."""
  path = os.path.join(os.path.dirname(origin.path), companions.SEEN_FILMS)
  return path if origin.exported and os.path.exists(path) else None


def _operating_points(
  start: Start, taken: Mapping[str, int]
) -> tuple[dict[str, float], str]:
  """({finding: the logit from which on it is called}, who says so)."""
  origin, weights, _ = start
  stored = (origin.exported.get('calibration') or {}).get('findings', {})
  if stored:
    points = {
      finding: stored.get(weights.outputs[row], {}).get('threshold')
      for finding, row in taken.items()
    }
    said = 'the export, fitted on the validation films of its training'
    return {k: v for k, v in points.items() if v is not None}, said
  if weights.points is None:
    return {}, ''
  points = {finding: weights.points[row] for finding, row in taken.items()}
  # NaN and what is no probability give no logit.
  return {
    finding: math.log(p / (1 - p)) for finding, p in points.items() if 0 < p < 1
  }, weights.points_from


def _write_arrays(f, weights: Weights, used: set[str]) -> None:
  rows = csv.writer(f, lineterminator='\n')
  rows.writerow(('array', 'shape', 'mean', 'deviation', 'taken'))
  for name, value in weights.tensors.items():
    shape, mean, deviation = _moments(value)
    taken = int(name in used)
    rows.writerow((files.escape_cell(name), shape, mean, deviation, taken))


def _moments(value: np.ndarray) -> tuple[str, float, float]:
  shape = 'x'.join(map(str, value.shape)) or 'number'
  value = np.asarray(value, np.float64)
  return shape, float(f'{value.mean():.6g}'), float(f'{value.std():.6g}')


def _say(weights: Weights, record: Mapping) -> None:
  """Logs what was matched, so that a load that failed is seen."""
  lines = [f'{"array":52} {"shape":>14} {"mean":>11} {"deviation":>11}']
  for name, value in weights.tensors.items():
    if name.endswith('num_batches_tracked'):
      continue
    shape, mean, deviation = _moments(value)
    left = '  left out' if name in record['arrays_left_out'] else ''
    lines.append(
      f'{name:52} {shape:>14} {mean:>11.4g} {deviation:>11.4g}{left}'
    )
  logging.info('Arrays of %s:\n%s', record['init_from'], '\n'.join(lines))
  logging.info(
    '%s is a %s of %d filters and %d stages; pixels: %s. SHA-256 %s.',
    record['init_from'],
    record['arch'],
    record['num_filters'],
    record['num_stages'],
    record['pixels'],
    record['sha256'],
  )
  logging.info(
    "Matched: %d arrays, which are all of the network's. Left out of the file: "
    '%d arrays (%s), %d counters of BatchNorm.',
    record['arrays'],
    len(record['arrays_left_out']),
    _listed(record['arrays_left_out']).replace('without names', 'none'),
    record['counters_left_out'],
  )
  matched = [
    f'{finding} (output {match["output"]}'
    + (')' if match['name'] == finding else f', {match["name"]})')
    for finding, match in record['findings'].items()
  ]
  logging.info('Findings matched: %d (%s).', len(matched), ', '.join(matched))
  for key, text in (
    ('outputs_left_out', 'Outputs of the file that are left out'),
    (
      'findings_left_out',
      'Findings of the films without an output, not scored',
    ),
  ):
    if record[key]:
      logging.warning(
        '%s: %d (%s).', text, len(record[key]), _listed(record[key])
      )
  for note in record['notes']:
    logging.warning('%s: %s.', record['init_from'], note)
