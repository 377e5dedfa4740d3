"""--mode=train: from a folder of films to a workdir with checkpoints.

Exact continuation: the state holds every array that moves, the order of films
is a function of (seed, epoch), every random draw of (seed, step). So a run
that is stopped and started again ends with the same bits.
"""

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from cxr import (
  checkpoint,
  data,
  files,
  inference,
  losses,
  run_files,
  sharding,
  train_state,
)
from cxr.attacks import pgd
from cxr.models import architectures, pretrained
from cxr.statistics import metrics
from cxr.training import augment, train_step, writer
from input_pipeline import memory, pipeline
from input_pipeline.findings import FINDINGS


class Stopped(KeyboardInterrupt):
  """SIGTERM or Ctrl-C: the state is on disk, the message says how to go on."""

  def __init__(self, message: str, number: int):
    super().__init__(message)
    self.number = number


def make_optimizer(
  config: ConfigDict, plan: 'Plan'
) -> optax.GradientTransformation:
  """AdamW or SGD under a linear warm-up and a cosine to 0."""
  train_config = config.train
  # 'free' makes several updates from one batch.
  replays = (
    config.attack.free_replays if config.attack.objective == 'free' else 1
  )
  num_updates = plan.num_steps * replays
  warmup = plan.to_steps(train_config.warmup_epochs) * replays
  schedule = optax.warmup_cosine_decay_schedule(
    0.0,
    train_config.learning_rate,
    warmup_steps=min(warmup, num_updates - 1),
    decay_steps=num_updates,
  )
  # BatchNorm's scales and every bias are not decayed: they set no direction.
  decayed = lambda params: jax.tree.map(lambda x: x.ndim > 1, params)
  decay = train_config.weight_decay
  if train_config.optimizer == 'adamw':
    return optax.adamw(schedule, weight_decay=decay, mask=decayed)
  return optax.chain(
    optax.add_decayed_weights(decay, mask=decayed),
    optax.sgd(schedule, momentum=train_config.momentum, nesterov=True),
  )


def make_attack(config: ConfigDict, model) -> Callable | None:
  """The inner maximization that the objective calls for, if any."""
  attack = config.attack
  if attack.objective in ('clean', 'free'):
    return None
  loss_fn = {
    'adversarial': losses.sigmoid_cross_entropy,
    'trades': losses.bernoulli_kl,
  }[attack.objective]
  return pgd.make_attack(
    lambda variables, image: model.apply(variables, image)[0],
    loss_fn,
    norm=attack.norm,
    epsilon=attack.epsilon / 255,
    step_size=step_size(attack) / 255,
    num_steps=attack.num_steps,
    random_start=attack.random_start,
  )


def step_size(attack: ConfigDict) -> float:
  """config.attack's step in 1/255; 0 asks for a fitting one.

  2.5 epsilon / num_steps lets the attack cross the ball (Madry et al. 2018);
  a single step is 1.25 epsilon from its random start (Wong et al. 2020).
  """
  fitting = 2.5 * attack.epsilon / attack.num_steps
  return attack.step_size or min(fitting, 1.25 * attack.epsilon)


def make_weigh(config: ConfigDict, label: np.ndarray) -> Callable:
  """(label 'b k' of a batch) -> the loss's weights, as config.loss asks."""
  weighting = config.loss.weighting
  if weighting == 'batch':
    return losses.batch_weights
  if weighting == 'finding':
    weight = losses.finding_weights(label, cap=config.loss.weight_cap)
    return lambda label: {'positive_weight': weight}
  return train_step.unweighted


def make_step(
  config: ConfigDict, model, tx, plan: 'Plan', label: np.ndarray
) -> Callable:
  """The step that config.attack.objective asks for."""
  attack = config.attack
  ranges = config.augment.to_dict()
  common = {
    'augment': augment.make_augment(**ranges) if any(ranges.values()) else None,
    'epsilon': attack.epsilon / 255,
    'warmup_steps': plan.to_steps(attack.warmup_epochs),
    'ema': config.train.ema,
    'weigh': make_weigh(config, label),
    'accumulate': config.train.accumulate,
  }
  if attack.objective == 'free':
    return train_step.make_free_step(
      model, tx, replays=attack.free_replays, **common
    )
  name = attack.objective
  if name == 'adversarial' and attack.clean_weight:
    name = 'mixed'
  return train_step.make_train_step(
    model,
    tx,
    make_attack(config, model),
    objective=losses.make_objective(
      name, clean_weight=attack.clean_weight, beta=attack.trades_beta
    ),
    target_is_logits=name == 'trades',
    **common,
  )


class Plan(NamedTuple):
  """How long a run is, in steps of one batch."""

  num_steps: int
  steps_per_epoch: float
  validate_every: int
  log_every: int
  batch_size: int

  def to_steps(self, epochs: float) -> int:
    return round(epochs * self.steps_per_epoch)


def make_plan(config: ConfigDict, num_films: int) -> Plan:
  steps_per_epoch = num_films / config.batch_size
  return Plan(
    num_steps=math.ceil(config.num_epochs * steps_per_epoch),
    steps_per_epoch=steps_per_epoch,
    validate_every=max(1, round(config.validate_every * steps_per_epoch)),
    log_every=config.log_every,
    batch_size=config.batch_size,
  )


def train(config: ConfigDict, workdir: str) -> None:
  """Trains until config.train.num_epochs; continues where the workdir stands.

  Raises:
    ValueError: the config, the data or the workdir do not fit.
    Stopped: a signal came; a checkpoint is written.
  """
  mesh = sharding.make_mesh()
  sharding.check_batch(
    mesh,
    config.train.batch_size,
    field='config.train.batch_size',
    accumulate=config.train.accumulate,
  )
  run_files.check_config(workdir, config)
  # Else one process would read what another has just replaced.
  sharding.wait_for_all('config')
  if jax.process_index() == 0:
    run_files.write_config(workdir, config)
  splits = data.load(config)
  data.check_same_films(workdir, splits)
  data.write_summary(workdir, config, splits)
  films = splits['train']
  plan = make_plan(config.train, len(films.label))

  init_key, step_key, attack_key = jax.random.split(
    jax.random.key(config.seed), 3
  )
  model = architectures.make_model(config.model, num_findings=len(FINDINGS))
  tx = make_optimizer(config, plan)
  state = initial_state(config, model, tx, init_key, mesh)
  saver = checkpoint.checkpointer(
    workdir, best_metric=config.train.best_metric, writes=True
  )
  start = checkpoint.step_of(
    saver, 'latest', best_metric=config.train.best_metric
  )
  if start is not None:
    state = checkpoint.restore(saver, start, state, config, workdir)
    logging.info('Continuing at step %d of %d.', start, plan.num_steps)

  log = writer.Writer(
    workdir,
    step=start or 0,
    num_steps=plan.num_steps,
    enabled=jax.process_index() == 0,
  )
  batches = data.train_batches(config, films, mesh, start_step=start or 0)
  step_fn = make_jit_step(config, model, tx, films, plan, step_key, mesh)
  try:
    with catch_signals() as stopped:
      fit(
        state,
        step_fn,
        batches,
        plan,
        start=start or 0,
        validate=make_validate(
          config, model, mesh, splits['validation'], attack_key
        ),
        guard=CollapseGuard(
          collapse_tolerance(config.attack),
          os.path.join(workdir, 'train.jsonl'),
          step=start or 0,
        ),
        save=lambda state, values: checkpoint.save(
          saver, state, values, config
        ),
        log=log,
        stopped=stopped,
      )
  except NotFinite as e:
    sound = checkpoint.step_of(
      saver, 'latest', best_metric=config.train.best_metric
    )
    state = initial_state(config, model, tx, init_key, mesh)
    if sound is not None:
      state = checkpoint.restore(saver, sound, state, config, workdir)
    names = blame(config, model, mesh, films, state, step_fn, e.step)
    kept = 'no checkpoint was written yet'
    if sound is not None:
      kept = f'the last sound checkpoint is that of step {sound}'
    raise ValueError(
      f'The {e.name} at step {e.step} is {e.value}, {names}; {kept}. Try a '
      'lower train.learning_rate.'
    ) from e
  finally:
    # TensorFlow complains of a stream that ends with the process.
    batches.close()
    saver.close()
    log.close()


def fit(
  state, step_fn, batches, plan, *, start, validate, guard, save, log, stopped
):
  """The loop. Metrics are read one log step late: the device never waits.

  `stopped(step)`, asked once a step, is the signal for which to end there with
  a checkpoint, or 0.
  """
  if start < plan.num_steps:
    logging.info(
      'Compiling the step: up to minutes on the first start, afterwards read '
      'from %s.',
      jax.config.jax_compilation_cache_dir or 'no compilation cache',
    )
  pending, recent = None, []
  clock = Clock(plan, start)
  for step, batch in zip(range(start, plan.num_steps), batches, strict=False):
    state, step_metrics = step_fn(state, batch)
    done = step + 1
    stop = stopped(done)
    recent.append((done, step_metrics))
    log.advance()
    if step == start:
      # With the first films fetched. Given to the device, not yet computed.
      logging.info('First step on its way after %.1f s.', clock.restart(start))
    validates = done % plan.validate_every == 0 or done == plan.num_steps
    logs = done % plan.log_every == 0 or done == plan.num_steps
    if pending is not None and (logs or validates or stop):
      write_metrics(log, *pending)
      pending = None
    if logs:
      pending, recent = (done, recent, clock), []
    if validates:
      if pending is not None:
        write_metrics(log, *pending)
        pending = None
      check_finite(recent)
      recent = []
      values = validate(state)
      log.scalars(done, values | {'epoch': done / plan.steps_per_epoch})
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
        return
      save(state, values)
      clock.restart(done)
    if stop and done < plan.num_steps:
      if pending is not None:
        # The run that goes on does not write this step again.
        write_metrics(log, *pending)
      if not validates:
        check_finite(recent)
        save(state, {})
      raise Stopped(
        f'Stopped at step {done} of {plan.num_steps}; a checkpoint is '
        'written and the same command goes on from there.',
        stop,
      )


def make_jit_step(
  config: ConfigDict, model, tx, films, plan: Plan, key, mesh
) -> Callable:
  """(state, batch) -> (state, metrics), one program on the whole mesh."""
  step_fn = make_step(config, model, tx, plan, films.label)
  on_device = (
    data.on_device(films, mesh) if config.data.cache == 'device' else {}
  )

  def one_step(state, batch, on_device):
    return step_fn(state, key, data.take(batch, on_device))

  jit_step = jax.jit(
    one_step, donate_argnums=0, out_shardings=sharding.replicated(mesh)
  )
  program = None

  def step(state, batch):
    nonlocal program
    if program is None:
      program = jit_step.lower(state, batch, on_device).compile()
      _check_memory(program)
    return program(state, batch, on_device)

  return step


def _check_memory(program: jax.stages.Compiled) -> None:
  """A GPU says itself when it has too little; a host's process is killed."""
  if jax.default_backend() == 'cpu':
    stats = program.memory_analysis()
    memory.require(
      stats.temp_size_in_bytes + stats.output_size_in_bytes,
      'A training step',
      'try a smaller train.batch_size or a larger train.accumulate',
    )


def initial_state(config: ConfigDict, model, tx, key, mesh):
  """Random weights, or config.model.init_from's, on every device."""
  size = config.data.image_size
  state = jax.jit(
    lambda key: train_state.create(
      model,
      tx,
      key,
      jnp.zeros((1, size, size, 1), jnp.float32),
      separate_batch_stats=config.attack.separate_batch_stats,
      average=config.train.ema > 0,
    ),
    out_shardings=sharding.replicated(mesh),
  )(key)
  if not config.model.init_from:
    return state
  variables, report = pretrained.init_from(
    config.model.init_from, train_state.variables(state), config.model
  )
  logging.info('Weights of %s: %s', config.model.init_from, report)
  params, batch_stats = variables['params'], variables['batch_stats']
  copy = lambda old, new: None if old is None else jax.tree.map(jnp.copy, new)
  return state.replace(
    params=params,
    batch_stats=batch_stats,
    average=copy(state.average, params),
    adversarial_batch_stats=copy(state.adversarial_batch_stats, batch_stats),
  )


def make_validate(config: ConfigDict, model, mesh, split, key) -> Callable:
  """state -> scalars: clean AUROC, and AUROC under attack on a fixed subset.

  The attack is the evaluation's PGD at the training's epsilon (of a baseline:
  at the epsilon it would have been trained with), so curves can be compared.
  """
  batch_size = sharding.round_up(mesh, config.evaluate.batch_size)
  predict = inference.make_predict(model, mesh)
  watched = inference.subset(split, config.train.robust_films)
  epsilon = config.attack.epsilon / 255
  attack = None
  if len(watched) and epsilon:
    attack = inference.by_index(
      pgd.make_attack(
        lambda variables, image: model.apply(variables, image)[0],
        losses.sigmoid_cross_entropy,
        norm=config.attack.norm,
        epsilon=epsilon,
        step_size=2.5 * epsilon / config.evaluate.num_steps,
        num_steps=config.evaluate.num_steps,
      ),
      key,
    )

  def validate(state) -> dict[str, float]:
    variables = train_state.variables(state)
    logits = inference.predict_split(
      predict, variables, mesh, split, batch_size=batch_size
    )
    values = _aurocs('val/auroc', logits, split.label)
    if attack is not None:
      logits = inference.predict_split(
        predict,
        variables,
        mesh,
        split,
        batch_size=batch_size,
        index=watched,
        attack=attack,
      )
      values |= _aurocs('val/robust_auroc', logits, split.label[watched])
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


def collapse_tolerance(attack: ConfigDict) -> float:
  """0 for clean training: its AUROC under attack is expected to fall."""
  return 0.0 if attack.objective == 'clean' else attack.collapse_tolerance


class CollapseGuard:
  """Watches AUROC under attack; knows its best up to the step it starts at."""

  def __init__(self, tolerance: float, log_path: str, *, step=math.inf):
    self.best = -math.inf
    self._tolerance = tolerance
    for record in files.read_json_lines(log_path):
      # Lines behind it may be there: of several processes one drops them.
      if record['step'] <= step:
        self.best = max(self.best, record.get('val/robust_auroc') or -math.inf)

  def collapsed(self, values: dict[str, float]) -> bool:
    value = values.get('val/robust_auroc')
    if value is None or not self._tolerance:
      return False
    if value < self.best - self._tolerance:
      return True
    self.best = max(self.best, value)
    return False


class NotFinite(ValueError):
  """A figure of a step, `name`, is NaN or infinite: the weights are lost."""

  def __init__(self, step: int, name: str, value: float):
    super().__init__(f'The {name} at step {step} is {value}.')
    self.step, self.name, self.value = step, name, value


def check_finite(steps: list[tuple[int, dict]]) -> None:
  """Raises NotFinite for the first of these steps' metrics that is not.

  The norm of the gradient too: where it is not finite, the loss still is, but
  no weight after it.
  """
  for step, values in jax.device_get(steps):
    for name in ('loss', 'grad_norm'):
      value = float(values[f'train/{name}'])
      if not math.isfinite(value):
        raise NotFinite(step, name, value)


class Clock:
  """Films a second, between moments at which the device had come so far."""

  def __init__(self, plan: Plan, step: int):
    self._plan = plan
    self._since, self._step = time.monotonic(), step

  def restart(self, step: int) -> float:
    """Counts from now and `step`; returns the seconds counted before."""
    before, self._since = self._since, time.monotonic()
    self._step = step
    return self._since - before

  def __call__(self, step: int) -> dict[str, float]:
    """Scalars of a `step` whose metrics are on the host."""
    films = (step - self._step) * self._plan.batch_size
    values = {'epoch': step / self._plan.steps_per_epoch}
    return values | {'films_per_second': films / self.restart(step)}


def write_metrics(log, step, steps, clock):
  """Logs the last of the steps since the log step before; checks them all."""
  values = {k: float(v) for k, v in jax.device_get(steps[-1][1]).items()}
  log.scalars(step, values | clock(step))
  check_finite(steps)


def blame(config, model, mesh, films, state, step_fn, step: int) -> str:
  """The films of the batch of `step` that are to blame, for a sentence.

  Training goes on from `state` to the step before: every draw is a function
  of the step, so it comes to the very weights that the batch was shown to.
  """
  rows = pipeline.index_batches(
    len(films.label),
    batch_size=config.train.batch_size,
    seed=config.seed,
    start_step=step - 1,
  )
  start = int(state.step)
  batches = data.train_batches(config, films, mesh, start_step=start)
  with contextlib.closing(batches):
    for _, batch in zip(range(start, step - 1), batches, strict=False):
      state, _ = step_fn(state, batch)
  row = np.unique(next(rows))
  logits = inference.predict_split(
    inference.make_predict(model, mesh),
    {'params': state.params, 'batch_stats': state.batch_stats},
    mesh,
    films,
    batch_size=config.train.batch_size,
    index=row,
  )
  label = films.label[row]
  loss = np.abs(losses.sigmoid_cross_entropy(logits, label))
  bad = ~np.isfinite(loss)
  name = films.image_name[row][np.argmax(np.where(bad, np.inf, loss))]
  if bad.any():
    return f'as of {bad.sum()} of its {len(loss)} films, {name} among them'
  return f'where {name} has the largest loss of {len(loss)} films'


@contextlib.contextmanager
def catch_signals():
  """Yields stopped(step): the SIGTERM or SIGINT (Ctrl-C) that came, or 0.

  Of several processes each is asked at every step, and all answer SIGTERM at
  the same one, soon after any of them had a signal.
  """
  if jax.process_count() > 1:
    # JAX holds SIGTERM itself since the processes joined; so Ctrl-C becomes
    # one.
    previous = signal.signal(
      signal.SIGINT, lambda *_: os.kill(os.getpid(), signal.SIGTERM)
    )
    try:
      yield (
        lambda step: (
          signal.SIGTERM * multihost_utils.reached_preemption_sync_point(step)
        )
      )
    finally:
      signal.signal(signal.SIGINT, previous)
    return
  received = []

  def note(number, frame):
    del frame
    if received:  # a second Ctrl-C does not wait
      raise KeyboardInterrupt
    received.append(number)

  previous = {
    number: signal.signal(number, note)
    for number in (signal.SIGTERM, signal.SIGINT)
  }
  try:
    yield lambda step: received[0] if received else 0
    if received:  # after the last step had asked
      raise Stopped(
        'Stopped behind the last step; the same command goes on from there.',
        received[0],
      )
  finally:
    for number, handler in previous.items():
      signal.signal(number, handler)
