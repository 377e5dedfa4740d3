"""The process is set up for JAX where that is of use."""

import os
import pathlib
import subprocess
import sys

import pytest

from cxr import jax_setup

ROOT = pathlib.Path(__file__).parents[1]

_COUNT_PAGES = """
import resource, sys
import numpy as np
from cxr import jax_setup
if sys.argv[1] == 'keep':
  jax_setup.keep_freed_memory()
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

  # 64 MB are 32 pages where they are huge ones, as the kernel pleases.
  assert faults('keep') < 16 < faults('leave')


_ONEDNN = """
import os
from cxr import jax_setup
jax_setup.set_up_cpu(os.environ, onednn=True)
import jax, numpy as np
from cxr.models import cpu_convolution
for dtype, close in (('float32', 1e-4), ('bfloat16', 3e-2)):
  for stride, dilation in ((1, 1), (2, 1), (1, 2)):
    key = jax.random.key(0)
    x = jax.random.normal(key, (4, 16, 16, 16), dtype)
    kernel = jax.random.normal(key, (3, 3, 16, 16), dtype)
    both = [
      jax.jit(jax.value_and_grad(
        lambda x, k: (form(x, k, stride, dilation) ** 2).sum(), (0, 1)
      )).lower(x, kernel).compile()
      for form in (
        cpu_convolution.convolve_xla,
        cpu_convolution._convolve_patches,
      )
    ]
    assert ['__onednn$conv' in p.as_text() for p in both] == [True, False]
    ours, theirs = (jax.tree.leaves(p(x, kernel)) for p in both)
    for a, b in zip(ours, theirs):
      a, b = np.float64(a), np.float64(b)
      np.testing.assert_allclose(a, b, atol=close * abs(b).max())
print(os.environ['XLA_FLAGS'].split()[-1])
"""


@pytest.mark.skipif(
  not jax_setup.has_onednn(),
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
  monkeypatch.setattr(
    jax_setup.importlib.metadata, 'version', lambda _: version
  )
  monkeypatch.setattr(jax_setup.platform, 'machine', lambda: machine)
  monkeypatch.setattr(jax_setup, 'keep_freed_memory', lambda: None)
  environ = {'JAX_PLATFORMS': 'cpu'}
  with pytest.raises(ValueError, match=f'{version} on {machine}; leave it out'):
    jax_setup.set_up_cpu(environ, onednn=True)
  assert 'XLA_FLAGS' not in environ
  jax_setup.set_up_cpu(environ, onednn=False)
  assert ('XLA_FLAGS' in environ) == version.startswith('0.12.')


@pytest.mark.parametrize(
  ('platforms', 'plugin', 'cpu'),
  [
    ('cpu', True, True),
    ('CPU,cuda', True, True),
    ('cuda,cpu', False, False),
    ('gpu', False, False),
    ('', False, True),
    (None, False, True),
    (None, True, False),
  ],
)
def test_a_cpu_is_told_without_starting_jax(
  monkeypatch, platforms, plugin, cpu
):
  monkeypatch.setattr(
    jax_setup.importlib.metadata, 'entry_points', lambda group: [1] * plugin
  )
  monkeypatch.setattr(jax_setup.importlib.util, 'find_spec', lambda name: None)
  environ = {} if platforms is None else {'JAX_PLATFORMS': platforms}
  assert jax_setup.is_cpu(environ) == cpu


def test_another_platform_keeps_its_allocator_and_flags(monkeypatch):
  called = []
  monkeypatch.setattr(
    jax_setup, 'keep_freed_memory', lambda: called.append('allocator')
  )
  environ = {'JAX_PLATFORMS': 'cuda'}
  jax_setup.set_up_cpu(environ, onednn=False)
  assert environ == {'JAX_PLATFORMS': 'cuda'} and not called
  with pytest.raises(ValueError, match='--onednn needs a CPU'):
    jax_setup.set_up_cpu(environ, onednn=True)


def call(code, **environ):
  return subprocess.run(
    [sys.executable, '-c', f'from cxr import jax_setup; {code}'],
    cwd=ROOT,
    env={k: v for k, v in os.environ.items() if k != 'JAX_PLATFORMS'} | environ,
    capture_output=True,
    text=True,
  )


@pytest.mark.parametrize(
  'name, platform',
  [
    *(('JAX_PLATFORMS', name) for name in ('cuda', 'gpu', 'tpu', 'nothing')),
    ('JAX_PLATFORM_NAME', 'gpu'),  # the older name
  ],
)
def test_a_platform_that_is_not_there_is_a_sentence(name, platform):
  done = call('jax_setup.find_devices()', **{name: platform})
  last = done.stderr.strip().splitlines()[-1]
  assert last.startswith(
    f'RuntimeError: JAX finds no device of {name} ({platform})'
  )
  assert f'unset {name} or install' in last


def test_an_exported_precision_is_not_taken():
  code = (
    'jax_setup.find_devices(); import jax.numpy as n; print(n.ones(1).dtype)'
  )
  done = call(code, JAX_ENABLE_X64='1', JAX_PLATFORMS='cpu')
  assert done.stdout == 'float32\n', done.stderr


def test_deterministic_kernels_are_asked_for_and_the_user_has_the_last_word():
  environ = {'XLA_FLAGS': '--xla_gpu_deterministic_ops=false'}
  jax_setup.set_deterministic(environ)
  first, last = environ['XLA_FLAGS'].split()
  assert first == '--xla_gpu_deterministic_ops=true'
  assert last == '--xla_gpu_deterministic_ops=false'
  # A jaxlib that does not know it would end the process here.
  subprocess.run(
    [sys.executable, '-c', 'import jax; jax.devices()'],
    env=os.environ | {'XLA_FLAGS': first},
    check=True,
  )
