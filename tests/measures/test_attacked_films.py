"""Measures of attacks on a model whose answer is known."""

import numpy as np
import pytest

from cxr.measures import attacked_films, measure_table
from input_pipeline.findings import BOXED
from tests.made_row_sums import EPSILON, SIZE, K, make, row_box


def test_a_finding_crosses_where_epsilon_reaches_the_operating_point():
  found = {m.measure: m for m in attacked_films.targeted(make())}
  assert {m.condition for m in found.values()} == {'pgd-10 5'}
  nan = np.nan
  # 154 - 5 < 150 <= 156 - 5; 146 + 5 >= 150 > 144 + 5.
  expected = {
    'hidden': [1, 0, nan, nan, 0, nan],
    'planted': [nan, nan, 1, 0, nan, 0],
  }
  for name, of_film in expected.items():
    value = found[name].value
    assert value.shape == (6, K)
    for k in range(K):
      np.testing.assert_array_equal(value[:, k], of_film)
  for goal, done in (('hide', 'hidden'), ('plant', 'planted')):
    moved = found[f'{goal}_moves_others'].value
    np.testing.assert_array_equal(np.isnan(moved), np.isnan(found[done].value))
    # The target moves by 16 epsilon, the others are held.
    assert np.nanmax(moved) < 0.25 * SIZE * EPSILON / 255
  figure = measure_table.estimates(
    list(found.values()), num_resamples=20, seed=0
  )
  assert figure['hidden']['']['pgd-10 5']['mean']['value'] == pytest.approx(
    1 / 3
  )


def test_targeted_values_by_hand():
  before = np.float32([[1.0, -1.0, 0.5], [0.0, 2.0, 0.5]])
  after = np.stack([before] * 3)
  after[0, 0] = [-0.5, -1.5, 0.5]  # hides the first film's first finding
  after[1, 0] = [1.0, -0.5, 2.5]  # plants its second, not far enough
  after[1, 1] = [0.0, 0.0, 0.5]  # brings the second film's to the threshold
  threshold = np.array([0.25, 0.0, np.inf])
  found = attacked_films.targeted_values(before, after, threshold)
  nan = np.nan
  np.testing.assert_array_equal(found['hidden'], [[1, nan, nan], [nan, 0, nan]])
  np.testing.assert_array_equal(
    found['planted'], [[nan, 0, nan], [0, nan, nan]]
  )
  np.testing.assert_allclose(
    found['hide_moves_others'], [[0.25, nan, nan], [nan, 0, nan]]
  )
  np.testing.assert_allclose(
    found['plant_moves_others'], [[nan, 1.0, nan], [0, nan, nan]]
  )


def test_a_gradient_that_does_not_hang_on_the_film_stays_under_attack():
  elsewhere = row_box(15)
  boxes = [(1, 0, row_box(0)), (1, 3, elsewhere), (4, 3, row_box(3))]
  found = attacked_films.under_attack(make(boxes=boxes), ['gradient'])
  assert all(m.findings == BOXED and m.method == 'gradient' for m in found)
  subject = {(m.measure, m.condition): m.value for m in found}
  assert subject.keys() == {
    ('box_iou', 'clean'),
    ('box_iou', 'pgd-10 5'),
    ('pointing', 'clean'),
    ('pointing', 'pgd-10 5'),
    ('map_spearman', 'pgd-10 5'),
    ('map_ssim', 'pgd-10 5'),
  }
  for (measure, _), value in subject.items():
    # Films 1 and 4 alone have boxes; NaN without one of the finding.
    expected = np.full((2, len(BOXED)), np.nan)
    expected[0, 0] = expected[1, 3] = 1
    expected[0, 3] = 1 if measure.startswith('map_') else 0
    np.testing.assert_allclose(value, expected, atol=1e-6)


def test_maps_that_localization_made_are_not_made_again(monkeypatch):
  boxes = [(1, 0, row_box(0)), (1, 3, row_box(15)), (4, 3, row_box(3))]
  subject = make(boxes=boxes)
  mapped = []

  def maps_of(of_subject, method, rows, image, film, finding):
    mapped.append(image)
    return rows_of(of_subject, method, rows, image, film, finding)

  rows_of = attacked_films._maps_of
  monkeypatch.setattr(attacked_films, '_maps_of', maps_of)
  expected = attacked_films.under_attack(subject, ['gradient'])
  assert len(mapped) == 2
  clean = np.zeros((3, SIZE, SIZE), np.float32)
  clean[[0, 1, 2], [0, 3, 3]] = 1  # the finding's row, as its gradient has it
  kept = subject._replace(boxed_maps={'gradient': clean})
  found = attacked_films.under_attack(kept, ['gradient'])
  assert len(mapped) == 3  # of the attacked films alone
  for one, other in zip(found, expected, strict=True):
    assert one.key == other.key
    np.testing.assert_array_equal(one.value, other.value)


def test_no_box_is_no_measure():
  assert attacked_films.under_attack(make(), ['gradient']) == []


def test_similarity_does_not_depend_on_the_scale_of_a_map():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 3, 16, 16)).astype(np.float32)
  b[2] = 0
  found = attacked_films.map_similarity(a, b)
  other = attacked_films.map_similarity(a, 100 * b)
  same = attacked_films.map_similarity(a, 7 * a)
  for name in ('map_spearman', 'map_ssim'):
    np.testing.assert_allclose(found[name], other[name], atol=1e-6)
    np.testing.assert_allclose(same[name], 1, atol=1e-6)
    assert np.abs(found[name]).max() < 0.3
