"""Maps and boxes made without the film."""

import hypothesis
import hypothesis.strategies as st
import numpy as np

from cxr.localization import controls, regions
from tests.localization import made_boxes


def test_enlargement_is_that_of_the_class_activation_maps():
  import jax

  heatmap = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
  np.testing.assert_allclose(
    controls.resize_bilinear(heatmap, (12, 10)),
    jax.image.resize(heatmap, (12, 10), 'bilinear'),
    atol=1e-6,
  )


def test_a_random_map_is_its_film_s_own():
  first = controls.random_map((0, 7), grid=(4, 4), size=(16, 16))
  again = controls.random_map((0, 7), grid=(4, 4), size=(16, 16))
  other = controls.random_map((0, 8), grid=(4, 4), size=(16, 16))
  np.testing.assert_array_equal(first, again)
  assert not np.array_equal(first, other)


def test_a_moved_map_draws_the_same_boxes_elsewhere():
  heatmap = np.zeros((16, 16))
  heatmap[7:10, 6:9] = 1.0  # inside, wherever up to 6 pixels move it
  boxes = regions.levels_to_boxes(heatmap, [0.5])
  inside, places = 0, set()
  for seed in range(40):
    moved = controls.moved_map((0, seed), heatmap)
    assert sorted(moved.ravel()) == sorted(heatmap.ravel())
    found = regions.levels_to_boxes(moved, [0.5])
    if len(found) == 1:
      inside += 1
      places.add(tuple(found[0]))
      np.testing.assert_allclose(
        found[0][2:] - found[0][:2], boxes[0][2:] - boxes[0][:2]
      )
  # (14 / 16)^2 of the places do not cut it in two.
  assert inside > 20
  assert len(places) > 15


def test_the_centre_map_peaks_in_the_centre():
  heatmap = controls.centre_map((5, 7))
  assert np.unravel_index(heatmap.argmax(), heatmap.shape) == (2, 3)
  np.testing.assert_allclose(heatmap, heatmap[::-1, ::-1])


def test_the_mean_box_leaves_the_patient_out():
  truth = np.array([[0, 0, 0.2, 0.2], [0.2, 0.2, 0.4, 0.4],
                    [0.4, 0.4, 0.8, 0.8], [np.nan] * 4])  # fmt: skip
  mean = controls.mean_boxes(truth, np.array([5, 5, 9, 7]))
  np.testing.assert_allclose(mean[0], truth[2])
  np.testing.assert_allclose(mean[1], truth[2])
  np.testing.assert_allclose(mean[2], truth[:2].mean(axis=0))
  np.testing.assert_allclose(mean[3], truth[:3].mean(axis=0))
  assert np.isnan(controls.mean_boxes(truth[:2], np.array([5, 5]))).all()


@hypothesis.given(made_boxes.STRATEGY, st.integers(0, 9))
@hypothesis.settings(max_examples=50, deadline=None)
def test_boxes_set_down_keep_number_and_area_and_stay_on_the_film(box, seed):
  boxes = np.stack([box, box, [0, 0, 1, 1], [0.9, 0.9, 1, 1]])
  moved = controls.set_down((0, seed), boxes)
  np.testing.assert_allclose(
    moved[:, 2:] - moved[:, :2], boxes[:, 2:] - boxes[:, :2], atol=1e-12
  )
  assert (moved >= 0).all() and (moved <= 1).all()
  np.testing.assert_array_equal(moved[2], boxes[2])  # fits in one place alone
  np.testing.assert_array_equal(moved, controls.set_down((0, seed), boxes))


def test_boxes_are_set_down_anywhere():
  box = np.array([[0.0, 0.0, 0.5, 0.2]])
  corner = np.stack(
    [controls.set_down((0, seed), box)[0, :2] for seed in range(2000)]
  )
  # Uniform over [0, .5] x [0, .8].
  np.testing.assert_allclose(corner.mean(axis=0), [0.25, 0.4], atol=0.02)
  np.testing.assert_allclose(
    corner.std(axis=0), np.array([0.5, 0.8]) / np.sqrt(12), rtol=0.05
  )
  assert controls.set_down(0, np.zeros((0, 4))).shape == (0, 4)
