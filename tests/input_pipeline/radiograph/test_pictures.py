"""PNG and JPEG files: shades, colours, frames, alpha and orientation."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from input_pipeline import preprocess
from input_pipeline.radiograph import radiograph
from tests.input_pipeline.radiograph.made_films import (
  GRAY,
  gray,
  near,
  png,
  save,
)


@pytest.fixture
def path(tmp_path):
  return str(tmp_path / 'film')


class TestPicture:
  @pytest.mark.parametrize('mode', ['L', 'RGB', 'RGBA', 'LA', 'P'])
  def test_kinds_of_png(self, path, mode):
    save(png(GRAY).convert(mode), path)
    near(gray(path, size=2), GRAY / 255)

  def test_palette_that_is_not_in_gray_order(self, path):
    picture = png(np.array([[0, 1], [2, 3]], np.uint8), 'P')
    picture.putpalette(np.repeat([255, 0, 102, 51], 3).tolist())
    save(picture, path)
    near(gray(path, size=2), [[1, 0], [0.4, 0.2]])

  def test_one_bit(self, path):
    save(png(np.array([[True, False], [False, True]])), path)
    near(gray(path, size=2), [[1, 0], [0, 1]])

  def test_transparency_is_black(self, path):
    rgba = np.full((2, 2, 4), 255, np.uint8)
    rgba[..., 3] = [[0, 51], [102, 255]]
    save(png(rgba), path)
    near(gray(path, size=2), GRAY / 255)

  @pytest.mark.parametrize('bits', [8, 10, 12, 14, 16])
  def test_sixteen_bits(self, path, bits):
    top = 2**bits - 1
    values = np.array([[0, top // 4], [top // 2, top]], np.uint16)
    save(png(values), path)
    near(gray(path, size=2), values / top)

  def test_sixteen_bits_black(self, path):
    save(png(np.zeros((2, 2), np.uint16)), path)
    near(gray(path, size=2), np.zeros((2, 2)))

  def test_jpeg_whatever_its_name(self, tmp_path):
    path = str(tmp_path / 'film.png')
    values = np.full((16, 16), 100, np.uint8)
    Image.fromarray(values).save(path, format='JPEG', quality=95)
    near(gray(path, size=16), values / 255)

  def test_cmyk_jpeg(self, path):
    values = np.full((16, 16), 100, np.uint8)
    picture = Image.fromarray(values).convert('CMYK')
    picture.save(path, format='JPEG', quality=100)
    np.testing.assert_allclose(gray(path, size=16), values / 255, atol=0.02)

  def test_exif_orientation_is_followed(self, path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    values = np.zeros((16, 32), np.uint8)
    values[:, :16] = 255
    Image.fromarray(values).save(path, format='JPEG', exif=exif, quality=95)
    film = radiograph.read(path, size=32)
    assert (film.height, film.width) == (32, 16)
    assert film.image[:8].mean() > 0.45 and film.image[24:].mean() < 0.05

  def test_colour_is_refused(self, path):
    rgb = np.zeros((8, 8, 3), np.uint8)
    rgb[..., 0] = 200
    save(png(rgb), path)
    with pytest.raises(radiograph.RadiographError, match='colour'):
      radiograph.read(path, size=8)

  def test_small_coloured_mark_is_not(self, path):
    rgb = np.full((40, 40, 3), 128, np.uint8)
    rgb[:4, :4] = (255, 0, 0)
    save(png(rgb), path)
    radiograph.read(path, size=40)

  def test_animation_is_refused(self, path):
    frames = [png(GRAY), png(GRAY[::-1])]
    frames[0].save(path, 'PNG', save_all=True, append_images=frames[1:])
    with pytest.raises(radiograph.RadiographError, match='frames'):
      radiograph.read(path, size=2)

  def test_bomb_is_refused_before_it_is_decoded(self, path):
    def chunk(kind, data):
      crc = zlib.crc32(kind + data)
      return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', crc)

    head = struct.pack('>IIBBBBB', 9000, 9000, 8, 0, 0, 0, 0)
    with open(path, 'wb') as f:
      f.write(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head))
      f.write(chunk(b'IDAT', zlib.compress(b'\0' * 100)) + chunk(b'IEND', b''))
    with pytest.raises(radiograph.RadiographError, match='9000 x 9000'):
      radiograph.read(path, size=2)

  @pytest.mark.parametrize('mode', ['L', 'LA', 'P', 'RGB', 'RGBA'])
  @pytest.mark.parametrize('orientation', range(1, 9))
  def test_one_film_has_one_reading(self, path, mode, orientation):
    """Preparation for training and explanation see the same image."""
    values = np.random.default_rng(0).integers(0, 256, (50, 50), np.uint8)
    picture = png(values).convert(mode)
    if mode in ('LA', 'RGBA'):
      picture.putalpha(png(np.tile(np.uint8(np.arange(50) * 5), (50, 1))))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(path, format='PNG', exif=exif)
    for size in (16, 50):
      np.testing.assert_array_equal(
        gray(path, size=size),
        preprocess.decode(path, size).image / np.float32(255),
      )
