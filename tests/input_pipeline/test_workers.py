"""The pool of processes: errors, and what remains of them."""

import os

import pytest

from input_pipeline import preprocess, workers
from input_pipeline.sources.film_table import FilmRow
from tests.input_pipeline.made_folder import film


@pytest.mark.parametrize('count', [1, 2])
def test_an_unwritable_chunk_is_an_os_error(tmp_path, count):
  film(str(tmp_path / 'a.png'))
  films = [FilmRow('a.png', '1', (), paths=(str(tmp_path / 'a.png'),))]
  with workers.pool(count) as executor:
    submit = lambda path: executor.submit(
      preprocess.decode_chunk, films, 32, str(path)
    )
    with pytest.raises(FileNotFoundError):
      submit(tmp_path / 'no' / 'chunk').result()
    # The worker lives on.
    known = [preprocess.Decoded(frame=(64, 64, 0, 0, 0))]
    assert submit(tmp_path / 'chunk').result() == known
  assert preprocess.read_chunk(str(tmp_path / 'chunk'), 1) == known


def test_a_process_that_dies_is_a_sentence():
  with (
    pytest.raises(RuntimeError, match='died at its work') as error,
    workers.pool(2) as executor,
  ):
    executor.submit(os._exit, 1).result()
  assert '\n' not in str(error.value)


def test_one_process_is_this_one():
  with workers.pool(1) as executor:
    assert executor.submit(os.getpid).result() == os.getpid()
    assert list(executor.map(abs, [-1, 2])) == [1, 2]
  assert workers.cores() >= 1
