"""The logits of every split, clean and under each attack of config.evaluate.

Each becomes a block of predictions.csv (cxr/stored_rows.py).
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Float

from cxr import data, files, inference, losses
from cxr.attacks import checks
from cxr.evaluation import named_attacks
from cxr.evaluation.parts import Parts, stored
from cxr.inference import Subject
from cxr.stored_rows import Condition, Predictions
from input_pipeline import pipeline


def classify(
  subject: Subject, parts: Parts
) -> tuple[dict[Condition, Predictions], dict[str, dict]]:
  """Logits of every split but train's.

  Returns:
    the blocks of predictions.csv, and by '<attack> <epsilon>' what the attack
    really did: {'audit': what checks.audit gives, 'norm'}.
  """
  lacking = data.without_both_kinds(subject.test)
  if lacking:
    logging.warning('The test films have %s: not scored.', lacking)
  blocks = {}
  for name, split in subject.splits.items():
    if name != 'train' and len(split.label):
      logits = stored(
        parts.path(f'logits-{name}.npz', {}, splits=(name,)),
        lambda name=name: {'logits': _clean(subject, name)},
        files.write_arrays,
        files.read_arrays,
      )['logits']
      blocks[Condition(name)] = _block(split, logits)
  attacked, audits = _attacked(subject, parts)
  return blocks | attacked, audits


def _clean(subject: Subject, split: str) -> Float[np.ndarray, 'n k']:
  count = len(subject.splits[split].label)
  logging.info('Predicting %s: %d films.', split, count)
  return inference.predict_split(subject, split)


def _attacked(
  subject: Subject, parts: Parts
) -> tuple[dict[Condition, Predictions], dict[str, dict]]:
  config, test = subject.config, subject.test
  rows = subject.films(config.evaluate.attack_films)
  norm = config.evaluate.norm
  # Made once: every epsilon is a run of the same program.
  attacks = {
    name: named_attacks.make(config, subject.model, name)
    for name in config.evaluate.attacks
  }
  blocks, audits = {}, {}
  for epsilon in map(float, config.evaluate.epsilons):
    under = {}
    for name, attack in attacks.items():
      label = named_attacks.label(config, name)
      settings = named_attacks.settings(config, name) | {
        'epsilon': epsilon,
        'films': config.evaluate.attack_films,
      }
      part = stored(
        parts.path(f'logits-{label}-{epsilon:g}.npz', settings),
        lambda attack=attack, label=label, epsilon=epsilon: _under_attack(
          subject, attack, label, epsilon, rows
        ),
        files.write_arrays,
        files.read_arrays,
      )
      under[label] = part['logits']
      audit = json.loads(str(part['audit']))
      logging.info(checks.describe(audit))
      audits[f'{label} {epsilon:g}'] = {'audit': audit, 'norm': norm}
    if len(under) > 1:
      under['worst_case'] = worst_logits(
        np.stack(list(under.values())), test.label[rows]
      )
      audits[f'worst_case {epsilon:g}'] = {'norm': norm}
    for label, logits in under.items():
      blocks[Condition('test', label, epsilon)] = _block(test, logits, rows)
  return blocks, audits


def _under_attack(
  subject: Subject, attack, label: str, epsilon: float, rows
) -> dict[str, np.ndarray]:
  """{'logits' 'n k', 'audit': JSON text} of the test films at `rows`."""
  logging.info(
    'Attacking %d test films: %s, epsilon %g/255.', len(rows), label, epsilon
  )
  audit = named_attacks.Audit(epsilon / 255, subject.config.evaluate.norm)
  logits = inference.predict_split(
    subject,
    index=rows,
    attack=inference.by_index(
      audit.watch(attack),
      jax.random.key(subject.config.seed),
      epsilon=jnp.float32(epsilon / 255),
    ),
  )
  return {'logits': logits, 'audit': np.array(json.dumps(audit.merged()))}


def worst_logits(
  logits: Float[np.ndarray, 'a n k'], label: Float[np.ndarray, 'n k']
) -> Float[np.ndarray, 'n k']:
  """Of the logits under several attacks, each film's at its largest loss."""
  loss = np.asarray(losses.sigmoid_cross_entropy(logits, label[None]))
  return logits[loss.argmax(0), np.arange(len(label))]


def _block(split: pipeline.Split, logits, rows=slice(None)) -> Predictions:
  return Predictions(
    split.image_name[rows],
    split.patient[rows],
    split.view[rows],
    split.age[rows],
    split.sex[rows],
    split.label[rows],
    logits,
  )
