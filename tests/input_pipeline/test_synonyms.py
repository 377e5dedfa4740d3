"""A user's own table of synonyms."""

import pytest

from input_pipeline import findings, synonyms


def write(folder, *rows, header='name,finding'):
  path = folder / 'synonyms.csv'
  path.write_text('\n'.join([header, *rows]) + '\n', encoding='utf-8')
  return path


def test_no_file_is_the_built_in_table():
  assert synonyms.read('') == findings.SYNONYMS


def test_own_rows_extend_the_table_and_go_before_it(tmp_path):
  path = write(
    tmp_path,
    'Verschattung,Lung Opacity',
    'Airspace Opacity,Consolidation',
    'Pleuraerguss,pleural effusion',
    'Klumpen,Raumforderung',
  )
  table = synonyms.read(path)
  assert findings.same('verschattung', 'Lung Opacity', table)
  assert findings.canonical('Airspace Opacity', table) == 'Consolidation'
  assert findings.canonical('PLEURAERGUSS', table) == 'Effusion'
  assert findings.same('Klumpen', 'raumforderung', table)
  assert findings.same('infiltrate', 'Infiltration', table)
  assert not findings.same('Klumpen', 'Raumforderung')  # the table is no state


@pytest.mark.parametrize('row', ['Opacity,', ',Mass', '?,Mass'])
def test_a_row_needs_both(tmp_path, row):
  path = write(tmp_path, 'Erguss,Effusion', row)
  with pytest.raises(ValueError, match='line 3: a row needs a name and a find'):
    synonyms.read(path)


def test_a_name_has_one_meaning(tmp_path):
  path = write(tmp_path, 'Opacity,Mass', 'opacity,Nodule')
  with pytest.raises(ValueError, match="line 3: 'opacity' means 'Nodule' here"):
    synonyms.read(path)
  assert synonyms.read(write(tmp_path, 'Opacity,Mass', 'opacity,lung mass'))


def test_absent_files_and_columns_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='data.synonyms'):
    synonyms.read(tmp_path / 'none.csv')
  path = write(tmp_path, 'Opacity,Mass', header='name,meaning')
  with pytest.raises(ValueError, match="no column 'finding'"):
    synonyms.read(path)
