"""The pages: one run, several runs compared, a user's own films.

Each is one HTML file that needs nothing else: no network and no second file. It
shows what the files of a workdir hold (config.json, data.json, train.jsonl,
metrics.json, boxes.csv, examples.npz, MODEL_CARD.md), so that it can be made
again at any time. A page is a first screen and sections (tables.Section); a
section is left out where the run has no such file or result.
"""

import os
import re
from collections.abc import Mapping, Sequence

from cxr import files
from cxr.reporting import (
  examples,
  gallery,
  main_result,
  median_films,
  part_classification,
  part_comparison,
  part_localization,
  part_maps,
  part_measures,
  part_origin,
  part_published,
  part_readers,
  part_robustness,
  rendering,
  tables,
  wording,
)


def write(workdir: str | os.PathLike) -> str:
  """Writes `workdir`/report.html and returns its path.

  Raises:
    FileNotFoundError: there is no such folder.
  """
  workdir = os.fspath(workdir)
  if not os.path.isdir(workdir):
    raise FileNotFoundError(f'No folder {workdir}; run --mode=train first.')
  metrics = _json(workdir, 'metrics.json')
  data = _data(workdir, metrics)
  config = part_origin.evaluated(_json(workdir, 'config.json'), metrics)
  localization = metrics.get('localization', {})
  rule = main_result.main_rule(localization.get('methods', {}))
  caveat = part_published.caveat(metrics, data)
  records = files.read_json_lines(os.path.join(workdir, 'train.jsonl'))
  name = config.get('name') or os.path.basename(os.path.normpath(workdir))
  films = (metrics.get('evaluation') or {}).get('films')
  first, *others = main_result.answer(metrics)
  method = main_result.main_method(localization.get('methods', {}))
  cases = examples.read(workdir, rule)
  return _write(
    os.path.join(workdir, 'report.html'),
    title=f'{name} on {films}' if films else name,
    kicker='Localization by maps from elsewhere'
    if part_maps.given(metrics)
    else 'Chest x-ray classification, robustness and localization',
    answer=[first, *main_result.run(config, metrics, data), *others],
    medians=median_films.medians([{'': c} for c in cases], method, rule),
    tiles=main_result.tiles(metrics),
    warnings=[
      *part_maps.warnings(metrics),
      *part_origin.warnings(data),
      *metrics.get('warnings', ()),
      *part_robustness.check_warnings(metrics),
    ],
    sections=[
      part_localization.localization(metrics, caveat),
      _films(cases, rule=rule, sizes=localization.get('map_size')),
      part_classification.classification(metrics, data, caveat),
      part_readers.readers(metrics),
      part_classification.calibration(metrics),
      part_robustness.robustness({'': metrics}),
      part_measures.measures(metrics),
      part_maps.section(metrics),
      part_origin.training(records),
      part_origin.data(data),
      tables.Section(
        'card',
        'Model card',
        plain=_unwrapped(_text(workdir, 'MODEL_CARD.md')),
        folded='Intended use, data, results and limits, as in MODEL_CARD.md',
      ),
      part_origin.configuration(config, metrics.get('versions', {})),
    ],
  )


def write_comparison(
  path: str | os.PathLike, workdirs: Sequence, comparison: Mapping
) -> str:
  """Writes the page that sets runs side by side, and its figure as a PNG.

  Args:
    path: of the page; the figure stands beside it with the ending .png.
    workdirs: the runs' folders, in the comparison's order.
    comparison: 'runs' (names), 'classification', 'robustness', 'localization'
      and 'measures', with entries as in part_comparison.py.

  Returns:
    The page's path.
  """
  path = os.fspath(path)
  names = list(comparison['runs'])
  folders = dict(zip(names, map(os.fspath, workdirs), strict=True))
  metrics = {n: _json(folder, 'metrics.json') for n, folder in folders.items()}
  configs = {
    name: part_origin.evaluated(_json(folder, 'config.json'), metrics[name])
    for name, folder in folders.items()
  }
  data = [_data(folders[name], metrics[name]) for name in names]
  caveats = list(map(part_published.caveat, metrics.values(), data))
  caveat = caveats[0] if all(caveats) else ''
  localization = metrics[names[0]].get('localization', {})
  rule = main_result.main_rule(localization.get('methods', {}))
  shared = examples.shared(
    {name: examples.read(folder, rule) for name, folder in folders.items()}
  )
  return _write(
    path,
    title=wording.listed(names),
    kicker='Runs compared on the same films',
    answer=part_comparison.answer(comparison),
    medians=median_films.medians(
      shared,
      main_result.main_method(comparison.get('localization', {})),
      rule,
    ),
    tiles=part_comparison.tiles(comparison),
    headline=part_comparison.headline(comparison),
    warnings=comparison.get('warnings', ()),
    sections=[
      part_comparison.figure(shared, names, os.path.splitext(path)[0] + '.png'),
      _films(
        [{'run': name} | case[name] for case in shared for name in names],
        rule=rule,
        sizes=localization.get('map_size'),
      ),
      part_comparison.localization(comparison, metrics, caveat),
      part_comparison.classification(comparison),
      part_comparison.readers(comparison),
      part_comparison.robustness(comparison, metrics),
      part_comparison.measures(comparison),
      part_comparison.configuration(configs),
    ],
  )


def write_explain(
  path: str | os.PathLike,
  cases: Sequence[Mapping],
  *,
  title: str = 'Films explained',
  level: int = gallery.LEVEL,
  operating_points: Mapping | None = None,
  network: Sequence[str] = (),
  warnings: Sequence[str] = (),
) -> str:
  """Writes the page of a user's own films and returns its path.

  Args:
    path: of the page.
    cases: {'name', 'image' uint8 'h w', 'warnings': [str], 'findings':
      [{'finding', 'probability', 'truth': [box], 'maps': {method: 'u v'},
      'boxes': {method: [box]}}]}; truth, maps and boxes may be absent, and
      'calibrated' and 'called' (1, 0 or None) may be there.
    title: of the page.
    level: of 255, where the slider of the boxes stands at first.
    operating_points: what calibration.json holds.
    network: sentences on the network and on what it was trained on.
    warnings: a sentence each, such as on files that could not be read.
  """
  film = 'name', 'image', 'warnings'
  flat = [
    {'maps': {}} | dict(finding) | {key: case.get(key, ()) for key in film}
    for case in cases
    for finding in case['findings']
  ]
  warned = sum(bool(case.get('warnings')) for case in cases)
  answer = (
    f'This page shows {wording.count(len(cases), "film")} with the '
    'probabilities, maps and boxes that the network gives for each finding.'
  )
  if warned:
    films = wording.count(warned, 'film has', 'films have')
    answer += (
      f' {films} a warning, which the list of films marks: read it first.'
    )
  return _write(
    os.fspath(path),
    title=title,
    kicker='The output of a network, not a diagnosis',
    answer=[answer, *network],
    warnings=warnings,
    sections=[
      _films(flat, level=level, choose_film=True),
      _probabilities(cases, operating_points),
    ],
  )


def _probabilities(cases, stored):
  findings = list(
    dict.fromkeys(f['finding'] for c in cases for f in c['findings'])
  )
  notes = []
  if any(len(case['findings']) < len(findings) for case in cases):
    notes.append(
      f'{wording.UNDEFINED} the finding is not among those shown of the film.'
    )

  rows, calibrated = [], []
  for case in cases:
    of_film = {f['finding']: f for f in case['findings']}
    cells = {f: of_film.get(f, {}) for f in findings}
    warnings = ' '.join(case.get('warnings', ()))
    rows.append(
      {'film': case['name']}
      | {f: cell.get('probability') for f, cell in cells.items()}
      | {'warnings': tables.text_cell(warnings, wrap=True)}
    )
    calibrated.append(
      {'film': case['name']}
      | {f: _called_cell(cell) for f, cell in cells.items()}
    )
  shown = [tables.table('probabilities-table', 'Probability', rows, *notes)]
  if stored:
    caption = 'Calibrated probability, and whether the finding is called'
    shown += [
      tables.table('calibrated-table', caption, calibrated, *notes),
      part_classification.operating_points(stored),
    ]
  return tables.Section('probabilities', 'Probabilities', shown)


def _called_cell(finding):
  cell = tables.number_cell(finding.get('calibrated'))
  if finding.get('called') is None:
    return cell
  return cell._replace(below=('called' if finding['called'] else 'not called',))


def _films(cases, **options):
  films = gallery.gallery(cases, **options)
  return tables.Section('films', 'Films and maps', films=films)


def _write(
  path,
  *,
  sections,
  medians=None,
  tiles=(),
  warnings=(),
  headline=None,
  **context,
):
  return rendering.write(
    path,
    'page.html',
    sections=[s for s in sections if s and not s.empty],
    medians=medians,
    tiles=tiles,
    warnings=warnings,
    headline=[headline] if headline else [],
    coverage=wording.COVERAGE,
    **context,
  )


# The files of a workdir; one that is absent is empty here.


def _json(workdir, name):
  path = os.path.join(workdir, name)
  return files.read_json(path) if os.path.exists(path) else {}


def _data(workdir, metrics):
  """The films of an evaluation; an older one kept them in data.json alone."""
  return metrics.get('data') or _json(workdir, 'data.json')


def _text(workdir, name):
  path = os.path.join(workdir, name)
  if not os.path.exists(path):
    return ''
  with open(path, encoding='utf-8') as file:
    return file.read()


def _unwrapped(markdown):
  """A paragraph a line: a phone's lines end elsewhere. Tables stay."""
  return re.sub(r'(?<=[^\n|])\n *(?=[^\n |#*])', ' ', markdown)
