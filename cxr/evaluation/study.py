"""--mode=study: runs that differ in their seed alone are one group.

A group's figure is the mean of its runs'. Two things are left to chance, the
patients who are tested and the seed that a network grew from; an interval
covers both: each resample draws patients, the same for every run, and then,
with replacement, runs of the group (Owen 2007, 'The pigeonhole bootstrap').
Few seeds say little of the spread between seeds, and resampling n of them
makes it too small by (n - 1) / n, so every run's own value stands beside it.

Groups after the first are compared with it: its figure subtracted from theirs
inside each resample. The first is that of the first workdir.
"""

import glob
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging
from jaxtyping import Float

from cxr import files, run_files, stored_rows
from cxr.evaluation import box_figures, compare, measures, summary
from cxr.reporting import part_study, plots
from cxr.statistics import bootstrap, ratios


class Sampled(NamedTuple):
  """A run's figures of one kind, and what they are in every resample."""

  names: tuple[str, ...]  # 'mean' and findings
  films: tuple[str, ...]  # sorted
  value: Float[np.ndarray, ' m']
  samples: Float[np.ndarray, 'r m']
  counts: Sequence[Mapping]  # what stats.figure says of each


def study(
  workdirs: Sequence[str],
  output: str = '',
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = 0,
) -> str:
  """Writes study.json, study.md and study.png; returns their folder.

  Args:
    workdirs: evaluated runs; a name with *, ? or [ stands for what it matches.
    output: the folder; default `study` beside the first run.

  Raises:
    ValueError: fewer than two runs, or runs that were tested on other films.
    FileNotFoundError: a run that has no results, a pattern that matches none.
  """
  workdirs = matches(workdirs)
  if len(workdirs) < 2:
    raise ValueError(
      f'--mode=study needs two runs or more ({len(workdirs)} given): '
      "--workdirs='runs/baseline_*,runs/robust_*'."
    )
  compare.check(workdirs)
  groups = group(workdirs)
  options = {'num_resamples': num_resamples, 'seed': seed}
  sampled = {}
  for workdir in workdirs:
    logging.info('Reading %s', workdir)
    sampled[workdir] = sample(workdir, **options)
  result = {
    'groups': [
      {'name': name, 'runs': runs, 'seeds': [_seed(run) for run in runs]}
      for name, runs in groups.items()
    ],
    'made_with': [_made_with(workdir) for workdir in workdirs],
    'figures': figures(
      [[sampled[run] for run in runs] for runs in groups.values()], seed=seed
    ),
  }
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


def matches(workdirs: Sequence[str]) -> tuple[str, ...]:
  """The runs that names and patterns stand for, each once, in order."""
  found = []
  for name in workdirs:
    if not glob.has_magic(name):
      found.append(name)
      continue
    runs = sorted(
      path
      for path in glob.glob(name)
      if os.path.exists(os.path.join(path, 'config.json'))
    )
    if not runs:
      raise FileNotFoundError(f'--workdirs: no run matches {name}.')
    found += runs
  return tuple(dict.fromkeys(found))


def group(workdirs: Sequence[str]) -> dict[str, list[str]]:
  """name -> runs whose weights were made alike but for the seed.

  A group has the name of its config; where several have one, the fields in
  which these differ follow it.
  """
  keys, configs = {}, {}
  for workdir in workdirs:
    fields = {
      name: value
      for name, value in run_files.flat(run_files.read_config(workdir)).items()
      if name not in ('seed', 'preset')
      and not name.startswith(run_files.FREE_FIELDS)
    }
    key = json.dumps(fields, sort_keys=True, default=str)
    keys.setdefault(key, []).append(workdir)
    configs[key] = fields
  by_name = {}
  for key, fields in configs.items():
    by_name.setdefault(fields['name'], []).append(key)
  groups = {}
  for key, runs in keys.items():
    fields = configs[key]
    alike = [configs[other] for other in by_name[fields['name']]]
    differing = [
      f'{name.rpartition(".")[2]} {_spelled(fields.get(name))}'
      for name in fields
      if any(other.get(name) != fields.get(name) for other in alike)
    ]
    groups[' '.join([fields['name'], ', '.join(differing)]).strip()] = runs
  return groups


def _spelled(value) -> str:
  return f'{value:g}' if isinstance(value, float) else str(value)


def _seed(workdir: str) -> int:
  return run_files.read_config(workdir).seed


def _made_with(workdir: str) -> dict:
  """What a figure's reader needs to find the run again."""
  data = run_files.read(workdir, 'data.json', 'splits')
  evaluated = run_files.read(workdir, 'metrics.json')
  return {
    'run': workdir,
    'seed': _seed(workdir),
    'step': evaluated.get('step'),
    'versions': evaluated.get('versions'),
    'splits': {
      name: {key: split.get(key) for key in ('images', 'patients', 'sha256')}
      for name, split in data['splits'].items()
    },
  }


# A run.


def sample(workdir: str, **options) -> dict[tuple[str, ...], Sampled]:
  """Every figure of the run, by what it is.

  The keys are ('classification', ranking, split, attack, epsilon),
  ('localization', score, method, rule) and ('measures', measure, method,
  condition). `options`: num_resamples and seed of the bootstrap; equal ones
  draw equal patients.
  """
  result = {}
  findings, blocks = stored_rows.read_predictions(
    os.path.join(workdir, 'predictions.csv')
  )
  for (split, attack, epsilon), block in blocks.items():
    counts = summary.classification_counts(block, findings)
    for ranking, make in summary.RANKINGS.items():
      key = 'classification', ranking, split, attack, f'{epsilon:g}'
      result[key] = Sampled(
        ('mean', *findings),
        _films(block.image),
        *summary.sample_ranking(block, make, **options),
        counts,
      )
  boxes = stored_rows.read_boxes(os.path.join(workdir, 'boxes.csv'))
  boxes = boxes.where(split=summary.MAIN_SPLIT)
  for method, rule, rows in box_figures.methods_and_rules(boxes):
    of_rows = box_figures.ratios_of(rows)
    values, samples = ratios.sample(of_rows, rows.patient, **options)
    counts = box_figures.counts_of(rows, of_rows)
    for s, score in enumerate(box_figures.score_names()):
      result['localization', score, method, rule] = Sampled(
        ('mean', *of_rows.findings),
        _films(rows.image),
        values[s],
        samples[:, s],
        counts[s],
      )
  for measure in measures.read(os.path.join(workdir, 'measures.csv')):
    of_rows = measures.ratios_of(measure)
    values, samples = ratios.sample(of_rows, measure.patient, **options)
    result['measures', *measure.key] = Sampled(
      ('mean', *of_rows.findings),
      _films(measure.image),
      values[0],
      samples[:, 0],
      measures.counts_of(measure),
    )
  return result


def _films(image: np.ndarray) -> tuple[str, ...]:
  return tuple(sorted(image.tolist()))


# Groups of runs.


def figures(
  groups: Sequence[Sequence[Mapping[tuple, Sampled]]], *, seed: int = 0
) -> list[dict]:
  """What all runs have: the mean of each group, and later minus first.

  Returns:
    [{'key', 'finding', 'groups': [figure with 'runs': every run's value],
    'differences': [a figure for each group after the first]}].

  Raises:
    ValueError: a figure that the runs have of different films.
  """
  runs = list(itertools.chain.from_iterable(groups))
  shared = [key for key in runs[0] if all(key in run for run in runs)]
  result = []
  for key in shared:
    first = runs[0][key]
    alike = {(run[key].names, run[key].films) for run in runs}
    if len(alike) > 1:
      raise ValueError(
        f'The runs have {" ".join(key)} of different films or findings; '
        'evaluate them with the same config.evaluate on one data folder.'
      )
    of_groups = [[run[key] for run in group] for group in groups]
    means = [_mean(of_runs, seed, i) for i, of_runs in enumerate(of_groups)]
    for m, finding in enumerate(first.names):
      counts = first.counts[m]
      of_group = lambda value, samples, m=m, counts=counts: bootstrap.estimate(
        value[m], samples[:, m], **counts
      )
      entry = {
        'key': list(key),
        'finding': finding,
        'groups': [of_group(*mean) for mean in means],
        'differences': [
          of_group(mean[0] - means[0][0], mean[1] - means[0][1])
          for mean in means[1:]
        ],
      }
      for figure, of_runs in zip(entry['groups'], of_groups, strict=True):
        figure['runs'] = [
          None if np.isnan(run.value[m]) else float(run.value[m])
          for run in of_runs
        ]
      result.append(entry)
  return result


def _mean(runs: Sequence[Sampled], seed: int, group: int):
  """(value 'm', samples 'r m') of the mean over runs, drawn anew each time."""
  value = np.stack([run.value for run in runs])
  samples = np.stack([run.samples for run in runs])
  count, num_resamples, _ = samples.shape
  rng = np.random.default_rng([seed, 2, group])
  drawn = rng.integers(0, count, (count, num_resamples))
  return value.mean(0), samples[drawn, np.arange(num_resamples)].mean(0)
