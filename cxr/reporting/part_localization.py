"""The section 'Localization' of a run's page: curves, and every score.

The scores that Wang et al. published stand among them only with a caveat, as
in part_classification.py.
"""

from collections.abc import Mapping

from cxr.reporting import (
  main_result,
  part_chexlocalize,
  part_maps,
  part_published,
  plots,
  published,
  tables,
  wording,
)

RATIOS = {'iou': 'IoU', 'iobb': 'IoBB'}


def localization(metrics: Mapping, caveat: str) -> tables.Section | None:
  """Curves and tables of a run."""
  scores = metrics.get('localization', {})
  methods = scores.get('methods', {})
  if not methods:
    return None
  rule = main_result.main_rule(methods)
  accuracies = [_accuracy(methods, kind, caveat) for kind in RATIOS]
  filters = {'finding': 'mean', 'rule': rule, 'method': ''}
  return tables.Section(
    'localization',
    'Localization',
    [
      tables.group([*accuracies, _other_scores(methods)], filters),
      *part_published.beside({'': metrics}, caveat),
      part_chexlocalize.table({'': metrics}),
    ],
    text=_text(scores, part_maps.of_others(metrics)),
    figures=curves({'': metrics}, rule),
  )


def _text(scores, of_others):
  sizes, count = scores.get('map_size', {}), scores.get('count', {})
  text = []
  if any(map(wording.is_difference, scores['methods'])):
    text.append(
      "The main rows, own less another patient's, say what a map is worth "
      f"because it is this film's: the method less {of_others} of other "
      'patients without the finding, held against the same true boxes. '
      'Their interval is of the difference, paired by true box.'
    )
  if sizes:
    cells = ', '.join(
      f'{wording.method_name(method)} {" × ".join(map(str, size))}'
      for method, size in sizes.items()
    )
    text.append(
      f'Map resolution: {cells} cells. A box cannot fit a finding that is much '
      'smaller than a cell.'
    )
  if count:
    boxes = ', '.join(f'{finding} {n}' for finding, n in count.items())
    text.append(f'True boxes: {sum(count.values()):,} ({boxes}).')
  masks = scores.get('masks', {})
  if masks:
    films = ', '.join(f'{finding} {n}' for finding, n in masks.items())
    text.append(
      f'Films whose truth is a mask: {films}. There pointing game, energy, '
      'AUROC and average precision of the map, IoR and IoU of the mask are '
      'held against the mask itself; the true boxes of all other scores are '
      "those around the mask's connected parts, unless boxes were drawn as "
      'well.'
    )
  without = scores.get('without_another', {})
  if without:
    films = '; '.join(
      f'{f}: {", ".join(names)}' for f, names in without.items()
    )
    text.append(
      'Films with a true box but no control of another patient, since no other '
      f'boxed film is labelled as without the finding: {films}.'
    )
  return text


def curves(
  runs: Mapping[str, Mapping], rule: str
) -> list[plots.Drawing | None]:
  """Accuracy over T(IoU) and over T(IoBB).

  The curves are those of every run's methods, and two controls of the first:
  all of the controls would hide the methods.

  Args:
    runs: name -> its metrics.json.
    rule: the threshold rule, for the caption.
  """
  drawings = []
  for kind, ratio in RATIOS.items():
    series, controls = {}, {}
    for i, (run, metrics) in enumerate(runs.items()):
      scores = metrics.get('localization', {})
      for method in scores.get('methods', {}):
        of_method = main_result.mean_scores(scores, method)
        points = [
          (float(score.partition('@')[2]), of_method[score])
          for score in _accuracies(of_method, kind)
        ]
        name = wording.method_name(method)
        if points and wording.is_own(method):
          series[f'{run}, {name}' if len(runs) > 1 else name] = points
        elif points and not i and method in ('random', 'mean_box'):
          controls[name] = points
    caption = f'Mean accuracy over T({ratio}), threshold rule {rule}'
    axes = f'T({ratio})', 'accuracy'
    drawings.append(
      plots.drawing(caption, series | controls, *axes, ylim=(0, 1))
    )
  return drawings


def _accuracies(scores, kind):
  """'iou@T' or 'iobb@T' of the scores, by T."""
  names = [score for score in scores if score.startswith(f'{kind}@')]
  return sorted(names, key=lambda score: float(score.partition('@')[2]))


def keys(method: str, finding: str, rule: str) -> dict[str, tables.Cell | str]:
  """The first cells of a row of scores, with its mark."""
  mark = 'upper bound' if rule == 'oracle' else ''
  if wording.is_control(method):
    mark = 'control'
  elif wording.is_difference(method):
    mark = 'main row'
  name = tables.text_cell(wording.method_name(method), mark=mark)
  return {'method': name, 'finding': finding, 'rule': rule}


def _rows(methods, cells):
  """A row for each method, rule and finding.

  `cells`: (scores, sign) -> cells; a difference shows its sign.
  """
  return [
    keys(method, finding, rule) | cells(scores, wording.is_difference(method))
    for method, rule, finding, scores in tables.walk(methods, 3)
  ]


def _names(methods):
  """Every score, in the order of its first use."""
  return dict.fromkeys(s for *_, of in tables.walk(methods, 3) for s in of)


def _accuracy(methods, kind, caveat):
  """Accuracy above the false positives that it costs."""
  ratio, names = RATIOS[kind], _accuracies(_names(methods), kind)
  cells = lambda scores, sign=False: {
    f'{ratio} > {score.partition("@")[2]}': tables.estimate_cell(
      scores.get(score),
      sign=sign,
      beside={
        name: scores.get(f'{prefix}_{score}')
        for prefix, name in (('afp', 'AFP'), ('false', 'false boxes'))
      },
    )
    for score in names
  }
  rows = _rows(methods, cells)
  notes = [
    'Below each accuracy stand its interval and the false boxes that it costs, '
    "counted in two ways. AFP, Wang's average number of false positives: the "
    'false boxes of the finding over the true boxes of all findings. False '
    'boxes: the same boxes over the films with any true box, that is false '
    'boxes a film and finding; a film has as many times the number of findings.'
  ]
  if caveat:
    model = 'ChestX-ray8' if kind == 'iou' else 'ChestX-ray14'
    notes.append(f'{caveat} The rows show their {model} model.')
    findings = {row['finding'] for row in rows}
    rows += [
      {
        'method': tables.text_cell('Wang et al. 2017', mark='published'),
        'finding': finding,
        'rule': tables.text_cell('wang', choice='*'),
        **cells({score: {'value': value} for score, value in scores.items()}),
      }
      for finding, scores in published.WANG_LOCALIZATION.items()
      if finding in findings
    ]
  caption = f'Localization accuracy at T({ratio})'
  return tables.table(f'accuracy-{kind}', caption, rows, *notes)


def _other_scores(methods):
  names = [score for score in _names(methods) if '@' not in score]
  cells = lambda scores, sign: {
    wording.score_name(score): tables.estimate_cell(
      scores.get(score), sign=sign
    )
    for score in names
  }
  caption = 'Other scores of boxes and maps'
  return tables.table('scores', caption, _rows(methods, cells))
