"""One device, four, and two processes of two: the same run.

Tiny films and a tiny network, trained over 20 adversarial steps in each way.
"""

import csv
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from configs import robust
from cxr import data, inference, sharding
from cxr.training import configured_step, setup, signals, train
from input_pipeline.findings import FINDINGS
from input_pipeline.phantom import write

ROOT = pathlib.Path(__file__).parents[1]
FIELDS = {
  'data.image_size': 32,
  'model.num_filters': 4,
  'model.num_stages': 1,
  'model.output_stride': 4,
  'attack.num_steps': 2,
  'train.num_epochs': 4.0,
  'train.log_every': 1,
  'train.validate_every': 4.0,
  'train.robust_films': 0,
  'evaluate.checkpoint': 'latest',
  'evaluate.methods': ('cam',),
  'evaluate.num_steps': 1,
  'evaluate.num_resamples': 10,
}


@pytest.fixture(scope='module')
def fields(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  # The smallest that can be drawn; prepared smaller.
  write.write_phantom(
    folder / 'phantom', num_films=120, image_size=48, workers=1, progress=False
  )
  return FIELDS | {
    'data.dir': str(folder / 'phantom'),
    'data.prepared_dir': str(folder / 'prepared'),
  }


def config_of(fields, **options):
  config = robust.get_config('smoke')
  config.update_from_flattened_dict(fields | options)
  return config


def on(num_devices, monkeypatch):
  make_mesh = sharding.make_mesh
  monkeypatch.setattr(sharding, 'make_mesh', lambda: make_mesh(num_devices))


def trained(fields, workdir, num_devices, **options):
  with pytest.MonkeyPatch.context() as monkeypatch:
    on(num_devices, monkeypatch)
    train.train(config_of(fields, **options), str(workdir))
  return workdir


@pytest.fixture(scope='module')
def alone(fields, tmp_path_factory):
  return trained(fields, tmp_path_factory.mktemp('alone'), 1)


def variables_of(workdir):
  return inference.load_model(str(workdir))[2:]


def losses_of(workdir):
  with open(workdir / 'train.jsonl') as f:
    records = map(json.loads, f)
    return {r['step']: r['train/loss'] for r in records if 'train/loss' in r}


def assert_same_run(workdir, other):
  """Losses and parameters to 1e-5."""
  ours, theirs = losses_of(workdir), losses_of(other)
  assert ours.keys() == theirs.keys() and len(ours) >= 20
  np.testing.assert_allclose(
    list(ours.values()), list(theirs.values()), atol=1e-5
  )
  (a, step), (b, same) = variables_of(workdir), variables_of(other)
  assert step == same == max(ours)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-5)


def assert_same_bits(workdir, other):
  (a, step), (b, same) = variables_of(workdir), variables_of(other)
  assert step == same
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_array_equal(x, y)


def test_four_devices_are_one(fields, alone, tmp_path):
  assert_same_run(trained(fields, tmp_path, 4), alone)


class Halt(Exception):
  """A kill -9, as far as one process can play it on itself."""


def halted(fields, workdir, num_devices, step, how, **options):
  """A run that ends at `step`: by SIGTERM, or between two lines of code."""
  make = configured_step.make_jit_step

  def make_halting(*args):
    step_fn = make(*args)

    def counted(state, batch):
      if how == 'kill' and int(state.step) == step:
        raise Halt
      state, metrics = step_fn(state, batch)
      if how == 'term' and int(state.step) == step:
        os.kill(os.getpid(), signal.SIGTERM)
      return state, metrics

    return counted

  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(configured_step, 'make_jit_step', make_halting)
    with pytest.raises((signals.Stopped, Halt)):
      trained(fields, workdir, num_devices, **options)
  return workdir


# Between epochs and in them; with and without a checkpoint behind it.
@pytest.mark.parametrize(
  'cache, step, how',
  [
    ('none', 1, 'term'),
    ('memory', 13, 'term'),
    ('device', 9, 'term'),
    ('none', 9, 'kill'),
    ('memory', 1, 'kill'),
    ('device', 17, 'kill'),
  ],
)
def test_goes_on_to_the_same_bits(fields, alone, tmp_path, cache, step, how):
  # More checkpoints than the reference has: none of them moves a weight.
  halted(fields, tmp_path, 1, step, how, **{'data.cache': cache})
  trained(fields, tmp_path, 1, **{'data.cache': cache})
  assert_same_bits(tmp_path, alone)
  assert losses_of(tmp_path) == losses_of(alone)


def test_a_step_takes_its_state(fields):
  """In half precision as well, what is kept stays float32."""
  config = config_of(fields, **{'model.dtype': 'bfloat16'})
  films = data.load(config)['train']
  made = setup.make_setup(config, films, sharding.make_mesh(1))
  key = jax.random.key(0)
  state = setup.initial_state(made, key)
  step_fn = configured_step.make_jit_step(made, key)
  batch = next(data.train_batches(config, films, made.mesh, start_step=0))
  old = jax.tree.leaves(state)
  state, metrics = step_fn(state, batch)
  assert all(leaf.is_deleted() for leaf in old)
  kept = state.params, state.batch_stats
  assert {x.dtype for x in jax.tree.leaves(kept)} == {np.dtype('float32')}
  assert np.isfinite(float(metrics['train/loss']))


def test_goes_on_with_another_number_of_devices(fields, alone, tmp_path):
  halted(fields, tmp_path, 4, 11, 'term')
  trained(fields, tmp_path, 1)
  assert_same_run(tmp_path, alone)


def test_order_of_films_is_the_same_in_every_cache(fields):
  mesh = sharding.make_mesh(4)
  shown = []
  for cache in ('none', 'memory', 'device'):
    config = config_of(fields, **{'data.cache': cache})
    films = data.load(config)['train']
    on_device = data.on_device(films, mesh) if cache == 'device' else {}
    batches = data.train_batches(config, films, mesh, start_step=5)
    shown.append(
      [
        jax.tree.map(np.asarray, data.take(next(batches), on_device))
        for _ in range(4)
      ]
    )
  for other in shown[1:]:
    jax.tree.map(np.testing.assert_array_equal, shown[0], other)


# --- two processes


def free_port():
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return s.getsockname()[1]


def start_pair(fields, workdir):
  """main.py as two processes of two devices each."""
  flags = [
    '--config=configs/robust.py:smoke',
    f'--workdir={workdir}',
    '--distributed',
    f'--coordinator=localhost:{free_port()}',
    '--num_processes=2',
  ] + [f'--config.{name}={value}' for name, value in fields.items()]
  environment = os.environ | {
    'JAX_PLATFORMS': 'cpu',
    'JAX_NUM_CPU_DEVICES': '2',
  }
  return [
    subprocess.Popen(
      [sys.executable, 'main.py', f'--process_id={i}', *flags],
      cwd=ROOT,
      env=environment,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]


def ended(pair):
  """(exit status, standard error) of each."""
  try:
    return [(p.communicate(timeout=300)[1], p.returncode)[::-1] for p in pair]
  finally:
    for process in pair:
      process.kill()


@pytest.fixture(scope='module')
def pair(fields, tmp_path_factory):
  """Its second process is asked to stop; then both go on to the end."""
  workdir = tmp_path_factory.mktemp('pair')
  log = workdir / 'train.jsonl'
  processes = start_pair(fields, workdir)
  while not log.exists() or not log.read_text().count('\n'):
    if any(process.poll() is not None for process in processes):
      break
    time.sleep(0.02)
  processes[1].send_signal(signal.SIGTERM)
  stopped = ended(processes)
  finished = ended(start_pair(fields, workdir))
  assert [status for status, _ in finished] == [0, 0], finished
  return workdir, stopped, finished


def test_two_processes_stop_together(pair):
  _, stopped, _ = pair
  for status, error in stopped:
    assert status == 143, error
    assert 'the same command goes on' in error


def test_two_processes_are_one(pair, alone):
  assert_same_run(pair[0], alone)


def test_two_processes_evaluate_as_one(pair, fields):
  """Logits of predictions.csv, clean and attacked, against one device's."""
  workdir, _, _ = pair
  config, model, variables, _ = inference.load_model(str(workdir))
  splits = data.load(config)
  with open(workdir / 'predictions.csv') as f:
    rows = [r for r in csv.DictReader(f) if r['split'] == 'test']
  for num_devices in (1, 4):
    mesh = sharding.make_mesh(num_devices)
    subject = inference.Subject(
      config, model, sharding.replicate(mesh, variables), mesh, splits
    )
    clean = inference.predict_split(subject, batch_size=12)
    theirs = {
      row['image']: [float(row[f'logit_{name}']) for name in FINDINGS]
      for row in rows
      if row['attack'] == 'clean'
    }
    assert list(theirs) == splits['test'].image_name.tolist()
    np.testing.assert_allclose(clean, list(theirs.values()), atol=1e-6)


def test_process_0_writes_for_both(pair):
  workdir, stopped, finished = pair
  for output in (stopped, finished):
    assert 'step ' in output[0][1]
    assert 'train/loss' not in output[1][1]
  with open(workdir / 'train.jsonl') as f:
    steps = [json.loads(line)['step'] for line in f]
  # One line a step, and the validation's behind the last.
  assert steps == sorted(steps) and steps[-1] == steps[-2]
  # A file of events a start.
  assert len(list(workdir.glob('events.*'))) == 2
  assert (workdir / 'report.html').exists()
