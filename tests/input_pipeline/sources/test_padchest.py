"""PadChest's layout."""

import math

import numpy as np
import pytest

from input_pipeline.sources import film_table, padchest
from tests.input_pipeline.sources.made_downloads import (
  PADCHEST_HEADER,
  padchest_folder,
  padchest_row,
  picture,
  table,
)


def rows(count=12):
  """Half with an effusion of a kind, one in four with a pacemaker."""
  return [
    padchest_row(
      f'2168401113669640_00-{k:03d}',
      [
        'loculated pleural effusion' if k % 4 else ' pleural effusion',
        *(['pacemaker'] if k % 4 == 0 else []),
      ]
      if k % 2 == 0
      else ['normal'],
      place=k % 3,
    )
    for k in range(count)
  ]


def read(folder, *findings, synonyms=''):
  return padchest.read(
    folder, film_table.Options(findings=findings, synonyms=synonyms)
  )


def label(table, film, finding):
  return film.label[table.findings.index(finding)]


@pytest.mark.parametrize('packed', [True, False])
def test_films(tmp_path, packed):
  folder = padchest_folder(tmp_path, rows(), packed=packed)
  table = read(folder)
  assert len(table.films) == 12
  film = table.films[1]
  assert film.image == '1/2168401113669640_00-001.png'
  assert all((folder / film.image).is_file() for film in table.films)
  assert film.patient == 'patient of 2168401113669640_00-001'
  assert (film.view, film.sex, film.age) == ('PA', 'F', 84)
  assert (film.split, film.boxes, film.readers) == ('', (), ())
  end = '.gz' if packed else ''
  assert film.where == (
    f'PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv{end}, line 3'
  )


def test_archives_unpacked_into_one_folder(tmp_path):
  folder = padchest_folder(tmp_path, rows(), films=False)
  for seed, row in enumerate(rows()):
    picture(folder / 'images-224' / row['ImageID'], seed, bits=16)
  assert read(folder).films[1].image == (
    'images-224/2168401113669640_00-001.png'
  )


def test_a_film_has_what_stands_above_its_labels(tmp_path):
  table = read(padchest_folder(tmp_path, rows()))
  # The table of synonyms knows pleural effusion.
  assert 'Effusion' in table.findings
  values = [label(table, film, 'Effusion') for film in table.films]
  assert values == [1, 0] * 6
  assert padchest.parse_labels("['rib fracture', 'normal']") == {
    'rib fracture',
    'fracture',
    'normal',
  }


def test_the_tree_has_no_circle_and_every_parent_is_one():
  for parent, children in padchest.CHILDREN.items():
    assert len({*children}) == len(children)
    assert parent not in padchest.with_parents(parent) - {parent}
    for child in children:
      assert padchest.with_parents(parent) < padchest.with_parents(child)


def test_subcutaneous_emphysema_is_no_emphysema(tmp_path):
  """As it is where labels are looked for as parts of texts."""
  films = [padchest_row(f'a{k}', ['subcutaneous emphysema']) for k in range(5)]
  films += [padchest_row(f'b{k}', ['emphysema']) for k in range(5)]
  table = read(padchest_folder(tmp_path, films, films=False))
  assert [label(table, film, 'Emphysema') for film in table.films] == [
    *[0] * 5,
    *[1] * 5,
  ]


def test_the_frequent_findings_by_default(tmp_path):
  """At least 5 films, and at least one in 200; none that is no finding."""
  table = read(padchest_folder(tmp_path, rows(12), films=False))
  # 6 films with an effusion, 3 with a pacemaker, 6 normal ones.
  assert table.findings == ('Effusion',)
  table = read(padchest_folder(tmp_path, rows(24), films=False))
  assert table.findings == (
    'Effusion',
    'electrical device',
    'loculated pleural effusion',
    'pacemaker',
  )
  many = rows(2000) + [padchest_row(f'm{k}', ['mass']) for k in range(10)]
  assert (
    'Mass' not in read(padchest_folder(tmp_path, many, films=False)).findings
  )
  many += [padchest_row('m10', ['mass'])]
  assert 'Mass' in read(padchest_folder(tmp_path, many, films=False)).findings


def test_findings_by_name(tmp_path):
  folder = padchest_folder(tmp_path, rows(), films=False)
  table = read(folder, 'Pacemaker', 'Pleural Effusion', 'No finding')
  assert table.findings == ('pacemaker', 'Effusion', 'No Finding')
  np.testing.assert_array_equal(
    [film.label for film in table.films[:3]], [[1, 1, 0], [0, 0, 1], [0, 1, 0]]
  )
  # In the tree, and on no film.
  with pytest.raises(ValueError, match="'scoliosis' is not a finding here"):
    read(folder, 'scoliosis')
  with pytest.raises(ValueError, match="nearest is 'pacemaker'"):
    read(folder, 'pace maker lead')


def test_own_synonyms(tmp_path):
  folder = padchest_folder(tmp_path / 'films', rows(), films=False)
  own = tmp_path / 'own.csv'
  own.write_text('name,finding\npacemaker,Support Devices\n')
  table = read(folder, 'Support Devices', synonyms=str(own))
  assert [film.label[0] for film in table.films[:4]] == [1, 0, 0, 0]


def test_unchanged_does_not_say_what_is_absent(tmp_path):
  films = [
    padchest_row('a', ['unchanged']),
    padchest_row('b', ['unchanged', 'mass']),
    padchest_row('c', ['mass']),
    padchest_row('d', ['multiple nodules']),
  ]
  table = read(padchest_folder(tmp_path, films, films=False), 'Mass', 'Nodule')
  np.testing.assert_array_equal(
    [film.label for film in table.films],
    [[math.nan, math.nan], [1, math.nan], [1, 0], [0, 1]],
  )


def test_what_is_left_out_is_listed(tmp_path):
  odd = [
    padchest_row('lateral', ['mass'], projection='L'),
    padchest_row('ribs', ['mass'], projection='COSTAL'),
    padchest_row('view', ['mass'], projection=''),
    padchest_row('blank', ''),
    padchest_row('nan', 'nan'),
    padchest_row('exclude', ['exclude']),
    padchest_row('empty', []),
    rows()[0],
    padchest_row('supine', ['mass'], projection='AP_horizontal'),
  ]
  table = read(padchest_folder(tmp_path, rows() + odd, films=False))
  assert [(row.name.split('/')[1], row.reason) for row in table.left_out] == [
    ('lateral.png', 'lateral film'),
    ('ribs.png', 'view neither PA nor AP'),
    ('view.png', 'view neither PA nor AP'),
    ('blank.png', 'no labels'),
    ('nan.png', 'no labels'),
    ('exclude.png', 'label exclude, or none'),
    ('empty.png', 'label exclude, or none'),
    ('2168401113669640_00-000.png', 'row given twice'),
  ]
  assert table.films[-1].view == 'AP'
  assert table.left_out[1].detail.startswith('COSTAL, PADCHEST')


@pytest.mark.parametrize(
  'date, birth, age',
  [
    ('20140915', '1930.0', 84),
    ('20140915', '1930', 84),
    ('', '1930', math.nan),
    ('20140915', '', math.nan),
    ('20140915', '2016', math.nan),
    ('20140915', '1800', math.nan),
  ],
)
def test_ages(date, birth, age):
  np.testing.assert_equal(padchest._age(date, birth), age)


# --- wrong input


def test_absent_tables_and_columns(tmp_path):
  with pytest.raises(
    FileNotFoundError, match='has no PADCHEST_chest.*PadChest'
  ):
    padchest.tables(tmp_path)
  with pytest.raises(FileNotFoundError, match='There is no data folder'):
    padchest.tables(tmp_path / 'none')
  name = 'PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv'
  header = PADCHEST_HEADER.replace(',Labels,', ',Etiquetas,')
  table(tmp_path / name, header, [])
  with pytest.raises(ValueError, match="has no column 'Labels'"):
    read(tmp_path)


@pytest.mark.parametrize(
  'cell', ['normal', "['normal'", '[1]', "'mass'", '{}', '[None]']
)
def test_labels_that_are_no_list(tmp_path, cell):
  folder = padchest_folder(tmp_path, [padchest_row('a', cell)], films=False)
  with pytest.raises(
    ValueError, match='line 2, a.png: .* is no list of labels'
  ):
    read(folder)


def test_a_row_needs_film_and_patient(tmp_path):
  row = padchest_row('a', ['mass']) | {'PatientID': ''}
  with pytest.raises(ValueError, match='line 2: a row needs ImageID and Pat'):
    read(padchest_folder(tmp_path, [row], films=False))


def test_too_few_films_of_any_finding(tmp_path):
  folder = padchest_folder(tmp_path, rows(4), films=False)
  with pytest.raises(
    ValueError, match='no finding of 5 films or more, of 4 fr'
  ):
    read(folder)
  assert read(folder, 'Effusion').findings == ('Effusion',)


def test_no_film_that_can_be_used(tmp_path):
  lateral = [padchest_row('a', ['mass'], projection='L')]
  with pytest.raises(
    ValueError, match='no frontal film with labels .1 lateral'
  ):
    read(padchest_folder(tmp_path, lateral, films=False))
