"""A training that loses its weights says where, and keeps the sound ones."""

import math

import jax
import numpy as np
import pytest

from cxr import checkpoint, data, inference
from cxr.training import setup, train
from input_pipeline import pipeline


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
  checkpoints = checkpoint.open_folder(str(tmp_path), config)
  step = checkpoint.step_of(checkpoints, 'latest')
  assert step == plan.validate_every
  config.evaluate.checkpoint = 'latest'
  _, _, variables, _ = inference.load_model(str(tmp_path), config)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(variables['params']))
