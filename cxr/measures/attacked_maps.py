"""Attacks on maps: the map moves while the logits stay, and the reverse.

A map that can be moved at will says little of why a network answers as it does,
nor does a map that stays while the answer moves (Ghorbani et al. 2019, arXiv
1710.10547; Dombrowski et al. 2019, arXiv 1906.07983; of chest films Zhang et
al. 2023, Radiology: Artificial Intelligence 6, e220221). Each goal is sought on
test films by attacks/constrained.py, within the middle one of
config.evaluate.epsilons:

away    the map no longer correlates with its own hottest pixels (TOP of them),
        while no logit moves by more than map_attack_tolerance
mirror  the map correlates with these pixels of the other side, logits as above
logit   the finding's logit falls, while the map keeps a correlation of SAME_MAP

'noise' stands beside them: a random point of the same ball. Where a map is made
of derivatives, the attack's own derivatives are those of the network with a
softplus for every ReLU (`Network.smooth`), since ReLU has no second one; the
maps and logits that are held, kept and measured are of the real network.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Float, Int

from cxr import data, named_attacks, platforms, sharding
from cxr.attacks import ascent, batched, constrained
from cxr.attribution import by_name, saliency, similarity
from cxr.inference import Subject
from cxr.localization import thresholds
from cxr.measures import attacked_films, over_films
from cxr.measures.measure_table import Measure

GOALS = 'away', 'mirror', 'logit'
NOISE = 'noise'
METHODS = 'cam', by_name.DENSE_CAM, 'gradient'
TOP = 0.1  # of the pixels
SAME_MAP = 0.95
# Of the softplus. Dombrowski et al. take 10 to 100.
BETA = 30.0


def settings(subject: Subject) -> dict:
  """What moves the values, beside the method, the weights and the films."""
  evaluate = subject.config.evaluate
  return {
    'films': evaluate.sanity_films,
    'seed': subject.config.seed,
    'norm': evaluate.norm,
    'epsilon': named_attacks.middle_epsilon(subject.config),
    'num_steps': evaluate.map_attack_steps,
    'tolerance': evaluate.map_attack_tolerance,
    'rule': thresholds.main_rule(evaluate.rules),
  }


class _Pairs(NamedTuple):
  """Test films, and a finding of each."""

  film: Int[np.ndarray, ' p']
  finding: Int[np.ndarray, ' p']  # index into `Subject.mapped`


def map_attacks(subject: Subject, methods: Sequence[str]) -> list[Measure]:
  """What attacks on the maps do to maps, boxes and logits.

  Of config.evaluate.sanity_films pairs of a film and a finding with a true box
  (or, where there is no box, with the label), an equal share of each finding:

  attacked_map: rank correlation of the map with the clean one.
  attacked_top: share of its hottest pixels (TOP of them) that are still.
  attacked_iou: mean IoU of the boxes with the true ones, clean and attacked.
  attacked_logit: how far the finding's logit moved; attacked_logits: the
    farthest that any logit moved.

  Methods other than METHODS have none, and are named in the log.
  """
  pairs = _pairs(subject)
  measured = []
  for method in methods:
    if method not in METHODS:
      logging.info(
        'Maps of %s are not attacked; those of %s are.',
        method,
        ', '.join(METHODS),
      )
    elif len(pairs.film):
      measured += _of_method(subject, method, pairs)
  return measured


def _pairs(subject: Subject) -> _Pairs:
  wanted = subject.test.label[:, subject.mapped_columns] == 1
  films = data.boxed_films(subject.test)
  if len(films.row):
    wanted = np.zeros_like(wanted)
    wanted[films.row] = films.boxed
  return _Pairs(
    *over_films.spread(wanted, subject.config.evaluate.sanity_films)
  )


def _of_method(subject: Subject, method: str, pairs: _Pairs) -> list[Measure]:
  attacked = _run(subject, method, pairs)
  clean_map, clean_logits = attacked.pop('clean')
  column = subject.mapped_columns[pairs.finding]
  rows, index = np.unique(pairs.film, return_inverse=True)
  measured = []

  def add(name, condition, of_pair):
    value = np.full((len(rows), len(subject.mapped)), np.nan)
    value[index, pairs.finding] = of_pair
    measured.append(
      over_films.make_measure(
        subject, name, rows, value, method=method, condition=condition
      )
    )

  add('attacked_iou', 'clean', _iou(subject, pairs, clean_map))
  for goal, (heatmap, logits) in attacked.items():
    condition = _condition(subject, goal)
    moved = logits - clean_logits
    add(
      'attacked_map',
      condition,
      similarity.correlation(clean_map, heatmap, rank=True),
    )
    add('attacked_top', condition, _top_kept(clean_map, heatmap))
    add('attacked_iou', condition, _iou(subject, pairs, heatmap))
    add('attacked_logit', condition, moved[np.arange(len(column)), column])
    add('attacked_logits', condition, np.abs(moved).max(1))
  return measured


def _condition(subject: Subject, goal: str) -> str:
  evaluate = subject.config.evaluate
  text = goal if goal == NOISE else f'{goal}-{evaluate.map_attack_steps}'
  text += f'-{evaluate.norm}' if evaluate.norm != 'linf' else ''
  return f'{text} {named_attacks.middle_epsilon(subject.config):g}'


def _top_kept(
  clean: Float[np.ndarray, 'p h w'], attacked: Float[np.ndarray, 'p h w']
) -> Float[np.ndarray, ' p']:
  top = jax.vmap(functools.partial(constrained.top, share=TOP))
  before, after = (
    np.asarray(top(jnp.asarray(m))) > 0 for m in (clean, attacked)
  )
  return (before & after).sum((1, 2)) / before.sum((1, 2))


def _iou(
  subject: Subject, pairs: _Pairs, heatmap: Float[np.ndarray, 'p h w']
) -> Float[np.ndarray, ' p']:
  films = data.boxed_films(subject.test)
  if not len(films.row):
    return np.full(len(pairs.film), np.nan)
  film = np.searchsorted(films.row, pairs.film)
  return attacked_films.scores_of_pairs(
    subject, films, film, pairs.finding, heatmap
  )['iou']


def _run(
  subject: Subject, method: str, pairs: _Pairs
) -> dict[str, tuple[Float[np.ndarray, 'p h w'], Float[np.ndarray, 'p k']]]:
  """(map, logits) of each pair: 'clean', of every goal, and of NOISE."""
  config = subject.config
  answer = jax.jit(jax.vmap(_make_answer(subject, method), (None, 0, 0)))
  on_map, on_logit = (
    _make_attack(subject, method, of_map=of_map) for of_map in (True, False)
  )
  top = jax.jit(jax.vmap(functools.partial(constrained.top, share=TOP)))
  radius = named_attacks.middle_epsilon(config) / 255
  ball = ascent.ball(config.evaluate.norm)
  shaken = jax.jit(jax.vmap(lambda k, x: ball.sample(k, x, radius)))

  def on_batch(keys, image, finding):
    variables = subject.variables
    heatmap, logits = answer(variables, image, finding)
    clean = {'finding': finding, 'map': heatmap, 'logits': logits}
    results = {'clean': (heatmap, logits)}
    hottest = top(heatmap)
    attack = lambda fn, target: fn(
      variables,
      keys,
      image,
      clean | {'target': target},
      epsilon=jnp.float32(radius),
    )
    images = {
      'away': attack(on_map, -hottest),
      'mirror': attack(on_map, hottest[..., ::-1]),
      'logit': attack(on_logit, hottest),
      NOISE: shaken(keys, image),
    }
    return results | {
      name: answer(variables, x, finding) for name, x in images.items()
    }

  image = over_films.images(subject, pairs.film)
  chunk = config.evaluate.chunk * subject.mesh.size
  return over_films.in_batches(
    subject, on_batch, pairs.film, image, pairs.finding, batch_size=chunk
  )


def _make_answer(subject: Subject, method: str, *, differentiable=False):
  """(variables, image 'h w 1', finding) -> (its map 'h w', logits 'k').

  The map is the one that is scored. `differentiable`: a derivative of the map
  is that of the smooth network.
  """
  model, columns = subject.model, subject.mapped_columns
  smooth = subject.config.evaluate.smooth

  def logits_fn(network, variables, image):
    return network.apply(variables, image[None])[0][0]

  def gradient_map(network, variables, image, finding):
    score = lambda x: logits_fn(network, variables, x)[
      jnp.asarray(columns)[finding]
    ]
    heatmap = saliency.gradient(score, image)
    return by_name.magnitude(heatmap[None, ..., None], sigma=smooth)[0, ..., 0]

  cam = None
  if method != 'gradient':
    cam = by_name.make_attribution(model, method, findings=columns.tolist())

  def answer(variables, image, finding):
    logits = logits_fn(model, variables, image)
    if cam is not None:
      # Linear in the features: its derivative needs no second one of ReLU's.
      key = jax.random.key(0)  # it draws nothing
      maps = cam(variables, key, image[None], finding[None])
      return maps[0, ..., 0], logits
    heatmap = gradient_map(model, variables, image, finding)
    if differentiable:
      smooth_map = gradient_map(model.smooth(BETA), variables, image, finding)
      heatmap = constrained.with_gradient_of(heatmap, smooth_map)
    return heatmap, logits

  return answer


def _make_attack(
  subject: Subject, method: str, *, of_map: bool
) -> batched.Attack:
  """The attack on the map, or on the finding's logit.

  What it has of a film in the place of a label: its finding, clean map, clean
  logits, and the target that an attacked map is to correlate with.
  """
  answer = _make_answer(subject, method, differentiable=True)
  evaluate = subject.config.evaluate
  columns = jnp.asarray(subject.mapped_columns)

  def make_steps(variables, film, clean, epsilon):
    def of(film):
      return answer(variables, film[..., None], clean['finding'])

    if of_map:
      value = lambda film: constrained.correlation(of(film)[0], clean['target'])
      residual = lambda film: of(film)[1] - clean['logits']
      tolerance = evaluate.map_attack_tolerance
    else:
      column = columns[clean['finding']]
      value = lambda film: -of(film)[1][column]
      residual = lambda film: (
        1 - constrained.correlation(of(film)[0], clean['map'])[None]
      )
      tolerance = 1 - SAME_MAP
    return constrained.make_steps(
      value,
      residual,
      film,
      epsilon=epsilon,
      step_size=2.5 * epsilon / evaluate.map_attack_steps,
      tolerance=tolerance,
      norm=evaluate.norm,
    )

  return batched.compile_steps(
    make_steps,
    named_attacks.middle_epsilon(subject.config) / 255,
    num_steps=evaluate.map_attack_steps,
    from_host=platforms.of(subject.mesh).host_loops,
    make_program=functools.partial(sharding.each_share, subject.mesh),
  )
