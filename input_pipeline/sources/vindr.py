"""VinDr-CXR as it is downloaded from PhysioNet, or from its Kaggle contest.

What is read, and where each fact is from:

* `train/<image_id>.dicom`, `test/<image_id>.dicom`, and in `annotations/`, or
  beside them, `annotations_train.csv`, `annotations_test.csv`,
  `image_labels_train.csv`, `image_labels_test.csv`
  (https://physionet.org/content/vindr-cxr/1.0.0/).
* 15,000 training films are each read by three of 17 radiologists, R1 to R17
  (column rad_id); the labels of the 3,000 test films are the consensus of five
  (Nguyen et al., Scientific Data 9, 2022).
* `image_labels_train.csv` has image_id, rad_id and 28 columns of 0 and 1, three
  rows a film; `image_labels_test.csv` has no rad_id, one row a film, and calls
  Other diseases `Other disease`.
* `annotations_*.csv` have image_id, rad_id (train), class_name and x_min,
  y_min, x_max, y_max in the film's own pixels; 22 findings have boxes, and a
  row of 'No finding' has none.
* The contest has `train.csv` (image_id, class_name, class_id, rad_id, x_min,
  ...) and no labels beside it: 67,914 rows, each film by exactly three readers,
  with a row of 'No finding' where a reader saw none (the file itself, in
  TorchXRayVision, vinbigdata-train.csv.gz). Its labels are those of its rows.
* All films are postero-anterior (the article's abstract). Patients were taken
  out when the films were made anonymous, so each film counts as one patient.

A film's label is that of most of its readers. Each reader's boxes are true
regions of their own; those of a finding that most readers did not see are left
out. Sex and age stand in the DICOM files alone and are not read.
"""

import functools
import math
import pathlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from input_pipeline import findings
from input_pipeline import tables as csv_tables
from input_pipeline.sources import cells, film_table, places
from input_pipeline.sources.film_table import Box, FilmRow, FilmTable, LeftOut

BOXED = (
  'Aortic enlargement',
  'Atelectasis',
  'Calcification',
  'Cardiomegaly',
  'Clavicle fracture',
  'Consolidation',
  'Edema',
  'Emphysema',
  'Enlarged PA',
  'ILD',
  'Infiltration',
  'Lung Opacity',
  'Lung cavity',
  'Lung cyst',
  'Mediastinal shift',
  'Nodule/Mass',
  'Pleural effusion',
  'Pleural thickening',
  'Pneumothorax',
  'Pulmonary fibrosis',
  'Rib fracture',
  'Other lesion',
)
FINDINGS = (
  *BOXED,
  'COPD',
  'Lung tumor',
  'Pneumonia',
  'Tuberculosis',
  'Other diseases',
)
NO_FINDING = 'No finding'


_BOX = ('x_min', 'y_min', 'x_max', 'y_max')


class _Row(NamedTuple):
  """A row of a table of boxes."""

  line: int
  image: str
  reader: str  # '' where several agreed
  finding: int | None  # index into FINDINGS; None: No finding
  box: tuple[float, ...]  # (ymin, xmin, ymax, xmax), NaN where there is none


class _Labels(NamedTuple):
  """What each reader says of each film; reader '' is the consensus."""

  findings: set[int]  # of which the table speaks
  films: dict[str, dict[str, tuple[float, ...]]]  # labels in FINDINGS's order
  where: dict[str, str]


def _places(folder: pathlib.Path) -> list[pathlib.Path]:
  return list(places.below(folder, 1, passed_by='train|test'))


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """The tables that are there, by their names without '.csv'.

  Raises:
    FileNotFoundError: there is no table of labels, or one has no boxes.
  """
  where, found = _places(folder), {}
  for split in ('train', 'test'):
    labels = places.find(where, [f'image_labels_{split}.csv'])
    if labels:
      found[f'image_labels_{split}'] = labels
      found[f'annotations_{split}'] = places.require(
        folder, where, [f'annotations_{split}.csv'], 'VinDr-CXR'
      )
  if not found:
    every = ['image_labels_train.csv', 'image_labels_test.csv', 'train.csv']
    contest = places.require(folder, where, every, 'VinDr-CXR')
    found['annotations_train'] = contest
  return found


def tables(folder: pathlib.Path) -> list[pathlib.Path]:
  """The tables of labels and of boxes.

  Raises:
    FileNotFoundError: there is none of labels, or it has none of boxes.
  """
  return list(_files(folder).values())


def read(
  folder: pathlib.Path, options: film_table.Options = film_table.Options()
) -> FilmTable:
  """All films of the tables that are there.

  Where the test is not there, the patients of train are divided by a hash.

  Raises:
    FileNotFoundError: there is no table of labels, or it has none of boxes.
    ValueError: a table is malformed or contradicts itself.
  """
  del options
  files = _files(folder)
  boxes, labels = {}, {}
  for split in ('train', 'test'):
    if path := files.get(f'annotations_{split}'):
      boxes[split] = list(_read_boxes(path))
      table = files.get(f'image_labels_{split}')
      labels[split] = (
        _read_labels(table) if table else _votes(boxes[split], path.name)
      )
  index = sorted(set().union(*(of.findings for of in labels.values())))
  # Few vectors are shared by many films and readers.
  named = functools.cache(lambda label: tuple(label[k] for k in index))
  nobody = (math.nan,) * len(FINDINGS)
  readers = _readers(labels.values())
  films, left_out = [], []
  for split, of in labels.items():
    there = _film_files(folder, split)
    drawn = _by_film(boxes[split], files[f'annotations_{split}'], of)
    for image, votes in of.films.items():
      label = _majority(list(votes.values()))
      name = there.get(image, f'{split}/{image}.dicom')
      by_reader = [named(votes.get(reader, nobody)) for reader in readers]
      films.append(
        FilmRow(
          image=name,
          patient=image,
          label=named(label),
          split='' if set(labels) == {'train'} else split,
          view='PA',
          boxes=tuple(_true_boxes(drawn[image], name, label, index, left_out)),
          readers=tuple(by_reader) if any(votes) else (),
          where=of.where[image],
        )
      )
  if not films:
    raise ValueError(
      f'{", ".join(map(str, files.values()))} name no film; VinDr-CXR has a '
      'row for each.'
    )
  names = tuple(FINDINGS[k] for k in index)
  return FilmTable(
    findings=names,
    films=films,
    boxed=tuple(name for name in names if name in BOXED),
    readers=readers,
    left_out=left_out,
  )


def _by_film(
  rows: Sequence[_Row], path: pathlib.Path, labels: _Labels
) -> dict[str, list[_Row]]:
  """The rows of boxes of each film.

  Raises:
    ValueError: a film has boxes and no labels.
  """
  drawn = defaultdict(list)
  for row in rows:
    if row.image not in labels.films:
      table = path.name.replace('annotations', 'image_labels')
      raise ValueError(
        f'{path}, line {row.line}: {row.image!r} has no row in {table}; a film '
        'with a box must have one.'
      )
    drawn[row.image].append(row)
  return drawn


def _readers(labels: Iterable[_Labels]) -> tuple[str, ...]:
  """Who read, R2 before R10."""
  names = {
    reader for of in labels for votes in of.films.values() for reader in votes
  }
  return tuple(sorted(names - {''}, key=lambda name: (len(name), name)))


def _film_files(folder: pathlib.Path, split: str) -> dict[str, str]:
  """{image_id: the film's path, relative to `folder`}."""
  roots = [place / split for place in _places(folder)]
  root = next((root for root in roots if root.is_dir()), folder)
  relative = root.relative_to(folder)
  return {
    image: (relative / path).as_posix()
    for image, path in places.films(root, depth=1).items()
  }


def _majority(votes: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
  """1 or 0 as most readers say, NaN where as many say one as the other."""
  label = []
  for values in zip(*votes, strict=True):
    yes, no = values.count(1.0), values.count(0.0)
    label.append(math.nan if yes == no else float(yes > no))
  return tuple(label)


def _true_boxes(
  rows: Sequence[_Row],
  name: str,
  label: Sequence[float],
  index: Sequence[int],
  left_out: list[LeftOut],
) -> Iterator[Box]:
  """The boxes of a film; what is none goes to `left_out`."""
  for row in rows:
    if row.finding is None:
      continue
    what = f'{FINDINGS[row.finding]} {row.reader}'.strip()
    if not all(map(math.isfinite, row.box)):
      left_out.append(LeftOut(name, 'box without four numbers', what))
    elif label[row.finding] != 1:
      left_out.append(LeftOut(name, 'box that most readers do not share', what))
    else:
      yield Box(index.index(row.finding), row.box)


def _read_boxes(path: pathlib.Path) -> Iterator[_Row]:
  columns = {
    'image': ('image_id',),
    'reader': ('rad_id',),
    'finding': ('class_name',),
  } | {name: (name,) for name in _BOX}
  for line, row in csv_tables.read_table(path, columns, optional={'reader'}):
    finding = None
    if not findings.same(row['finding'], NO_FINDING):
      try:
        finding = findings.index_of(row['finding'], FINDINGS)
      except ValueError as e:
        raise ValueError(f'{path}, line {line}: {e}') from e
    xmin, ymin, xmax, ymax = (csv_tables.number(row[name]) for name in _BOX)
    box = ymin, xmin, ymax, xmax
    yield _Row(line, row['image'], row['reader'], finding, box)


def _votes(rows: Sequence[_Row], table: str) -> _Labels:
  """The contest's labels: a reader sees what he has a row of, and no more."""
  named = {row.finding for row in rows} - {None}
  seen, where = defaultdict(lambda: defaultdict(set)), {}
  for row in rows:
    seen[row.image][row.reader].add(row.finding)
    where.setdefault(row.image, f'{table}, line {row.line}')
  films = {
    image: {
      reader: tuple(
        float(k in there) if k in named else math.nan
        for k in range(len(FINDINGS))
      )
      for reader, there in by_reader.items()
    }
    for image, by_reader in seen.items()
  }
  return _Labels(named, films, where)


def _read_labels(path: pathlib.Path) -> _Labels:
  columns = {'image': ('image_id',), 'reader': ('rad_id',)}
  labelled = {
    index: (cell,)
    for cell in csv_tables.header(path, ('image_id', *FINDINGS))
    for index, name in enumerate(FINDINGS)
    if findings.same(cell, name)
  }
  if not labelled:
    raise ValueError(
      f'{path} has a column for none of {", ".join(FINDINGS)}; it must be a '
      'table of labels as VinDr-CXR has them.'
    )
  films, where, known = {}, {}, {}
  for line, row in csv_tables.read_table(
    path, columns | labelled, optional={'reader'}
  ):
    try:
      values = {index: cells.label(row[index]) for index in labelled}
    except ValueError as e:
      raise ValueError(f'{path}, line {line}, {row["image"]}: {e}') from e
    label = tuple(values.get(k, math.nan) for k in range(len(FINDINGS)))
    votes = films.setdefault(row['image'], {})
    if row['reader'] in votes:
      raise ValueError(
        f'{path}, line {line}: {row["image"]} has a row of '
        f'{row["reader"] or "all its readers"} already; each has one.'
      )
    # NaN is not itself, so tuples are told apart by their text.
    votes[row['reader']] = known.setdefault(repr(label), label)
    where.setdefault(row['image'], f'{path.name}, line {line}')
  return _Labels(set(labelled), films, where)
