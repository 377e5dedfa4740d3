"""What the maps say of the model: measures of maps that need no true box.

Each function returns rows of measures.csv, of the given methods of attribution
and every mapped finding (`Subject.mapped`). What a measure is stands in its
function or in attribution/sanity.py, with its source. The films are
config.evaluate's `measure_films`, or its `sanity_films` where a film is mapped
many times. A value that does not exist is NaN.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Bool, Float, Int

from cxr import heatmaps, inference, sharding
from cxr.attribution import saliency, sanity
from cxr.evaluation.measures import Measure
from cxr.inference import Subject

# Controls: a map that is the same everywhere, and noise.
UNIFORM = 'uniform'
RANDOM = 'random'
NOISE = 0.01  # standard deviation, of the [0, 1] film
# Above these the report warns.
SAME_MAP = 0.95
GAP = 0.05


def images(
  subject: Subject, rows, split='test'
) -> Float[np.ndarray, 'n h w 1']:
  return np.float32(subject.splits[split].image[rows]) / 255


def in_batches(
  subject: Subject,
  fn: Callable,
  rows: Int[np.ndarray, ' n'],
  *arrays: np.ndarray | jax.Array,
  batch_size: int | None = None,
):
  """fn(keys 'b', *arrays 'b ...') of all rows, batch by batch over the mesh.

  For images that are no films of a split (noisy, without a lesion), where
  Subject.batches would not do. Every process gives whole arrays and gets the
  whole result. A film's key is its row's, so that its random draws do not
  depend on the other films. `arrays` have an entry for each of `rows`.
  """
  size = subject.batch_size(len(rows))
  size = sharding.round_up(subject.mesh, min(batch_size or size, size))
  key = jax.random.key(subject.config.seed)

  def batches():
    for start in range(0, len(rows), size):
      # Filled up with the last film.
      index = np.minimum(np.arange(start, start + size), len(rows) - 1)
      index = index.reshape(jax.process_count(), -1)[jax.process_index()]
      mine = {str(i): np.asarray(a)[index] for i, a in enumerate(every)}
      part = slice(start, min(start + size, len(rows)))
      yield part, sharding.shard(subject.mesh, mine)

  def of_films(batch):
    row, *values = batch.values()
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(row)
    return fn(keys, *values)

  every = rows, *arrays
  results = [
    result
    for _, result in inference.computed(subject.mesh, of_films, batches())
  ]
  return jax.tree.map(lambda *x: np.concatenate(x), *results)


def make_map_fn(
  subject: Subject, method: str, rows: Int[np.ndarray, ' n'], *, raw=True
) -> Callable:
  """Returns (variables, image 'n h w 1') -> maps 'n h w k', for the films at
  `rows` or what was made of them; `raw` maps are signed and not blurred."""
  maps_fn = heatmaps.make_maps(subject, method, raw=raw)
  return lambda variables, image: in_batches(
    subject, Partial(maps_fn, variables), rows, image
  )


def make_measure(
  subject: Subject, name: str, rows: Int[np.ndarray, ' n'], value, **key
) -> Measure:
  """A measure of the test films at `rows`.

  Args:
    subject: whose test films they are.
    name: of the measure.
    rows: of the films.
    value: 'n k', of the mapped findings where `key` names no other `findings`.
    **key: method, condition and findings of the measure.
  """
  test = subject.test
  return Measure(
    name,
    test.image_name[rows],
    test.patient[rows],
    np.asarray(value, np.float64).reshape(len(rows), -1),
    **{'findings': subject.mapped} | key,
  )


def whole_maps(subject: Subject, methods: Sequence[str]) -> list[Measure]:
  """What can be said of a film's map as it is.

  sameness and sparsity: `sanity.sameness` and `sanity.gini`, of the raw maps.
  outside_body: `sanity.share_outside` of `sanity.body_mask`, beside the share
  of the film that lies outside. completeness_gap: of integrated gradients,
  |sum(map) - change of the logit| over the change from the baseline
  (Sundararajan et al. 2017), each summed over findings.
  """
  rows = subject.films(subject.config.evaluate.measure_films)
  image = images(subject, rows)
  body = np.stack([sanity.body_mask(film) for film in image])
  measured = []
  for method in methods:
    if method == UNIFORM:
      outside = sanity.share_outside(np.ones(body.shape), body)
      key = {'method': UNIFORM, 'findings': ('',)}
      measured.append(
        make_measure(subject, 'outside_body', rows, outside, **key)
      )
      continue
    maps = make_map_fn(subject, method, rows)(subject.variables, image)
    # Finding by finding: in float64 all maps at once would be large.
    of_map = {
      'sameness': sanity.sameness,
      'outside_body': lambda maps: sanity.share_outside(maps, body),
      'sparsity': sanity.gini,
    }
    for name, fn in of_map.items():
      values = [fn(of_finding) for of_finding in np.moveaxis(maps, -1, 0)]
      measured.append(
        make_measure(subject, name, rows, np.transpose(values), method=method)
      )
    if method == 'integrated_gradients':
      measured.append(_completeness_gap(subject, rows, image, maps))
  return measured


def _completeness_gap(subject, rows, image, maps) -> Measure:
  logits = make_logits_fn(subject, rows)
  baseline = saliency.BASELINES[subject.config.evaluate.baseline]
  change = logits(image) - logits(np.asarray(jax.vmap(baseline)(image)))
  change = change[:, subject.mapped_columns]
  gap = np.abs(maps.sum((1, 2), dtype=np.float64) - change).sum(1)
  return make_measure(
    subject,
    'completeness_gap',
    rows,
    share(gap, np.abs(change).sum(1)),
    method='integrated_gradients',
    findings=('',),
  )


def make_logits_fn(subject: Subject, rows: Int[np.ndarray, ' n']) -> Callable:
  """Returns image 'n h w 1' -> logits 'n k' in float64."""
  predict = inference.make_predict(subject.model, subject.mesh)
  fn = lambda keys, image: predict(subject.variables, image)
  return lambda image: in_batches(subject, fn, rows, image).astype(np.float64)


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
  """part / whole, NaN where the whole is 0."""
  return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def randomisation(subject: Subject, methods: Sequence[str]) -> list[Measure]:
  """`sanity.cascading_randomisation`; a condition is the stage down to which
  the network's weights are shuffled, from the head on."""
  rows = subject.films(subject.config.evaluate.sanity_films)
  image = images(subject, rows)
  stages = sanity.stages_from_head(
    lambda: subject.model.init(
      jax.random.key(0), jnp.zeros((1, *image.shape[1:]))
    )
  )
  shuffled = heatmaps.shuffled(subject).variables
  measured = []
  for method in methods:
    map_fn = make_map_fn(subject, method, rows)
    _, *values = sanity.cascading_randomisation(
      lambda variables, map_fn=map_fn: map_fn(variables, image),
      subject.variables,
      shuffled,
      list(stages.values()),
    )
    measured += [
      make_measure(
        subject, 'randomisation', rows, value, method=method, condition=stage
      )
      for stage, value in zip(stages, values, strict=True)
    ]
  return measured


def random_grid(subject: Subject) -> heatmaps.Grid:
  """The grid of cells of the random map: that of the first method's maps."""
  return heatmaps.grids(subject)[subject.config.evaluate.methods[0]]


def spread(
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


# What the reader must know.


def warnings(estimates: Mapping) -> list[str]:
  """Sentences on maps that are not what they seem; `estimates` as
  `measures.estimates` gives them."""
  sentences = []
  for method, conditions in estimates.get('sameness', {}).items():
    same = [
      finding
      for finding, estimate in conditions[''].items()
      if finding != 'mean' and _above(estimate, SAME_MAP)
    ]
    if same:
      sentences.append(
        f'{method} is nearly one map for every film (mean correlation with the '
        f"other films' mean map above {SAME_MAP:g}) for {', '.join(same)}: it "
        'may show where a finding usually is, not where it is on this film.'
      )
  for method, conditions in estimates.get('completeness_gap', {}).items():
    gap = conditions['']['mean']
    if _above(gap, GAP):
      sentences.append(
        f'{method} misses {gap["value"]:.0%} of the change that it should add '
        'up to; raise config.evaluate.integration_steps.'
      )
  return sentences


def _above(estimate: Mapping, threshold: float) -> bool:
  return estimate['value'] is not None and estimate['value'] > threshold
