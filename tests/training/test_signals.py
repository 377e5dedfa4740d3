"""A signal ends a training in order, also behind its last step."""

import os
import signal

import pytest

from cxr.training import signals


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_behind_the_last_step_still_stops(number):
  handler = signal.getsignal(number)
  with (
    pytest.raises(signals.Stopped) as stopped,
    signals.catch_signals() as asked,
  ):
    assert not asked(1)
    os.kill(os.getpid(), number)
  assert stopped.value.number == number
  assert signal.getsignal(number) == handler
