"""A validation's scalars: AUROC of clean films, and of attacked ones."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from cxr import inference, losses, train_state
from cxr.attacks import batched
from cxr.statistics import rankings
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
    attack = inference.by_index(
      batched.make_compiled_attack(
        lambda variables, image: model.apply(variables, image)[0],
        losses.sigmoid_cross_entropy,
        batched.Options(
          norm=config.attack.norm,
          epsilon=epsilon,
          step_size=2.5 * epsilon / config.evaluate.num_steps,
          num_steps=config.evaluate.num_steps,
        ),
      ),
      key,
    )

  def validate(state) -> dict[str, float]:
    trained = subject._replace(variables=train_state.variables(state))
    logits = inference.predict_split(trained, 'validation')
    values = _aurocs('val/auroc', logits, split.label, split.findings)
    if attack is not None:
      logits = inference.predict_split(
        trained, 'validation', index=attacked, attack=attack
      )
      values |= _aurocs(
        'val/robust_auroc', logits, split.label[attacked], split.findings
      )
    return values

  return validate


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
