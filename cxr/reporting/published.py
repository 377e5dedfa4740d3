"""Published figures that stand beside one's own, where the data is NIH's.

Wang et al. 2017 (ChestX-ray8, arXiv 1705.02315 v5): table 17 (AUROC on the
official split), table 7 (ChestX-ray8 model, IoU) and table 19 (ChestX-ray14
model, IoBB, with its average false positives at .1).
"""

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
