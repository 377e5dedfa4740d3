"""What a workdir refuses: another model's weights, damage, a second run."""

import functools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import default
from cxr import checkpoint, inference, run_files, sharding, train_state
from cxr.models import architectures
from cxr.training import setup as training
from input_pipeline.findings import FINDINGS


def make_config():
  config = default.get_config('smoke')
  config.data.image_size = 48
  config.model.num_filters = 2
  config.model.num_stages = 1
  config.model.output_stride = 4
  config.evaluate.checkpoint = 'latest'
  return config


@functools.cache
def initial_state():
  config = make_config()
  model = architectures.make_model(config.model, num_findings=len(FINDINGS))
  size = config.data.image_size
  image = jnp.zeros((1, size, size, 1))
  state = train_state.create(model, optax.sgd(0.1), jax.random.key(0), image)
  return jax.device_put(state, sharding.replicated(sharding.make_mesh()))


def make_state(step):
  state = initial_state()
  other = jax.tree.map(lambda x: x + step, state.params)
  return state.replace(step=state.step + step, params=other)


def write(workdir, config, steps=(3, 7)):
  run_files.write_config(str(workdir), config)
  checkpoints = checkpoint.open_folder(
    str(workdir), config, FINDINGS, writes=True
  )
  for k, step in enumerate(steps):
    # The first is the best: both are kept.
    metrics = {'val/auroc': 0.9 - 0.1 * k, 'val/robust_auroc': float('nan')}
    checkpoint.save(checkpoints, make_state(step), metrics)
  checkpoints.saver.close()


def test_the_state_of_an_older_optimizer_is_told_from_damage(tmp_path):
  """As SGD was built before weight decay was decoupled from its momentum."""
  config = make_config()
  config.train.optimizer = 'sgd'
  plan = training.make_plan(config.train, num_films=64)
  decayed = lambda params: jax.tree.map(lambda x: x.ndim > 1, params)
  new, old = (
    training.make_optimizer(config, plan),
    optax.chain(
      optax.add_decayed_weights(0.1, mask=decayed),
      optax.sgd(lambda step: 0.1, momentum=0.9, nesterov=True),
    ),
  )
  state = initial_state()
  with_state_of = lambda tx: state.replace(opt_state=tx.init(state.params))
  run_files.write_config(str(tmp_path), config)
  checkpoints = checkpoint.open_folder(
    str(tmp_path), config, FINDINGS, writes=True
  )
  checkpoint.save(checkpoints, with_state_of(old), {'val/auroc': 0.5})
  like = jax.device_put(
    with_state_of(new), sharding.replicated(sharding.make_mesh())
  )
  with pytest.raises(ValueError, match='is whole.*another --workdir') as error:
    checkpoint.restore(checkpoints, 0, like)
  assert 'delete' not in str(error.value)
  checkpoints.saver.close()
  # Its weights are of use all the same.
  _, _, variables, _ = inference.load_model(str(tmp_path))
  jax.tree.map(np.testing.assert_array_equal, variables['params'], state.params)


@pytest.fixture
def run(tmp_path):
  write(tmp_path, make_config())
  return tmp_path


def restore(workdir, config):
  checkpoints = checkpoint.open_folder(workdir, config, FINDINGS)
  step = checkpoint.step_of(checkpoints, 'latest')
  return checkpoint.restore(checkpoints, step, make_state(step))


def test_latest_and_best_come_back(run):
  config = make_config()
  for which, step in (('latest', 7), ('best', 3)):
    config.evaluate.checkpoint = which
    _, _, variables, found = inference.load_model(str(run), config)
    assert found == step
    expected = train_state.variables(make_state(step))
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
  assert restore(str(run), config).step == 7


def test_without_a_measured_one_the_latest_is_the_best(tmp_path):
  """As where all validation films are of one kind."""
  config = make_config()
  run_files.write_config(str(tmp_path), config)
  checkpoints = checkpoint.open_folder(
    str(tmp_path), config, FINDINGS, writes=True
  )
  for step in (3, 7):
    checkpoint.save(checkpoints, make_state(step), {})
    assert checkpoint.step_of(checkpoints, 'best') == step
  checkpoints.saver.close()


@pytest.mark.parametrize(
  'name, value',
  [('dtype', 'bfloat16'), ('remat', True), ('output_stride', None)],
)
def test_how_weights_are_applied_is_free(tmp_path, name, value):
  """A run that was trained in bfloat16 is evaluated in float32."""
  trained = make_config()
  if name == 'output_stride':
    trained.model.num_stages, value = 2, 8
  trained.model[name] = value
  write(tmp_path, trained)
  config = make_config()
  config.model.num_stages = trained.model.num_stages
  _, model, variables, _ = inference.load_model(str(tmp_path), config)
  expected = train_state.variables(make_state(7))
  if name != 'output_stride':
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
  assert getattr(model, name) == getattr(
    architectures.make_model(config.model, num_findings=len(FINDINGS)), name
  )


@pytest.mark.parametrize(
  'name, value',
  [
    ('model.num_filters', 4), ('model.arch', 'resnet34'),
    ('model.input_mean', 0.25), ('data.image_size', 64),
  ],
)  # fmt: skip
def test_another_models_weights_are_refused(run, name, value):
  config = make_config()
  there = run_files.flat(config)[name]
  config.update_from_flattened_dict({name: value})
  for read in (inference.load_model, restore):
    with pytest.raises(ValueError, match='another model') as error:
      read(str(run), config)
    assert f'{name} ({there!r} there, {value!r} here)' in str(error.value)
    assert '\n' not in str(error.value)


def test_another_order_of_findings_is_refused(run):
  other = (FINDINGS[1], FINDINGS[0], *FINDINGS[2:])
  (run / 'data.json').write_text(json.dumps({'findings': other}))
  with pytest.raises(ValueError, match=r"findings \(\['Atelectasis', 'Card"):
    inference.load_model(str(run), make_config())


@pytest.mark.parametrize('damage', ['truncated', 'emptied', 'removed', 'noise'])
def test_a_damaged_checkpoint_is_named_and_the_way_back(run, damage):
  files = [p for p in (run / 'checkpoints' / '7').rglob('*') if p.is_file()]
  for path in files:
    # Without the first there is no checkpoint for Orbax; see below.
    if path.name == '_CHECKPOINT_METADATA' or 'metrics' in path.parts:
      continue
    data = path.read_bytes()
    if damage == 'removed':
      path.unlink()
    elif damage == 'noise':
      path.write_bytes(bytes(b ^ 0x55 for b in data))
    else:
      path.write_bytes(data[: len(data) // 2] if damage == 'truncated' else b'')
  for read in (inference.load_model, restore):
    with pytest.raises(ValueError, match=r'checkpoints/7 cannot be read') as e:
      read(str(run), make_config())
    assert 'goes on from step 3' in str(e.value) and '\n' not in str(e.value)


def test_damaged_metrics_are_named(run):
  (run / 'checkpoints' / '7' / 'metrics' / 'metrics').write_text('{"val')
  with pytest.raises(ValueError, match='is damaged .* goes on from') as error:
    inference.load_model(str(run), make_config())
  assert str(run) in str(error.value) and '\n' not in str(error.value)


def test_a_half_written_checkpoint_is_swept_out_by_its_own_run_alone(run):
  half = run / 'checkpoints' / '9.orbax-checkpoint-tmp'
  half.mkdir()
  for writes in (False, True):
    checkpoints = checkpoint.open_folder(
      str(run), make_config(), FINDINGS, writes=writes
    )
    assert checkpoint.step_of(checkpoints, 'latest') == 7
    checkpoints.saver.close()
    # It is swept by a thread, which close does not wait for.
    deadline = time.monotonic() + (30 if writes else 0)
    while half.exists() and time.monotonic() < deadline:
      time.sleep(0.05)
    assert half.exists() is not writes
