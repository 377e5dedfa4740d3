"""Folders with a films.csv, made for tests."""

import pathlib

import numpy as np
from PIL import Image

from input_pipeline import catalogue, pipeline
from input_pipeline.sources import table
from input_pipeline.sources.film_table import Options
from tests.input_pipeline.radiograph import made_films

FINDINGS = ('Shadow', 'Pleural Effusion')
HEADER = 'image,patient,Shadow,Pleural Effusion'
# Three kinds of files; patients by name; a label of each kind.
ROWS = [
  'a.png,Ann,1,0',
  'b.jpg,Ben,0,',
  'deep/c.dcm,Cleo,-1,1',
  'd.png,Dora,0,0',
  'e.png,Ed,1,1',
  'f.png,Ann,0,1',
]
SIZES = {'a.png': (40, 60), 'b.jpg': (64, 64), 'deep/c.dcm': (80, 50)}


def pixels(name: str) -> np.ndarray:
  """Smooth, so that JPEG keeps it; another one for each name."""
  height, width = SIZES.get(name, (48, 48))
  y, x = np.indices((height, width))
  seed = sum(name.encode())
  return np.uint8(120 + 100 * np.sin(y / 9 + seed) * np.cos(x / 7))


def film(folder: pathlib.Path, name: str) -> None:
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  save(pixels(name), path)


def save(values: np.ndarray, path: pathlib.Path) -> None:
  """8-bit values in a file of the kind that its name says."""
  if path.suffix == '.dcm':
    film = made_films.dicom(values.astype(np.uint16) * 16)
    made_films.save(film, str(path))
  else:
    Image.fromarray(values).save(path, quality=95)


def folder(path: pathlib.Path, rows=ROWS, header=HEADER, **tables):
  """A folder; a keyword such as boxes=[...] becomes the lines of boxes.csv."""
  path.mkdir(parents=True, exist_ok=True)
  tables = {'films': [header, *rows]} | tables
  for name, lines in tables.items():
    data = lines if isinstance(lines, bytes) else '\n'.join(lines).encode()
    (path / f'{name}.csv').write_bytes(data)
  for row in ROWS:
    film(path, row.split(',')[0])
  return path


def mask(path: pathlib.Path, size: tuple[int, int], box=None) -> None:
  """A PNG that is white in (ymin, xmin, ymax, xmax) of its pixels."""
  path.parent.mkdir(parents=True, exist_ok=True)
  values = np.zeros(size, np.uint8)
  if box:
    ymin, xmin, ymax, xmax = box
    values[ymin:ymax, xmin:xmax] = 255
  Image.fromarray(values).save(path)


def read(path, **options):
  return table.read(path, Options(source='table', **options))


def divide(path, **options):
  return catalogue.read(path, Options(source='table', **options))


def load(path, prepared_dir, **options):
  options = {
    'image_size': 32,
    'validation_fraction': 0.0,
    'test_fraction': 1.0,
    'workers': 1,
    'source': 'table',
  } | options
  return pipeline.load(path, prepared_dir=prepared_dir, **options)
