"""CheXpert as it is downloaded, and CheXlocalize's masks where they lie there.

What is read, and where each fact is from:

* `train.csv` and `valid.csv` have the columns Path, Sex, Age, Frontal/Lateral,
  AP/PA and the fourteen findings, with 1.0, 0.0, -1.0 (uncertain) and blank
  (not mentioned): Irvin et al. 2019, and the file itself, of 223,414 rows, in
  TorchXRayVision (torchxrayvision/data/chexpert_train.csv.gz).
* A Path is `CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg`,
  or begins with `CheXpert-v1.0/` (both there). The full films come in folders
  `CheXpert-v1.0 batch 2 (train 1)/patient00001/...`, the tables in
  `CheXpert-v1.0 batch 1 (validate & csv)/`.
* The labeller says No Finding only where every other finding but Support
  Devices is absent or not mentioned (Irvin et al. 2019; so stated by
  MIMIC-CXR-JPG's page on PhysioNet, and so in all 22,381 such rows). So these
  findings are 0 there, as in TorchXRayVision's CheX_Dataset; other blanks are
  unknown. No Finding itself is no finding, unless config.data.findings names
  it: then it is 0 where another one is 1 or uncertain.
* 17 films of train.csv are Frontal by one column and LL or RL by the other
  (the file itself); they are left out, as are all Lateral ones.
* Age 0 stands for unknown (CheX_Dataset: "Age == 0" becomes None).
* CheXlocalize (Saporta et al. 2022, its README and sample/): its download has
  `CheXpert/val/`, `CheXpert/val_labels.csv`, `CheXpert/test/`,
  `CheXpert/test_labels.csv` and `CheXlocalize/gt_segmentations_val.json` and
  `gt_segmentations_test.json`, which hold, for a film such as
  `patient64541_study1_view1_frontal` and each of ten findings, {"size": [h, w],
  "counts": run lengths}, of no pixel where the finding is absent. Its
  `Airspace Opacity` is CheXpert's Lung Opacity.

The films of train.csv are for training. Where there are test_labels.csv, valid
is the validation and test the test; where not, the 234 films of valid.csv,
which three radiologists read, are the test, and validation patients are taken
from training.
"""

import functools
import json
import math
import os
import pathlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from input_pipeline import findings
from input_pipeline import tables as csv_tables
from input_pipeline.sources import cells, film_table, places
from input_pipeline.sources.film_table import FilmRow, FilmTable, LeftOut, Mask

NO_FINDING = 'No Finding'
DEVICES = 'Support Devices'
FINDINGS = (
  'Enlarged Cardiomediastinum',
  'Cardiomegaly',
  'Lung Opacity',
  'Lung Lesion',
  'Edema',
  'Consolidation',
  'Pneumonia',
  'Atelectasis',
  'Pneumothorax',
  'Pleural Effusion',
  'Pleural Other',
  'Fracture',
  DEVICES,
)
# The ten that CheXlocalize drew, by CheXpert's names.
SEGMENTED = tuple(
  name
  for name in FINDINGS
  if name not in ('Pneumonia', 'Pleural Other', 'Fracture')
)
_TABLES = {
  'train': ('train.csv', 'train_cheXbert.csv', 'train_visualCheXbert.csv'),
  'valid': ('valid.csv', 'val_labels.csv'),
  'test': ('test_labels.csv', 'test.csv'),
}
_FOLDERS = {'train': ('train',), 'valid': ('valid', 'val'), 'test': ('test',)}
_MASKS = {
  'valid': ('gt_segmentations_val.json',),
  'test': ('gt_segmentations_test.json',),
}
_FILM = re.compile(r'(patient\d+)/(study\d+)/([^/]+_(?:frontal|lateral)\.\w+)$')


def _places(folder: pathlib.Path) -> list[pathlib.Path]:
  """The folders that tables may lie in: none that holds patients alone."""
  return list(
    places.below(folder, 2, passed_by=r'patient\d+|train|valid|val|test')
  )


def _label_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """The tables that are there, by the name of their films' folder.

  Raises:
    FileNotFoundError: none is.
  """
  where = _places(folder)
  found = {name: places.find(where, files) for name, files in _TABLES.items()}
  found = {name: path for name, path in found.items() if path}
  if not found:
    every = [file for files in _TABLES.values() for file in files]
    places.require(folder, where, every, 'CheXpert')
  return found


def _mask_files(folder: pathlib.Path) -> list[pathlib.Path]:
  beside = [*_places(folder), folder.absolute().parent / 'CheXlocalize']
  found = (places.find(beside, files) for files in _MASKS.values())
  return [path for path in found if path]


def tables(folder: pathlib.Path) -> list[pathlib.Path]:
  """The files of labels and of masks that are there.

  Raises:
    FileNotFoundError: there is no file of labels.
  """
  return [*_label_files(folder).values(), *_mask_files(folder)]


def read(
  folder: pathlib.Path, options: film_table.Options = film_table.Options()
) -> FilmTable:
  """All frontal films of the tables that are there.

  Raises:
    FileNotFoundError: there is no file of labels.
    ValueError: a table is malformed or contradicts itself.
  """
  files = _label_files(folder)
  splits = {'train': 'train', 'valid': 'validation', 'test': 'test'}
  if 'test' not in files:
    splits['valid'] = 'test'
  names = findings_to_read(options)
  masks = _read_masks(_mask_files(folder), names)
  roots = _patient_folders(folder)
  films, left_out, seen = [], [], {}
  for name, path in files.items():
    for film in _read_labels(path, names, roots, splits[name], left_out):
      if film.image in seen:
        raise ValueError(
          f'{folder / film.where}: {film.image} has a row already, in '
          f'{seen[film.image]}; a film has one.'
        )
      seen[film.image] = film.where
      drawn = masks.get(
        '_'.join(_FILM.search(film.image).groups()).split('.')[0]
      )
      if drawn and '-small/' in f'{path.parent.name}/{film.image}':
        left_out.append(
          LeftOut(film.image, 'masks of the film at its full size', film.where)
        )
      elif drawn:
        film = film._replace(masks=drawn)
      films.append(film)
  if not films:
    raise ValueError(
      f'{", ".join(map(str, files.values()))} name no frontal film'
      + (f' ({film_table.counts(left_out)}).' if left_out else '.')
    )
  return FilmTable(
    findings=names,
    films=films,
    boxed=SEGMENTED if masks else (),
    left_out=left_out,
  )


def findings_to_read(options: film_table.Options) -> tuple[str, ...]:
  """CheXpert's findings; No Finding is one only where the options name it."""
  wanted = any(findings.same(NO_FINDING, name) for name in options.findings)
  return (NO_FINDING, *FINDINGS) if wanted else FINDINGS


def _patient_folders(folder: pathlib.Path) -> dict[str, str]:
  """{patient: the folder that its folder lies in, relative to `folder`}."""
  found = {}
  for place in _places(folder):
    inside = [place / name for names in _FOLDERS.values() for name in names]
    for root in (*inside, place):
      if root.is_dir():
        relative = root.relative_to(folder).as_posix()
        for patient in os.listdir(root):
          if patient.startswith('patient'):
            found.setdefault(patient, relative)
  return found


def _read_labels(
  path: pathlib.Path,
  names: Sequence[str],
  roots: Mapping[str, str],
  split: str,
  left_out: list[LeftOut],
) -> Iterator[FilmRow]:
  """The frontal films of a table; the others go to `left_out`."""
  columns = {
    'path': ('Path',),
    'sex': ('Sex', 'Gender'),
    'age': ('Age',),
    'frontal': ('Frontal/Lateral',),
    'view': ('AP/PA',),
  }
  labelled = label_columns(path, ('Path',))
  for line, row in csv_tables.read_table(
    path, columns | labelled, optional={*columns} - {'path'}
  ):
    where = f'{path.name}, line {line}'
    match = _FILM.search(row['path'].replace('\\', '/'))
    if not match:
      raise ValueError(
        f'{path}, line {line}: {row["path"][:120]!r} is no path of a film such '
        'as CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg.'
      )
    patient, study, file = match.groups()
    root = roots.get(patient, _FOLDERS.get(path.stem, (split,))[0])
    image = '/'.join((root, patient, study, file)).removeprefix('./')
    view = row['view'].strip().upper()
    if row['frontal'].strip().casefold() == 'lateral' or '_lateral.' in file:
      left_out.append(LeftOut(image, film_table.LATERAL, where))
      continue
    if view not in ('AP', 'PA', ''):
      left_out.append(LeftOut(image, film_table.OTHER_VIEW, f'{view}, {where}'))
      continue
    try:
      label = label_of(row, labelled, names)
    except ValueError as e:
      raise ValueError(f'{path}, line {line}, {image}: {e}') from e
    age = cells.age(row['age'])
    yield FilmRow(
      image=image,
      patient=patient,
      label=label,
      split=split,
      view=view,
      age=age if age > 0 else math.nan,
      sex=cells.sex(row['sex']),
      where=where,
    )


def label_columns(
  path: pathlib.Path, others: Sequence[str]
) -> dict[str, tuple[str]]:
  """{a finding, or No Finding: the name of its column}, as far as it is there.

  Args:
    path: a table of labels.
    others: names of columns that it has beside them.

  Raises:
    ValueError: no finding is there.
  """
  every = (NO_FINDING, *FINDINGS)
  labelled = {
    name: (cell,)
    for cell in csv_tables.header(path, (*others, *every))
    for name in every
    if findings.same(cell, name)
  }
  if not set(labelled) - {NO_FINDING}:
    raise ValueError(
      f'{path} has a column for none of {", ".join(FINDINGS)}; it must be a '
      'table of labels as CheXpert has them.'
    )
  return labelled


def label_of(
  row: Mapping[str, str], labelled: Collection[str], names: Sequence[str]
) -> tuple[float, ...]:
  """The labels of `names`, with what No Finding says of the others.

  Args:
    row: the text of each column.
    labelled: the columns that are findings.
    names: the findings to give.

  Raises:
    ValueError: a label is not 1, 0, -1 or blank.
  """
  label = {name: cells.label(row[name]) for name in labelled}
  healthy = label.pop(NO_FINDING, math.nan)
  speaks = (v for name, v in label.items() if name != DEVICES)
  if math.isnan(healthy) and any(
    v in (1, film_table.UNCERTAIN) for v in speaks
  ):
    healthy = 0.0
  absent = 0.0 if healthy == 1 else math.nan
  return tuple(
    healthy
    if name == NO_FINDING
    else label[name]
    if name in label and not math.isnan(label[name])
    else math.nan
    if name == DEVICES
    else absent
    for name in names
  )


def _read_masks(
  paths: Sequence[pathlib.Path], names: Sequence[str]
) -> dict[str, tuple[Mask, ...]]:
  """CheXlocalize's masks by film; findings without a pixel have none."""
  masks = {}
  for path in paths:
    try:
      content = json.loads(path.read_text(encoding='utf-8'))
      for film, tasks in content.items():
        drawn = []
        for task, mask in tasks.items():
          size = tuple(map(int, mask['size']))
          if mask['counts'] != _no_pixel(*size):
            index = findings.index_of(task, names)
            drawn.append(Mask(index, counts=mask['counts'], size=size))
        masks[film] = tuple(drawn)
    except (ValueError, TypeError, KeyError, AttributeError) as e:
      raise ValueError(
        f'{path} does not hold masks as CheXlocalize writes them, {{film: '
        f'{{finding: {{"size": [h, w], "counts": ...}}}}}}: {e}'
      ) from e
  return masks


@functools.lru_cache
def _no_pixel(height: int, width: int) -> str:
  """The run lengths of an empty mask: one run of zeros.

  Nine masks of ten are empty, and decoding them takes a minute.

  Examples:
    >>> _no_pixel(2320, 2828)
    'PVWX6'
  """
  number, text = height * width, ''
  while True:
    digit, number = number & 31, number >> 5
    more = number or digit & 16
    text += chr(digit + (32 if more else 0) + 48)
    if not more:
      return text
