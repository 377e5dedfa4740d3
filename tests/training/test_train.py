"""A training that loses its weights says where, and keeps the sound ones."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import baseline
from cxr import checkpoint, data, inference
from cxr.training import setup, train, validation
from input_pipeline import pipeline
from input_pipeline.findings import FINDINGS


def test_the_step_the_film_and_the_last_sound_checkpoint_are_named(
  tiny_config, tmp_path, monkeypatch
):
  """A film whose label overflows, at a step that is known beforehand."""
  config = tiny_config.copy_and_resolve_references()
  splits = data.load(config)
  films = splits['train']
  plan = setup.make_plan(config.train, len(films.label))
  bad_step = plan.validate_every + 1
  rows = next(
    pipeline.index_batches(
      len(films.label), batch_size=8, seed=0, start_step=bad_step - 1
    )
  )
  seen = {
    int(i)
    for step in range(bad_step - 1)
    for i in next(
      pipeline.index_batches(
        len(films.label), batch_size=8, seed=0, start_step=step
      )
    )
  }
  # Not seen before, so that the steps before it are sound.
  row = next(int(i) for i in rows if int(i) not in seen)
  label = films.label.copy()
  label[row, 3] = math.inf
  splits['train'] = films._replace(label=label)
  monkeypatch.setattr(data, 'load', lambda config: splits)
  # It counts films, and no count is infinite.
  monkeypatch.setattr(data, 'write_summary', lambda *_: None)
  with pytest.raises(ValueError, match='^The (loss|grad_norm) at') as error:
    train.train(config, str(tmp_path))
  text = str(error.value)
  assert f'step {bad_step} is ' in text
  assert f', where {films.image_name[row]} has the largest loss' in text
  assert f'that of step {plan.validate_every}.' in text
  checkpoints = checkpoint.open_folder(str(tmp_path), config, FINDINGS)
  step = checkpoint.step_of(checkpoints, 'latest')
  assert step == plan.validate_every
  config.evaluate.checkpoint = 'latest'
  _, _, variables, _ = inference.load_model(str(tmp_path), config)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(variables['params']))


def test_a_collapsed_run_is_not_trained_again(
  tiny_config, tmp_path, monkeypatch
):
  """The same command says so and leaves the last sound checkpoint."""
  config = tiny_config.copy_and_resolve_references()
  config.attack.objective = 'adversarial'
  config.attack.num_steps = 1
  aurocs = iter([0.8, 0.2])
  monkeypatch.setattr(
    validation,
    'make_validate',
    lambda *_: lambda state: {'val/robust_auroc': next(aurocs)},
  )
  train.train(config, str(tmp_path))
  latest = lambda: checkpoint.step_of(
    checkpoint.open_folder(str(tmp_path), config, FINDINGS), 'latest'
  )
  sound = latest()
  assert next(aurocs, None) is None and sound
  said = []
  monkeypatch.setattr(train.logging, 'error', lambda *text: said.append(text))
  monkeypatch.setattr(train.loop, 'fit', None)
  train.train(config, str(tmp_path))
  assert latest() == sound
  ((text, *values),) = said
  assert 'does not train again: AUROC under attack fell' in text % tuple(values)


@pytest.mark.parametrize('optimizer', ['adamw', 'sgd'])
@pytest.mark.parametrize('warmup_epochs', [0.0, 0.5])
def test_every_update_learns_and_the_rate_reaches_its_peak(
  optimizer, warmup_epochs
):
  config = baseline.get_config('smoke')
  config.train.optimizer = optimizer
  config.train.warmup_epochs = warmup_epochs
  config.train.momentum = config.train.weight_decay = 0.0
  plan = setup.make_plan(config.train, num_films=320)
  tx = setup.make_optimizer(config, plan)
  params = {'w': jnp.zeros(3)}
  state, sizes = tx.init(params), []
  for _ in range(plan.num_steps):
    # Equal gradients: AdamW's and SGD's updates are then the rate itself.
    update, state = tx.update({'w': jnp.ones(3)}, state, params)
    sizes.append(-float(update['w'][0]))
  assert min(sizes) > 0
  assert max(sizes) == pytest.approx(config.train.learning_rate, rel=1e-4)


@pytest.mark.parametrize('optimizer', ['adamw', 'sgd'])
def test_weight_decay_is_the_same_for_both_optimizers(optimizer):
  """An update without a gradient takes rate * decay of a weight off."""
  config = baseline.get_config('smoke')
  config.train.optimizer, config.train.weight_decay = optimizer, 0.5
  config.train.learning_rate, config.train.warmup_epochs = 0.1, 0.0
  plan = setup.make_plan(config.train, num_films=320)
  tx = setup.make_optimizer(config, plan)
  params = {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}
  state = tx.init(params)
  zero = jax.tree.map(jnp.zeros_like, params)
  for _ in range(2):  # of which the second would have momentum
    update, state = tx.update(zero, state, params)
    np.testing.assert_allclose(update['kernel'], -0.05, rtol=0.05)
    np.testing.assert_array_equal(update['bias'], 0)


def test_films_that_are_not_read_claim_no_workdir(tiny_config, tmp_path):
  """Else the corrected command would be told of another run."""
  config = tiny_config.copy_and_resolve_references()
  config.data.source, config.data.dir = 'chexpert', str(tmp_path)
  workdir = tmp_path / 'run'
  with pytest.raises(FileNotFoundError, match='has no train.csv'):
    train.train(config, str(workdir))
  assert not (workdir / 'config.json').exists()
