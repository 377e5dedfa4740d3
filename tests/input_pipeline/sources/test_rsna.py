"""The layout of RSNA's challenge."""

import pytest

from input_pipeline.sources import rsna
from input_pipeline.sources.film_table import Box
from tests.input_pipeline.sources.made_downloads import rsna_folder, table

HEALTHY = '0004cfab-14fd-4e49-80ba-63a80b6bddd6'
ILL = '00436515-870c-4b36-a041-de91049b9ab4'
ROWS = [
  [HEALTHY, '', '', '', '', 0],
  [ILL, 264.0, 152.0, 213.0, 379.0, 1],
  [ILL, 562.0, 152.0, 256.0, 453.0, 1],
]
CLASSES = {HEALTHY: 'No Lung Opacity / Not Normal', ILL: 'Lung Opacity'}
HEADER = 'patientId,x,y,width,height,Target'


def test_films_and_all_their_boxes(tmp_path):
  folder = rsna_folder(tmp_path, ROWS, CLASSES)
  read = rsna.read(folder)
  assert read.findings == read.boxed == ('Pneumonia',)
  healthy, ill = read.films
  assert (healthy.label, ill.label) == ((0,), (1,))
  assert healthy.boxes == ()
  assert ill.boxes == (
    Box(0, (152, 264, 531, 477)),
    Box(0, (152, 562, 605, 818)),
  )
  assert ill.patient == ILL
  assert ill.image == f'stage_2_train_images/{ILL}.dcm'
  assert (folder / ill.image).is_file()
  # No split was published, and nothing but the DICOM says the view.
  assert (ill.split, ill.view, ill.sex) == ('', '', '')
  assert ill.where == 'stage_2_train_labels.csv, line 3'
  assert read.left_out == []


def test_the_classes_may_be_absent(tmp_path):
  folder = rsna_folder(tmp_path, ROWS)
  assert len(rsna.tables(folder)) == 1
  assert len(rsna.read(folder).films) == 2


def test_films_converted_to_pictures(tmp_path):
  folder = rsna_folder(tmp_path, ROWS)
  film = folder / 'stage_2_train_images' / f'{ILL}.dcm'
  film.rename(film.with_suffix('.png'))
  assert rsna.read(folder).films[1].image == f'stage_2_train_images/{ILL}.png'


@pytest.mark.parametrize(
  'row, message',
  [
    ([ILL, '', '', '', '', 0], 'line 5: Target of .* is 0 here and 1 in stage'),
    (['x', '', '', '', '', 2], "line 5: Target of 'x' is '2'; it must be 1"),
    (['x', '', '', '', '', ''], "line 5: Target of 'x' is ''"),
    (['x', 1, 2, 3, 4, 0], 'line 5: x has a box and Target 0'),
  ],
)
def test_what_contradicts_itself(tmp_path, row, message):
  with pytest.raises(ValueError, match=message):
    rsna.read(rsna_folder(tmp_path, [*ROWS, row]))


def test_classes_that_contradict_the_labels(tmp_path):
  rsna_folder(tmp_path, ROWS, CLASSES | {HEALTHY: 'Lung Opacity'})
  with pytest.raises(
    ValueError, match="line 2: .* 'Lung Opacity' and has Targ"
  ):
    rsna.read(tmp_path)
  rsna_folder(tmp_path, ROWS, CLASSES | {HEALTHY: 'Healthy'})
  with pytest.raises(ValueError, match="line 2: the class 'Healthy' must be"):
    rsna.read(tmp_path)


def test_a_positive_film_whose_box_is_no_box(tmp_path):
  read = rsna.read(rsna_folder(tmp_path, [*ROWS, ['x', 1, 2, '', 4, 1]]))
  assert read.films[2].label == (1,)
  assert not read.films[2].boxes
  assert [(row.name, row.reason) for row in read.left_out] == [
    ('x', 'box without four numbers')
  ]


def test_absent_tables_columns_and_rows(tmp_path):
  with pytest.raises(
    FileNotFoundError, match='has no stage_2_train_labels.csv'
  ):
    rsna.tables(tmp_path)
  table(tmp_path / 'stage_2_train_labels.csv', 'patientId,Target', [['x', 1]])
  with pytest.raises(ValueError, match="has no column 'x'"):
    rsna.read(tmp_path)
  table(tmp_path / 'stage_2_train_labels.csv', HEADER, [])
  with pytest.raises(ValueError, match='has no row'):
    rsna.read(tmp_path)
