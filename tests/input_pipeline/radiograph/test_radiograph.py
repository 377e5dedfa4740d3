"""Pictures, their fit to a square, what is found in a folder, damage."""

import os

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from PIL import Image

from input_pipeline import preprocess
from input_pipeline.radiograph import radiograph
from tests.input_pipeline.radiograph.made_films import (
  GRAY,
  RAMP,
  SAMPLES,
  dicom,
  gray,
  png,
  save,
)


@pytest.fixture
def path(tmp_path):
  return str(tmp_path / 'film')


class TestRead:
  def test_large_file_is_refused(self, path):
    save(png(GRAY), path)
    os.truncate(path, radiograph.MAX_BYTES + 1)
    with pytest.raises(radiograph.RadiographError, match='larger'):
      radiograph.read(path, size=2)

  @pytest.mark.parametrize(
    'content', [b'', b'GIF89a', b'\x89PNG\r\n\x1a\n', b'%PDF-1.4' * 50]
  )
  def test_other_files(self, path, content):
    with open(path, 'wb') as f:
      f.write(content)
    with pytest.raises(radiograph.RadiographError):
      radiograph.read(path, size=2)

  def test_absent_file(self, path):
    with pytest.raises(radiograph.RadiographError, match='gone'):
      radiograph.read(path, size=2)

  def test_fit_is_one_of_two(self, path):
    with pytest.raises(ValueError, match="fit \\('stretch'\\)"):
      radiograph.read(path, size=2, fit='stretch')


class TestFit:
  @pytest.mark.parametrize('shape', [(40, 20), (20, 40), (30, 37), (64, 64)])
  @pytest.mark.parametrize('fit', radiograph.FITS)
  def test_a_bright_spot_is_where_its_box_says(self, path, shape, fit):
    height, width = shape
    top, left = height // 2 - 4, width // 2 - 6
    values = np.zeros(shape, np.uint8)
    values[top : top + 8, left : left + 8] = 255
    save(png(values), path)
    film = radiograph.read(path, size=160, fit=fit)
    rows, columns, _ = np.nonzero(film.image > 0.5)
    box = np.array(
      [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    )
    found = film.to_film_pixels(box / 160)
    np.testing.assert_allclose(found, [top, left, top + 8, left + 8], atol=0.6)

  def test_pad_by_hand(self, path):
    # 40 x 20 in 80: scale 2, 20 columns of black at either side.
    save(png(np.full((40, 20), 255, np.uint8)), path)
    film = radiograph.read(path, size=80)
    assert (film.offset, film.scale) == ((0, 20), (2, 2))
    assert not film.image[:, :20].any() and not film.image[:, 60:].any()
    assert film.image[:, 20:60].all()
    boxes = [[0, 0.25, 0.5, 0.75], [0, 0, 1, 0.2], [0.25, 0.5, 1, 1]]
    np.testing.assert_allclose(
      film.to_film_pixels(np.array(boxes)),
      [[0, 0, 20, 20], [0, 0, 40, 0], [10, 10, 40, 20]],
    )

  def test_crop_by_hand(self, path):
    # The middle 20 rows of 40, in 80 pixels: scale 4, 10 rows above.
    values = np.zeros((40, 20), np.uint8)
    values[10:30] = 255
    save(png(values), path)
    film = radiograph.read(path, size=80, fit='crop')
    assert (film.offset, film.scale) == ((-40, 0), (4, 4))
    assert film.image.all()
    np.testing.assert_allclose(
      film.to_film_pixels(np.array([0, 0, 1, 0.5])), [10, 0, 30, 10]
    )

  def test_no_boxes(self, path):
    save(png(GRAY), path)
    film = radiograph.read(path, size=2)
    assert film.to_film_pixels(np.zeros((0, 4))).shape == (0, 4)

  def test_a_line_of_pixels(self, path):
    save(png(np.full((1, 500), 255, np.uint8)), path)
    for fit in radiograph.FITS:
      assert radiograph.read(path, size=16, fit=fit).image.shape == (16, 16, 1)

  def test_reduction_is_anti_aliased(self, path):
    values = np.indices((64, 64)).sum(axis=0) % 2 * 255
    save(png(values.astype(np.uint8)), path)
    np.testing.assert_allclose(gray(path, size=8), 0.5, atol=0.02)

  @pytest.mark.parametrize('mode', ['L', 'RGB', 'RGBA', 'P'])
  def test_image_is_what_training_sees(self, path, mode):
    values = np.random.default_rng(0).integers(0, 256, (50, 50), np.uint8)
    save(png(values).convert(mode), path)
    for size in (16, 50):
      np.testing.assert_array_equal(
        gray(path, size=size),
        preprocess.decode(path, size).image / np.float32(255),
      )

  def test_film_of_the_right_size_is_untouched(self, path):
    values = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    save(png(values), path)
    image = gray(path, size=32)
    np.testing.assert_array_equal(image, values / np.float32(255))
    assert image.dtype == np.float32


class TestFind:
  def test_folder(self, tmp_path):
    names = [
      'b/film.PNG',
      'a/film.png',
      'a.jpeg',
      'x.dcm',
      '=cmd|x.jpg',
      'line\nbreak.png',
      '<img src=x>.png',
    ]
    for name in names:
      (tmp_path / name).parent.mkdir(exist_ok=True)
      (tmp_path / name).write_bytes(b'')
    save(dicom(RAMP), str(tmp_path / '1.2.840.113'))
    save(dicom(RAMP), str(tmp_path / 'DICOMDIR'))
    (tmp_path / 'table.csv').write_text('a')
    (tmp_path / '.hidden.png').write_text('a')
    (tmp_path / '.git').mkdir()
    (tmp_path / '.git' / 'film.png').write_text('a')
    os.mkfifo(tmp_path / 'pipe.png')
    found, skipped = radiograph.find(str(tmp_path))
    found = [os.path.relpath(p, tmp_path) for p in found]
    assert sorted(found) == sorted([*names, '1.2.840.113'])
    assert skipped == {'hidden': 2, 'other': 3}
    assert found.index('a/film.png') < found.index('b/film.PNG')

  def test_linked_folders_are_followed_once(self, tmp_path):
    for name in ('films/a.png', 'elsewhere/b.png'):
      (tmp_path / name).parent.mkdir()
      (tmp_path / name).write_bytes(b'')
    (tmp_path / 'films' / 'link').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere' / 'back').symlink_to(tmp_path / 'films')
    (tmp_path / 'films' / 'gone').symlink_to(tmp_path / 'nowhere')
    found, skipped = radiograph.find(str(tmp_path / 'films'))
    assert [os.path.relpath(p, tmp_path) for p in found] == [
      'films/a.png',
      'films/link/b.png',
    ]
    assert skipped == {'hidden': 0, 'other': 1}

  def test_one_file_is_taken_as_it_is(self, tmp_path):
    (tmp_path / 'film.tif').write_bytes(b'')
    path = str(tmp_path / 'film.tif')
    assert radiograph.find(path) == ([path], {'hidden': 0, 'other': 0})

  def test_nothing_there(self, tmp_path):
    with pytest.raises(FileNotFoundError, match='no file or folder'):
      radiograph.find(str(tmp_path / 'x'))
    with pytest.raises(ValueError, match='holds no PNG'):
      radiograph.find(str(tmp_path))


class TestDamage:
  @hypothesis.settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(
    which=strategies.integers(0, len(SAMPLES) - 1),
    cut=strategies.none() | strategies.floats(0, 1),
    edits=strategies.lists(
      strategies.tuples(strategies.floats(0, 1), strategies.binary(max_size=4)),
      max_size=5,
    ),
  )
  @pytest.mark.filterwarnings('ignore')
  def test_is_one_sentence_or_a_film(self, tmp_path, which, cut, edits):
    data = bytearray(SAMPLES[which])
    for where, new in edits:
      start = int(where * len(data))
      data[start : start + len(new)] = new
    if cut is not None:
      data = data[: int(cut * len(data))]
    path = tmp_path / 'film'
    path.write_bytes(data)
    try:
      film = radiograph.read(str(path), size=8)
    except radiograph.RadiographError as error:
      assert str(error).endswith('.') and '\n' not in str(error)
    else:
      assert film.image.shape == (8, 8, 1)
      assert film.image.min() >= 0 and film.image.max() <= 1


def test_real_films(nih_dir):
  paths, _ = radiograph.find(os.path.join(nih_dir, 'originals'))
  films = [radiograph.read(path, size=224) for path in paths[::4]]
  assert all((f.height, f.width) == (1024, 1024) for f in films)
  # Some real films are rotated, framed or inverted; few.
  assert sum(bool(f.warnings) for f in films) <= len(films) // 4


def mode_of(path):
  with Image.open(path) as picture:
    return picture.mode


def test_real_films_are_what_training_sees(nih_dir):
  paths, _ = radiograph.find(os.path.join(nih_dir, 'originals'))
  with_alpha = [path for path in paths if mode_of(path) == 'RGBA']
  for path in paths[:2] + with_alpha[:1]:
    np.testing.assert_array_equal(
      gray(path, size=128),
      preprocess.decode(path, 128).image / np.float32(255),
    )


def test_a_real_film_is_the_same_as_png_and_dicom(nih_dir, path):
  paths, _ = radiograph.find(os.path.join(nih_dir, 'originals'))
  with Image.open(paths[0]) as picture:
    values = np.asarray(picture.convert('L'))
  film = dicom(
    255 - values,
    BitsAllocated=8,
    BitsStored=8,
    PhotometricInterpretation='MONOCHROME1',
    WindowCenter=127.5,
    WindowWidth=255,
    VOILUTFunction='LINEAR_EXACT',
  )
  save(film, path)
  np.testing.assert_allclose(
    gray(path, size=128), gray(paths[0], size=128), atol=1.01 / 255
  )
