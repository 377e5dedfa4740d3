"""Example films: cases as stored, or one sentence."""

import numpy as np
import pytest

from cxr import files
from cxr.reporting import examples


def arrays():
  return {
    'name': np.array(['a.png', 'b.png']),
    'finding': np.array(['Mass', 'Nodule']),
    'kind': np.array(['typical', 'worst']),
    'probability': np.array([0.5, 0.25]),
    'image': np.zeros((2, 4, 4), np.uint8),
    'truth': np.array([[[0, 0, 1, 1]], [[np.nan] * 4]]),
    'map_cam': np.zeros((2, 2, 2), np.float32),
  }


def test_cases_are_those_stored(tmp_path):
  assert examples.read(str(tmp_path), 'wang') == []
  files.write_arrays(str(tmp_path / 'examples.npz'), arrays())
  first, second = examples.read(str(tmp_path), 'wang')
  assert (first['name'], first['truth']) == ('a.png', [[0, 0, 1, 1]])
  assert (second['probability'], second['truth']) == (0.25, [])
  assert first['another'] == second['another'] == {}


def test_another_patients_map_stands_with_its_film(tmp_path):
  donors = {
    'donor': np.array(['c.png', '']),
    'donor_map_cam': np.stack([np.eye(2), np.zeros((2, 2))]),
  }
  files.write_arrays(str(tmp_path / 'examples.npz'), arrays() | donors)
  first, second = examples.read(str(tmp_path), 'wang')
  assert list(first['another']) == ['cam'] and second['another'] == {}
  assert first['another']['cam']['name'] == 'c.png'
  np.testing.assert_array_equal(first['another']['cam']['map'], np.eye(2))


def test_a_damaged_file_is_named_with_what_makes_it_anew(tmp_path):
  path = tmp_path / 'examples.npz'
  files.write_arrays(str(path), arrays())
  whole = path.read_bytes()
  short = arrays() | {'kind': np.array(['typical'])}
  for content in (whole[:-300], whole[: len(whole) // 2], b'', short):
    if isinstance(content, bytes):
      path.write_bytes(content)
    else:
      files.write_arrays(str(path), content)
    with pytest.raises(ValueError, match=r'examples\.npz .*--mode=evaluate'):
      examples.read(str(tmp_path), 'wang')
