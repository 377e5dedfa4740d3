"""--mode=compare: runs on the same films, side by side.

The first run is what the others are compared with: differences are theirs
minus its.
"""

import os
from collections.abc import Sequence

from absl import logging

from cxr import files
from cxr.comparison import common_findings, paired_summary, runs
from cxr.reporting import pages


def compare(workdirs: Sequence[str], output: str = '') -> str:
  """Writes comparison.json, compare.html and the figure; returns the folder.

  Raises:
    ValueError: runs on other test films, or the same run twice: by another name
      of its folder, or by a copy that was evaluated with the same settings.
    FileNotFoundError: a run that has no results yet.
  """
  workdirs = runs.find(workdirs)
  names = runs.distinct_names(workdirs)
  opened = [runs.read(workdir) for workdir in workdirs]
  runs.check_same_test_films(opened)
  settings = runs.differing_settings(opened)
  twice = runs.same_weights(opened)
  if twice and not runs.differing_settings(twice):
    raise ValueError(
      f'{twice[0].workdir} and {twice[1].workdir} hold the same weights '
      'or maps, evaluated with the same settings: the run is named more than '
      'once.'
    )
  output = output or os.path.join(
    os.path.dirname(os.path.normpath(workdirs[0])),
    'compare_' + '_'.join(name.replace('/', '_') for name in names),
  )
  os.makedirs(output, exist_ok=True)
  common = common_findings.find(workdirs)
  comparison = paired_summary.compare(
    workdirs, common, num_resamples=runs.num_resamples(opened)
  ) | {
    'settings': settings,
    'warnings': [
      *runs.told(settings, names),
      *common_findings.told(common, names),
      *runs.told_of_maps(opened, names),
    ],
  }
  for warning in comparison['warnings']:
    logging.warning('%s', warning)
  files.write_json(
    os.path.join(output, 'comparison.json'), comparison, indent=2
  )
  page = pages.write_comparison(
    os.path.join(output, 'compare.html'), workdirs, comparison
  )
  logging.info('Done: %s', page)
  return output
