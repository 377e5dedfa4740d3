"""What a folder says of its films: the form that every layout is turned into.

A layout is a module with two functions:

* `tables(folder: pathlib.Path) -> list[pathlib.Path]`: the files that `read`
  reads, but for films and masks, and folders of masks. A prepared set is made
  anew where one of them changes. Raises FileNotFoundError where one that it
  needs is absent.
* `read(folder: pathlib.Path, options: Options) -> FilmTable`.

What contradicts itself stops the reading with a ValueError: one sentence with
file, line, value, rule and way out. What merely cannot be used, such as a film
that is absent or a box of no size, is left out and counted by its reason.

Labels are 1 (the finding is there), 0 (it is not), NaN (nobody says) and
`UNCERTAIN`; config.data.uncertain says what the last becomes. Boxes are
(ymin, xmin, ymax, xmax), half-open.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

UNCERTAIN = -1.0
SPLITS = ('train', 'validation', 'test')
# Reasons to leave something out.
LOST_BOX = 'box of a film left out'
LATERAL = 'lateral film'
OTHER_VIEW = 'view neither PA nor AP'


class Options(NamedTuple):
  """What a config says of how a folder is read, in its section `data`."""

  source: str = 'nih'  # the layout
  # The names to use, in this order; (): all that the folder names.
  findings: tuple[str, ...] = ()
  synonyms: str = ''  # a csv file that extends the table of synonyms
  uncertain: str = 'unknown'  # what uncertain labels become
  unmentioned: str = 'unknown'  # what labels become of which nobody speaks
  # Shares of patients: of all, where the tables name no split, and of those
  # of training, where they name no validation film.
  test_fraction: float = 0.2
  validation_fraction: float = 0.1
  seed: int = 0  # of the choice of these patients


class LeftOut(NamedTuple):
  """What of a film could not be used, and why."""

  name: str
  reason: str  # the same text for all that are counted together
  detail: str = ''


class Box(NamedTuple):
  """A true region, as a rectangle."""

  finding: int  # index into FilmTable.findings
  # In pixels of a film of FilmRow.frame, and so of the film itself where
  # frame is None.
  box: tuple[float, float, float, float]
  where: str = ''  # 'boxes.csv, line 7'


class Mask(NamedTuple):
  """A true region, pixel by pixel: of a PNG, or run-length encoded."""

  finding: int  # index into FilmTable.findings
  path: str = ''  # of a PNG: what is not black belongs to the region
  counts: str = ''  # COCO's compressed run lengths, as CheXlocalize has them
  size: tuple[int, int] = (0, 0)  # height and width that `counts` is of


class FilmRow(NamedTuple):
  """One film, as the tables have it."""

  image: str  # the film's name in every table: a path relative to the folder
  patient: str
  label: tuple[float, ...]  # one for each of FilmTable.findings
  split: str = ''  # one of SPLITS; '' where the tables do not say
  view: str = ''  # 'PA', 'AP' or ''
  age: float = math.nan  # years
  sex: str = ''  # 'M', 'F' or ''
  boxes: tuple[Box, ...] = ()  # any number of one finding
  masks: tuple[Mask, ...] = ()
  # For each of FilmTable.readers the labels, NaN where the reader does not
  # say; () where no reader read the film.
  readers: tuple[tuple[float, ...], ...] = ()
  # Height and width of the film that boxes are measured on, where it is not
  # the film itself.
  frame: tuple[int, int] | None = None
  # The film, and for a phantom its renditions; () is the file `image`.
  paths: tuple[str, ...] = ()
  where: str = ''  # 'films.csv, line 7': where a sentence sends its reader


class FilmTable(NamedTuple):
  """All films that a folder's tables name."""

  findings: tuple[str, ...]
  films: Sequence[FilmRow]
  # The findings whose regions are given, in the order of `findings`.
  boxed: tuple[str, ...] = ()
  readers: tuple[str, ...] = ()
  left_out: Sequence[LeftOut] = ()
  # Folders of a phantom's renditions, beside the films themselves.
  renditions: tuple[str, ...] = ()


def counts(left_out: Sequence[LeftOut]) -> str:
  """How often each reason is there, e.g. '3 absent, 1 undecodable'."""
  reasons = Counter(row.reason for row in left_out)
  return ', '.join(f'{n} {reason}' for reason, n in sorted(reasons.items()))
