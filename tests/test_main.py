"""The process that main.py sets up."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

_COUNT_PAGES = """
import resource, sys
import numpy as np
import main
if sys.argv[1] == 'keep':
  main.keep_freed_memory()
for i in range(3):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  np.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
  not sys.platform.startswith('linux'), reason='it sets up glibc'
)
def test_freed_memory_is_used_again_and_not_faulted_in_anew():
  def faults(how):
    command = [sys.executable, '-c', _COUNT_PAGES, how]
    return int(subprocess.check_output(command, cwd=ROOT))

  assert faults('keep') < 100 < faults('leave')
