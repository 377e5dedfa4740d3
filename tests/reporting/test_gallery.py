"""Films and maps, packed for a page."""

import base64

import numpy as np
import pytest

from cxr.reporting import gallery


def test_a_map_survives_the_page():
  rng = np.random.default_rng(0)
  heatmap = rng.normal(size=(9, 7)).astype(np.float32)
  page = gallery.gallery(
    [
      {
        'name': 'a',
        'image': np.zeros((18, 14), np.uint8),
        'finding': 'Mass',
        'maps': {'cam': heatmap},
      }
    ]
  )
  packed = page['data']['cases'][0]['maps']['cam']
  cells = np.frombuffer(base64.b64decode(packed['data']), 'u1')
  step = (packed['high'] - packed['low']) / 255
  restored = packed['low'] + step * cells.reshape(packed['shape'])
  np.testing.assert_allclose(restored, heatmap, atol=step / 2 + 1e-6)


@pytest.mark.parametrize(
  'heatmap', [np.zeros((3, 3)), np.full((3, 3), np.nan), np.zeros((0, 0))]
)
def test_degenerate_maps_are_packed(heatmap):
  case = {
    'name': 'a',
    'image': np.zeros((6, 6), np.uint8),
    'finding': 'Mass',
    'maps': {'cam': heatmap},
  }
  packed = gallery.gallery([case])['data']['cases'][0]['maps']['cam']
  assert packed['low'] == packed['high'] == 0
