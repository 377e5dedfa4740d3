"""Numbers that are none: the run stops before it keeps them, and says where."""

import math

import numpy as np
import pytest

from configs import default
from cxr import checkpoint, inference
from cxr.training import train
from input_pipeline.phantom import write

PLAN = train.Plan(
  num_steps=16, steps_per_epoch=8, validate_every=8, log_every=100, batch_size=4
)


class Log:
  """A writer that keeps what it is given."""

  def __init__(self):
    self.lines = []

  def advance(self):
    pass

  def scalars(self, step, values):
    self.lines.append((step, values))


def fit(bad_step, *, stops=False, plan=PLAN, **bad):
  """Runs `fit` where the metrics of one step are `bad`; the steps saved."""
  saved = []

  def step_fn(state, batch):
    del batch
    done = state + 1
    metrics = {'train/loss': 0.5, 'train/grad_norm': 1.0}
    if done == bad_step:
      metrics |= {f'train/{name}': value for name, value in bad.items()}
    return done, metrics

  try:
    train.fit(
      0,
      step_fn,
      iter(range(100)),
      plan,
      start=0,
      validate=lambda state: {},
      guard=train.CollapseGuard(0.0, 'none'),
      save=lambda state, values: saved.append(state),
      log=Log(),
      stopped=lambda done: 15 * stops,
    )
  except train.Stopped:
    pass
  except train.NotFinite as e:
    return saved, (e.step, e.name)
  return saved, None


def test_sound_steps_are_kept():
  assert fit(0) == ([8, 16], None)


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('name', ['loss', 'grad_norm'])
@pytest.mark.parametrize('log_every', [1, 3, 100])
@pytest.mark.parametrize('step', [1, 5, 8, 9, 15, 16])
def test_no_checkpoint_is_written_after_a_step_that_is_not_finite(
  name, value, step, log_every
):
  plan = PLAN._replace(log_every=log_every)
  saved, told = fit(step, plan=plan, **{name: value})
  assert told == (step, name)
  assert saved == [8] * (step > 8)


def test_a_signal_saves_no_unsound_weights():
  assert fit(1, stops=True, loss=math.nan) == ([], (1, 'loss'))
  assert fit(2, stops=True, loss=math.nan) == ([1], None)


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  """The smallest network on the fewest films that train at all."""
  folder = tmp_path_factory.mktemp('data')
  write.write_phantom(
    folder / 'phantom', num_films=60, image_size=48, workers=1, progress=False
  )
  config = default.get_config('smoke')
  config.data.image_size = 48
  config.data.dir = str(folder / 'phantom')
  config.data.prepared_dir = str(folder / 'prepared')
  config.data.workers = 1
  config.model.num_filters = 2
  config.model.num_stages = 1
  config.model.output_stride = 4
  for name in config.augment:
    config.augment[name] = type(config.augment[name])(0)
  config.train.batch_size = 8
  config.train.robust_films = 0
  config.train.validate_every = 0.5
  config.train.num_epochs = 2.0
  return config


@pytest.mark.parametrize('name', ['train', 'validation', 'test'])
def test_a_split_without_a_film_is_a_sentence(config, name, monkeypatch):
  splits = train.data.load(config)
  del splits[name]
  monkeypatch.setattr(train.data.pipeline, 'load', lambda *_, **__: splits)
  with pytest.raises(ValueError, match=f'No {name} film is there') as error:
    train.data.load(config)
  assert '\n' not in str(error.value)


def test_the_step_the_film_and_the_last_sound_checkpoint_are_named(
  config, tmp_path, monkeypatch
):
  """A film whose label overflows, at a step that is known beforehand."""
  splits = train.data.load(config)
  films = splits['train']
  plan = train.make_plan(config.train, len(films.label))
  bad_step = plan.validate_every + 1
  rows = next(
    train.pipeline.index_batches(
      len(films.label), batch_size=8, seed=0, start_step=bad_step - 1
    )
  )
  seen = {
    int(i)
    for step in range(bad_step - 1)
    for i in next(
      train.pipeline.index_batches(
        len(films.label), batch_size=8, seed=0, start_step=step
      )
    )
  }
  # Not seen before, so that the steps before it are sound.
  row = next(int(i) for i in rows if int(i) not in seen)
  label = films.label.copy()
  label[row, 3] = math.inf
  splits['train'] = films._replace(label=label)
  monkeypatch.setattr(train.data, 'load', lambda config: splits)
  with pytest.raises(ValueError, match='^The (loss|grad_norm) at') as error:
    train.train(config, str(tmp_path))
  text = str(error.value)
  assert f'step {bad_step} is ' in text
  assert f', where {films.image_name[row]} has the largest loss' in text
  assert f'that of step {plan.validate_every}.' in text
  saver = checkpoint.checkpointer(str(tmp_path), best_metric='val/auroc')
  step = checkpoint.step_of(saver, 'latest', best_metric='val/auroc')
  assert step == plan.validate_every
  config = config.copy_and_resolve_references()
  config.evaluate.checkpoint = 'latest'
  _, _, variables, _ = inference.load_model(str(tmp_path), config)
  assert all(
    np.isfinite(x).all() for x in train.jax.tree.leaves(variables['params'])
  )


def test_a_run_does_not_go_on_with_other_films(config, tmp_path):
  """As many of the same names, drawn otherwise; and the folder moved."""
  splits = train.data.load(config)
  workdir = str(tmp_path)
  train.data.check_same_films(workdir, splits)
  train.data.write_summary(workdir, config, splits)
  train.data.check_same_films(workdir, splits)
  write.write_phantom(
    tmp_path / 'other',
    num_films=60,
    image_size=48,
    seed=1,
    workers=1,
    progress=False,
  )
  other = config.copy_and_resolve_references()
  other.data.dir = str(tmp_path / 'other')
  with pytest.raises(ValueError, match='a run on other train films'):
    train.data.check_same_films(workdir, train.data.load(other))
