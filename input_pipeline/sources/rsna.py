"""RSNA's Pneumonia Detection Challenge of 2018 as it is downloaded from Kaggle.

What is read, and where each fact is from:

* `stage_2_train_images/<patientId>.dcm`, 26,684 films, one a patient, square of
  1,024 pixels, and `stage_2_train_labels.csv` with patientId, x, y, width,
  height and Target, a row for each box and one for a film without any: 30,227
  rows (the file itself, in TorchXRayVision,
  kaggle_stage_2_train_labels.csv.zip). x and y are the upper left corner in
  pixels of the film (there: RSNA_Pneumonia_Dataset.get_mask_dict).
* Target is 1 where the film "has evidence of pneumonia"
  (https://www.kaggle.com/c/rsna-pneumonia-detection-challenge/data): the
  finding is Pneumonia. What was drawn are lung opacities that may be pneumonia
  (Shih et al., Radiology: Artificial Intelligence 1, 2019).
* `stage_2_detailed_class_info.csv` has patientId and class: 'Lung Opacity'
  (exactly where Target is 1), 'Normal', 'No Lung Opacity / Not Normal'. It is
  not needed; where it is there it must agree.
* The labels of `stage_2_test_images` were never published, so patients are
  divided by a hash. All films are frontal; view, age and sex stand in the
  DICOM files alone and are not read.
"""

import math
import pathlib
from collections import defaultdict

from input_pipeline import findings
from input_pipeline import tables as csv_tables
from input_pipeline.sources import film_table, places
from input_pipeline.sources.film_table import Box, FilmRow, FilmTable, LeftOut

FINDING = 'Pneumonia'
_LABELS = ('stage_2_train_labels.csv', 'stage_1_train_labels.csv')
_CLASSES = (
  'stage_2_detailed_class_info.csv',
  'stage_1_detailed_class_info.csv',
)
_IMAGES = ('stage_2_train_images', 'stage_1_train_images')
_POSITIVE = 'Lung Opacity'
_NEGATIVE = ('Normal', 'No Lung Opacity / Not Normal')


def tables(folder: pathlib.Path) -> list[pathlib.Path]:
  """The labels, and the classes where they are there.

  Raises:
    FileNotFoundError: the labels are not there.
  """
  labels = places.require(folder, [folder], _LABELS, "RSNA's challenge")
  classes = places.find([folder], _CLASSES)
  return [labels, classes] if classes else [labels]


def read(
  folder: pathlib.Path, options: film_table.Options = film_table.Options()
) -> FilmTable:
  """All films of the table of labels.

  Raises:
    FileNotFoundError: the labels are not there.
    ValueError: a table is malformed or contradicts itself.
  """
  del options
  path, *classes = tables(folder)
  columns = {
    name: (name,)
    for name in ('patientId', 'x', 'y', 'width', 'height', 'Target')
  }
  target, where = {}, {}
  boxes, left_out = defaultdict(list), []
  for line, row in csv_tables.read_table(path, columns):
    patient = row['patientId']
    value = csv_tables.number(row['Target'])
    if value not in (0, 1) or not patient:
      raise ValueError(
        f'{path}, line {line}: Target of {patient!r} is {row["Target"]!r}; it '
        'must be 1 (evidence of pneumonia) or 0.'
      )
    if target.setdefault(patient, value) != value:
      raise ValueError(
        f'{path}, line {line}: Target of {patient} is {value:g} here and '
        f'{target[patient]:g} in {where[patient]}; all its rows must agree.'
      )
    where.setdefault(patient, f'{path.name}, line {line}')
    x, y, w, h = (
      csv_tables.number(row[c]) for c in ('x', 'y', 'width', 'height')
    )
    if all(map(math.isfinite, (x, y, w, h))):
      if not value:
        raise ValueError(
          f'{path}, line {line}: {patient} has a box and Target 0; a box is '
          'evidence of pneumonia.'
        )
      boxes[patient].append(Box(0, (y, x, y + h, x + w)))
    elif value:
      cell = ', '.join(row[c] for c in ('x', 'y', 'width', 'height'))
      left_out.append(LeftOut(patient, 'box without four numbers', cell))
  for class_file in classes:
    _check_classes(class_file, target)
  if not target:
    raise ValueError(f'{path} has no row; it must have one for each film.')
  roots = [folder / name for name in _IMAGES if (folder / name).is_dir()]
  root = roots[0] if roots else folder
  there = places.films(root, depth=1)
  films = [
    FilmRow(
      image=(root / there.get(patient, f'{patient}.dcm'))
      .relative_to(folder)
      .as_posix(),
      patient=patient,
      label=(value,),
      boxes=tuple(boxes[patient]),
      where=where[patient],
    )
    for patient, value in target.items()
  ]
  return FilmTable((FINDING,), films, boxed=(FINDING,), left_out=left_out)


def _check_classes(path: pathlib.Path, target: dict[str, float]) -> None:
  """Raises ValueError where the classes do not say what Target says."""
  columns = {'patientId': ('patientId',), 'class': ('class',)}
  for line, row in csv_tables.read_table(path, columns):
    patient, name = row['patientId'], row['class']
    positive = findings.same(name, _POSITIVE)
    if not positive and not any(findings.same(name, n) for n in _NEGATIVE):
      raise ValueError(
        f'{path}, line {line}: the class {name!r} must be one of '
        f'{", ".join((_POSITIVE, *_NEGATIVE))}.'
      )
    if target.get(patient, float(positive)) != positive:
      raise ValueError(
        f'{path}, line {line}: {patient} is of the class {name!r} and has '
        f'Target {target[patient]:g}; {_POSITIVE!r} is Target 1.'
      )
