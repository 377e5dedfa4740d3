"""Figures of localization: Wang's protocol counted by hand."""

import numpy as np
import pytest

from cxr import stored_rows
from cxr.estimates import box_estimates, summary
from cxr.localization import overlap, scoring
from tests import made_rows
from tests.made_rows import LEFT, QUARTER, RIGHT

FAST = {'num_resamples': 40}


def test_wang_s_protocol_equals_a_hand_count(tmp_path):
  workdir = made_rows.written(tmp_path, made_rows.hand_counted())
  result = summary.summarize(workdir, **FAST)['localization']
  assert result['count'] == {'Mass': 2, 'Nodule': 1}
  figures = result['methods']['cam']['wang']

  def value(finding, score):
    return figures[finding][score]['value']

  # Accuracy: hit boxes of the finding over boxes of the finding.
  assert value('Mass', 'iou@0.1') == 1
  assert value('Mass', 'iou@0.4') == 1
  # IoU 1/2 is not MORE than .5: film 2 is missed, film 1 has IoU 1.
  assert value('Mass', 'iou@0.5') == 0.5
  assert value('Mass', 'iobb@0.9') == 1
  assert value('Nodule', 'iou@0.1') == 0
  assert value('mean', 'iou@0.5') == 0.25
  # False positives: wrong boxes on ALL films over the boxes of ALL findings.
  # Mass at .1: RIGHT on f2, LEFT on f3; at .5 also QUARTER on f1 and f2.
  assert value('Mass', 'afp_iou@0.1') == pytest.approx(2 / 3)
  assert value('Mass', 'afp_iou@0.5') == pytest.approx(4 / 3)
  assert value('Mass', 'afp_iobb@0.9') == pytest.approx(2 / 3)
  assert value('Nodule', 'afp_iou@0.1') == pytest.approx(2 / 3)
  assert value('mean', 'afp_iou@0.5') == pytest.approx(1)
  # The same boxes over the three films; all six of two findings are two a film.
  assert value('Mass', 'false_iou@0.5') == pytest.approx(4 / 3)
  assert value('mean', 'false_iou@0.5') == pytest.approx(1)
  assert value('Mass', 'mean_iou') == 0.75
  assert value('Mass', 'map_auroc') == 0.75
  assert value('Nodule', 'mean_iou') == 0
  assert figures['Mass']['iou@0.1']['images'] == 2
  assert figures['Mass']['afp_iou@0.1']['images'] == 3
  assert figures['mean']['iou@0.1']['patients'] == 3
  assert list(figures['mean']) == box_estimates.score_names()


def test_from_made_maps_to_the_hand_count(tmp_path):
  # Bright squares on a dark ground: both levels of Wang give the same box.
  def square(box):
    return overlap.box_cover(np.array(box), (8, 8))

  maps = {
    'Mass': [square(LEFT), square(QUARTER), np.zeros((8, 8))],
    'Nodule': [square(RIGHT), np.full((8, 8), np.nan), square(QUARTER)],
  }
  truth = {
    'Mass': [LEFT, LEFT, LEFT],
    'Nodule': [[np.nan] * 4, [np.nan] * 4, RIGHT],
  }
  films = np.array(['f0', 'f1', 'f2']), np.arange(3)
  tables = []
  for finding, heatmaps in maps.items():
    scored = scoring.score_finding(
      heatmaps, np.array(truth[finding], float), np.arange(3)
    )['wang']
    tables.append(
      stored_rows.from_scored(
        scored, *films, finding=finding, method='cam', rule='wang'
      )
    )
  rows = stored_rows.concatenate_boxes(tables)
  figures = summary.summarize(made_rows.written(tmp_path, rows), **FAST)[
    'localization'
  ]['methods']['cam']['wang']
  assert figures['Mass']['iou@0.4']['value'] == pytest.approx(2 / 3)
  assert figures['Mass']['iou@0.5']['value'] == pytest.approx(1 / 3)
  assert figures['Mass']['afp_iou@0.1']['value'] == 0
  assert figures['Mass']['afp_iou@0.5']['value'] == pytest.approx(2 / 4)
  assert figures['Nodule']['iobb@0.1']['value'] == 0
  # Two levels, so each wrong square counts twice: f0 and f2.
  assert figures['Nodule']['afp_iobb@0.1']['value'] == pytest.approx(4 / 4)
  # The constant map points nowhere in particular: half of the film.
  assert figures['Mass']['pointing']['value'] == pytest.approx(2.5 / 3)


def test_several_boxes_of_a_film_are_several_and_predictions_count_once(
  tmp_path,
):
  rows = [
    made_rows.row('f1', 'Mass', LEFT, [LEFT, [0.4, 0.4, 0.6, 0.45]]),
    made_rows.row('f1', 'Mass', RIGHT, [LEFT, [0.4, 0.4, 0.6, 0.45]]),
  ]
  figures = summary.summarize(made_rows.written(tmp_path, rows), **FAST)[
    'localization'
  ]['methods']['cam']['wang']['Mass']
  assert figures['iou@0.5']['value'] == 0.5
  # LEFT hits one of the two, the small box neither: one wrong of two boxes.
  assert figures['afp_iou@0.1']['value'] == 0.5
  # It is one false box on one film.
  assert figures['false_iou@0.1']['value'] == 1
  rows[1]['boxes'] = rows[1]['boxes'][:1]
  with pytest.raises(ValueError, match='different numbers'):
    summary.summarize(made_rows.written(tmp_path, rows), **FAST)


def test_a_mask_counts_the_film_once_and_each_of_its_parts(tmp_path):
  mask = {'masked': True, 'energy': 0.25, 'mask_iou': 0.2}
  rows = [
    made_rows.row('f1', 'Mass', LEFT, [LEFT], **mask),
    made_rows.row('f1', 'Mass', RIGHT, [LEFT], **mask),
    made_rows.row('f2', 'Mass', LEFT, [LEFT], energy=0.75, mask_iou=0.4),
    made_rows.row('f3', 'Mass', None, [LEFT]),
    *(
      made_rows.row(f, 'Nodule', truth, [])
      for f, truth in (('f1', LEFT), ('f2', None), ('f3', None))
    ),
  ]
  workdir = made_rows.written(tmp_path, rows)
  result = summary.summarize(workdir, **FAST)['localization']
  assert result['count'] == {'Mass': 3, 'Nodule': 1}
  assert result['masks'] == {'Mass': 1}
  figures = result['methods']['cam']['wang']['Mass']
  assert figures['iou@0.5']['value'] == pytest.approx(2 / 3)
  assert figures['energy']['value'] == 0.5
  assert figures['mask_iou']['value'] == pytest.approx(0.3)
  assert figures['energy']['images'] == 2
  # f3's box alone is wrong: one of four true boxes.
  assert figures['afp_iou@0.5']['value'] == 1 / 4


def test_false_positives_need_a_row_for_every_film(tmp_path):
  figures = summary.summarize(
    made_rows.written(tmp_path, made_rows.hand_counted()[:-2]), **FAST
  )['localization']['methods']['cam']['wang']
  assert figures['Mass']['afp_iou@0.1']['value'] is not None
  assert figures['Nodule']['afp_iou@0.1']['value'] is None
  assert figures['Nodule']['false_iou@0.1']['value'] is None
  assert figures['Mass']['false_iou@0.1']['value'] is not None
  assert 'lacks rows' in figures['Nodule']['afp_iou@0.1']['why']
  assert figures['Nodule']['iou@0.1']['value'] is None
  assert 'no film has a box' in figures['Nodule']['iou@0.1']['why']
  # The mean is over the findings that have boxes.
  assert figures['mean']['iou@0.1']['value'] == 1


def test_no_boxed_film_at_all(tmp_path):
  workdir = made_rows.written(tmp_path, [])
  result = summary.summarize(workdir, **FAST)
  assert result['localization'] == {'count': {}, 'methods': {}}
