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


# COCO.
