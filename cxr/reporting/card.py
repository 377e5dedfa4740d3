"""MODEL_CARD.md: what a run is for, and what was measured of it."""

import os
from collections.abc import Mapping

from cxr import run_files
from cxr.reporting import (
  main_result,
  part_classification,
  part_origin,
  rendering,
  tables,
  wording,
)

NAME = 'MODEL_CARD.md'


def write(workdir: str) -> str:
  """MODEL_CARD.md from config.json and metrics.json; its path.

  Raises:
    FileNotFoundError: the run was not evaluated.
  """
  config, metrics = (
    run_files.read(workdir, name) for name in ('config.json', 'metrics.json')
  )
  # An older evaluation kept its record in the training's data.json.
  data = metrics.get('data') or run_files.read(workdir, 'data.json')
  return rendering.write(
    os.path.join(workdir, NAME),
    'model_card.md',
    **_context(
      part_origin.evaluated(config, metrics),
      data,
      metrics,
    ),
  )


def _context(config, data, metrics) -> dict:
  localization = metrics.get('localization', {})
  return {
    'config': config,
    'coverage': wording.COVERAGE,
    'name': tables.one_line(config['name']),
    'step': metrics['step'],
    'versions': metrics['versions'],
    'epsilon': f'{config["attack"]["epsilon"]:g}/255',
    'source': data['name'],
    'elsewhere': 'weights_from' in data,
    'network': tables.one_line(part_origin.network(config, data)),
    'warnings': list(map(tables.one_line, part_origin.warnings(data))),
    'films': wording.SOURCES.get(data['name'], data['name']),
    'findings': _findings(data),
    'answer': tables.one_line(' '.join(main_result.answer(metrics))),
    'splits': tables.markdown(part_origin.split_rows(data)),
    'left_out': _left_out(data),
    'classification': tables.markdown(
      part_classification.ranking_rows(
        metrics.get('classification', {}).get('test', {})
      )
    ),
    'reliance': _means(
      'films drawn without the cause',
      'change of mean AUROC',
      {
        wording.spelled(split): scores['auroc'].get('mean')
        for split, scores in metrics.get('reliance', {}).items()
      },
    ),
    'subgroups': _means(
      'subgroup',
      'mean AUROC',
      {
        f'{kind} {name}': scores.get('mean')
        for kind, name, scores in tables.walk(metrics.get('subgroups', {}), 2)
      },
    ),
    'robustness': _means(
      'attack',
      'mean AUROC',
      {
        main_result.condition(entry): entry['auroc'].get('mean')
        for entry in metrics.get('robustness', ())
        if main_result.main_films(entry)
      },
    ),
    'not_alone': wording.not_alone()
    if main_result.without_alone(metrics.get('robustness', ()))
    else '',
    'raises': wording.RAISES,
    'localization': _localization(localization),
    'rule': main_result.main_rule(localization.get('methods', {})),
    'map_size': ', '.join(
      f'{method} {size[0]}x{size[1]}'
      for method, size in localization.get('map_size', {}).items()
    ),
    'fitted': metrics.get('calibration', {}).get('fitted'),
    'given': tables.one_line(
      metrics.get('calibration', {}).get('given', {}).get('from', '')
    ),
    'calibration': _calibration(metrics.get('calibration', {})),
  }


def _findings(data) -> str:
  """The findings, and which have boxes or masks; '' of an older run."""
  if 'findings' not in data:
    return ''
  names = 'findings are' if len(data['findings']) > 1 else 'finding is'
  splits = data.get('splits', {}).values()
  kind = 'boxes or masks' if any('masks' in s for s in splits) else 'boxes'
  boxes = f'{kind} exist for {wording.listed(data["boxed"] or ["none"])}'
  if data['boxed'] == data['findings']:
    boxes = f'{kind} exist for each'
  return tables.one_line(
    f'The {names} {wording.listed(data["findings"])}; {boxes}.'
  )


def _left_out(data):
  counts = run_files.flat(data.get('left_out', {}))
  return ', '.join(
    f'{wording.spelled(reason)} {n:,}'
    for reason, n in counts.items()
    if isinstance(n, int) and n
  )


def _means(first: str, second: str, estimates: Mapping[str, Mapping | None]):
  return tables.markdown(
    [
      {first: name, second: estimate, **tables.counts(estimate)}
      for name, estimate in estimates.items()
      if estimate
    ]
  )


def _localization(localization):
  methods = localization.get('methods', {})
  if main_result.main_method(methods) is None:
    return ''
  wanted = ('iou@0.1', 'iou@0.3', 'iou@0.5', 'iobb@0.5', 'pointing', 'energy')
  rows = []
  for method in methods:
    scores = main_result.mean_scores(localization, method)
    if scores:
      kind = ' (control)' if wording.is_control(method) else ''
      row = {'maps': wording.method_name(method) + kind}
      for score in wanted:
        row[wording.score_name(score)] = tables.estimate_cell(
          scores.get(score), sign=wording.is_difference(method)
        )
      rows.append(row)
  return tables.markdown(rows)


def _calibration(calibration):
  if 'fitted' not in calibration:
    return ''
  point = calibration.get('operating_point', {})
  rows = []
  for finding, fitted in calibration['fitted']['findings'].items():
    fit = {} if fitted['threshold'] is None else fitted
    of_test = lambda name, f=finding: point.get(name, {}).get(f) or {}
    rows.append(
      {
        'finding': finding,
        'threshold of the logit': fit.get(
          'threshold', f'none: {fitted.get("why")}'
        ),
        'temperature': fit.get('temperature', ''),
        'bias': fit.get('bias', ''),
        'sensitivity, test': of_test('sensitivity') if fit else '',
        'specificity, test': of_test('specificity') if fit else '',
      }
      | _given(calibration.get('given'), finding)
    )
  return tables.markdown(rows)


def _given(given: Mapping | None, finding: str) -> dict:
  """The columns of operating points that came with the weights."""
  if not given:
    return {}
  return {
    'threshold of the weights': given['threshold'].get(finding, ''),
    'sensitivity there': given['sensitivity'].get(finding) or {},
    'specificity there': given['specificity'].get(finding) or {},
  }
