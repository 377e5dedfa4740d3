"""What several measures need: films in batches, their maps and their logits.

The images may be those of a split or what was made of them: noisy films, films
without a lesion, attacked films.
"""

from collections.abc import Callable

import jax
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Bool, Float, Int

from cxr import heatmaps, inference, sharding
from cxr.inference import Subject
from cxr.measures.measure_table import Measure

# Controls: a map that is the same everywhere, and noise.
UNIFORM = 'uniform'
RANDOM = 'random'
NOISE = 0.01  # standard deviation, of the [0, 1] film


def images(
  subject: Subject, rows, split='test'
) -> Float[np.ndarray, 'n h w 1']:
  """The films at `rows` of a split, in [0, 1]."""
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


def make_logits_fn(subject: Subject, rows: Int[np.ndarray, ' n']) -> Callable:
  """Returns image 'n h w 1' -> logits 'n k' in float64."""
  predict = inference.make_predict(subject.model, subject.mesh)
  fn = lambda keys, image: predict(subject.variables, image)
  return lambda image: in_batches(subject, fn, rows, image).astype(np.float64)


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
  """part / whole, NaN where the whole is 0."""
  return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


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
