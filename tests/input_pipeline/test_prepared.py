"""A prepared set's files, cut, damaged or saved by a spreadsheet."""

import os
import shutil

import numpy as np
import pytest
from absl import logging

from input_pipeline import pipeline, prepared, records
from tests.input_pipeline import made_folder as made

RECORDS = 'chest_xray14-train.array_record-00000-of-00001'


@pytest.fixture(scope='module')
def options(tmp_path_factory):
  return {
    'dir': made.layout(tmp_path_factory.mktemp('nih'), films=made.TRAIN),
    'image_size': 32,
    'validation_fraction': 0.3,
    'workers': 1,
  }


@pytest.fixture(scope='module')
def whole(options, tmp_path_factory):
  made.layout(options['dir'], films=made.TRAIN + made.TEST[:3])
  folder = tmp_path_factory.mktemp('prepared')
  return folder, pipeline.load(**options, prepared_dir=folder)


@pytest.fixture
def copy(whole, tmp_path):
  """A copy of the prepared set: what is given to `load`, and the set."""
  shutil.copytree(whole[0], tmp_path / 'prepared')
  return tmp_path / 'prepared', set_in(tmp_path / 'prepared')


def set_in(folder):
  return next(folder.glob('*/chest_xray14/*/films.npz')).parent


def damage(path, how):
  data = path.read_bytes()
  if how == 'gone':
    path.unlink()
  elif how == 'flipped':
    middle = len(data) // 2
    path.write_bytes(
      data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]
    )
  else:
    part = {'empty': 0, 'half': len(data) // 2, 'nearly': len(data) - 9}
    path.write_bytes(data[: part[how]])


def check_equal(splits, others):
  assert splits.keys() == others.keys()
  assert splits.left_out == others.left_out
  for name, split in splits.items():
    for one, other in zip(split, others[name], strict=True):
      np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.fixture
def warnings(monkeypatch):
  """What the log warns of."""
  lines = []
  monkeypatch.setattr(logging, 'warning', lambda s, *a: lines.append(s % a))
  return lines


@pytest.mark.parametrize('how', ['gone', 'empty', 'half', 'nearly', 'flipped'])
@pytest.mark.parametrize(
  'name',
  [RECORDS, 'films.npz', 'left_out.csv', 'dataset_info.json', 'features.json'],
)
def test_a_damaged_set_is_made_anew(whole, copy, options, warnings, name, how):
  folder, out = copy
  damage(out / name, how)
  splits = pipeline.load(**options, prepared_dir=folder)
  check_equal(splits, whole[1])
  anew = [line for line in warnings if 'is damaged' in line]
  # One wrong letter in a text may go unseen.
  if not (how == 'flipped' and name.endswith(('.json', '.csv'))):
    # Without films.npz it is not yet a set.
    assert len(anew) == (0 if (name, how) == ('films.npz', 'gone') else 1)
  for line in anew:
    assert str(out) in line and '\n' not in line and 'Traceback' not in line
  assert pipeline.load(**options, prepared_dir=folder).keys() == splits.keys()
  assert sum('is damaged' in line for line in warnings) == len(anew)


@pytest.mark.parametrize(
  'swap', [b'', b'not an archive', b'PK\x03\x04' + bytes(50)]
)
def test_films_npz_that_is_something_else(tmp_path, swap):
  (tmp_path / 'films.npz').write_bytes(swap)
  with pytest.raises(records.Damaged, match='films.npz is damaged') as error:
    prepared.read_films(tmp_path)
  assert '\n' not in str(error.value)


def test_columns_of_other_lengths(tmp_path, whole):
  path = set_in(whole[0]) / 'films.npz'
  with np.load(path, allow_pickle=False) as table:
    arrays = dict(table)
  arrays['train/age'] = arrays['train/age'][:-1]
  np.savez(tmp_path / 'films.npz', **arrays)
  with pytest.raises(records.Damaged, match='differ in length'):
    prepared.read_films(tmp_path)


def test_damage_found_in_the_middle_of_a_run_is_one_sentence(copy, options):
  """Films that stay on disk are read when they are shown."""
  folder, out = copy
  lazy = pipeline.load(**options, prepared_dir=folder, cache='none')
  damage(out / RECORDS, 'flipped')
  lazy = pipeline.load(**options, prepared_dir=folder, cache='none')
  with pytest.raises(ValueError, match='is damaged or incomplete') as error:
    for batch in pipeline.eval_batches(lazy['train'], batch_size=4):
      assert batch['image'].any()
  assert str(out) in str(error.value) and '\n' not in str(error.value)
  assert 'prepares it anew' in str(error.value)


@pytest.mark.parametrize('separator', [',', ';', '\t'])
@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'cp1252'])
def test_left_out_saved_by_a_spreadsheet(
  copy, whole, options, separator, encoding, warnings
):
  folder, out = copy
  path = out / 'left_out.csv'
  text = path.read_text().replace(',', separator).replace('\n', '\r\n')
  path.write_bytes(f'{text}\r\n'.encode(encoding))
  splits = pipeline.load(**options, prepared_dir=folder)
  assert splits.left_out == whole[1].left_out
  assert splits.left_out == {'absent': 1}
  assert not any('is damaged' in line for line in warnings)


def test_a_set_of_a_version_that_understood_less(copy, options, whole):
  """It lacks what the tables say: it is prepared anew, once."""
  folder, out = copy
  path = out / 'films.npz'
  with np.load(path, allow_pickle=False) as table:
    arrays = dict(table)
  arrays['train/age'] = np.full_like(arrays['train/age'], np.nan)
  np.savez(path, **arrays)
  check_equal(pipeline.load(**options, prepared_dir=folder), whole[1])


def test_a_set_that_lacks_what_the_tables_lack_is_kept(tmp_path, monkeypatch):
  table = '\n'.join([made.HEADER, *made.rows()]).replace(',57,M,', ',412,,')
  folder = made.layout(tmp_path / 'nih', table=table)
  out = made.prepare(folder, tmp_path / 'prepared')
  before = os.stat(out / 'films.npz').st_mtime_ns
  assert made.prepare(folder, tmp_path / 'prepared') == out
  assert os.stat(out / 'films.npz').st_mtime_ns == before


def test_what_is_unknown_is_said(tmp_path, warnings):
  """A subgroup never vanishes without a word."""
  lines = [line.split(',') for line in made.rows()]
  table = ['Image Index,Finding Labels,Patient Age,View Position']
  table += [
    f'{r[0]},{r[1]},{"" if k else 57},{r[6]}' for k, r in enumerate(lines)
  ]
  folder = made.layout(tmp_path / 'nih', table='\n'.join(table))
  pipeline.load(
    folder,
    image_size=32,
    prepared_dir=tmp_path / 'p',
    validation_fraction=0.3,
    workers=1,
  )
  assert warnings == [
    'Of 24 films the label file does not tell the age of 23, the sex of 24; '
    'these are in no subgroup by it.'
  ]
