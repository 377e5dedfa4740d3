"""Worker processes that never outlive the process that started them.

Spawned, not forked: a fork of a program that runs threads can hang. They leave
Ctrl-C to their parent. And they watch it: a parent that is killed cannot tell
them, and a pool's workers, each of which holds both ends of the queue that all
wait on, would wait for ever.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def pool(count: int) -> Iterator[concurrent.futures.Executor]:
  """An executor over `count` processes.

  Raises:
    RuntimeError: a process died at its work.
  """
  executor = concurrent.futures.ProcessPoolExecutor(
    count, multiprocessing.get_context('spawn'), initializer=_start
  )
  try:
    yield executor
  except concurrent.futures.process.BrokenProcessPool as e:
    raise RuntimeError(
      f'One of {count} worker processes died at its work; is there enough '
      'memory? The same command goes on from here.'
    ) from e
  finally:
    executor.shutdown(cancel_futures=True)


def _start() -> None:
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)
