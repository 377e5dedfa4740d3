"""Published figures that stand beside one's own, where the data is NIH's.

Wang et al. 2017 (ChestX-ray8, arXiv 1705.02315 v5): table 17 (AUROC on the
official split), table 7 (ChestX-ray8 model, IoU) and table 19 (ChestX-ray14
model, IoBB, with its average false positives at .1).

Later work on the same boxes: the mean accuracy over the eight findings at
T(IoU) .1 to .5. Some of it was read where others print it, and says so.
"""

from typing import NamedTuple

from input_pipeline.findings import BOXED, FINDINGS

# The full official test list.
OFFICIAL_IMAGES, OFFICIAL_BOXES = 25596, 984


def _numbers(text):
  return [float(number) for number in text.split()]


WANG_AUROC = {'mean': 0.7451} | dict(
  zip(
    FINDINGS,
    _numbers(
      '.7003 .8100 .7585 .6614 .6933 .6687 .6580 .7993 .7032 .8052 .8330 .7859'
      ' .6835 .8717'
    ),
    strict=True,
  )
)
# Score -> one figure for each of BOXED.
_WANG_BOXES = {
  'iou@0.1': '.6888 .9383 .6601 .7073 .4000 .1392 .6333 .3775',
  'iou@0.2': '.4722 .6849 .4509 .4796 .2588 .0506 .3500 .2346',
  'iou@0.3': '.2444 .4589 .3006 .2764 .1529 .0379 .1666 .1326',
  'iou@0.4': '.0944 .2808 .2026 .1219 .0705 .0126 .0750 .0714',
  'iou@0.5': '.0500 .1780 .1111 .0650 .0117 .0126 .0333 .0306',
  'iou@0.6': '.0222 .0753 .0457 .0243 .0000 .0126 .0166 .0306',
  'iou@0.7': '.0055 .0273 .0196 .0000 .0000 .0000 .0083 .0204',
  'iobb@0.1': '.6222 1 .7974 .9106 .5882 .1519 .8583 .5204',
  'iobb@0.25': '.3944 .9863 .6339 .7967 .4588 .0506 .7083 .3367',
  'iobb@0.5': '.1944 .9452 .4183 .6504 .3058 0 .4833 .2653',
  'iobb@0.75': '.0889 .8151 .2287 .4390 .1647 0 .2917 .1735',
  'iobb@0.9': '.0722 .6507 .1373 .3577 .0941 0 .2333 .1224',
  'afp_iobb@0.1': '.8293 .1768 .6148 .4919 .3933 .4685 .4360 .4543',
}


def _localization():
  scores = {score: _numbers(row) for score, row in _WANG_BOXES.items()}
  means = {score: sum(row) / len(row) for score, row in scores.items()}
  return {'mean': means} | {
    finding: {score: row[i] for score, row in scores.items()}
    for i, finding in enumerate(BOXED)
  }


# Finding, and 'mean' over them -> score -> figure.
WANG_LOCALIZATION = _localization()


class Work(NamedTuple):
  """One published row of localization on NIH's boxes."""

  name: str
  accuracy: dict[str, float]  # 'iou@0.1' … 'iou@0.5' -> mean over the findings
  trained_on: str
  boxes: str  # whether the data set's boxes were used
  source: str
  read_in: str = ''  # where the row was read, if not in the source


def _iou(text):
  thresholds = '0.1', '0.2', '0.3', '0.4', '0.5'
  names = [f'iou@{threshold}' for threshold in thresholds]
  return dict(zip(names, _numbers(text), strict=True))


_BRIEF = 'github.com/NightRaven-0/CNN (2026)'
_OF_CLARITY = f"CLARiTy's table, as {_BRIEF} copies it"
_DENSENET = (
  'NIH ChestX-ray14, official split, labels of films; DenseNet-121 of ImageNet '
  'weights, 512 px (test AUROC .816)'
)
_AS_IT_IS = 'none; one box around the highest 5 % of the map'
_ONE_RUN = f'{_BRIEF}: one training run, not reviewed'

LOCALIZATION = (
  Work(
    'Wang 2017',
    {score: WANG_LOCALIZATION['mean'][score] for score in _iou('0 0 0 0 0')},
    'ChestX-ray8, labels of films; ImageNet weights',
    'none in training',
    'Wang et al., CVPR 2017, arXiv 1705.02315 v5, table 7',
  ),
  Work(
    'Li 2022',
    _iou('.64 .53 .40 .31 .24'),
    'NIH ChestX-ray14, official split, labels of films; a DenseNet with a '
    'feature pyramid and a vision transformer',
    'none in training',
    'Li et al., Quant Imaging Med Surg 12(6):3364, 2022, doi '
    '10.21037/qims-21-1117',
    _OF_CLARITY,
  ),
  Work(
    'PCAN 2022',
    _iou('.78 .57 .36 .21 .10'),
    'NIH ChestX-ray14, labels of films; 224 px',
    'none in training; whether any chose a threshold is not known here',
    'Zhu et al., Comput Med Imaging Graph 102:102137, 2022, doi '
    '10.1016/j.compmedimag.2022.102137',
    _OF_CLARITY,
  ),
  Work(
    'ThoraX-PriorNet 2024',
    _iou('.80 .63 .49 .33 .22'),
    'NIH ChestX-ray14, a random split of its own, so that films with boxes may '
    'be among those it was trained on; labels of films, masks of the chest and '
    'a prior of where each finding lies; 512 px',
    'whether the prior was made of boxes is not known here',
    'Hossain et al., IEEE Access 12:3256, 2024, doi '
    '10.1109/ACCESS.2023.3346315; its abstract gives .28 at T(IoU) 0.5',
    f'{_BRIEF}, which copies its table; the abstract itself',
  ),
  Work(
    'CLARiTy 2025',
    _iou('.81 .69 .59 .47 .32'),
    'NIH ChestX-ray14, official split, labels of films; a vision transformer '
    'of DINO weights, a ConvNeXtV2 teacher and anatomical priors, 512 px',
    'those of half of the boxed films, for tuning; scored on the other half',
    'Statheros et al. 2025, arXiv 2512.16700 v1',
    _OF_CLARITY,
  ),
  Work(
    'DenseNet-121, Grad-CAM++',
    _iou('.62 .42 .28 .18 .10'),
    _DENSENET,
    _AS_IT_IS,
    _ONE_RUN,
  ),
  Work(
    'DenseNet-121, CAM',
    _iou('.56 .36 .21 .12 .07'),
    _DENSENET,
    _AS_IT_IS,
    _ONE_RUN,
  ),
  Work(
    'DenseNet-121, its random map',
    _iou('.29 .17 .10 .05 .03'),
    'nothing: a random map on the cells of the same network',
    _AS_IT_IS,
    _ONE_RUN,
  ),
)


def caveat(images: int | None, boxes: int) -> str:
  """How Wang's figures may be read beside those of a test set of this size."""
  if (images, boxes) == (OFFICIAL_IMAGES, OFFICIAL_BOXES):
    return 'Wang et al. 2017: published, on the same official test list.'
  here = f'{images:,} films' if images is not None else 'other films'
  return (
    'Wang et al. 2017: published for another test set, the full official list '
    f'of {OFFICIAL_IMAGES:,} films with {OFFICIAL_BOXES} boxes; here are '
    f'{here} with {boxes:,} boxes.'
  )
