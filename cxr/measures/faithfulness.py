"""Whether pixels that are hot in a map are those that the network goes by.

Pixels are taken away, or given back, in the order of the map that is scored,
and the finding's probability is watched, on films that have the finding. Beside
the methods stands RANDOM, the random map that localization is compared with.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float, Int

from cxr import sharding
from cxr.attribution import road as removal
from cxr.attribution import sanity
from cxr.inference import Subject
from cxr.localization import controls
from cxr.measures import over_films
from cxr.measures.measure_table import Measure
from cxr.measures.over_films import RANDOM

CURVE_STEPS = 10  # of insertion and deletion
SHARES = 0.1, 0.3, 0.5, 0.7, 0.9  # of the pixels that ROAD removes


class _Pairs(NamedTuple):
  """Test films and a finding that each of them has."""

  film: Int[np.ndarray, ' p']
  finding: Int[np.ndarray, ' p']  # index into `Subject.mapped`
  rows: Int[np.ndarray, ' n']  # the films, each once
  index: Int[np.ndarray, ' p']  # of each pair's film in `rows`
  image: Float[np.ndarray, 'n h w 1']  # of `rows`


def _pairs(subject: Subject) -> _Pairs | None:
  """config.evaluate.sanity_films pairs, an equal share of each finding."""
  has = subject.test.label[:, subject.mapped_columns] == 1
  film, finding = over_films.spread(has, subject.config.evaluate.sanity_films)
  if not len(film):
    return None
  rows, index = np.unique(film, return_inverse=True)
  image = over_films.images(subject, rows)
  return _Pairs(film, finding, rows, index, image)


def _heatmaps(
  subject: Subject, method: str, pairs: _Pairs
) -> Float[np.ndarray, 'p h w']:
  """The map that is scored, of each pair."""
  if method == RANDOM:
    size = pairs.image.shape[1]
    weights = over_films.random_grid(subject).weights(size)
    seeds = _seeds(subject, pairs)
    return np.float32([controls.random_map(seed, *weights) for seed in seeds])
  map_fn = over_films.make_map_fn(subject, method, pairs.rows, raw=False)
  maps = map_fn(subject.variables, pairs.image)
  return maps[pairs.index, ..., pairs.finding]


def _seeds(subject: Subject, pairs: _Pairs) -> list[controls.Seed]:
  names = subject.test.image_name[pairs.film].tolist()
  return [
    controls.film_seed(name, k, subject.config.seed)
    for name, k in zip(names, pairs.finding.tolist(), strict=True)
  ]


def _measure(
  subject: Subject, name: str, method: str, pairs: _Pairs, heatmap, value
) -> Measure:
  """NaN of a film for findings that it is no pair with, and of broken maps."""
  broken = ~np.isfinite(heatmap).all((1, 2))
  by_film = np.full((len(pairs.rows), len(subject.mapped)), np.nan)
  by_film[pairs.index, pairs.finding] = np.where(broken, np.nan, value)
  return over_films.make_measure(
    subject, name, pairs.rows, by_film, method=method
  )


def faithfulness(subject: Subject, methods: Sequence[str]) -> list[Measure]:
  """Areas of `sanity.insertion` and `sanity.deletion` (Petsiuk et al. 2018).

  They are of the finding's probability, as pixels come in or go, hottest first.
  """
  pairs = _pairs(subject)
  if pairs is None:
    return []
  curves = Partial(_make_curves(subject), subject.variables)
  measured = []
  for method in methods:
    heatmap = _heatmaps(subject, method, pairs)
    of_method = over_films.in_batches(
      subject,
      curves,
      pairs.film,
      pairs.image[pairs.index],
      heatmap,
      subject.mapped_columns[pairs.finding],
      # A curve is a batch by itself.
      batch_size=max(
        1, subject.batch_size(len(pairs.film)) // (CURVE_STEPS + 1)
      ),
    )
    for name, curve in zip(('insertion', 'deletion'), of_method, strict=True):
      value = sanity.area(curve)
      measured.append(_measure(subject, name, method, pairs, heatmap, value))
  return measured


def _make_curves(subject: Subject) -> Callable:
  """(variables, keys, image 'b h w 1', heatmap 'b h w', finding 'b') ->
  insertion and deletion 'b s' of the finding's probability."""
  options = {'num_steps': CURVE_STEPS, 'chunk': CURVE_STEPS + 1}

  def probability(variables, finding, image):
    logits, _ = subject.model.apply(variables, image[None])
    return jax.nn.sigmoid(logits[0, finding])

  def curves(variables, keys, image, heatmap, finding):
    del keys

    def of_one(image, heatmap, finding):
      score_fn = Partial(probability, variables, finding)
      return (
        sanity.insertion(score_fn, image, heatmap, **options),
        sanity.deletion(score_fn, image, heatmap, **options),
      )

    return jax.vmap(of_one)(image, heatmap, finding)

  return sharding.each_share(subject.mesh, curves)


def road(subject: Subject, methods: Sequence[str]) -> list[Measure]:
  """The finding's probability without SHARES of the pixels: ROAD.

  'road_morf' is the mean over SHARES as the hottest pixels go first,
  'road_lerf' as the coldest do; 'road' is the second less the first, near 0 for
  a map that knows nothing of the network. attribution/road.py removes them.
  """
  pairs = _pairs(subject)
  if pairs is None:
    return []
  logits = over_films.make_logits_fn(subject, pairs.film)
  pair = np.arange(len(pairs.film))
  column = subject.mapped_columns[pairs.finding]
  seeds = _seeds(subject, pairs)
  measured = []
  for method in methods:
    heatmap = _heatmaps(subject, method, pairs)
    usable = np.nan_to_num(heatmap)

    def mean_probability(most_relevant, usable=usable):
      of_shares = []
      for i, share in enumerate(SHARES):
        images = [
          removal.remove(
            np.random.default_rng([*seeds[p], i]),
            pairs.image[pairs.index[p]],
            usable[p],
            share,
            most_relevant=most_relevant,
            noise=over_films.NOISE,
          )
          for p in pair
        ]
        of_share = logits(np.float32(images))[pair, column]
        of_shares.append(1 / (1 + np.exp(-of_share)))
      return np.mean(of_shares, axis=0)

    morf, lerf = mean_probability(True), mean_probability(False)
    for name, value in (
      ('road_morf', morf),
      ('road_lerf', lerf),
      ('road', lerf - morf),
    ):
      measured.append(_measure(subject, name, method, pairs, heatmap, value))
  return measured
