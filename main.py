"""Trains, evaluates, compares, explains and exports; see README.md.

python main.py --config=configs/robust.py
python main.py --mode=compare --workdirs=runs/baseline,runs/robust

Ends with 0; 2 after one sentence on what the user can mend; 130 after Ctrl-C
and 143 after SIGTERM, as a shell counts signals; 1 after anything else.
"""

import ctypes
import errno
import importlib.metadata
import logging as stdlib_logging
import os
import platform
import re
import signal
import sys
import traceback

# TensorFlow and XLA greet at length; a user's first lines should be ours.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

from absl import app, flags, logging
from ml_collections import config_flags

FLAGS = flags.FLAGS
flags.DEFINE_enum(
  'mode',
  'train',
  [
    'train',
    'fit',
    'evaluate',
    'report',
    'compare',
    'study',
    'explain',
    'export',
  ],
  'What to do.',
)
flags.DEFINE_string('workdir', '', 'The run; default runs/<config.name>.')
flags.DEFINE_list(
  'workdirs',
  [],
  'Two or more runs, for --mode=compare and study; study takes patterns.',
)
flags.DEFINE_string('images', '', 'A film or a folder, for --mode=explain.')
flags.DEFINE_string(
  'output', '', 'Where compare, study, explain and export write.'
)
flags.DEFINE_bool(
  'distributed',
  False,
  'Join the processes of one job (jax.distributed). On a cluster that JAX '
  'knows the three flags below are found out.',
)
flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0.')
flags.DEFINE_integer('num_processes', None, 'Processes of the job.')
flags.DEFINE_integer('process_id', None, 'Which of them this one is, from 0.')
flags.DEFINE_bool(
  'onednn',
  False,
  "On a CPU, convolutions by oneDNN (jaxlib 0.12): PyTorch's kernels; programs "
  'are then compiled anew at every start.',
)
flags.DEFINE_bool('traceback', False, 'Show where an error was raised.')


def keep_freed_memory():
  """Has glibc reuse large blocks instead of handing each back to Linux.

  XLA asks for all of a program's scratch memory at every call; to be given it
  page by page took a fifth of an evaluation's time on a CPU.
  """
  if not sys.platform.startswith('linux'):
    return
  libc = ctypes.CDLL(None)
  if not hasattr(libc, 'gnu_get_libc_version'):
    return
  # Of malloc.h: M_ARENA_MAX 1 (only the main arena grows without end),
  # M_MMAP_MAX 0, M_TRIM_THRESHOLD the largest.
  for parameter, value in ((-8, 1), (-4, 0), (-1, 2**31 - 1)):
    libc.mallopt(parameter, value)


def _jaxlib() -> str:
  return importlib.metadata.version('jaxlib')


def has_onednn() -> bool:
  """Whether XLA's calls of oneDNN were tried with this jaxlib."""
  return _jaxlib().startswith('0.12.') and platform.machine() == 'x86_64'


def set_up_xla(environ, onednn: bool):
  """What XLA is to do on a CPU; before JAX starts. XLA_FLAGS has the last word.

  Nothing for a jaxlib that it was not tried with: XLA ends the process at a
  flag that it does not know.

  Raises:
    ValueError: `onednn`, and there is none.
  """
  if onednn and not has_onednn():
    raise ValueError(
      '--onednn needs jaxlib 0.12 (Python 3.12 or later) on x86_64, not '
      f'{_jaxlib()} on {platform.machine()}; leave it out.'
    )
  if not _jaxlib().startswith('0.12.'):
    return
  # An order for the sake of concurrency keeps more arrays alive: a PGD-3 step
  # of ResNet-18 took 2.0 GiB for 1.4, and was 0 to 5 % faster.
  flags = ['--xla_cpu_enable_concurrency_optimized_scheduler=false']
  if onednn:
    flags += [
      '--xla_cpu_experimental_onednn_custom_call=true',
      # Else YNNPACK has the convolutions first.
      '--xla_cpu_experimental_ynn_fusion_type='
      '-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION',
    ]
  environ['XLA_FLAGS'] = ' '.join([*flags, environ.get('XLA_FLAGS', '')])


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {argv[1]!r}.')
  keep_freed_memory()
  set_up_xla(os.environ, FLAGS.onednn)
  # Imported here: every spawned worker process imports this file.
  import jax

  from cxr import modes, sharding

  if FLAGS.onednn:
    # jaxlib 0.12 fails to write a program that calls it.
    jax.config.update('jax_enable_compilation_cache', False)
  else:
    keep_programs(jax.config)
  job = FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id
  if FLAGS.distributed:
    sharding.join_processes(*job)
    if jax.process_index():
      # Process 0 speaks for all.
      logging.set_verbosity(logging.WARNING)
  elif job != (None, None, None):
    raise ValueError(
      '--coordinator, --num_processes and --process_id need --distributed.'
    )
  logging.info(
    '%d device(s): %s', jax.device_count(), jax.devices()[0].device_kind
  )
  modes.MODES[FLAGS.mode](
    modes.Request(
      config=FLAGS.config,
      overrides=FLAGS['config'].override_values,
      workdir=FLAGS.workdir,
      workdirs=tuple(FLAGS.workdirs),
      images=FLAGS.images,
      output=FLAGS.output,
    )
  )


def keep_programs(jax_config):
  """Compiled programs are kept on disk: a second start compiles nothing."""
  folder = os.environ.get('JAX_COMPILATION_CACHE_DIR') or os.path.join(
    os.environ.get('XDG_CACHE_HOME')
    or os.path.join(os.path.expanduser('~'), '.cache'),
    'cxr',
    'jax',
  )
  jax_config.update('jax_compilation_cache_dir', folder)
  # Small programs too (the default leaves out what compiles in a second):
  # there are hundreds.
  jax_config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


def is_our_file(path: str) -> bool:
  """Not: below this folder, where a virtual environment may lie as well."""
  here = os.path.dirname(os.path.abspath(__file__))
  ours = ('main.py', 'configs', 'cxr', 'input_pipeline')
  return path.startswith(tuple(os.path.join(here, name) for name in ours))


def is_ours(error: BaseException) -> bool:
  """Whether our own code raised it: then its sentence says it all."""
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
  """SIGTERM outside of the training loop, which has its own Stopped.

  A kind of Ctrl-C, so that whatever is at work ends in the same order.
  """

  number = signal.SIGTERM


def terminate(number, frame):
  del frame
  # A second one does not wait.
  signal.signal(number, signal.SIG_DFL)
  raise Terminated


def run(argv):
  """`main`, with one sentence for what the user can mend."""
  signal.signal(signal.SIGTERM, terminate)
  try:
    main(argv)
  except KeyboardInterrupt as e:
    # Stopped has a message and a number, Terminated a number, Ctrl-C neither.
    print(
      e if e.args else 'Interrupted; the same command goes on from here.',
      file=sys.stderr,
    )
    return 128 + getattr(e, 'number', signal.SIGINT)
  except Exception as e:
    sentence = explain(e)
    if FLAGS.traceback or not sentence:
      raise
    print(f'Error: {sentence}', file=sys.stderr)
    return 2
  return 0


def parse_flags(argv):
  """The flags, or one sentence; ml_collections would add a traceback."""
  app.define_help_flags()
  try:
    # Defined here: it looks up the command line's config fields at once.
    config_flags.DEFINE_config_file(
      'config',
      'configs/baseline.py',
      'What to run: configs/NAME.py, or configs/NAME.py:nih for the real '
      'films. Fields are overridden as in --config.attack.epsilon=2.',
      lock_config=True,
    )
    rest = FLAGS(argv)
    path = config_flags.get_config_filename(FLAGS['config'])
    if not os.path.isfile(path.partition(':')[0]):
      raise ValueError(f'--config ({path}) is not a file.')
    return rest
  except (KeyError, AttributeError) as e:
    # An unknown field; the last line is the library's 'Did you mean'.
    hint = re.search('Did you mean.*', str(e.args[0]))
    sentence = f'No such config field. {hint[0] if hint else e}'
  except (flags.Error, ValueError, TypeError) as e:
    sentence = str(e).strip()
    if 'Traceback' in sentence:
      # The last line of a traceback is 'SomeError: the sentence'.
      sentence = sentence.splitlines()[-1].partition(': ')[2]
  print(f'Error: {sentence}', file=sys.stderr)
  sys.exit(2)


def is_news(record: stdlib_logging.LogRecord) -> bool:
  """Our own lines; of the libraries only what went wrong, and once."""
  if is_our_file(record.pathname):
    return True
  # Orbax's threads log, with a traceback each, what it then raises here.
  raised_here = record.exc_info and 'orbax' in record.pathname
  return record.levelno > stdlib_logging.WARNING and not raised_here


def plain_logging():
  """What is news, in short lines."""
  logging.set_verbosity(logging.INFO)
  handler = logging.get_absl_handler()
  handler.addFilter(is_news)
  handler.setFormatter(
    stdlib_logging.Formatter('%(asctime)s  %(message)s', '%H:%M:%S')
  )


if __name__ == '__main__':
  plain_logging()
  app.run(run, flags_parser=parse_flags)
