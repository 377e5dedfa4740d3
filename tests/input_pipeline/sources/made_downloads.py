"""Folders as CheXpert, VinDr-CXR, RSNA, MIMIC-CXR-JPG and PadChest come.

The headers, the names and the kinds of rows are those of the real files; the
films are noise.
"""

import csv
import gzip
import io
import pathlib

import numpy as np
import pydicom
from PIL import Image

from input_pipeline.sources import vindr

CHEXPERT_HEADER = (
  'Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,'
  'Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,'
  'Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,'
  'Support Devices'
)
MIMIC_HEADER = (
  'subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,'
  'Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,No Finding,'
  'Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices'
)
MIMIC_METADATA = (
  'dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,'
  'Rows,Columns,StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,'
  'ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning'
)
PADCHEST_HEADER = (
  ',ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,'
  'PatientSex_DICOM,ViewPosition_DICOM,Projection,MethodProjection,Pediatric,'
  'Report,MethodLabel,Labels,Localizations'
)


def pixels(seed: int = 0, height: int = 80, width: int = 72) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return rng.integers(20, 236, (height, width), np.uint8)


def picture(
  path: pathlib.Path, seed: int = 0, *, bits: int = 8, **size
) -> None:
  """A film as PNG or JPEG, by the name's ending."""
  path.parent.mkdir(parents=True, exist_ok=True)
  values = pixels(seed, **size)
  if bits == 16:
    values = values.astype(np.uint16) * 257
  Image.fromarray(values).save(path)


def dicom(path: pathlib.Path, seed: int = 0, **size) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  values = pixels(seed, **size)
  meta = pydicom.dataset.FileMetaDataset()
  meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  meta.MediaStorageSOPClassUID = (
    pydicom.uid.DigitalXRayImageStorageForPresentation
  )
  meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(
    entropy_srcs=[path.name]
  )
  film = pydicom.Dataset()
  film.file_meta = meta
  film.SOPClassUID = meta.MediaStorageSOPClassUID
  film.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
  film.Modality, film.PhotometricInterpretation = 'DX', 'MONOCHROME2'
  film.Rows, film.Columns = values.shape
  film.BitsAllocated = film.BitsStored = 8
  film.HighBit, film.PixelRepresentation, film.SamplesPerPixel = 7, 0, 1
  film.PixelData = values.tobytes()
  film.save_as(path, enforce_file_format=True)


def table(
  path: pathlib.Path, header: str, rows, *, packed: bool = False
) -> None:
  """A csv; rows are lists of cells, or {column: cell} with '' elsewhere."""
  columns = header.split(',')
  out = io.StringIO(newline='')
  writer = csv.writer(out, lineterminator='\n')
  writer.writerow(columns)
  for row in rows:
    if isinstance(row, dict):
      assert {*row} <= {*columns}, {*row} - {*columns}
      row = [row.get(column, '') for column in columns]
    writer.writerow(row)
  path.parent.mkdir(parents=True, exist_ok=True)
  data = out.getvalue().encode()
  path.write_bytes(gzip.compress(data) if packed else data)


# --- CheXpert


def chexpert_row(
  patient: int,
  *,
  split: str = 'train',
  file: str = 'view1_frontal.jpg',
  prefix: str = 'CheXpert-v1.0-small/',
  view: str = 'AP',
  age='68',
  sex: str = 'Female',
  **labels,
) -> dict:
  """A row; labels by name with underscores."""
  side = 'Lateral' if 'lateral' in file else 'Frontal'
  return {
    'Path': f'{prefix}{split}/patient{patient:05d}/study1/{file}',
    'Sex': sex,
    'Age': age,
    'Frontal/Lateral': side,
    'AP/PA': '' if side == 'Lateral' else view,
  } | {name.replace('_', ' '): value for name, value in labels.items()}


def chexpert_folder(
  folder: pathlib.Path, train, valid=(), *, films: bool = True
) -> pathlib.Path:
  """As CheXpert-v1.0-small, or where a row's prefix says, CheXpert-v1.0."""
  for name, rows in (('train', train), ('valid', valid)):
    if rows:
      table(folder / f'{name}.csv', CHEXPERT_HEADER, rows)
    for seed, row in enumerate(rows if films else ()):
      picture(folder / row['Path'].split('/', 1)[1], seed)
  return folder


# --- VinDr-CXR


def vindr_labels(image: str, reader: str = '', **labels) -> dict:
  """A row of labels: those given are 1, the others 0."""
  given = {name.replace('_', ' ') for name in labels}
  assert given <= {*vindr.FINDINGS, vindr.NO_FINDING}, given
  row = {name: int(name in given) for name in vindr.FINDINGS}
  row[vindr.NO_FINDING] = int(not given)
  return {'image_id': image} | ({'rad_id': reader} if reader else {}) | row


def vindr_box(image: str, reader: str, finding: str, *box) -> dict:
  names = ('x_min', 'y_min', 'x_max', 'y_max')
  row = {'image_id': image, 'class_name': finding}
  row |= {'rad_id': reader} if reader else {}
  return row | dict(zip(names, box, strict=False))


def vindr_folder(
  folder: pathlib.Path,
  *,
  train=(),
  test=(),
  train_boxes=(),
  test_boxes=(),
  films: bool = True,
) -> pathlib.Path:
  """Of rows as `vindr_labels` and `vindr_box` make them."""
  findings = ','.join((*vindr.FINDINGS, vindr.NO_FINDING))
  boxes = 'class_name,x_min,y_min,x_max,y_max'
  tables = folder / 'annotations'
  for split, labels, rows in (
    ('train', train, train_boxes),
    ('test', test, test_boxes),
  ):
    if not labels:
      continue
    reader = 'rad_id,' if split == 'train' else ''
    header = f'image_id,{reader}{findings}'
    if split == 'test':
      header = header.replace('Other diseases', 'Other disease')
      labels = [
        {
          k.replace('Other diseases', 'Other disease'): v
          for k, v in row.items()
        }
        for row in labels
      ]
    table(tables / f'image_labels_{split}.csv', header, labels)
    table(
      tables / f'annotations_{split}.csv', f'image_id,{reader}{boxes}', rows
    )
    names = dict.fromkeys(row['image_id'] for row in labels)
    for seed, image in enumerate(names if films else ()):
      dicom(folder / split / f'{image}.dicom', seed)
  return folder


# --- RSNA


def rsna_folder(folder: pathlib.Path, rows, classes=None) -> pathlib.Path:
  """Rows (patientId, x, y, width, height, Target); {patientId: class}."""
  table(
    folder / 'stage_2_train_labels.csv',
    'patientId,x,y,width,height,Target',
    rows,
  )
  if classes is not None:
    table(
      folder / 'stage_2_detailed_class_info.csv',
      'patientId,class',
      [[row[0], classes[row[0]]] for row in rows],
    )
  for seed, patient in enumerate(dict.fromkeys(row[0] for row in rows)):
    dicom(folder / 'stage_2_train_images' / f'{patient}.dcm', seed)
  return folder


# --- MIMIC-CXR-JPG


def mimic_folder(
  folder: pathlib.Path, studies, *, labeller: str = 'chexpert', packed=True
) -> pathlib.Path:
  """Studies (patient, study, split, {label: value}, {dicom_id: view})."""
  end = '.csv.gz' if packed else '.csv'
  labels, metadata, splits = [], [], []
  for seed, (patient, study, split, values, films) in enumerate(studies):
    if values is not None:
      labels.append({'subject_id': patient, 'study_id': study} | values)
    for dicom_id, view in films.items():
      metadata.append(
        {
          'dicom_id': dicom_id,
          'subject_id': patient,
          'study_id': study,
          'Rows': 80,
          'Columns': 72,
        }
        | (view if isinstance(view, dict) else {'ViewPosition': view})
      )
      splits.append([dicom_id, study, patient, split])
      place = f'files/p{str(patient)[:2]}/p{patient}/s{study}/{dicom_id}.jpg'
      picture(folder / place, seed)
  stem = folder / 'mimic-cxr-2.0.0'
  for name, header, rows in (
    (labeller, MIMIC_HEADER, labels),
    ('metadata', MIMIC_METADATA, metadata),
    ('split', 'dicom_id,study_id,subject_id,split', splits),
  ):
    table(
      stem.with_name(f'{stem.name}-{name}{end}'), header, rows, packed=packed
    )
  return folder


# --- PadChest


def padchest_row(
  image: str,
  labels,
  *,
  patient: str = '',
  projection: str = 'PA',
  sex: str = 'F',
  birth: str = '1930.0',
  date: str = '20140915',
  place: int = 0,
) -> dict:
  return {
    'ImageID': f'{image}.png',
    'ImageDir': place,
    'StudyDate_DICOM': date,
    'PatientID': patient or f'patient of {image}',
    'PatientBirth': birth,
    'PatientSex_DICOM': sex,
    'Projection': projection,
    'Report': 'sin hallazg, patolog "signific" .',
    'MethodLabel': 'Physician',
    'Labels': labels if isinstance(labels, str) else str(labels),
    'Localizations': "['loc basal']",
  }


def padchest_folder(
  folder: pathlib.Path, rows, *, packed: bool = False, films: bool = True
) -> pathlib.Path:
  name = 'PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv'
  table(
    folder / (f'{name}.gz' if packed else name),
    PADCHEST_HEADER,
    rows,
    packed=packed,
  )
  for seed, row in enumerate(rows if films else ()):
    picture(folder / str(row['ImageDir']) / row['ImageID'], seed, bits=16)
  return folder
