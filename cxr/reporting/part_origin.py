"""What a run came from, for its page: its training, data and configuration.

From train.jsonl, data.json and config.json. A part is empty where the run has
no such file.
"""

import json
from collections.abc import Mapping, Sequence

from cxr.reporting import plots, tables


def training(rows: Sequence[Mapping]) -> list[dict]:
  """Curves of what train.jsonl has."""
  figures = []
  for label, ylim, belongs in (
    ('loss', None, lambda key: key.endswith('loss')),
    ('AUROC', (0, 1), lambda key: key.endswith('auroc')),
    ('films per second', None, lambda key: key == 'films_per_second'),
  ):
    series = {}
    for row in rows:
      for key, value in row.items():
        if belongs(key) and 'step' in row and isinstance(value, int | float):
          series.setdefault(key, []).append((row['step'], value))
    if series:
      columns = {k: tuple(zip(*p, strict=True)) for k, p in series.items()}
      figures.append(
        plots.drawing(
          plots.curves(columns, xlabel='step', ylabel=label, ylim=ylim),
          f'{label[0].upper()}{label[1:]} over training steps',
          {k: [(x, {'value': y}) for x, y in p] for k, p in series.items()},
        )
      )
  return figures


def splits(data: Mapping) -> dict[str, Mapping]:
  """Split -> its counts."""
  return {
    name: counts
    for name, counts in data.get('splits', data).items()
    if isinstance(counts, Mapping) and 'images' in counts
  }


def data_part(data: Mapping) -> list[dict]:
  counts = splits(data)
  boxes = {
    name: of.get('boxes') if isinstance(of.get('boxes'), Mapping) else {}
    for name, of in counts.items()
  }
  table = tables.table(
    'splits',
    'Films, patients and boxes',
    [
      *map(tables.column, ('split', 'films', 'patients', 'boxes')),
      tables.column('SHA-256 of the sorted names'),
    ],
    [
      tables.row(
        tables.text_cell(tables.spelled(name)),
        tables.number_cell(of.get('images')),
        tables.number_cell(of.get('patients')),
        tables.number_cell(sum(boxes[name].values())),
        tables.text_cell(
          f'{of.get("sha256", "")[:16]}…', tsv=of.get('sha256', '')
        ),
      )
      for name, of in counts.items()
    ],
    notes=['The hash is cut here; what is copied has all of it.'],
  )
  findings = dict.fromkeys(
    f for of in counts.values() for f in of.get('positives', {})
  )
  positives = tables.table(
    'positives',
    'Positive films and true boxes per finding',
    [
      tables.column('finding'),
      *(tables.column(tables.spelled(name)) for name in counts),
      tables.column('boxes, test'),
    ],
    [
      tables.row(
        tables.text_cell(finding),
        *(
          tables.number_cell(of.get('positives', {}).get(finding))
          for of in counts.values()
        ),
        tables.number_cell(boxes.get('test', {}).get(finding)),
      )
      for finding in findings
    ],
  )
  left_out = tables.table(
    'left-out',
    'Left out',
    [tables.column('reason'), tables.column('films')],
    [
      tables.row(
        tables.text_cell(tables.spelled(reason)),
        tables.number_cell(n)
        if isinstance(n, int)
        else tables.text_cell(setting(n)),
      )
      for reason, n in flatten(data.get('left_out', {})).items()
    ],
  )
  return [tables.group([t]) for t in (table, positives, left_out) if t]


def configuration(config: Mapping, versions: Mapping) -> list[dict]:
  found = [
    tables.table(
      id,
      caption,
      [tables.column('field'), tables.column('value')],
      [
        tables.row(tables.text_cell(key), tables.text_cell(setting(value)))
        for key, value in flatten(values).items()
      ],
    )
    for id, caption, values in (
      ('config', 'config.json', config),
      ('versions', 'Versions', versions),
    )
  ]
  return [tables.group([t]) for t in found if t]


def flatten(tree: Mapping, prefix: str = '') -> dict:
  """Nested dicts -> dotted names."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, Mapping):
      flat |= flatten(value, f'{prefix}{key}.')
    else:
      flat[f'{prefix}{key}'] = value
  return flat


def setting(value) -> str:
  return value if isinstance(value, str) else json.dumps(value)
