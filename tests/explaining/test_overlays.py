"""The picture of a film, looked at pixel by pixel."""

import numpy as np
import pytest

from cxr.explaining import overlays


def picture(heatmap, found, name='Mass'):
  finding = {
    'finding': name,
    'probability': 0.5,
    'maps': {'cam': heatmap},
    'boxes': {'cam': found},
  }
  return np.asarray(overlays.draw(np.full((64, 64), 128, np.uint8), [finding]))


def test_film_stands_beside_its_map():
  heatmap = np.zeros((64, 64))
  heatmap[:, 32:] = 1
  sheet = picture(heatmap, [])
  side, top = overlays.PANEL, overlays.TITLE
  assert (sheet[top : top + side, :side] == 128).all()
  shown = sheet[top : top + side, side : 2 * side].astype(float).sum(axis=-1)
  assert shown[:, : side // 2 - 8].mean() < shown[:, side // 2 + 8 :].mean()


def test_box_is_dashed_where_it_is():
  plain = picture(np.zeros((64, 64)), [])
  sheet = picture(np.zeros((64, 64)), [[0.25, 0.5, 0.75, 1.0]])
  rows_, columns = np.nonzero((sheet != plain).any(axis=-1))
  side, top = overlays.PANEL, overlays.TITLE
  box = np.array(
    [
      rows_.min() - top,
      columns.min() - side,
      rows_.max() - top,
      columns.max() - side,
    ]
  )
  np.testing.assert_allclose(box / side, [0.25, 0.5, 0.75, 1], atol=0.01)
  edge = sheet[top + side // 4, side + side // 2 : 2 * side]
  assert len(np.unique(edge, axis=0)) == 2


@pytest.mark.parametrize('value', [0.0, -3.0, np.nan])
def test_map_without_range(value):
  picture(np.full((64, 64), value), [])


def test_a_long_name_does_not_reach_the_next_title():
  heatmap, side = np.zeros((64, 64)), overlays.PANEL
  short, long = (
    picture(heatmap, [], name)[: overlays.TITLE]
    for name in ('Mass', 'Enlarged cardiomediastinal silhouette, moderate')
  )
  np.testing.assert_array_equal(short[:, side:], long[:, side:])
  assert (long[:, : side - 8] < 128).sum() > (short[:, :side] < 128).sum()
