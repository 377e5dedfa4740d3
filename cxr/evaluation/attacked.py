"""The logits of the test films under each attack of config.evaluate.

An attack is aimed in two ways. Aimed at all findings at once it raises a film's
mean loss over the findings, and the film's logits are a row of predictions.csv.
Aimed at every finding alone it is a new attack for each finding, which raises
the loss of that finding's logit and of no other; the row of a film then holds,
for each finding, the logit under the attack on that finding.

Both are runs of one program: to aim at a finding alone is to call the labels of
the others unknown, as unknown labels have no loss.
"""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Float, Int

from cxr import files, inference, losses, named_attacks
from cxr.attacks import checks
from cxr.evaluation.parts import Parts, stored
from cxr.inference import Subject
from cxr.reporting import wording
from cxr.stored_rows import Condition, Predictions
from input_pipeline import pipeline


def attacked(
  subject: Subject, parts: Parts
) -> tuple[dict[Condition, Predictions], dict[str, dict]]:
  """Attacks the test films as config.evaluate says.

  Returns:
    the blocks of predictions.csv, and by '<attack> <epsilon>' what the attack
    really did: {'audit': what checks.audit gives, 'norm'}.
  """
  config = subject.config
  # Made once: every aim and every epsilon is a run of the same program.
  attacks = {
    name: named_attacks.make(subject, name) for name in config.evaluate.attacks
  }
  blocks, audits = {}, {}
  for aim in (_every_finding_alone(subject), _all_findings_at_once(subject)):
    if not len(aim.index):
      continue
    for epsilon in map(float, config.evaluate.epsilons):
      under = {}
      for name, attack in attacks.items():
        label = named_attacks.label(config, name) + aim.suffix
        settings = named_attacks.settings(config, name) | aim.settings
        part = stored(
          parts.path(
            f'logits-{label}-{epsilon:g}.npz', settings | {'epsilon': epsilon}
          ),
          parts.timed(f'logits-{label}-{epsilon:g}')(
            lambda attack=attack, label=label, aim=aim, epsilon=epsilon: (
              _under_attack(subject, attack, label, epsilon, aim)
            )
          ),
          files.write_arrays,
          files.read_arrays,
        )
        under[label] = part['logits']
        audit = json.loads(str(part['audit']))
        logging.info(checks.describe(audit))
        audits[f'{label} {epsilon:g}'] = {
          'audit': audit,
          'norm': config.evaluate.norm,
        }
      if len(under) > 1:
        label = f'worst_case{aim.suffix}'
        under[label] = worst_logits(np.stack(list(under.values())), aim.label)
        audits[f'{label} {epsilon:g}'] = {'norm': config.evaluate.norm}
      for label, logits in under.items():
        block = aim.block(subject.test, logits)
        blocks[Condition('test', label, epsilon)] = block
  return blocks, audits


class _Aim(NamedTuple):
  """The films that are attacked, and the labels whose loss is raised."""

  index: Int[np.ndarray, ' p']  # test films; one may come several times
  label: Float[np.ndarray, 'p k']  # NaN: the attack is not on this finding
  suffix: str  # of the attack's label in predictions.csv
  settings: dict  # what decides which films these are

  def block(
    self, test: pipeline.Split, logits: Float[np.ndarray, 'p k']
  ) -> Predictions:
    """Of each film one row; a finding that was not attacked is unknown."""
    if not self.suffix:
      return predictions(test, logits, self.index)
    film, row = np.unique(self.index, return_inverse=True)
    label = np.full((len(film), logits.shape[1]), np.nan, np.float32)
    logit = label.copy()
    place, finding = np.nonzero(~np.isnan(self.label))
    label[row[place], finding] = self.label[place, finding]
    logit[row[place], finding] = logits[place, finding]
    return predictions(test, logit, film)._replace(label=label)


def _all_findings_at_once(subject: Subject) -> _Aim:
  count = subject.config.evaluate.attack_films
  index = subject.films(count)
  return _Aim(index, subject.test.label[index], '', {'films': count})


def _every_finding_alone(subject: Subject) -> _Aim:
  count = subject.config.evaluate.finding_attack_films
  film, finding = films_of_findings(subject.test.label, count)
  label = np.full((len(film), subject.test.label.shape[1]), np.nan, np.float32)
  label[np.arange(len(film)), finding] = subject.test.label[film, finding]
  settings = {'films': count, 'aim': 'every finding alone'}
  return _Aim(film, label, wording.ALONE, settings)


def films_of_findings(
  label: Float[np.ndarray, 'n k'], count: int
) -> tuple[Int[np.ndarray, ' p'], Int[np.ndarray, ' p']]:
  """Chooses `count` films of each finding, half with it and half without.

  Where one kind has fewer films, all of them are taken and the other kind fills
  up. Each kind is spread evenly over the films. A film whose label is unknown
  is not taken, and none of a finding that all known films have, or none.

  Returns:
    (film, finding) of each choice, finding by finding.
  """
  films, findings = [], []
  for k, of_finding in enumerate(label.T):
    positive, negative = (np.flatnonzero(of_finding == x) for x in (1, 0))
    if not (len(positive) and len(negative)):
      continue
    num_positive = max(count // 2, count - len(negative))
    chosen = [
      _spread(positive, num_positive),
      _spread(negative, count - min(num_positive, len(positive))),
    ]
    films.append(np.sort(np.concatenate(chosen)))
    findings.append(np.full(len(films[-1]), k))
  nobody = np.zeros(0, np.int64)
  return np.concatenate([nobody, *films]), np.concatenate([nobody, *findings])


def _spread(index, count):
  """At most `count` of an index, evenly spread over it."""
  count = min(count, len(index))
  # The middle of each of `count` equal pieces.
  return index[
    ((np.arange(count) + 0.5) * len(index) / max(count, 1)).astype(int)
  ]


def _under_attack(
  subject: Subject, attack, label: str, epsilon: float, aim: _Aim
) -> dict[str, np.ndarray]:
  """{'logits' 'p k', 'audit': JSON text} of the films of the aim."""
  logging.info(
    'Attacking %d %s: %s, epsilon %g/255.',
    len(aim.index),
    'films and findings' if aim.suffix else 'test films',
    wording.attack_name(label),
    epsilon,
  )
  audit = named_attacks.Audit(epsilon / 255, subject.config.evaluate.norm)
  logits = inference.predict_split(
    subject,
    index=aim.index,
    label=aim.label,
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


def predictions(
  split: pipeline.Split, logits: Float[np.ndarray, 'n k'], index=slice(None)
) -> Predictions:
  """The block of predictions.csv of a split, or of the films of an index."""
  return Predictions(
    split.image_name[index],
    split.patient[index],
    split.view[index],
    split.age[index],
    split.sex[index],
    split.label[index],
    logits,
  )
