import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from configs import baseline
from cxr import losses, platforms, sharding, train_state
from cxr.attacks import batched
from cxr.models import architectures
from cxr.training import train_step


class Linear(nn.Module):
  """logits = scale * x @ w after BatchNorm, the interface of a model."""

  by_batch: bool = True  # else running statistics always

  @nn.compact
  def __call__(self, image, train=False, start='image'):
    running = not (train and self.by_batch)
    x = nn.BatchNorm(use_running_average=running, momentum=0.5)(image)
    x = x.reshape(len(x), -1)
    return nn.Dense(3, name='fc')(x), {'features': x}


MODEL = Linear()


def apply_fn(variables, image):
  return MODEL.apply(variables, image)[0]


@pytest.fixture
def batch():
  rng = np.random.default_rng(0)
  return {
    'image': rng.integers(0, 256, (8, 4, 4, 1)).astype(np.uint8),
    'label': (rng.random((8, 3)) < 0.5).astype(np.float32),
  }


def make_state(tx, model=MODEL, **options):
  return train_state.create(
    model, tx, jax.random.key(0), jnp.zeros((1, 4, 4, 1)), **options
  )


def difference(a, b):
  return max(
    jax.tree.leaves(jax.tree.map(lambda x, y: float(abs(x - y).max()), a, b))
  )


def steps_of(objective, model, tx, **options):
  """The step of an objective by name."""
  common = {'epsilon': 0.05, 'weigh': losses.batch_weights} | options
  if objective == 'free':
    return train_step.make_free_step(model, tx, replays=2, **common)
  trades = objective == 'trades'
  attack = batched.make_attack(
    lambda variables, image: model.apply(variables, image)[0],
    losses.bernoulli_kl if trades else losses.sigmoid_cross_entropy,
    # A small step, so that the random start stays in the result.
    batched.Options(epsilon=0.05, num_steps=1, step_size=0.01),
  )
  return train_step.make_train_step(
    model,
    tx,
    None if objective == 'clean' else attack,
    objective=losses.make_objective(objective),
    target_is_logits=trades,
    **common,
  )


def make_pgd(**options):
  options = {'epsilon': 0.05, 'num_steps': 2} | options
  return jax.jit(
    batched.make_attack(
      apply_fn, losses.sigmoid_cross_entropy, batched.Options(**options)
    )
  )


def test_clean_step_is_gradient_descent(batch):
  tx = optax.sgd(0.1)
  state = make_state(tx)

  def loss(params):
    (logits, _), _ = MODEL.apply(
      {'params': params, 'batch_stats': state.batch_stats},
      batch['image'] / jnp.float32(255),
      train=True,
      mutable=['batch_stats'],
    )
    return optax.sigmoid_binary_cross_entropy(logits, batch['label']).mean()

  value, grads = jax.value_and_grad(loss)(state.params)
  expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads)
  new, metrics = train_step.make_train_step(MODEL, tx)(
    state, jax.random.key(1), batch
  )
  assert difference(new.params, expected) < 1e-6
  assert np.isclose(metrics['train/loss'], value)
  assert int(new.step) == 1


def test_adversarial_loss_is_not_below_clean(batch):
  tx = optax.sgd(0.0)
  objective = losses.make_objective('mixed', clean_weight=0.25)
  step = train_step.make_train_step(
    MODEL, tx, make_pgd(), objective=objective, epsilon=0.05
  )
  _, metrics = step(make_state(tx), jax.random.key(1), batch)
  clean, attacked = (
    metrics[f'train/{kind}_loss'] for kind in ('clean', 'adversarial')
  )
  assert attacked > clean
  assert np.isclose(metrics['train/loss'], 0.25 * clean + 0.75 * attacked)


def test_epsilon_zero_is_clean_training(batch):
  tx = optax.adam(1e-2)
  robust = train_step.make_train_step(
    MODEL,
    tx,
    make_pgd(),
    objective=losses.make_objective('adversarial'),
    epsilon=0,
  )
  key = jax.random.key(2)
  a, _ = robust(make_state(tx), key, batch)
  b, _ = train_step.make_train_step(MODEL, tx)(make_state(tx), key, batch)
  assert difference(a.params, b.params) == 0


@pytest.mark.parametrize('method', batched.METHODS)
def test_statistics_move_by_the_learning_pass_alone(batch, method):
  """Those of one pass over the attacked films, whatever the attack called."""
  tx = optax.sgd(0.1)
  state = make_state(tx)
  attack = make_pgd(method=method)
  new, _ = train_step.make_train_step(
    MODEL,
    tx,
    attack,
    objective=losses.make_objective('adversarial'),
    epsilon=0.05,
  )(state, jax.random.key(1), batch)
  _, key = jax.random.split(jax.random.fold_in(jax.random.key(1), 0))
  image = batch['image'] / jnp.float32(255)
  variables = train_state.variables(state)
  attacked = attack(variables, key, image, batch['label'], epsilon=0.05)
  assert abs(attacked - image).max() > 0.01
  _, updated = MODEL.apply(
    variables, attacked, train=True, mutable=['batch_stats']
  )
  assert difference(new.batch_stats, updated['batch_stats']) == 0


def test_the_attack_warms_up(batch):
  """The films of step i are attacked with (i + 1) / warm-up of epsilon."""
  tx = optax.sgd(0.0)
  objective = losses.make_objective('adversarial')
  make = lambda **options: train_step.make_train_step(
    MODEL, tx, make_pgd(method='fgsm'), objective=objective, **options
  )
  warm = make(epsilon=0.08, warmup_steps=4)
  for step, radius in ((0, 0.02), (1, 0.04), (3, 0.08), (9, 0.08)):
    state = make_state(tx).replace(step=jnp.asarray(step))
    key = jax.random.key(1)
    _, found = warm(state, key, batch)
    _, expected = make(epsilon=radius)(state, key, batch)
    np.testing.assert_allclose(found['train/loss'], expected['train/loss'])


def test_radius_warms_up_linearly():
  values = [float(train_step.radius(2.0, 4, step)) for step in range(6)]
  assert values == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
  assert float(train_step.radius(2.0, 0, 0)) == 2.0


def test_separate_statistics(batch):
  tx = optax.sgd(0.1)
  state = make_state(tx, separate_batch_stats=True)
  step = train_step.make_train_step(
    MODEL,
    tx,
    make_pgd(),
    objective=losses.make_objective('mixed', clean_weight=0.5),
    epsilon=0.05,
  )
  new, _ = step(state, jax.random.key(1), batch)
  clean = (batch['image'] / 255).mean()
  mean = new.batch_stats['BatchNorm_0']['mean']
  assert np.allclose(mean, 0.5 * clean, atol=1e-6)  # momentum .5, from 0
  assert difference(new.batch_stats, new.adversarial_batch_stats) > 0
  for which in ('clean', 'adversarial'):
    chosen = train_state.variables(new, batch_stats=which)['batch_stats']
    kept = {
      'clean': new.batch_stats,
      'adversarial': new.adversarial_batch_stats,
    }[which]
    assert difference(chosen, kept) == 0


def test_adversarial_statistics_must_exist():
  with pytest.raises(ValueError, match='separate_batch_stats'):
    train_state.variables(make_state(optax.sgd(0.1)), batch_stats='adversarial')


def test_trades_uses_the_clean_logits_as_target(batch):
  tx = optax.sgd(0.0)
  attack = batched.make_attack(
    apply_fn, losses.bernoulli_kl, batched.Options(epsilon=0.05, num_steps=3)
  )
  state = make_state(tx)
  step = train_step.make_train_step(
    MODEL,
    tx,
    attack,
    objective=losses.make_objective('trades', beta=2.0),
    epsilon=0.05,
    target_is_logits=True,
  )
  _, metrics = step(state, jax.random.key(1), batch)
  assert metrics['train/loss'] > metrics['train/clean_loss']


def test_average_follows_the_weights(batch):
  tx = optax.sgd(0.5)
  step = train_step.make_train_step(MODEL, tx, ema=0.9)
  state = make_state(tx, average=True)
  new, _ = step(state, jax.random.key(1), batch)
  decay = min(0.9, 1 / 10)
  expected = jax.tree.map(
    lambda a, p: decay * a + (1 - decay) * p, state.average, new.params
  )
  assert difference(new.average, expected) < 1e-6
  assert train_state.variables(new)['params'] is new.average


def test_free_step_learns_on_every_replay(batch):
  tx = optax.sgd(0.1)
  step = train_step.make_free_step(MODEL, tx, epsilon=0.02, replays=3)
  state = make_state(tx)
  new, metrics = step(state, jax.random.key(1), batch)
  assert int(new.step) == 1
  assert np.isfinite(metrics['train/loss'])
  assert difference(new.params, state.params) > 0
  # One replay without a radius is a plain step.
  once = train_step.make_free_step(MODEL, tx, epsilon=0.0, replays=1)
  a, _ = once(make_state(tx), jax.random.key(3), batch)
  b, _ = train_step.make_train_step(MODEL, tx)(
    make_state(tx), jax.random.key(3), batch
  )
  assert difference(a.params, b.params) < 1e-7


def test_free_replays_without_a_radius_are_so_many_plain_steps(batch):
  tx = optax.adam(1e-2)
  key = jax.random.key(1)
  free = train_step.make_free_step(MODEL, tx, epsilon=0.0, replays=3)
  found, _ = free(make_state(tx), key, batch)
  plain = train_step.make_train_step(MODEL, tx)
  expected = make_state(tx)
  for _ in range(3):
    expected, _ = plain(expected, key, batch)
  assert difference(found.params, expected.params) < 1e-6
  assert difference(found.batch_stats, expected.batch_stats) < 1e-6


class Weighted(nn.Module):
  """logit = x @ w: one finding, no normalisation."""

  @nn.compact
  def __call__(self, image, train=False, start='image'):
    self.variable('batch_stats', 'none', jnp.zeros, ())
    x = image.reshape(len(image), -1)
    return nn.Dense(1, name='fc')(x), {'features': x}


def test_free_replays_walk_to_the_corner(batch):
  """Two steps of epsilon lead from any start to the worst film of a line."""
  model, tx, epsilon = Weighted(), optax.sgd(0.0), 0.05
  # Away from 0 and 1: a pixel held back there has no gradient and stays.
  inside = (26 + 0.8 * batch['image']).astype(np.uint8)
  batch = {'image': inside, 'label': batch['label'][:, :1]}
  state = train_state.create(
    model, tx, jax.random.key(0), jnp.zeros((1, 4, 4, 1))
  )
  free = train_step.make_free_step(model, tx, epsilon=epsilon, replays=3)
  _, metrics = free(state, jax.random.key(1), batch)
  image = batch['image'] / np.float32(255)
  weight = np.asarray(state.params['fc']['kernel']).reshape(1, 4, 4, 1)
  away = np.sign(weight) * (1 - 2 * batch['label'][:, :, None, None])
  worst = image + epsilon * away
  logits = worst.reshape(8, -1) @ weight.reshape(-1, 1)
  expected = losses.sigmoid_cross_entropy(logits, batch['label']).mean()
  np.testing.assert_allclose(metrics['train/loss'], expected, rtol=1e-6)


def test_draws_depend_on_key_and_step_alone(batch):
  tx = optax.sgd(0.1)
  step = jax.jit(
    train_step.make_train_step(
      MODEL,
      tx,
      # Steps too small to reach the corner, where every start would end.
      make_pgd(step_size=0.001),
      objective=losses.make_objective('adversarial'),
      epsilon=0.05,
    )
  )
  key = jax.random.key(5)
  state = make_state(tx)
  a, _ = step(state, key, batch)
  b, _ = step(state, key, batch)
  c, _ = step(state.replace(step=state.step + 1), key, batch)
  assert difference(a.params, b.params) == 0
  assert difference(a.params, c.params) > 0
  assert step._cache_size() == 1


# Passes are unrolled on a CPU and scanned elsewhere; both forms run here.
@pytest.mark.parametrize(
  'objective, unroll, accumulate',
  [(name, True, 2) for name in (*losses.OBJECTIVES, 'free')]
  + [('mixed', False, 4), ('free', False, 4)],
)
def test_accumulated_passes_are_the_whole_batch(
  objective, unroll, accumulate, batch
):
  """Without batch statistics: loss, gradient, draws and weights."""
  # An unknown label and an uneven spread: weights of a pass would differ.
  batch['label'][0, 1] = np.nan
  batch['label'][1:, 2] = 0
  model, tx = Linear(by_batch=False), optax.sgd(0.1)
  key = jax.random.key(4)
  state = make_state(tx, model)
  whole, metrics = jax.jit(steps_of(objective, model, tx))(state, key, batch)
  step = steps_of(objective, model, tx, accumulate=accumulate, unroll=unroll)
  new, of_passes = jax.jit(step)(state, key, batch)
  assert difference(new.params, whole.params) < 1e-6
  assert difference(new.params, state.params) > 1e-3
  assert of_passes.keys() == metrics.keys()
  assert difference(of_passes, metrics) < 1e-5


@pytest.mark.parametrize('unroll', [True, False])
def test_accumulated_statistics_move_once(batch, unroll):
  """Means are the batch's; variances those within passes, averaged."""
  tx = optax.sgd(0.1)
  step = jax.jit(steps_of('clean', MODEL, tx, accumulate=4, unroll=unroll))
  new, _ = step(make_state(tx), jax.random.key(1), batch)
  image = batch['image'] / 255
  passes = [image[i::4] for i in range(4)]
  stats = new.batch_stats['BatchNorm_0']
  # Momentum .5, from mean 0 and variance 1.
  assert np.allclose(stats['mean'], 0.5 * image.mean(), atol=1e-6)
  within = np.mean([part.var() for part in passes])
  assert np.allclose(stats['var'], 0.5 + 0.5 * within, atol=1e-6)
  assert int(new.step) == 1


def test_accumulated_separate_statistics(batch):
  tx = optax.sgd(0.1)
  state = make_state(tx, separate_batch_stats=True)
  step = jax.jit(steps_of('mixed', MODEL, tx, accumulate=2))
  new, _ = step(state, jax.random.key(1), batch)
  clean = (batch['image'] / 255).mean()
  mean = new.batch_stats['BatchNorm_0']['mean']
  assert np.allclose(mean, 0.5 * clean, atol=1e-6)
  assert difference(new.batch_stats, new.adversarial_batch_stats) > 0


def test_accumulated_passes_over_devices(batch):
  """Each pass is laid over all devices."""
  tx = optax.sgd(0.1)
  step = jax.jit(steps_of('adversarial', MODEL, tx, accumulate=2))
  state, key = make_state(tx), jax.random.key(6)
  one, metrics = step(state, key, batch)
  mesh = sharding.make_mesh(4)
  sharded = step(
    sharding.replicate(mesh, state), key, sharding.shard(mesh, batch)
  )
  assert difference(sharded[0].params, one.params) < 1e-6
  assert difference(sharded[0].batch_stats, one.batch_stats) < 1e-6
  assert difference(sharded[1], metrics) < 1e-5


def test_accumulation_saves_memory():
  config = baseline.get_config('smoke').model
  config.num_stages, config.output_stride = 1, 4
  model = architectures.make_model(config, 3, platforms.FORMS['cpu'])
  tx = optax.sgd(0.1)
  batch = {
    'image': jnp.zeros((32, 32, 32, 1), jnp.uint8),
    'label': jnp.zeros((32, 3)),
  }
  state = jax.eval_shape(
    lambda key: train_state.create(model, tx, key, jnp.zeros((1, 32, 32, 1))),
    jax.random.key(0),
  )

  def temporary(accumulate):
    step = steps_of('clean', model, tx, accumulate=accumulate, unroll=True)
    compiled = jax.jit(step).lower(state, jax.random.key(0), batch).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporary(4) < 0.5 * temporary(1)
