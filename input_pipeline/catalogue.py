"""The films of a folder by split: who learns, who validates, who is tested.

A layout (see sources) says what a folder's tables hold. Here its films are
divided by patient. What contradicts itself stops with a ValueError, and a film
that is not there is left out and counted.
"""

import hashlib
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from input_pipeline import findings, synonyms
from input_pipeline.sources import by_name, film_table, search
from input_pipeline.sources.film_table import (
  SPLITS,
  UNCERTAIN,
  FilmRow,
  FilmTable,
  LeftOut,
  Options,
)

# What an uncertain label becomes: CheXpert's U-Ignore, U-Ones and U-Zeros.
UNCERTAIN_AS = {'unknown': math.nan, 'positive': 1.0, 'negative': 0.0}
# And a label that is not given: of a finding that a report does not mention.
UNMENTIONED_AS = {'unknown': math.nan, 'negative': 0.0}


class Catalogue(NamedTuple):
  """The films of a folder by split, in the order of their names.

  Every film has its files in `paths`, and no label is uncertain any more.
  """

  films: Mapping[str, Sequence[FilmRow]]
  renditions: tuple[str, ...]  # that the test films have beside the film itself
  left_out: Sequence[LeftOut]
  findings: tuple[str, ...]
  boxed: tuple[str, ...]  # the findings that have regions
  readers: tuple[str, ...]

  def split_renditions(self) -> dict[str, list[str]]:
    """For each split of films the prepared splits that show it."""
    shown = {split: [split] for split, films in self.films.items() if films}
    if 'test' in shown:
      shown['test'] += [
        f'test_{name.removeprefix("images_")}' for name in self.renditions
      ]
    return shown


def is_chosen(patient: str, *, fraction: float, seed: int | str) -> bool:
  """Whether a patient is in the share that a hash chooses.

  It is one of the patient's name alone, so that the choice depends neither on
  the order of files nor on which films are present.
  """
  digest = hashlib.sha256(f'{seed}:{patient}'.encode()).digest()
  return int.from_bytes(digest[:8], 'big') < fraction * 2**64


def read(folder: str | os.PathLike, options: Options) -> Catalogue:
  """Reads the tables of `folder` and divides its films.

  Raises:
    FileNotFoundError: the folder or one of its tables is absent.
    ValueError: an option is out of range, a table is malformed or contradicts
      itself, or none of its films is there.
  """
  folder = pathlib.Path(folder)
  check(options)
  table = by_name.find(options.source).read(folder, options)
  if options.findings:
    table = select(table, options)
  table = table._replace(films=_divided(table.films, options))
  _check_patients(folder, table.films)
  table = _present(folder, table)
  films = {split: [] for split in SPLITS}
  for film in sorted(table.films, key=lambda film: film.image):
    films[film.split].append(_certain(film, options))
  return Catalogue(
    films,
    table.renditions,
    table.left_out,
    table.findings,
    table.boxed,
    table.readers,
  )


def check(options: Options) -> None:
  """Raises ValueError where an option is out of range."""
  if not 0 <= options.validation_fraction < 1:
    raise ValueError(
      f'validation_fraction ({options.validation_fraction}) must be in [0, 1).'
    )
  if not 0 <= options.test_fraction <= 1:
    raise ValueError(
      f'test_fraction ({options.test_fraction}) must be in [0, 1].'
    )
  for name, choices in (
    ('uncertain', UNCERTAIN_AS),
    ('unmentioned', UNMENTIONED_AS),
  ):
    if getattr(options, name) not in choices:
      raise ValueError(
        f'{name} ({getattr(options, name)!r}) must be one of '
        f'{", ".join(choices)}.'
      )


def select(table: FilmTable, options: Options) -> FilmTable:
  """The table with the findings that `options` names, in that order.

  Raises:
    ValueError: the table has not one of them, or one is named twice.
  """
  known = synonyms.read(options.synonyms)
  index = [
    findings.index_of(name, table.findings, known) for name in options.findings
  ]
  if len(set(index)) < len(index):
    raise ValueError(
      f'config.data.findings ({", ".join(options.findings)}) names a finding '
      'twice; name each once.'
    )
  place = {old: new for new, old in enumerate(index)}

  def chosen(film):
    return film._replace(
      label=tuple(film.label[k] for k in index),
      readers=tuple(tuple(label[k] for k in index) for label in film.readers),
      boxes=tuple(
        box._replace(finding=place[box.finding])
        for box in film.boxes
        if box.finding in place
      ),
      masks=tuple(
        mask._replace(finding=place[mask.finding])
        for mask in film.masks
        if mask.finding in place
      ),
    )

  boxed = {table.findings.index(name) for name in table.boxed}
  return table._replace(
    findings=options.findings,
    boxed=tuple(
      options.findings[new] for old, new in place.items() if old in boxed
    ),
    films=[chosen(film) for film in table.films],
  )


def _divided(films: Sequence[FilmRow], options: Options) -> list[FilmRow]:
  """The films, each with its split.

  Patients without one are divided by a hash of their names. Where there are
  training films and none of validation, patients are taken from training.
  """
  named = {film.split for film in films} - {''}

  def split(film):
    name = film.split
    if not name:
      # Another hash than that of validation, of which it must not depend.
      tested = is_chosen(
        film.patient,
        fraction=options.test_fraction,
        seed=f'test {options.seed}',
      )
      name = 'test' if tested else 'train'
    if name == 'train' and 'validation' not in named:
      held_out = is_chosen(
        film.patient, fraction=options.validation_fraction, seed=options.seed
      )
      name = 'validation' if held_out else 'train'
    return name

  return [film._replace(split=split(film)) for film in films]


def _check_patients(folder: pathlib.Path, films: Sequence[FilmRow]) -> None:
  """Raises ValueError where a patient is in two splits."""
  first = {}
  for film in films:
    other = first.setdefault(film.patient, film)
    if other.split != film.split:
      raise ValueError(
        f'{folder / film.where}: patient {film.patient!r} is in the split '
        f'{film.split!r} here and in {other.split!r} in {other.where}; the '
        'films of a patient belong into one split, else the test would be seen '
        'in training.'
      )


def _present(folder: pathlib.Path, table: FilmTable) -> FilmTable:
  """The table with the films that are there, each with its files.

  Raises:
    ValueError: none is.
  """
  films, left_out = [], [*table.left_out]
  for film in table.films:
    paths = film.paths or (os.path.abspath(folder / film.image),)
    if all(map(os.path.isfile, paths)):
      films.append(film._replace(paths=paths))
      continue
    left_out.append(LeftOut(film.image, 'absent', film.where))
    left_out += [
      LeftOut(film.image, film_table.LOST_BOX, table.findings[box.finding])
      for box in (*film.boxes, *film.masks)
    ]
  if not films:
    if len(left_out) > len(table.left_out):
      other = search.elsewhere(folder, ())
      absent = next(iter(table.films))
      raise ValueError(
        f'None of the {len(table.films)} films of {folder} is there: looked '
        f'for files such as {folder / absent.image} ({absent.where}), and '
        f'found instead: {other or "no picture at all"}.'
      )
    raise ValueError(
      f'{folder} names no film that can be used'
      + (f' ({film_table.counts(left_out)}).' if left_out else '.')
    )
  return table._replace(films=films, left_out=left_out)


def _certain(film: FilmRow, options: Options) -> FilmRow:
  """The film with what `options` makes of labels that are not 1 or 0.

  What a reader does not say stays unknown.
  """
  uncertain = UNCERTAIN_AS[options.uncertain]
  unmentioned = UNMENTIONED_AS[options.unmentioned]

  def resolve(label):
    if UNCERTAIN not in label:
      return label
    return tuple(uncertain if x == UNCERTAIN else x for x in label)

  label = film.label
  if not math.isnan(unmentioned):
    label = tuple(unmentioned if math.isnan(x) else x for x in label)
  return film._replace(
    label=resolve(label), readers=tuple(map(resolve, film.readers))
  )
