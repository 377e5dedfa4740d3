"""Worker processes that never outlive the process that started them.

Spawned, not forked: a fork of a program that runs threads can hang. A spawned
worker imports the caller's main module, so a script of one's own must start
its work under `if __name__ == '__main__':`.

Workers leave Ctrl-C to their parent. And they watch it: a parent that is killed
cannot tell them, and a pool's workers, each of which holds both ends of the
queue that all wait on, would wait for ever.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator


def cores() -> int:
  """How many processor cores this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


@contextlib.contextmanager
def pool(count: int = 0) -> Iterator[concurrent.futures.Executor]:
  """An executor over `count` processes.

  Args:
    count: of processes; 0 is one per core, 1 is the calling process itself.

  Raises:
    RuntimeError: a process died at its work.
  """
  count = count or cores()
  if count == 1:
    yield _InThisProcess()
    return
  executor = concurrent.futures.ProcessPoolExecutor(
    count, multiprocessing.get_context('spawn'), initializer=_start
  )
  try:
    yield executor
  except concurrent.futures.process.BrokenProcessPool as e:
    raise RuntimeError(
      f'One of {count} worker processes died at its work. Is there enough '
      "memory, and does a script of your own start under if __name__ == '__"
      "main__'? The same command goes on from here."
    ) from e
  finally:
    executor.shutdown(cancel_futures=True)


class _InThisProcess(concurrent.futures.Executor):
  """Does what is submitted at once, and raises at once what it raises."""

  def submit(self, fn: Callable, /, *args, **kwargs):
    future = concurrent.futures.Future()
    future.set_result(fn(*args, **kwargs))
    return future


def _start() -> None:
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)
