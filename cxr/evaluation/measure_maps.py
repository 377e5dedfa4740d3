"""Do the maps mean anything? Measured on test films, without a box.

Of every method in config.evaluate.methods and every boxed finding; what each
measure is stands beside its function, or in sanity.py, with its source. The
films are `measure_films` of the test films, and `sanity_films` where each is
mapped many times. As elsewhere a value that does not exist is NaN.
"""

from collections.abc import Callable, Mapping

import jax
import numpy as np
from absl import logging
from jax import numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Bool, Float, Int

from cxr import data, heatmaps, sharding
from cxr.attribution import sanity
from cxr.evaluation import localize
from cxr.evaluation.measures import Measure
from cxr.inference import Subject
from input_pipeline.findings import BOXED, FINDINGS
from input_pipeline.phantom import draw

# The control: a map that is the same everywhere.
UNIFORM = 'uniform'
# Maps in score per pixel, which a grating or a difference can be compared with.
PER_PIXEL = ('gradient', 'smooth_grad')
NOISE = 0.01  # standard deviation, of the [0, 1] film
NOISY_COPIES = 2
CURVE_STEPS = 10  # of insertion and deletion
# Above these the report warns.
SAME_MAP = 0.95
GAP = 0.05


def _images(of: Subject, rows, split='test') -> Float[np.ndarray, 'n h w 1']:
  return np.float32(of.splits[split].image[rows]) / 255


def _in_batches(
  of: Subject,
  fn: Callable,
  rows: Int[np.ndarray, ' n'],
  *arrays: np.ndarray,
  batch_size: int | None = None,
):
  """fn(keys 'b', *arrays 'b ...') of all rows, batch by batch over the mesh.

  Every process gives whole arrays and is given the whole result. A film's key
  is its row's, so that its draws do not depend on the other films.
  """
  size = min(batch_size or of.batch_size, len(rows))
  size = sharding.round_up(of.mesh, size)
  key = jax.random.key(of.config.seed)
  results = []
  for start in range(0, len(rows), size):
    # Filled up with the last film.
    place = np.minimum(np.arange(start, start + size), len(rows) - 1)
    mine = place.reshape(jax.process_count(), -1)[jax.process_index()]
    mine = {i: np.asarray(a)[mine] for i, a in enumerate((rows, *arrays))}
    index, *batch = sharding.shard(of.mesh, mine).values()
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
    found = fn(keys, *batch)
    left = len(rows) - start
    results.append(
      jax.tree.map(lambda x, left=left: sharding.to_host(x)[:left], found)
    )
  return jax.tree.map(lambda *x: np.concatenate(x), *results)


def _make_map_fn(of: Subject, method: str, rows, *, raw=True) -> Callable:
  """(variables, image 'n h w 1') of these rows -> their maps 'n h w 8'."""
  maps_fn = heatmaps.make_maps(of.config, of.model, method, raw=raw)
  return lambda variables, image: _in_batches(
    of, Partial(maps_fn, variables), rows, image
  )


def _measure(of: Subject, name, rows, value, **key) -> Measure:
  """`value` is 'n 8' by boxed finding where `key` names no other findings."""
  test = of.test
  return Measure(
    name,
    test.image_name[rows],
    test.patient[rows],
    np.asarray(value, np.float64).reshape(len(rows), -1),
    **{'findings': BOXED} | key,
  )


def whole_maps(of: Subject) -> list[Measure]:
  """What can be said of a film's map as it is.

  sameness: `sanity.sameness`, of the raw maps. outside_body:
  `sanity.share_outside` of `sanity.body_mask`, beside the share of the film
  that lies outside. completeness_gap: of integrated gradients,
  |sum(map) - change of the logit| over the change from a black film
  (Sundararajan et al. 2017), each summed over findings.
  """
  rows = of.films(of.config.evaluate.measure_films)
  image = _images(of, rows)
  body = np.stack([sanity.body_mask(film) for film in image])
  found = [
    _measure(
      of,
      'outside_body',
      rows,
      sanity.share_outside(np.ones(body.shape), body),
      method=UNIFORM,
      findings=('',),
    )
  ]
  for method in of.config.evaluate.methods:
    maps = _make_map_fn(of, method, rows)(of.variables, image)
    # Finding by finding: in float64 all maps at once would be large.
    by_finding = {
      'sameness': [sanity.sameness(m) for m in np.moveaxis(maps, -1, 0)],
      'outside_body': [
        sanity.share_outside(m, body) for m in np.moveaxis(maps, -1, 0)
      ],
    }
    found += [
      _measure(of, name, rows, np.transpose(values), method=method)
      for name, values in by_finding.items()
    ]
    if method == 'integrated_gradients':
      found.append(_completeness_gap(of, rows, image, maps))
  return found


def _completeness_gap(of, rows, image, maps) -> Measure:
  logits = _make_logits_fn(of, rows)
  change = logits(image) - logits(np.zeros_like(image))
  change = change[:, : len(BOXED)]
  gap = np.abs(maps.sum((1, 2), dtype=np.float64) - change).sum(1)
  return _measure(
    of,
    'completeness_gap',
    rows,
    _share(gap, np.abs(change).sum(1)),
    method='integrated_gradients',
    findings=('',),
  )


def _make_logits_fn(of: Subject, rows) -> Callable:
  """Image 'n h w 1' -> logits 'n 14' in float64."""
  apply = jax.jit(lambda variables, image: of.model.apply(variables, image)[0])
  fn = lambda keys, image: apply(of.variables, image)
  return lambda image: _in_batches(of, fn, rows, image).astype(np.float64)


def _share(part, whole):
  """part / whole, NaN where the whole is 0."""
  return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def stability(of: Subject) -> list[Measure]:
  """`sanity.stability` of the raw maps: their rank correlation with the maps of
  the film under noise that no one sees (Alvarez-Melis and Jaakkola 2018)."""
  rows = of.films(of.config.evaluate.sanity_films)
  image = _images(of, rows)
  key = jax.random.key(of.config.seed)
  found = []
  for method in of.config.evaluate.methods:
    map_fn = Partial(_make_map_fn(of, method, rows), of.variables)
    value = sanity.stability(
      map_fn, key, image, noise=NOISE, num_samples=NOISY_COPIES
    )
    found.append(_measure(of, 'stability', rows, value, method=method))
  return found


def randomisation(of: Subject) -> list[Measure]:
  """`sanity.cascading_randomisation`; a condition is the stage down to which
  the network's weights are shuffled, from the head on."""
  rows = of.films(of.config.evaluate.sanity_films)
  image = _images(of, rows)
  stages = sanity.stages_from_head(
    lambda: of.model.init(jax.random.key(0), jnp.zeros((1, *image.shape[1:])))
  )
  shuffled = sharding.replicate(
    of.mesh, sanity.shuffle(of.config.seed, jax.device_get(of.variables))
  )
  found = []
  for method in of.config.evaluate.methods:
    map_fn = _make_map_fn(of, method, rows)
    _, *values = sanity.cascading_randomisation(
      lambda variables, map_fn=map_fn: map_fn(variables, image),
      of.variables,
      shuffled,
      list(stages.values()),
    )
    found += [
      _measure(of, 'randomisation', rows, value, method=method, condition=stage)
      for stage, value in zip(stages, values, strict=True)
    ]
  return found


def faithfulness(of: Subject) -> list[Measure]:
  """Areas of `sanity.insertion` and `sanity.deletion` (Petsiuk et al. 2018).

  Of the finding's probability, on films that have the finding, hottest pixels
  first of the map as it is scored; beside them the random map that localization
  is compared with.
  """
  evaluate = of.config.evaluate
  has = of.test.label[:, : len(BOXED)] == 1
  film, finding = _spread(has, evaluate.sanity_films)
  if not len(film):
    return []
  rows, place = np.unique(film, return_inverse=True)
  image = _images(of, rows)
  size = image.shape[1:3]
  grids = heatmaps.map_sizes(of.config, of.model, of.variables)
  random = [
    localize.film_noise(
      str(of.test.image_name[i]),
      k,
      grid=grids[evaluate.methods[0]],
      size=size,
      seed=of.config.seed,
    )
    for i, k in zip(film, finding, strict=True)
  ]
  of_method = {
    method: _make_map_fn(of, method, rows, raw=False)(of.variables, image)[
      place, ..., finding
    ]
    for method in evaluate.methods
  } | {'random': np.float32(random)}
  curves = Partial(_make_curves(of), of.variables)
  found = []
  for method, heatmap in of_method.items():
    inserted, deleted = _in_batches(
      of,
      curves,
      film,
      image[place],
      heatmap,
      finding,
      # A curve is a batch by itself.
      batch_size=max(1, of.batch_size // (CURVE_STEPS + 1)),
    )
    broken = ~np.isfinite(heatmap).all((1, 2))
    for name, curve in (('insertion', inserted), ('deletion', deleted)):
      value = np.full((len(rows), len(BOXED)), np.nan)
      value[place, finding] = np.where(broken, np.nan, sanity.area(curve))
      found.append(_measure(of, name, rows, value, method=method))
  return found


def _make_curves(of: Subject) -> Callable:
  """(variables, keys, image 'b h w 1', heatmap 'b h w', finding 'b') ->
  insertion and deletion 'b s' of the finding's probability."""
  options = {'num_steps': CURVE_STEPS, 'chunk': CURVE_STEPS + 1}

  def probability(variables, finding, image):
    logits, _ = of.model.apply(variables, image[None])
    return jax.nn.sigmoid(logits[0, finding])

  @jax.jit
  def curves(variables, keys, image, heatmap, finding):
    del keys

    def of_one(image, heatmap, finding):
      score_fn = Partial(probability, variables, finding)
      return (
        sanity.insertion(score_fn, image, heatmap, **options),
        sanity.deletion(score_fn, image, heatmap, **options),
      )

    return jax.vmap(of_one)(image, heatmap, finding)

  return curves


def _spread(
  wanted: Bool[np.ndarray, 'n k'], count: int
) -> tuple[Int[np.ndarray, ' m'], Int[np.ndarray, ' m']]:
  """(row, column) of some `count` wanted entries, as many of each column as
  there are, up to an equal share; 0: all."""
  share = max(1, count // wanted.shape[1]) if count else len(wanted)
  chosen = []
  for k, column in enumerate(wanted.T):
    rows = np.flatnonzero(column)
    place = np.linspace(0, len(rows) - 1, min(share, len(rows)))
    chosen += [(row, k) for row in rows[place.round().astype(int)]]
  row, column = np.array(chosen, int).reshape(-1, 2).T
  return row, column


# Causes, where they are known.


def causes(of: Subject) -> list[Measure]:
  """On phantoms: what moves a finding's logit, and what its maps point at.

  The test films exist again without the shortcut and without the lesions. Of
  each finding the films are used that have it alone and show both its causes,
  so that what differs is one lesion, or one grating:

  effect: logit(film) - logit(film without the cause), in logits; the causal
    effect itself, as both films are there (as in BAM, Yang and Kim 2019).
  lesion_share: |effect of the lesion| over the sum of both causes' sizes. By a
    method whose maps are per pixel: the same of <map, what the cause adds to
    the film>, which is the effect to first order.
  on_lesion: share of |map| on the pixels that the lesion changes, beside the
    share of the film that they are.
  on_shortcut: share of a per-pixel map's energy at the frequency of the
    finding's grating, in any phase; white noise has 2 / pixels of it there.
  """
  if not set(data.COUNTERFACTUALS) <= of.splits.keys():
    logging.info('These films have no known causes: none is measured.')
    return []
  rows, finding = _single_causes(of)
  if not len(rows):
    return []
  logits = _make_logits_fn(of, rows)
  image = _images(of, rows)
  without = {
    'lesion': _images(of, rows, 'test_without_lesions'),
    'shortcut': _images(of, rows, 'test_without_shortcut'),
  }
  own = np.arange(len(rows)), finding
  scores = logits(image)[own]
  effects = {
    cause: scores - logits(other)[own] for cause, other in without.items()
  }

  def measure(name, value, **key):
    by_finding = np.full((len(rows), len(FINDINGS)), np.nan)
    by_finding[own] = value
    return _measure(of, name, rows, by_finding, **{'findings': FINDINGS} | key)

  found = [
    measure('effect', effect, condition=cause)
    for cause, effect in effects.items()
  ]
  found.append(measure('lesion_share', _first_share(*effects.values())))
  films, _ = _spread(
    finding[:, None] == np.arange(len(BOXED)), of.config.evaluate.measure_films
  )
  if not len(films):
    return found
  return found + _maps_on_causes(
    of,
    rows[films],
    finding[films],
    image[films],
    {cause: image[films] - other[films] for cause, other in without.items()},
  )


def _single_causes(of: Subject):
  """(row, finding) of the test films with one finding and both its causes."""
  label = of.test.label
  rows = np.flatnonzero((label == 1).sum(1) == 1)
  changed = np.ones(len(rows), bool)
  for name in data.COUNTERFACTUALS:
    other = of.splits[name].image[rows]
    changed &= (of.test.image[rows] != other).any((1, 2, 3))
  rows = rows[changed]
  return rows, (label[rows] == 1).argmax(1)


def _maps_on_causes(of, rows, finding, image, difference) -> list[Measure]:
  """`difference`: cause -> what it adds to the film, 'n h w 1'."""
  lesion = (difference['lesion'] != 0)[..., 0]

  def measure(name, value, **key):
    by_finding = np.full((len(rows), len(BOXED)), np.nan)
    by_finding[np.arange(len(rows)), finding] = value
    return _measure(of, name, rows, by_finding, **key)

  size = image.shape[1]
  gratings = {
    k: np.stack(
      [draw.grating(FINDINGS[k], size, phase=p) for p in (0.0, np.pi / 2)]
    )
    for k in set(finding.tolist())
  }
  found = [
    measure(
      'on_lesion',
      1 - sanity.share_outside(np.ones(lesion.shape), lesion),
      method=UNIFORM,
    )
  ]
  for method in of.config.evaluate.methods:
    maps = _make_map_fn(of, method, rows)(of.variables, image)
    maps = maps[np.arange(len(rows)), ..., finding]
    found.append(
      measure(
        'on_lesion', 1 - sanity.share_outside(maps, lesion), method=method
      )
    )
    if method not in PER_PIXEL:
      continue
    on_shortcut = [
      sanity.share_in_span(one[None], gratings[k])[0]
      for one, k in zip(maps, finding.tolist(), strict=True)
    ]
    found.append(measure('on_shortcut', on_shortcut, method=method))
    first_order = [
      sanity.cause_attribution(maps, difference[cause])
      for cause in ('lesion', 'shortcut')
    ]
    found.append(
      measure('lesion_share', _first_share(*first_order), method=method)
    )
  return found


def _first_share(first, second):
  first, second = np.abs(first), np.abs(second)
  return _share(first, first + second)


# What the reader must know.


def warnings(figures: Mapping) -> list[str]:
  """Sentences on maps that are not what they seem; `figures` as
  `measures.figures` gives them."""
  sentences = []
  for method, conditions in figures.get('sameness', {}).items():
    same = [
      finding
      for finding, figure in conditions[''].items()
      if finding != 'mean' and _above(figure, SAME_MAP)
    ]
    if same:
      sentences.append(
        f'{method} is nearly one map for every film (mean correlation with the '
        f"other films' mean map above {SAME_MAP:g}) for {', '.join(same)}: it "
        'may show where a finding usually is, not where it is on this film.'
      )
  for method, conditions in figures.get('completeness_gap', {}).items():
    gap = conditions['']['mean']
    if _above(gap, GAP):
      sentences.append(
        f'{method} misses {gap["value"]:.0%} of the change that it should add '
        'up to; raise config.evaluate.integration_steps.'
      )
  return sentences


def _above(figure: Mapping, threshold: float) -> bool:
  return figure['value'] is not None and figure['value'] > threshold
