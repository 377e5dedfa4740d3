"""MIMIC-CXR-JPG's layout."""

import gzip
import math
import tracemalloc

import pytest

from input_pipeline.sources import film_table, mimic
from tests.input_pipeline.sources.made_downloads import (
  MIMIC_HEADER,
  mimic_folder,
  table,
)

STUDIES = [
  (
    10000032,
    50414267,
    'train',
    {'No Finding': '1.0'},
    {'02aa804e-bde0afdd': 'PA', '174413ec-4ec4c1f7': 'LATERAL'},
  ),
  (
    10000032,
    53189527,
    'train',
    {'Edema': '1.0', 'Pneumonia': '-1.0', 'Pneumothorax': '0.0'},
    {'2a2277a9-b0ded155': 'AP'},
  ),
  (11000011, 51029426, 'validate', {'Edema': '0.0'}, {'val': 'AP'}),
  (
    12000022,
    52000000,
    'test',
    {'Edema': '0.0'},
    {
      'test': {'ViewCodeSequence_CodeMeaning': 'postero-anterior'},
      'coded lateral': {'ViewCodeSequence_CodeMeaning': 'lateral'},
      'unknown': '',
      'lordotic': 'AP AXIAL',
    },
  ),
  (13000033, 53000000, 'test', None, {'unlabelled': 'PA'}),
]


def label(table, film, finding):
  return film.label[table.findings.index(finding)]


@pytest.mark.parametrize('packed', [True, False])
def test_films(tmp_path, packed):
  read = mimic.read(mimic_folder(tmp_path, STUDIES, packed=packed))
  first, second, validation, test = read.films
  assert first.image == 'files/p10/p10000032/s50414267/02aa804e-bde0afdd.jpg'
  assert all((tmp_path / film.image).is_file() for film in read.films)
  assert first.patient == second.patient == '10000032'
  assert [film.split for film in read.films] == [
    'train',
    'train',
    'validation',
    'test',
  ]
  assert [film.view for film in read.films] == ['PA', 'AP', 'AP', 'PA']
  assert label(read, first, 'Edema') == 0  # for No Finding is 1
  assert math.isnan(label(read, first, 'Support Devices'))
  assert label(read, second, 'Edema') == 1
  assert label(read, second, 'Pneumonia') == film_table.UNCERTAIN
  assert label(read, second, 'Pneumothorax') == 0
  assert math.isnan(label(read, second, 'Fracture'))
  end = '.gz' if packed else ''
  assert second.where == f'mimic-cxr-2.0.0-split.csv{end}, line 4'
  assert len(read.findings) == 13


def test_what_is_left_out_is_listed(tmp_path):
  read = mimic.read(mimic_folder(tmp_path, STUDIES))
  table = 'mimic-cxr-2.0.0'
  assert {
    row.name.rpartition('/')[2]: (row.reason, row.detail.split(',')[0])
    for row in read.left_out
  } == {
    '174413ec-4ec4c1f7.jpg': ('lateral film', 'LATERAL'),
    'coded lateral.jpg': ('lateral film', 'LATERAL'),
    'unknown.jpg': ('view neither PA nor AP', 'not said'),
    'lordotic.jpg': ('view neither PA nor AP', 'AP AXIAL'),
    'unlabelled.jpg': (
      f'its study has no row in {table}-chexpert.csv.gz',
      f'{table}-split.csv.gz',
    ),
  }


def test_negbio_where_chexpert_is_absent(tmp_path):
  folder = mimic_folder(tmp_path, STUDIES[:2], labeller='negbio')
  assert len(mimic.read(folder).films) == 2
  mimic_folder(tmp_path, STUDIES[:2])
  assert 'chexpert' in str(mimic.tables(folder)[2])


def test_no_finding_is_a_finding_where_it_is_asked_for(tmp_path):
  options = film_table.Options(findings=('Edema', 'No Finding'))
  read = mimic.read(mimic_folder(tmp_path, STUDIES), options)
  values = [label(read, film, 'No Finding') for film in read.films]
  assert values[:2] == [1, 0]
  assert all(map(math.isnan, values[2:]))


def test_memory_grows_with_films_and_not_with_the_tables_text(tmp_path):
  """The metadata's other columns never lie in memory."""
  mimic_folder(tmp_path, STUDIES[:2])
  long = 'x' * 2000
  path = tmp_path / 'mimic-cxr-2.0.0-metadata.csv.gz'
  with gzip.open(path, 'wt', compresslevel=1) as f:
    f.write('dicom_id,ViewPosition,PerformedProcedureStepDescription\n')
    f.write('02aa804e-bde0afdd,PA,\n')
    for k in range(10_000):
      f.write(f'{k},AP,{long}\n')  # 20 MB
  tracemalloc.start()
  read = mimic.read(tmp_path)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert len(read.films) == 1
  assert peak < 10e6


# --- wrong input


@pytest.mark.parametrize('name', ['split', 'metadata', 'chexpert'])
def test_absent_tables(tmp_path, name):
  folder = mimic_folder(tmp_path, STUDIES)
  (folder / f'mimic-cxr-2.0.0-{name}.csv.gz').unlink()
  with pytest.raises(FileNotFoundError, match=f'has no mimic.*{name}.*MIMIC'):
    mimic.tables(folder)


@pytest.mark.parametrize(
  'row, message',
  [
    (['a', 5, 1, 'dev'], "line 2: the split 'dev' must be one of train, valid"),
    (['a', 's5', 1, 'test'], 'line 2: a row needs dicom_id and the numbers'),
    (['', 5, 1, 'test'], 'line 2: a row needs dicom_id'),
  ],
)
def test_a_wrong_row_of_the_split(tmp_path, row, message):
  folder = mimic_folder(tmp_path, STUDIES)
  path = folder / 'mimic-cxr-2.0.0-split.csv.gz'
  table(path, 'dicom_id,study_id,subject_id,split', [row], packed=True)
  with pytest.raises(ValueError, match=message):
    mimic.read(folder)


def test_a_film_and_a_study_have_one_row(tmp_path):
  with pytest.raises(ValueError, match='line 4: study 50414267 of patient 10'):
    mimic.read(mimic_folder(tmp_path / 'a', [*STUDIES[:2], STUDIES[0]]))
  again = (*STUDIES[1][:3], None, STUDIES[1][4])
  with pytest.raises(
    ValueError, match='line 5: 2a2277a9-b0ded155 has a row al'
  ):
    mimic.read(mimic_folder(tmp_path / 'b', [*STUDIES[:2], again]))


def test_a_wrong_label_and_absent_columns(tmp_path):
  study = (1, 5, 'train', {'Edema': '2.0'}, {'a': 'PA'})
  with pytest.raises(ValueError, match="line 2, study 5: '2.0' is no label"):
    mimic.read(mimic_folder(tmp_path, [study]))
  path = tmp_path / 'mimic-cxr-2.0.0-chexpert.csv.gz'
  table(path, 'subject_id,study_id', [], packed=True)
  with pytest.raises(ValueError, match='has a column for none of Enlarged'):
    mimic.read(tmp_path)
  path = tmp_path / 'mimic-cxr-2.0.0-metadata.csv.gz'
  table(path, 'dicom_id,Rows', [], packed=True)
  table(tmp_path / 'mimic-cxr-2.0.0-chexpert.csv.gz', MIMIC_HEADER, [])
  with pytest.raises(ValueError, match="has no column 'ViewPosition'"):
    mimic.read(tmp_path)


def test_a_damaged_download(tmp_path):
  folder = mimic_folder(tmp_path, STUDIES)
  path = folder / 'mimic-cxr-2.0.0-split.csv.gz'
  path.write_bytes(path.read_bytes()[:-12])
  with pytest.raises(
    ValueError, match='split.csv.gz is packed by gzip and dam'
  ):
    mimic.read(folder)


def test_no_film_that_can_be_used(tmp_path):
  study = (1, 5, 'train', {'Edema': '1.0'}, {'a': 'LATERAL'})
  with pytest.raises(
    ValueError, match='no frontal film with labels .1 lateral'
  ):
    mimic.read(mimic_folder(tmp_path, [study]))
