"""Trains, evaluates, compares, explains and exports; see README.md.

python main.py --config=configs/robust.py
python main.py --mode=compare --workdirs=runs/baseline,runs/robust

Ends with 0; 2 after one sentence on what the user can mend; 130 after Ctrl-C
and 143 after SIGTERM, as a shell counts signals; 1 after anything else.
"""

import os
import signal
import sys

# TensorFlow and XLA greet at length; a user's first lines should be ours.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

from absl import app, flags, logging

from cxr import command_line, jax_setup

FLAGS = flags.FLAGS
flags.DEFINE_enum(
  'mode',
  'train',
  [
    'train',
    'fit',
    'evaluate',
    'score',
    'report',
    'compare',
    'study',
    'explain',
    'export',
  ],
  'What to do.',
)
flags.DEFINE_string(
  'workdir',
  '',
  'The run; default runs/<config.name>. For --mode=explain also a folder that '
  '--mode=export wrote, or shipped://NAME, a network that comes with the code; '
  'default shipped://nih_robust.',
)
flags.DEFINE_list(
  'workdirs',
  [],
  'Two or more runs, for --mode=compare and study; study takes patterns.',
)
flags.DEFINE_string(
  'maps', '', 'An .npz file or a folder of maps, for --mode=score.'
)
flags.DEFINE_string(
  'method', None, "What the maps of --mode=score are called; default 'given'."
)
flags.DEFINE_float(
  'stride', None, 'Pixels between the cells of --maps; see docs/maps.md.'
)
flags.DEFINE_float('offset', None, 'The pixel that the first cell looks at.')
flags.DEFINE_integer(
  'input_size', None, "Side of the input of --maps' network, in pixels."
)
flags.DEFINE_enum(
  'covers',
  None,
  ['film', 'square'],
  'What --maps cover: the film as it is stored, or the square with black '
  'beside it that this program prepares.',
)
flags.DEFINE_string(
  'predictions', '', 'A csv of image and findings, for --mode=score.'
)
flags.DEFINE_enum(
  'predictions_are',
  None,
  ['logits', 'probabilities'],
  'What --predictions are, where their values do not tell.',
)
flags.DEFINE_string('images', '', 'A film or a folder, for --mode=explain.')
flags.DEFINE_string(
  'output',
  '',
  'Where score, compare, study, explain, export and evaluations on other films '
  'write.',
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
flags.DEFINE_string(
  'profile',
  '',
  'START,STEPS: traces STEPS training steps after the first START, for '
  'TensorBoard or Perfetto, in <workdir>/profile.',
)
flags.DEFINE_bool(
  'deterministic',
  False,
  'On a GPU, the same bits from run to run, by slower kernels. A CPU and a TPU '
  'give them anyway.',
)
flags.DEFINE_bool('traceback', False, 'Show where an error was raised.')


def main(argv):
  del argv
  jax_setup.set_up_cpu(os.environ, onednn=FLAGS.onednn)
  if FLAGS.deterministic:
    jax_setup.set_deterministic(os.environ)
  # Imported here: every spawned worker process imports this file.
  import jax

  from cxr import modes, sharding

  if FLAGS.onednn:
    # jaxlib 0.12 fails to write a program that calls it.
    jax.config.update('jax_enable_compilation_cache', False)
  else:
    jax_setup.keep_programs()
  jax_setup.set_precision()
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
  logging.info('%s', jax_setup.find_devices())
  modes.run(
    FLAGS.mode,
    modes.Request(
      config=FLAGS.config,
      config_chosen=bool(FLAGS['config'].present),
      overrides=FLAGS['config'].override_values,
      workdir=FLAGS.workdir,
      workdirs=tuple(FLAGS.workdirs),
      images=FLAGS.images,
      maps=FLAGS.maps,
      place=modes.Place(
        FLAGS.stride,
        FLAGS.offset,
        FLAGS.input_size,
        FLAGS.covers,
        method=FLAGS.method,
      ),
      predictions=FLAGS.predictions,
      predictions_are=FLAGS.predictions_are or '',
      output=FLAGS.output,
      profile=FLAGS.profile,
    ),
  )


def run(argv) -> int:
  """`main`, with one sentence for what the user can mend; the exit status."""
  signal.signal(signal.SIGTERM, command_line.terminate)
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
    sentence = command_line.explain(e)
    if FLAGS.traceback or not sentence:
      raise
    print(f'Error: {sentence}', file=sys.stderr)
    return 2
  return 0


if __name__ == '__main__':
  # A notebook exports its own, which this process may be unable to import.
  os.environ['MPLBACKEND'] = 'agg'
  command_line.last_streams()
  command_line.plain_logging()
  app.run(run, flags_parser=command_line.parse_flags)
