"""What is free, as Linux tells it, and the sentences where it is short."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from cxr import data, modes, sharding
from cxr.training import configured_step
from input_pipeline import memory
from input_pipeline.phantom import write as phantom_write

MB = 1_000_000


def write(root, files):
  for name, text in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def room(tmp_path, files, *, machine=8000):
  meminfo = f'MemTotal: 99 kB\nMemAvailable: {machine} kB\n'
  write(tmp_path, {'proc/meminfo': meminfo} | files)
  return memory.available(tmp_path / 'proc', tmp_path / 'cgroup')


def test_the_machine_alone(tmp_path):
  assert room(tmp_path, {}) == 8000 * 1024


def test_version_2_and_the_groups_around(tmp_path):
  """The group has no limit of its own, the one around it 5 MB."""
  files = {
    'proc/self/cgroup': '0::/job/step\n',
    'cgroup/job/step/memory.max': 'max\n',
    'cgroup/job/step/memory.current': '2000000\n',
    'cgroup/job/memory.max': '5000000\n',
    'cgroup/job/memory.current': '3000000\n',
    'cgroup/job/memory.stat': 'anon 1\nactive_file 10\ninactive_file 500\n',
  }
  assert room(tmp_path, files) == 2 * MB + 510
  assert room(tmp_path, files, machine=1000) == 1000 * 1024


def test_version_1(tmp_path):
  """Its counts with total_ are the whole group's."""
  files = {
    'proc/self/cgroup': '4:cpu,memory:/job\n3:cpuset:/other\n0::/\n',
    'cgroup/memory/job/memory.limit_in_bytes': '4000000\n',
    'cgroup/memory/job/memory.usage_in_bytes': '3900000\n',
    'cgroup/memory/job/memory.stat': (
      'active_file 1\ninactive_file 1\n'
      'total_active_file 30\ntotal_inactive_file 12\n'
    ),
  }
  assert room(tmp_path, files) == MB // 10 + 42


def test_a_system_that_does_not_tell(tmp_path):
  assert memory.available(tmp_path, tmp_path) is None
  assert memory.held(tmp_path) == 0


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_this_system():
  assert memory.available() > 10 * MB
  before = memory.held()
  block = np.ones(100 * MB, np.uint8)
  # Other threads may free or take a little meanwhile.
  assert 50 * MB < memory.held() - before < 200 * MB
  del block


def test_too_little(monkeypatch):
  monkeypatch.setattr(memory, 'available', lambda: 100 * MB)
  memory.require(100 * MB, 'A cache', 'do without')
  with pytest.raises(ValueError) as e:
    memory.require(1234 * MB, 'A cache', 'do without')
  assert str(e.value) == (
    'A cache needs 1,234 MB of memory, of which 100 MB are free; do without.'
  )
  monkeypatch.setattr(memory, 'available', lambda: None)
  memory.require(10**15, 'A cache', 'do without')


@pytest.mark.parametrize('mode', ['train', 'fit'])
def test_a_run_is_refused_before_it_begins(monkeypatch, tmp_path, mode):
  monkeypatch.setattr(memory, 'available', lambda: 10 * MB)
  monkeypatch.setattr(memory, 'held', lambda: 0)
  request = modes.Request(
    config=default.get_config('smoke'),
    overrides={},
    workdir=str(tmp_path / 'run'),
    workdirs=(),
    images='',
    output='',
  )
  with pytest.raises(ValueError, match='^A run needs 1,500 MB of memory'):
    modes.MODES[mode](request)
  assert not (tmp_path / 'run').exists()


def test_a_cache_and_a_step_are_refused(monkeypatch, tmp_path):
  """The cache before a film is read, the step before it is taken."""
  config = default.get_config('smoke')
  config.data.dir = str(tmp_path / 'phantom')
  config.data.prepared_dir = str(tmp_path / 'prepared')
  config.data.cache = 'memory'
  phantom_write.write_phantom(
    tmp_path / 'phantom', num_films=60, image_size=64, workers=1, progress=False
  )
  data.load(config)
  monkeypatch.setattr(memory, 'available', lambda: 64**2 * 60)
  with pytest.raises(ValueError, match='^A cache of .*cache=none'):
    data.load(config)  # the test films are there three times
  config.data.cache = 'none'
  data.load(config)
  program = jax.jit(lambda x: jnp.sort(x) @ x).lower(jnp.ones(10**6)).compile()
  with pytest.raises(ValueError, match='^A training step .*batch_size'):
    configured_step._check_memory(program, sharding.make_mesh())
