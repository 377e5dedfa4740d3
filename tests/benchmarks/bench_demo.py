r"""Where the time of the README's first command goes, with nothing compiled.

  python -m tests.benchmarks.bench_demo --config=configs/robust.py
  taskset -c 0,1 python -m tests.benchmarks.bench_demo \
    --config=configs/robust.py:smoke

A run is trained and evaluated in a new folder. Of each part it prints the
seconds that passed, those of the processor (with the processes that a part
started and waited for), the programs that were compiled and the seconds that
this took; 'rest' is what no part names. Where cores were idle, seconds of the
processor are fewer than seconds passed times cores.
"""

import collections
import contextlib
import functools
import os
import tempfile
import threading
import time

from absl import app
from ml_collections import config_flags

from cxr import jax_setup

_CONFIG = config_flags.DEFINE_config_file('config', 'configs/robust.py:smoke')
_COMPILED = '/jax/core/compile/backend_compile_duration'


class Ledger:
  """Seconds and programs, by part; of parts in parts the innermost counts."""

  def __init__(self):
    self.rows = collections.defaultdict(lambda: [0.0, 0.0, 0, 0.0])
    self._open, self._last = ['rest'], self._now()

  def _now(self):
    times = os.times()
    return time.monotonic(), sum(times[:4])

  def _close(self):
    now = self._now()
    for i, (before, after) in enumerate(zip(self._last, now, strict=True)):
      self.rows[self._open[-1]][i] += after - before
    self._last = now

  @contextlib.contextmanager
  def part(self, name):
    if threading.current_thread() is not threading.main_thread():
      yield
      return
    self._close()
    self._open.append(name)
    try:
      yield
    finally:
      self._close()
      self._open.pop()

  def compiled(self, event, seconds, **_):
    if event == _COMPILED:
      row = self.rows[self._open[-1]]
      row[2] += 1
      row[3] += seconds

  def watch(self, module, name, part=None):
    """Counts every call of the module's function."""
    function = getattr(module, name)

    @functools.wraps(function)
    def watched(*args, **kwargs):
      with self.part(part or name):
        return function(*args, **kwargs)

    setattr(module, name, watched)

  def table(self):
    total = [sum(column) for column in zip(*self.rows.values(), strict=True)]
    lines = [
      '| part | passed, s | processor, s | programs | compiling, s |',
      '|---|---|---|---|---|',
    ]
    for name, row in [*self.rows.items(), ('all', total)]:
      passed, processor, programs, seconds = row
      lines.append(
        f'| {name} | {passed:.1f} | {processor:.1f} | {programs} | '
        f'{seconds:.1f} |'
      )
    return '\n'.join(lines)


def main(_):
  started = time.monotonic()
  jax_setup.set_up_cpu(os.environ, onednn=False)
  import jax

  from cxr import checkpoint, modes
  from cxr.evaluation import evaluate
  from cxr.evaluation.parts import Parts
  from cxr.training import configured_step, loop, train
  from input_pipeline import prepare
  from input_pipeline.phantom import write

  ledger = Ledger()
  ledger.rows['import'][:2] = time.monotonic() - started, sum(os.times()[:2])
  jax.monitoring.register_event_duration_secs_listener(ledger.compiled)
  jax_setup.set_precision()
  jax.config.update('jax_enable_compilation_cache', False)
  ledger.watch(write, 'write_phantom', 'films drawn')
  ledger.watch(prepare, 'prepare', 'films prepared')
  ledger.watch(train, 'initial_state', 'first weights')
  ledger.watch(loop, 'fit', 'training')
  ledger.watch(checkpoint, 'save', 'checkpoints')
  ledger.watch(evaluate, '_estimates', 'estimates')
  ledger.watch(evaluate, '_write_results', 'page')
  make_step, make_validate = (
    configured_step.make_jit_step,
    train.validation.make_validate,
  )

  def in_part(make, name):
    def made(*args):
      function = make(*args)

      def call(*args):
        with ledger.part(name):
          return function(*args)

      return call

    return made

  configured_step.make_jit_step = in_part(make_step, 'steps')
  train.validation.make_validate = in_part(make_validate, 'validation')
  timed = Parts.timed

  @contextlib.contextmanager
  def timed_part(self, name):
    with timed(self, name), ledger.part(name):
      yield

  Parts.timed = timed_part
  with tempfile.TemporaryDirectory() as folder:
    config = _CONFIG.value
    config.data.dir = os.path.join(folder, 'films')
    config.data.prepared_dir = os.path.join(folder, 'prepared')
    request = modes.Request(config, workdir=os.path.join(folder, 'run'))
    modes.run('train', request)
    ledger._close()
  print(ledger.table())


if __name__ == '__main__':
  app.run(main)
