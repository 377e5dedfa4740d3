"""Films that do not look like upright frontal chest films are warned of."""

import numpy as np
import pytest

from input_pipeline.radiograph import likeness, radiograph
from tests.input_pipeline.radiograph.made_films import png, save


@pytest.fixture
def path(tmp_path):
  return str(tmp_path / 'film')


def chest(size=64):
  """The mean film, mirrored: what the likeness is measured against."""
  cells = np.array([row + row[::-1] for row in likeness._MEAN_FILM])
  cells = (cells / 100 * 255).astype(np.uint8)
  return np.kron(cells, np.ones((size // 8, size // 8), np.uint8))


class TestDoubts:
  def warnings(self, values, path, size=64, fit='pad'):
    save(png(np.asarray(values, np.uint8)), path)
    return ' '.join(radiograph.read(path, size=size, fit=fit).warnings)

  def test_a_chest_film_has_none(self, path):
    assert not self.warnings(chest(), path)

  def test_inverted(self, path):
    assert 'inverted' in self.warnings(255 - chest(), path)

  def test_upside_down(self, path):
    assert 'upright' in self.warnings(chest()[::-1], path)

  def test_noise(self, path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64))
    assert 'does not look like' in self.warnings(noise, path)

  def test_flat(self, path):
    assert 'contrast' in self.warnings(np.full((64, 64), 99), path)

  def test_small(self, path):
    assert 'small: 64 x 64' in self.warnings(chest(), path, size=65)

  def test_cropped(self, path):
    assert 'cropped' in self.warnings(chest(128)[:64], path)

  def test_nearly_one_level(self, path):
    # A bright mark on an even film: deviation .2, but no film.
    values = np.full((64, 64), 40)
    values[:14, :50] = 240
    assert 'contrast: 83%' in self.warnings(values, path)

  def test_saturated(self, path):
    values = np.where(chest() > 100, 255, chest())
    values[:, :30] = 0
    assert 'pure black or white' in self.warnings(values, path)

  def test_black_border_of_half_the_film_is_no_fault(self, path):
    values = np.zeros((128, 128))
    values[16:112, 16:112] = chest(96)
    assert 'pure black' not in self.warnings(values, path)
