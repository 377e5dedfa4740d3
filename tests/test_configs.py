"""Every config builds, is valid, and takes a step."""

import importlib
import pathlib

import jax
import numpy as np
import pytest

from cxr import configuration, sharding
from cxr.training import configured_step, setup
from input_pipeline import pipeline
from tests.training.test_train_step import MODEL as LINEAR

ROOT = pathlib.Path(__file__).parents[1]
NAMES = sorted(
  p.stem for p in (ROOT / 'configs').glob('*.py') if p.stem != '__init__'
)
NOTHING = np.zeros(0, np.int64)
FILMS = pipeline.Split(
  'train',
  np.zeros((8, 4, 4, 1), np.uint8),
  np.zeros((8, 3), np.float32),
  *[NOTHING] * 8,
  findings=('a', 'b', 'c'),
  boxed=(),
)
OBJECTIVES = ('mixed', 'trades', 'fgsm', 'free', 'separate_bn', 'l2', 'robust')


EXPERIMENTS = sorted(
  p.stem
  for p in (ROOT / 'configs' / 'experiments').glob('*.py')
  if p.stem != '__init__'
)


def get(name, preset):
  return importlib.import_module(f'configs.{name}').get_config(preset)


@pytest.mark.parametrize('preset', ['phantom', 'nih', 'nih_small', 'smoke'])
@pytest.mark.parametrize('name', NAMES)
def test_config_is_valid(name, preset):
  config = get(name, preset)
  configuration.validate(config)
  assert config.preset == preset


@pytest.mark.parametrize('preset', ['phantom', 'nih', 'nih_small'])
def test_no_two_configs_share_a_workdir(preset):
  named = [get(name, preset).name for name in NAMES if name != 'default']
  assert len(set(named)) == len(named)


@pytest.mark.parametrize('name', [n for n in NAMES if n != 'default'])
def test_config_is_a_record(name):
  text = importlib.import_module(f'configs.{name}').__doc__
  assert 'Question: ' in text
  assert f'--config=configs/{name}.py' in text


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_experiment_is_a_record_of_valid_runs(name):
  module = importlib.import_module(f'configs.experiments.{name}')
  for variant in module.VARIANTS:
    configuration.validate(module.get_config(variant))
    assert (
      f'.py:{variant}' in module.__doc__ or f'C:{variant}' in module.__doc__
    )
  for part in ('Question:', 'Command:', 'Cost:', 'Result:'):
    assert part in module.__doc__
  assert f'configs/experiments/{name}.py' in module.__doc__
  with pytest.raises(ValueError, match='must be one of'):
    module.get_config('nothing')


def test_objectives_differ_from_the_baseline_in_the_attack_alone():
  """So that a comparison of two runs is one of their objectives."""
  baseline = get('baseline', 'phantom').to_dict()
  for name in OBJECTIVES:
    config = get(name, 'phantom').to_dict()
    differ = {key for key in config if config[key] != baseline[key]}
    # 'free' makes several updates of a batch, so it sees fewer.
    assert differ - {'train'} == {'name', 'attack'}
    assert ('train' in differ) == (name == 'free')


@pytest.mark.parametrize('name', OBJECTIVES[:-1])  # robust: end to end
def test_objective_takes_a_step(name):
  config = get(name, 'smoke')
  config.data.image_size = 4
  config.augment.update(dict.fromkeys(config.augment, 0.0) | {'flip': False})
  rng = np.random.default_rng(0)
  batch = {
    'image': rng.integers(0, 256, (8, 4, 4, 1)).astype(np.uint8),
    'label': (rng.random((8, 3)) < 0.5).astype(np.float32),
  }
  plan = setup.make_plan(config.train, 8)
  # A small model: what the config asks for is in the step around it.
  made = setup.Setup(
    config,
    LINEAR,
    setup.make_optimizer(config, plan),
    plan,
    FILMS._replace(label=batch['label']),
    sharding.make_mesh(1),
  )
  state = setup.initial_state(made, jax.random.key(0))
  before = jax.tree.map(np.array, state.params)
  step = jax.jit(
    configured_step.make_step(made),
    compiler_options={'xla_backend_optimization_level': 0},
  )
  # The first update's learning rate may be 0: the warm-up begins there.
  for _ in range(2):
    state, metrics = step(state, jax.random.key(1), batch)
  assert int(state.step) == 2
  assert all(np.isfinite(v) for v in metrics.values())
  assert (state.params['fc']['kernel'] != before['fc']['kernel']).any()
  apart = state.adversarial_batch_stats is not None
  assert apart == (name == 'separate_bn')


def test_free_training_in_another_norm_is_refused():
  config = get('free', 'smoke')
  config.attack.norm = 'l2'
  with pytest.raises(ValueError, match=r"config.attack.norm \('l2'\) must"):
    configuration.validate(config)


def test_fgsm_steps_past_epsilon_from_its_random_start():
  attack = get('fgsm', 'phantom').attack
  assert attack.random_start and attack.num_steps == 1
  assert configured_step.step_size(attack) == 1.25 * attack.epsilon


@pytest.mark.parametrize(('preset', 'epsilon'), [('phantom', 32), ('nih', 112)])
def test_l2_radius_grows_with_the_film(preset, epsilon):
  """A quarter of 2/255 in each of side^2 pixels, in 1/255."""
  assert get('l2', preset).attack.epsilon == epsilon
