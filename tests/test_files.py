"""Files that are there whole or not at all, and safe csv cells."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr import files


@given(st.text(max_size=6))
@settings(max_examples=100, deadline=None)
def test_cells_come_back_and_never_start_a_formula(text):
  cell = files.escape_cell(text)
  assert not cell.startswith(('=', '+', '-', '@', '\t', '\r'))
  assert files.unescape_cell(cell) == text


@pytest.mark.parametrize(
  'text', ['=1+1', '+1', '-1', '@A1', "'=1", "''", '\t=']
)
def test_formulas_are_quoted(text):
  cell = files.escape_cell(text)
  assert cell == "'" + text
  assert files.unescape_cell(cell) == text


def test_plain_text_is_left_alone():
  for text in ('00000001_000.png', 'Pleural_Thickening', '', "it's", "'a"):
    assert files.escape_cell(text) == text


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / 'file'
  path.write_text('old')
  with pytest.raises(RuntimeError):

    def write(f):
      f.write('half')
      raise RuntimeError

    files.replace_file(str(path), write)
  assert path.read_text() == 'old'
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('last', [b'{"step": 2', b'\0\0', b'\xff{'])
def test_lines_end_where_one_is_cut_or_damaged(tmp_path, last):
  path = tmp_path / 'train.jsonl'
  path.write_bytes(b'{"step": 1}\n' + last)
  assert files.read_json_lines(str(path)) == [{'step': 1}]


@pytest.mark.parametrize('content', [b'', b'PK\3\4', b'\0' * 40, b'[1]'])
def test_damaged_arrays_are_one_sentence(tmp_path, content):
  path = tmp_path / 'examples.npz'
  path.write_bytes(content)
  with pytest.raises(ValueError, match='examples.npz is damaged') as error:
    files.read_arrays(str(path))
  assert 'pickle' not in str(error.value)
