"""What robustness is worth, film by film, beside AUROC under attack.

Attacks are PGD as config.evaluate has it, at its middle epsilon.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cxr import data, heatmaps, sharding
from cxr.attacks import pgd
from cxr.attribution import by_name, saliency, sanity
from cxr.evaluation import measures, named_attacks
from cxr.inference import Subject, by_index, make_predict, predict_split
from cxr.localization import overlap, scoring, thresholds
from cxr.statistics import metrics
from input_pipeline.findings import BOXED, FINDINGS


def alignment(of: Subject) -> list[measures.Measure]:
  """Of film and gradient, per boxed finding: Etmann's and the cosine."""
  rows = of.films(of.config.evaluate.measure_films)
  gradients = by_name.make_attribution(
    of.model, 'gradient', findings=range(len(BOXED))
  )
  over_findings = lambda fn: jax.vmap(
    jax.vmap(fn, in_axes=(None, -1)), in_axes=(0, 0)
  )
  compute = jax.jit(
    lambda image, maps: tuple(
      over_findings(fn)(image, maps)
      for fn in (saliency.alignment, saliency.cosine)
    )
  )

  def both(variables, keys, image):
    image = data.to_unit(image)
    found = compute(image, gradients(variables, keys, image))
    return jnp.stack(found, axis=-2)  # 'b 2 k'

  values = heatmaps.compute_maps(
    both,
    of.variables,
    jax.random.key(of.config.seed),
    of.mesh,
    of.test,
    rows,
    batch_size=of.batch_size,
  )
  return [
    measures.Measure(
      name,
      of.test.image_name[rows],
      of.test.patient[rows],
      np.asarray(values[:, i], np.float64),
      method='gradient',
      findings=BOXED,
    )
    for i, name in enumerate(('alignment', 'cosine'))
  ]


# Attacks on one finding.


def targeted(of: Subject) -> list[measures.Measure]:
  """Each finding hidden where it is called, planted where it is not.

  Called: at or above the operating point of the validation films. The value is
  1 where the attack carries the finding over that point; NaN for films that
  are on its other side anyway, and where a finding has no operating point.
  """
  config, test = of.config, of.test
  rows = of.films(config.evaluate.measure_films)
  predict = make_predict(of.model, of.mesh)

  threshold = metrics.operating_threshold(
    predict_split(of, 'validation'), of.splits['validation'].label
  )
  before = predict_split(of, index=rows)
  attack = _targeted_attack(of, predict, threshold)
  after = np.full((len(FINDINGS), *before.shape), np.nan, np.float32)
  for k in np.flatnonzero(np.isfinite(threshold)):
    after[k] = predict_split(of, index=rows, attack=attack(int(k)))
  return [
    measures.Measure(
      name,
      test.image_name[rows],
      test.patient[rows],
      value,
      condition=_condition(of),
      findings=FINDINGS,
    )
    for name, value in targeted_values(before, after, threshold).items()
  ]


def targeted_values(
  before: Float[np.ndarray, 'n k'],
  after: Float[np.ndarray, 'k n k'],
  threshold: Float[np.ndarray, ' k'],
) -> dict[str, Float[np.ndarray, 'n k']]:
  """What attacks did; after[i] are the logits under that on finding i."""
  # float32 on both sides: a threshold is a film's own logit.
  threshold = threshold.astype(np.float32)
  called = before >= threshold
  own = np.diagonal(after, axis1=0, axis2=2)
  crossed = (called != (own >= threshold)).astype(np.float64)
  moved = np.abs(after - before)
  others = moved.sum(2).T - np.diagonal(moved, axis1=0, axis2=2)
  others = others / max(before.shape[1] - 1, 1)
  known = np.isfinite(threshold)  # inf: no film is worth calling
  values = {}
  for done, goal, films in (
    ('hidden', 'hide', known & called),
    ('planted', 'plant', known & ~called),
  ):
    values[done] = np.where(films, crossed, np.nan)
    values[f'{goal}_moves_others'] = np.where(films, others, np.nan)
  return values


def _targeted_attack(of, predict, threshold) -> Callable:
  """(finding) -> the attack on it, as predict_split takes one."""

  def loss_fn(logits, target):
    hide, plant = (
      pgd.targeted_loss(target['finding'], goal)(logits, target['clean'])
      for goal in ('hide', 'plant')
    )
    return jnp.where(target['called'], hide, plant)

  # One program for every finding and both directions.
  attack = named_attacks.make(
    of.config, of.model, 'pgd', loss_fn=loss_fn, keep_best=True
  )
  epsilon = jnp.float32(named_attacks.middle_epsilon(of.config) / 255)
  key = jax.random.key(of.config.seed)

  def of_finding(finding):
    def on_target(variables, keys, image, label):
      clean = predict(variables, image)
      target = {
        'clean': clean,
        'finding': jnp.full(len(image), finding),
        'called': clean[:, finding] >= np.float32(threshold[finding]),
      }
      return attack(variables, keys, image, target, epsilon=epsilon)

    return by_index(on_target, key)

  return of_finding


def _condition(of: Subject) -> str:
  label = named_attacks.label(of.config, 'pgd')
  return f'{label} {named_attacks.middle_epsilon(of.config):g}'


# Interpretability under attack.


def under_attack(of: Subject) -> list[measures.Measure]:
  """Boxes and maps of the boxed films, clean and attacked.

  The attack raises the film's whole loss, as in the sweep. Boxes are drawn by
  the main rule of config.evaluate.rules.
  """
  films = data.boxed_films(of.test)
  if not len(films.row):
    return []
  film, finding = np.nonzero(overlap.has_box(films.truth))
  shown = _maps_of_pairs(of, films, film, finding)
  found = []

  def add(name, method, condition, of_pair):
    value = np.full(films.truth.shape[:2], np.nan)
    value[film, finding] = of_pair
    found.append(
      measures.Measure(
        name, films.name, films.patient, value, method, condition, BOXED
      )
    )

  for method, by_condition in shown.items():
    for condition, maps in by_condition.items():
      scores = _scores(of, films, film, finding, maps)
      for name, score in (('box_iou', 'iou'), ('pointing', 'pointing')):
        add(name, method, condition, scores[score])
    clean, attacked = by_condition.values()
    for name, value in similarity(clean, attacked).items():
      add(name, method, _condition(of), value)
  # One measure's rows together, whatever the method.
  return sorted(found, key=lambda m: m.measure)


def similarity(
  a: Float[np.ndarray, 'p h w'], b: Float[np.ndarray, 'p h w']
) -> dict[str, Float[np.ndarray, ' p']]:
  """Of each pair of maps, neither of which depends on the maps' scale.

  SSIM is of maps divided by their largest magnitude, which keeps sign and zero,
  and its range is that of the pair.
  """

  def scaled(maps):
    largest = np.abs(maps).max((1, 2), keepdims=True).astype(np.float64)
    return maps / np.where(largest > 0, largest, 1)

  a_scaled, b_scaled = scaled(a), scaled(b)
  both = np.stack([a_scaled, b_scaled])
  spread = both.max((0, 2, 3)) - both.min((0, 2, 3))
  return {
    'map_spearman': sanity.correlation(a, b, rank=True),
    'map_ssim': sanity.ssim(a_scaled, b_scaled, data_range=spread),
  }


def _maps_of_pairs(of, films, film, finding) -> dict[str, dict]:
  """{method: {condition: maps 'p h w'}} of film[p] and finding[p]."""
  config = of.config
  key = jax.random.key(config.seed)
  attack = by_index(
    named_attacks.make(config, of.model, 'pgd'),
    key,
    epsilon=jnp.float32(named_attacks.middle_epsilon(config) / 255),
  )
  size = config.data.image_size
  conditions = 'clean', _condition(of)
  maps_fns = {
    method: heatmaps.make_maps(config, of.model, method)
    for method in config.evaluate.methods
  }
  shown = {
    method: {
      condition: np.empty((len(film), size, size), np.float32)
      for condition in conditions
    }
    for method in maps_fns
  }
  for place, mask, batch in of.batches(films.row, of.batch_size):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(batch['index'])
    clean = data.to_unit(batch['image'])
    attacked = attack(of.variables, batch['index'], clean, batch['label'])
    pair = np.flatnonzero(np.isin(film, place))
    within = np.searchsorted(place, film[pair])
    for method, maps_fn in maps_fns.items():
      for condition, image in zip(conditions, (clean, attacked), strict=True):
        maps = sharding.to_host(maps_fn(of.variables, keys, image))[mask]
        shown[method][condition][pair] = maps[within, ..., finding[pair]]
  return shown


def _scores(of, films, film, finding, maps) -> dict[str, np.ndarray]:
  """{'iou', 'pointing'} of each pair."""
  # Not an upper bound: it would be one of another map in every condition.
  rule = thresholds.main_rule(of.config.evaluate.rules)
  found = {name: np.full(len(film), np.nan) for name in ('iou', 'pointing')}
  for k in np.unique(finding):
    pair = np.flatnonzero(finding == k)
    rows = scoring.score_finding(
      maps[pair],
      films.truth[film[pair], k],
      films.patient[film[pair]],
      rules=(rule,),
    )[rule]
    for name, value in found.items():
      value[pair] = [row[name] for row in rows]
  return found
