"""Runs of different findings, maps or attacked films, on what all have.

A comparison or a study needs rows that stand for the same in every run. Where
the runs' findings differ, maps from elsewhere may be missing, or other films
were attacked or measured, `find` says what is shared, `read` cuts a run's
tables to it, and `told` says so to the reader.
"""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cxr import files, stored_rows
from cxr.estimates import run_tables
from cxr.localization import overlap
from cxr.measures import measure_table
from cxr.reporting import part_maps, wording
from input_pipeline import findings as findings_lib


class Common(NamedTuple):
  """What runs of different findings, or of missing maps, have in common."""

  findings: tuple[str, ...]  # named as in the first run
  apart: tuple[tuple[str, ...], ...]  # of each run those that others lack
  maps: frozenset[tuple]  # `_map_keys` of the rows of boxes.csv in every run
  # Measure -> its findings in every run, where it is of the same films in all.
  measured: Mapping[tuple[str, str, str], tuple[str, ...]]
  # Of each run the films and findings of its maps that others lack.
  maps_apart: tuple[int, ...] = ()
  # The test films that every run predicts; None: they are the same in all.
  films: frozenset[str] | None = None
  # What every run has, and not of the same films: attacks, measures.
  other_films: tuple[stored_rows.Condition | tuple[str, str, str], ...] = ()


def find(workdirs: Sequence[str]) -> Common | None:
  """What the runs have in common; None where all have the same findings and the
  same films of every attack and measure, and every run its own maps.

  Names are matched by their meaning. Of boxes.csv the films stay that have a
  true box of a shared finding, and of another patient's maps the draws that
  every run has. A measure that was taken of other films is left out, and so is
  an attack.

  Raises:
    ValueError: the runs share no finding.
  """
  path = lambda workdir, name: os.path.join(workdir, name)
  tables = [
    stored_rows.read_predictions(path(w, 'predictions.csv')) for w in workdirs
  ]
  named = [names for names, _ in tables]
  first = named[0]
  matches = [findings_lib.match(first, names) for names in named]
  of_first = set.intersection(*({i for i, _ in m.pairs} for m in matches))
  if not of_first and any(names != first for names in named):
    of_runs = '; '.join(
      f'{", ".join(n)} ({w})' for n, w in zip(named, workdirs, strict=True)
    )
    raise ValueError(
      f'The runs share no finding: {of_runs}. Compare runs that do.'
    )
  findings = tuple(first[i] for i in sorted(of_first))
  # Films that are attacked on a finding alone hang on the findings.
  attacked = [
    {
      condition: _predictions_of(
        condition, block, [j for i, j in match.pairs if i in of_first]
      )
      for condition, block in blocks.items()
    }
    for match, (_, blocks) in zip(matches, tables, strict=True)
  ]
  measured = [
    {m.key: m for m in measure_table.read(path(w, 'measures.csv'))}
    for w in workdirs
  ]
  other_films = (*_of_other_films(attacked), *_of_other_films(measured))
  alike = all(names == first for names in named)
  if alike and not other_films and not any(map(_is_maps, workdirs)):
    return None
  apart = [
    tuple(
      name
      for j, name in enumerate(names)
      if j not in {theirs for i, theirs in match.pairs if i in of_first}
    )
    for names, match in zip(named, matches, strict=True)
  ]
  maps = []
  for workdir in workdirs:
    boxes = stored_rows.read_boxes(path(workdir, 'boxes.csv'))
    maps.append(frozenset(_map_keys(_boxes_of(boxes, findings))))
  in_all = frozenset.intersection(*maps)
  pairs = {key[:2] for key in in_all}
  return Common(
    findings,
    tuple(apart),
    in_all,
    _shared_measures(measured, findings),
    tuple(len({key[:2] for key in of_run} - pairs) for of_run in maps),
    _shared_films([blocks for _, blocks in tables]),
    other_films,
  )


def _is_maps(workdir: str) -> bool:
  """Whether it holds the scores of maps from elsewhere."""
  path = os.path.join(workdir, 'metrics.json')
  return os.path.exists(path) and bool(part_maps.given(files.read_json(path)))


def _of_other_films(by_run: Sequence[Mapping]) -> tuple:
  """The keys that all runs have, and not of the same films.

  Films as they are, without an attack, are no choice of an evaluation: where
  they differ, the runs have other data.
  """
  return tuple(
    key
    for key in by_run[0]
    if getattr(key, 'attack', '') != stored_rows.CLEAN
    and all(key in run for run in by_run)
    and len({frozenset(run[key].image.tolist()) for run in by_run}) > 1
  )


def _shared_films(
  by_run: Sequence[Mapping[stored_rows.Condition, stored_rows.Predictions]],
) -> frozenset[str] | None:
  """The test films that all of the tables have; None where none lacks any.

  A table without test films has no predictions at all, and is not asked.
  """
  test = stored_rows.Condition('test')
  films = [
    frozenset(blocks[test].image.tolist())
    for blocks in by_run
    if test in blocks
  ]
  if len(set(films)) < 2:
    return None
  return frozenset.intersection(*films)


def _shared_measures(
  by_run: Sequence[Mapping[tuple, measure_table.Measure]],
  findings: Sequence[str],
) -> dict[tuple, tuple[str, ...]]:
  result = {}
  for key in by_run[0]:
    if not all(key in run for run in by_run):
      continue
    of_key = [run[key] for run in by_run]
    films = {frozenset(m.image.tolist()) for m in of_key}
    named = [m.findings for m in of_key]
    if all(names != ('',) for names in named):
      in_all = set.intersection(
        *(set(_names_of(names, findings).values()) for names in named)
      )
      named = [tuple(name for name in findings if name in in_all)]
    if len(films) == 1 and len(set(named)) == 1 and named[0]:
      result[key] = named[0]
  return result


def told(common: Common | None, names: Sequence[str]) -> list[str]:
  """Sentences on what the runs do not share.

  Args:
    common: of `find`.
    names: of the runs, in the same order.
  """
  if common is None:
    return []
  lacking = [
    f'{count:,} ({name})'
    for count, name in zip(common.maps_apart, names, strict=True)
    if count
  ]
  sentences = []
  if lacking:
    sentences = [
      'Not every run has a map of every film and finding. Compared are those '
      'that all have; left out are films and findings that another run lacks: '
      f'{", ".join(lacking)}.'
    ]
  if common.films is not None:
    sentences.append(
      'Not every run has predictions of every test film: classification is '
      f'compared on {len(common.films):,} films that all have.'
    )
  if common.other_films:
    sentences.append(
      'The runs attacked or measured other films, so these are left out: '
      f'{", ".join(map(_spelled, common.other_films))}.'
    )
  apart = [
    f'{", ".join(findings)} ({name})'
    for findings, name in zip(common.apart, names, strict=True)
    if findings
  ]
  if not apart:
    return sentences  # other spellings or another order of the same
  return [
    *sentences,
    'The runs know different findings. Compared are those that all know: '
    f'{", ".join(common.findings)}. Left out: {"; ".join(apart)}. A mean over '
    'findings is over the shared ones, and differs by this from that of the '
    "run's own page; curves are over each run's own findings.",
  ]


def _spelled(key: stored_rows.Condition | tuple[str, str, str]) -> str:
  if isinstance(key, stored_rows.Condition):
    return f'{key.attack} at epsilon {key.epsilon:g} ({key.split})'
  return ' '.join(filter(None, key))


def _map_keys(boxes: stored_rows.Boxes) -> list[tuple]:
  """Of each row its film, finding, method, rule and draw."""
  columns = boxes.image, boxes.finding, boxes.method, boxes.rule, boxes.draw
  return list(zip(*(column.tolist() for column in columns), strict=True))


def _names_of(names: Sequence[str], findings: Sequence[str]) -> dict[str, str]:
  """Which of `names` is which of `findings`."""
  pairs = findings_lib.match(findings, names).pairs
  return {names[theirs]: findings[ours] for ours, theirs in pairs}


def _boxes_of(
  boxes: stored_rows.Boxes, findings: Sequence[str]
) -> stored_rows.Boxes:
  """The rows of these findings, under these names, and of the films that have
  a true box of one of them."""
  name_of = _names_of(list(dict.fromkeys(boxes.finding.tolist())), findings)
  boxes = boxes.rows(np.flatnonzero(np.isin(boxes.finding, [*name_of])))
  boxed = boxes.image[overlap.has_box(boxes.truth)]
  boxes = boxes.rows(np.flatnonzero(np.isin(boxes.image, boxed)))
  renamed = [name_of[name] for name in boxes.finding.tolist()]
  return boxes._replace(finding=np.array(renamed, np.str_))


def _predictions_of(
  condition: stored_rows.Condition,
  block: stored_rows.Predictions,
  column: Sequence[int],
  films: frozenset[str] | None = None,
) -> stored_rows.Predictions:
  """The block cut to these findings. Where every finding is attacked alone, a
  film that was attacked on none of them is no row of theirs."""
  label, logit = block.label[:, column], block.logit[:, column]
  block = block._replace(label=label, logit=logit)
  if films is not None and condition.split == 'test':
    shared = np.isin(block.image, list(films))
    block = stored_rows.Predictions(*(values[shared] for values in block))
    label = block.label
  if not wording.is_alone(condition.attack):
    return block
  attacked = ~np.isnan(label).all(axis=1)
  return stored_rows.Predictions(*(values[attacked] for values in block))


def read(workdir: str, common: Common | None) -> run_tables.Tables:
  """The tables of a run, cut to what all runs have.

  Raises:
    FileNotFoundError, ValueError: as `run_tables.read`.
  """
  tables = run_tables.read(workdir)
  if common is None:
    return tables
  findings = common.findings
  column = [
    old for _, old in findings_lib.match(findings, tables.findings).pairs
  ]
  boxes = _boxes_of(tables.boxes, findings)
  kept = [key in common.maps for key in _map_keys(boxes)]
  measured = []
  for m in tables.measures:
    names = common.measured.get(m.key, ())
    if names and names != ('',):
      pairs = findings_lib.match(names, m.findings).pairs
      m = m._replace(value=m.value[:, [k for _, k in pairs]], findings=names)
    if names:
      measured.append(m)
  return run_tables.Tables(
    findings,
    {
      condition: _predictions_of(condition, block, column, common.films)
      for condition, block in tables.predictions.items()
      if condition not in common.other_films
    },
    boxes.rows(np.flatnonzero(kept)),
    measured,
    tables.readings.of_findings(findings, column)
    if tables.readings
    else tables.readings,
  )
