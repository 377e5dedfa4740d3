"""The reader, on layouts made here with every quirk, and on the real films."""

import csv
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image

from input_pipeline import chestxray14, preprocess

FINDINGS = chestxray14.FINDINGS
HEADER = (
  'Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,'
  'Patient Gender,View Position,OriginalImage[Width,Height],'
  'OriginalImagePixelSpacing[x,y]'
)
OLD_HEADER = HEADER + ','
BOX_HEADER = 'Image Index,Finding Label,Bbox [x,y,w,h],,,'
TRAIN = [f'{p:08d}_{k:03d}.png' for p in range(1, 11) for k in range(2)]
TEST = [f'{p:08d}_000.png' for p in range(21, 25)]
LABELS = {TRAIN[0]: 'Mass|Nodule', TEST[0]: 'Cardiomegaly', TEST[1]: 'Edema'}
BOXES = [f'{TEST[0]},Cardiomegaly,256,512,128,256']


def rows(names=None, labels=LABELS):
  return [
    f'{name},{labels.get(name, "No Finding")},0,{int(name[:8])},57,M,PA,'
    '2682,2749,0.143,0.143'
    for name in names or TRAIN + TEST
  ]


def film(path, size=64, mode='L', seed=0, fill=None):
  os.makedirs(os.path.dirname(path), exist_ok=True)
  rng = np.random.default_rng(seed)
  pixels = rng.integers(0, 256, (size, size), np.uint8)
  if fill is not None:
    pixels[:] = fill
  Image.fromarray(pixels).convert(mode).save(path, 'PNG')


def layout(
  folder,
  *,
  table=None,
  table_name='Data_Entry_2017_v2020.csv',
  boxes=BOXES,
  train='\n'.join(TRAIN),
  test='\n'.join(TEST),
  films=TRAIN + TEST,
  place='images',
  size=64,
):
  """A data folder; tables are text or bytes, None for the sound one."""
  os.makedirs(folder, exist_ok=True)
  if table is None:
    table = '\n'.join([HEADER, *rows()]) + '\n'
  if not isinstance(boxes, (str, bytes)):
    boxes = '\n'.join([BOX_HEADER, *boxes]) + '\n'
  for name, text in (
    (table_name, table),
    ('BBox_List_2017.csv', boxes),
    ('train_val_list.txt', train),
    ('test_list.txt', test),
  ):
    data = text if isinstance(text, bytes) else text.encode()
    (pathlib.Path(folder) / name).write_bytes(data)
  for i, name in enumerate(films):
    film(os.path.join(folder, place, name), size, seed=i)
  return folder


def read(folder, validation_fraction=0.3, seed=0):
  return chestxray14.read(
    folder, validation_fraction=validation_fraction, seed=seed
  )


def prepare(folder, prepared_dir, **options):
  options = {'image_size': 32, 'validation_fraction': 0.3} | options
  return chestxray14.prepare(folder, prepared_dir=prepared_dir, **options)


def names(catalogue):
  return {k: [f.name for f in films] for k, films in catalogue.films.items()}


def reasons(catalogue):
  return sorted((row.name, row.reason) for row in catalogue.left_out)


def content(prepared):
  """The bytes of a prepared folder, by file."""
  return {p.name: p.read_bytes() for p in sorted(prepared.iterdir())}


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
  return layout(tmp_path_factory.mktemp('nih'))


# --- the tables


def test_sound_folder(folder):
  catalogue = read(folder)
  split = names(catalogue)
  assert sorted(split['train'] + split['validation']) == TRAIN
  assert split['test'] == TEST
  assert catalogue.left_out == []
  first = catalogue.films['test'][0]
  assert first.entry == ((FINDINGS.index('Cardiomegaly'),), 'PA', 57, 'M')
  assert first.boxes == ((1, (0.5, 0.25, 0.75, 0.375)),)
  assert first.patient == 21


@pytest.mark.parametrize(
  'place', ['images', 'images_001/images', 'images_012/images', '.']
)
def test_films_lie_in_any_of_nihs_folders(tmp_path, place):
  layout(tmp_path, place=place)
  assert names(read(tmp_path))['test'] == TEST


def test_films_lie_in_several_folders(tmp_path):
  layout(tmp_path, films=TRAIN, place='images_001/images')
  layout(tmp_path, films=TEST, place='images_002/images')
  split = names(read(tmp_path))
  assert sum(map(len, split.values())) == len(TRAIN + TEST)


def test_quirks_of_copies_read_the_same(tmp_path, folder):
  """BOM, CRLF, blank lines, no last newline, the older file, its trailing
  comma and ages, another column order, Patient Sex."""
  old = [row.replace(',57,M,', ',057Y,M,') + ',' for row in rows()]
  reordered = [
    ','.join([f'{int(r.split(",")[0][:8])}', *r.split(',')[1:2], r[:16]])
    + ',57,F,PA'
    for r in rows()
  ]
  tables = {
    'bom': '\ufeff' + '\n'.join([HEADER, *rows()]),
    'crlf': '\r\n'.join([HEADER, *rows(), '', '']),
    'blank': '\n\n'.join([HEADER, *rows(), ' ', ',,,']),
    'old': '\n'.join([OLD_HEADER, *old]),
    'order': '\n'.join(
      [
        'Patient ID,Finding Labels,Image Index,Patient Age,Patient Sex,'
        'View Position',
        *reordered,
      ]
    ),
  }
  expected = read(folder)
  for name, table in tables.items():
    copy = layout(
      tmp_path / name,
      table=table,
      table_name='Data_Entry_2017.csv',
      train='\ufeff' + '\r\n'.join([*TRAIN, '', '']),
      films=[],
    )
    shutil.copytree(folder / 'images', copy / 'images')
    catalogue = read(copy)
    assert names(catalogue) == names(expected)
    for split, films in catalogue.films.items():
      for film, other in zip(films, expected.films[split], strict=True):
        sex = 'F' if name == 'order' else 'M'
        assert film.entry == other.entry._replace(sex=sex)


@pytest.mark.parametrize(
  'text, age',
  [
    ('58', 58), ('058Y', 58), ('018M', 1.5), ('412', math.nan),
    ('121Y', math.nan), ('120', 120), ('', math.nan), ('-1', math.nan),
    ('old', math.nan), ('٣', math.nan),
  ],
)  # fmt: skip
def test_age(text, age):
  np.testing.assert_equal(chestxray14.parse_age(text), age)


def test_labels():
  parse = chestxray14.parse_labels
  assert parse('No Finding') == ()
  assert parse('Nodule|Mass') == (4, 5)
  assert parse('Infiltrate') == parse('Infiltration')
  assert parse('Pleural Thickening') == (12,)


@pytest.mark.parametrize(
  'labels, message',
  [
    ('No Finding|Mass', 'contradict'),
    ('Mass|Mass', 'twice'),
    ('', 'no label'),
    ('Mass|', 'is not a finding'),
    ('Pnuemonia', "nearest is 'Pneumonia'"),
  ],
)
def test_bad_labels_stop_with_file_and_line(tmp_path, labels, message):
  table = '\n'.join([HEADER, *rows(labels={TRAIN[1]: labels})])
  layout(tmp_path, table=table, films=[])
  with pytest.raises(ValueError, match=message) as error:
    read(tmp_path)
  assert 'v2020.csv, line 3, 00000001_001.png' in str(error.value)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'train': '\n'.join([*TRAIN, TRAIN[3]])}, 'lists 1 films twice'),
    ({'train': '\n'.join([*TRAIN, TEST[3]])}, 'would see the test'),
    ({'train': '\n'.join([*TRAIN, '00000021_007.png'])}, 'patient 21'),
    ({'train': ''}, 'lists no film'),
    ({'test': '../../etc/passwd'}, 'names'),
    ({'test': '/00000021_000.png'}, 'names'),
    ({'test': '00000021_000.png.png'}, 'names'),
    ({'boxes': [f'{TRAIN[4]},Mass,1,1,9,9']}, 'boxes are for the test'),
    ({'boxes': ['../a.png,Mass,1,1,9,9']}, 'names'),
    ({'boxes': f'{BOX_HEADER}\n{BOXES[0]}'.replace(',', ';')}, 'commas'),
    ({'boxes': f'{BOX_HEADER}\n{BOXES[0]}'.encode('utf-16')}, 'UTF-8'),
    (
      {'boxes': f'{BOX_HEADER}\n{TEST[0]},Maß,1,1,9,9'.encode('cp1252')},
      'UTF-8',
    ),
    ({'train': '\n'.join(TRAIN).encode('utf-16')}, 'UTF-8'),
    ({'train': '\n'.join(TRAIN).encode('utf-16-le')}, 'names'),
    (
      {'train': '\ufeff' + '\r\n\r\n'.join([*TRAIN, TRAIN[3]])},
      '1 films twice',
    ),
    ({'train': '\t'.join(TRAIN)}, 'names'),
    ({'boxes': [f'{TEST[0]},Mass,1,1']}, '4 fields do not fit'),
    ({'table': '\n'.join([HEADER, *rows(), rows()[0]])}, 'a row already'),
    ({'table': '\n'.join([HEADER, *rows()]).replace(',57,', ',5,7,')}, 'field'),
    ({'table': '\n'.join([HEADER, *rows()]).replace(',1,', ',2,')}, 'patient'),
    ({'table': '\n'.join([HEADER, *rows()]).replace(',', ';')}, 'commas'),
    ({'table': '\n'.join([HEADER, *rows()]).replace(',', '\t')}, 'commas'),
    ({'table': '\n'.join([HEADER, *rows()]).encode('utf-16')}, 'UTF-8'),
    ({'table': f'{HEADER},Größe'.encode('latin-1')}, 'UTF-8'),
    ({'table': HEADER}, 'no row'),
    ({'table': ''}, 'no column'),
    ({'table': HEADER + '\n"' + '\n'.join(rows())}, 'line'),
    ({'table': 'Image Index,x\n' + f'{TEST[0]},1'}, "'Finding Labels'"),
  ],
)
def test_contradictions_stop(tmp_path, changes, message):
  layout(tmp_path, films=[], **changes)
  with pytest.raises(ValueError, match=message) as error:
    read(tmp_path)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  'name',
  [
    'Data_Entry_2017_v2020.csv', 'BBox_List_2017.csv', 'train_val_list.txt',
    'test_list.txt',
  ],
)  # fmt: skip
def test_a_missing_table_is_named(tmp_path, name):
  layout(tmp_path, films=[])
  (tmp_path / name).unlink()
  with pytest.raises(FileNotFoundError, match=name):
    read(tmp_path)


def test_missing_folder(tmp_path):
  with pytest.raises(FileNotFoundError, match='no data folder'):
    read(tmp_path / 'nowhere')


def test_boxes_that_cannot_be_used_are_counted(tmp_path):
  layout(
    tmp_path,
    boxes=[
      f'{TEST[0]},Infiltrate,0,0,1024,1024',
      f'{TEST[0]},Mass,1000,10,24.0001,9',
      f'{TEST[0]},Mass,1000,10,25,9',
      f'{TEST[0]},Mass,-1,10,25,9',
      f'{TEST[0]},Mass,5,5,0,9',
      f'{TEST[0]},Mass,5,5,9,-9',
      f'{TEST[0]},Mass,nan,5,9,9',
      f'{TEST[0]},Mass,five,5,9,9',
      f'{TEST[0]},Mas,5,5,9,9',
      f'{TEST[1]},Mass,5,5,9,9',
      f'{TEST[1]},Mass,5,5,9,9',
      # Cut at the border, then the same: found by fuzzing.
      f'{TEST[1]},Mass,0.001,0,1024,9',
      f'{TEST[1]},Mass,0.001,0,1024,9',
      f'{TEST[1]},Mass,500,5,1e-300,9',
      f'{TEST[1]},Mass,1024,5,0.001,9',
      f'{TEST[3]},Mass,5,5,9,9',
      '00000099_000.png,Mass,5,5,9,9',
    ],
    films=TRAIN + TEST[:3],
  )
  catalogue = read(tmp_path)
  assert [len(f.boxes) for f in catalogue.films['test']] == [2, 2, 0]
  assert catalogue.films['test'][0].boxes[0] == (3, (0, 0, 1, 1))
  assert max(catalogue.films['test'][0].boxes[1].box) <= 1
  assert reasons(catalogue) == sorted(
    [
      (TEST[0], 'box outside the film'),
      (TEST[0], 'box outside the film'),
      (TEST[0], 'box of no size'),
      (TEST[0], 'box of no size'),
      (TEST[0], 'box without four numbers'),
      (TEST[0], 'box without four numbers'),
      (TEST[0], 'box of an unknown finding'),
      (TEST[1], 'box given twice'),
      (TEST[1], 'box given twice'),
      (TEST[1], 'box of no size'),
      (TEST[1], 'box of no size'),
      (TEST[3], 'absent'),
      (TEST[3], 'box of a film left out'),
      ('00000099_000.png', 'box of a film left out'),
    ]
  )


def test_absent_unlisted_and_unlabelled_films_are_counted(tmp_path):
  table = '\n'.join([HEADER, *rows(TRAIN + TEST[1:])])
  layout(tmp_path, table=table, films=[*TRAIN[1:], *TEST, '00000077_000.png'])
  assert reasons(read(tmp_path)) == sorted(
    [
      (TRAIN[0], 'absent'),
      ('00000077_000.png', 'in neither list'),
      (TEST[0], 'no row in Data_Entry_2017_v2020.csv'),
      (TEST[0], 'box of a film left out'),
    ]
  )


def test_no_film_at_all_stops(tmp_path):
  layout(tmp_path, films=[])
  with pytest.raises(ValueError, match='None of the 24 listed films'):
    read(tmp_path)


def test_what_only_has_a_films_name_is_not_opened(tmp_path):
  """A pipe, which would block its reader for ever, a folder, a link to
  nothing, one to itself."""
  layout(tmp_path, films=TRAIN)
  images = tmp_path / 'images'
  os.mkfifo(images / TEST[0])
  (images / TEST[1]).mkdir()
  (images / TEST[2]).symlink_to('nowhere.png')
  (images / TEST[3]).symlink_to(TEST[3])
  absent = {(name, 'absent') for name in TEST}
  assert absent <= set(reasons(read(tmp_path)))


def test_the_columns_of_boxes_may_come_in_any_order(tmp_path, folder):
  copy = layout(
    tmp_path,
    boxes='h,w,y,x,Finding Label,Image Index\n'
    f'256,128,512,256,Cardiomegaly,{TEST[0]}\n',
    films=[],
  )
  (copy / 'images').symlink_to(folder / 'images')
  there, here = (read(f).films['test'] for f in (folder, copy))
  assert [f.boxes for f in there] == [f.boxes for f in here]


def test_validation_is_by_patient_and_stable(tmp_path, folder):
  split = names(read(folder))
  of_train = {name[:8] for name in split['train']}
  of_validation = {name[:8] for name in split['validation']}
  assert of_train and of_validation and not of_train & of_validation
  # Neither the lists' order nor the films that are there change it.
  few = layout(
    tmp_path, train='\n'.join(reversed(TRAIN)), films=TRAIN[::3] + TEST
  )
  for name in ('train', 'validation'):
    assert set(names(read(few))[name]) == set(split[name]) & set(TRAIN[::3])
  assert names(read(folder, validation_fraction=0))['validation'] == []


def test_validation_share():
  held = [
    [
      chestxray14.in_validation(p, fraction=0.1, seed=seed)
      for p in range(20000)
    ]
    for seed in range(2)
  ]
  np.testing.assert_allclose(np.mean(held, axis=1), 0.1, atol=0.01)
  # Other seeds hold out others.
  np.testing.assert_allclose(np.mean(np.all(held, axis=0)), 0.01, atol=0.004)


@pytest.mark.parametrize('fraction', [-0.1, 1, math.nan])
def test_validation_fraction_range(folder, fraction):
  with pytest.raises(ValueError, match='validation_fraction'):
    read(folder, validation_fraction=fraction)


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(
  st.one_of(
    st.binary(max_size=200),
    st.text('",\n\r|;0123 PAfl_.png\ufeff\0No FindingMs=', max_size=120).map(
      lambda s: (HEADER + '\n00000001_000.png,' + s).encode()
    ),
    st.text('",\n\r 0123.-einfa_png', max_size=120).map(
      lambda s: (BOX_HEADER + '\n00000001_000.png,Mass,' + s).encode()
    ),
  )
)
def test_readers_accept_or_refuse_anything(tmp_path_factory, data):
  path = tmp_path_factory.getbasetemp() / 'fuzzed'
  path.write_bytes(data)
  for reader in (
    chestxray14.read_list,
    chestxray14.read_entries,
    chestxray14.read_boxes,
  ):
    try:
      result = reader(path)
    except ValueError as e:
      assert str(path) in str(e)
      continue
    if reader is chestxray14.read_boxes:
      for boxes in result[0].values():
        for _, (ymin, xmin, ymax, xmax) in boxes:
          assert 0 <= ymin < ymax <= 1 and 0 <= xmin < xmax <= 1


# --- pixels


def test_a_film_of_the_size_is_untouched(tmp_path):
  film(str(tmp_path / 'a.png'))
  pixels = np.asarray(Image.open(tmp_path / 'a.png'))
  decoded = np.asarray(preprocess.decode(str(tmp_path / 'a.png'), 64))
  np.testing.assert_array_equal(decoded, pixels)


def test_reduction_is_antialiased(tmp_path):
  """The finest checkerboard becomes its mean; a constant stays."""
  path = str(tmp_path / 'a.png')
  board = np.indices((128, 128)).sum(0) % 2 * 200
  Image.fromarray(board.astype(np.uint8)).save(path)
  decoded = np.asarray(preprocess.decode(path, 28)).astype(int)
  assert np.abs(decoded - 100).max() <= 3
  film(path, 128, fill=77)
  assert np.all(np.asarray(preprocess.decode(path, 28)) == 77)


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'RGB', 'P', '1'])
def test_modes_are_taken_as_gray(tmp_path, mode):
  film(str(tmp_path / 'a.png'))
  gray = np.asarray(Image.open(tmp_path / 'a.png'))
  if mode == '1':
    gray = gray // 128 * 255
  image = Image.fromarray(gray).convert(mode)
  if mode in ('RGBA', 'LA'):
    image.putalpha(7)
  image.save(tmp_path / 'b.png')
  decoded = np.asarray(preprocess.decode(str(tmp_path / 'b.png'), 64))
  np.testing.assert_array_equal(decoded, gray)


def bad_films(folder):
  """Files that are no films, by the reason that they get."""
  good = os.path.join(folder, 'good')
  film(good)
  data = pathlib.Path(good).read_bytes()
  flipped = bytearray(data)
  flipped[len(data) // 2] ^= 255
  files = {
    'empty': (b'', 'undecodable'),
    'text': (b'not an image', 'undecodable'),
    'truncated': (data[: len(data) // 2], 'undecodable'),
    'header only': (data[:33], 'undecodable'),
    'flipped': (bytes(flipped), 'undecodable'),
  }
  for name, image, reason in (
    ('16-bit', Image.new('I;16', (64, 64)), 'not 8-bit gray or colour'),
    ('oblong', Image.new('L', (64, 65)), 'not square'),
    ('small', Image.new('L', (31, 31)), 'smaller than image_size'),
    ('huge', Image.new('1', (10001, 10001)), 'too large'),
  ):
    image.save(good, 'PNG')
    files[name] = pathlib.Path(good).read_bytes(), reason
  Image.new('L', (64, 64)).save(good, 'GIF')
  files['gif'] = pathlib.Path(good).read_bytes(), 'undecodable'
  os.remove(good)
  return files


def test_bad_films_have_a_reason(tmp_path):
  for name, (data, reason) in bad_films(str(tmp_path)).items():
    path = tmp_path / 'a.png'
    path.write_bytes(data)
    with pytest.raises(ValueError) as error:
      preprocess.decode(str(path), 32)
    assert error.value.args[0] == reason, name
    assert str(tmp_path) not in error.value.args[1]


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(data=st.data())
def test_damaged_films_never_crash(tmp_path_factory, data):
  path = tmp_path_factory.getbasetemp() / 'damaged.png'
  film(str(path), 16)
  content = bytearray(path.read_bytes())
  for _ in range(data.draw(st.integers(1, 4))):
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
      st.integers(0, 255)
    )
  path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
  try:
    assert preprocess.decode(str(path), 16).size == (16, 16)
  except ValueError as e:
    assert len(e.args) == 2


# --- preparation


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
  with pytest.raises(ValueError, match='24 smaller than image_size'):
    prepare(tmp_path / 'nih', tmp_path / 'p')
  assert not list((tmp_path / 'p').rglob('*.npz'))


def test_left_out_is_inert_in_a_spreadsheet(tmp_path):
  layout(tmp_path / 'nih', boxes=[f'{TEST[0]},=1+1,5,5,9,9'])
  prepared = prepare(tmp_path / 'nih', tmp_path / 'p')
  assert ",'=1+1" in (prepared / 'left_out.csv').read_text()


def test_the_fingerprint_sees_every_change(tmp_path):
  layout(tmp_path)
  options = {'image_size': 32, 'validation_fraction': 0.3, 'seed': 0}
  fingerprint = lambda **new: chestxray14.fingerprint(
    tmp_path, **(options | new)
  )
  seen = [fingerprint()]
  assert fingerprint() == seen[0]
  seen += [fingerprint(**{k: v * 2 + 1}) for k, v in options.items()]
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
  monkeypatch.setattr(chestxray14, '_write', None)
  assert prepare(folder, tmp_path) == first
  assert not (first.parent.parent / 'decoded').exists()


def test_worker_count_does_not_change_a_byte(tmp_path, folder, monkeypatch):
  monkeypatch.setattr(chestxray14, '_CHUNK_FILMS', 3)
  monkeypatch.setattr(chestxray14, '_SHARD_BYTES', 3 * 2 * 32**2)
  one = prepare(folder, tmp_path / '1', workers=1)
  three = prepare(folder, tmp_path / '3', workers=3)
  assert len(list(one.glob('*train.array_record*'))) > 1
  assert content(one) == content(three)

  # The content's hash sees a label; folder and time do not move it.
  copy = layout(
    tmp_path / 'copy',
    table='\n'.join([HEADER, *rows(labels=LABELS | {TEST[1]: 'Mass'})]) + '\n',
    films=[],
  )
  shutil.copytree(folder / 'images', copy / 'images', copy_function=shutil.copy)
  other = prepare(copy, tmp_path / '1', workers=1)
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
    prepare(folder, tmp_path, workers=-1)


def test_too_little_space_is_refused(tmp_path, folder, monkeypatch):
  usage = shutil._ntuple_diskusage(10, 9, 1)
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
  with pytest.raises(ValueError, match='another prepared_dir'):
    prepare(folder, tmp_path)


def test_an_unwritable_chunk_is_an_os_error(tmp_path):
  with preprocess.decoders(1) as submit:
    film(str(tmp_path / 'a.png'))
    task = [[str(tmp_path / 'a.png')]], 32
    with pytest.raises(FileNotFoundError):
      submit(*task, str(tmp_path / 'no' / 'chunk'), lambda n: None).result()
    # The worker lives on.
    submit(*task, str(tmp_path / 'chunk'), lambda n: None).result()
  assert json.loads((tmp_path / 'chunk.json').read_text()) == [None]


def test_killed_at_any_moment_ends_the_same(tmp_path):
  """kill -9 at moments spread over a preparation, then once to its end."""
  layout(tmp_path / 'nih', size=256)
  script = (
    'import sys\n'
    'from input_pipeline import chestxray14 as c\n'
    'c._CHUNK_FILMS = 2\n'
    'print("start", flush=True)\n'
    'c.prepare(sys.argv[1], image_size=64, prepared_dir=sys.argv[2],'
    ' validation_fraction=.3, workers=2)\n'
  )

  def start(name):
    process = subprocess.Popen(
      [sys.executable, '-c', script, tmp_path / 'nih', tmp_path / name],
      cwd=pathlib.Path(__file__).parents[2],
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
    )
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


# --- the real films


def test_the_real_films(nih_dir):
  catalogue = read(nih_dir, validation_fraction=0.1)
  count = {name: len(films) for name, films in catalogue.films.items()}
  assert count['train'] + count['validation'] == 9036
  assert count['test'] == 1987
  boxes = [f.boxes for f in catalogue.films['test'] if f.boxes]
  assert (len(boxes), sum(map(len, boxes))) == (665, 741)
  left_out = [row.reason for row in catalogue.left_out]
  assert left_out.count('absent') == 112120 - 11023
  assert left_out.count('box of a film left out') == 984 - 741


def test_the_real_originals(nih_dir):
  folder = pathlib.Path(nih_dir) / 'originals'
  modes = set()
  for path in sorted(folder.iterdir())[:8]:
    with Image.open(path) as image:
      modes.add(image.mode)
      channel = image.getchannel(0)
    decoded = np.asarray(preprocess.decode(str(path), 1024))
    np.testing.assert_array_equal(decoded, np.asarray(channel))
  assert 'L' in modes
