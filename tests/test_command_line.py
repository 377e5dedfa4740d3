"""What a user types, and what the program says."""

import errno
import logging as stdlib_logging
import os
import pathlib
import subprocess
import sys

import pytest

from cxr import command_line

ROOT = pathlib.Path(__file__).parents[1]


def test_a_full_disk_is_not_taken_for_full_memory():
  full = 'RESOURCE_EXHAUSTED: Error writing "x": No space left on device'
  assert 'No space is left' in command_line.explain(ValueError(full))
  assert 'Out of memory' in command_line.explain(
    ValueError('RESOURCE_EXHAUSTED: 9 GB')
  )


@pytest.mark.parametrize(
  'number, way_out',
  [(errno.ENOSPC, 'Make room'), (errno.EROFS, 'may write'), (errno.EIO, '')],
)
def test_a_system_error_names_the_file_and_a_way_out(number, way_out):
  sentence = command_line.explain(
    OSError(number, os.strerror(number), 'runs/a')
  )
  assert 'runs/a' in sentence and way_out in sentence
  assert '\n' not in sentence


def test_a_library_below_the_project_is_not_ours():
  assert command_line.is_our_file(str(ROOT / 'cxr' / 'train.py'))
  assert command_line.is_our_file(str(ROOT / 'main.py'))
  packages = ROOT / '.venv' / 'lib' / 'python3.11' / 'site-packages'
  assert not command_line.is_our_file(str(packages / 'orbax' / 'checkpoint.py'))


@pytest.mark.parametrize(
  ('path', 'level', 'raised', 'told'),
  [
    (ROOT / 'cxr' / 'train.py', stdlib_logging.INFO, False, True),
    ('/packages/jax/api.py', stdlib_logging.WARNING, False, False),
    ('/packages/jax/api.py', stdlib_logging.ERROR, True, True),
    ('/packages/orbax/checkpoint/future.py', stdlib_logging.ERROR, False, True),
    # The same exception comes to our own thread, which says one sentence.
    ('/packages/orbax/checkpoint/future.py', stdlib_logging.ERROR, True, False),
  ],
)
def test_of_the_libraries_only_what_went_wrong_and_once(
  path, level, raised, told
):
  try:
    raise ValueError('No space left on device')
  except ValueError:
    error = sys.exc_info() if raised else None
  record = stdlib_logging.LogRecord('', level, str(path), 1, 'x', (), error)
  assert command_line.is_news(record) == told


@pytest.mark.parametrize(
  ('text', 'values'),
  [
    ('0.5,1', (0.5, 1)),
    ('(0.5, 1.0)', (0.5, 1.0)),
    ('[2]', (2,)),
    ('3', (3,)),
    ('', ()),
    ('()', ()),
    ('cam,gradient', ('cam', 'gradient')),
    ("('cam', 'gradient')", ('cam', 'gradient')),
    ("('cam',)", ('cam',)),
    ('(cam,gradient)', ('cam', 'gradient')),
    ('"cam" , "gradient"', ('cam', 'gradient')),
    ("('Shadow, left', 'Mass')", ('Shadow, left', 'Mass')),
    ("('0.5', '1')", (0.5, 1)),
    ("Crohn's,Mass", ("Crohn's", 'Mass')),
    ('8/255,4/255', ('8/255', '4/255')),
  ],
)
def test_several_values_are_taken_as_people_write_them(text, values):
  assert command_line.TupleParser().parse([text]) == values
  assert command_line.TupleParser().parse(values) == values


def test_a_repeated_flag_adds_values():
  values = command_line.TupleParser().parse(['cam', 'gradient'])
  assert values == ('cam', 'gradient')


@pytest.mark.parametrize(
  ('text', 'sentence'),
  [
    ('4/255', 'epsilons and step sizes are in 1/255: write 4.'),
    (' 1.5 / 255 ', 'write 1.5.'),
    ('1/10', 'write 0.1 (as an epsilon, in 1/255: 25.5).'),
    ('8/256', 'write 0.03125 (as an epsilon, in 1/255: 7.969).'),
    ('0,03', 'write 0.03.'),
    ('2/0', "'2/0' is not a number."),
    ('four', "'four' is not a number."),
  ],
)
def test_a_fraction_is_answered_with_the_number(text, sentence):
  with pytest.raises(ValueError) as error:
    command_line.NumberParser().convert(text)
  assert str(error.value).endswith(sentence)


def call(arguments):
  """main.py as a shell calls it, from another folder."""
  return subprocess.run(
    [sys.executable, str(ROOT / 'main.py'), *arguments],
    cwd='/',
    capture_output=True,
    text=True,
    timeout=120,
  )


@pytest.mark.parametrize(
  ('arguments', 'sentence'),
  [
    (['--mode=explain', '/a/film.png'], "'/a/film.png' belongs to no flag"),
    (
      ['--config=configs/robust.py:smoke', '--config.attack.epsilon=4/255'],
      'write 4.',
    ),
    (['--config.train.batch_size=8.5'], "'8.5' is not a whole number"),
    (['--config=~/no_such.py'], 'no_such.py) is not a file'),
  ],
)
def test_what_is_not_understood_is_one_sentence(arguments, sentence):
  done = call(arguments)
  assert done.returncode == 2
  assert done.stderr.startswith('Error: ') and done.stderr.count('\n') == 1
  assert sentence in done.stderr and '~' not in done.stderr


_FORKED = """
import os, sys
import main  # defines the flags, once for all
from cxr import command_line
for argument in sys.argv[1:]:
  if not os.fork():
    os.dup2(1, 2)
    command_line.parse_flags(['main.py', argument])
    os._exit(0)
  _, status = os.wait()
  print('status', os.waitstatus_to_exitcode(status), flush=True)
"""
MEANT_OTHERWISE = {
  '--config.attack.eps=4': 'no config.attack.eps; the nearest is '
  'config.attack.epsilon.',
  '--config.epsilon=4': 'the nearest is config.attack.epsilon.',
  '--config.evaluate.attack=pgd': 'the nearest is config.evaluate.attacks.',
  '--config.augment.flip=no': "'no' is neither True nor False.",
  '--num_processes=two': "'two' is not a whole number.",
  '--config=README.md': 'no config file in Python',
  '--config=tests/conftest.py': 'no config file',
  '--config=robust': 'not a file, as configs/robust.py is.',
}


def test_what_is_meant_otherwise_is_one_sentence():
  done = subprocess.run(
    [sys.executable, '-c', _FORKED, *MEANT_OTHERWISE],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
  )
  lines = done.stdout.splitlines()
  assert lines[1::2] == ['status 2'] * len(MEANT_OTHERWISE), done.stdout
  for line, sentence in zip(lines[::2], MEANT_OTHERWISE.values(), strict=True):
    assert line.startswith('Error: ') and sentence in line


@pytest.mark.parametrize(
  'arguments',
  [
    ['--config=configs/l2.py:nih'],
    ['-config=configs/l2.py:nih'],
    ['--config', 'configs/l2.py:nih'],
  ],
)
def test_a_config_of_the_project_is_found_from_another_folder(
  arguments, monkeypatch, tmp_path
):
  monkeypatch.chdir(tmp_path)
  found = command_line._with_config_found(['main.py', *arguments])
  assert ' '.join(found).endswith(f'{ROOT}/configs/l2.py:nih')
  # One that lies there comes first.
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs' / 'l2.py').touch()
  argv = ['main.py', *arguments]
  assert command_line._with_config_found(argv) == argv


_TO_NOWHERE = """
import os, sys
from cxr import command_line
command_line.last_streams()
command_line.plain_logging()
from absl import logging
with open(sys.argv[1], 'w') as f:
  for i in range(3):
    print('to the reader', file=sys.stderr)
    logging.info('a line')
    print('more', flush=True)
  os.write(2, b'of a library')
  f.write('done')
"""


@pytest.mark.parametrize('redirection', ['2>&-', '>&-', '>&- 2>&- <&-'])
def test_closed_output_ends_nothing_and_goes_into_no_file(
  tmp_path, redirection
):
  path = tmp_path / 'file'
  done = subprocess.run(
    f'"{sys.executable}" -c "$CODE" "{path}" {redirection}',
    shell=True,
    cwd=ROOT,
    env=os.environ | {'CODE': _TO_NOWHERE},
  )
  assert done.returncode == 0
  assert path.read_text() == 'done'


def test_a_reader_that_has_gone_ends_nothing(tmp_path):
  path = tmp_path / 'file'
  reader, writer = os.pipe()
  os.close(reader)
  done = subprocess.run(
    [sys.executable, '-c', _TO_NOWHERE, str(path)],
    cwd=ROOT,
    stdout=writer,
    stderr=writer,
  )
  os.close(writer)
  assert done.returncode == 0 and path.read_text() == 'done'


def test_a_notebooks_backend_is_not_asked_for(tmp_path):
  """--mode=report imports Matplotlib, which would refuse this name."""
  done = subprocess.run(
    [sys.executable, 'main.py', '--mode=report', f'--workdir={tmp_path}'],
    cwd=ROOT,
    env=os.environ | {'MPLBACKEND': 'module://no_such.backend_inline'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  assert done.stderr.strip().splitlines()[-1].startswith('Error: No run in ')


def test_a_notebook_keeps_its_backend():
  code = 'import os, main; print(os.environ["MPLBACKEND"])'
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=ROOT,
    env=os.environ | {'MPLBACKEND': 'inline'},
    capture_output=True,
    text=True,
  )
  assert done.stdout == 'inline\n'
