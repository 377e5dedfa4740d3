"""--profile=START,STEPS: a trace of some steps, for TensorBoard or Perfetto.

The trace is written below <workdir>/profile when the last of these steps is
computed. Its device operations carry the names of the step's parts:
augmentation, attack, update.
"""

import os
from typing import Any, NamedTuple

import jax
from absl import logging


class Span(NamedTuple):
  """The steps of a trace: `steps` of them, after `start` steps are done."""

  start: int
  steps: int


def parse(text: str) -> Span | None:
  """The span that START,STEPS names; None for ''.

  Raises:
    ValueError: it is no such span.

  >>> parse('100,5')
  Span(start=100, steps=5)
  """
  if not text:
    return None
  numbers = text.split(',')
  if len(numbers) == 2 and all(n.strip().isdecimal() for n in numbers):
    span = Span(*map(int, numbers))
    if span.steps:
      return span
  raise ValueError(
    f'--profile ({text}) must be START,STEPS, both whole numbers and STEPS at '
    'least 1: --profile=100,5 traces five steps after the first hundred.'
  )


class Tracer:
  """Starts and ends the trace of a training's steps."""

  def __init__(self, span: Span | None, folder: str = ''):
    self._span, self._folder = span, folder
    self._since = None  # the step that a running trace started at

  def before(self, step: int) -> None:
    """To be called before the step that follows `step` steps."""
    if self._span and step == self._span.start:
      # Nothing of a step is in the way of the next: the trace begins with the
      # work that is given to the device from here on.
      os.makedirs(self._folder, exist_ok=True)
      jax.profiler.start_trace(self._folder)
      self._since = step

  def after(self, done: int, state: Any) -> None:
    """To be called when `done` steps were given to the device."""
    if self._since is not None and done == self._since + self._span.steps:
      jax.block_until_ready(state)
      self.close()
      logging.info(
        'Steps %d to %d are traced in %s: open its .trace.json.gz in '
        'ui.perfetto.dev, or the folder in TensorBoard.',
        self._span.start + 1,
        done,
        self._folder,
      )

  def close(self) -> None:
    """Writes what was traced of a span that the training ended in."""
    if self._since is not None:
      self._since = None
      jax.profiler.stop_trace()
