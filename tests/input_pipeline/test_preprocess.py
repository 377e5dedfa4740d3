"""One film file -> one gray square."""

import pathlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image

from input_pipeline import preprocess
from input_pipeline.sources.film_table import FilmRow
from tests.input_pipeline.made_folder import bad_films, film


def test_a_film_of_the_size_is_untouched(tmp_path):
  film(str(tmp_path / 'a.png'))
  pixels = np.asarray(Image.open(tmp_path / 'a.png'))
  decoded = preprocess.decode(str(tmp_path / 'a.png'), 64).image
  np.testing.assert_array_equal(decoded, pixels)


def test_reduction_is_antialiased(tmp_path):
  """The finest checkerboard becomes its mean; a constant stays."""
  path = str(tmp_path / 'a.png')
  board = np.indices((128, 128)).sum(0) % 2 * 200
  Image.fromarray(board.astype(np.uint8)).save(path)
  decoded = preprocess.decode(path, 28).image.astype(int)
  assert np.abs(decoded - 100).max() <= 3
  film(path, 128, fill=77)
  assert np.all(preprocess.decode(path, 28).image == 77)


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'RGB', 'P', '1'])
def test_modes_are_taken_as_gray(tmp_path, mode):
  film(str(tmp_path / 'a.png'))
  gray = np.asarray(Image.open(tmp_path / 'a.png'))
  if mode == '1':
    gray = gray // 128 * 255
  image = Image.fromarray(gray).convert(mode)
  if mode in ('RGBA', 'LA'):
    image.putalpha(51)
    gray = np.round(gray / 5)  # laid on black
  image.save(tmp_path / 'b.png')
  decoded = preprocess.decode(str(tmp_path / 'b.png'), 64).image
  np.testing.assert_array_equal(decoded, gray)


def test_bad_films_have_a_reason(tmp_path):
  for name, (data, reason) in bad_films(str(tmp_path)).items():
    path = tmp_path / 'a.png'
    path.write_bytes(data)
    film = FilmRow('a.png', '1', (), frame=(9, 9), paths=(str(path),))
    images, decoded = preprocess.decode_film(film, 32)
    assert images == [] and decoded.fault[:2] == (str(path), reason), name
    assert str(tmp_path) not in decoded.fault[2]


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(data=st.data())
def test_damaged_films_never_crash(tmp_path_factory, data):
  path = tmp_path_factory.getbasetemp() / 'damaged.png'
  film(str(path), 16)
  content = bytearray(path.read_bytes())
  for _ in range(data.draw(st.integers(1, 4))):
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
      st.integers(0, 255)
    )
  path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
  try:
    assert preprocess.decode(str(path), 16).image.shape == (16, 16)
  except ValueError as e:
    assert len(e.args) == 2


def test_the_real_originals(nih_dir):
  folder = pathlib.Path(nih_dir) / 'originals'
  modes = set()
  for path in sorted(folder.iterdir())[:8]:
    with Image.open(path) as image:
      modes.add(image.mode)
      channel = image.getchannel(0)
    decoded = preprocess.decode(str(path), 1024).image
    np.testing.assert_array_equal(decoded, np.asarray(channel))
  assert 'L' in modes
