"""What other tools would read of an evaluation, and what they would score."""

import json

import numpy as np
import pytest

from cxr import data, stored_rows
from cxr.exporting import boxes_and_masks, chexlocalize, coco
from cxr.localization import overlap, scoring
from cxr.scored_maps import map_controls, map_rows
from input_pipeline import placement
from input_pipeline.findings import BOXED, FINDINGS
from input_pipeline.radiograph import radiograph, views
from tests.exporting import readers

SIZE = 16
N = 6


@pytest.fixture(scope='module')
def films():
  """Boxes on the pixel grid; film 0 has none of Mass, no film has a Nodule, and
  film 3 has a mask of the first finding."""
  rng = np.random.default_rng(0)
  corner = rng.integers(0, 8, (N, len(BOXED), 2))
  side = rng.integers(2, 8, (N, len(BOXED), 2))
  truth = np.concatenate([corner, corner + side], axis=-1) / SIZE
  truth[0, BOXED.index('Mass')] = truth[:, BOXED.index('Nodule')] = np.nan
  truth = np.stack([truth, np.full_like(truth, np.nan)], axis=2)
  truth[2, 0, 1] = [0.0, 0.0, 0.25, 0.5]  # a second box
  name = np.array([f'{i}.png' for i in range(N)])
  label = np.zeros((N, len(BOXED)))
  return data.BoxedFilms(
    BOXED,
    np.arange(N) + 3,
    name,
    np.arange(N) // 2,
    label,
    truth,
    np.tile([1024, 1024, 0, 0, 0], (N, 1)),
    {(3, 0): rng.random((SIZE, SIZE)) < 0.2},
  )


@pytest.fixture(scope='module')
def maps():
  maps = np.random.default_rng(1).normal(size=(N, SIZE, SIZE, len(BOXED)))
  maps[1, ..., 0] = 0  # constant
  maps[2, 3, 3, 0] = np.nan
  return maps


def rows(films, maps, rule):
  """The scored boxes of all findings, as an evaluation stores them."""
  return stored_rows.concatenate_boxes(
    [
      map_rows.score(
        maps[..., k], map_controls.of_finding(films, k), 'cam', [rule]
      )
      for k in range(len(BOXED))
    ]
  )


@pytest.mark.parametrize('rule', ['wang', 'otsu', 'tuned'])
def test_chexlocalize_scores_the_files_as_we_score_the_maps(
  films, maps, rule, tmp_path
):
  boxes_and_masks.write_chexlocalize(
    str(tmp_path), 'cam', films, maps, rule=rule
  )
  names = boxes_and_masks.chexlocalize_files('cam')
  assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
  # The files alone, by that tool's definitions: mean over films with a truth.
  truth, masks = (
    readers.segmentations(tmp_path / f'chexlocalize-{kind}.json')
    for kind in ('truth', 'cam')
  )
  hits = readers.results(tmp_path / 'chexlocalize-cam-hit.csv')
  ious = readers.results(tmp_path / 'chexlocalize-cam-iou.csv')
  every = readers.results(tmp_path / 'chexlocalize-cam-iou-all.csv')
  assert hits[:2] == ious[:2] == (films.name.tolist(), list(BOXED))
  for k, finding in enumerate(BOXED):
    task = chexlocalize.task(finding)
    of_finding = rows(films, maps, rule).where(finding=finding)
    ours = of_finding.rows(of_finding.first_of_maps()).score.T
    ours = dict(zip(scoring.SCORES, ours, strict=True))
    theirs = np.array(
      [
        (truth[n][task] & masks[n][task]).sum()
        / max((truth[n][task] | masks[n][task]).sum(), 1)
        if truth[n][task].any()
        else np.nan
        for n in films.name
      ]
    )
    np.testing.assert_allclose(theirs, ours['mask_iou'])
    # Theirs: a film without a true or a predicted mask does not count.
    empty = np.array([not masks[n][task].any() for n in films.name])
    expected = np.where(empty, np.nan, theirs)
    np.testing.assert_allclose(ious[2][:, k], expected)
    # With --true_pos_only False it does: films without the finding are 0.
    expected = np.where(np.isnan(theirs) & ~empty, 0, theirs)
    np.testing.assert_allclose(every[2][:, k], expected)
    # A constant map's peak is anywhere: theirs is its first pixel.
    peaked = [i for i in range(N) if (i, k) != (1, 0)]
    np.testing.assert_array_equal(hits[2][peaked, k], ours['pointing'][peaked])
  assert not masks['1.png']['Atelectasis'].any()


def test_coco_files_hold_the_true_and_the_predicted_boxes(
  films, maps, tmp_path
):
  chosen = rows(films, maps, 'otsu')
  logits = np.random.default_rng(2).normal(size=(N + 3, len(FINDINGS)))
  boxes_and_masks.write_coco(str(tmp_path), films, chosen, logits, SIZE)
  truth, found = (
    json.loads((tmp_path / f'coco-{kind}.json').read_text())
    for kind in ('truth', 'cam')
  )
  assert [image['file_name'] for image in truth['images']] == list(films.name)
  assert {image['height'] for image in truth['images']} == {1024}
  assert len(truth['annotations']) == overlap.has_box(films.truth).sum()
  for annotation in truth['annotations']:
    of_pair = films.truth[
      annotation['image_id'] - 1, annotation['category_id'] - 1
    ]
    assert any(
      np.allclose(annotation['bbox'], coco.to_coco(box, 1024, 1024))
      for box in of_pair
    )
  # The film with two true boxes has two rows and one map.
  assert len(chosen.count) == N * len(BOXED) + 1
  maps_of = chosen.rows(chosen.first_of_maps())
  assert len(found) == maps_of.count.sum() < chosen.count.sum()
  first = found[0]
  np.testing.assert_allclose(
    first['bbox'], coco.to_coco(chosen.box[0], 1024, 1024)
  )
  finding = BOXED[first['category_id'] - 1]
  logit = logits[films.row[first['image_id'] - 1], FINDINGS.index(finding)]
  assert first['score'] == pytest.approx(1 / (1 + np.exp(-logit)))


@pytest.mark.parametrize('turn', [(0, 0, 0), (1, 0, 1), (0, 1, 0), (1, 1, 1)])
@pytest.mark.parametrize('shape', [(300, 200), (200, 300), (240, 240)])
def test_boxes_return_to_the_pixels_of_the_film(shape, turn, tmp_path):
  """Of a film that was turned upright and padded to a square."""
  size = 48
  upright = shape[::-1] if turn[0] else shape
  square = placement.Square(
    np.zeros((size, size), np.uint8),
    *shape,
    views.Turn(*map(bool, turn)),
    radiograph.padded(*upright, size),
  )
  stored = 20, 30, 90, 130  # ymin, xmin, ymax, xmax in the film's own pixels
  box = placement.place_box(square, stored, None)
  films = data.BoxedFilms(
    ('Zyste',),
    np.array([0]),
    np.array(['a.png']),
    np.array([7]),
    np.ones((1, 1)),
    np.array(box).reshape(1, 1, 1, 4),
    np.array([[*shape, *turn]]),
  )
  whole = np.array([0.0, 0.0, 1.0, 1.0])  # with the black beside the film
  boxes = stored_rows.from_scored(
    scoring.Scored(
      index=np.array([0]),
      truth=np.array([box]),
      count=np.array([2]),
      box=np.array([box, whole]),
      score=np.zeros((1, len(scoring.SCORES))),
      masked=np.array([False]),
    ),
    films.name,
    films.patient,
    finding='Zyste',
    method='cam',
    rule='wang',
  )
  boxes_and_masks.write_coco(
    str(tmp_path), films, boxes, np.zeros((1, 1)), size
  )
  truth, found = (
    json.loads((tmp_path / f'coco-{kind}.json').read_text())
    for kind in ('truth', 'cam')
  )
  (image,) = truth['images']
  assert (image['height'], image['width']) == shape
  expected = [30, 20, 100, 70]
  assert truth['annotations'][0]['bbox'] == pytest.approx(expected)
  assert found[0]['bbox'] == pytest.approx(expected)
  assert found[1]['bbox'] == pytest.approx([0, 0, shape[1], shape[0]])
