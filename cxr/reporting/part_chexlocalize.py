"""CheXlocalize's readers and its Grad-CAM, beside a run's maps on its masks.

The figures of Saporta et al. 2022 are bars and tables in pictures, which were
not in reach. What stands here is what the authors' notebook printed before the
paper, and every row says so.
"""

from collections.abc import Mapping
from typing import NamedTuple

from cxr.reporting import main_result, tables, wording
from input_pipeline import findings as findings_lib

PAPER = (
  'Saporta et al., Nat Mach Intell 4:867, 2022, doi 10.1038/s42256-022-00536-x'
)
READ_IN = (
  "the authors' notebook of 31 March 2021, before the paper, whose own figures "
  'may differ: github.com/rajpurkarlab/cheXlocalize, '
  'report_results/plot_miou.ipynb at 7ffb7fd'
)


class Figures(NamedTuple):
  """Of one finding on the test films. Its hits of Grad-CAM are not printed."""

  human_iou: float  # mean IoU of other radiologists' masks
  grad_cam_iou: float  # and of Grad-CAM's, by an ensemble of networks
  human_hit: float  # how often a radiologist's point lies in the true mask


CHEXLOCALIZE = {
  'Enlarged Cardiomediastinum': Figures(0.564, 0.169, 0.952),
  'Cardiomegaly': Figures(0.712, 0.275, 0.972),
  'Lung Lesion': Figures(0.424, 0.027, 0.855),
  'Airspace Opacity': Figures(0.232, 0.193, 0.560),
  'Edema': Figures(0.307, 0.174, 0.773),
  'Consolidation': Figures(0.148, 0.087, 0.513),
  'Atelectasis': Figures(0.122, 0.145, 0.870),
  'Pneumothorax': Figures(0.393, 0.124, 1.000),
  'Pleural Effusion': Figures(0.213, 0.158, 0.719),
  'Support Devices': Figures(0.438, 0.143, 0.934),
}
_IOU, _HIT = 'IoU of the mask', 'pointing game'


def table(runs: Mapping[str, Mapping]) -> tables.Table | None:
  """IoU of the mask and pointing game by finding, of runs and of the authors.

  None unless the films are CheXpert's, with CheXlocalize's masks.

  Args:
    runs: name ('' for the only one) -> its metrics.json.
  """
  for metrics in runs.values():
    localized = metrics.get('localization', {})
    if metrics.get('data', {}).get('name') != 'chexpert' or not localized.get(
      'masks'
    ):
      return None
  rows = [row for name, run in runs.items() for row in _own(name, run)]
  scored = dict.fromkeys(row['finding'] for row in rows)
  source = tables.text_cell(f'{PAPER}, as in {READ_IN}', wrap=True)
  for finding in scored:
    for known, figures in CHEXLOCALIZE.items():
      if findings_lib.same(finding, known):
        rows += [
          _published('radiologists', finding, figures.human_iou,
                     figures.human_hit, source),
          _published('Grad-CAM', finding, figures.grad_cam_iou, None, source),
        ]  # fmt: skip
  return tables.table(
    'chexlocalize',
    'Beside CheXlocalize: masks of radiologists and of Grad-CAM, by finding',
    sorted(rows, key=lambda row: list(scored).index(row['finding'])),
    "CheXlocalize's own rule for empty masks, its thresholds and the number of "
    'its films differ from those here; its authors count IoU on the film at '
    'its full size. --mode=evaluate counts as its tool does with '
    '--config.evaluate.export=chexlocalize.',
  )


def _own(name, metrics):
  localized = metrics['localization']
  methods = localized.get('methods', {})
  rule = main_result.main_rule(methods)
  source = f'the run {name}' if name else 'this page'
  return [
    {
      'map': f'{name}, {label}' if name else label,
      'finding': finding,
      _IOU: tables.estimate_cell(scores.get('mask_iou')),
      _HIT: tables.estimate_cell(scores.get('pointing')),
      'source': source,
    }
    for method, by_rule in methods.items()
    if wording.is_own(method) or method == 'random'
    for finding, scores in by_rule.get(rule, {}).items()
    if finding in localized['masks']
    for label in (wording.method_name(method),)
  ]


def _published(name, finding, iou, hit, source):
  value = lambda number: tables.estimate_cell({'value': number})
  mark = 'before the paper'
  return {
    'map': tables.text_cell(f'Saporta et al., {name}', mark=mark),
    'finding': finding,
    _IOU: value(iou),
    _HIT: value(hit),
    'source': source,
  }
