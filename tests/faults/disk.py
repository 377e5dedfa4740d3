"""A full disk, a read-only folder, a workdir in use: one sentence, no loss.

  python -m tests.faults.disk

As root (it mounts small tmpfs); says so and ends with 0 where it cannot. Each
size of disk is one trial: a command is run in it until it fails, the disk is
made larger, and the same command must end with the bytes and the parameters of
a run that never was short of room. What fails must end with status 2 and, as
its last line, one 'Error: ' sentence.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from absl import app, flags, logging

from tests.faults import kill

_SIZES = flags.DEFINE_list(
  'sizes',
  ['16k', '300k', '600k', '900k', '1500k'],
  'Of the disks, in kibibytes.',
)

# Through main's own sentences. 'unasked': the room goes while it is at work.
_PREPARE = """
import shutil, sys
from cxr import command_line
from input_pipeline import prepare
from input_pipeline.sources import film_table
folder, prepared, how = sys.argv[1:]
if how == 'unasked':
  shutil.disk_usage = lambda _: shutil._ntuple_diskusage(10**12, 0, 10**12)
try:
  prepare.prepare(folder, film_table.Options(validation_fraction=.1),
                  image_size=64, prepared_dir=prepared, num_workers=2)
except Exception as e:
  if not command_line.explain(e):
    raise
  print(f'Error: {command_line.explain(e)}', file=sys.stderr)
  sys.exit(2)
"""


def main(argv):
  del argv
  logging.set_verbosity(logging.WARNING)
  base = pathlib.Path(tempfile.mkdtemp(prefix='disk-'))
  disk = base / 'disk'
  disk.mkdir()
  if mount('-t', 'tmpfs', '-o', 'size=64k', 'none', disk):
    print('Skipped: only root can mount.')
    return
  unmount(disk)
  job = kill.make_job('train', base)
  kill.run(job, base / 'whole', None)
  expected = job.left(base / 'whole')
  prepare = [*(sys.executable, '-c', _PREPARE), base / 'phantom']
  lost = told(
    'preparation', run([*prepare, base / 'there', 'asked']), fails=False
  )
  prepared = kill.files(base / 'there')
  try:
    for size in _SIZES.value:
      mount('-t', 'tmpfs', '-o', f'size={size}', 'none', disk)
      full = run(job.command(disk))
      lost += told(f'full at {size}', full)
      mount('-o', 'remount,size=64m', disk)
      after = run(job.command(disk))
      differs = kill.differences(expected, job.left(disk))
      print(f'  -> {"; ".join(differs) or "the same"} ({after.returncode})')
      lost += len(differs)
      if size == _SIZES.value[-1]:
        mount('-o', 'remount,ro', disk)
        for mode in ('train', 'evaluate', 'report'):
          done = run([*job.command(disk), f'--mode={mode}'])
          lost += told(f'read-only, {mode}', done)
        differs = kill.differences(expected, job.left(disk))
        print(f'  -> {"; ".join(differs) or "the same"}')
        lost += len(differs)
      unmount(disk)
    for size in ('100k', '400k'):
      mount('-t', 'tmpfs', '-o', f'size={size}', 'none', disk)
      drawn = run(kill.make_draw(disk))
      lost += told(f'phantom, full at {size}', drawn)
      left = [p.name for p in disk.iterdir()]
      print(f'  -> {left or "nothing left"}')
      lost += len(left)
      prepare = [*(sys.executable, '-c', _PREPARE), base / 'phantom', disk]
      lost += told(f'preparation, full at {size}', run([*prepare, 'asked']))
      lost += told(f'  amid it at {size}', run([*prepare, 'unasked']))
      mount('-o', 'remount,size=64m', disk)
      lost += told('  with room', run([*prepare, 'asked']), fails=False)
      differs = kill.differences(prepared, kill.files(disk))
      print(f'  -> {"; ".join(differs) or "the same"}')
      lost += len(differs)
      unmount(disk)
  finally:
    if os.path.ismount(disk):
      unmount(disk)
  shutil.rmtree(base)
  print(f'{lost} lost.')
  sys.exit(bool(lost))


def mount(*arguments) -> int:
  command = ['mount', *map(str, arguments)]
  return subprocess.run(command, capture_output=True).returncode


def unmount(folder) -> None:
  subprocess.run(['umount', str(folder)], check=True)


def run(command):
  return subprocess.run(
    command,
    cwd=kill.ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )


def told(name: str, done, *, fails: bool = True) -> int:
  """Prints what was said; 1 where it was not what it should be."""
  lines = done.stderr.strip().splitlines() or ['']
  sentence = lines[-1]
  print(f'{name}: {done.returncode}, {sentence[:200]}', flush=True)
  if fails:
    fine = done.returncode == 2 and 'Traceback' not in done.stderr
    ours = ('Error: ', 'python -m input_pipeline.phantom: error: ')
    fine &= sentence.startswith(ours)
  else:
    fine = done.returncode == 0
  if not fine:
    print('\n'.join(lines[-12:]))
  return not fine


if __name__ == '__main__':
  app.run(main)
