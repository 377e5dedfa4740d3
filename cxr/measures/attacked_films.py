"""What an attack does to a film, measured film by film.

AUROC under attack says how well films are still ranked. Here: whether a finding
can be hidden or planted on a film, how much boxes and maps move under attack,
and how alike a film and its gradient are. Each function returns rows of
measures.csv. The attack is PGD as config.evaluate has it, at the middle one of
its epsilons.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float, Int

from cxr import data, heatmaps, inference, losses, named_attacks
from cxr.attribution import by_name, gradient_alignment, similarity
from cxr.inference import (
  Subject,
  by_index,
  computed,
  predict_split,
)
from cxr.localization import scoring, thresholds
from cxr.measures import measure_table, over_films
from cxr.scored_maps import map_controls
from cxr.statistics import metrics


def alignment(
  subject: Subject, methods: Sequence[str] = ('',)
) -> list[measure_table.Measure]:
  """How alike a film and its gradient are, per mapped finding.

  'alignment' is Etmann's measure, 'cosine' that of the angle between the two;
  see gradient_alignment.py. Films: config.evaluate.measure_films.
  """
  del methods  # of the plain gradient alone
  rows = subject.films(subject.config.evaluate.measure_films)
  gradients = heatmaps.make_maps(subject, 'gradient', raw=True)
  over_findings = lambda fn: jax.vmap(
    jax.vmap(fn, in_axes=(None, -1)), in_axes=(0, 0)
  )
  compute = jax.jit(
    lambda image, maps: tuple(
      over_findings(fn)(image, maps)
      for fn in (gradient_alignment.alignment, gradient_alignment.cosine)
    )
  )

  def both(variables, keys, image):
    maps = gradients(variables, keys, image)
    values = compute(data.to_unit(image), maps)
    return jnp.stack(values, axis=-2)  # 'b 2 k'

  values = heatmaps.compute_maps(subject, both, rows)
  return [
    measure_table.Measure(
      name,
      subject.test.image_name[rows],
      subject.test.patient[rows],
      np.asarray(values[:, i], np.float64),
      method='gradient',
      findings=subject.mapped,
    )
    for i, name in enumerate(('alignment', 'cosine'))
  ]


# Attacks on one finding.


def targeted(
  subject: Subject, methods: Sequence[str] = ('',)
) -> list[measure_table.Measure]:
  """Whether an attack on one finding hides it, or plants it, on each film.

  A film is called positive where its logit is at or above the operating point
  of the validation films. The attack hides the finding on films that are called
  and plants it on the others, holding the other findings. 'hidden' and
  'planted' are 1 where it carries the finding over the operating point, 0 where
  it does not, NaN on films of the other side and where a finding has no
  operating point. Films: config.evaluate.measure_films.
  """
  del methods  # no map is taken
  test = subject.test
  rows = subject.films(subject.config.evaluate.measure_films)
  threshold = metrics.operating_threshold(*inference.validated(subject))
  before = predict_split(subject, index=rows)
  attack = _targeted_attack(subject, threshold)
  after = np.full((before.shape[1], *before.shape), np.nan, np.float32)
  for k in np.flatnonzero(np.isfinite(threshold)):
    after[k] = predict_split(
      subject, index=rows, label=before, attack=attack(int(k))
    )
  return [
    measure_table.Measure(
      name,
      test.image_name[rows],
      test.patient[rows],
      value,
      condition=_condition(subject),
      findings=subject.findings,
    )
    for name, value in targeted_values(before, after, threshold).items()
  ]


def targeted_values(
  before: Float[np.ndarray, 'n k'],
  after: Float[np.ndarray, 'k n k'],
  threshold: Float[np.ndarray, ' k'],
) -> dict[str, Float[np.ndarray, 'n k']]:
  """The measures of `targeted` from logits.

  Args:
    before: logits of the films as they are.
    after: after[i] are the logits under the attack on finding i.
    threshold: of each finding's logit; inf where no film is worth calling.

  Returns:
    'hidden' and 'planted', and with each the mean change, in logits, of the
    other findings: 'hide_moves_others', 'plant_moves_others' (NaN where there
    is no other finding).
  """
  # float32 on both sides: a threshold is a film's own logit.
  threshold = threshold.astype(np.float32)
  called = before >= threshold
  own = np.diagonal(after, axis1=0, axis2=2)
  crossed = (called != (own >= threshold)).astype(np.float64)
  moved = np.abs(after - before)
  others = moved.sum(2).T - np.diagonal(moved, axis1=0, axis2=2)
  count = before.shape[1] - 1
  others = others / count if count else np.full_like(others, np.nan)
  known = np.isfinite(threshold)
  values = {}
  for done, goal, films in (
    ('hidden', 'hide', known & called),
    ('planted', 'plant', known & ~called),
  ):
    values[done] = np.where(films, crossed, np.nan)
    values[f'{goal}_moves_others'] = np.where(films, others, np.nan)
  return values


def _targeted_attack(
  subject: Subject, threshold: Float[np.ndarray, ' k']
) -> Callable:
  """(finding) -> the attack on it, as predict_split takes one; its `label` are
  the logits of the clean films."""

  def loss_fn(logits, target):
    hide, plant = (
      losses.make_targeted(target['finding'], goal)(logits, target['clean'])
      for goal in ('hide', 'plant')
    )
    return jnp.where(target['called'], hide, plant)

  # One program for every finding and both directions.
  attack = named_attacks.make(subject, 'pgd', loss_fn=loss_fn, keep_best=True)
  epsilon = jnp.float32(named_attacks.middle_epsilon(subject.config) / 255)
  key = jax.random.key(subject.config.seed)

  def of_finding(finding):
    def on_target(variables, keys, image, clean):
      target = {
        'clean': clean,
        'finding': jnp.full(len(image), finding),
        'called': clean[:, finding] >= np.float32(threshold[finding]),
      }
      return attack(variables, keys, image, target, epsilon=epsilon)

    return by_index(on_target, key)

  return of_finding


def _condition(subject: Subject) -> str:
  """The attack and its epsilon, as the tables name them."""
  label = named_attacks.label(subject.config, 'pgd')
  return f'{label} {named_attacks.middle_epsilon(subject.config):g}'


# Interpretability under attack.


def under_attack(
  subject: Subject, methods: Sequence[str]
) -> list[measure_table.Measure]:
  """Boxes and maps of the boxed films, clean and attacked, by method.

  The attack raises the film's whole loss, as in the sweep. 'box_iou' (of the
  boxes that the main rule of config.evaluate.rules draws) and 'pointing' are
  taken under both conditions; 'map_spearman' and 'map_ssim' say how alike the
  two maps of a film are. A value stands where the film has a true box.
  """
  films = data.boxed_films(subject.test)
  if not len(films.row):
    return []
  film, finding = np.nonzero(films.boxed)
  maps_of = _maps_of_pairs(subject, methods, films, film, finding)
  rows = []

  def add(name, method, condition, of_pair):
    value = np.full(films.boxed.shape, np.nan)
    value[film, finding] = of_pair
    rows.append(
      measure_table.Measure(
        name,
        films.name,
        films.patient,
        value,
        method,
        condition,
        films.findings,
      )
    )

  for method, by_condition in maps_of.items():
    for condition, maps in by_condition.items():
      scores = scores_of_pairs(subject, films, film, finding, maps)
      add('box_iou', method, condition, scores['iou'])
      add('pointing', method, condition, scores['pointing'])
    clean, attacked = by_condition.values()
    for name, value in map_similarity(clean, attacked).items():
      add(name, method, _condition(subject), value)
  return rows


def map_similarity(
  a: Float[np.ndarray, 'p h w'], b: Float[np.ndarray, 'p h w']
) -> dict[str, Float[np.ndarray, ' p']]:
  """How alike each pair of maps is; neither value depends on a map's scale.

  'map_spearman' is the correlation of their ranks. 'map_ssim' is of maps
  divided by their largest magnitude, which keeps sign and zero, and its range
  is that of the pair.
  """

  def scaled(maps):
    largest = np.abs(maps).max((1, 2), keepdims=True).astype(np.float64)
    return maps / np.where(largest > 0, largest, 1)

  a_scaled, b_scaled = scaled(a), scaled(b)
  both = np.stack([a_scaled, b_scaled])
  spread = both.max((0, 2, 3)) - both.min((0, 2, 3))
  return {
    'map_spearman': similarity.correlation(a, b, rank=True),
    'map_ssim': similarity.ssim(a_scaled, b_scaled, data_range=spread),
  }


def _maps_of_pairs(
  subject: Subject,
  methods: Sequence[str],
  films: data.BoxedFilms,
  film: Int[np.ndarray, ' p'],
  finding: Int[np.ndarray, ' p'],
) -> dict[str, dict[str, Float[np.ndarray, 'p h w']]]:
  """{method: {condition: the map of each film[i] for finding[i] alone}}."""
  attacked = _attacked(subject, films.row)
  result = {}
  for method in methods:
    clean = subject.boxed_maps.get(method)
    if clean is None:
      image = over_films.images(subject, films.row)
      clean = _maps_of(subject, method, films.row, image, film, finding)
    result[method] = {
      'clean': clean,
      _condition(subject): _maps_of(
        subject, method, films.row, attacked, film, finding
      ),
    }
  return result


def _maps_of(
  subject: Subject,
  method: str,
  rows: Int[np.ndarray, ' n'],
  image: Float[np.ndarray, 'n h w 1'],
  film: Int[np.ndarray, ' p'],
  finding: Int[np.ndarray, ' p'],
) -> Float[np.ndarray, 'p h w']:
  """The map of each image[film[i]] for finding[i]; `rows` are the films'."""
  maps_fn = Partial(heatmaps.make_maps(subject, method), subject.variables)
  if method in by_name.CAM_METHODS:
    # One pass through the network serves all findings.
    maps = over_films.in_batches(subject, maps_fn, rows, image)
    return maps[film, ..., finding]
  return over_films.in_batches(
    subject, maps_fn, rows[film], image[film], finding
  )[..., 0]


def _attacked(
  subject: Subject, rows: Int[np.ndarray, ' n']
) -> Float[np.ndarray, 'n h w 1']:
  """The test films at `rows` under the attack that stands for the others."""
  config = subject.config
  names = 'index', 'image', 'label'
  attack = by_index(
    named_attacks.make(subject, 'pgd'),
    jax.random.key(config.seed),
    epsilon=jnp.float32(named_attacks.middle_epsilon(config) / 255),
  )
  of_films = lambda batch: attack(
    subject.variables, *(batch[name] for name in names)
  )
  attacked = computed(subject.mesh, of_films, subject.batches(rows))
  return np.concatenate([films for _, films in attacked])


def scores_of_pairs(
  subject: Subject, films: data.BoxedFilms, film, finding, maps
) -> dict[str, Float[np.ndarray, ' p']]:
  """'iou' (the mean over the true boxes) and 'pointing' of the map of each
  film[i] and finding[i]."""
  # Not an upper bound: it would be one of another map in every condition.
  rule = thresholds.main_rule(subject.config.evaluate.rules)
  scores = {name: np.full(len(film), np.nan) for name in ('iou', 'pointing')}
  for k in np.unique(finding):
    pair = np.flatnonzero(finding == k)
    of_pairs = map_controls.of_finding(films, int(k)).take(film[pair])
    scored = scoring.score_finding(
      maps[pair],
      of_pairs.truth,
      of_pairs.patient,
      masks=of_pairs.masks,
      rules=(rule,),
    )[rule]
    for name, value in scores.items():
      value[pair] = np.bincount(scored.index, scored.column(name))
      value[pair] /= np.bincount(scored.index)
  return scores
