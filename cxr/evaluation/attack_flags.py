"""Whether the attacks of this evaluation may be believed: flags.

A flag is that of attack_checks with the 'attack', its 'epsilon' in 1/255 and
the 'images' it was raised on beside it. `run` attacks a few films anew;
`of_figures` looks at the figures of all.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cxr import data, losses, sharding
from cxr.attacks import checks
from cxr.evaluation import named_attacks
from cxr.inference import Subject, by_index, predict_split
from cxr.statistics import bootstrap, rankings

CALLS = 2  # of the model on the same films
LONG_STEPS = 100  # of the PGD that the evaluation's own is held against
QUERIES = 200  # of Square; it needs thousands to win, tens against a mask


def run(of: Subject) -> list[dict]:
  """The flags of config.evaluate.check_films test films; none where it is 0.

  PGD as the sweep has it, PGD of LONG_STEPS and Square of QUERIES, each at the
  sweep's middle epsilon.
  """
  config = of.config
  if not config.evaluate.check_films:
    return []
  rows = of.films(config.evaluate.check_films)
  label = of.test.label[rows]
  epsilon = named_attacks.middle_epsilon(config)

  def logits(**options):
    return predict_split(
      of, index=rows, batch_size=_batch_size(of, rows), **options
    )

  def under(name, **options):
    attack = named_attacks.make(config, of.model, name, **options)
    key = jax.random.key(config.seed)
    radius = jnp.float32(epsilon / 255)
    return logits(attack=by_index(attack, key, epsilon=radius))

  loss = lambda found: np.asarray(losses.sigmoid_cross_entropy(found, label))
  short, long = under('pgd'), under('pgd', num_steps=LONG_STEPS)
  square = under('square', num_steps=QUERIES)
  of_pgd = named_attacks.label(config, 'pgd')
  of_long = named_attacks.label(config, 'pgd', LONG_STEPS)
  flags = [
    checks.randomized_output(np.stack([logits() for _ in range(CALLS)]))
    | {'attack': '', 'epsilon': 0.0},
    checks.zero_gradient(_gradients(of, rows)) | {'attack': '', 'epsilon': 0.0},
    checks.black_box_wins(np.maximum(loss(short), loss(long)), loss(square))
    | {'attack': of_long, 'epsilon': epsilon},
    checks.not_converged(
      bootstrap.defined_mean(rankings.auroc(short, label)),
      bootstrap.defined_mean(rankings.auroc(long, label)),
    )
    | {'attack': of_pgd, 'epsilon': epsilon},
  ]
  return [flag | {'images': len(rows)} for flag in flags]


def of_figures(
  clean: Mapping | None, robustness: Sequence[Mapping]
) -> list[dict]:
  """larger_epsilon_weaker of every attack, from its mean AUROCs.

  `clean` is the figure of the films without attack, used where it is of as
  many films. A rise within half of the widest interval may be chance.
  """
  by_attack = {}
  for entry in robustness:
    mean = entry['auroc']['mean']
    if entry.get('split', 'test') == 'test' and mean['value'] is not None:
      points = by_attack.setdefault(entry['attack'], [])
      points.append((entry['epsilon'], mean))
  flags = []
  for attack, points in by_attack.items():
    images = points[0][1]['images']
    if clean and clean['value'] is not None and clean['images'] == images:
      points.append((0.0, clean))
    width = max(mean['high'] - mean['low'] for _, mean in points)
    epsilon, value = zip(*((e, m['value']) for e, m in points), strict=True)
    flags.append(
      checks.larger_epsilon_weaker(
        np.array(epsilon), np.array(value), limit=max(0.005, width / 2)
      )
      | {'attack': attack, 'epsilon': max(epsilon), 'images': images}
    )
  return flags


def _batch_size(of: Subject, rows) -> int:
  return sharding.round_up(of.mesh, min(of.batch_size, len(rows)))


def _gradients(of: Subject, rows) -> Float[np.ndarray, 'n h w 1']:
  """Of each film's own loss, at the film."""

  @jax.jit
  def gradient(variables, image, label):
    def loss(image):
      logits, _ = of.model.apply(variables, image)
      return losses.sigmoid_cross_entropy(logits, label).sum()

    return jax.grad(loss)(data.to_unit(image))

  found = []
  for _, mask, batch in of.batches(rows, _batch_size(of, rows)):
    gradients = gradient(of.variables, batch['image'], batch['label'])
    found.append(sharding.to_host(gradients)[mask])
  return np.concatenate(found)
