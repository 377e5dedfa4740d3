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
  path = str(tmp_path / 'seen.npz')
  film_hashes.write(path, film_hashes.Seen(hashes, hashes[:3]))
  seen = film_hashes.read(path)
  assert seen.train.tolist() == sorted(hashes.tolist())
  assert seen.validation.tolist() == sorted(hashes[:3].tolist())


def pickled(path):
  np.savez(path, train=np.array([{}], object), validation=np.zeros(0, 'uint64'))


def other_arrays(path):
  np.savez(path, train=np.zeros(3))


def other_kind(path):
  np.savez(path, train=np.zeros(3), validation=np.zeros(3))


@pytest.mark.parametrize(
  'write',
  [
    lambda path: path.write_bytes(b''),
    lambda path: path.write_bytes(b'\x80\x04K\x01.'),
    pickled,
    other_arrays,
    other_kind,
  ],
)
def test_another_file_is_refused(tmp_path, write):
  write(tmp_path / 'seen.npz')
  with pytest.raises(ValueError, match='seen.npz .*Export the run again'):
    film_hashes.read(str(tmp_path / 'seen.npz'))
