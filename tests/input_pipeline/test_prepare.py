"""Preparation: complete, the same whoever is killed when, and found again."""

import csv
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from input_pipeline import prepare as preparation
from input_pipeline.sources.film_table import Options
from tests.input_pipeline.made_folder import (
  HEADER,
  LABELS,
  TEST,
  TRAIN,
  bad_films,
  content,
  layout,
  prepare,
  rows,
)


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
  return layout(tmp_path_factory.mktemp('nih'))


def test_bad_films_are_left_out_and_listed(tmp_path):
  files = bad_films(str(tmp_path))
  layout(tmp_path / 'nih')
  for name, (data, _) in zip(TRAIN, files.values(), strict=False):
    (tmp_path / 'nih' / 'images' / name).write_bytes(data)
  (tmp_path / 'nih' / 'images' / TEST[0]).write_bytes(b'')
  prepared = prepare(tmp_path / 'nih', tmp_path / 'p')
  with open(prepared / 'left_out.csv', newline='') as f:
    left_out = [tuple(row)[:2] for row in csv.reader(f)][1:]
  expected = [
    (name, reason)
    for name, (_, reason) in zip(TRAIN, files.values(), strict=False)
  ]
  expected += [
    (TEST[0], 'undecodable'), (TEST[0], 'box of a film left out')
  ]  # fmt: skip
  assert sorted(left_out) == sorted(expected)
  table = np.load(prepared / 'films.npz')
  assert TEST[0] not in table['test/image_name']
  assert len(table['test/box']) == 0


def test_no_decodable_film_stops(tmp_path):
  layout(tmp_path / 'nih', size=16)
  with pytest.raises(
    ValueError, match='24 smaller than image_size., such as .*; give'
  ):
    prepare(tmp_path / 'nih', tmp_path / 'p')
  assert not list((tmp_path / 'p').rglob('*.npz'))


def test_left_out_is_inert_in_a_spreadsheet(tmp_path):
  layout(tmp_path / 'nih', boxes=[f'{TEST[0]},=1+1,5,5,9,9'])
  prepared = prepare(tmp_path / 'nih', tmp_path / 'p')
  assert ",'=1+1" in (prepared / 'left_out.csv').read_text()


def test_the_fingerprint_sees_every_change(tmp_path):
  layout(tmp_path)
  options = {'image_size': 32, 'validation_fraction': 0.3, 'seed': 0}

  def fingerprint(**new):
    of_folder = options | new
    size = of_folder.pop('image_size')
    return preparation.fingerprint(
      tmp_path, Options(**of_folder), image_size=size
    )

  seen = [fingerprint()]
  assert fingerprint() == seen[0]
  seen += [fingerprint(**{k: v * 2 + 1}) for k, v in options.items()]
  seen.append(fingerprint(findings=('Mass',)))
  for path in sorted(tmp_path.iterdir()):
    if path.is_file():
      path.write_bytes(path.read_bytes() + b'\n')
      seen.append(fingerprint())
  os.utime(tmp_path / 'images' / TEST[0], ns=(0, 0))
  seen.append(fingerprint())
  os.remove(tmp_path / 'images' / TEST[0])
  seen.append(fingerprint())
  assert len(set(seen)) == len(seen)


def test_a_prepared_set_is_found_again(tmp_path, folder, monkeypatch):
  first = prepare(folder, tmp_path)
  monkeypatch.setattr(preparation, '_write', None)
  assert prepare(folder, tmp_path) == first
  assert not (first.parent.parent / 'decoded').exists()


def test_worker_count_does_not_change_a_byte(tmp_path, folder, monkeypatch):
  monkeypatch.setattr(preparation, '_CHUNK_FILMS', 3)
  monkeypatch.setattr(preparation, '_SHARD_BYTES', 3 * 2 * 32**2)
  one = prepare(folder, tmp_path / '1', num_workers=1)
  three = prepare(folder, tmp_path / '3', num_workers=3)
  assert len(list(one.glob('*train.array_record*'))) > 1
  assert content(one) == content(three)

  # The content's hash sees a label; folder and time do not move it.
  copy = layout(
    tmp_path / 'copy',
    table='\n'.join([HEADER, *rows(labels=LABELS | {TEST[1]: 'Mass'})]) + '\n',
    films=[],
  )
  shutil.copytree(folder / 'images', copy / 'images', copy_function=shutil.copy)
  other = prepare(copy, tmp_path / '1', num_workers=1)
  before, after = (np.load(p / 'films.npz') for p in (one, other))
  same = {
    name: before[f'{name}/content'] == after[f'{name}/content']
    for name in ('train', 'validation', 'test')
  }
  assert same == {'train': True, 'validation': True, 'test': False}


def test_ranges(tmp_path, folder):
  with pytest.raises(ValueError, match='image_size'):
    prepare(folder, tmp_path, image_size=0)
  with pytest.raises(ValueError, match='workers'):
    prepare(folder, tmp_path, num_workers=-1)


def test_too_little_space_is_refused(tmp_path, folder, monkeypatch):
  usage = shutil._ntuple_diskusage(10, 9, 1)
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
  with pytest.raises(ValueError, match='another prepared_dir'):
    prepare(folder, tmp_path)


def test_killed_at_any_moment_ends_the_same(tmp_path):
  """kill -9 at moments spread over a preparation, then once to its end."""
  layout(tmp_path / 'nih', size=256)
  script = (
    'import sys\n'
    'from input_pipeline import prepare as c\n'
    'c._CHUNK_FILMS = 2\n'
    'print("start", flush=True)\n'
    'from input_pipeline.sources.film_table import Options\n'
    'c.prepare(sys.argv[1], Options(validation_fraction=.3), image_size=64,'
    ' prepared_dir=sys.argv[2], num_workers=2)\n'
  )

  def start(name):
    process = subprocess.Popen(
      [sys.executable, '-c', script, tmp_path / 'nih', tmp_path / name],
      cwd=pathlib.Path(__file__).parents[2],
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
    )
    with process.stdout:
      process.stdout.readline()
    return process, time.monotonic()

  def prepared(name):
    return next((tmp_path / name).glob('*/*/*/films.npz')).parent

  process, begun = start('whole')
  assert process.wait() == 0
  took = time.monotonic() - begun
  for k in range(2):
    process, _ = start('killed')
    time.sleep(took * (k + 1) / 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
  process, _ = start('killed')
  assert process.wait() == 0
  assert content(prepared('killed')) == content(prepared('whole'))
  root = prepared('killed').parent.parent
  assert sorted(p.name for p in root.iterdir()) == ['chest_xray14', 'lock']


def test_killed_behind_its_last_record_leaves_nothing(tmp_path):
  layout(tmp_path / 'nih')
  root = prepare(tmp_path / 'nih', tmp_path / 'p').parent.parent
  (root / 'decoded').mkdir()
  prepare(tmp_path / 'nih', tmp_path / 'p')
  assert sorted(p.name for p in root.iterdir()) == ['chest_xray14', 'lock']


@pytest.mark.parametrize('file', ['train-00000.u8', 'train-00000.json'])
@pytest.mark.parametrize('how', ['gone', 'empty', 'half', 'flipped', 'other'])
def test_damaged_chunks_are_decoded_again(
  tmp_path, folder, monkeypatch, file, how
):
  """What an interrupted preparation left, cut, changed or another's."""
  whole = prepare(folder, tmp_path / 'whole', num_workers=1)
  with monkeypatch.context() as patch:
    # Killed when all is decoded and nothing written.
    patch.setattr(preparation.records, 'write', lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      prepare(folder, tmp_path / 'left', num_workers=1)
  (path,) = (tmp_path / 'left').glob(f'*/decoded/{file}')
  data = bytearray(path.read_bytes())
  match how:
    case 'gone':
      path.unlink()
    case 'empty':
      path.write_bytes(b'')
    case 'half':
      path.write_bytes(data[: len(data) // 2])
    case 'flipped':
      data[len(data) // 2] ^= 255
      path.write_bytes(data)
    case 'other':
      path.write_text('{"films": [[null, [], [], []]], "crc32": "x"}')
  left = prepare(folder, tmp_path / 'left', num_workers=1)
  assert content(left) == content(whole)


def test_whole_chunks_are_not_decoded_again(tmp_path, folder, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(preparation.records, 'write', lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      prepare(folder, tmp_path, num_workers=1)
  monkeypatch.setattr(preparation.preprocess, 'decode', lambda *a: 1 / 0)
  assert (prepare(folder, tmp_path, num_workers=1) / 'films.npz').is_file()
