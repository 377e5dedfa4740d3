"""A hospital's own folder, from its table to the page that explains its films.

Forty real films in three formats, findings by the hospital's own names, three
readers, several boxes: what a new user has, and every mode that he runs.
"""

import csv
import json
import os
import pathlib

import numpy as np
import pydicom
import pytest
from PIL import Image

from configs import baseline, robust
from cxr import data, files, modes, run_files
from input_pipeline import preprocess

FINDINGS = ('Verschattung li. basal', 'Stauung')
READERS = ('Dr. A', 'Dr. B', 'Dr. C')
NUM_FILMS = 40
ENDINGS = ('png', 'jpg', 'dcm')


def _film(path: pathlib.Path, pixels: np.ndarray) -> None:
  """A PNG or JPEG; or a DICOM of 12 bits, dark where the film is white."""
  if path.suffix != '.dcm':
    Image.fromarray(pixels).save(path)
    return
  film = pydicom.Dataset()
  film.file_meta = meta = pydicom.dataset.FileMetaDataset()
  meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  kind = pydicom.uid.DigitalXRayImageStorageForPresentation
  meta.MediaStorageSOPClassUID = film.SOPClassUID = kind
  uid = pydicom.uid.generate_uid(entropy_srcs=[path.name])
  meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = uid
  film.Modality, film.ViewPosition = 'DX', 'PA'
  film.PhotometricInterpretation, film.SamplesPerPixel = 'MONOCHROME1', 1
  film.Rows, film.Columns = pixels.shape
  film.BitsAllocated, film.BitsStored, film.HighBit = 16, 12, 11
  film.PixelRepresentation = 0
  film.PixelData = (4095 - pixels.astype(np.uint16) * 16).tobytes()
  film.save_as(path, enforce_file_format=True)


def _excel(path: pathlib.Path, rows) -> None:
  """As a German spreadsheet saves it: a mark, semicolons, CRLF."""
  text = '\r\n'.join(';'.join(map(str, row)) for row in rows) + '\r\n'
  path.write_bytes('\ufeff'.encode() + text.encode())


@pytest.fixture(scope='module')
def folder(nih_dir, tmp_path_factory):
  originals = sorted(pathlib.Path(nih_dir, 'originals').glob('*.png'))
  folder = tmp_path_factory.mktemp('hospital') / 'films'
  films = [('image', 'patient', *FINDINGS, 'view', 'age', 'sex')]
  boxes = [('image', 'finding', 'x', 'y', 'w', 'h')]
  readers = [('image', 'reader', *FINDINGS)]
  for k, original in enumerate(originals[:NUM_FILMS]):
    # Films of three shapes; the second film of some patients.
    width, height = ((400, 400), (360, 400), (400, 340))[k % 3]
    with Image.open(original) as picture:
      picture = picture.convert('L').resize((400, 400))
    pixels = np.asarray(picture)[:height, :width]
    patient = f'Müller, {k // 4 * 4 if k % 4 == 3 else k}'
    ending = ENDINGS[k % len(ENDINGS)]
    path = folder / f'Station {k % 2}' / f'Aufnahme {k:02}.{ending}'
    path.parent.mkdir(parents=True, exist_ok=True)
    _film(path, pixels)
    # As Windows writes it.
    image = f'Station {k % 2}\\{path.name}'
    labels = [k % 2, (k // 2) % 2]
    if k == 1:
      labels[1] = -1
    films.append((image, patient, *labels, 'pa', 40 + k, 'mw'[k % 2]))
    for reader, name in enumerate(READERS):
      # The third reader sees nothing in every fifth film.
      seen = labels if reader < 2 or k % 5 else (0, 0)
      readers.append((image, name, *map(abs, seen)))
    for finding, label in zip(FINDINGS, labels, strict=True):
      for side in range(label * (1 + k % 2)):
        boxes.append((image, finding, 40 + 170 * side, 180, 120, 100.5))
  _excel(folder / 'films.csv', films)
  _excel(folder / 'boxes.csv', boxes)
  _excel(folder / 'readers.csv', readers)
  return folder


@pytest.fixture(scope='module')
def runs(folder):
  """A baseline and a robust run, as the smallest network."""
  root = folder.parent
  for module, name in ((baseline, 'baseline'), (robust, 'robust')):
    config = module.get_config('smoke')
    config.data.source, config.data.dir = 'table', str(folder)
    config.data.prepared_dir = str(root / 'prepared')
    config.data.image_size, config.data.workers = 32, 1
    config.data.test_fraction, config.data.validation_fraction = 0.4, 0.3
    config.data.uncertain = 'positive'
    config.model.num_filters, config.model.num_stages = 2, 1
    config.model.output_stride = 4
    config.train.batch_size, config.train.num_epochs = 8, 1.0
    config.train.robust_films = 0
    config.attack.num_steps = 1
    config.evaluate.measures, config.evaluate.num_resamples = ('maps',), 10
    modes.run('train', modes.Request(config=config, workdir=str(root / name)))
  return root


def test_the_folder_is_read_whole(folder, runs):
  config = run_files.read_config(str(runs / 'baseline'))
  splits = data.load(config)
  assert sum(len(split.label) for split in splits.values()) == NUM_FILMS
  assert not splits.left_out
  names = np.concatenate([split.image_name for split in splits.values()])
  ends = [os.path.splitext(name)[1] for name in names.tolist()]
  assert {ends.count(f'.{ending}') for ending in ENDINGS} <= {13, 14}
  test = splits['test']
  assert test.findings == test.boxed == FINDINGS
  assert test.reader_names == READERS
  assert {*test.sex.tolist()} == {'M', 'F'}
  assert {*test.view.tolist()} == {'PA'}
  # A film with two boxes of a finding has both.
  of_film = np.bincount(test.box_image[test.box_finding == 0])
  assert set(of_film.tolist()) == {0, 2}
  patients = [set(split.patient.tolist()) for split in splits.values()]
  assert sum(map(len, patients)) == len(set.union(*patients)) == 30


def test_a_film_is_the_same_in_every_format(nih_dir, tmp_path):
  original = min(pathlib.Path(nih_dir, 'originals').glob('*.png'))
  with Image.open(original) as picture:
    pixels = np.asarray(picture.convert('L').resize((400, 340)))
  films = []
  for ending in ENDINGS:
    _film(tmp_path / f'film.{ending}', pixels)
    square = preprocess.decode(str(tmp_path / f'film.{ending}'), 64)
    films.append(square.image.astype(int))
  png, jpg, dcm = films
  assert np.abs(png - jpg).max() <= 4
  assert np.abs(png - dcm).max() <= 1


@pytest.mark.parametrize('name', ['baseline', 'robust'])
def test_a_run_speaks_of_the_hospitals_findings(runs, name):
  workdir = runs / name
  assert run_files.read_findings(str(workdir)) == FINDINGS
  with open(workdir / 'predictions.csv', encoding='utf-8') as f:
    header = next(csv.reader(f))
  for finding in FINDINGS:
    assert any(finding in column for column in header)
    assert finding in (workdir / 'report.html').read_text()
  metrics = json.loads((workdir / 'metrics.json').read_text())
  assert metrics['localization']['methods']['cam']['wang']


def test_evaluated_again(runs):
  workdir = runs / 'baseline'
  modes.run(
    'evaluate',
    modes.Request(
      config=baseline.get_config('smoke'),
      workdir=str(workdir),
      overrides={'evaluate.methods': ('cam',)},
    ),
  )
  assert (workdir / 'report.html').is_file()


def test_compared(runs):
  output = runs / 'comparison'
  modes.run(
    'compare',
    modes.Request(
      workdirs=(str(runs / 'baseline'), str(runs / 'robust')),
      output=str(output),
    ),
  )
  (page,) = output.glob('*.html')
  assert FINDINGS[0] in page.read_text()


def test_explained(runs, folder):
  output = runs / 'explained'
  modes.run(
    'explain',
    modes.Request(
      config=robust.get_config('smoke'),
      workdir=str(runs / 'robust'),
      images=str(folder),
      output=str(output),
    ),
  )
  with open(output / 'predictions.csv', encoding='utf-8') as f:
    rows = list(csv.DictReader(f))
  films = [row for row in rows if not row['image'].endswith('.csv')]
  assert len(films) == NUM_FILMS
  assert all(row.get('error', '') == '' for row in films)
  assert FINDINGS[1] in (output / 'explain.html').read_text()
  assert files.read_json(str(output / 'coco_cam.json'))
