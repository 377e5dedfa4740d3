"""Films are known again by their pixels, and by nothing else."""

import hashlib

import numpy as np
import pytest

from cxr import data, film_hashes


@pytest.fixture(scope='module')
def split(tiny_config):
  return data.load(tiny_config)['test']


def test_a_hash_is_of_the_pixels_alone(split):
  hashes = film_hashes.of_split(split)
  pixels = np.asarray(split.image[3:4])[0].tobytes()
  assert hashes[3].tobytes() == hashlib.sha256(pixels).digest()[:8]
  assert len(set(hashes.tolist())) == len(split.label)
  renamed = split._replace(image_name=split.image_name[::-1])
  np.testing.assert_array_equal(film_hashes.of_split(renamed), hashes)


def test_a_file_keeps_them_and_not_their_order(split, tmp_path):
  hashes = film_hashes.of_split(split)
  path = str(tmp_path / 'seen.npy')
  film_hashes.write(path, hashes)
  assert film_hashes.read(path).tolist() == sorted(hashes.tolist())


@pytest.mark.parametrize(
  'content', [b'', b'\x93NUMPY', b'\x80\x04K\x01.', None]
)
def test_another_file_is_refused(tmp_path, content):
  path = tmp_path / 'seen.npy'
  if content is None:
    np.save(path, np.zeros(3))
  else:
    path.write_bytes(content)
  with pytest.raises(ValueError, match='seen.npy .*export the run again'):
    film_hashes.read(path)
