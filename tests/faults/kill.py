"""kill -9 at random moments: what was lost?

  python -m tests.faults.kill --job=train --moments=10 --seed=0

Each trial starts a command in an empty folder, kills it at moments drawn from
the time that it takes undisturbed (by turns its whole process group and its
first process alone, whose workers must then end by themselves), starts the
same command again, up to three times, and then lets it end. What it leaves is
compared with what the undisturbed command left: the results' bytes, the
parameters' bits, and files that should not be there. Exits with 1 where
anything differs.

Jobs: phantom (drawing), prepare (decoding), train (with the evaluation),
checkpoint (train, killed within 0.3 s of a checkpoint's first byte), evaluate
(alone), all (train on films not yet drawn).

Linux only: processes are found by /proc.
"""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np
from absl import app, flags, logging

from cxr import inference

ROOT = pathlib.Path(__file__).parents[2]
_JOB = flags.DEFINE_enum(
  'job',
  'train',
  ['phantom', 'prepare', 'train', 'checkpoint', 'evaluate', 'all'],
  'What is killed.',
)
_MOMENTS = flags.DEFINE_integer('moments', 10, 'Kills in all.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of the moments.')
_KILLS_A_TRIAL = 3
_MARK = 'CXR_FAULTS_TRIAL'
_RESULTS = ('metrics.json', 'predictions.csv', 'boxes.csv')
_PREPARE = """
import sys
from input_pipeline import prepare
from input_pipeline.sources import film_table
prepare._CHUNK_FILMS = 16
print('at work', flush=True)
prepare.prepare(sys.argv[1], film_table.Options(validation_fraction=.1),
                image_size=48, prepared_dir=sys.argv[2], num_workers=2)
"""


class Job(NamedTuple):
  """`folder` is the trial's; `made` what all trials share."""

  command: Callable[[pathlib.Path], list]
  begun: Callable[[pathlib.Path, str], bool]  # (folder, its output)
  left: Callable[[pathlib.Path], Mapping[str, object]]
  start: Callable[[pathlib.Path], None] = lambda folder: None
  span: float = 0.0  # seconds in which moments lie; 0: all its time


def main(argv):
  del argv
  logging.set_verbosity(logging.WARNING)  # else Orbax tells each step
  base = pathlib.Path(tempfile.mkdtemp(prefix='kill-'))
  job = make_job(_JOB.value, base)
  # The first fills the compilation cache, so that the second takes as long as
  # those that follow.
  for name in ('warm', 'whole'):
    whole = base / name
    job.start(whole)
    took, _ = run(job, whole, None)
  expected = job.left(whole)
  span = job.span or took
  print(f'{_JOB.value}: {took:.1f} s undisturbed; {len(expected)} results.')

  rng = random.Random(_SEED.value)
  moments = lost = 0
  while moments < _MOMENTS.value:
    folder = base / f'trial-{moments}'
    job.start(folder)
    for k in range(_KILLS_A_TRIAL + 1):
      last = k == _KILLS_A_TRIAL or moments == _MOMENTS.value
      delay = None if last else rng.uniform(0, span)
      group = rng.random() < 0.5
      _, phase = run(job, folder, delay, group=group)
      if phase is None:
        break
      moments += 1
      print(
        f'  {moments:3d}  {"group" if group else "first"} killed after '
        f'{delay:5.2f} s: {phase}',
        flush=True,
      )
    differs = differences(expected, job.left(folder))
    lost += len(differs)
    print(f'  -> {"; ".join(differs) or "the same"}', flush=True)
    shutil.rmtree(folder)
  print(f'{_JOB.value}: {moments} kills, {lost} differences.')
  if not lost:
    shutil.rmtree(base)
  sys.exit(bool(lost))


def run(
  job: Job, folder: pathlib.Path, delay: float | None, *, group: bool = True
) -> tuple[float, str | None]:
  """Runs the job; (seconds at work, what it was at when it was killed)."""
  folder.mkdir(exist_ok=True)
  log = folder.with_name(f'{folder.name}.log')
  mark = f'{os.getpid()}-{time.monotonic_ns()}'
  with open(log, 'w') as out:
    process = subprocess.Popen(
      job.command(folder),
      cwd=ROOT,
      env=os.environ | {'JAX_PLATFORMS': 'cpu', _MARK: mark},
      stdout=out,
      stderr=subprocess.STDOUT,
      start_new_session=True,
    )
  while process.poll() is None and not job.begun(folder, log.read_text()):
    time.sleep(0.01)
  begun = time.monotonic()
  phase = None
  try:
    process.wait(delay)
  except subprocess.TimeoutExpired:
    if group:
      os.killpg(process.pid, signal.SIGKILL)
    else:
      process.kill()
    process.wait()
    phase = phase_of(folder, log.read_text())
  if phase is None and process.returncode:
    raise RuntimeError(f'{log}: {log.read_text()[-2000:]}')
  took = time.monotonic() - begun
  deadline = time.monotonic() + 10
  while left := processes(mark):
    if time.monotonic() > deadline:
      raise RuntimeError(f'Processes {left} outlive the command.')
    time.sleep(0.05)
  return took, phase


def phase_of(folder: pathlib.Path, log: str) -> str:
  lines = [line.strip() for line in log.replace('\r', '\n').splitlines()]
  last = ([line for line in lines if line] or ['no line yet'])[-1][:60]
  tmp = [str(p.relative_to(folder)) for p in folder.rglob('*tmp*')]
  return f'{last}' + (f' [{tmp[0][:50]} there]' if tmp else '')


def processes(mark: str) -> list[int]:
  """Those that were started with this mark in their environment."""
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*/environ'):
    try:
      if f'{_MARK}={mark}'.encode() in path.read_bytes().split(b'\0'):
        found.append(int(path.parent.name))
    except OSError:
      continue  # it has ended, or is another user's
  return found


def differences(expected, found) -> list[str]:
  return [
    f'{name} differs' if name in expected and name in found
    else f'{name} is missing' if name in expected
    else f'{name} is left over'
    for name in sorted(expected.keys() | found.keys())
    if expected.get(name) != found.get(name)
  ]  # fmt: skip


def files(folder: pathlib.Path) -> dict[str, object]:
  return {
    str(p.relative_to(folder)): p.read_bytes()
    for p in folder.rglob('*')
    if p.is_file()
  }


def results(folder: pathlib.Path) -> dict[str, object]:
  """A workdir's results, its parameters, and the names of all else."""
  # Their names tell the time at which they were written.
  names = {
    str(p.relative_to(folder)): None
    for p in folder.rglob('*')
    if p.is_file() and 'checkpoints' not in p.parts and 'events' not in p.name
  }
  _, _, variables, step = inference.load_model(str(folder))
  return (
    names
    # metrics.json names the films' folder, which may lie in the trial's own.
    | {
      name: (folder / name)
      .read_bytes()
      .replace(f'{folder.parent}/'.encode(), b'')
      for name in _RESULTS
    }
    | {
      f'{step}{jax.tree_util.keystr(path)}': np.asarray(leaf).tobytes()
      for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
  )


def make_draw(folder: pathlib.Path) -> list:
  return [
    *(sys.executable, '-m', 'input_pipeline.phantom'),
    *(f'--dir={folder}/phantom', '--num_films=160', '--workers=2'),
  ]


def make_job(name: str, base: pathlib.Path) -> Job:
  python = sys.executable
  train = lambda folder, data: [
    *(python, ROOT / 'main.py', f'--workdir={folder}'),
    '--config=configs/robust.py:smoke',
    f'--config.data.dir={data}/phantom',
    f'--config.data.prepared_dir={data}/prepared',
    '--config.attack.num_steps=1',
    '--config.evaluate.checkpoint=latest',
  ]
  at_work = lambda folder, out: 'device(s)' in out
  if name == 'phantom':
    return Job(
      command=make_draw,
      begun=lambda folder, out: any(folder.iterdir()),
      left=files,
    )
  if name == 'all':
    return Job(
      command=lambda folder: train(folder / 'run', folder),
      begun=at_work,
      left=lambda folder: (
        results(folder / 'run') | {p.name: None for p in folder.iterdir()}
      ),
    )
  subprocess.run(make_draw(base), cwd=ROOT, check=True, capture_output=True)
  if name == 'prepare':
    return Job(
      command=lambda folder: [
        *(python, '-c', _PREPARE, base / 'phantom', folder)
      ],
      begun=lambda folder, out: 'at work' in out,
      left=files,
    )
  if name == 'evaluate':
    trained = base / 'trained'
    subprocess.run(train(trained, base), cwd=ROOT, check=True)
    for path in trained.iterdir():
      if path.name not in ('checkpoints', 'config.json'):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return Job(
      command=lambda folder: [*train(folder, base), '--mode=evaluate'],
      begun=at_work,
      left=results,
      start=lambda folder: shutil.copytree(trained, folder),
    )
  if name == 'train':
    return Job(
      command=lambda folder: train(folder, base), begun=at_work, left=results
    )
  return Job(
    command=lambda folder: train(folder, base),
    begun=lambda folder, out: any(folder.glob('checkpoints/*tmp*')),
    left=results,
    span=0.3,
  )


if __name__ == '__main__':
  app.run(main)
