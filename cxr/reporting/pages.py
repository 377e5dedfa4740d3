"""Pages: one run, several runs compared, a user's own films.

Each is a single HTML file that needs nothing else: no network, no second file.
What it shows is a function of the files in a workdir (config.json, data.json,
train.jsonl, metrics.json, boxes.csv, examples.npz, MODEL_CARD.md), so that it
can be made again at any time; a part whose file or figures are absent is left
out.

A part of a page is what its template shows: sentences, tiles, drawings {'svg',
'caption'} and groups of tables; None or empty where the run has no such figure.
The modules report_*.py make them. Estimates are as in tables.py, films with
maps as in gallery.py.
"""

import csv
import json
import os
import re
from collections.abc import Mapping, Sequence

import jinja2
import markupsafe
import numpy as np

from cxr import files
from cxr.reporting import (
  gallery,
  part_answer,
  part_classification,
  part_comparison,
  part_localization,
  part_measures,
  part_origin,
  part_robustness,
  published,
  tables,
)

TEMPLATES = os.path.join(os.path.dirname(__file__), 'templates')
SECTIONS = {
  'figure': 'Figure',
  'films': 'Films and maps',
  'localization': 'Localization',
  'classification': 'Classification',
  'calibration': 'Calibration',
  'robustness': 'Robustness',
  'measures': 'Measures',
  'training': 'Training',
  'data': 'Data',
  'card': 'Model card',
  'configuration': 'Configuration',
  'probabilities': 'Probabilities',
}


def write(workdir) -> str:
  """Write `workdir`/report.html and return its path.

  Raises:
    FileNotFoundError: there is no such folder.
  """
  workdir = os.fspath(workdir)
  if not os.path.isdir(workdir):
    raise FileNotFoundError(f'No folder {workdir}; run --mode=train first.')
  metrics = _json(workdir, 'metrics.json')
  data = _json(workdir, 'data.json') or metrics.get('data', {})
  config = _json(workdir, 'config.json')
  localization = metrics.get('localization', {})
  rule = part_answer.main_rule(localization)
  caveat = _caveat(metrics, data)
  return _render(
    'report.html',
    os.path.join(workdir, 'report.html'),
    title=config.get('name') or os.path.basename(os.path.normpath(workdir)),
    kicker='Chest x-ray classification, robustness and localization',
    answer=part_answer.answer(metrics),
    tiles=part_answer.tiles(metrics),
    warnings=[
      *metrics.get('warnings', ()),
      *part_robustness.check_warnings(metrics),
    ],
    sections={
      'localization': part_localization.localization(metrics, caveat),
      'films': gallery.gallery(
        _examples(workdir, rule),
        rule=rule,
        sizes=localization.get('map_size'),
      ),
      'classification': part_classification.classification(
        metrics, data, caveat
      ),
      'calibration': part_classification.calibration(metrics),
      'robustness': part_robustness.robustness({'': metrics}),
      'measures': part_measures.measures(metrics),
      'training': part_origin.training(
        files.read_json_lines(os.path.join(workdir, 'train.jsonl'))
      ),
      'data': part_origin.data_part(data),
      'card': _unwrapped(_text(workdir, 'MODEL_CARD.md')),
      'configuration': part_origin.configuration(
        config, metrics.get('versions', {})
      ),
    },
  )


def write_comparison(path, workdirs: Sequence, comparison: Mapping) -> str:
  """Write the page that sets runs side by side, and its figure as a PNG.

  Args:
    path: of the page; the figure stands beside it with the ending .png.
    workdirs: the runs' folders, in the comparison's order.
    comparison: 'runs' (names), 'classification', 'robustness', 'localization'
      and 'measures', with entries as in report_compare.py.

  Returns:
    The page's path.
  """
  path = os.fspath(path)
  names = list(comparison['runs'])
  folders = dict(zip(names, map(os.fspath, workdirs), strict=True))
  metrics = {n: _json(folder, 'metrics.json') for n, folder in folders.items()}
  configs = {n: _json(folder, 'config.json') for n, folder in folders.items()}
  localization = metrics[names[0]].get('localization', {})
  rule = part_answer.main_rule(localization)
  cases = part_comparison.shared_cases(
    {name: _examples(folder, rule) for name, folder in folders.items()}
  )
  image = os.path.splitext(path)[0] + '.png'
  return _render(
    'compare.html',
    path,
    title=', '.join(names[:-1]) + ' and ' + names[-1],
    kicker='Runs compared on the same films',
    answer=part_comparison.answer(comparison),
    tiles=part_comparison.tiles(comparison),
    headline=part_comparison.headline(comparison),
    sections={
      'figure': part_comparison.paper_figure(cases, names, image),
      'films': gallery.gallery(
        [{'run': name} | case[name] for case in cases for name in names],
        rule=rule,
        sizes=localization.get('map_size'),
      ),
      'localization': part_comparison.localization(comparison, metrics),
      'classification': part_comparison.classification(comparison),
      'robustness': part_comparison.robustness(comparison, metrics),
      'measures': part_comparison.measures(comparison),
      'configuration': part_comparison.configuration(configs),
    },
  )


def write_explain(
  path,
  cases: Sequence[Mapping],
  *,
  title: str = 'Films explained',
  level: int = gallery.LEVEL,
  operating_points: Mapping | None = None,
  left_out: Sequence[str] = (),
) -> str:
  """Write the page of a user's own films and return its path.

  Args:
    path: of the page.
    cases: {'name', 'image' uint8 'h w', 'warnings': [str], 'findings':
      [{'finding', 'probability', 'truth': [box], 'maps': {method: 'u v'},
      'boxes': {method: [box]}}]}; truth, maps and boxes may be absent, and
      'calibrated' and 'called' (1, 0 or None) may be there.
    title: of the page.
    level: of 255, where the slider for the box threshold stands at first.
    operating_points: what calibration.json holds.
    left_out: a sentence each, such as on files that could not be read.
  """
  flat = [
    {'maps': {}} | dict(found) | {key: case.get(key, ()) for key in _FILM}
    for case in cases
    for found in case['findings']
  ]
  warned = sum(bool(case.get('warnings')) for case in cases)
  answer = f'{tables.count(len(cases), "film")}: probabilities, maps and boxes.'
  if warned:
    answer += (
      f' {tables.count(warned, "film")} with a warning, marked in the list of '
      'films; read it first.'
    )
  return _render(
    'explain.html',
    os.fspath(path),
    title=title,
    kicker='The output of a network, not a diagnosis',
    answer=answer,
    warnings=left_out,
    sections={
      'films': gallery.gallery(flat, level=level, choose_film=True),
      'probabilities': _probabilities(cases, operating_points),
    },
  )


_FILM = ('name', 'image', 'warnings')


def _probabilities(cases, stored):
  findings = dict.fromkeys(f['finding'] for c in cases for f in c['findings'])
  columns = [tables.column(text) for text in ('film', *findings)]
  notes = []
  if any(len(case['findings']) < len(findings) for case in cases):
    notes.append(f'{tables.UNDEFINED} not among the findings shown of a film.')

  def rows(cell, *more):
    return [
      tables.row(
        tables.text_cell(case['name']),
        *(
          cell({f['finding']: f for f in case['findings']}.get(finding, {}))
          for finding in findings
        ),
        *(tables.text_cell(text(case), wrap=True) for text in more),
      )
      for case in cases
    ]

  found = [
    tables.table(
      'probabilities-table',
      'Probability',
      [*columns, tables.column('warnings')],
      rows(
        lambda f: tables.number_cell(f.get('probability')),
        lambda case: ' '.join(case.get('warnings', ())),
      ),
      notes=notes,
    )
  ]
  if stored:
    found += [
      tables.table(
        'calibrated-table',
        'Calibrated probability, and whether the finding is called',
        columns,
        rows(_called_cell),
        notes=notes,
      ),
      part_classification.operating_points(stored),
    ]
  return tables.group(found)


def _called_cell(found):
  cell = tables.number_cell(found.get('calibrated'))
  if found.get('called') is not None:
    cell['sub'] = ['called' if found['called'] else 'not called']
  return cell


# Reading a workdir.


def _json(workdir, name):
  path = os.path.join(workdir, name)
  return files.read_json(path) if os.path.exists(path) else {}


def _text(workdir, name):
  path = os.path.join(workdir, name)
  if not os.path.exists(path):
    return ''
  with open(path, encoding='utf-8') as file:
    return file.read()


def _unwrapped(markdown):
  """A paragraph a line: a phone's lines end elsewhere. Tables stay."""
  return re.sub(r'(?<=[^\n|])\n *(?=[^\n |#*])', ' ', markdown)


def _examples(workdir, rule):
  """Cases of examples.npz, with the boxes that the run was scored with."""
  path = os.path.join(workdir, 'examples.npz')
  if not os.path.exists(path):
    return []
  with np.load(path, allow_pickle=False) as stored:
    arrays = dict(stored)
  methods = [n.removeprefix('map_') for n in arrays if n.startswith('map_')]
  boxes = _stored_boxes(
    workdir, rule, set(zip(arrays['name'], arrays['finding'], strict=True))
  )
  cases = []
  for i, (name, finding) in enumerate(
    zip(arrays['name'].tolist(), arrays['finding'].tolist(), strict=True)
  ):
    truth = arrays['truth'][i]
    cases.append(
      {
        'name': name,
        'image': arrays['image'][i],
        'finding': finding,
        'kind': str(arrays['kind'][i]),
        'probability': float(arrays['probability'][i]),
        'truth': [truth.tolist()] if np.isfinite(truth).all() else [],
        'maps': {m: arrays[f'map_{m}'][i] for m in methods},
        'boxes': {
          m: boxes[name, finding, m]
          for m in methods
          if (name, finding, m) in boxes
        },
      }
    )
  return cases


def _stored_boxes(workdir, rule, wanted):
  """(image, finding, method) -> predicted boxes, of the wanted films only."""
  path, found = os.path.join(workdir, 'boxes.csv'), {}
  if not os.path.exists(path):
    return found
  # A speckled map has thousands of boxes in one cell.
  csv.field_size_limit(2**31 - 1)
  with open(path, newline='', encoding='utf-8') as file:
    for row in csv.DictReader(file):
      image, finding, method, of_rule = (
        files.unescape_cell(row[key])
        for key in ('image', 'finding', 'method', 'rule')
      )
      if of_rule == rule and (image, finding) in wanted:
        found[image, finding, method] = json.loads(row['boxes'] or '[]')
  return found


def _caveat(metrics, data):
  """Why Wang's figures may stand beside these; '' where they may not."""
  if 'nih' not in (data.get('name'), metrics.get('data', {}).get('name')):
    return ''
  return published.caveat(
    part_origin.splits(data).get('test', {}).get('images'),
    sum(metrics.get('localization', {}).get('count', {}).values()),
  )


# The page.


def _render(template, path, *, sections, **context):
  """Written beside and renamed: a reader never sees half a page."""
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  for asset in ('css', 'js'):
    name = os.path.join(TEMPLATES, f'page.{asset}')
    with open(name, encoding='utf-8') as file:
      context[asset] = markupsafe.Markup(file.read())
  page = environment.get_template(template).render(
    contents=[(id, SECTIONS[id]) for id, part in sections.items() if part],
    **sections,
    **context,
  )
  files.replace_file(path, lambda f: f.write(page))
  return path
