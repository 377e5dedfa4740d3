"""A validation's scalars: AUROC of clean films, and of attacked ones."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Float

from cxr import inference, losses, train_state
from cxr.attacks import batched
from cxr.statistics import bootstrap, rankings
from cxr.training.setup import Setup
from input_pipeline import pipeline


def make_validate(
  setup: Setup, split: pipeline.Split, key: jax.Array
) -> Callable:
  """Returns validate(state) -> scalars: val/auroc and val/robust_auroc.

  The second is of config.train.robust_films films under the evaluation's PGD
  at the epsilon of config.attack. A baseline has that field as well, though it
  trains without an attack, so that the curves of two runs can be compared.
  """
  config, model = setup.config, setup.model
  subject = inference.Subject(
    config, model, None, setup.mesh, {'validation': split}
  )
  attacked = inference.subset(split, config.train.robust_films)
  epsilon = config.attack.epsilon / 255
  attack = None
  if len(attacked) and epsilon:
    options = batched.Options(
      norm=config.attack.norm,
      epsilon=max(config.evaluate.epsilons) / 255,
      num_steps=config.evaluate.num_steps,
    )
    attack = inference.by_index(
      inference.make_attack(
        model, setup.mesh, losses.sigmoid_cross_entropy, options
      ),
      key,
      epsilon=jnp.float32(epsilon),
    )

  warned = False

  def validate(state) -> dict[str, float]:
    nonlocal warned
    trained = subject._replace(variables=train_state.variables(state))
    logits = inference.predict_split(trained, 'validation')
    values = _aurocs('val/auroc', logits, split.label, split.findings)
    if attack is not None:
      without = logits[attacked]
      logits = inference.predict_split(
        trained, 'validation', index=attacked, attack=attack
      )
      values |= _aurocs(
        'val/robust_auroc', logits, split.label[attacked], split.findings
      )
      warning = describe_no_effect(without, logits, split.label[attacked])
      if warning and not warned:
        warned = True
        logging.warning('%s', warning)
    return values

  return validate


def describe_no_effect(
  clean: Float[np.ndarray, 'n k'],
  attacked: Float[np.ndarray, 'n k'],
  label: Float[np.ndarray, 'n k'],
) -> str:
  """A sentence where an attack leaves the mean AUROC of films as it was; else
  ''."""
  before, under = (
    bootstrap.defined_mean(rankings.auroc(logits, label))
    for logits in (clean, attacked)
  )
  if np.isnan(before) or under < before - _NO_EFFECT:
    return ''
  return (
    f'The attack of config.attack leaves AUROC on {len(label)} validation '
    f'films as it is without it ({under:.3f} for {before:.3f}). Where this '
    'stays so, val/robust_auroc is no sign of robustness and to train against '
    'this attack is to train without one: config.attack.epsilon, in 1/255, '
    'may be too small.'
  )


# A fall of the mean AUROC that counts as none.
_NO_EFFECT = 0.001


def _aurocs(
  name: str, logits: np.ndarray, label: np.ndarray, findings: Sequence[str]
) -> dict[str, float]:
  """The mean over the findings that have both kinds of film, and each."""
  values = rankings.auroc(logits, label)
  known = ~np.isnan(values)
  if not known.any():
    return {}
  return {name: float(values[known].mean())} | {
    f'{name}/{finding}': float(value)
    for finding, value in zip(findings, values, strict=True)
    if not np.isnan(value)
  }
