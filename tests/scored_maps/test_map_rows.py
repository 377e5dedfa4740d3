"""How maps are shared among processes that score them."""

import subprocess
import sys

from cxr.scored_maps import map_rows
from input_pipeline import workers


def test_few_maps_are_scored_by_the_calling_process(monkeypatch):
  monkeypatch.setattr(workers, 'cores', lambda: 64)
  start = map_rows.MAPS_A_START
  numbers = [map_rows.num_workers(n) for n in (0, 2 * start - 1, 3 * start)]
  assert numbers == [1, 1, 3]
  assert map_rows.num_workers(99 * start) == map_rows.MOST_WORKERS


def test_workers_import_no_jax():
  code = (
    'import sys, cxr.scored_maps.map_rows, main;'
    "print(sorted({'jax', 'tensorflow', 'flax'} & sys.modules.keys()))"
  )
  found = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert found.stdout.strip() == '[]', found.stderr
