"""--mode=train: from a folder of films to a workdir with checkpoints.

Exact continuation: the state holds every array that moves, the order of films
is a function of (seed, epoch), every random draw of (seed, step). So a run
that is stopped and started again ends with the same bits.
"""

import math
import os
import signal
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from ml_collections import ConfigDict

from cxr import (
    attacks,
    augment,
    checkpoint,
    data,
    losses,
    metrics,
    models,
    pretrained,
    sharding,
    train_state,
    writer,
)
from cxr.train_step import make_train_step
from input_pipeline import pipeline
from input_pipeline.findings import FINDINGS


class Stopped(Exception):
  """SIGTERM or Ctrl-C: the state is on disk, the message says how to go on."""


def make_optimizer(
    config: ConfigDict, *, num_updates: int, warmup_updates: int
) -> optax.GradientTransformation:
  """AdamW or SGD under a linear warm-up and a cosine to 0."""
  schedule = optax.warmup_cosine_decay_schedule(
      0.0,
      config.learning_rate,
      warmup_steps=min(warmup_updates, num_updates - 1),
      decay_steps=max(num_updates, 1),
  )
  # BatchNorm's scales and every bias are not decayed: they set no direction.
  decayed = lambda params: jax.tree.map(lambda x: x.ndim > 1, params)
  if config.optimizer == 'adamw':
    return optax.adamw(
        schedule, weight_decay=config.weight_decay, mask=decayed
    )
  return optax.chain(
      optax.add_decayed_weights(config.weight_decay, mask=decayed),
      optax.sgd(schedule, momentum=config.momentum, nesterov=True),
  )


def make_attack(config: ConfigDict, model) -> Callable | None:
  """The inner maximization that the objective calls for."""
  attack = config.attack
  if attack.objective in ('none', 'free'):
    return None
  loss_fn = {
      'adversarial': losses.sigmoid_cross_entropy,
      'trades': losses.bernoulli_kl,
  }[attack.objective]
  step_size = attack.step_size or 2.5 * attack.epsilon / attack.num_steps
  return attacks.make_attack(
      lambda variables, image: model.apply(variables, image)[0],
      loss_fn,
      norm=attack.norm,
      epsilon=attack.epsilon / 255,
      # One step from a random start crosses the whole ball (Wong et al. 2020).
      step_size=min(step_size, 1.25 * attack.epsilon) / 255,
      num_steps=attack.num_steps,
      random_start=attack.random_start,
  )


def positive_weight(config: ConfigDict, label: np.ndarray):
  """'k' weights of the positives, or None, as config.loss asks."""
  if config.loss.weighting != 'finding':
    return None
  return jnp.asarray(losses.finding_weights(label, cap=config.loss.weight_cap))


def make_predict(model, mesh) -> Callable:
  """(variables, image uint8 or float 'b h w 1') -> logits 'b k', everywhere."""

  def predict(variables, image):
    return model.apply(variables, data.to_unit(image))[0]

  return jax.jit(predict, out_shardings=sharding.replicated(mesh))


def predict_split(
    predict, variables, mesh, split, *, batch_size, index=None, attack=None
) -> np.ndarray:
  """Logits 'n k' of a split's films (or of `index`), each film once.

  `attack(variables, index 'b', image, label) -> image` comes before the model.
  """
  rows = np.arange(len(split.label)) if index is None else np.asarray(index)
  logits = np.full((len(rows), split.label.shape[1]), np.nan, np.float32)
  place = np.zeros(len(split.label), np.int64)
  place[rows] = np.arange(len(rows))
  for batch in pipeline.eval_batches(
      split, batch_size=batch_size, index=rows, **data.share()
  ):
    batch = sharding.shard(mesh, batch)
    image = batch['image']
    if attack is not None:
      image = attack(variables, batch['index'], image, batch['label'])
    mask = sharding.to_host(batch['mask'])
    out = np.asarray(predict(variables, image))
    logits[place[sharding.to_host(batch['index'])[mask]]] = out[mask]
  return logits


def make_attack_by_index(attack, key, mesh) -> Callable:
  """An attack whose draws depend on the film, not on its batch."""

  def by_index(variables, index, image, label):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
    return attack(variables, keys, data.to_unit(image), label)

  return jax.jit(by_index, out_shardings=sharding.over_data(mesh))


def robust_subset(split, num_films: int) -> np.ndarray:
  """Rows of a fixed subset, evenly spread over the split's order."""
  n = len(split.label)
  return np.unique(np.linspace(0, n - 1, min(num_films, n)).astype(np.int64))


def train(config: ConfigDict, workdir: str) -> None:
  """Trains until config.train.num_epochs; continues where the workdir stands.

  Raises:
    ValueError: the config, the data or the workdir do not fit.
    Stopped: a signal came; a checkpoint is written.
  """
  mesh = sharding.make_mesh()
  train_config = config.train
  sharding.check_batch(
      mesh, train_config.batch_size, field='config.train.batch_size'
  )
  checkpoint.write_config(workdir, config)
  splits = data.load(config)
  data.write_summary(workdir, config, splits)
  label = splits['train'].label
  if not len(label):
    raise ValueError('No training film is left; see left_out.csv.')

  num_steps = math.ceil(
      train_config.num_epochs * len(label) / train_config.batch_size
  )
  steps_per_epoch = len(label) / train_config.batch_size
  to_steps = lambda epochs: round(epochs * steps_per_epoch)
  validate_every = max(1, to_steps(train_config.validate_every))
  replays = (
      config.attack.free_replays if config.attack.objective == 'free' else 1
  )

  model = models.make_model(config.model, num_findings=len(FINDINGS))
  tx = make_optimizer(
      train_config,
      num_updates=num_steps * replays,
      warmup_updates=to_steps(train_config.warmup_epochs) * replays,
  )
  attack = make_attack(config, model)
  ranges = {k: v for k, v in config.augment.items()}
  step_fn = make_train_step(
      model,
      tx,
      attack,
      objective=config.attack.objective,
      augment=augment.make_augment(**ranges) if any(ranges.values()) else None,
      batch_weighting=config.loss.weighting == 'batch',
      positive_weight=positive_weight(config, label),
      epsilon=config.attack.epsilon / 255,
      epsilon_steps=to_steps(config.attack.warmup_epochs),
      clean_weight=config.attack.clean_weight,
      trades_beta=config.attack.trades_beta,
      free_replays=config.attack.free_replays,
      ema=train_config.ema,
  )
  key = jax.random.key(config.seed)
  init_key, step_key, attack_key = jax.random.split(key, 3)
  everywhere = sharding.replicated(mesh)
  state = jax.jit(
      lambda key, image: train_state.create(
          model,
          tx,
          key,
          image,
          separate_batch_stats=config.attack.separate_batch_stats,
          average=train_config.ema > 0,
      ),
      out_shardings=everywhere,
  )(init_key, _film_shape(config))

  saver = checkpoint.checkpointer(workdir, best_metric=train_config.best_metric)
  start = checkpoint.step_of(
      saver, 'latest', best_metric=train_config.best_metric
  )
  if start is None:
    state = initialize_from(config, state)
    start = 0
  else:
    state = checkpoint.restore(saver, start, state)
    logging.info('Continuing at step %d of %d.', start, num_steps)

  jit_step = jax.jit(
      lambda state, key, batch, films: step_fn(
          state, key, data.take(batch, films)
      ),
      donate_argnums=0,
      out_shardings=everywhere,
  )
  films = (
      data.on_device(splits['train'], mesh)
      if config.data.cache == 'device'
      else {}
  )
  validate = make_validate(config, model, mesh, splits['validation'], attack_key)

  log = writer.Writer(
      workdir,
      step=start,
      num_steps=num_steps,
      enabled=jax.process_index() == 0,
  )
  guard = CollapseGuard(
      config.attack.collapse_tolerance, os.path.join(workdir, 'train.jsonl')
  )
  stop = _catch_signals()
  if start < num_steps:
    logging.info('Compiling the first step.')
  pending = None  # metrics of the last log step: read one log step late
  since, since_step = time.monotonic(), start
  batches = data.train_batches(
      config, splits['train'], mesh, start_step=start
  )
  for step, batch in zip(range(start, num_steps), batches, strict=False):
    state, step_metrics = jit_step(state, step_key, batch, films)
    done = step + 1
    log.advance()
    if done % train_config.log_every == 0 or done == num_steps:
      if pending is not None:
        _write_metrics(log, *pending)
      seconds = time.monotonic() - since
      rate = (done - since_step) * train_config.batch_size / max(seconds, 1e-9)
      since, since_step = time.monotonic(), done
      extra = {'epoch': done / steps_per_epoch, 'films_per_second': rate}
      pending = done, step_metrics, extra
    at_validation = done % validate_every == 0 or done == num_steps
    if at_validation or stop:
      if pending is not None:
        _write_metrics(log, *pending)
        pending = None
    if at_validation:
      values = validate(state)
      log.scalars(done, values | {'epoch': done / steps_per_epoch})
      if guard.collapsed(values):
        logging.error(
            'AUROC under attack fell from %.3f to %.3f at step %d: '
            'catastrophic overfitting. Training stops; the last sound '
            'checkpoint is kept. Try more attack.num_steps or a smaller '
            'attack.epsilon.',
            guard.best,
            values['val/robust_auroc'],
            done,
        )
        break
      checkpoint.save(saver, state, values)
      since, since_step = time.monotonic(), done
    elif stop:
      checkpoint.save(saver, state, {})
    if stop and done < num_steps:
      log.close()
      saver.close()
      raise Stopped(
          f'Stopped at step {done} of {num_steps}; the checkpoint is in '
          f'{workdir} and the same command goes on from there.'
      )
  log.close()
  saver.close()


def _film_shape(config: ConfigDict):
  size = config.data.image_size
  return jnp.zeros((1, size, size, 1), jnp.float32)


def initialize_from(config: ConfigDict, state):
  """The weights of config.model.init_from, where it is given."""
  if not config.model.init_from:
    return state
  variables, report = pretrained.init_from(
      config.model.init_from, train_state.variables(state), config.model
  )
  logging.info('Weights of %s: %s', config.model.init_from, report)
  # The average, if kept, starts where the weights do.
  return state.replace(
      params=variables['params'],
      batch_stats=variables['batch_stats'],
      average=(
          None
          if state.average is None
          else jax.tree.map(jnp.copy, variables['params'])
      ),
      adversarial_batch_stats=(
          None
          if state.adversarial_batch_stats is None
          else jax.tree.map(jnp.copy, variables['batch_stats'])
      ),
  )


def make_validate(config: ConfigDict, model, mesh, split, key) -> Callable:
  """state -> scalars: clean AUROC, and AUROC under attack on a fixed subset.

  The attack is the evaluation's PGD at the training's epsilon (of a baseline:
  at the epsilon it would have been trained with), so curves can be compared.
  """
  batch_size = sharding.round_up(mesh, config.evaluate.batch_size)
  predict = make_predict(model, mesh)
  subset = robust_subset(split, config.train.robust_films)
  epsilon = config.attack.epsilon / 255
  attack = None
  if len(subset) and epsilon:
    attack = make_attack_by_index(
        attacks.make_attack(
            lambda variables, image: model.apply(variables, image)[0],
            losses.sigmoid_cross_entropy,
            norm=config.attack.norm,
            epsilon=epsilon,
            step_size=2.5 * epsilon / config.evaluate.num_steps,
            num_steps=config.evaluate.num_steps,
        ),
        key,
        mesh,
    )

  def validate(state) -> dict[str, float]:
    variables = train_state.variables(state)
    logits = predict_split(
        predict, variables, mesh, split, batch_size=batch_size
    )
    values = _aurocs('val/auroc', logits, split.label)
    if attack is not None:
      logits = predict_split(
          predict,
          variables,
          mesh,
          split,
          batch_size=batch_size,
          index=subset,
          attack=attack,
      )
      values |= _aurocs('val/robust_auroc', logits, split.label[subset])
    return values

  return validate


def _aurocs(name: str, logits, label) -> dict[str, float]:
  """The mean over the findings that have both kinds of film, and each."""
  values = metrics.auroc(logits, label)
  known = ~np.isnan(values)
  if not known.any():
    return {}
  return {name: float(values[known].mean())} | {
      f'{name}/{finding}': float(value)
      for finding, value in zip(FINDINGS, values, strict=True)
      if not np.isnan(value)
  }


class CollapseGuard:
  """Watches AUROC under attack; knows its best, also across a restart."""

  def __init__(self, tolerance: float, log_path: str):
    self.best = -math.inf
    self._tolerance = tolerance
    for record in writer.read(log_path):
      self.best = max(self.best, record.get('val/robust_auroc') or -math.inf)

  def collapsed(self, values: dict[str, float]) -> bool:
    value = values.get('val/robust_auroc')
    if value is None or not self._tolerance:
      return False
    if value < self.best - self._tolerance:
      return True
    self.best = max(self.best, value)
    return False


def _write_metrics(log, step, step_metrics, extra):
  values = {k: float(v) for k, v in jax.device_get(step_metrics).items()}
  log.scalars(step, values | extra)
  if not math.isfinite(values['train/loss']):
    raise ValueError(
        f'The loss at step {step} is {values["train/loss"]}; the last '
        'checkpoint is kept. Try a lower train.learning_rate.'
    )


def _catch_signals() -> list:
  """A list that is empty until SIGTERM or Ctrl-C fills it."""
  received = []

  def note(number, frame):
    del frame
    if received:  # a second Ctrl-C does not wait
      raise KeyboardInterrupt
    received.append(number)

  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, note)
  return received
