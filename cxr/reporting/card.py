"""Texts beside a run: its model card, and how to load what it exports."""

import os
from collections.abc import Mapping, Sequence

import jinja2

from cxr import files, run_files
from cxr.reporting import part_answer, part_origin, tables

TEMPLATES = os.path.join(os.path.dirname(__file__), 'templates')
NAME = 'MODEL_CARD.md'


def write(workdir: str) -> str:
  """MODEL_CARD.md from config.json, data.json and metrics.json; its path.

  Raises:
    FileNotFoundError: the run was not evaluated.
  """
  config, data, metrics = (
    run_files.read(workdir, name)
    for name in ('config.json', 'data.json', 'metrics.json')
  )
  text = render('model_card.md', **_context(config, data, metrics))
  path = os.path.join(workdir, NAME)
  files.replace_file(path, lambda f: f.write(text))
  return path


def render(template: str, **context) -> str:
  """A Markdown template, filled in; a missing value is an error."""
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=False,  # Markdown; `_cell` and `_line` make a text harmless
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  return environment.get_template(template).render(**context)


def _context(config, data, metrics) -> dict:
  localization = metrics.get('localization', {})
  return {
    'config': config,
    'name': _line(config['name']),
    'step': metrics['step'],
    'versions': metrics['versions'],
    'epsilon': f'{config["attack"]["epsilon"]:g}/255',
    'nih': data['name'] == 'nih',
    'answer': part_answer.answer(metrics),
    'splits': _splits(data),
    'left_out': _left_out(data),
    'classification': _classification(metrics),
    'reliance': _rows(
      {
        tables.spelled(split): figures['auroc'].get('mean')
        for split, figures in metrics.get('reliance', {}).items()
      },
      ('films drawn without the cause', 'change of mean AUROC'),
    ),
    'subgroups': _rows(
      {
        f'{kind} {name}': figures.get('mean')
        for kind, groups in metrics.get('subgroups', {}).items()
        for name, figures in groups.items()
      },
      ('subgroup', 'mean AUROC'),
    ),
    'robustness': _rows(
      {
        part_answer.condition(entry): entry['auroc'].get('mean')
        for entry in metrics.get('robustness', ())
        if part_answer.main_films(entry)
      },
      ('attack', 'mean AUROC'),
    ),
    'localization': _localization(localization),
    'rule': part_answer.main_rule(localization),
    'map_size': ', '.join(
      f'{method} {size[0]}x{size[1]}'
      for method, size in localization.get('map_size', {}).items()
    ),
    'fitted': metrics.get('calibration', {}).get('fitted'),
    'calibration': _calibration(metrics.get('calibration', {})),
  }


def _splits(data) -> str:
  return _table(
    ('split', 'films', 'patients', 'boxes', 'SHA-256 of the sorted names'),
    [
      (
        tables.spelled(name),
        f'{of["images"]:,}',
        f'{of["patients"]:,}',
        f'{sum(of.get("boxes", {}).values()):,}',
        of['sha256'],
      )
      for name, of in part_origin.splits(data).items()
    ],
  )


def _left_out(data) -> str:
  counts = part_origin.flatten(data.get('left_out', {}))
  return ', '.join(
    f'{tables.spelled(reason)} {n:,}'
    for reason, n in counts.items()
    if isinstance(n, int) and n
  )


def _classification(metrics) -> str:
  scores = metrics.get('classification', {}).get('test', {})
  precision = scores.get('average_precision', {})
  return _table(
    ('finding', 'AUROC', 'average precision', 'films', 'patients'),
    [
      (
        finding,
        _estimate(estimate),
        _estimate(precision.get(finding)),
        f'{estimate["images"]:,}',
        f'{estimate["patients"]:,}',
      )
      for finding, estimate in scores.get('auroc', {}).items()
    ],
  )


def _localization(localization) -> str:
  method = part_answer.main_method(localization.get('methods', {}))
  if method is None:
    return ''
  rule = part_answer.main_rule(localization)
  wanted = ('iou@0.1', 'iou@0.3', 'iou@0.5', 'iobb@0.5', 'pointing', 'energy')
  rows = []
  for name, rules in localization['methods'].items():
    scores = rules.get(rule, {}).get('mean')
    if scores:
      kind = ' (control)' if tables.is_control(name) else ''
      rows.append(
        (
          tables.method_name(name) + kind,
          *(_estimate(scores.get(s)) for s in wanted),
        )
      )
  return _table(('maps', *map(tables.score_name, wanted)), rows)


def _calibration(calibration) -> str:
  if not calibration:
    return ''
  point = calibration.get('operating_point', {})
  rows = []
  for finding, fitted in calibration['fitted']['findings'].items():
    if fitted['threshold'] is None:
      rows.append((finding, f'none: {fitted["why"]}', '', '', '', ''))
      continue
    rows.append(
      (
        finding,
        tables.number(fitted['threshold']),
        tables.number(fitted['temperature']),
        tables.number(fitted['bias']),
        *(
          _estimate(point.get(name, {}).get(finding))
          for name in ('sensitivity', 'specificity')
        ),
      )
    )
  return _table(
    (
      'finding',
      'threshold of the logit',
      'temperature',
      'bias',
      'sensitivity, test',
      'specificity, test',
    ),
    rows,
  )


def _rows(figures: Mapping, header: Sequence[str]) -> str:
  return _table(
    (*header, 'films', 'patients'),
    [
      (
        name,
        _estimate(figure),
        f'{figure["images"]:,}',
        f'{figure["patients"]:,}',
      )
      for name, figure in figures.items()
      if figure
    ],
  )


def _estimate(figure) -> str:
  text = tables.with_interval(figure)
  if tables.value_of(figure) is None and (figure or {}).get('why'):
    return f'{text} ({figure["why"]})'
  return text


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table; '' without rows."""
  if not rows:
    return ''
  lines = [header, ['---'] * len(header), *rows]
  return '\n'.join(f'| {" | ".join(map(_cell, line))} |' for line in lines)


def _cell(text: str) -> str:
  return _line(text).replace('|', '\\|')


def _line(text: str) -> str:
  """One line, and no HTML: a viewer of Markdown would run it."""
  text = ' '.join(str(text).split())
  return text.replace('&', '&amp;').replace('<', '&lt;')
