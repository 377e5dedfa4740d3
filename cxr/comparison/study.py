"""--mode=study: runs that differ in their seed alone are one group.

A group's estimate is the mean of its runs'. Two things are left to chance, the
patients who are tested and the seed that a network grew from; an interval
covers both, by `intervals.over_seeds`. Few seeds say little of the spread
between seeds, so every run's own value stands beside it.

Groups after the first are compared with it, each run on the same patients in
the same resample. The first is that of the first workdir.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from cxr import files, run_files, stored_rows
from cxr.comparison import common_findings, repeatability, runs
from cxr.estimates import (
  box_estimates,
  ranking_estimates,
  reader_estimates,
  summary,
)
from cxr.measures import measure_table
from cxr.reporting import part_study, plots
from cxr.statistics import intervals, rankings, ratios


class Result(NamedTuple):
  """A run's values of one kind, with what makes their intervals."""

  names: tuple[str, ...]  # 'mean' and findings
  films: str  # a hash of the films and their labels or true boxes
  sampled: intervals.Sampled
  counts: Sequence[Mapping]  # those of intervals.estimates
  scale: intervals.Scale


def study(
  workdirs: Sequence[str],
  output: str = '',
  *,
  seed: int = 0,
) -> str:
  """Writes study.json, study.md and study.png; returns their folder.

  Args:
    workdirs: evaluated runs; a name with *, ? or [ stands for what it matches.
    output: the folder; default `study` beside the first run.

  Raises:
    ValueError: fewer than two runs, runs that were tested on other films, or
      runs of a group that are no repetitions: see `check_replicates`.
    FileNotFoundError: a run that has no results, a pattern that matches none.
  """
  workdirs = runs.find(workdirs)
  if len(workdirs) < 2:
    raise ValueError(
      f'--mode=study needs two runs or more ({len(workdirs)} given): '
      "--workdirs='runs/baseline_*,runs/robust_*'."
    )
  opened = [runs.read(workdir) for workdir in workdirs]
  runs.check_same_test_films(opened)
  groups = group(opened)
  check_replicates(opened, groups)
  settings = runs.differing_settings(opened)
  names = runs.distinct_names(workdirs)
  options = {'num_resamples': runs.num_resamples(opened), 'seed': seed}
  common = common_findings.find(workdirs)
  sampled = {}
  for workdir in workdirs:
    logging.info('Reading %s', workdir)
    sampled[workdir] = sample(workdir, common, **options)
  result = {
    'groups': [
      {
        'name': name,
        'runs': [run.workdir for run in of_group],
        'seeds': [run.seed for run in of_group],
      }
      for name, of_group in groups.items()
    ],
    'settings': settings,
    'warnings': [
      *runs.told(settings, names),
      *common_findings.told(common, names),
      *runs.told_of_maps(opened, names),
    ],
    'made_with': [_made_with(run) for run in opened],
    'figures': estimates(
      [
        [sampled[run.workdir] for run in of_group]
        for of_group in groups.values()
      ]
    ),
    'repeatability': repeatability.estimates(
      {
        name: [run.workdir for run in of_group]
        for name, of_group in groups.items()
      },
      **options,
    ),
  }
  for warning in result['warnings']:
    logging.warning('%s', warning)
  first = os.path.dirname(os.path.normpath(workdirs[0]))
  output = output or os.path.join(first, 'study')
  os.makedirs(output, exist_ok=True)
  files.write_json(os.path.join(output, 'study.json'), result, indent=1)
  text = part_study.markdown(result)
  path = os.path.join(output, 'study.md')
  files.replace_file(path, lambda f: f.write(text))
  panels = part_study.panels(result)
  if panels:
    figure = plots.small_multiples(
      panels, [g['name'] for g in result['groups']]
    )
    plots.save(figure, os.path.join(output, 'study.png'))
  logging.info('Done: %s', path)
  return output


def group(opened: Sequence[runs.Run]) -> dict[str, list[runs.Run]]:
  """name -> runs that were trained alike, on the same films, but for the seed.

  A group has the name of its config; where several have one, the fields in
  which these differ follow it.
  """
  groups, fields_of = {}, {}
  for run in opened:
    fields = {
      name: value
      for name, value in run.config.items()
      if name not in ('seed', 'preset')
      and not name.startswith(run_files.FREE_FIELDS)
    }
    key = json.dumps([fields, run.trained_on], sort_keys=True, default=str)
    groups.setdefault(key, []).append(run)
    films = 'unknown'  # where the weights come from elsewhere
    if run.trained_on:
      films = f'{run.trained_films} ({run.trained_on[:6]})'
    fields_of[key] = fields | {'trained films': films}
  named = {}
  for key, of_group in groups.items():
    fields = fields_of[key]
    alike = [f for f in fields_of.values() if f['name'] == fields['name']]
    differing = [
      f'{name.rpartition(".")[2]} {_spelled(value)}'
      for name, value in fields.items()
      if any(other.get(name) != value for other in alike)
    ]
    named[' '.join([fields['name'], ', '.join(differing)]).strip()] = of_group
  return named


def check_replicates(
  opened: Sequence[runs.Run], groups: Mapping[str, Sequence[runs.Run]]
) -> None:
  """Refuses runs that are no independent repetitions of a training.

  Raises:
    ValueError: one training named twice (a copy of its folder), a group with
      one seed twice, or one that was evaluated in several ways.
  """
  twice = runs.same_weights(opened)
  if twice:
    raise ValueError(
      f'{twice[0].workdir} and {twice[1].workdir} hold the same weights: one '
      'training is named more than once, and a study counts each once.'
    )
  for name, of_group in groups.items():
    seeds = [run.seed for run in of_group]
    for seed in seeds:
      if seeds.count(seed) > 1:
        same = [run.workdir for run in of_group if run.seed == seed]
        raise ValueError(
          f'{" and ".join(same)} are the same training with the same seed '
          f'({seed}); name one of them: runs of a group ({name}) differ in '
          'their seed.'
        )
    settings = runs.differing_settings(of_group)
    if settings and all(run.recorded for run in of_group):
      workdirs = [run.workdir for run in of_group]
      raise ValueError(
        f'The runs of a group ({name}) must be evaluated alike. '
        + ' '.join(runs.told(settings, workdirs))
      )


def _spelled(value) -> str:
  return f'{value:g}' if isinstance(value, float) else str(value)


def _made_with(run: runs.Run) -> dict:
  """What the reader of an estimate needs to find the run again."""
  data = run_files.read(run.workdir, 'data.json', 'splits')
  evaluated = run_files.read(run.workdir, 'metrics.json')
  return {
    'run': run.workdir,
    'seed': run.seed,
    'step': evaluated.get('step'),
    'weights': (evaluated.get('evaluation') or {}).get('weights'),
    'evaluate': run.settings,
    'versions': evaluated.get('versions'),
    'splits': {
      name: {key: split.get(key) for key in ('images', 'patients', 'sha256')}
      for name, split in data['splits'].items()
    },
  }


# A run.


def sample(
  workdir: str, common: common_findings.Common | None = None, **options
) -> dict[tuple[str, ...], Result]:
  """Every estimate of the run, by what it is.

  The keys are ('classification', ranking, split, attack, epsilon),
  ('localization', score, method, rule), ('measures', measure, method,
  condition) and ('readers', 'auroc', 'majority', split). `options`:
  num_resamples and seed of the bootstrap; equal ones draw equal patients.
  `common`: of `common_findings.find`.
  """
  result = {}
  tables = common_findings.read(workdir, common)
  for condition, block in tables.predictions.items():
    split, attack, epsilon = condition
    counts = ranking_estimates.counts_of(block, tables.findings)
    for ranking, make in ranking_estimates.rankings_of(condition).items():
      key = 'classification', ranking, split, attack, f'{epsilon:g}'
      result[key] = Result(
        ('mean', *tables.findings),
        _hash_of_rows(block.image, block.patient, block.label),
        ranking_estimates.sample(block, make, **options),
        counts,
        ranking_estimates.SCALE,
      )
  test = tables.predictions.get(stored_rows.Condition(summary.MAIN_SPLIT))
  if tables.readings and test is not None:
    block = reader_estimates.against_majority(test, tables.readings)
    result['readers', 'auroc', 'majority', summary.MAIN_SPLIT] = Result(
      ('mean', *tables.findings),
      _hash_of_rows(block.image, block.patient, block.label),
      ranking_estimates.sample(block, rankings.make_auroc, **options),
      ranking_estimates.counts_of(block, tables.findings),
      ranking_estimates.SCALE,
    )
  boxes = tables.boxes.where(split=summary.MAIN_SPLIT)
  for method, rule, rows in box_estimates.methods_and_rules(boxes):
    of_rows = box_estimates.ratios_of(rows)
    sampled = ratios.sample(of_rows, rows.patient, **options)
    counts = box_estimates.counts_of(rows, of_rows)
    films = _hash_of_rows(rows.image, rows.patient, rows.finding, rows.truth)
    for s, score in enumerate(box_estimates.score_names()):
      result['localization', score, method, rule] = Result(
        ('mean', *of_rows.findings),
        films,
        sampled[s],
        counts[s],
        of_rows.scales[s],
      )
  for measure in tables.measures:
    of_rows = measure_table.ratios_of(measure)
    (sampled,) = ratios.sample(of_rows, measure.patient, **options)
    result['measures', *measure.key] = Result(
      ('mean', *of_rows.findings),
      _hash_of_rows(measure.image, measure.patient),
      sampled,
      measure_table.counts_of(measure),
      *of_rows.scales,
    )
  return result


def _hash_of_rows(*columns: np.ndarray) -> str:
  """A hash of what rows are about, in whatever order they stand."""
  columns = [c[:, None] if c.ndim == 1 else c for c in columns]
  rows = zip(*(map(str, c.tolist()) for c in columns), strict=True)
  text = '\n'.join(sorted(map(' '.join, rows)))
  return hashlib.sha256(text.encode()).hexdigest()


# Groups of runs.


def estimates(
  groups: Sequence[Sequence[Mapping[tuple, Result]]],
) -> list[dict]:
  """What all runs have: the mean of each group, and later minus first.

  Returns:
    [{'key', 'finding', 'groups': [estimate with 'runs': every run's value],
    'differences': [an estimate for each group after the first]}].

  Raises:
    ValueError: an estimate that the runs have of different films.
  """
  first_run, *others = itertools.chain.from_iterable(groups)
  shared = [key for key in first_run if all(key in run for run in others)]
  result = []
  for key in shared:
    first = first_run[key]
    if any(
      (run[key].names, run[key].films) != (first.names, first.films)
      for run in others
    ):
      raise ValueError(
        f'The runs have {" ".join(key)} of different films, labels or true '
        'boxes; evaluate them with the same config.evaluate on one data folder.'
      )
    of_groups = [[run[key].sampled for run in group] for group in groups]
    means = [_of_mean(first, [of_runs]) for of_runs in of_groups]
    differences = [
      _of_mean(first, [of_groups[0], of_runs]) for of_runs in of_groups[1:]
    ]
    for m, finding in enumerate(first.names):
      entry = {
        'key': list(key),
        'finding': finding,
        'groups': [by_name[finding] for by_name in means],
        'differences': [by_name[finding] for by_name in differences],
      }
      for estimate, of_runs in zip(entry['groups'], of_groups, strict=True):
        values = [float(run.values[m]) for run in of_runs]
        estimate['runs'] = [None if np.isnan(v) else v for v in values]
      result.append(entry)
  return result


def _of_mean(
  kind: Result, groups: Sequence[Sequence[intervals.Sampled]]
) -> dict[str, dict]:
  """The estimates of a group's mean, or of the second less the first."""
  paired = len(groups) > 1
  signs = (-1, 1) if paired else (1,)
  means = [np.mean([run.values for run in group], axis=0) for group in groups]
  return intervals.estimates(
    kind.names,
    means[1] - means[0] if paired else means[0],
    intervals.over_seeds(groups, signs=signs),
    kind.counts,
    scale='linear' if paired else kind.scale,
  )
