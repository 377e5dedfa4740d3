"""SIGTERM and Ctrl-C: a training ends with a checkpoint, not in mid-step."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils


class Stopped(KeyboardInterrupt):
  """SIGTERM or Ctrl-C: the state is on disk, the message says how to go on."""

  def __init__(self, message: str, number: int):
    super().__init__(message)
    self.number = number


@contextlib.contextmanager
def catch_signals() -> Iterator[Callable]:
  """Yields stopped(step): the SIGTERM or SIGINT (Ctrl-C) that came, or 0.

  Of several processes each is asked at every step, and all answer SIGTERM at
  the same one, soon after any of them had a signal.
  """
  if jax.process_count() > 1:
    # JAX holds SIGTERM itself since the processes joined; so Ctrl-C becomes
    # one.
    previous = signal.signal(
      signal.SIGINT, lambda *_: os.kill(os.getpid(), signal.SIGTERM)
    )
    try:
      yield (
        lambda step: (
          signal.SIGTERM * multihost_utils.reached_preemption_sync_point(step)
        )
      )
    finally:
      signal.signal(signal.SIGINT, previous)
    return
  received = []

  def note(number, frame):
    del frame
    if received:  # a second Ctrl-C does not wait
      raise KeyboardInterrupt
    received.append(number)

  previous = {
    number: signal.signal(number, note)
    for number in (signal.SIGTERM, signal.SIGINT)
  }
  try:
    yield lambda step: received[0] if received else 0
    if received:  # after the last step had asked
      raise Stopped(
        'Stopped behind the last step; the same command goes on from there.',
        received[0],
      )
  finally:
    for number, handler in previous.items():
      signal.signal(number, handler)
