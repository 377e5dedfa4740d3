"""CheXlocalize's rows stand beside masks of CheXpert's films, and no others."""

from cxr.reporting import part_chexlocalize
from tests.made_workdir import estimate


def metrics(source, masks):
  scores = {'mask_iou': estimate(0.2), 'pointing': estimate(0.5)}
  by_finding = {'mean': scores, 'Edema': scores, 'Pneumonia': scores}
  return {
    'data': {'name': source},
    'localization': {
      'masks': masks,
      'methods': {
        'cam': {'wang': by_finding},
        'cam_another_patient': {'wang': by_finding},
        'random': {'wang': by_finding},
      },
    },
  }


def test_rows_of_a_run_stand_above_the_authors():
  run = metrics('chexpert', {'Edema': 9, 'Pneumonia': 2})
  table = part_chexlocalize.table({'': run})
  shown = [
    [cell.text for name, cell in row.cells.items() if name != 'source']
    for row in table.rows
  ]
  assert shown == [
    ['cam', 'Edema', '0.200', '0.500'],
    ['random map', 'Edema', '0.200', '0.500'],
    ['Saporta et al., radiologists', 'Edema', '0.307', '0.773'],
    ['Saporta et al., Grad-CAM', 'Edema', '0.174', '–'],
    # CheXlocalize has no masks of Pneumonia.
    ['cam', 'Pneumonia', '0.200', '0.500'],
    ['random map', 'Pneumonia', '0.200', '0.500'],
  ]
  assert 'before the paper' in table.rows[2].cells['source'].text
  assert table.rows[2].mark == 'before the paper'
  both = part_chexlocalize.table({'a': run, 'b': run})
  assert both.rows[0].cells['map'].text == 'a, cam'


def test_other_films_and_boxes_have_no_such_rows():
  assert part_chexlocalize.table({'': metrics('nih', {'Edema': 9})}) is None
  assert part_chexlocalize.table({'': metrics('chexpert', {})}) is None


def test_what_the_notebook_printed_fits_its_own_differences():
  """It prints how far Grad-CAM lies below the radiologists, in per cent."""
  differences = {
    'Lung Lesion': 93.632, 'Enlarged Cardiomediastinum': 70.035,
    'Pneumothorax': 68.448, 'Support Devices': 67.352, 'Cardiomegaly': 61.376,
    'Edema': 43.322, 'Consolidation': 41.216, 'Pleural Effusion': 25.822,
    'Airspace Opacity': 16.810, 'Atelectasis': -18.852,
  }  # fmt: skip
  assert differences.keys() == part_chexlocalize.CHEXLOCALIZE.keys()
  for finding, percent in differences.items():
    human, grad_cam, _ = part_chexlocalize.CHEXLOCALIZE[finding]
    assert abs(100 * (human - grad_cam) / human - percent) < 0.05
