"""COCO files, against the format's own definition."""

import json

import numpy as np
import pytest

from cxr.exporting import coco


def test_coco_boxes_are_pixels_from_the_top_left():
  box = np.array([0.25, 0.125, 0.75, 0.625])
  pixels = coco.to_coco(box, 100, 800)
  np.testing.assert_array_equal(pixels, [100, 25, 400, 50])
  np.testing.assert_allclose(coco.from_coco(pixels, 100, 800), box)


def test_coco_files_come_back(tmp_path):
  path = str(tmp_path / 'boxes.json')
  images = {'a.png': (1024, 1024), 'b.png': (2000, 1500), 'none.png': (9, 8)}
  boxes = [
    ('a.png', 'Mass', np.array([0.1, 0.2, 0.3, 0.4])),
    ('b.png', 'Nodule', np.array([0.5, 0.5, 0.75, 1.0]), 0.9),
  ]
  coco.write_coco(path, images, boxes, ('Mass', 'Nodule'))
  content = json.loads((tmp_path / 'boxes.json').read_text())
  assert content['annotations'][1]['bbox'] == [750, 1000, 750, 500]
  assert content['annotations'][1]['area'] == 750 * 500
  assert {i['id'] for i in content['images']} == {1, 2, 3}
  read_images, read_boxes = coco.read_coco(path)
  assert read_images == images
  for read, written in zip(read_boxes, boxes, strict=True):
    assert read[:2] == written[:2]
    np.testing.assert_allclose(read[2], written[2])
    assert read[3:] == written[3:]


def test_coco_names_what_is_wrong(tmp_path):
  path = str(tmp_path / 'boxes.json')
  with pytest.raises(ValueError, match='b.png'):
    coco.write_coco(path, {}, [('b.png', 'Mass', np.zeros(4))], ('Mass',))
  (tmp_path / 'boxes.json').write_text('{"images": []}')
  with pytest.raises(ValueError, match='categories'):
    coco.read_coco(path)
  (tmp_path / 'boxes.json').write_text('no')
  with pytest.raises(ValueError, match='not a JSON file'):
    coco.read_coco(path)
