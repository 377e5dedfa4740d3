"""The attacks that config.evaluate names: made, labelled, audited."""

from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from cxr import inference, losses
from cxr.attacks import batched, checks
from cxr.inference import Subject

# Name in config.evaluate.attacks -> fields of batched.Options, its loss.
ATTACKS = {
  'fgsm': ({'method': 'fgsm'}, losses.sigmoid_cross_entropy),
  'pgd': ({'method': 'pgd'}, losses.sigmoid_cross_entropy),
  'apgd': ({'method': 'apgd'}, losses.sigmoid_cross_entropy),
  'apgd_margin': ({'method': 'apgd'}, losses.margin),
  'square': ({'method': 'square'}, losses.sigmoid_cross_entropy),
}


def make(subject: Subject, name: str, **options) -> Callable:
  """The attack of that name, as config.evaluate describes it; not to be jitted.

  `options` are fields of batched.Options, and `loss_fn`, that replace the
  config's.
  """
  of_name, loss_fn = ATTACKS[name]
  loss_fn = options.pop('loss_fn', loss_fn)
  model, config = subject.model, subject.config
  evaluate = config.evaluate
  options = {
    'norm': evaluate.norm,
    'epsilon': max(evaluate.epsilons) / 255,
    'num_steps': _num_steps(config, name),
    'restarts': evaluate.restarts,
    **of_name,
    **options,
  }
  return inference.make_attack(
    model, subject.mesh, loss_fn, batched.Options(**options)
  )


def label(config: ConfigDict, name: str, num_steps: int | None = None) -> str:
  """What tables call the attack, by which runs are compared.

  'pgd-10' takes 10 steps; 'pgd-10x3' the best of 3 starts; 'pgd-10-l2' stays in
  a ball of that norm and not of linf. 'fgsm' has one step and one start. (The
  step is 2.5 epsilon over the number of steps, so no label names it.)
  """
  restarts, norm = config.evaluate.restarts, config.evaluate.norm
  text = name
  if name != 'fgsm':
    text += f'-{num_steps or _num_steps(config, name)}'
    text += f'x{restarts}' if restarts > 1 else ''
  return text + (f'-{norm}' if norm != 'linf' else '')


def settings(config: ConfigDict, name: str) -> dict:
  """What decides an attack's result, beside the model, films and epsilon."""
  chosen = {'attack': name, 'norm': config.evaluate.norm, 'seed': config.seed}
  if name != 'fgsm':
    chosen['num_steps'] = _num_steps(config, name)
    chosen['restarts'] = config.evaluate.restarts
  return chosen


def _num_steps(config: ConfigDict, name: str) -> int:
  evaluate = config.evaluate
  return evaluate.queries if name == 'square' else evaluate.num_steps


def middle_epsilon(config: ConfigDict) -> float:
  """The one of config.evaluate.epsilons that stands for all, in 1/255.

  At the largest every attack may have won, at the smallest none.
  """
  epsilons = sorted(config.evaluate.epsilons)
  return float(epsilons[len(epsilons) // 2])


_extremes = jax.jit(checks.extremes, static_argnames='norm')


class Audit:
  """What an attack really did to its films, gathered batch by batch."""

  def __init__(self, epsilon: float, norm: str):
    self._epsilon = epsilon
    self._norm = norm
    self._batches = []

  def watch(self, attack: Callable) -> Callable:
    """The same attack, its results measured where they are."""

    def watched(variables, keys, image, label, **options):
      adversarial = attack(variables, keys, image, label, **options)
      # A few numbers, still on the device: nothing waits for them here.
      self._batches.append(_extremes(image, adversarial, norm=self._norm))
      return adversarial

    return watched

  def merged(self) -> dict:
    """`checks.audit` of all films that were attacked."""
    return checks.audit(jax.device_get(self._batches), epsilon=self._epsilon)
