"""The pictures beside the first sentence: which films, and what of them."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cxr.reporting import median_films


def case(finding, side, *, kind='typical', another=True):
  """A film with a square true box, which its own map's box covers by half."""
  box, half = [0, 0, side, side], [0, 0, side, side / 2]
  heatmap = np.zeros((16, 16))
  heatmap[0, 0] = 1
  donated = {'name': 'other.png', 'map': heatmap[::-1], 'boxes': [[0.9] * 4]}
  return {
    'name': f'{finding}.png',
    'image': np.full((300, 200), 100, np.uint8),
    'finding': finding,
    'kind': kind,
    'truth': [box],
    'maps': {'cam': heatmap, 'gradient': heatmap},
    'boxes': {'cam': [half]},
    'another': {'cam': donated} if another else {},
  }


def of_one_run(cases, method='cam'):
  return median_films.medians([{'': c} for c in cases], method, 'wang')


def findings(medians):
  return [groups[0].heading for groups in medians.films]


def test_findings_are_spread_from_the_smallest_boxes_to_the_largest():
  sides = {'g': 0.7, 'a': 0.1, 'c': 0.3, 'e': 0.5, 'b': 0.2, 'd': 0.4, 'f': 0.6}
  cases = [case(finding, side) for finding, side in sides.items()]
  # Every other of seven; the order in which they are stored says nothing.
  assert findings(of_one_run(cases)) == ['a', 'c', 'e', 'g']
  assert findings(of_one_run(cases[::-1])) == ['a', 'c', 'e', 'g']
  assert findings(of_one_run(cases[:2])) == ['a', 'g']


def test_only_the_median_films_are_shown():
  cases = [case('a', 0.1, kind='best'), case('b', 0.2), case('c', 0.1)]
  cases[2]['truth'] = []
  assert findings(of_one_run(cases)) == ['b']
  assert of_one_run(cases[:1]) is None
  assert of_one_run([]) is None
  assert of_one_run(cases, 'occlusion') is None
  assert of_one_run(cases, None) is None


def test_the_film_its_own_map_and_another_patients():
  ((film, maps),) = of_one_run([case('Mass', 0.5)]).films
  assert [p.title for p in (*film.panels, *maps.panels)] == [
    'film', 'own map', "another patient's"
  ]  # fmt: skip
  own, another = maps.panels
  assert own.line == 'IoU 0.50' and own.truth == [[0, 0, 0.5, 0.5]]
  assert another.line == 'IoU 0.00' and another.truth == own.truth
  assert 'other.png' in another.alt and 'Mass.png' in another.alt


def pixels(panel):
  raw = base64.b64decode(panel.src.partition(',')[2])
  return np.asarray(Image.open(io.BytesIO(raw)).convert('RGB'), np.float64)


def test_pictures_are_small_and_show_the_maps():
  ((film, maps),) = of_one_run([case('Mass', 0.5)]).films
  own, another = map(pixels, maps.panels)
  assert own.shape == another.shape == pixels(film.panels[0]).shape
  assert max(own.shape) == median_films.SIDE
  bright = own.sum(axis=-1)
  assert np.unravel_index(bright.argmax(), bright.shape)[0] < 14
  np.testing.assert_allclose(another[::-1], own, atol=40)


def test_an_older_run_shows_what_it_has():
  medians = of_one_run([case('Mass', 0.5, another=False)])
  ((_, maps),) = medians.films
  assert [p.title for p in maps.panels] == ['own map']
  assert "Another patient's maps are not here" in medians.caption


@pytest.mark.parametrize('number', [2, 3])
def test_two_runs_stand_side_by_side(number):
  runs = ['first', 'second', 'third'][:number]
  by_run = dict.fromkeys(runs, case('Mass', 0.5))
  medians = median_films.medians([by_run], 'cam', 'wang')
  assert [g.heading for g in medians.films[0]] == ['Mass', 'first', 'second']
  assert ('Of 3 runs the first 2' in medians.caption) == (number == 3)
