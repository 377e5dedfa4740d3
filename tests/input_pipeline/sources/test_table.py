"""films.csv and what lies beside it: read, refused, prepared."""

import json
import math
import os
import pathlib
import re

import numpy as np
import pytest
from absl import logging

from cxr.exporting import chexlocalize
from input_pipeline.radiograph import radiograph
from input_pipeline.sources.film_table import Box
from tests.input_pipeline import made_table as made

NAN = math.nan


def labels(table):
  return {film.image: film.label for film in table.films}


def same(one, other):
  np.testing.assert_array_equal(np.array(one), np.array(other))


def reasons(table):
  return sorted((row.name, row.reason) for row in table.left_out)


def test_a_sound_folder(tmp_path):
  table = made.read(made.folder(tmp_path))
  assert table.findings == made.FINDINGS
  assert (table.boxed, table.readers, table.left_out) == ((), (), [])
  found = labels(table)
  same(found['a.png'], (1, 0))
  same(found['b.jpg'], (0, NAN))
  same(found['deep/c.dcm'], (-1, 1))
  film = table.films[2]
  assert film.patient == 'Cleo' and film.where == 'films.csv, line 4'
  assert film.paths == (str(tmp_path / 'deep' / 'c.dcm'),)


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
@pytest.mark.parametrize('separator', [',', ';', '\t'])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_the_same_table_in_every_dress(tmp_path, separator, end, encoding):
  """pandas' index, floats and NaN, quoted cells, another order, paths of
  Windows, names of other columns."""
  plain = made.read(made.folder(tmp_path / 'plain'))
  rows = [
    ['', 'Pleural Effusion', 'Patient ID', 'Image Path', 'Shadow'],
    ['0', '0.0', '"Ann"', '"A.PNG"', '1.0'],
    ['1', 'nan', 'Ben', 'b.jpg', '0.0'],
    ['2', '1.0', 'Cleo', '.\\Deep\\c.DCM', '-1.0'],
    ['3', 'no', 'Dora', 'd', 'FALSE'],
    ['4', 'yes', 'Ed', 'e.png', 'True'],
    [],
    ['5', '1', 'Ann', str(tmp_path / 'dress' / 'f.png'), '0'],
  ]
  text = end.join(separator.join(row) for row in rows)
  dress = made.read(
    made.folder(tmp_path / 'dress', films=text.encode(encoding))
  )
  assert set(dress.findings) == set(plain.findings)
  shadow = dress.findings.index('Shadow')
  for one, other in zip(plain.films, dress.films, strict=True):
    same(one.label, (other.label[shadow], other.label[1 - shadow]))
    assert one.patient == other.patient
    assert [os.path.basename(p) for p in one.paths] == [
      os.path.basename(p) for p in other.paths
    ]
  assert dress.films[2].image == 'Deep/c.DCM'


def test_films_may_lie_in_images(tmp_path):
  made.folder(tmp_path / 'a')
  (tmp_path / 'a' / 'images').mkdir()
  for name in ('a.png', 'b.jpg', 'deep'):
    os.rename(tmp_path / 'a' / name, tmp_path / 'a' / 'images' / name)
  assert all(film.paths for film in made.read(tmp_path / 'a').films)


WRONG = {
  'label': (
    {'films': ['image,patient,Shadow', 'a.png,Ann,2']},
    r"films.csv, line 2: column 'Shadow': '2' is no label: 1 .* -1 "
    r'\(uncertain\); .*--config.data.findings=A,B',
  ),
  'a column of words': (
    {'films': ['image,patient,Shadow,Comment', 'a.png,Ann,1,seen twice']},
    r"column 'Comment': 'seen twice' is no label",
  ),
  'patient in two splits': (
    {
      'films': [
        'image,patient,split,Shadow',
        'a.png,Ann,train,1',
        'f.png,Ann,test,0',
      ]
    },
    r"films.csv, line 3: patient 'Ann' is in the split 'test' here and in "
    r"'train' in films.csv, line 2",
  ),
  'image twice': (
    {'films': ['image,patient,Shadow', 'a.png,Ann,1', './A.png,Ann,1']},
    r"line 3: the image 'A.png' has a row already, in line 2",
  ),
  'unknown split': (
    {'films': ['image,patient,split,Shadow', 'a.png,Ann,exam,1']},
    r"line 2: the split 'exam' is none of train, validation, test; write",
  ),
  'half a split': (
    {
      'films': [
        'image,patient,split,Shadow',
        'a.png,Ann,train,1',
        'e.png,Ed,,1',
      ]
    },
    'line 3: some films have a split and some have none',
  ),
  'no patient': (
    {'films': ['image,patient,Shadow', 'a.png,,1']},
    'line 2: there is no patient; films are divided by patient',
  ),
  'no column of patients': (
    {'films': ['image,Shadow', 'a.png,1']},
    r"films.csv has no column 'patient'",
  ),
  'no column of images': (
    {'films': ['patient,Shadow', 'Ann,1']},
    r"films.csv has no column 'image'",
  ),
  'no finding': (
    {'films': ['image,patient,view', 'a.png,Ann,PA']},
    'films.csv has no column of a finding',
  ),
  'a finding twice': (
    {'films': ['image,patient,Shadow,shadow', 'a.png,Ann,1,1']},
    "films.csv: the columns 'Shadow' and 'shadow' mean the same finding; "
    'rename or remove one',
  ),
  'a finding under two names': (
    {'films': ['image,patient,Effusion,Pleural Effusion', 'a.png,Ann,1,0']},
    "the columns 'Effusion' and 'Pleural Effusion' mean the same finding",
  ),
  'a name without a letter': (
    {'films': ['image,patient,Shadow,*', 'a.png,Ann,1,0']},
    r"films.csv: the column '\*' has neither a letter nor a digit",
  ),
  'quotes that do not end': (
    {'films': ['image,patient,Shadow', 'a.png,"Ann,1', 'e.png,Ed,1']},
    'films.csv, line 2: the quotation marks of the row that begins here do not',
  ),
  'boxes by their corners': (
    {'boxes': ['image,finding,xmin,ymin,xmax,ymax', 'a.png,Shadow,1,1,5,5']},
    "boxes.csv has no column 'x'",
  ),
  'a finding of readers under two names': (
    {'readers': ['image,reader,Effusion,Pleural_Effusion', 'a.png,R1,1,0']},
    "readers.csv: the columns 'Effusion' and 'Pleural_Effusion' mean the same",
  ),
  'empty': ({'films': ['image,patient,Shadow']}, 'has no row below its header'),
  'nothing at all': ({'films': b''}, 'films.csv is empty; it needs a header'),
  'a row cut short': (
    {'films': ['image,patient,Shadow', 'a.png,Ann']},
    'films.csv, line 2: 2 fields do not fit the header, which has 3',
  ),
  'a path that leads out': (
    {'films': ['image,patient,Shadow', '../a.png,Ann,1']},
    r"line 2: the path '../a.png' leads out of .*; write it relative",
  ),
  "a path on somebody's disk": (
    {'films': ['image,patient,Shadow', 'C:\\films\\a.png,Ann,1']},
    'leads out of',
  ),
  'no image': (
    {'films': ['image,patient,Shadow', ',Ann,1']},
    'line 2: there is no image; give its path',
  ),
  'unknown image of a box': (
    {'boxes': ['image,finding,x,y,w,h', 'z.png,Shadow,1,1,5,5']},
    r"boxes.csv, line 2: films.csv has no image 'z.png'; the nearest is '.*png'"
    '. Correct the name, or add the film to films.csv.',
  ),
  'unknown image of a reader': (
    {'readers': ['image,reader,Shadow', 'a.png,R1,1', 'z.png,R1,1']},
    r"readers.csv, line 3: films.csv has no image 'z.png'",
  ),
  'unknown image of a mask': (
    {'masks': ['image,finding,mask', 'z.png,Shadow,a.png']},
    r"masks.csv, line 2: films.csv has no image 'z.png'",
  ),
  'absent mask': (
    {'masks': ['image,finding,mask', 'a.png,Shadow,m.png']},
    r"masks.csv, line 2: there is no mask 'm.png' in ",
  ),
  'label of a reader': (
    {'readers': ['image,reader,Shadow', 'a.png,R1,maybe']},
    r"readers.csv, line 2: column 'Shadow': 'maybe' is no label",
  ),
  'a reading twice': (
    {'readers': ['image,reader,Shadow', 'a.png,R1,1', 'a.png,R1,0']},
    r"readers.csv, line 3: the reader 'R1' has a row for 'a.png' already",
  ),
  'no reader': (
    {'readers': ['image,reader,Shadow', 'a.png,,1']},
    'readers.csv, line 2: there is no reader',
  ),
  'readers of other findings': (
    {'readers': ['image,reader,Opacity', 'a.png,R1,1']},
    'readers.csv has no column of a finding that films.csv has .Shadow, Pleur',
  ),
  'boxes on films of two sizes': (
    {
      'boxes': [
        'image,finding,x,y,w,h,film_width,film_height',
        'a.png,Shadow,1,1,5,5,60,40',
        'a.png,Shadow,9,9,5,5,600,400',
      ]
    },
    r"boxes.csv, line 3: the boxes of 'a.png' are drawn on films of several",
  ),
  'half a size': (
    {
      'boxes': [
        'image,finding,x,y,w,h,film_width',
        'a.png,Shadow,1,1,5,5,60',
      ]
    },
    r"boxes.csv, line 2: film_height \(''\) and film_width \('60'\) must",
  ),
}


@pytest.mark.parametrize('name', WRONG)
def test_wrong_input_is_one_sentence(tmp_path, name):
  tables, message = WRONG[name]
  made.folder(tmp_path, **tables)
  with pytest.raises(ValueError, match=message) as error:
    made.divide(tmp_path)
  assert '\n' not in str(error.value) and str(tmp_path) in str(error.value)


def test_a_mask_that_is_no_png_is_one_sentence(tmp_path):
  made.folder(tmp_path)
  (tmp_path / 'masks/a').mkdir(parents=True)
  (tmp_path / 'masks/a/Shadow.jpg').write_bytes(b'')
  with pytest.raises(ValueError, match=r'masks/a/Shadow.jpg: a mask must be a'):
    made.divide(tmp_path)


def test_a_finding_named_as_another_column(tmp_path, monkeypatch):
  said = []
  monkeypatch.setattr(logging, 'warning', lambda *a: said.append(a[0] % a[1:]))
  films = ['image,patient,Shadow,film,Reader', 'a.png,Ann,1,1,0']
  readers = ['image,Patient ID,reader,Shadow,Hernia', 'a.png,Ann,R1,1,0']
  made.folder(tmp_path, films=films, readers=readers)
  table = made.read(tmp_path)
  assert table.findings == ('Shadow', 'Reader')
  (text,) = said
  assert "'image' is read as the image of a film, and 'film'" in text
  assert reasons(table) == [
    ('readers.csv', 'column of readers that is no finding here')
  ]
  message = "films.csv: 'film' cannot be a finding"
  with pytest.raises(ValueError, match=message):
    made.divide(tmp_path, findings=('Shadow', 'film'))


def test_an_image_that_could_be_two_is_one_sentence(tmp_path):
  rows = ['x/a.png,Ann,1,0', 'y/a.png,Ben,0,0']
  made.folder(
    tmp_path, rows, boxes=['image,finding,x,y,w,h', 'a,Shadow,1,1,5,5']
  )
  with pytest.raises(ValueError, match=r"'a' could be several films"):
    made.read(tmp_path)


def test_no_table_is_one_sentence(tmp_path):
  with pytest.raises(FileNotFoundError, match='no data folder'):
    made.read(tmp_path / 'nowhere')
  (tmp_path / 'train.csv').touch()
  with pytest.raises(FileNotFoundError, match='no films.csv.*is train.csv'):
    made.read(tmp_path)


def test_no_film_there_is_one_sentence(tmp_path):
  made.folder(tmp_path, ['z/a.tif,Ann,1,0'])
  message = r'None of the 1 films .*z/a.tif.*line 2.*found instead: 4 \.png'
  with pytest.raises(ValueError, match=message) as error:
    made.divide(tmp_path)
  assert '\n' not in str(error.value)


def test_absent_and_lateral_films_are_left_out(tmp_path):
  rows = [
    'a.png,Ann,PA,1,0,57',
    'no.png,Ben,AP,0,0,',
    'd.png,Dora,LATERAL,0,0,60',
    'e.png,Ed,sideways,1,1,old',
  ]
  header = 'image,patient,view,Shadow,Pleural Effusion,age'
  boxes = ['image,finding,x,y,w,h', 'no.png,Shadow,1,1,5,5']
  found = made.divide(made.folder(tmp_path, rows, header, boxes=boxes))
  kept = [f.image for films in found.films.values() for f in films]
  assert sorted(kept) == ['a.png', 'e.png']
  assert reasons(found) == [
    ('d.png', 'lateral film'),
    ('e.png', 'age not understood'),
    ('e.png', 'view not understood'),
    ('no.png', 'absent'),
    ('no.png', 'box of a film left out'),
  ]


def test_only_the_named_findings_are_read(tmp_path):
  """By a synonym, in the order asked for; other columns may hold anything."""
  rows = [f'{row},seen' for row in made.ROWS]
  boxes = [
    'image,finding,x,y,w,h', 'a.png,Shadow,1,1,5,5', 'a.png,effusion,2,2,9,9'
  ]  # fmt: skip
  made.folder(tmp_path, rows, f'{made.HEADER},Comment', boxes=boxes)
  found = made.divide(
    tmp_path, findings=('Effusion', 'Shadow'), test_fraction=1.0
  )
  assert found.findings == ('Effusion', 'Shadow') == found.boxed
  film = next(f for f in found.films['test'] if f.image == 'a.png')
  assert film.label == (0, 1)
  assert film.boxes == (
    Box(1, (1, 1, 6, 6), 'boxes.csv, line 2'),
    Box(0, (2, 2, 11, 11), 'boxes.csv, line 3'),
  )
  one = made.divide(tmp_path, findings=('Shadow',))
  assert one.findings == ('Shadow',)
  with pytest.raises(ValueError, match="'Mass' is not a finding here"):
    made.divide(tmp_path, findings=('Mass',))
  with pytest.raises(ValueError, match='names a finding twice'):
    made.divide(tmp_path, findings=('Shadow', 'shadow'))


@pytest.mark.parametrize(
  'uncertain, value', [('unknown', NAN), ('positive', 1), ('negative', 0)]
)
def test_uncertain_labels(tmp_path, uncertain, value):
  readers = ['image,reader,Shadow', 'deep/c.dcm,R1,-1']
  found = made.divide(
    made.folder(tmp_path, readers=readers), uncertain=uncertain
  )
  films = [f for films in found.films.values() for f in films]
  film = next(f for f in films if f.image == 'deep/c.dcm')
  same(film.label, (value, 1))
  same(film.readers, [(value, NAN)])
  with pytest.raises(ValueError, match="uncertain .'maybe'. must be one of"):
    made.divide(tmp_path, uncertain='maybe')


def test_patients_are_divided_by_a_stable_hash(tmp_path):
  rows = [f'p{k % 400}-{k}.png,P{k % 400},0,1' for k in range(800)]
  made.folder(tmp_path, rows)
  for row in rows:
    (tmp_path / row.split(',')[0]).symlink_to(tmp_path / 'a.png')
  found = made.divide(tmp_path, test_fraction=0.2, validation_fraction=0.1)
  of = {name: {f.patient for f in films} for name, films in found.films.items()}
  assert not of['train'] & of['test'] and not of['train'] & of['validation']
  share = {name: len(patients) / 400 for name, patients in of.items()}
  assert share == pytest.approx(
    {'train': 0.72, 'validation': 0.08, 'test': 0.2}, abs=0.05
  )
  # Other films do not move a patient.
  made.folder(tmp_path, rows[::3])
  few = made.divide(tmp_path, test_fraction=0.2, validation_fraction=0.1)
  for name, films in few.films.items():
    assert {f.patient for f in films} <= of[name]
  with pytest.raises(ValueError, match='test_fraction .1.5. must be in'):
    made.divide(tmp_path, test_fraction=1.5)


def test_named_splits_are_kept(tmp_path):
  header = 'image,patient,split,Shadow,Pleural Effusion'
  rows = [
    'a.png,Ann,Train,1,0', 'b.jpg,Ben,val,0,0', 'd.png,Dora,TEST,0,0'
  ]  # fmt: skip
  found = made.divide(made.folder(tmp_path, rows, header))
  assert {
    name: [f.image for f in films] for name, films in found.films.items()
  } == {'train': ['a.png'], 'validation': ['b.jpg'], 'test': ['d.png']}


# --- regions and readers


def test_boxes_that_cannot_be_used_are_left_out(tmp_path):
  boxes = [
    'image,finding,x,y,w,h',
    'a.png,Shadow,5,6,7,8',
    'a.png,Shadow,5,6,7,8',
    'a,shadow,20,6,7,8',
    'a.png,Lump,5,6,7,8',
    'a.png,Shadow,5,6,0,8',
    'a.png,Shadow,5,six,7,8',
    'a.png,Shadow,0.1,0.2,0.5,0.5',
    'b.jpg,Shadow,,,,',
  ]
  table = made.read(made.folder(tmp_path, boxes=boxes))
  assert table.films[0].boxes == (
    Box(0, (6, 5, 14, 12), 'boxes.csv, line 2'),
    Box(0, (6, 20, 14, 27), 'boxes.csv, line 4'),
  )
  assert table.films[1].boxes == () and table.boxed == ('Shadow',)
  assert [row.reason for row in table.left_out] == [
    'box given twice',
    'box of an unknown finding',
    'box of no size',
    'box without four numbers',
    'box not in pixels',
  ]
  assert table.left_out[0].detail.endswith('boxes.csv, line 3: 5, 6, 7, 8')


def test_readers(tmp_path):
  readers = [
    'Image ID;Reader ID;shadow;Comment',
    'a.png;R2;1;clear',
    'a;R1;0;',
    'e.png;R1;;',
  ]
  table = made.read(made.folder(tmp_path, readers=readers))
  assert table.readers == ('R2', 'R1')
  same(table.films[0].readers, [(1, NAN), (0, NAN)])
  same(table.films[4].readers, [(NAN, NAN), (NAN, NAN)])
  assert table.films[1].readers == ()


def test_prepared_pixels_are_those_that_are_explained(tmp_path):
  """PNG, JPEG and DICOM, wide and tall: one reader."""
  splits = made.load(made.folder(tmp_path / 'a'), tmp_path / 'p')
  split = splits['test']
  assert splits.keys() == {'test'} and split.findings == made.FINDINGS
  assert split.image_name.tolist() == sorted(r.split(',')[0] for r in made.ROWS)
  for name, image in zip(split.image_name.tolist(), split.image, strict=True):
    film = radiograph.read(str(tmp_path / 'a' / name), size=32)
    np.testing.assert_array_equal(image / np.float32(255), film.image)
  same(split.label[0], (1, 0))
  assert split.patient_name[:2].tolist() == ['Ann', 'Ben']
  assert split.patient[0] == split.patient[5] != split.patient[1]
  assert split.patient.min() >= 0 and split.patient.max() < 2**53


def test_boxes_and_masks_land_on_their_pixels(tmp_path):
  """A white rectangle drawn into the film, given as a box, a mask and run
  lengths: all three end where the prepared image is white."""
  folder = made.folder(tmp_path / 'a')
  area = 10, 16, 30, 46  # ymin, xmin, ymax, xmax of 40 x 60 pixels
  made.mask(folder / 'a.png', (40, 60), area)
  made.mask(folder / 'masks' / 'a' / 'Shadow.png', (40, 60), area)
  made.mask(folder / 'masks' / 'd' / 'pleural_effusion.png', (48, 48))
  pixels = np.zeros((40, 60), bool)
  pixels[10:30, 16:46] = True
  runs = {'a': {'Pleural Effusion': chexlocalize.rle_encode(pixels)}}
  (folder / 'masks.json').write_text(json.dumps(runs))
  (folder / 'boxes.csv').write_text(
    'image,finding,x,y,w,h\na.png,Shadow,16,10,30,20\n'
    'a.png,Shadow,59,10,8,8\na.png,Effusion,59,10,2,2\n'
  )
  splits = made.load(folder, tmp_path / 'p', image_size=30)
  split = splits['test']
  white = split.image[0, ..., 0] > 127
  # 40 x 60 in 30 x 30: half the size, five rows of black above.
  expected = np.zeros((30, 30), bool)
  expected[10:20, 8:23] = True
  np.testing.assert_array_equal(white, expected)
  assert split.mask.shape == (2, 30, 30) and split.mask.dtype == bool
  assert split.mask_image.tolist() == [0, 0]
  assert sorted(split.mask_finding.tolist()) == [0, 1]
  for mask in split.mask:
    np.testing.assert_array_equal(mask, expected)
  np.testing.assert_allclose(
    split.box[0], np.array([10, 8, 20, 23]) / 30, atol=1e-6
  )
  # One pixel over the border is cut, more is left out.
  np.testing.assert_allclose(split.box[1, 3], 1)
  assert split.box_finding.tolist() == [0, 1]
  assert splits.left_out == {
    'box outside the film': 1, 'mask without a pixel': 1
  }  # fmt: skip
  assert split.boxed == made.FINDINGS


def test_boxes_of_a_film_that_is_stored_turned(tmp_path):
  folder = made.folder(tmp_path / 'a')
  values = np.zeros((40, 60), np.uint16)
  values[5:15, 20:50] = 4000
  film = made.made_films.dicom(values, PatientOrientation=['R', 'F'])
  made.made_films.save(film, str(folder / 'deep' / 'c.dcm'))
  (folder / 'boxes.csv').write_text(
    'image,finding,x,y,w,h\ndeep/c.dcm,Shadow,20,5,30,10\n'
  )
  made.mask(folder / 'masks' / 'c' / 'Shadow.png', (40, 60), (5, 20, 15, 50))
  split = made.load(folder, tmp_path / 'p', image_size=60)['test']
  (row,) = split.box_image
  white = split.image[row, ..., 0] > 127
  rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
  box = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
  np.testing.assert_array_equal(box, [15, 10, 25, 40])
  np.testing.assert_allclose(split.box[0] * 60, box, atol=1e-5)
  np.testing.assert_array_equal(split.mask[0], white)


def test_boxes_drawn_on_a_film_of_another_size(tmp_path):
  boxes = [
    'image,finding,x,y,w,h,film_width,film_height',
    'd.png,Shadow,256,512,256,256,1024,1024',
    'a.png,Shadow,1,1,9,9,1024,1024',
  ]
  folder = made.folder(tmp_path / 'a', boxes=boxes)
  splits = made.load(folder, tmp_path / 'p')
  np.testing.assert_array_equal(splits['test'].box, [[0.5, 0.25, 0.75, 0.5]])
  assert splits.left_out == {'box of a film left out': 1, 'not square': 1}


def test_a_mask_of_another_size_is_one_sentence(tmp_path):
  folder = made.folder(tmp_path / 'a')
  made.mask(folder / 'masks' / 'a' / 'Shadow.png', (60, 40), (1, 1, 9, 9))
  message = (
    r'films.csv, line 2, a.png: the mask .*Shadow.png is of 60 x 40 pixels '
    r'.height x width. and its film of 40 x 60; a mask must have the size'
  )
  with pytest.raises(ValueError, match=message) as error:
    made.load(folder, tmp_path / 'p')
  assert '\n' not in str(error.value)


def test_a_mask_of_no_film_is_one_sentence(tmp_path):
  folder = made.folder(tmp_path)
  made.mask(folder / 'masks' / 'Shadow.png', (48, 48))
  with pytest.raises(ValueError, match='nothing says of which film'):
    made.read(folder)


def test_a_mask_that_is_added_is_seen(tmp_path):
  folder = made.folder(tmp_path / 'a')
  made.mask(folder / 'masks' / 'e' / 'Shadow.png', (48, 48), (1, 1, 9, 9))
  assert len(made.load(folder, tmp_path / 'p')['test'].mask) == 1
  made.mask(folder / 'masks' / 'd' / 'Shadow.png', (48, 48), (1, 1, 9, 9))
  assert len(made.load(folder, tmp_path / 'p')['test'].mask) == 2


def test_a_box_outside_its_film_is_said_with_its_row(tmp_path, monkeypatch):
  lines = []
  monkeypatch.setattr(logging, 'warning', lambda s, *a: lines.append(s % a))
  boxes = ['image,finding,x,y,w,h', 'a.png,Shadow,50,10,20,8']
  made.load(made.folder(tmp_path / 'a', boxes=boxes), tmp_path / 'p')
  assert (
    '1 box outside the film (first: a.png, Shadow: boxes.csv, line 2: 10, 50, '
    '18, 70 (ymin, xmin, ymax, xmax) of 40 x 60 pixels)'
  ) in lines[0]
  assert 'prepared anew by the same command' in lines[0]


def test_masks_by_finding_by_number_and_by_table(tmp_path):
  folder = made.folder(tmp_path)
  made.mask(folder / 'masks' / 'Shadow' / 'd.png', (48, 48), (1, 1, 9, 9))
  made.mask(folder / 'masks' / 'e' / 'Shadow_1.png', (48, 48), (1, 1, 9, 9))
  made.mask(folder / 'masks' / 'e' / 'Shadow_2.png', (48, 48), (9, 9, 20, 20))
  made.mask(folder / 'masks' / 'e' / 'Lump.png', (48, 48))
  table = made.read(folder)
  of = {film.image: [m.finding for m in film.masks] for film in table.films}
  assert of['d.png'] == [0] and of['e.png'] == [0, 0]
  assert reasons(table) == [('e', 'mask of an unknown finding')]
  (folder / 'masks.csv').write_text(
    'image,finding,mask\nd.png,shadow,masks\\Shadow\\D.png\n'
  )
  table = made.read(folder)
  assert [len(film.masks) for film in table.films] == [0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize(
  'text, message',
  [
    ('[1]', 'must hold run lengths'),
    ('{"a": {"Shadow": {"size": [2], "counts": "1"}}}', 'run lengths|size'),
    ('{"a": {"Shadow": {"size": [40, 60], "counts": "1"}}}', 'not of 40 x 60'),
    ('{"a": {"Shadow": {"size": [2, 2], "counts": "~~"}}}', 'no run lengths'),
    ('{"z": {"Shadow": {"size": [1, 1], "counts": "1"}}}', 'no image .z.'),
  ],
)
def test_run_lengths_that_are_none(tmp_path, text, message):
  folder = made.folder(tmp_path)
  (folder / 'masks.json').write_text(text)
  with pytest.raises(ValueError, match=message) as error:
    made.read(folder)
  assert 'masks.json' in str(error.value)


def test_readers_and_masks_are_stored_and_change_the_hash(tmp_path):
  readers = ['image,reader,Shadow', 'a.png,R1,1', 'f.png,R2,0']
  folder = made.folder(tmp_path / 'a', readers=readers)
  first = made.load(folder, tmp_path / 'p')['test']
  assert first.reader_names == ('R1', 'R2')
  assert first.reader.shape == (2, 6, 2)
  assert first.reader[0, 0, 0] == 1 and first.reader[1, 5, 0] == 0
  assert np.isnan(first.reader).sum() == 2 * 6 * 2 - 2
  (folder / 'readers.csv').write_text('\n'.join([*readers, 'e.png,R1,0']))
  second = made.load(folder, tmp_path / 'p')['test']
  assert second.reader[0, 4, 0] == 0 and second.content != first.content
  (folder / 'readers.csv').unlink()
  third = made.load(folder, tmp_path / 'p')['test']
  assert third.reader_names == () and third.reader.size == 0


def test_a_prepared_set_is_found_again_and_sees_changes(tmp_path):
  folder = made.folder(tmp_path / 'a')
  one = made.load(folder, tmp_path / 'p')
  made.load(folder, tmp_path / 'p', uncertain='positive')
  made.load(folder, tmp_path / 'p')
  sets = lambda: [p for p in (tmp_path / 'p').iterdir() if p.is_dir()]
  assert len(sets()) == 2
  made.film(folder, 'a.png')
  os.utime(folder / 'a.png', ns=(0, 0))
  two = made.load(folder, tmp_path / 'p')
  assert len(sets()) == 3
  assert one['test'].content == two['test'].content
  # A film that is gone is looked for in the table; one that comes is seen.
  os.rename(folder / 'a.png', tmp_path / 'a.png')
  assert made.load(folder, tmp_path / 'p').left_out == {'absent': 1}
  (folder / 'images').mkdir()
  os.rename(tmp_path / 'a.png', folder / 'images' / 'a.png')
  assert made.load(folder, tmp_path / 'p').left_out == {}


def test_what_is_left_out_is_said_with_its_first(tmp_path, monkeypatch):
  lines = []
  monkeypatch.setattr(logging, 'warning', lambda s, *a: lines.append(s % a))
  rows = [*made.ROWS, 'no.png,Zoe,1,1', 'bad.png,Zoe,1,1']
  folder = made.folder(tmp_path / 'a', rows)
  (folder / 'bad.png').write_bytes(b'nothing')
  made.load(folder, tmp_path / 'p')
  assert '1 absent (first: no.png, films.csv, line 8)' in lines[0]
  assert '1 undecodable (first: bad.png, ' in lines[0]


def test_the_documents_table_is_read(tmp_path):
  """The csv blocks of docs/data.md: films.csv, boxes.csv, readers.csv."""
  page = pathlib.Path(__file__).parents[3] / 'docs' / 'data.md'
  part = page.read_text().partition('## A table of your own films')[2]
  tables = re.findall('^```csv\\n(.*?)^```$', part, re.DOTALL | re.MULTILINE)
  for name, text in zip(('films', 'boxes', 'readers'), tables, strict=False):
    (tmp_path / f'{name}.csv').write_text(text)
  (tmp_path / 'images').mkdir()
  for name in ('a1.png', 'a2.jpg', 'b1.dcm', 'c1.png'):
    values = np.random.default_rng(0).integers(0, 255, (300, 280), np.uint8)
    made.save(values, tmp_path / 'images' / name)
  made.mask(
    tmp_path / 'masks' / 'b1' / 'Shadow.png', (300, 280), (9, 9, 50, 60)
  )
  splits = made.load(tmp_path, tmp_path / 'p')
  assert splits.left_out == {}
  assert {name: len(s.label) for name, s in splits.items()} == {
    'train': 2,
    'test': 2,
  }
  test = splits['test']
  assert test.findings == ('Shadow', 'Pleural Effusion') == test.boxed
  assert test.box_finding.tolist() == [1, 0, 0]
  assert test.mask_image.tolist() == [0] and test.reader_names == ('R1', 'R2')
  same(test.label, [(NAN, 1), (1, 1)])
  same(test.reader[:, 0, 0], (1, 0))


def test_odd_films_are_used_and_told_of(tmp_path, monkeypatch):
  lines = []
  monkeypatch.setattr(logging, 'warning', lambda s, *a: lines.append(s % a))
  folder = made.folder(tmp_path / 'a')
  values = made.pixels('deep/c.dcm').astype(np.uint16)
  film = made.made_films.dicom(values, ViewPosition='LORDOTIC')
  made.made_films.save(film, str(folder / 'deep' / 'c.dcm'))
  splits = made.load(folder, tmp_path / 'p')
  assert len(splits['test'].label) == 6 and splits.left_out == {}
  (line,) = (line for line in lines if 'deep/c.dcm' in line)
  assert line.startswith('1 film (first: deep/c.dcm): This film was taken at a')


def test_a_lateral_dicom_is_left_out(tmp_path):
  folder = made.folder(tmp_path / 'a')
  values = made.pixels('deep/c.dcm').astype(np.uint16)
  film = made.made_films.dicom(values, ViewPosition='LL')
  made.made_films.save(film, str(folder / 'deep' / 'c.dcm'))
  assert made.load(folder, tmp_path / 'p').left_out == {'lateral film': 1}


def test_a_film_may_have_all_numbers_for_patients(tmp_path):
  rows = [f'{name},{k},1,0' for k, name in enumerate(('a.png', 'd.png'))]
  split = made.load(made.folder(tmp_path / 'a', rows), tmp_path / 'p')['test']
  assert split.patient.tolist() == [0, 1]
  assert split.patient_name.tolist() == ['0', '1']
