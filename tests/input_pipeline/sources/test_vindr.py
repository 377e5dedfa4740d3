"""VinDr-CXR's layout, and that of its contest."""

import math

import numpy as np
import pytest

from input_pipeline.sources import vindr
from input_pipeline.sources.film_table import Box
from tests.input_pipeline.sources.made_downloads import (
  dicom,
  table,
  vindr_box,
  vindr_folder,
  vindr_labels,
)

A, B, C, T = (letter * 32 for letter in 'abct')
TRAIN = [
  vindr_labels(A, 'R10', Cardiomegaly=1, Rib_fracture=1),
  vindr_labels(A, 'R8', Cardiomegaly=1),
  vindr_labels(A, 'R2'),
  vindr_labels(B, 'R8'),
  vindr_labels(B, 'R9'),
  vindr_labels(B, 'R10'),
]
TRAIN_BOXES = [
  vindr_box(A, 'R10', 'Cardiomegaly', 10.5, 20, 30, 40.25),
  vindr_box(A, 'R10', 'Rib fracture', 1, 2, 3, 4),
  vindr_box(A, 'R8', 'Cardiomegaly', 11, 21, 31, 41),
  vindr_box(A, 'R2', 'No finding'),
  *(vindr_box(B, reader, 'No finding') for reader in ('R8', 'R9', 'R10')),
]
TEST = [vindr_labels(T, COPD=1, Pleural_effusion=1)]
TEST_BOXES = [
  vindr_box(T, '', 'Pleural effusion', 5, 6, 50, 60),
  vindr_box(T, '', 'Pleural effusion', 5, 62, 50, 70),
]


def folder(path, **changes):
  rows = {
    'train': TRAIN,
    'train_boxes': TRAIN_BOXES,
    'test': TEST,
    'test_boxes': TEST_BOXES,
  }
  return vindr_folder(path, **(rows | changes))


def label(table, film, finding):
  return film.label[table.findings.index(finding)]


def test_films(tmp_path):
  table = vindr.read(folder(tmp_path))
  assert len(table.findings) == 27
  assert len(table.boxed) == 22
  assert [film.patient for film in table.films] == [A, B, T]
  assert [film.split for film in table.films] == ['train', 'train', 'test']
  assert {film.view for film in table.films} == {'PA'}
  assert table.films[0].image == f'train/{A}.dicom'
  assert all((tmp_path / film.image).is_file() for film in table.films)
  assert table.films[1].where == 'image_labels_train.csv, line 5'


def test_a_label_is_what_most_readers_say(tmp_path):
  table = vindr.read(folder(tmp_path))
  film = table.films[0]
  assert label(table, film, 'Cardiomegaly') == 1  # two of three
  assert label(table, film, 'Rib fracture') == 0  # one of three
  assert label(table, film, 'Edema') == 0
  tie = [
    *TRAIN[:2],
    vindr_labels(B, 'R8', Edema=1),
    vindr_labels(B, 'R9'),
  ]
  table = vindr.read(folder(tmp_path, train=tie, train_boxes=[]))
  assert math.isnan(label(table, table.films[1], 'Edema'))


def test_readers(tmp_path):
  table = vindr.read(folder(tmp_path))
  assert table.readers == ('R2', 'R8', 'R9', 'R10')
  column = table.findings.index('Cardiomegaly')
  votes = [reader[column] for reader in table.films[0].readers]
  np.testing.assert_array_equal(votes, [0, 1, math.nan, 1])
  # The test has a consensus and no readers.
  assert table.films[2].readers == ()


def test_every_readers_boxes_are_true_regions(tmp_path):
  table = vindr.read(folder(tmp_path))
  heart = table.findings.index('Cardiomegaly')
  assert table.films[0].boxes == (
    Box(heart, (20, 10.5, 40.25, 30)),
    Box(heart, (21, 11, 41, 31)),
  )
  effusion = table.findings.index('Pleural effusion')
  assert table.films[2].boxes == (
    Box(effusion, (6, 5, 60, 50)),
    Box(effusion, (62, 5, 70, 50)),
  )
  # That of one reader of three, whose finding the label denies.
  assert [(row.name, row.reason, row.detail) for row in table.left_out] == [
    (
      f'train/{A}.dicom',
      'box that most readers do not share',
      'Rib fracture R10',
    )
  ]


def test_the_findings_are_those_of_the_columns(tmp_path):
  path = folder(tmp_path)
  table(
    path / 'annotations/image_labels_test.csv',
    'image_id,Edema,Other disease,No finding',
    [[T, 0, 1, 0]],
  )
  table(
    path / 'annotations/annotations_test.csv',
    'image_id,class_name,x_min,y_min,x_max,y_max',
    [],
  )
  read = vindr.read(path)
  assert len(read.findings) == 27  # the train table has all
  assert label(read, read.films[2], 'Other diseases') == 1
  assert math.isnan(label(read, read.films[2], 'COPD'))


def test_tables_beside_the_films_and_other_endings(tmp_path):
  path = folder(tmp_path, films=False)
  for file in (path / 'annotations').iterdir():
    file.rename(path / file.name)
  dicom(path / 'train' / f'{A}.dcm')
  film = vindr.read(path).films[0]
  assert film.image == f'train/{A}.dcm'
  assert len(vindr.tables(path)) == 4


def test_a_part_of_the_download(tmp_path):
  """Without the test the films are divided by a hash; it may be alone."""
  train = vindr.read(folder(tmp_path / 'train', test=()))
  assert [film.split for film in train.films] == ['', '']
  test = vindr.read(folder(tmp_path / 'test', train=()))
  assert [film.split for film in test.films] == ['test']
  assert test.readers == ()


def test_the_contest(tmp_path):
  """train.csv alone: readers who wrote a row, and what they saw."""
  rows = [
    [A, 'Cardiomegaly', 3, 'R10', 691.0, 1375.0, 1653.0, 1831.0],
    [A, 'Cardiomegaly', 3, 'R8', 700, 1380, 1600, 1800],
    [A, 'Aortic enlargement', 0, 'R8', 1, 2, 3, 4],
    [A, 'No finding', 14, 'R2', '', '', '', ''],
    [B, 'No finding', 14, 'R2', '', '', '', ''],
  ]
  header = 'image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max'
  table(tmp_path / 'train.csv', header, rows)
  dicom(tmp_path / 'train' / f'{A}.dicom')
  read = vindr.read(tmp_path)
  assert read.findings == ('Aortic enlargement', 'Cardiomegaly')
  first, second = read.films
  assert first.label == (0, 1)
  assert second.label == (0, 0)
  assert first.readers == ((0, 0), (1, 1), (0, 1))  # R2, R8, R10
  assert len(first.boxes) == 2
  assert (first.split, first.image) == ('', f'train/{A}.dicom')
  assert first.where == 'train.csv, line 2'
  assert vindr.tables(tmp_path) == [tmp_path / 'train.csv']


# --- wrong input


def test_absent_tables(tmp_path):
  with pytest.raises(FileNotFoundError, match='image_labels_train.csv.*VinDr'):
    vindr.tables(tmp_path)
  path = folder(tmp_path)
  (path / 'annotations/annotations_test.csv').unlink()
  with pytest.raises(FileNotFoundError, match='has no annotations_test.csv'):
    vindr.tables(path)


@pytest.mark.parametrize(
  'changes, message',
  [
    (
      {'train': [*TRAIN, vindr_labels(A, 'R8')]},
      'image_labels_train.csv, line 8: a.* has a row of R8 already',
    ),
    (
      {'test': [*TEST, *TEST]},
      'image_labels_test.csv, line 3: t.* has a row of all its readers already',
    ),
    (
      {'train': [TRAIN[0] | {'Edema': 2}]},
      "image_labels_train.csv, line 2, a.*'2' is no label",
    ),
    (
      {'train_boxes': [vindr_box(C, 'R8', 'Edema', 1, 2, 3, 4)]},
      "annotations_train.csv, line 2: 'c.*' has no row in image_labels_train",
    ),
    (
      {'train_boxes': [vindr_box(A, 'R8', 'Pleural fusion', 1, 2, 3, 4)]},
      "line 2: 'Pleural fusion' is not a finding.*'Pleural effusion'",
    ),
  ],
)
def test_what_contradicts_itself(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    vindr.read(folder(tmp_path, films=False, **changes))


def test_a_box_without_numbers_is_left_out(tmp_path):
  boxes = [vindr_box(A, 'R8', 'Cardiomegaly', 1, 'x', 3, 4)]
  table = vindr.read(folder(tmp_path, train_boxes=boxes))
  assert table.left_out[0].reason == 'box without four numbers'
  assert not table.films[0].boxes


def test_absent_columns(tmp_path):
  path = folder(tmp_path)
  table(path / 'annotations/image_labels_train.csv', 'image_id,rad_id', [])
  with pytest.raises(ValueError, match='has a column for none of Aortic'):
    vindr.read(path)
  table(path / 'annotations/annotations_train.csv', 'image_id,x_min', [])
  with pytest.raises(ValueError, match="has no column 'class_name'"):
    vindr.read(path)


def test_an_empty_table(tmp_path):
  path = folder(tmp_path, test=(), train_boxes=[])
  header = (path / 'annotations/image_labels_train.csv').read_text().split('\n')
  (path / 'annotations/image_labels_train.csv').write_text(header[0] + '\n')
  with pytest.raises(ValueError, match='name no film'):
    vindr.read(path)
