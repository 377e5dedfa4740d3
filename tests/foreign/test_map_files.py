"""Files of maps from elsewhere: listed, read one by one, and never executed."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from cxr.foreign import map_files
from cxr.foreign.map_places import Place


class Trap:
  """A pickle that leaves a file when it is opened."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (self.path,)


def npz(path, **arrays):
  rows = {
    'image': np.array(['a.png', 'b']),
    'finding': np.array(['Mass', 'Nodule']),
    'map': np.arange(12.0).reshape(2, 2, 3),
  }
  np.savez(path, **rows | arrays)
  return str(path)


def read_all(source):
  wanted = np.ones(len(source.entries), bool)
  return list(map_files.read(source, wanted))


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_an_npz_file_is_read_row_by_row(tmp_path, save):
  maps = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float16)
  path = str(tmp_path / 'maps.npz')
  save(
    path,
    image=np.array(['a', 'b', 'c']).astype('S'),
    finding=np.array(['Mass'] * 3),
    map=maps,
    stride=32,
    offset=np.array([15.5]),
    method='theirs',
  )
  source = map_files.open_source(path)
  assert source.place == Place(32, 15.5, method='theirs')
  assert source.entries[1] == ('b', 'Mass', 'maps.npz, row 1')
  wanted = np.array([True, False, True])
  (first, one), (last, other) = map_files.read(source, wanted)
  assert (first, last) == (0, 2)
  np.testing.assert_array_equal(one, maps[0])
  np.testing.assert_array_equal(other, maps[2])
  # What the user says goes before what the file says.
  source = map_files.open_source(path, Place(16, 0.0))
  assert source.place == Place(16, 0.0, method='theirs')


def test_a_folder_holds_arrays_pictures_and_npz_files(tmp_path):
  for name in ('p1/study/view.png', 'q'):
    (tmp_path / name).mkdir(parents=True)
  cells = np.arange(6, dtype=np.int16).reshape(2, 3)
  np.save(tmp_path / 'p1/study/view.png/Mass.npy', cells)
  gray = np.array([[0, 255], [7, 8]], np.uint8)
  Image.fromarray(gray).save(tmp_path / 'q/Lung Opacity.png')
  sixteen = np.array([[0, 60000]], np.uint16)
  Image.fromarray(sixteen).save(tmp_path / 'q/Nodule.PNG')
  (tmp_path / 'r').symlink_to(tmp_path / 'p1')
  (tmp_path / 'q/loop').symlink_to(tmp_path)
  npz(tmp_path / 'more.npz')
  (tmp_path / 'predictions.csv').write_text('image,Mass\n')
  source = map_files.open_source(str(tmp_path))
  ((where, fault),) = source.faults
  assert where.endswith('q/loop') and 'that holds it' in fault.reason
  by_name = {source.entries[i][:2]: array for i, array in read_all(source)}
  np.testing.assert_array_equal(by_name['p1/study/view.png', 'Mass'], cells)
  np.testing.assert_array_equal(by_name['q', 'Lung Opacity'], gray)
  np.testing.assert_array_equal(by_name['q', 'Nodule'], sixteen)
  np.testing.assert_array_equal(
    by_name['b', 'Nodule'], [[6, 7, 8], [9, 10, 11]]
  )
  np.testing.assert_array_equal(by_name['r/study/view.png', 'Mass'], cells)
  assert len(by_name) == 6


def test_what_is_no_map_is_a_fault_with_its_reason(tmp_path):
  folder = tmp_path / 'film'
  folder.mkdir()
  save = lambda name, array: np.save(folder / f'{name}.npy', array)
  save('axes', np.zeros((1, 2, 2)))
  save('complex', np.zeros((2, 2), complex))
  save('text', np.array([['a', 'b']]))
  save('empty', np.zeros((0, 4)))
  trap = np.array([[Trap(str(tmp_path / 'ran'))]], object)
  np.save(folder / 'pickle.npy', trap, allow_pickle=True)
  (folder / 'cut.npy').write_bytes((folder / 'axes.npy').read_bytes()[:-8])
  good = io.BytesIO()
  np.save(good, np.zeros((4, 4)))
  (folder / 'short.npy').write_bytes(good.getvalue()[:-8])
  (folder / 'noise.npy').write_bytes(b'not an array')
  (folder / 'noise.png').write_bytes(b'not a picture')
  colour = np.zeros((2, 2, 3), np.uint8)
  Image.fromarray(colour).save(folder / 'colour.png')
  Image.fromarray(colour[..., 0]).convert('LA').save(folder / 'alpha.png')
  (folder / 'more.pkl').write_bytes(pickle.dumps(Trap(str(tmp_path / 'ran'))))
  (folder / 'notes.txt').write_text('hello')
  os.mkfifo(folder / 'pipe.npy')
  np.save(tmp_path / 'lonely.npy', np.zeros((2, 2)))
  (tmp_path / 'broken.npz').write_bytes(b'PK\x03\x04')
  source = map_files.open_source(str(tmp_path))
  reasons = {where: fault.reason for where, fault in source.faults}
  assert 'pickle' in reasons.pop('film/more.pkl')
  assert reasons == {
    'film/notes.txt': 'not a map (.npy, .png or .npz)',
    'film/pipe.npy': 'not a file',
    'lonely.npy': 'not IMAGE/FINDING.npy or .png',
    'broken.npz': 'a file that cannot be read',
  }
  found = {source.entries[i].where[5:]: fault for i, fault in read_all(source)}
  assert found.pop('pickle.npy').reason.startswith('a pickle')
  assert {name: fault.reason for name, fault in found.items()} == {
    'axes.npy': 'not of two axes, height and width',
    'cut.npy': 'not of two axes, height and width',
    'complex.npy': 'values that are no real numbers',
    'text.npy': 'values that are no real numbers',
    'empty.npy': 'without a pixel',
    'short.npy': 'a file that cannot be read',
    'noise.npy': 'a file that cannot be read',
    'noise.png': 'a file that cannot be read',
    'colour.png': 'a PNG of several channels',
    'alpha.png': 'a PNG of several channels',
  }
  assert not (tmp_path / 'ran').exists()


def test_an_npz_file_of_anything_else_is_refused_in_a_sentence(tmp_path):
  ran = str(tmp_path / 'ran')
  for arrays, match in (
    ({'image': np.array([Trap(ran), Trap(ran)], object)}, 'a pickle'),
    ({'map': np.array([[[Trap(ran)]]] * 2, object)}, 'a pickle'),
    ({'image': np.arange(2)}, 'image must be text'),
    ({'map': np.zeros((2, 1, 3, 3))}, r'map has shape \(2, 1, 3, 3\)'),
    ({'map': np.zeros((3, 2, 2))}, 'a row for each map'),
    ({'map': np.asfortranarray(np.zeros((2, 3, 4)))}, "Fortran's order"),
    ({'stride': 8}, 'stride alone is given'),
    ({'stride': 0, 'offset': 0}, 'above 0'),
    ({'stride': 8, 'offset': np.nan}, 'must be a number'),
    ({'covers': 'everything'}, 'must be one of film, square'),
    ({'stride': 'wide', 'offset': 0}, 'stride must be a number'),
  ):
    path = npz(tmp_path / 'maps.npz', **arrays)
    with pytest.raises(ValueError, match=match):
      map_files.open_source(path)
  assert not os.path.exists(ran)
  np.savez(path, maps=np.zeros(3))
  with pytest.raises(ValueError, match='has no array finding, image, map'):
    map_files.open_source(path)
  (tmp_path / 'text.npz').write_text('image')
  with pytest.raises(ValueError, match='damaged, or no .npz file'):
    map_files.open_source(str(tmp_path / 'text.npz'))
  with pytest.raises(FileNotFoundError, match='is not there'):
    map_files.open_source(str(tmp_path / 'nothing.npz'))
  (tmp_path / 'maps.csv').write_text('image')
  with pytest.raises(ValueError, match='neither a folder nor an .npz file'):
    map_files.open_source(str(tmp_path / 'maps.csv'))


def test_files_that_place_cells_in_several_ways_are_not_mixed(tmp_path):
  npz(tmp_path / 'a.npz')
  npz(tmp_path / 'b.npz', stride=8, offset=0)
  with pytest.raises(ValueError, match='nothing; stride 8'):
    map_files.open_source(str(tmp_path))


def test_rows_that_are_damaged_are_faults_and_those_before_are_maps(tmp_path):
  path = npz(tmp_path / 'maps.npz')
  out = tmp_path / 'cut.npz'
  with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, 'w') as new:
    for name in old.namelist():
      content = old.read(name)
      new.writestr(name, content[:-8] if name == 'map.npy' else content)
  source = map_files.open_source(str(out))
  (_, first), (_, second) = read_all(source)
  np.testing.assert_array_equal(first, [[0, 1, 2], [3, 4, 5]])
  assert second == ('a file that cannot be read', 'the file is cut short')
