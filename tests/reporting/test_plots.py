"""Figures: what is drawn where, and texts that would break a page."""

import re
import subprocess
import sys
from xml.dom import minidom

import numpy as np
import pytest
from matplotlib import colors

from cxr.reporting import plots
from tests import made_workdir

HOSTILE = 'a$b$_^{</svg><script>alert(1)</script>'


def _points(*values):
  return [
    (i, made_workdir.undefined() if v is None else made_workdir.estimate(v))
    for i, v in enumerate(values)
  ]


def _curves(series):
  return plots.curves(series, xlabel='x', ylabel='y')


def _pixels(figure):
  figure.canvas.draw()
  return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def _count(pixels, color, tolerance=12):
  rgb = np.array(colors.to_rgb(color)) * 255
  return int((np.abs(pixels - rgb).max(-1) <= tolerance).sum())


def test_svg_is_xml_in_the_pages_ink():
  figure = _curves({'a': _points(0.8, 0.4), 'b': _points(0.7, 0.6)})
  text = plots.svg(figure, 'A & "B" <c>')
  root = minidom.parseString(text).documentElement
  assert root.getAttribute('aria-label') == 'A & "B" <c>'
  assert root.getAttribute('role') == 'img'
  assert root.getAttribute('viewBox')
  assert 'currentColor' in text and plots.INK not in text
  assert '<style' not in text and '<metadata' not in text


@pytest.mark.parametrize('name', [HOSTILE, '_hidden', 'x' * 300, '$'])
def test_names_are_text(name):
  series = {name: _points(0.8, 0.4), 'b': _points(0.7, 0.6)}
  text = plots.svg(_curves(series), name)
  assert '<script' not in text
  minidom.parseString(text)
  legend = [
    t.firstChild.data
    for t in minidom.parseString(text).getElementsByTagName('text')
  ]
  assert name in legend or f'{name[:39]}…' in legend


def test_a_dashed_line_has_the_colour_of_the_line_before():
  series = {name: _points(0.8, 0.4) for name in 'abcd'}
  figure = plots.curves(series, xlabel='x', ylabel='y', dashed=('b', 'd'))
  a, b, c, d = figure.axes[0].lines
  assert a.get_color() == b.get_color() != c.get_color() == d.get_color()
  styles = [line.get_linestyle() for line in (a, b, c, d)]
  assert styles == ['-', '--'] * 2


def test_ids_of_two_figures_differ():
  ids = [
    set(
      re.findall(
        r' id="([^"]*)"',
        plots.svg(_curves({'a': _points(0.8, 0.4)}), title),
      )
    )
    for title in ('first', 'second')
  ]
  assert ids[0] and not ids[0] & ids[1]


def test_svg_is_deterministic():
  make = lambda: plots.svg(_curves({'a': _points(0.8, 0.4)}), 'x')
  assert make() == make()


def test_undefined_points_leave_gaps():
  figure = _curves({'a': _points(0.8, None, 0.4)})
  (line,) = figure.axes[0].get_lines()
  np.testing.assert_allclose(line.get_ydata(), [0.8, np.nan, 0.4])


def test_a_single_point_is_visible():
  figure = _curves({'a': [(1, {'value': 2.0})]})
  assert figure.axes[0].get_lines()[0].get_marker() == 'o'


def test_band_is_the_interval():
  figure = _curves({'a': _points(0.5, 0.3)})
  band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
  np.testing.assert_allclose([band.min(), band.max()], [0.26, 0.54])


def _gallery(heatmap, truth=(), boxes=()):
  case = {
    'finding': HOSTILE,
    'image': np.zeros((64, 64), np.uint8),
    'truth': truth,
    'maps': {HOSTILE: {'cam': heatmap}},
    'boxes': {HOSTILE: {'cam': boxes}},
  }
  return plots.gallery_figure([case], runs=[HOSTILE], methods=['cam'])


@pytest.mark.parametrize(
  'heatmap',
  [
    np.zeros((4, 4)),
    np.full((4, 4), np.nan),
    -np.ones((3, 5)),
    np.array([[np.nan, 1.0], [np.inf, -2.0]]),
  ],
)
def test_degenerate_maps_are_drawn(heatmap):
  assert _pixels(_gallery(heatmap)).size


def test_boxes_are_drawn_where_they_are():
  figure = _gallery(np.zeros((4, 4)), truth=[(0.25, 0.5, 0.75, 1.0)])
  pixels = _pixels(figure)
  rgb = np.array(colors.to_rgb(plots.TRUTH)) * 255
  box = figure.axes[0].get_position()
  height, width = pixels.shape[:2]
  film = pixels[round((1 - box.y1) * height) : round((1 - box.y0) * height)]
  y, x = np.nonzero(np.abs(film - rgb).max(-1) < 40)
  size = box.height * height
  assert abs(y.min() - 0.25 * size) < 3 and abs(y.max() - 0.75 * size) < 3
  assert abs(x.min() - (box.x0 + 0.5 * box.width) * width) < 3


def test_truth_is_solid_and_prediction_dashed():
  box, heatmap = [(0.2, 0.2, 0.8, 0.8)], np.zeros((4, 4))
  solid = _count(_pixels(_gallery(heatmap, truth=box)), plots.TRUTH, 40)
  dashed = _count(_pixels(_gallery(heatmap, boxes=box)), plots.PREDICTION, 40)
  # The truth stands on the film and on the map.
  assert 0.3 * solid / 2 < dashed < 0.9 * solid / 2


def test_gallery_figure_leaves_missing_maps_empty(tmp_path):
  rng = np.random.default_rng(0)
  case = {
    'finding': 'Mass $x$',
    'image': made_workdir.film(rng, 32),
    'truth': [(0.2, 0.2, 0.5, 0.5)],
    'maps': {'base': {'cam': rng.random((4, 4))}, 'robust': {}},
    'boxes': {'base': {'cam': [(0.1, 0.1, 0.4, 0.4)]}},
  }
  figure = plots.gallery_figure(
    [case, case], runs=['base', 'robust'], methods=['cam', 'gradient']
  )
  images = [len(axes.get_images()) for axes in figure.axes]
  # Row by row: the films; the maps, one of which is there. Then the colour bar.
  assert images == [1, 1] + [2, 2] + 3 * [0, 0] + [1]
  path = tmp_path / 'figure.png'
  plots.save(figure, path)
  assert path.stat().st_size > 1000


@pytest.mark.parametrize(
  'runs, labels',
  [
    (['a_baseline_0', 'a_robust_2_0'], ['baseline_0', 'robust_2_0']),
    (['baseline', 'b-robust'], ['baseline', 'b-robust']),
    (['mixed_', 'mixed_1'], ['mixed_', 'mixed_1']),
    (['nih_$x^baseline$'], ['nih_$x^baseline$']),
    (['W' * 30 + '0', 'v' + 'W' * 30], ['W' * 9 + '…' + 'W' * 9 + '0', None]),
  ],
)
def test_row_labels_tell_runs_apart_and_stay_on_the_page(runs, labels):
  case = {'finding': 'Mass', 'image': np.zeros((8, 8)), 'truth': []}
  fig = plots.gallery_figure(
    [case | {'maps': {}, 'boxes': {}}], runs=runs, methods=['cam']
  )
  fig.draw_without_rendering()
  texts = {t.get_text(): t for axes in fig.axes for t in axes.texts}
  for label in labels:
    assert label is None or f'{label}\ncam' in texts
  for text in texts.values():
    assert text.get_window_extent().x0 >= 0


@pytest.mark.parametrize('count', [1, 2, 3, 8])
def test_bar_and_legend_have_room_below_any_number_of_films(count):
  case = {'finding': 'Enlarged Cardiomediastinum of a long name'}
  case |= {'image': np.zeros((8, 8)), 'truth': [], 'maps': {}, 'boxes': {}}
  fig = plots.gallery_figure([case] * count, runs=['a'], methods=['cam'])
  fig.draw_without_rendering()
  bar = fig.axes[-1]
  low, high = (t.get_window_extent() for t in bar.get_xticklabels())
  assert low.x1 < high.x0
  (legend,) = fig.legends
  legend = legend.get_window_extent()
  for extent in (bar.get_window_extent(), low, high):
    assert not extent.overlaps(legend)
    assert extent.x0 >= 0 and extent.x1 <= fig.bbox.x1
  titles = [axes.title.get_window_extent() for axes in fig.axes[:count]]
  for left, right in zip(titles, titles[1:], strict=False):
    assert left.x1 < right.x0
  assert titles[0].y1 <= fig.bbox.y1


def test_pyplot_stays_out():
  # Its figures are global, and are never freed in a long run.
  code = (
    'from cxr.reporting import plots; import sys; '
    + 'print("matplotlib.pyplot" in sys.modules)'
  )
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == 'False'
