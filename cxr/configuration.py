"""The rule of every config field; a config is checked before it is used."""

import difflib
import math
import os
import re
from collections.abc import Mapping

from ml_collections import ConfigDict

from cxr import named_attacks, run_files
from cxr.attribution import by_name, saliency
from cxr.evaluation import evaluate
from cxr.localization import thresholds
from cxr.measures import named_measures
from cxr.models import architectures, foreign_weights, head
from input_pipeline import catalogue
from input_pipeline.phantom import draw
from input_pipeline.sources import by_name as layouts


def _one_of(*values):
  return (
    lambda x: isinstance(x, str | int) and x in values,
    'one of ' + ', '.join(map(repr, values)),
  )


def _above(low, high):
  return (
    lambda x: _finite(x) and low < x <= high,
    f'more than {low}, at most {high:g}',
  )


def _between(low, high):
  return lambda x: _finite(x) and low <= x <= high, f'from {low:g} to {high:g}'


def _whole(low, high=None):
  """A whole number; without `high` it is at most what an array index holds."""
  text = f'at least {low}' if high is None else f'from {low} to {high}'
  high = 2**31 - 1 if high is None else high
  return (
    lambda x: type(x) is int and low <= x <= high,
    f'a whole number, {text}',
  )


def _fraction(x):
  return _finite(x) and 0 < x < 1


def _finite(x):
  # True is an int to Python, and 1 to whoever reads a config.
  return type(x) in (int, float) and math.isfinite(x)


def _in_gray_levels(rule):
  check, text = rule
  return check, f'{text}, in 1/255 (8 is 8/255)'


def _several(rule, at_least=1):
  """A tuple whose every value keeps a rule."""
  check, text = rule
  return (
    lambda xs: (
      isinstance(xs, tuple)
      and len(xs) >= at_least
      and all(map(check, xs))
      and len(set(xs)) == len(xs)
    ),
    f'values with commas between them, none twice, each {text}'
    + ('' if at_least else ', or ()'),
  )


def _one_or_three(rule):
  """A number, or one for each of three input channels."""
  check, text = rule
  return (
    lambda x: (
      check(x) or (isinstance(x, tuple) and len(x) == 3 and all(map(check, x)))
    ),
    f'{text}, or three such numbers',
  )


_SWITCH = lambda x: type(x) is bool, 'True or False'
_TEXT = lambda x: isinstance(x, str) and '\0' not in x, 'text'
_FINDING = lambda x: isinstance(x, str) and x.strip(), 'the name of a finding'
_PATH = lambda x: isinstance(x, str) and x and '\0' not in x, 'a path'
# A name becomes a folder below runs/.
_NAME = (
  lambda x: isinstance(x, str) and re.fullmatch(r'\w[\w.+-]{0,99}', x),
  'letters, digits, _, -, + and dots, a letter or digit first',
)


def _rules():
  methods = _several(_one_of(*by_name.METHODS))
  norm = _one_of('linf', 'l2')
  share = (_fraction, 'between 0 and 1')
  return {
    'name': _NAME,
    'preset': _TEXT,
    'seed': _whole(0),
    'data.source': _one_of(*layouts.SOURCES),
    'data.dir': _TEXT,
    'data.prepared_dir': _PATH,
    'data.image_size': _whole(16, 4096),
    'data.validation_fraction': share,
    'data.test_fraction': _between(0, 1),
    'data.uncertain': _one_of(*catalogue.UNCERTAIN_AS),
    'data.unmentioned': _one_of(*catalogue.UNMENTIONED_AS),
    'data.findings': _several(_FINDING, at_least=0),
    'data.synonyms': _TEXT,
    'data.split_seed': _whole(0),
    'data.cache': _one_of('auto', 'none', 'memory', 'device'),
    'data.workers': _whole(0),
    'data.phantom.num_films': _whole(60),
    'data.phantom.seed': _whole(0),
    'data.phantom.shortcut_amplitude': _in_gray_levels(_between(0, 64)),
    'data.phantom.shortcut_prevalence': _between(0, 1),
    'model.arch': _one_of(*architectures.MODELS),
    'model.num_filters': (
      lambda x: type(x) is int and 2 <= x <= 4096 and x % 2 == 0,
      'even, from 2 to 4096',
    ),
    'model.input_mean': _one_or_three(_between(0, 1)),
    'model.input_std': _one_or_three(_above(0, 1)),
    'model.num_stages': _whole(1, 4),
    'model.output_stride': _one_of(4, 8, 16, 32),
    'model.dtype': _one_of('float32', 'bfloat16'),
    'model.remat': _SWITCH,
    'model.pooling': _one_of(*head.KINDS),
    'model.pooling_sharpness': _above(0, 1e3),
    'model.pooling_share': _above(0, 1),
    'model.init_from': _TEXT,
    'model.init_findings': (
      lambda xs: isinstance(xs, tuple) and all(map(_FINDING[0], xs)),
      'names of findings with commas between them, - for none, or ()',
    ),
    'model.init_pixels': _one_of(*foreign_weights.PIXELS),
    'loss.weighting': _one_of('none', 'batch', 'finding'),
    'loss.weight_cap': _between(1, 1e6),
    'attack.objective': _one_of('clean', 'adversarial', 'trades', 'free'),
    'attack.norm': norm,
    'attack.epsilon': _in_gray_levels(_between(0, 255)),
    'attack.num_steps': _whole(1),
    'attack.step_size': _in_gray_levels(_between(0, 255)),
    'attack.random_start': _SWITCH,
    'attack.clean_weight': _between(0, 1),
    'attack.trades_beta': _between(0, 1e6),
    'attack.free_replays': _whole(1),
    'attack.warmup_epochs': _between(0, 1e6),
    'attack.separate_batch_stats': _SWITCH,
    'attack.collapse_tolerance': _between(0, 1),
    'augment.rotation': _between(0, 180),
    'augment.translation': _between(0, 0.5),
    'augment.scale': _between(0, 0.5),
    'augment.brightness': _between(0, 1),
    'augment.contrast': _between(0, 0.99),
    'augment.gamma': _between(0, 2),
    'augment.flip': _SWITCH,
    'train.num_epochs': _above(0, 1e6),
    'train.batch_size': _whole(1),
    'train.accumulate': _whole(1),
    'train.optimizer': _one_of('adamw', 'sgd'),
    'train.learning_rate': _above(0, 1e3),
    'train.warmup_epochs': _between(0, 1e6),
    'train.weight_decay': _between(0, 1e3),
    'train.momentum': _between(0, 1),
    'train.ema': (lambda x: _finite(x) and 0 <= x < 1, 'from 0 to below 1'),
    'train.log_every': _whole(1),
    'train.validate_every': _above(0, 1e6),
    'train.robust_films': _whole(0),
    'train.best_metric': _one_of('val/auroc', 'val/robust_auroc'),
    'evaluate.checkpoint': _one_of('best', 'latest'),
    'evaluate.batch_stats': _one_of('clean', 'adversarial'),
    'evaluate.batch_size': _whole(1),
    'evaluate.attacks': _several(_one_of(*named_attacks.ATTACKS)),
    'evaluate.norm': norm,
    'evaluate.epsilons': _several(_in_gray_levels(_above(0, 255))),
    'evaluate.num_steps': _whole(1),
    'evaluate.queries': _whole(1),
    'evaluate.restarts': _whole(1),
    'evaluate.attack_films': _whole(0),
    'evaluate.finding_attack_films': _whole(0),
    'evaluate.methods': methods,
    'evaluate.rules': _several(
      _one_of(*thresholds.RULES, *thresholds.CROSS_FITTED_RULES)
    ),
    'evaluate.measures': _several(
      _one_of(*named_measures.MEASURES), at_least=0
    ),
    'evaluate.measure_films': _whole(0),
    'evaluate.map_attack_steps': _whole(1),
    'evaluate.map_attack_tolerance': _above(0, 100),
    'evaluate.check_films': _whole(0),
    'evaluate.sanity_films': _whole(0),
    'evaluate.stages': _several(
      _one_of('stage1', 'stage2', 'stage3', 'stage4', 'features')
    ),
    'evaluate.baseline': _one_of(*saliency.BASELINES),
    'evaluate.integration_steps': _whole(1),
    'evaluate.smooth_grad_samples': _whole(1),
    'evaluate.smooth_grad_noise': _between(0, 1),
    'evaluate.occlusion_window': _above(0, 1),
    'evaluate.occlusion_stride': _above(0, 1),
    'evaluate.rise_masks': _whole(1),
    'evaluate.rise_grid': _whole(1),
    'evaluate.rise_keep': share,
    'evaluate.chunk': _whole(1),
    'evaluate.export': _several(_one_of(*evaluate.EXPORTS), at_least=0),
    'evaluate.smooth': _between(0, 1),
    'evaluate.num_resamples': _whole(10),
    'evaluate.save_maps': _SWITCH,
    'explain.methods': methods,
    'explain.rule': _one_of(*thresholds.RULES),
    'explain.top_findings': _whole(1),
    'explain.page_films': _whole(0),
    'explain.batch_size': _whole(1),
    'explain.fit': _one_of('pad', 'crop'),
  }


# Fields that hold a path.
_PATHS = ('data.dir', 'data.prepared_dir', 'data.synonyms', 'model.init_from')


def expand_paths(fields: Mapping[str, object]) -> dict[str, object]:
  """The fields by dotted name; in paths '~' becomes the home folder."""
  return dict(fields) | {
    name: os.path.expanduser(fields[name])
    for name in _PATHS
    if isinstance(fields.get(name), str)
  }


def describe_faint_attacks(config: ConfigDict) -> list[str]:
  """A sentence for each attack whose ball is far below one gray level.

  As a rule its epsilon was meant in [0, 1]: .03 for 8/255. An L2 ball counts by
  the change of a pixel where all change alike.
  """
  side = config.data.image_size
  attacks = [
    ('evaluate.epsilons', config.evaluate.norm, epsilon)
    for epsilon in config.evaluate.epsilons
  ]
  if config.attack.objective != 'clean' or config.train.robust_films:
    attacks.append(
      ('attack.epsilon', config.attack.norm, config.attack.epsilon)
    )
  faint = [
    f'config.{name} ({epsilon:g}) is in 1/255: the attack can hardly change a '
    f'pixel. For {epsilon:g} of the range from black to white write '
    f'{255 * epsilon:.3g}.'
    for name, norm, epsilon in attacks
    if 0 < epsilon / (side if norm == 'l2' else 1) < _FAINT
  ]
  attack = config.attack
  reach = attack.step_size * attack.num_steps
  if attack.objective != 'clean' and 0 < reach < _FAINT * attack.epsilon:
    faint.append(
      f'config.attack.step_size ({attack.step_size:g}) is in 1/255: '
      f'{attack.num_steps} steps go {reach:g} of the {attack.epsilon:g} that '
      f'epsilon allows. For {attack.step_size:g} of the range from black to '
      f'white write {255 * attack.step_size:.3g}.'
    )
  return faint


# In gray levels; of the reach of all steps, in epsilons.
_FAINT = 0.1


def validate(config: ConfigDict) -> None:
  """Raises ValueError with the field, its value and the rule it breaks."""
  rules, fields = _rules(), run_files.flat(config)
  for name in fields:
    if name not in rules:
      (near,) = difflib.get_close_matches(name, rules, n=1, cutoff=0)
      raise ValueError(f'There is no config.{name}; the nearest is {near}.')
  for name, (check, text) in rules.items():
    if name not in fields:
      raise ValueError(f'config.{name} is missing; it must be {text}.')
    value = fields[name]
    if not check(value):
      raise ValueError(f'config.{name} ({value!r}) must be {text}.')
  # It refuses what no network has; now, and not after the films are prepared.
  model = architectures.make_model(config.model, num_findings=1)
  if by_name.DENSE_CAM in (
    *config.evaluate.methods,
    *config.explain.methods,
  ):
    model.dense()
  smallest = draw.MIN_IMAGE_SIZE
  drawn = config.data.source == 'phantom' and not config.data.dir
  if drawn and config.data.image_size < smallest:
    raise ValueError(
      f'config.data.image_size ({config.data.image_size}) must be at least '
      f"{smallest} with data.source 'phantom'."
    )
  if (
    config.train.best_metric == 'val/robust_auroc'
    and not config.train.robust_films
  ):
    raise ValueError(
      "config.train.best_metric ('val/robust_auroc') needs "
      'config.train.robust_films above 0.'
    )
  if config.attack.objective == 'free' and config.attack.norm != 'linf':
    raise ValueError(
      f"config.attack.objective ('free') moves along the gradient's sign: "
      f"config.attack.norm ({config.attack.norm!r}) must be 'linf'."
    )
  if set(config.evaluate.rules) == {'oracle'}:
    raise ValueError(
      "config.evaluate.rules (('oracle',)) is an upper bound alone; add a rule "
      "that does not see the scored boxes, such as 'tuned'."
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
