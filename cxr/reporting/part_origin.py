"""The sections on what a run was made from: training, data, configuration.

They show train.jsonl, data.json and config.json; a section is left out where
the run has no such file.
"""

import json
from collections.abc import Mapping, Sequence

from cxr import run_files
from cxr.reporting import plots, tables, wording


def network(config: Mapping, data: Mapping) -> str:
  """'a resnet18 trained on phantom films without an attack'.

  Args:
    config: what config.json holds, of the training.
    data: what data.json holds; it names the films where the config does not.
  """
  given = data.get('weights_from')
  if given:
    return _from_elsewhere(config['model']['arch'], given)
  attack = config.get('attack', {})
  name = config.get('data', {}).get('source') or data.get('name', '')
  films = wording.SOURCES.get(name, name)
  text = f'a {config["model"]["arch"]} trained on {films}'
  if attack.get('objective') == 'clean':
    return f'{text} without an attack'
  return (
    f'{text} against an attack ({attack.get("objective")}, '
    f'{attack.get("norm")}, epsilon {attack.get("epsilon"):g}/255)'
  )


def _from_elsewhere(arch: str, given: Mapping) -> str:
  text = (
    f'a {arch} with the weights of {given["file"]} as they are (SHA-256 '
    f'{given["sha256"][:12]}…)'
  )
  trained = given.get('trained')
  if trained:
    return f'{text}, exported from {trained["text"]}'
  return f'{text}; on which films they were trained is not known'


def warnings(data: Mapping) -> list[str]:
  """What has to be said of weights that come from elsewhere; else []."""
  given = data.get('weights_from')
  if not given:
    return []
  notes = [f'{given["file"]}: {note}.' for note in given['notes']]
  if given['films_known']:
    return notes
  return [
    f'On which films the weights of {given["file"]} were trained is not known: '
    'test films may be among them, and then the estimates are too good.',
    *notes,
  ]


def training(records: Sequence[Mapping]) -> tables.Section | None:
  """Curves of the losses, of AUROC and of the speed in train.jsonl."""
  figures = []
  for label, ylim, belongs in (
    ('loss', None, lambda key: key.endswith('loss')),
    ('AUROC', (0, 1), lambda key: key.endswith('auroc')),
    ('films per second', None, lambda key: key == 'films_per_second'),
  ):
    curves = {}
    for record in records:
      for key, value in record.items():
        # A second slash stands before a finding, whose name may be anything.
        shown = key.count('/') < 2 and belongs(key)
        if shown and 'step' in record and isinstance(value, int | float):
          curves.setdefault(key, []).append((record['step'], {'value': value}))
    caption = f'{wording.capital(label)} over training steps'
    figures.append(plots.drawing(caption, curves, 'step', label, ylim=ylim))
  return tables.Section('training', 'Training', figures=figures)


def splits(data: Mapping) -> dict[str, Mapping]:
  """Split -> its counts, of data.json of any version."""
  return {
    name: counts
    for name, counts in data.get('splits', data).items()
    if isinstance(counts, Mapping) and 'images' in counts
  }


def _boxes(split):
  """Finding -> its boxes; an older version wrote their sum."""
  boxes = split.get('boxes')
  return boxes if isinstance(boxes, Mapping) else {}


def split_rows(stored: Mapping) -> list[dict]:
  """The size of every split, and what tells its films from others."""
  return [
    {
      'split': wording.spelled(name),
      'films': split.get('images'),
      'patients': split.get('patients'),
      'boxes': sum(_boxes(split).values()),
      'SHA-256 of the sorted names': split.get('sha256', ''),
    }
    for name, split in splits(stored).items()
  ]


def data(stored: Mapping) -> tables.Section | None:
  """How many films, findings and boxes every split has."""
  counts = splits(stored)
  rows = split_rows(stored)
  hash_column = list(rows[0])[-1] if rows else ''
  for row in rows:
    digest = row[hash_column]
    row[hash_column] = tables.text_cell(f'{digest[:16]}…', copied=digest)
  table = tables.table(
    'splits',
    'Films, patients and boxes',
    rows,
    'The hash is cut here; the button "Copy" copies all of it.',
  )
  positives = {s: split.get('positives', {}) for s, split in counts.items()}
  findings = dict.fromkeys(
    f for of_split in positives.values() for f in of_split
  )
  masks = counts.get('test', {}).get('masks', {})
  positive = tables.table(
    'positives',
    f'Positive films and true boxes{" and masks" if masks else ""} of each '
    'finding',
    [
      {
        'finding': finding,
        **{wording.spelled(s): positives[s].get(finding) for s in counts},
        'boxes, test': _boxes(counts.get('test', {})).get(finding),
        **({'masks, test': masks.get(finding)} if masks else {}),
      }
      for finding in findings
    ],
  )
  reasons = run_files.flat(stored.get('left_out', {})).items()
  left_out = tables.table(
    'left-out',
    'Films left out',
    [
      {
        'reason': wording.spelled(reason),
        'films': n if isinstance(n, int) else setting(n),
      }
      for reason, n in reasons
    ],
  )
  return tables.Section('data', 'Data', [table, positive, left_out])


def configuration(config: Mapping, versions: Mapping) -> tables.Section | None:
  """Every field of config.json, and the versions of the packages."""
  fields = lambda values: [
    {'field': key, 'value': setting(value)}
    for key, value in run_files.flat(values).items()
  ]
  shown = [
    tables.table('config', 'config.json', fields(config)),
    tables.table('versions', 'Versions', fields(versions)),
  ]
  return tables.Section(
    'configuration',
    'Configuration',
    shown,
    folded='Every field of config.json, and the versions of the packages',
  )


def evaluated(config: Mapping, metrics: Mapping) -> dict:
  """The run's config with the settings of the evaluation that made its figures.

  These may be others than config.json's, which are those of the training. What
  else the evaluation had otherwise (its films, its seed) stands in `evaluate`,
  too. The metrics of an older version do not say: the config stays.
  """
  own = (metrics.get('evaluation') or {}).get('config')
  if not own:
    return dict(config)
  trained = run_files.flat(config)
  others = {
    field: value
    for field, value in run_files.flat(own).items()
    if field == 'seed' or field.startswith(('data.', 'model.'))
    if trained.get(field) != value
  }
  return dict(config) | {'evaluate': own['evaluate'] | others}


def setting(value) -> str:
  """The value of a field as text."""
  return value if isinstance(value, str) else json.dumps(value)
