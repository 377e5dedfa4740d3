"""The logits of every split, clean and under each attack of config.evaluate.

Each becomes a block of predictions.csv (cxr/stored_rows.py).
"""

import numpy as np
from absl import logging
from jaxtyping import Float

from cxr import data, files, inference
from cxr.evaluation import attacked
from cxr.evaluation.parts import Parts, stored
from cxr.inference import Subject
from cxr.reporting import wording
from cxr.stored_rows import Condition, Predictions


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
        parts.timed(f'logits-{name}')(
          lambda name=name: {'logits': _clean(subject, name)}
        ),
        files.write_arrays,
        files.read_arrays,
      )['logits']
      blocks[Condition(name)] = attacked.predictions(split, logits)
  under_attack, audits = attacked.attacked(subject, parts)
  return blocks | under_attack, audits


def _clean(subject: Subject, split: str) -> Float[np.ndarray, 'n k']:
  count = len(subject.splits[split].label)
  logging.info('Predicting %s: %s.', split, wording.count(count, 'film'))
  return inference.predict_split(subject, split)
