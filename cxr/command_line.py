"""The command line: its flags, its errors in one sentence, its log and ends."""

import ast
import contextlib
import difflib
import errno
import io
import logging as stdlib_logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence

from absl import app, flags, logging
from ml_collections import config_flags
from ml_collections.config_flags import tuple_parser

from configs import default
from cxr import files, run_files

# Config fields


class TupleParser(tuple_parser.TupleParser):
  """Reads several values of one field: 0.5,1 and cam,gradient as they are, and
  Python's ('cam','gradient'), in which a value may hold a comma."""

  def parse(self, arguments) -> tuple:
    if isinstance(arguments, tuple):  # the config's own
      return arguments
    if isinstance(arguments, str):
      arguments = [arguments]
    return tuple(value for text in arguments for value in _values(text))


def _values(text: str) -> list[int | float | str]:
  if "'" in text or '"' in text:
    with contextlib.suppress(ValueError, SyntaxError):
      values = ast.literal_eval(text.strip())
      values = values if isinstance(values, tuple | list) else [values]
      if all(isinstance(value, int | float | str) for value in values):
        return [_value(v) if isinstance(v, str) else v for v in values]
  words = [
    word.strip(' \t\'"') for word in text.strip().strip('()[]').split(',')
  ]
  return [_value(word) for word in words if word]


def _value(word: str) -> int | float | str:
  for kind in (int, float):
    try:
      return kind(word)
    except ValueError:
      pass
  return word


class NumberParser(flags.FloatParser):
  """Reads a number, and says what to write for a fraction."""

  def convert(self, argument) -> float:
    try:
      return super().convert(argument)
    except ValueError:
      raise ValueError(fraction_sentence(argument)) from None


class WholeNumberParser(flags.IntegerParser):
  """Reads a whole number."""

  def convert(self, argument) -> int:
    try:
      return super().convert(argument)
    except ValueError:
      raise ValueError(f'{argument!r} is not a whole number.') from None


def fraction_sentence(text: str) -> str:
  """What to write for a text that is not a number.

  >>> fraction_sentence('4/255')
  "'4/255' is not a number; epsilons and step sizes are in 1/255: write 4."
  >>> fraction_sentence('1/8')
  "'1/8' is not a number; write 0.125 (as an epsilon, in 1/255: 31.88)."
  >>> fraction_sentence('0,5')
  "'0,5' is not a number; write 0.5."
  """
  if re.fullmatch(r'\s*\d*,\d+\s*', text):
    return f'{text!r} is not a number; write {text.strip().replace(",", ".")}.'
  fraction = re.fullmatch(r'\s*([\d.]+)\s*/\s*([\d.]*[1-9][\d.]*)\s*', text)
  if fraction is None:
    return f'{text!r} is not a number.'
  above, below = map(float, fraction.groups())
  if below == 255:
    return (
      f'{text!r} is not a number; epsilons and step sizes are in 1/255: write '
      f'{above:g}.'
    )
  share = above / below
  return (
    f'{text!r} is not a number; write {share:.4g} (as an epsilon, in 1/255: '
    f'{255 * share:.4g}).'
  )


# Flags


def _find_config(argument: str) -> str:
  path, colon, preset = argument.partition(':')
  return files.find(path) + colon + preset


def _with_config_found(argv: Sequence[str]) -> list[str]:
  """The arguments with the path after --config, in either form, found."""
  found = []
  for argument in argv:
    name, equals, value = argument.partition('=')
    if found and found[-1] in _CONFIG_FLAGS:
      argument = _find_config(argument)
    elif name in _CONFIG_FLAGS and equals:
      argument = f'{name}={_find_config(value)}'
    found.append(argument)
  return found


_CONFIG_FLAGS = ('--config', '-config')


# What absl says of a value, and what we say.
_WORDS = (
  (
    r"\('Non-boolean argument to boolean flag', (.*)\)",
    r'\1 is neither True nor False.',
  ),
  (
    r'invalid literal for int\(\) with base 10: (.*)',
    r'\1 is not a whole number.',
  ),
)


def _unknown_field(argv: Sequence[str]) -> str:
  """A sentence on the first --config.FIELD that no config has; '' for none."""
  fields = run_files.flat(default.get_config())
  for argument in argv:
    name = argument.lstrip('-').partition('=')[0]
    if not name.startswith('config.'):
      continue
    name = name.removeprefix('config.')
    if not any(f'{field}.'.startswith(f'{name}.') for field in fields):
      (near,) = difflib.get_close_matches(name, fields, n=1, cutoff=0)
      return f'There is no config.{name}; the nearest is config.{near}.'
  return ''


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses the flags, or prints one sentence and ends with status 2.

  ml_collections alone would add a traceback.
  """
  app.define_help_flags()
  argv = _with_config_found(argv)
  for kind, parser in (
    (tuple, TupleParser()),
    (float, NumberParser()),
    (int, WholeNumberParser()),
  ):
    config_flags.register_flag_parser_for_type(kind, parser)
  try:
    # Defined here: it looks up the command line's config fields at once.
    config_flags.DEFINE_config_file(
      'config',
      _find_config('configs/baseline.py'),
      'What to run: configs/NAME.py, or configs/NAME.py:nih for the real '
      'films. Fields are overridden as in --config.attack.epsilon=2.',
      lock_config=True,
      sys_argv=argv,
    )
    rest = flags.FLAGS(argv)
    path = config_flags.get_config_filename(flags.FLAGS['config'])
    if not os.path.isfile(path.partition(':')[0]):
      raise ValueError(
        f'--config ({path}) is not a file, as configs/robust.py is.'
      )
    if rest[1:]:
      raise ValueError(
        f'{rest[1]!r} belongs to no flag; write --FLAG=VALUE, and several '
        'values with commas between them.'
      )
    return rest
  except (KeyError, AttributeError) as e:
    sentence = _unknown_field(argv) or f'--config is no config file: {e}.'
  except (flags.Error, ValueError, TypeError) as e:
    sentence = str(e).strip()
    if 'Traceback' in sentence:
      # The last line of a traceback is 'SomeError: the sentence'.
      sentence = sentence.splitlines()[-1].partition(': ')[2]
    for theirs, ours in _WORDS:
      sentence = re.sub(theirs, ours, sentence)
  except (SyntaxError, NameError, ImportError) as e:
    sentence = (
      f'--config is no config file in Python, as configs/robust.py is: {e}.'
    )
  print(f'Error: {sentence}', file=sys.stderr)
  sys.exit(2)


# Errors


def is_our_file(path: str) -> bool:
  """Whether a source file is the project's: a virtual environment may lie in
  the project's folder as well."""
  ours = ('main.py', 'configs', 'cxr', 'input_pipeline')
  return path.startswith(tuple(str(files.ROOT / name) for name in ours))


def is_ours(error: BaseException) -> bool:
  """Whether our own code raised it: then its message is a sentence."""
  frames = traceback.extract_tb(error.__traceback__)
  return bool(frames) and is_our_file(frames[-1].filename)


_MAKE_ROOM = 'Make room; the same command goes on from here.'
_ELSEWHERE = (
  'Films, lists and runs must be readable; --workdir, --output and '
  '--config.data.prepared_dir must lie where you may write.'
)
_WAYS_OUT = {
  errno.ENOSPC: (_MAKE_ROOM,),
  errno.EDQUOT: (_MAKE_ROOM,),
  errno.EACCES: (_ELSEWHERE,),
  errno.EROFS: (_ELSEWHERE,),
}


def explain(error: Exception) -> str:
  """The sentence for what the user can mend; '' for a defect of ours."""
  if isinstance(error, OSError):
    return '. '.join([str(error), *_WAYS_OUT.get(error.errno, ())])
  if 'No space left' in str(error):
    # TensorStore's, behind Orbax: it too says RESOURCE_EXHAUSTED.
    return f'No space is left on the disk. {_MAKE_ROOM}'
  if isinstance(error, ValueError | RuntimeError) and is_ours(error):
    return str(error)
  if isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error):
    return (
      'Out of memory; try a smaller train.batch_size or evaluate.batch_size, '
      "model.remat or data.cache='none'. The last checkpoint is kept."
    )
  return ''


class Terminated(KeyboardInterrupt):
  """SIGTERM outside of the training loop, which has a Stopped of its own.

  It is a kind of Ctrl-C, so that whatever is at work ends in the same order.
  """

  number = signal.SIGTERM


def terminate(number, frame):
  """A handler of SIGTERM. A second one does not wait."""
  del frame
  signal.signal(number, signal.SIG_DFL)
  raise Terminated


# Streams


class _Lasting(io.FileIO):
  """A stream that outlives its reader: `| head`, a terminal that was closed.

  A log that nobody reads is no reason to end a training.
  """

  def write(self, data) -> int:
    try:
      return super().write(data)
    except OSError:
      # The libraries write to the same descriptor.
      nothing = os.open(os.devnull, os.O_WRONLY)
      os.dup2(nothing, self.fileno())
      os.close(nothing)
      return len(data)


def last_streams() -> None:
  """Makes output to nowhere harmless.

  A closed descriptor (`2>&-`) is opened on the null device: else it would be
  given to the next file, and what libraries print would be written into it.
  """
  for descriptor in (0, 1, 2):
    try:
      os.fstat(descriptor)
    except OSError:
      # The lowest that is free: this one.
      os.open(os.devnull, os.O_RDWR)
  for name, descriptor in (('stdout', 1), ('stderr', 2)):
    stream = io.TextIOWrapper(
      io.BufferedWriter(_Lasting(descriptor, 'w', closefd=False)),
      encoding=getattr(getattr(sys, name), 'encoding', None),
      errors='backslashreplace',
      line_buffering=True,
      write_through=name == 'stderr',
    )
    setattr(sys, name, stream)
  logging.get_absl_handler().python_handler.stream = sys.stderr


def is_news(record: stdlib_logging.LogRecord) -> bool:
  """Whether a line of the log is shown: our own, and of the libraries what
  went wrong, once."""
  if is_our_file(record.pathname):
    return True
  # Orbax's threads log, with a traceback each, what it then raises here.
  raised_here = record.exc_info and 'orbax' in record.pathname
  return record.levelno > stdlib_logging.WARNING and not raised_here


def plain_logging() -> None:
  """Logs what is news, in short lines."""
  logging.set_verbosity(logging.INFO)
  handler = logging.get_absl_handler()
  handler.addFilter(is_news)
  handler.setFormatter(
    stdlib_logging.Formatter('%(asctime)s  %(message)s', '%H:%M:%S')
  )
