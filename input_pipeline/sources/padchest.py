"""PadChest as it is downloaded from BIMCV.

What is read, and where each fact is from:

* `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv`, or packed as
  `.csv.gz`, has ImageID (`..._00-141-160.png`), ImageDir, StudyDate_DICOM,
  PatientID, PatientBirth, PatientSex_DICOM, Projection, Labels and others
  (README.md of https://github.com/auriml/Rx-thorax-automatic-captioning, which
  is its authors').
* ImageDir is the number of the archive, 0 to 54, that a film is in (there,
  README.md and zipImages.py). Films are looked for in `<ImageDir>/` and in any
  folder at most two below, so that archives may be unpacked beside each other
  or into one folder.
* Films are PNGs of 16 bits (there: "scikit-image's imsave automatically writes
  the [0,1] float array as a 16-bit PNG"); the reader of films knows them.
* Labels is written as a Python list, such as ['pacemaker', 'chronic changes'];
  'normal' stands alone (there). Blank Labels are no normal film
  (TorchXRayVision, PC_Dataset: "null labels (distinct from a normal finding)"),
  so they are left out, and so are films whose label is 'exclude'. A report
  that says 'unchanged' does not say of what, so what it does not name is
  unknown.
* The labels are trees: to have all films of a finding, "please consult the
  appropriate tree and include in the search the corresponding child's labels"
  (there). `CHILDREN` is that tree (manual_review/trees_code.txt, its findings
  and differential diagnoses): 'laminar atelectasis' is atelectasis, too.
* Projection is PA, AP, AP_horizontal (that is supine, in PC_Dataset), L or
  another; the first three are read.
* PatientBirth is a year; the age is the year of the study less that one.

The table has some 190 labels. Findings are, where config.data.findings names
none, those of at least one film in 200, and of at least 5; a label that the
table of synonyms knows has its name.
"""

import ast
import functools
import math
import pathlib
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from input_pipeline import findings, synonyms
from input_pipeline import tables as csv_tables
from input_pipeline.sources import cells, film_table, places
from input_pipeline.sources.film_table import FilmRow, FilmTable, LeftOut

# Each label with the labels of which it is the parent.
CHILDREN = {
  'calcified densities': (
    'calcified granuloma',
    'calcified adenopathy',
    'calcified pleural thickening',
    'calcified pleural plaques',
    'heart valve calcified',
    'calcified fibroadenoma',
  ),
  'calcified adenopathy': ('calcified mediastinal adenopathy',),
  'granuloma': ('calcified granuloma',),
  'adenopathy': ('calcified adenopathy',),
  'nodule': ('multiple nodules',),
  'pseudonodule': ('nipple shadow', 'end on vessel'),
  'pneumothorax': ('hydropneumothorax',),
  'infiltrates': ('interstitial pattern', 'alveolar pattern'),
  'interstitial pattern': (
    'ground glass pattern',
    'reticular interstitial pattern',
    'reticulonodular interstitial pattern',
    'miliary opacities',
  ),
  'alveolar pattern': ('consolidation', 'air bronchogram'),
  'consolidation': ('air bronchogram',),
  'atelectasis': (
    'total atelectasis',
    'lobar atelectasis',
    'segmental atelectasis',
    'laminar atelectasis',
    'round atelectasis',
    'atelectasis basal',
  ),
  'fissure thickening': (
    'minor fissure thickening',
    'major fissure thickening',
    'loculated fissural effusion',
  ),
  'pleural thickening': (
    'apical pleural thickening',
    'calcified pleural thickening',
  ),
  'pleural plaques': ('calcified pleural plaques',),
  'pleural effusion': (
    'loculated pleural effusion',
    'loculated fissural effusion',
    'hydropneumothorax',
    'empyema',
    'hemothorax',
  ),
  'vascular redistribution': ('central vascular redistribution',),
  'hilar enlargement': ('adenopathy', 'vascular hilar enlargement'),
  'vascular hilar enlargement': ('pulmonary artery enlargement',),
  'aortic elongation': (
    'descendent aortic elongation',
    'ascendent aortic elongation',
    'aortic button enlargement',
    'supra aortic elongation',
  ),
  'mediastinal enlargement': (
    'superior mediastinal enlargement',
    'descendent aortic elongation',
    'ascendent aortic elongation',
    'aortic aneurysm',
    'mediastinal mass',
    'hiatal hernia',
  ),
  'superior mediastinal enlargement': ('goiter', 'supra aortic elongation'),
  'mass': (
    'mediastinal mass',
    'breast mass',
    'pleural mass',
    'pulmonary mass',
    'soft tissue mass',
  ),
  'thoracic cage deformation': (
    'scoliosis',
    'kyphosis',
    'pectum excavatum',
    'pectum carinatum',
    'cervical rib',
  ),
  'vertebral degenerative changes': ('vertebral compression',),
  'vertebral compression': ('vertebral anterior compression',),
  'sclerotic bone lesion': ('blastic bone lesion',),
  'fracture': (
    'clavicle fracture',
    'humeral fracture',
    'vertebral fracture',
    'rib fracture',
  ),
  'rib fracture': ('callus rib fracture',),
  'catheter': ('central venous catheter',),
  'central venous catheter': (
    'central venous catheter via subclavian vein',
    'central venous catheter via jugular vein',
    'reservoir central venous catheter',
    'central venous catheter via umbilical vein',
  ),
  'electrical device': (
    'dual chamber device',
    'single chamber device',
    'pacemaker',
    'dai',
  ),
  'artificial heart valve': (
    'artificial mitral heart valve',
    'artificial aortic heart valve',
  ),
  'surgery': (
    'metal',
    'bone cement',
    'prosthesis',
    'surgery breast',
    'surgery neck',
    'surgery lung',
    'surgery heart',
    'surgery humeral',
  ),
  'metal': ('osteosynthesis material', 'sternotomy', 'suture material'),
  'prosthesis': ('humeral prosthesis', 'mammary prosthesis', 'endoprosthesis'),
  'endoprosthesis': ('aortic endoprosthesis',),
  'surgery breast': ('mastectomy',),
  'pneumonia': ('atypical pneumonia',),
  'atypical pneumonia': ('viral pneumonia',),
  'tuberculosis': ('tuberculosis sequelae',),
  'pulmonary fibrosis': ('post radiotherapy changes', 'asbestosis signs'),
  'pulmonary hypertension': (
    'pulmonary artery hypertension',
    'pulmonary venous hypertension',
  ),
}
# Labels that name no finding.
_EXCLUDE, _UNCHANGED = 'exclude', 'unchanged'
_NO_FINDINGS = ('normal', _UNCHANGED, 'suboptimal study')
_VIEWS = {'PA': 'PA', 'AP': 'AP', 'AP_HORIZONTAL': 'AP'}
_LEAST_SHARE, _LEAST_FILMS = 1 / 200, 5
_MAX_AGE = 120
_TABLES = (
  'PADCHEST_chest_x_ray_images_labels_160K*.csv',
  'PADCHEST_chest_x_ray_images_labels_160K*.csv.gz',
)


def tables(folder: pathlib.Path) -> list[pathlib.Path]:
  """The table of labels.

  Raises:
    FileNotFoundError: it is not there.
  """
  where = list(places.below(folder, 1)) if folder.is_dir() else []
  return [places.require(folder, where, _TABLES, 'PadChest')]


@functools.cache
def with_parents(label: str) -> frozenset[str]:
  """A label, and all labels above it in the tree.

  Examples:
    >>> sorted(with_parents('air bronchogram'))
    ['air bronchogram', 'alveolar pattern', 'consolidation', 'infiltrates']
  """
  found = {label}
  for parent, children in CHILDREN.items():
    if label in children:
      found |= with_parents(parent)
  return frozenset(found)


@functools.lru_cache(maxsize=100_000)
def parse_labels(text: str) -> frozenset[str]:
  """The labels of a cell, with all above them in the tree.

  Examples:
    >>> sorted(parse_labels("['laminar atelectasis', ' pacemaker']"))
    ['atelectasis', 'electrical device', 'laminar atelectasis', 'pacemaker']

  Raises:
    ValueError: the cell holds no list of texts.
  """
  try:
    labels = ast.literal_eval(text)
    names = [findings.tidy(label) for label in labels]
  except (ValueError, TypeError, SyntaxError, AttributeError) as e:
    raise ValueError(
      f"{text[:120]!r} is no list of labels such as ['cardiomegaly']."
    ) from e
  if not isinstance(labels, list):
    raise ValueError(
      f"{text[:120]!r} is no list of labels such as ['cardiomegaly']."
    )
  return frozenset().union(*(with_parents(name) for name in names if name))


class _Film(NamedTuple):
  """A film before the findings are chosen; its label is still to come."""

  row: FilmRow
  names: frozenset[str]  # of labels


def read(
  folder: pathlib.Path, options: film_table.Options = film_table.Options()
) -> FilmTable:
  """All frontal films with labels.

  Raises:
    FileNotFoundError: the table is not there.
    ValueError: the table is malformed, no film can be used, or no finding has
      enough films.
  """
  (path,) = tables(folder)
  known = synonyms.read(options.synonyms)
  standard = functools.cache(lambda name: findings.standard(name, known))
  films, left_out = _read_films(folder, path)
  if not films:
    raise ValueError(
      f'{path} names no frontal film with labels'
      + (f' ({film_table.counts(left_out)}).' if left_out else '.')
    )
  count = Counter(
    name for film in films for name in {standard(label) for label in film.names}
  )
  if options.findings:
    every = [name for name, _ in count.most_common()]
    chosen = tuple(
      every[findings.index_of(name, every, known)] for name in options.findings
    )
  else:
    chosen = _frequent(path, count, len(films))
  labels = functools.cache(
    lambda names: _label({standard(name) for name in names}, names, chosen)
  )
  return FilmTable(
    findings=chosen,
    films=[film.row._replace(label=labels(film.names)) for film in films],
    left_out=left_out,
  )


def _label(
  labelled: set[str], names: frozenset[str], chosen: tuple[str, ...]
) -> tuple[float, ...]:
  otherwise = math.nan if _UNCHANGED in names else 0.0
  return tuple(1.0 if name in labelled else otherwise for name in chosen)


def _frequent(
  path: pathlib.Path, count: Mapping[str, int], num_films: int
) -> tuple[str, ...]:
  """The findings of enough films, the most frequent ones first.

  Raises:
    ValueError: there is none.
  """
  none = {findings.standard(name) for name in _NO_FINDINGS}
  least = max(_LEAST_FILMS, math.ceil(num_films * _LEAST_SHARE))
  named = [
    name
    for name in sorted(count, key=lambda name: (-count[name], name))
    if name not in none
  ]
  chosen = tuple(name for name in named if count[name] >= least)
  if not chosen:
    raise ValueError(
      f'{path} has no finding of {least} films or more, of {num_films} frontal '
      'ones with labels; name those to use in --config.data.findings, such as '
      f'{", ".join(named[:5]) or "none, for all are normal"}.'
    )
  return chosen


def _read_films(
  folder: pathlib.Path, path: pathlib.Path
) -> tuple[list[_Film], list[LeftOut]]:
  columns = {
    'image': ('ImageID',),
    'folder': ('ImageDir',),
    'date': ('StudyDate_DICOM', 'StudyDate'),
    'patient': ('PatientID',),
    'birth': ('PatientBirth',),
    'sex': ('PatientSex_DICOM', 'PatientSex'),
    'view': ('Projection',),
    'labels': ('Labels',),
  }
  there = places.films(folder, depth=2)
  films, left_out, seen = [], [], set()
  for line, row in csv_tables.read_table(
    path, columns, optional={'folder', 'date', 'birth', 'sex'}
  ):
    where = f'{path.name}, line {line}'
    stem = pathlib.PurePosixPath(row['image']).stem
    number = row['folder'].removesuffix('.0')
    image = there.get(stem, f'{number}/{row["image"]}'.lstrip('/'))
    if not stem or not row['patient']:
      raise ValueError(
        f'{path}, line {line}: a row needs ImageID and PatientID, and has '
        f'{row["image"]!r} and {row["patient"]!r}.'
      )
    view = _VIEWS.get(row['view'].upper(), '')
    if stem in seen:
      left_out.append(LeftOut(image, 'row given twice', where))
    elif not view:
      lateral = row['view'].upper() in ('L', 'LATERAL')
      reason = film_table.LATERAL if lateral else film_table.OTHER_VIEW
      detail = f'{row["view"] or "not said"}, {where}'
      left_out.append(LeftOut(image, reason, detail))
    elif cells.is_blank(row['labels']):
      left_out.append(LeftOut(image, 'no labels', where))
    else:
      try:
        names = parse_labels(row['labels'])
      except ValueError as e:
        raise ValueError(f'{path}, line {line}, {row["image"]}: {e}') from e
      if _EXCLUDE in names or not names:
        left_out.append(LeftOut(image, 'label exclude, or none', where))
      else:
        film = FilmRow(
          image=image,
          patient=row['patient'],
          label=(),
          view=view,
          age=_age(row['date'], row['birth']),
          sex=cells.sex(row['sex']),
          where=where,
        )
        films.append(_Film(film, names))
    seen.add(stem)
  return films, left_out


def _age(date: str, birth: str) -> float:
  """Years, from a date such as 20140915 and a year such as 1930.0."""
  age = csv_tables.number(date[:4]) - csv_tables.number(birth)
  return age if 0 <= age <= _MAX_AGE else math.nan
