"""Folders in NIH's layout, made for tests."""

import os
import pathlib

import numpy as np
from PIL import Image

from input_pipeline import catalogue as catalogues
from input_pipeline import prepare as preparation
from input_pipeline.sources.film_table import Options

HEADER = (
  'Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,'
  'Patient Gender,View Position,OriginalImage[Width,Height],'
  'OriginalImagePixelSpacing[x,y]'
)
OLD_HEADER = HEADER + ','
BOX_HEADER = 'Image Index,Finding Label,Bbox [x,y,w,h],,,'
TRAIN = [f'{p:08d}_{k:03d}.png' for p in range(1, 11) for k in range(2)]
TEST = [f'{p:08d}_000.png' for p in range(21, 25)]
LABELS = {TRAIN[0]: 'Mass|Nodule', TEST[0]: 'Cardiomegaly', TEST[1]: 'Edema'}
BOXES = [f'{TEST[0]},Cardiomegaly,256,512,128,256']


def rows(names=None, labels=LABELS):
  return [
    f'{name},{labels.get(name, "No Finding")},0,{int(name[:8])},57,M,PA,'
    '2682,2749,0.143,0.143'
    for name in names or TRAIN + TEST
  ]


def film(path, size=64, mode='L', seed=0, fill=None):
  os.makedirs(os.path.dirname(path), exist_ok=True)
  rng = np.random.default_rng(seed)
  pixels = rng.integers(0, 256, (size, size), np.uint8)
  if fill is not None:
    pixels[:] = fill
  Image.fromarray(pixels).convert(mode).save(path, 'PNG')


def layout(
  folder,
  *,
  table=None,
  table_name='Data_Entry_2017_v2020.csv',
  boxes=BOXES,
  train='\n'.join(TRAIN),
  test='\n'.join(TEST),
  films=TRAIN + TEST,
  place='images',
  size=64,
):
  """A data folder; tables are text or bytes, None for the sound one."""
  os.makedirs(folder, exist_ok=True)
  if table is None:
    table = '\n'.join([HEADER, *rows()]) + '\n'
  if not isinstance(boxes, (str, bytes)):
    boxes = '\n'.join([BOX_HEADER, *boxes]) + '\n'
  for name, text in (
    (table_name, table),
    ('BBox_List_2017.csv', boxes),
    ('train_val_list.txt', train),
    ('test_list.txt', test),
  ):
    data = text if isinstance(text, bytes) else text.encode()
    (pathlib.Path(folder) / name).write_bytes(data)
  for i, name in enumerate(films):
    film(os.path.join(folder, place, name), size, seed=i)
  return folder


def read(folder, validation_fraction=0.3, seed=0):
  return catalogues.read(
    folder, Options(validation_fraction=validation_fraction, seed=seed)
  )


def prepare(folder, prepared_dir, **options):
  options = {'image_size': 32} | options
  return preparation.prepare(
    folder,
    Options(validation_fraction=0.3),
    prepared_dir=prepared_dir,
    **options,
  )


def names(catalogue):
  return {k: [f.image for f in films] for k, films in catalogue.films.items()}


def reasons(catalogue):
  return sorted((row.name, row.reason) for row in catalogue.left_out)


def content(prepared):
  """The bytes of a prepared folder, by file."""
  return {p.name: p.read_bytes() for p in sorted(prepared.iterdir())}


def bad_films(folder):
  """Files that are no films, by the reason that they get."""
  good = os.path.join(folder, 'good')
  film(good)
  data = pathlib.Path(good).read_bytes()
  flipped = bytearray(data)
  flipped[len(data) // 2] ^= 255
  files = {
    'empty': (b'', 'undecodable'),
    'text': (b'not an image', 'undecodable'),
    'truncated': (data[: len(data) // 2], 'undecodable'),
    'header only': (data[:33], 'undecodable'),
    'flipped': (bytes(flipped), 'undecodable'),
  }
  for name, image, reason in (
    ('colour', Image.new('RGB', (64, 64), (255, 0, 0)), 'in colour'),
    ('oblong', Image.new('L', (64, 65)), 'not square'),
    ('small', Image.new('L', (31, 31)), 'smaller than image_size'),
    ('huge', Image.new('1', (10001, 10001)), 'too large'),
  ):
    image.save(good, 'PNG')
    files[name] = pathlib.Path(good).read_bytes(), reason
  Image.new('L', (64, 64)).save(good, 'GIF')
  files['gif'] = pathlib.Path(good).read_bytes(), 'undecodable'
  os.remove(good)
  return files
