"""Published results, and when they may stand beside others."""

import numpy as np
import pytest

from cxr.reporting import part_published, published
from input_pipeline.findings import FINDINGS


def test_wangs_means():
  # Their own tables' macro averages.
  for score, mean in {
    'iobb@0.1': 0.6811,
    'iobb@0.25': 0.5457,
    'iobb@0.5': 0.4078,
    'iobb@0.75': 0.2752,
    'iobb@0.9': 0.2085,
  }.items():
    assert published.WANG_LOCALIZATION['mean'][score] == pytest.approx(
      mean, abs=1e-4
    )
  of_findings = [published.WANG_AUROC[f] for f in FINDINGS]
  assert np.mean(of_findings) == pytest.approx(
    published.WANG_AUROC['mean'], abs=1e-4
  )


def test_caveat_knows_the_official_list():
  assert 'same official test list' in published.caveat(25596, 984)
  for images, boxes in ((1987, 984), (25596, 700), (None, 984)):
    assert 'another test set' in published.caveat(images, boxes)


def test_later_work_on_the_same_boxes():
  rows = {work.name: work for work in published.LOCALIZATION}
  assert len(rows) == len(published.LOCALIZATION) == 8
  for work in rows.values():
    values = list(work.accuracy.values())
    assert list(work.accuracy) == [f'iou@0.{i}' for i in range(1, 6)]
    assert values == sorted(values, reverse=True) and 0 < values[-1] < 1
    assert work.trained_on and work.boxes and work.source
  assert list(rows['CLARiTy 2025'].accuracy.values()) == [
    0.81,
    0.69,
    0.59,
    0.47,
    0.32,
  ]
  # A random map is below the maps of the network whose cells it has.
  random = rows['DenseNet-121, its random map'].accuracy
  for name in ('CAM', 'Grad-CAM++'):
    of_map = rows[f'DenseNet-121, {name}'].accuracy
    assert all(random[score] < of_map[score] for score in random)


def beside(name, source, **data):
  metrics = {
    'localization': {
      'methods': {
        m: {'wang': {'mean': {'iou@0.1': {'value': 0.5}}}}
        for m in ('cam', 'cam_another_patient', 'random')
      },
      'count': {'Mass': 3},
    },
    'data': {'name': source} | data,
  }
  caveat = part_published.caveat(metrics, metrics['data'])
  return part_published.beside({name: metrics}, caveat)


def test_they_stand_beside_ones_own_where_the_films_are_nihs():
  splits = {'train': {'images': 86524}, 'test': {'images': 25596}}
  shown, sources = beside('', 'nih', splits=splits)
  names = [row.cells['map'].text for row in shown.rows]
  assert names[:3] == ['cam', 'random map', 'Wang 2017'] and len(names) == 10
  first = shown.rows[0].cells
  assert first['T(IoU) 0.1'].text == '0.500' and first['T(IoU) 0.5'].text == '–'
  assert 'another test set' in shown.notes[0]
  assert [row.cells['work'].text for row in sources.rows] == names[2:]
  for row in sources.rows:
    others = 'as printed by others' in row.cells['source'].text
    assert row.mark == ('as printed by others' if others else 'published')


def test_they_do_not_stand_beside_other_films():
  assert beside('', 'phantom') == []
  assert beside('', 'table') == []
