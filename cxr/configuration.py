"""The range of every config field, checked once, at the border."""

import math

from ml_collections import ConfigDict

from cxr import attribution, evaluate, localization, models


def _one_of(*values):
  return lambda x: x in values, 'one of ' + ', '.join(map(repr, values))


def _at_least(low):
  return lambda x: _finite(x) and x >= low, f'at least {low}'


def _whole(low):
  return lambda x: isinstance(x, int) and x >= low, f'a whole number from {low}'


def _more_than(low):
  return lambda x: _finite(x) and x > low, f'more than {low}'


def _between(low, high):
  return lambda x: _finite(x) and low <= x <= high, f'from {low} to {high}'


def _fraction(x):
  return _finite(x) and 0 < x < 1


def _finite(x):
  return isinstance(x, int | float) and math.isfinite(x)


def _all(rule):
  check, text = rule
  return lambda xs: len(xs) > 0 and all(map(check, xs)), f'each {text}'


def _each(rule):
  check, text = rule
  return lambda xs: all(map(check, xs)), f'each {text}, or ()'


def _rules():
  methods = _all(_one_of(*attribution.METHODS))
  norm = _one_of('linf', 'l2')
  share = (_fraction, 'between 0 and 1')
  return {
    'data.source': _one_of('phantom', 'nih'),
    'data.image_size': _between(16, 4096),
    'data.validation_fraction': share,
    'data.cache': _one_of('none', 'memory', 'device'),
    'data.workers': _at_least(0),
    'data.phantom.num_films': _at_least(60),
    'data.phantom.shortcut_amplitude': _between(0, 64),
    'data.phantom.shortcut_prevalence': _between(0, 1),
    'model.arch': _one_of(*models.MODELS),
    'model.num_filters': (lambda x: x >= 2 and x % 2 == 0, 'even, 2 or more'),
    'model.input_mean': _between(0, 1),
    'model.input_std': _more_than(0),
    'model.num_stages': _between(1, 4),
    'model.output_stride': _one_of(4, 8, 16, 32),
    'model.dtype': _one_of('float32', 'bfloat16'),
    'loss.weighting': _one_of('none', 'batch', 'finding'),
    'loss.weight_cap': _at_least(1),
    'attack.objective': _one_of('clean', 'adversarial', 'trades', 'free'),
    'attack.norm': norm,
    'attack.epsilon': _between(0, 255),
    'attack.num_steps': _at_least(1),
    'attack.step_size': _at_least(0),
    'attack.clean_weight': _between(0, 1),
    'attack.trades_beta': _at_least(0),
    'attack.free_replays': _at_least(1),
    'attack.warmup_epochs': _at_least(0),
    'attack.collapse_tolerance': _at_least(0),
    'augment.rotation': _between(0, 180),
    'augment.translation': _between(0, 0.5),
    'augment.scale': _between(0, 0.5),
    'augment.brightness': _between(0, 1),
    'augment.contrast': _between(0, 0.99),
    'augment.gamma': _between(0, 2),
    'train.num_epochs': _more_than(0),
    'train.batch_size': _at_least(1),
    'train.accumulate': _whole(1),
    'train.optimizer': _one_of('adamw', 'sgd'),
    'train.learning_rate': _more_than(0),
    'train.warmup_epochs': _at_least(0),
    'train.weight_decay': _at_least(0),
    'train.momentum': _between(0, 1),
    'train.ema': (lambda x: _finite(x) and 0 <= x < 1, 'from 0 to below 1'),
    'train.log_every': _at_least(1),
    'train.validate_every': _more_than(0),
    'train.robust_films': _at_least(0),
    'train.best_metric': _one_of('val/auroc', 'val/robust_auroc'),
    'evaluate.checkpoint': _one_of('best', 'latest'),
    'evaluate.batch_stats': _one_of('clean', 'adversarial'),
    'evaluate.batch_size': _at_least(1),
    'evaluate.norm': norm,
    'evaluate.epsilons': _all(_more_than(0)),
    'evaluate.num_steps': _at_least(1),
    'evaluate.restarts': _at_least(1),
    'evaluate.attack_films': _at_least(0),
    'evaluate.methods': methods,
    'evaluate.rules': _all(_one_of(*localization.RULES)),
    'evaluate.attacks': _all(_one_of(*evaluate.ATTACKS)),
    'evaluate.measures': _each(_one_of(*evaluate.MEASURES)),
    'evaluate.measure_films': _at_least(0),
    'evaluate.smooth': _between(0, 1),
    'evaluate.num_resamples': _at_least(10),
    'explain.methods': methods,
    'explain.rule': _one_of(*localization.RULES),
    'explain.top_findings': _between(1, 14),
    'explain.page_films': _at_least(0),
    'explain.batch_size': _at_least(1),
    'explain.fit': _one_of('pad', 'crop'),
  }


def validate(config: ConfigDict) -> None:
  """Raises ValueError with the field, its value and the rule it breaks."""
  for name, (check, text) in _rules().items():
    value = config
    for part in name.split('.'):
      value = value[part]
    if not check(value):
      raise ValueError(f'config.{name} ({value!r}) must be {text}.')
  if (
    config.train.best_metric == 'val/robust_auroc'
    and not config.train.robust_films
  ):
    raise ValueError(
      "config.train.best_metric ('val/robust_auroc') needs "
      'config.train.robust_films above 0.'
    )
  mixes = config.attack.objective == 'trades' or (
    config.attack.objective == 'adversarial' and config.attack.clean_weight > 0
  )
  if config.attack.separate_batch_stats and not mixes:
    raise ValueError(
      'config.attack.separate_batch_stats needs clean and adversarial films in '
      "one step: objective 'trades', or 'adversarial' with clean_weight above "
      '0.'
    )
