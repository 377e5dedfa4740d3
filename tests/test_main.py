"""How main.py ends."""

import os
import signal

import pytest

import main
from cxr.training import signals


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
