"""A full disk, a read-only folder, a workdir in use: one sentence, no loss.

  python -m tests.faults.disk

As root (it mounts small tmpfs); says so and ends with 0 where it cannot. Each
size of disk is one trial: a command is run in it until it fails, the disk is
made larger, and the same command must end with the bytes and the parameters of
a run that never was short of room.
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
  ['16k', '300k', '500k', '700k', '900k', '1100k', '1500k'],
  'Of the disks, in kibibytes.',
)


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
  lost = 0
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
      prepare = [*(sys.executable, '-c', kill._PREPARE), base / 'phantom', disk]
      lost += told(f'preparation, full at {size}', run(prepare), last=True)
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


def told(name: str, done, *, last: bool = False) -> int:
  """Prints what was said; 1 where it was no sentence."""
  lines = done.stderr.strip().splitlines() or ['']
  sentence = lines[-1]
  print(f'{name}: {done.returncode}, {sentence[:200]}', flush=True)
  fine = done.returncode == 0 or last
  fine |= 'rror: ' in sentence and 'Traceback' not in done.stderr
  if not fine:
    print('\n'.join(lines[-12:]))
  return not fine


if __name__ == '__main__':
  app.run(main)
