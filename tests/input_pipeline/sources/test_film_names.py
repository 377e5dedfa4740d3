"""Names of films: paths that stay in their folder, however they are written."""

import doctest
import os
import pathlib

import hypothesis
import hypothesis.strategies as st
import pytest

from input_pipeline.sources import cells, film_names, table


@pytest.mark.parametrize('module', [film_names, cells, table])
def test_examples(module):
  assert doctest.testmod(module).attempted
  assert not doctest.testmod(module).failed


@hypothesis.given(st.text('a./\\\\:C~ \0-', max_size=12))
def test_no_name_leads_out_of_the_folder(text):
  folder = pathlib.Path('/data/films')
  try:
    name = film_names.clean(text, folder)
  except ValueError:
    return
  path = os.path.normpath(folder / name)
  assert path == str(folder) or path.startswith('/data/films/')


@pytest.mark.parametrize(
  'text, name',
  [
    ('a.png', 'a.png'),
    (' ./b//a.png', 'b/a.png'),
    ('b\\a.png', 'b/a.png'),
    ('/data/films/b/a.png', 'b/a.png'),
  ],
)
def test_spellings_of_a_path(text, name):
  assert film_names.clean(text, pathlib.Path('/data/films')) == name


@pytest.mark.parametrize(
  'text', ['/etc/passwd', '../a', 'b/../../a', 'C:\\a', '']
)
def test_other_paths_are_refused(text):
  with pytest.raises(ValueError, match='leads out|no image'):
    film_names.clean(text, pathlib.Path('/data/films'))


def test_files_are_found_as_windows_finds_them(tmp_path):
  film_names.forget()
  for name in ('One/A.PNG', 'images/b.png', 'c.dcm', 'images/c.dcm'):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
  os.mkfifo(tmp_path / 'pipe.png')
  (tmp_path / 'loop.png').symlink_to('loop.png')
  files = film_names.Files(tmp_path, ('.png', '.dcm'))
  for name, path in {
    'one/a.png': 'One/A.PNG',
    'ONE/a': 'One/A.PNG',
    'b.png': 'images/b.png',
    'images/B': 'images/b.png',
    'c.dcm': 'c.dcm',
    'pipe.png': '',
    'loop.png': '',
    'nowhere/a.png': '',
  }.items():
    assert files.find(name) == (path and str(tmp_path / path)), name


def test_films_by_what_others_call_them():
  names = film_names.Names(['x/a.png', 'y/a.png', 'x/b.jpg'], 'films.csv')
  for name, index in {
    'x/a.png': 0,
    'X/A.PNG': 0,
    'y/a': 1,
    'x_a': 0,
    'b': 2,
    'b.jpg': 2,
    'a': None,
    'a.png': None,
    'z': None,
  }.items():
    assert names.get(name) == index, name
  with pytest.raises(ValueError, match="line 2: .*'a' could be several films"):
    names.find('a', 'boxes.csv, line 2')
  with pytest.raises(ValueError, match="no image 'x/c.jpg'; .*'x/b.jpg'"):
    names.find('x/c.jpg', 'boxes.csv, line 2')
