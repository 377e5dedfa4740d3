"""MIMIC-CXR-JPG as it is downloaded from PhysioNet.

What is read, and where each fact is from (the page of version 2.1.0,
https://physionet.org/content/mimic-cxr-jpg/2.1.0/, where nothing else stands):

* Films lie in `files/p10/p10000032/s50414267/<dicom_id>.jpg`: the first three
  characters of the patient's folder, the patient, the study.
* `mimic-cxr-2.0.0-metadata.csv.gz` has dicom_id, ViewPosition ("AP", "PA",
  "LATERAL", etc) and ViewCodeSequence_CodeMeaning ("postero-anterior",
  "antero-posterior", "lateral"), which is asked where the first is blank. Films
  of other views are left out.
* `mimic-cxr-2.0.0-split.csv.gz` has dicom_id, study_id, subject_id and split:
  'train', 'validate' or 'test'.
* `mimic-cxr-2.0.0-chexpert.csv.gz` and `-negbio.csv.gz` have subject_id,
  study_id and the fourteen labels of CheXpert for a study: 1.0, 0.0, -1.0
  (uncertain) or missing (not mentioned). The first is read, and the second
  where the first is absent. Studies without a row (the labellers could not
  label eight) are left out.
* No Finding is treated as in chexpert.
* Age and sex are not there.

The tables are read line by line; what is held of them is a view for each film
and a label for each study.
"""

import pathlib

from input_pipeline import tables as csv_tables
from input_pipeline.sources import cells, chexpert, film_table, places
from input_pipeline.sources.film_table import FilmRow, FilmTable, LeftOut

_PATTERNS = {
  'split': ('mimic-cxr-*-split.csv.gz', 'mimic-cxr-*-split.csv'),
  'metadata': ('mimic-cxr-*-metadata.csv.gz', 'mimic-cxr-*-metadata.csv'),
  'labels': (
    'mimic-cxr-*-chexpert.csv.gz',
    'mimic-cxr-*-chexpert.csv',
    'mimic-cxr-*-negbio.csv.gz',
    'mimic-cxr-*-negbio.csv',
  ),
}
_SPLITS = {'train': 'train', 'validate': 'validation', 'test': 'test'}
_LATERAL = ('LATERAL', 'LL', 'RL', 'XTABLE LATERAL')


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  return {
    name: places.require(folder, [folder], patterns, 'MIMIC-CXR-JPG')
    for name, patterns in _PATTERNS.items()
  }


def tables(folder: pathlib.Path) -> list[pathlib.Path]:
  """The tables of splits, views and labels.

  Raises:
    FileNotFoundError: one of them is not there.
  """
  return list(_files(folder).values())


def read(
  folder: pathlib.Path, options: film_table.Options = film_table.Options()
) -> FilmTable:
  """All frontal films that the split names.

  Raises:
    FileNotFoundError: one of the tables is not there.
    ValueError: a table is malformed or contradicts itself.
  """
  files = _files(folder)
  names = chexpert.findings_to_read(options)
  labels = _read_labels(files['labels'], names)
  views = _read_views(files['metadata'])
  path = files['split']
  columns = {
    name: (name,) for name in ('dicom_id', 'study_id', 'subject_id', 'split')
  }
  films, left_out, seen = [], [], set()
  for line, row in csv_tables.read_table(path, columns):
    where = f'{path.name}, line {line}'
    dicom, study, patient = row['dicom_id'], row['study_id'], row['subject_id']
    if not (dicom and study.isdecimal() and patient.isdecimal()):
      raise ValueError(
        f'{path}, line {line}: a row needs dicom_id and the numbers study_id '
        f'and subject_id, and has {dicom!r}, {study!r} and {patient!r}.'
      )
    if row['split'] not in _SPLITS:
      raise ValueError(
        f'{path}, line {line}: the split {row["split"]!r} must be one of '
        f'{", ".join(_SPLITS)}.'
      )
    if dicom in seen:
      raise ValueError(
        f'{path}, line {line}: {dicom} has a row already; a film has one.'
      )
    seen.add(dicom)
    image = f'files/p{patient[:2]}/p{patient}/s{study}/{dicom}.jpg'
    view = views.get(dicom, '')
    if view not in ('AP', 'PA'):
      lateral = view in _LATERAL
      reason = film_table.LATERAL if lateral else film_table.OTHER_VIEW
      left_out.append(LeftOut(image, reason, f'{view or "not said"}, {where}'))
    elif (patient, study) not in labels:
      left_out.append(
        LeftOut(image, f'its study has no row in {files["labels"].name}', where)
      )
    else:
      films.append(
        FilmRow(
          image=image,
          patient=patient,
          label=labels[patient, study],
          split=_SPLITS[row['split']],
          view=view,
          where=where,
        )
      )
  if not films:
    raise ValueError(
      f'{path} names no frontal film with labels'
      + (f' ({film_table.counts(left_out)}).' if left_out else '.')
    )
  return FilmTable(findings=names, films=films, left_out=left_out)


def _read_views(path: pathlib.Path) -> dict[str, str]:
  """The view of each film as the table says it, in capitals; '' unknown."""
  columns = {
    'dicom_id': ('dicom_id',),
    'view': ('ViewPosition',),
    'meaning': ('ViewCodeSequence_CodeMeaning',),
  }
  views, known = {}, {}
  for _, row in csv_tables.read_table(path, columns, optional={'meaning'}):
    view = row['view'].upper()
    if not view:
      meaning = row['meaning']
      view = cells.view(meaning) or meaning.upper()
    # One string for each view: there are hundreds of thousands of films.
    views[row['dicom_id']] = known.setdefault(view, view)
  return views


def _read_labels(
  path: pathlib.Path, names: tuple[str, ...]
) -> dict[tuple[str, str], tuple[float, ...]]:
  """{(patient, study): labels of `names`}."""
  columns = {'patient': ('subject_id',), 'study': ('study_id',)}
  labelled = chexpert.label_columns(path, ('subject_id', 'study_id'))
  labels, known = {}, {}
  for line, row in csv_tables.read_table(path, columns | labelled):
    key = row['patient'], row['study']
    try:
      label = chexpert.label_of(row, labelled, names)
    except ValueError as e:
      raise ValueError(f'{path}, line {line}, study {key[1]}: {e}') from e
    if key in labels:
      raise ValueError(
        f'{path}, line {line}: study {key[1]} of patient {key[0]} has a row '
        'already; a study has one.'
      )
    # NaN is not itself, so tuples are told apart by their text.
    labels[key] = known.setdefault(repr(label), label)
  return labels
