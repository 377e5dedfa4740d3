"""Maps and boxes made without the film."""

import hypothesis
import hypothesis.strategies as st
import numpy as np

from cxr.localization import controls, regions
from tests.localization import made_boxes


def test_a_random_map_is_its_film_s_own():
  weights = [np.repeat(np.eye(n), 4, axis=0) for n in (4, 3)]
  first = controls.random_map((0, 7), *weights)
  again = controls.random_map((0, 7), *weights)
  other = controls.random_map((0, 8), *weights)
  assert first.shape == (16, 12)
  np.testing.assert_array_equal(first, again)
  assert not np.array_equal(first, other)


def test_donors_are_other_patients_films_without_the_finding():
  patient = np.array([1, 1, 2, 3, 4, 5, 6])
  without = np.array([False, True, True, False, True, True, True])
  drawn = [
    controls.draw_donors((0, seed), patient, without, 0, 3).tolist()
    for seed in range(60)
  ]
  # Film 1 is of the same patient, film 3 has the finding.
  assert {film for films in drawn for film in films} == {2, 4, 5, 6}
  assert all(len(set(films)) == 3 for films in drawn)
  assert len({tuple(sorted(films)) for films in drawn}) == 4
  again = controls.draw_donors((0, 7), patient, without, 0, 3)
  assert again.tolist() == drawn[7]
  few = controls.draw_donors(0, patient[:3], without[:3], 0, 3)
  assert few.tolist() == [2]
  assert not len(controls.draw_donors(0, patient[:2], without[:2], 0, 3))


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
  # Several boxes of a film are several.
  several = np.stack([truth[:2], truth[2:]])
  mean = controls.mean_boxes(several, np.array([5, 9]))
  np.testing.assert_allclose(mean, [truth[2], truth[:2].mean(axis=0)])


@hypothesis.given(made_boxes.STRATEGY, st.integers(0, 9))
@hypothesis.settings(max_examples=50, deadline=None)
def test_boxes_set_down_keep_number_and_area_and_stay_on_the_film(box, seed):
  boxes = np.stack([box, box, [0.9, 0.9, 1, 1]])
  moved = controls.set_down((0, seed), boxes)
  np.testing.assert_allclose(
    moved[:, 2:] - moved[:, :2], boxes[:, 2:] - boxes[:, :2], atol=1e-12
  )
  assert (moved >= 0).all() and (moved <= 1).all()
  whole = np.array([[0.0, 0, 1, 1]])  # fits in one place alone
  np.testing.assert_array_equal(controls.set_down((0, seed), whole), whole)
  np.testing.assert_array_equal(moved, controls.set_down((0, seed), boxes))


def test_a_box_within_another_stays_within_it():
  heatmap = np.zeros((16, 16))
  # At the border: a map that is rolled around would be torn.
  heatmap[:6, 10:] = 1.0
  heatmap[1:3, 12:] = heatmap[4:5, 10:12] = 2.0
  heatmap[12:, :4] = 1.0
  boxes = regions.levels_to_boxes(heatmap, (0.5, 1.5))
  assert len(boxes) == 4
  places = set()
  for seed in range(20):
    moved = controls.set_down((0, seed), boxes)
    # The first and the second are the outer ones; both others lie in the first.
    for inner in (2, 3):
      assert (moved[inner, :2] >= moved[0, :2] - 1e-12).all()
      assert (moved[inner, 2:] <= moved[0, 2:] + 1e-12).all()
      places.add(tuple(moved[inner] - moved[0]))
    np.testing.assert_allclose(
      moved[:, 2:] - moved[:, :2], boxes[:, 2:] - boxes[:, :2], atol=1e-12
    )
    places.add(tuple(moved[0]))
    places.add(tuple(moved[1]))
  assert len(places) == 80


def test_a_box_moves_in_one_that_fills_the_film():
  whole, small = [0.0, 0, 1, 1], [0.25, 0.25, 0.5, 0.5]
  boxes = np.array([small, whole, small])
  corner = []
  for seed in range(2000):
    moved = controls.set_down((0, seed), boxes)
    np.testing.assert_array_equal(moved[1], whole)
    # Equal boxes, as two levels may give them, stay one.
    np.testing.assert_allclose(moved[2], moved[0], atol=1e-12)
    corner.append(moved[0, :2])
  np.testing.assert_allclose(np.mean(corner, axis=0), 0.375, atol=0.02)
  np.testing.assert_allclose(
    np.std(corner, axis=0), 0.75 / np.sqrt(12), rtol=0.05
  )


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
