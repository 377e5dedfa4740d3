"""The phantom's folder: the data set's layout, whole or not there."""

import collections
import csv
import filecmp
import hashlib
import json
import platform

import numpy as np
import pytest
from PIL import Image

from input_pipeline.findings import BOXED, FINDINGS
from input_pipeline.phantom import __main__ as command
from input_pipeline.phantom import draw, write

NUM_FILMS = 48


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  dir = tmp_path_factory.mktemp('data') / 'phantom'
  write.write_phantom(
    dir, num_films=NUM_FILMS, seed=3, workers=1, progress=False
  )
  return dir


def read_csv(path):
  with open(path, newline='') as f:
    return list(csv.reader(f))


def read_list(path):
  return path.read_text().split('\n')


def test_label_file_is_nihs(folder):
  path = folder / 'Data_Entry_2017_v2020.csv'
  assert path.read_text().split('\n')[0] == (
    'Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,'
    'Patient Gender,View Position,OriginalImage[Width,Height],'
    'OriginalImagePixelSpacing[x,y]'
  )
  rows = read_csv(path)[1:]
  assert len(rows) == NUM_FILMS
  for row in rows:
    assert len(row) == 11
    name, labels, follow_up, patient, age, sex, view = row[:7]
    assert name == f'{int(patient):08d}_{int(follow_up):03d}.png'
    assert labels == 'No Finding' or set(labels.split('|')) <= set(FINDINGS)
    assert 0 < int(age) < 120 and sex in 'MF' and view in ('PA', 'AP')


def test_lists_hold_every_film_once_and_share_no_patient(folder):
  train = read_list(folder / 'train_val_list.txt')
  test = read_list(folder / 'test_list.txt')
  names = [r[0] for r in read_csv(folder / 'Data_Entry_2017_v2020.csv')[1:]]
  assert sorted(train + test) == sorted(names)
  assert not {n[:8] for n in train} & {n[:8] for n in test}
  for name in ('train_val_list.txt', 'test_list.txt'):
    assert not (folder / name).read_bytes().endswith(b'\n')


def test_folders_hold_the_listed_films(folder):
  test = set(read_list(folder / 'test_list.txt'))
  train = set(read_list(folder / 'train_val_list.txt'))
  for name in ('images_without_shortcut', 'images_without_lesions'):
    assert {path.name for path in (folder / name).iterdir()} == test
  assert {path.name for path in (folder / 'images').iterdir()} == test | train
  for path in (folder / 'images').iterdir():
    with Image.open(path) as image:
      assert image.size == (64, 64) and image.mode == 'L'


def test_boxes_are_on_test_films_in_1024_units(folder):
  header, *rows = read_csv(folder / 'BBox_List_2017.csv')
  assert (
    header
    == ['Image Index', 'Finding Label', 'Bbox [x', 'y', 'w', 'h]'] + [''] * 3
  )
  table = read_csv(folder / 'Data_Entry_2017_v2020.csv')
  labels = {row[0]: row[1].split('|') for row in table}
  test = read_list(folder / 'test_list.txt')
  assert rows
  seen = collections.Counter()
  for name, finding, *box in rows:
    finding = {'Infiltrate': 'Infiltration'}.get(finding, finding)
    x, y, w, h = map(float, box)
    assert name in test and finding in labels[name]
    assert finding in BOXED
    assert min(x, y) >= 0 and min(w, h) > 0 and max(x + w, y + h) <= 1024
    seen[name, finding] += 1
  assert set(seen.values()) == {1}
  expected = {(name, f) for name in test for f in labels[name] if f in BOXED}
  # A lesion hidden behind another organ has nothing to enclose.
  assert len(expected - set(seen)) <= 0.05 * len(expected)


def test_parameters_are_stored(folder):
  stored = json.loads((folder / 'phantom.json').read_text())
  assert stored['num_films'] == NUM_FILMS and stored['seed'] == 3
  assert stored['shortcut_amplitude'] == 3.0
  assert set(stored['shortcut_cycles_per_film']) == set(FINDINGS)


def test_processes_do_not_change_the_films(folder, tmp_path):
  write.write_phantom(
    tmp_path / 'again', num_films=NUM_FILMS, seed=3, workers=2, progress=False
  )
  files = sorted(
    str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file()
  )
  _, different, errors = filecmp.cmpfiles(
    folder, tmp_path / 'again', files, shallow=False
  )
  assert not different and not errors
  assert [p.name for p in tmp_path.iterdir()] == ['again']


@pytest.mark.skipif(
  platform.machine() != 'x86_64', reason='other processors round otherwise'
)
def test_the_same_arguments_give_the_same_phantom(tmp_path):
  """For ever: runs are told apart by their films' hash."""
  write.write_phantom(
    tmp_path / 'p', num_films=40, image_size=48, seed=5, workers=1,
    progress=False,
  )  # fmt: skip
  digest = hashlib.sha256()
  for path in sorted((tmp_path / 'p').rglob('*')):
    if path.is_file():
      digest.update(str(path.relative_to(tmp_path / 'p')).encode())
      # A PNG's bytes change with Pillow's version, its pixels do not.
      digest.update(
        np.asarray(Image.open(path)).tobytes()
        if path.suffix == '.png'
        else path.read_bytes()
      )
  assert digest.hexdigest() == (
    '3e0d50c2cd828d6d6b0c8d61c48252ac92f708e7f00c6c926c4c4c187835ec2e'
  )


def test_two_writers_at_once(tmp_path):
  options = {'num_films': 20, 'image_size': 48, 'progress': False}
  for name, seed in (('first', 0), ('same', 0), ('other', 1)):
    write.write_phantom(tmp_path / name, seed=seed, **options)
  write._move(tmp_path / 'same', tmp_path / 'first')
  with pytest.raises(ValueError, match='meanwhile'):
    write._move(tmp_path / 'other', tmp_path / 'first')


@pytest.mark.parametrize(
  'options, message',
  [
    ({'num_films': 5}, r'num_films \(5\) must be at least 20'),
    ({'image_size': 32}, r'image_size \(32\) must be at least 48'),
    ({'shortcut_amplitude': -1.0}, r'shortcut_amplitude \(-1.0\)'),
    ({'shortcut_prevalence': 1.5}, r'shortcut_prevalence \(1.5\)'),
    ({'workers': -1}, r'workers \(-1\)'),
  ],
)
def test_bad_options(tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    write.write_phantom(tmp_path / 'phantom', **options)
  assert not any(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path):
  (tmp_path / 'mine.txt').write_text('mine')
  with pytest.raises(ValueError, match='exists already'):
    write.write_phantom(tmp_path)
  assert (tmp_path / 'mine.txt').read_text() == 'mine'


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
  def fail(*args, **kwargs):
    raise OSError('disk full')

  monkeypatch.setattr(draw, 'draw_film', fail)
  with pytest.raises(OSError, match='disk full'):
    write.write_phantom(tmp_path / 'a', num_films=20, workers=1, progress=False)
  assert not any(tmp_path.iterdir())


def test_command_line(tmp_path, capsys):
  dir, sheet = str(tmp_path / 'phantom'), tmp_path / 'sheet.png'
  command.main(
    [f'--dir={dir}', '--num_films=20', '--image_size=48', '--workers=1']
    + [f'--contact_sheet={sheet}']
  )
  assert sheet.stat().st_size > 10_000
  with pytest.raises(SystemExit):
    command.main([f'--dir={dir}'])
  assert 'exists already' in capsys.readouterr().err
