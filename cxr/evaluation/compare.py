"""--mode=compare: runs on the same films, side by side.

The first run is what the others are compared with: differences are theirs
minus its.
"""

import os

from absl import logging

from cxr import files, run_files
from cxr.evaluation import paired_summary
from cxr.reporting import pages


def compare(workdirs: tuple[str, ...], output: str = '') -> str:
  """Writes comparison.json, compare.html and the figure; returns the folder.

  Raises:
    ValueError: runs on other test films, or the same run twice.
    FileNotFoundError: a run that has no results yet.
  """
  check(workdirs)
  names = [_name(workdir) for workdir in workdirs]
  output = output or os.path.join(
    os.path.dirname(os.path.normpath(workdirs[0])),
    'compare_' + '_'.join(names),
  )
  os.makedirs(output, exist_ok=True)
  comparison = paired_summary.compare(workdirs)
  files.write_json(
    os.path.join(output, 'comparison.json'), comparison, indent=2
  )
  page = pages.write_comparison(
    os.path.join(output, 'compare.html'), workdirs, comparison
  )
  logging.info('Done: %s', page)
  return output


def _name(workdir: str) -> str:
  return os.path.basename(os.path.normpath(workdir))


def check(workdirs: tuple[str, ...]) -> None:
  repeated = {w for w in workdirs if workdirs.count(w) > 1}
  if repeated:
    raise ValueError(
      f'--workdirs names {", ".join(sorted(repeated))} more than once.'
    )
  hashes = {}
  for workdir in workdirs:
    run_files.read_config(workdir)
    for name in ('metrics.json', 'data.json', 'predictions.csv', 'boxes.csv'):
      if not os.path.exists(os.path.join(workdir, name)):
        raise FileNotFoundError(
          f'No {name} in {workdir}; run --mode=evaluate first.'
        )
    splits = run_files.read(workdir, 'data.json', 'splits')['splits']
    hashes[workdir] = splits['test']['sha256']
  if len(set(hashes.values())) > 1:
    raise ValueError(
      'The runs were tested on different films ('
      + ', '.join(f'{w}: {h[:8]}' for w, h in hashes.items())
      + '); compare runs on the same test list.'
    )
