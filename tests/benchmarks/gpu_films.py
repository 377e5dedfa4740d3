"""Real films as one file, for a machine without the data set and its readers.

  python -m tests.benchmarks.gpu_films --data_dir=../shared/nih \
    --films=build/films.npz

writes the training and validation films of config ':nih_small' (8-bit, 128
pixels) with labels and patients. Test films are left out.
"""

import os

from absl import app, flags

from tests.benchmarks import packed_films

_DATA = flags.DEFINE_string('data_dir', '../shared/nih', "In NIH's layout.")
_OUTPUT = flags.DEFINE_string('films', 'build/films.npz', 'The file.')
_FILMS = flags.DEFINE_integer(
  'num_films', 0, 'Training films, evenly spread; 0: all (92 MB).'
)
_SIZE = flags.DEFINE_integer('image_size', 128, 'Pixels.')


def main(argv):
  del argv
  from configs import default
  from cxr import data

  config = default.get_config('nih_small')
  config.data.dir = _DATA.value
  config.data.image_size = _SIZE.value
  config.data.cache = 'memory'
  packed_films.write(_OUTPUT.value, data.load(config), _FILMS.value)
  print(f'{_OUTPUT.value}: {os.path.getsize(_OUTPUT.value) / 1e6:.0f} MB')


if __name__ == '__main__':
  app.run(main)
