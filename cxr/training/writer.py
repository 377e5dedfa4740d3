"""Writes the scalars of a training: JSON lines, TensorBoard events, a bar."""

import json
import os
import sys
import time

import tqdm
from absl import logging
from tensorboardX import event_file_writer, summary
from tensorboardX.proto import event_pb2

from cxr import files


def truncate(path: str, step: int) -> None:
  """Drops the lines after `step`, which a continued run writes again."""
  kept = [r for r in files.read_json_lines(path) if r['step'] <= step]
  lines = [json.dumps(record) + '\n' for record in kept]
  files.replace_file(path, lambda f: f.writelines(lines))


def plain(value: float) -> float | None:
  """The value with six decimals, or six digits where it is small: a learning
  rate ends near 0. None where it is not finite.

  >>> plain(0.12345678), plain(1.23456789e-7), plain(float('nan'))
  (0.123457, 1.23457e-07, None)
  """
  if not abs(value) < float('inf'):
    return None
  return round(value, 6) if abs(value) > 1e-3 else float(f'{value:.6g}')


class Writer:
  """The open files of a training and its progress bar.

  Args:
    workdir: gets train.jsonl and a file of TensorBoard events.
    step: that the training starts at; what was logged after it is dropped.
    num_steps: of the whole training.
    enabled: False writes nothing, for all processes but the first.
  """

  def __init__(self, workdir: str, *, step: int, num_steps: int, enabled=True):
    self._enabled = enabled
    if not enabled:
      return
    self._path = os.path.join(workdir, 'train.jsonl')
    truncate(self._path, step)
    self._lines = open(self._path, 'a')
    # Not its SummaryWriter: that one's thread dies on a full disk, and then
    # the next ten scalars wait for it for ever.
    self._events = event_file_writer.EventsWriter(
      os.path.join(workdir, 'events')
    )
    # TensorBoard forgets what a killed run drew beyond this step.
    self._event(
      step + 1,
      session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START),
    )
    self._bar = tqdm.tqdm(
      total=num_steps,
      initial=step,
      unit='step',
      dynamic_ncols=True,
      # A terminal gets a bar, a log file gets plain lines.
      disable=not sys.stderr.isatty(),
    )

  def advance(self, steps: int = 1) -> None:
    """Moves the bar."""
    if self._enabled:
      self._bar.update(steps)

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Writes the scalars of a step; in JSON what is not finite is null."""
    if not self._enabled:
      return
    record = {'step': step} | {k: plain(v) for k, v in values.items()}
    self._lines.write(json.dumps(record) + '\n')
    self._lines.flush()
    for name, value in values.items():
      self._event(step, summary=summary.scalar(name, value))
    self._events.flush()
    text = '  '.join(
      f'{name} {value:.4g}'
      for name, value in values.items()
      if name.count('/') < 2
    )
    if self._bar.disable:
      logging.info('step %d  %s', step, text)
    else:
      self._bar.set_postfix_str(text, refresh=False)

  def _event(self, step: int, **content):
    self._events.write_event(
      event_pb2.Event(wall_time=time.time(), step=step, **content)
    )

  def close(self):
    if self._enabled:
      self._bar.close()
      self._lines.close()
      self._events.close()
