"""CheXpert's layout, and CheXlocalize's masks beside it."""

import json
import math

import numpy as np
import pytest

from cxr.exporting import chexlocalize
from input_pipeline import catalogue, run_lengths
from input_pipeline.sources import chexpert, film_table
from tests.input_pipeline.sources.made_downloads import (
  CHEXPERT_HEADER,
  chexpert_folder,
  chexpert_row,
  picture,
  table,
)

TRAIN = [
  chexpert_row(1, No_Finding='1.0', Pneumothorax='0.0', Support_Devices='1.0'),
  chexpert_row(2, Cardiomegaly='-1.0', Edema='1.0', Fracture='0.0', view='PA'),
  chexpert_row(2, file='view2_lateral.jpg', Edema='1.0'),
]
VALID = [
  chexpert_row(64541, split='valid', Pleural_Effusion='1.0', sex='Male'),
]


def read(folder, *findings):
  return chexpert.read(folder, film_table.Options(findings=findings))


def label(table, film, finding):
  return film.label[table.findings.index(finding)]


def test_films_and_what_is_known_of_them(tmp_path):
  table = read(chexpert_folder(tmp_path, TRAIN, VALID))
  healthy, ill, valid = table.films
  assert healthy.image == 'train/patient00001/study1/view1_frontal.jpg'
  assert (tmp_path / valid.image).is_file()
  assert [film.patient for film in table.films] == [
    'patient00001',
    'patient00002',
    'patient64541',
  ]
  assert (healthy.view, ill.view) == ('AP', 'PA')
  assert (healthy.sex, valid.sex) == ('F', 'M')
  assert healthy.age == 68
  assert healthy.where == 'train.csv, line 2'
  assert label(table, ill, 'Edema') == 1
  assert label(table, ill, 'Fracture') == 0
  assert label(table, ill, 'Cardiomegaly') == film_table.UNCERTAIN


def test_lateral_films_are_left_out_and_listed(tmp_path):
  rows = [*TRAIN, chexpert_row(3, view='LL', Edema='1.0')]
  table = read(chexpert_folder(tmp_path, rows))
  assert [(row.reason, row.detail) for row in table.left_out] == [
    ('lateral film', 'train.csv, line 4'),
    ('view neither PA nor AP', 'LL, train.csv, line 5'),
  ]
  assert len(table.films) == 2


def test_no_finding_says_that_the_others_are_absent(tmp_path):
  table = read(chexpert_folder(tmp_path, TRAIN))
  assert chexpert.NO_FINDING not in table.findings
  assert len(table.findings) == 13
  healthy, ill = table.films
  others = [name for name in table.findings if name != 'Support Devices']
  assert all(label(table, healthy, name) == 0 for name in others)
  # Support Devices may be there or not, and here the row says it.
  assert label(table, healthy, 'Support Devices') == 1
  # Not mentioned is not absent.
  assert math.isnan(label(table, ill, 'Pneumonia'))
  rows = [chexpert_row(1, No_Finding='1.0')]
  table = read(chexpert_folder(tmp_path, rows))
  assert math.isnan(label(table, table.films[0], 'Support Devices'))


def test_no_finding_is_a_finding_where_it_is_asked_for(tmp_path):
  rows = [
    *TRAIN,
    chexpert_row(4, Support_Devices='1.0', Edema='0.0'),
    chexpert_row(5, Pneumonia='-1.0'),
  ]
  table = read(chexpert_folder(tmp_path, rows), 'no_finding', 'Edema')
  values = [label(table, film, 'No Finding') for film in table.films]
  # 1; another finding is there; nothing is said; another is uncertain.
  np.testing.assert_array_equal(values, [1, 0, math.nan, 0])


@pytest.mark.parametrize('uncertain', ['unknown', 'positive', 'negative'])
@pytest.mark.parametrize('unmentioned', ['unknown', 'negative'])
def test_what_uncertain_and_empty_labels_become(
  tmp_path, uncertain, unmentioned
):
  """CheXpert's U-Ignore, U-Ones and U-Zeros, and blanks."""
  folder = chexpert_folder(tmp_path, TRAIN)
  options = film_table.Options(
    source='chexpert', uncertain=uncertain, unmentioned=unmentioned
  )
  found = catalogue.read(folder, options)
  (film,) = (
    film
    for films in found.films.values()
    for film in films
    if film.patient == 'patient00002'
  )
  becomes = {'unknown': math.nan, 'positive': 1, 'negative': 0}
  np.testing.assert_equal(
    label(found, film, 'Cardiomegaly'), becomes[uncertain]
  )
  np.testing.assert_equal(label(found, film, 'Pneumonia'), becomes[unmentioned])
  assert label(found, film, 'Edema') == 1
  assert label(found, film, 'Fracture') == 0


@pytest.mark.parametrize('field', ['uncertain', 'unmentioned'])
def test_what_they_may_not_become(tmp_path, field):
  options = film_table.Options(source='chexpert', **{field: 'ignored'})
  with pytest.raises(ValueError, match=f"{field} .'ignored'. must be one of"):
    catalogue.read(chexpert_folder(tmp_path, TRAIN), options)


def test_splits(tmp_path):
  folder = chexpert_folder(tmp_path, TRAIN, VALID)
  splits = lambda: [film.split for film in read(folder).films]
  # Validation is taken out of train where valid is the test.
  assert splits() == ['train', 'train', 'test']
  table(
    folder / 'test_labels.csv',
    'Path,No Finding,Edema,Airspace Opacity',
    [['test/patient64741/study1/view1_frontal.jpg', '0.0', '1.0', '0.0']],
  )
  picture(folder / 'test/patient64741/study1/view1_frontal.jpg')
  assert splits() == ['train', 'train', 'validation', 'test']
  tested = read(folder).films[-1]
  assert (tested.view, tested.sex) == ('', '')
  assert math.isnan(tested.age)
  assert tested.label[chexpert.FINDINGS.index('Lung Opacity')] == 0
  assert math.isnan(tested.label[chexpert.FINDINGS.index('Fracture')])


def test_age_0_is_unknown(tmp_path):
  rows = [chexpert_row(1, age='0', sex='Unknown', Edema='1.0')]
  (film,) = read(chexpert_folder(tmp_path, rows)).films
  assert math.isnan(film.age)
  assert film.sex == ''


@pytest.mark.parametrize('where', ['CheXpert-v1.0-small', 'CheXpert-v1.0', '.'])
def test_the_folder_or_the_one_above(tmp_path, where):
  rows = [chexpert_row(1, prefix=f'{where}/', Edema='1.0')]
  folder = chexpert_folder(tmp_path / where, rows)
  for given in {tmp_path, folder}:
    (film,) = read(given).films
    assert (given / film.image).is_file()


def test_windows_paths(tmp_path):
  row = chexpert_row(1, Edema='1.0')
  chexpert_folder(tmp_path, [row])
  row['Path'] = row['Path'].replace('/', '\\')
  table(tmp_path / 'train.csv', CHEXPERT_HEADER, [row])
  (film,) = read(tmp_path).films
  assert (tmp_path / film.image).is_file()


def test_the_full_films_come_in_batches(tmp_path):
  tables = tmp_path / 'CheXpert-v1.0 batch 1 (validate & csv)'
  rows = [chexpert_row(p, prefix='CheXpert-v1.0/') for p in (1, 30000)]
  valid = [chexpert_row(64541, prefix='CheXpert-v1.0/', split='valid')]
  chexpert_folder(tables, rows, valid, films=False)
  for place in (
    'CheXpert-v1.0 batch 2 (train 1)/patient00001',
    'CheXpert-v1.0 batch 3 (train 2)/patient30000',
    'CheXpert-v1.0 batch 1 (validate & csv)/valid/patient64541',
  ):
    picture(tmp_path / place / 'study1/view1_frontal.jpg')
  films = read(tmp_path).films
  assert len(films) == 3
  assert all((tmp_path / film.image).is_file() for film in films)


# --- CheXlocalize


def masks(
  folder, name='val', film='patient64541_study1_view1_frontal', **drawn
):
  """gt_segmentations_<name>.json: all ten tasks, empty but for `drawn`."""
  empty = np.zeros((80, 72), bool)
  tasks = dict.fromkeys(chexlocalize.TASKS, empty)
  tasks |= {task.replace('_', ' '): mask for task, mask in drawn.items()}
  content = {film: {k: chexlocalize.rle_encode(v) for k, v in tasks.items()}}
  folder.mkdir(exist_ok=True)
  path = folder / f'gt_segmentations_{name}.json'
  path.write_text(json.dumps(content))
  return path


@pytest.mark.parametrize('place', ['.', 'CheXlocalize', '../CheXlocalize'])
def test_masks_that_lie_beside(tmp_path, place):
  valid = [chexpert_row(64541, prefix='CheXpert-v1.0/', split='valid')]
  folder = chexpert_folder(tmp_path / 'CheXpert', [], valid)
  lesion = np.zeros((80, 72), bool)
  lesion[10:30, 5:9] = True
  path = masks(folder / place, Airspace_Opacity=lesion, Edema=lesion.copy())
  assert path.resolve() in [p.resolve() for p in chexpert.tables(folder)]
  table = read(folder)
  (film,) = table.films
  found = {table.findings[mask.finding]: mask for mask in film.masks}
  assert {*found} == {'Lung Opacity', 'Edema'}
  mask = found['Lung Opacity']
  np.testing.assert_array_equal(
    run_lengths.decode(mask.counts, mask.size), lesion
  )
  # Whether or not a film has them, these are the findings that were drawn.
  assert table.boxed == chexpert.SEGMENTED
  assert len(table.boxed) == 10


def test_the_download_of_chexlocalize(tmp_path):
  """CheXpert/val and test with their own tables; no training."""
  columns = CHEXPERT_HEADER
  row = chexpert_row(64541, prefix='CheXpert-v1.0/', split='valid', Edema='1.0')
  table(tmp_path / 'CheXpert/val_labels.csv', columns, [row])
  picture(tmp_path / 'CheXpert/val/patient64541/study1/view1_frontal.jpg')
  table(
    tmp_path / 'CheXpert/test_labels.csv',
    'Path,Edema',
    [['test/patient64741/study1/view1_frontal.jpg', '1.0']],
  )
  picture(tmp_path / 'CheXpert/test/patient64741/study1/view1_frontal.jpg')
  lesion = np.ones((80, 72), bool)
  name = 'patient64741_study1_view1_frontal'
  masks(tmp_path / 'CheXlocalize', 'test', name, Edema=lesion)
  valid, test = read(tmp_path).films
  assert (valid.split, test.split) == ('validation', 'test')
  assert (tmp_path / valid.image).is_file()
  assert (tmp_path / test.image).is_file()
  assert not valid.masks
  assert len(test.masks) == 1


def test_masks_are_not_of_the_small_films(tmp_path):
  valid = [chexpert_row(64541, split='valid', Edema='1.0')]
  folder = chexpert_folder(tmp_path / 'CheXpert-v1.0-small', [], valid)
  masks(folder, Edema=np.ones((80, 72), bool))
  table = read(folder)
  assert not table.films[0].masks
  assert [row.reason for row in table.left_out] == [
    'masks of the film at its full size'
  ]


@pytest.mark.parametrize('size', [(2320, 2828), (2022, 2021), (1, 1), (4, 4)])
def test_an_empty_mask_is_known_undecoded(size):
  empty = chexlocalize.rle_encode(np.zeros(size, bool))
  assert chexpert._no_pixel(*size) == empty['counts']


@pytest.mark.parametrize(
  'content, message',
  [
    ('{"a": {"Edema": {"size": [2, 2]}}}', 'does not hold masks'),
    ('[1]', 'does not hold masks'),
    ('{"a": {"Ede', 'does not hold masks'),
    (
      '{"a": {"Oedem": {"size": [2, 3], "counts": "132"}}}',
      "nearest is 'Edema'",
    ),
  ],
)
def test_a_file_of_masks_that_is_none(tmp_path, content, message):
  folder = chexpert_folder(tmp_path, TRAIN)
  (folder / 'gt_segmentations_val.json').write_text(content)
  with pytest.raises(ValueError, match=message) as error:
    read(folder)
  assert 'gt_segmentations_val.json' in str(error.value)


# --- wrong input


def test_no_table(tmp_path):
  with pytest.raises(FileNotFoundError, match='no data folder'):
    chexpert.tables(tmp_path / 'none')
  with pytest.raises(
    FileNotFoundError, match=r'has no train.csv or .*CheXpert'
  ):
    chexpert.tables(tmp_path)
  folder = chexpert_folder(tmp_path / 'CheXpert-v1.0-small', TRAIN)
  with pytest.raises(FileNotFoundError, match='small has train.csv'):
    chexpert.tables(folder / 'train')


@pytest.mark.parametrize(
  'change, message',
  [
    ({'Edema': '2'}, r"line 2, train/patient00001.*'2' is no label"),
    ({'Path': 'train/00001.jpg'}, 'line 2: .* is no path of a film such as'),
  ],
)
def test_a_wrong_cell_is_named_with_its_line(tmp_path, change, message):
  row = chexpert_row(1, Edema='1.0')
  chexpert_folder(tmp_path, [row])
  table(tmp_path / 'train.csv', CHEXPERT_HEADER, [row | change])
  with pytest.raises(ValueError, match=message):
    read(tmp_path)


def test_a_film_has_one_row(tmp_path):
  chexpert_folder(tmp_path, [TRAIN[0], TRAIN[0]])
  with pytest.raises(
    ValueError, match='line 3: .* has a row already, in train.'
  ):
    read(tmp_path)


def test_absent_columns(tmp_path):
  table(tmp_path / 'train.csv', 'Path,Sex,Age', [[TRAIN[0]['Path'], 'F', '1']])
  with pytest.raises(ValueError, match='has a column for none of Enlarged'):
    read(tmp_path)
  table(tmp_path / 'train.csv', 'File,Edema', [['a', '1']])
  with pytest.raises(ValueError, match="has no column 'Path'"):
    read(tmp_path)


def test_no_frontal_film(tmp_path):
  chexpert_folder(tmp_path, [TRAIN[2]])
  with pytest.raises(ValueError, match='no frontal film .1 lateral film.'):
    read(tmp_path)
  table(tmp_path / 'train.csv', CHEXPERT_HEADER, [])
  with pytest.raises(ValueError, match='no frontal film'):
    read(tmp_path)
