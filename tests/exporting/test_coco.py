"""COCO files, against the format's own definition and pycocotools."""

import doctest
import json

import numpy as np
import pytest

from cxr.exporting import coco

IMAGES = {'a.png': (1024, 1024), 'b.png': (2000, 1500), 'none.png': (9, 8)}
FINDINGS = ('Mass', 'Nodule')
TRUTH = [('a.png', 'Mass', np.array([0.25, 0.5, 0.5, 1.0]))]
DETECTIONS = [
  ('a.png', 'Mass', np.array([0.25, 0.5, 0.5, 1.0]), 0.9),
  ('b.png', 'Nodule', np.array([0.5, 0.5, 0.75, 1.0]), 0.4),
]


@pytest.fixture
def paths(tmp_path):
  truth, detections = str(tmp_path / 'truth.json'), str(tmp_path / 'found.json')
  coco.write_truth(truth, IMAGES, FINDINGS, TRUTH)
  coco.write_detections(detections, IMAGES, FINDINGS, DETECTIONS)
  return truth, detections


def content(path):
  with open(path) as f:
    return json.load(f)


def test_examples():
  assert doctest.testmod(coco).failed == 0


def test_boxes_are_pixels_from_the_top_left():
  box = np.array([0.25, 0.125, 0.75, 0.625])
  np.testing.assert_array_equal(coco.to_coco(box, 100, 800), [100, 25, 400, 50])


def test_truth_lists_films_findings_and_boxes(paths):
  truth = content(paths[0])
  assert truth['images'][1] == {
    'id': 2,
    'file_name': 'b.png',
    'height': 2000,
    'width': 1500,
  }
  assert truth['categories'] == [
    {'id': 1, 'name': 'Mass'},
    {'id': 2, 'name': 'Nodule'},
  ]
  assert truth['annotations'] == [
    {
      'id': 1,
      'image_id': 1,
      'category_id': 1,
      'bbox': [512, 256, 512, 256],
      'area': 512 * 256,
      'iscrowd': 0,
    }
  ]


def test_detections_are_a_list(paths):
  assert content(paths[1])[1] == {
    'image_id': 2,
    'category_id': 2,
    'bbox': [750, 1000, 750, 500],
    'score': 0.4,
  }


def test_pycocotools_evaluates_them(paths):
  pycocotools = pytest.importorskip(
    'pycocotools.coco', reason='pycocotools is not installed'
  )
  from pycocotools.cocoeval import COCOeval

  truth = pycocotools.COCO(paths[0])
  found = truth.loadRes(paths[1])
  assert len(found.getAnnIds()) == 2
  evaluation = COCOeval(truth, found, 'bbox')
  evaluation.evaluate()
  evaluation.accumulate()
  evaluation.summarize()
  # The one true box is met exactly.
  assert evaluation.stats[0] == pytest.approx(1)


@pytest.mark.parametrize(
  'write, boxes',
  [(coco.write_truth, TRUTH), (coco.write_detections, DETECTIONS)],
)
@pytest.mark.parametrize('images, findings', [({}, FINDINGS), (IMAGES, ())])
def test_a_box_of_what_is_not_listed_is_named(
  tmp_path, write, boxes, images, findings
):
  with pytest.raises(ValueError, match="'Mass' on 'a.png'"):
    write(str(tmp_path / 'x.json'), images, findings, boxes)
