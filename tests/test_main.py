"""The process that main.py sets up, and how it ends."""

import errno
import logging as stdlib_logging
import os
import pathlib
import signal
import subprocess
import sys

import pytest

import main
from cxr.training import signals

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


_ONEDNN = """
import os
import main
main.set_up_xla(os.environ, onednn=True)
import jax, numpy as np
from cxr import layers
for dtype, close in (('float32', 1e-4), ('bfloat16', 3e-2)):
  for stride, dilation in ((1, 1), (2, 1), (1, 2)):
    key = jax.random.key(0)
    x = jax.random.normal(key, (4, 16, 16, 16), dtype)
    kernel = jax.random.normal(key, (3, 3, 16, 16), dtype)
    both = [
      jax.jit(jax.value_and_grad(
        lambda x, k: (form(x, k, stride, dilation) ** 2).sum(), (0, 1)
      )).lower(x, kernel).compile()
      for form in (layers._convolve_xla, layers._convolve_patches)
    ]
    assert ['__onednn$conv' in p.as_text() for p in both] == [True, False]
    ours, theirs = (jax.tree.leaves(p(x, kernel)) for p in both)
    for a, b in zip(ours, theirs):
      a, b = np.float64(a), np.float64(b)
      np.testing.assert_allclose(a, b, atol=close * abs(b).max())
print(os.environ['XLA_FLAGS'].split()[-1])
"""


@pytest.mark.skipif(
  not main.has_onednn(),
  reason='oneDNN is called with jaxlib 0.12 on x86',
)
def test_convolutions_and_their_gradients_are_onednns():
  done = subprocess.run(
    [sys.executable, '-c', _ONEDNN],
    cwd=ROOT,
    env=os.environ | {'XLA_FLAGS': '--xla_cpu_enable_fast_math=false'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  assert done.stdout == '--xla_cpu_enable_fast_math=false\n'


@pytest.mark.parametrize(
  'version, machine',
  [
    ('0.10.2', 'x86_64'),
    ('0.13.0', 'x86_64'),
    ('1.0.12', 'x86_64'),
    ('0.12.0', 'aarch64'),
  ],
)
def test_xla_is_set_up_where_that_was_tried_alone(
  monkeypatch, version, machine
):
  """XLA ends the process at a flag it does not know."""
  monkeypatch.setattr(main.importlib.metadata, 'version', lambda _: version)
  monkeypatch.setattr(main.platform, 'machine', lambda: machine)
  environ = {}
  with pytest.raises(ValueError, match=f'{version} on {machine}; leave it out'):
    main.set_up_xla(environ, onednn=True)
  assert not environ
  main.set_up_xla(environ, onednn=False)
  assert bool(environ) == version.startswith('0.12.')


def test_a_full_disk_is_not_taken_for_full_memory():
  full = 'RESOURCE_EXHAUSTED: Error writing "x": No space left on device'
  assert 'No space is left' in main.explain(ValueError(full))
  assert 'Out of memory' in main.explain(ValueError('RESOURCE_EXHAUSTED: 9 GB'))


@pytest.mark.parametrize(
  'number, way_out',
  [(errno.ENOSPC, 'Make room'), (errno.EROFS, 'may write'), (errno.EIO, '')],
)
def test_a_system_error_names_the_file_and_a_way_out(number, way_out):
  sentence = main.explain(OSError(number, os.strerror(number), 'runs/a'))
  assert 'runs/a' in sentence and way_out in sentence
  assert '\n' not in sentence


@pytest.fixture
def handlers():
  numbers = signal.SIGTERM, signal.SIGINT
  before = [signal.getsignal(number) for number in numbers]
  # A shell's background job starts with Ctrl-C ignored.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  for number, handler in zip(numbers, before, strict=True):
    signal.signal(number, handler)


@pytest.mark.usefixtures('handlers')
@pytest.mark.parametrize(
  ('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_is_a_sentence_and_the_shells_code(
  number, code, monkeypatch, capsys
):
  monkeypatch.setattr(main, 'main', lambda argv: os.kill(os.getpid(), number))
  assert main.run([]) == code
  assert capsys.readouterr().err == (
    'Interrupted; the same command goes on from here.\n'
  )
  # A second one does not wait.
  at_once = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
  assert at_once == (number == signal.SIGTERM)

  def stop(argv):
    raise signals.Stopped('Stopped at step 3.', number)

  monkeypatch.setattr(main, 'main', stop)
  assert main.run([]) == code
  assert capsys.readouterr().err == 'Stopped at step 3.\n'


def test_a_library_below_the_project_is_not_ours():
  assert main.is_our_file(str(ROOT / 'cxr' / 'train.py'))
  assert main.is_our_file(str(ROOT / 'main.py'))
  packages = ROOT / '.venv' / 'lib' / 'python3.11' / 'site-packages'
  assert not main.is_our_file(str(packages / 'orbax' / 'checkpoint.py'))


@pytest.mark.parametrize(
  ('path', 'level', 'raised', 'told'),
  [
    (ROOT / 'cxr' / 'train.py', stdlib_logging.INFO, False, True),
    ('/packages/jax/api.py', stdlib_logging.WARNING, False, False),
    ('/packages/jax/api.py', stdlib_logging.ERROR, True, True),
    ('/packages/orbax/checkpoint/future.py', stdlib_logging.ERROR, False, True),
    # The same exception comes to our own thread, which says one sentence.
    ('/packages/orbax/checkpoint/future.py', stdlib_logging.ERROR, True, False),
  ],
)
def test_of_the_libraries_only_what_went_wrong_and_once(
  path, level, raised, told
):
  try:
    raise ValueError('No space left on device')
  except ValueError:
    error = sys.exc_info() if raised else None
  record = stdlib_logging.LogRecord('', level, str(path), 1, 'x', (), error)
  assert main.is_news(record) == told
