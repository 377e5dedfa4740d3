"""Flags: doubts about whether this evaluation's attacks may be believed.

A flag is what a function of attacks/checks.py returns, with the 'attack', its
'epsilon' in 1/255 and the number of 'images' beside it. `run` attacks a few
films anew; `of_estimates` looks at the AUROCs of all attacked films.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Float

from cxr import data, files, losses, named_attacks
from cxr.attacks import checks
from cxr.evaluation.parts import Parts, stored
from cxr.inference import Subject, by_index, computed, predict_each
from cxr.reporting import main_result, wording
from cxr.statistics import bootstrap, intervals, rankings

CALLS = 2  # of the model on the same films
LONG_STEPS = 100  # of the PGD that the evaluation's own is held against
QUERIES = 200  # of Square; it needs thousands to win, tens against a mask


def checked(subject: Subject, parts: Parts) -> list[dict]:
  """The flags of `run`, stored or computed."""
  config = subject.config
  films = config.evaluate.check_films
  if not films:
    return []
  settings = named_attacks.settings(config, 'pgd') | {
    'films': films,
    'epsilon': named_attacks.middle_epsilon(config),
    'flags': 'with intervals',
  }
  return stored(
    parts.path('checks.json', settings),
    parts.timed('checks')(lambda: run(subject)),
    files.write_json,
    files.read_json,
  )


def run(subject: Subject) -> list[dict]:
  """The flags of config.evaluate.check_films test films.

  The films are attacked by PGD as the sweep has it, by PGD of LONG_STEPS and by
  Square of QUERIES, each at the sweep's middle epsilon.
  """
  config = subject.config
  logging.info(
    'Checking the attacks on %s.',
    wording.count(config.evaluate.check_films, 'test film'),
  )
  rows = subject.films(config.evaluate.check_films)
  # Where no label is known there is no loss to raise, and no gradient.
  rows = rows[~np.isnan(subject.test.label[rows]).all(axis=1)]
  if not len(rows):
    return []
  label = subject.test.label[rows]
  epsilon = named_attacks.middle_epsilon(config)

  def make(name, **options):
    attack = named_attacks.make(subject, name, **options)
    key = jax.random.key(config.seed)
    return by_index(attack, key, epsilon=jnp.float32(epsilon / 255))

  attacks = (
    make('pgd'),
    make('pgd', num_steps=LONG_STEPS),
    make('square', num_steps=QUERIES),
  )
  short, long, square, *unmoved = predict_each(
    subject, [*attacks, *[None] * CALLS], lambda: subject.batches(rows)
  )
  loss_of = jax.jit(losses.sigmoid_cross_entropy)
  loss = lambda logits: np.asarray(loss_of(logits, label))
  clean = {'attack': '', 'epsilon': 0.0}
  of_pgd = {'attack': named_attacks.label(config, 'pgd'), 'epsilon': epsilon}
  of_long = of_pgd | {'attack': named_attacks.label(config, 'pgd', LONG_STEPS)}
  flags = [
    checks.randomized_output(np.stack(unmoved)) | clean,
    checks.zero_gradient(_gradients(subject, rows)) | clean,
    checks.black_box_wins(np.maximum(loss(short), loss(long)), loss(square))
    | of_long,
    checks.not_converged(*_fall(short, long, label, subject.test.patient[rows]))
    | of_pgd,
  ]
  return [flag | {'images': len(rows)} for flag in flags]


def _fall(short, long, label, patient) -> tuple[float, tuple[float, float]]:
  """How far the mean AUROC falls from one attack's logits to another's, with
  its interval over the films' patients."""
  patient, num_patients = bootstrap.index_patients(patient)
  first, second = (
    bootstrap.with_mean(
      rankings.make_auroc(logits, label, patient, num_patients)
    )
    for logits in (short, long)
  )
  sampled = intervals.sample(
    lambda weight: (first(weight) - second(weight))[:, :1], num_patients
  )
  low, high = intervals.student_interval(
    sampled.values,
    intervals.over_patients(sampled),
    num_patients=num_patients,
  )
  return float(sampled.values[0]), (float(low[0]), float(high[0]))


def of_estimates(robustness: Sequence[Mapping]) -> list[dict]:
  """no_effect of each attack and epsilon, larger_epsilon_weaker of each attack.

  Both are of mean AUROCs on the test films. A rise with epsilon within half of
  the widest interval may be chance: the films are the same at every epsilon, so
  that its own interval is shorter. An estimate whose interval is withheld is
  left out: nothing says what is chance there.

  Args:
    robustness: the part of metrics.json.
  """
  flags, by_attack = [], {}
  for entry in filter(main_result.main_films, robustness):
    of_entry = {key: entry[key] for key in ('attack', 'epsilon')}
    of_entry['images'] = entry['auroc']['mean']['images']
    if entry['epsilon'] and 'change' in entry:
      change, low, high = (
        np.nan if entry['change'][key] is None else entry['change'][key]
        for key in ('value', 'low', 'high')
      )
      films = {'unmoved': entry['unmoved'], 'num_films': of_entry['images']}
      flags.append(checks.no_effect(change, (low, high), **films) | of_entry)
    points = by_attack.setdefault(entry['attack'], {})
    points[entry['epsilon']] = entry['auroc']['mean']
    if entry.get('clean'):
      points[0.0] = entry['clean']
  for attack, points in by_attack.items():
    points = {e: m for e, m in points.items() if m and m.get('low') is not None}
    if not points:
      continue
    width = max(mean['high'] - mean['low'] for mean in points.values())
    flags.append(
      checks.larger_epsilon_weaker(
        np.array(list(points)),
        np.array([mean['value'] for mean in points.values()]),
        half_width=width / 2,
      )
      | {'attack': attack, 'epsilon': max(points)}
      | {'images': next(iter(points.values()))['images']}
    )
  return flags


def _gradients(subject: Subject, rows) -> Float[np.ndarray, 'n h w 1']:
  """The gradient of each film's own loss with respect to the film."""

  @jax.jit
  def gradient(variables, image, label):
    def loss(image):
      logits, _ = subject.model.apply(variables, image)
      return losses.sigmoid_cross_entropy(logits, label).sum()

    return jax.grad(loss)(data.to_unit(image))

  of_films = lambda batch: gradient(
    subject.variables, batch['image'], batch['label']
  )
  gradients = computed(subject.mesh, of_films, subject.batches(rows))
  return np.concatenate([of_batch for _, of_batch in gradients])
