"""Tables and films joined, on layouts with every quirk and on the real ones."""

import math
import os
import re
import shutil

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from absl import logging

from input_pipeline import catalogue
from input_pipeline.sources import nih_tables
from input_pipeline.sources.film_table import Box
from tests.input_pipeline.made_folder import (
  BOX_HEADER,
  HEADER,
  OLD_HEADER,
  TEST,
  TRAIN,
  film,
  layout,
  names,
  read,
  reasons,
  rows,
)


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
  return layout(tmp_path_factory.mktemp('nih'))


def test_sound_folder(folder):
  found = read(folder)
  split = names(found)
  assert sorted(split['train'] + split['validation']) == TRAIN
  assert split['test'] == TEST
  assert found.left_out == []
  first = found.films['test'][0]
  assert first.label == tuple(float(k == 1) for k in range(14))
  assert (first.view, first.age, first.sex) == ('PA', 57, 'M')
  assert first.boxes == (Box(1, (512, 256, 768, 384)),)
  assert first.frame == (1024, 1024)
  assert first.patient == '21'


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
    found = read(copy)
    assert names(found) == names(expected)
    for split, films in found.films.items():
      for one, other in zip(films, expected.films[split], strict=True):
        sex = 'F' if name == 'order' else 'M'
        assert one[:8] == other._replace(sex=sex)[:8]


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'train': '\n'.join([*TRAIN, TRAIN[3]])}, 'lists 1 films twice'),
    ({'train': '\n'.join([*TRAIN, TEST[3]])}, 'would see the test'),
    ({'train': '\n'.join([*TRAIN, '00000021_007.png'])}, 'patient 21'),
    ({'train': ''}, 'lists no film'),
    ({'test': '../../etc/passwd'}, 'names'),
    ({'test': '00000021_000.png.png'}, 'names'),
    ({'boxes': [f'{TRAIN[4]},Mass,1,1,9,9']}, 'boxes are for the test'),
    ({'boxes': ['../a.png,Mass,1,1,9,9']}, 'names'),
    (
      {'train': '\ufeff' + '\r\n\r\n'.join([*TRAIN, TRAIN[3]])},
      '1 films twice',
    ),
    ({'train': '\t'.join(TRAIN)}, 'names'),
    ({'boxes': [f'{TEST[0]},Mass,1,1']}, '4 fields do not fit'),
    ({'table': '\n'.join([HEADER, *rows(), rows()[0]])}, 'a row already'),
    ({'table': '\n'.join([HEADER, *rows()]).replace(',57,', ',5,7,')}, 'field'),
    ({'table': '\n'.join([HEADER, *rows()]).replace(',1,', ',2,')}, 'patient'),
    ({'table': HEADER}, 'no row'),
    ({'table': f'{HEADER},Größe'.encode('latin-1')}, 'no row'),
    ({'table': b'PK\x03\x04' + bytes(range(256))}, 'not a text file'),
    ({'table': f'{HEADER},patient id\n'}, 'twice'),
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
  found = read(tmp_path)
  assert [len(f.boxes) for f in found.films['test']] == [2, 2, 0]
  assert found.films['test'][0].boxes[0] == Box(3, (0, 0, 1024, 1024))
  assert max(found.films['test'][0].boxes[1].box) <= 1024
  assert reasons(found) == sorted(
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
  assert names(read(folder, validation_fraction=0.0))['validation'] == []


def test_validation_share():
  held = [
    [catalogue.is_chosen(str(p), fraction=0.1, seed=seed) for p in range(20000)]
    for seed in range(2)
  ]
  np.testing.assert_allclose(np.mean(held, axis=1), 0.1, atol=0.01)
  # Other seeds hold out others.
  np.testing.assert_allclose(np.mean(np.all(held, axis=0)), 0.01, atol=0.004)


@pytest.mark.parametrize('fraction', [-0.1, 1.0, math.nan])
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
    nih_tables.read_list,
    nih_tables.read_entries,
    nih_tables.read_boxes,
  ):
    try:
      result = reader(path)
    except ValueError as e:
      assert str(path) in str(e)
      continue
    if reader is nih_tables.read_boxes:
      for boxes in result[0].values():
        for _, (ymin, xmin, ymax, xmax), _ in boxes:
          assert 0 <= ymin < ymax <= 1024 and 0 <= xmin < xmax <= 1024


# --- the real films


def test_the_real_films(nih_dir):
  found = read(nih_dir, validation_fraction=0.1)
  count = {name: len(films) for name, films in found.films.items()}
  assert count['train'] + count['validation'] == 9036
  assert count['test'] == 1987
  boxes = [f.boxes for f in found.films['test'] if f.boxes]
  assert (len(boxes), sum(map(len, boxes))) == (665, 741)
  left_out = [row.reason for row in found.left_out]
  assert left_out.count('absent') == 112120 - 11023
  assert left_out.count('box of a film left out') == 984 - 741


# --- films in other places


def put(folder, place, names, suffix='.png'):
  for name in names:
    film(str(folder / place / name.replace('.png', suffix)))


@pytest.mark.parametrize(
  'place, suffix, instead',
  [
    ('images', '.jpg', r"24 \.jpg in '.*/images' such as '00000001_000\.jpg'"),
    ('images', '.PNG', r"24 \.PNG in '.*/images' such as '00000001_000\.PNG'"),
    (
      'images-224/images-224',
      '.png',
      r"24 \.png in '.*/images-224/images-224'",
    ),
    ('images_001', '.png', r"24 \.png in '.*/images_001' such as"),
    ('images/a/b', '.png', r"24 \.png in '.*/images/a/b' such as"),
    ('images', '_224.png', r"24 \.png in .* such as '00000001_000_224\.png'"),
  ],
)
def test_no_film_where_it_is_looked_for(tmp_path, place, suffix, instead):
  """The places looked in, and what is there instead."""
  layout(tmp_path, films=[])
  put(tmp_path, place, TRAIN + TEST, suffix)
  with pytest.raises(ValueError, match='None of the 24 listed') as error:
    read(tmp_path)
  sentence = str(error.value)
  for looked_in in (tmp_path / 'images', tmp_path / 'images_0*' / 'images'):
    assert str(looked_in) in sentence
  assert re.search(f'found instead: {instead}', sentence)
  assert '\n' not in sentence


def test_no_picture_at_all(tmp_path):
  layout(tmp_path, films=[])
  with pytest.raises(ValueError, match='instead: no picture at all'):
    read(tmp_path)


def test_films_beside_the_places_are_counted(tmp_path, monkeypatch):
  lines = []
  monkeypatch.setattr(logging, 'warning', lambda s, *a: lines.append(s % a))
  layout(tmp_path, films=TRAIN + TEST[:1])
  put(tmp_path, 'images_002', TEST[1:3])
  put(tmp_path, 'images', TEST[3:], '.jpeg')
  found = read(tmp_path)
  assert [row for row in reasons(found) if row[1] == 'absent'] == [
    (name, 'absent') for name in TEST[1:]
  ]
  (line,) = lines
  assert line.startswith('3 listed films are not in')
  assert "2 .png in '" in line and "images_002'" in line
  assert '1 .jpeg in' in line


def test_films_of_one_name_in_two_folders_are_counted(tmp_path, monkeypatch):
  lines = []
  monkeypatch.setattr(logging, 'warning', lambda s, *a: lines.append(s % a))
  layout(tmp_path)
  put(tmp_path, 'images_001/images', TRAIN[:2])
  (tmp_path / 'images_002').symlink_to(tmp_path / 'images_001')
  found = read(tmp_path).films['train'] + read(tmp_path).films['validation']
  assert all('/images/' in film.paths[0] for film in found)
  assert not any('images_001' in film.paths[0] for film in found)
  assert lines[0].startswith(
    f'2 films are there several times, such as {TRAIN[0]}'
  )
  assert lines[0].count('/images and ') == 1 and 'images_002' not in lines[0]


def test_all_films_there_says_nothing(tmp_path, monkeypatch):
  monkeypatch.setattr(logging, 'warning', lambda *args: pytest.fail(str(args)))
  layout(tmp_path)
  put(tmp_path, 'originals', TRAIN)
  assert reasons(read(tmp_path)) == []


@pytest.mark.parametrize(
  'place', ['images', 'images_001', 'images_007/images', 'images_002/images']
)
def test_linked_folders_are_followed(tmp_path, place):
  """Also where a link leads back to a folder above itself."""
  layout(tmp_path / 'nih', films=[])
  inner = 'images' if place == 'images_001' else '.'
  put(tmp_path / 'disk', inner, TRAIN + TEST)
  link = tmp_path / 'nih' / place
  link.parent.mkdir(exist_ok=True)
  link.symlink_to(tmp_path / 'disk')
  (tmp_path / 'nih' / 'again').symlink_to(tmp_path / 'nih')
  (tmp_path / 'disk' / 'loop').symlink_to(tmp_path)
  assert names(read(tmp_path / 'nih'))['test'] == TEST


def test_links_in_a_circle_do_not_hold_up_the_search(tmp_path):
  layout(tmp_path / 'nih', films=[])
  put(tmp_path / 'disk', '.', TRAIN)
  (tmp_path / 'nih' / 'films').symlink_to(tmp_path / 'disk')
  (tmp_path / 'disk' / 'loop').symlink_to(tmp_path / 'nih')
  (tmp_path / 'nih' / 'self').symlink_to('self')
  with pytest.raises(ValueError, match=r"20 \.png in '.*/films' such as"):
    read(tmp_path / 'nih')


def test_the_data_folder_itself_may_be_a_link(tmp_path, folder):
  (tmp_path / 'link').symlink_to(folder)
  assert names(read(tmp_path / 'link')) == names(read(folder))


def test_hostile_names_stay_on_one_line(tmp_path):
  layout(tmp_path, films=[])
  put(tmp_path, 'a\nb', ['c\nd.png'])
  with pytest.raises(ValueError, match='instead: 1 .png') as error:
    read(tmp_path)
  assert '\n' not in str(error.value)


def test_a_link_that_leads_nowhere_is_named(tmp_path):
  layout(tmp_path, films=[])
  (tmp_path / 'images').symlink_to('/nowhere/films')
  with pytest.raises(ValueError, match="leads to '/nowhere/films', which is"):
    read(tmp_path)


def test_a_folder_beside_the_right_one(tmp_path):
  layout(tmp_path / 'nih')
  for near in (tmp_path, tmp_path / 'nih' / 'images'):
    with pytest.raises(FileNotFoundError, match=r', as .*/nih may be\.'):
      read(near)


@pytest.mark.parametrize(
  'name, size',
  [
    ('Data_Entry_2017_v2020.csv', len(HEADER) + 20),
    ('test_list.txt', 20),
    ('BBox_List_2017.csv', 0),
  ],
)
def test_a_damaged_phantom_can_be_drawn_anew(tmp_path, name, size):
  layout(tmp_path)
  (tmp_path / 'phantom.json').write_text('{}')
  path = tmp_path / name
  path.write_bytes(path.read_bytes()[:size])
  with pytest.raises(ValueError, match='is a phantom: remove it') as error:
    read(tmp_path)
  assert str(path) in str(error.value) and '\n' not in str(error.value)
  path.unlink()
  with pytest.raises(FileNotFoundError, match='is a phantom: remove it'):
    read(tmp_path)
