"""How far maps move as noise moves the film: alone, and relative to the rest.

What is measured stands in attribution/stability.py, with its source.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Int

from cxr import inference
from cxr.attribution import stability
from cxr.inference import Subject
from cxr.measures import over_films
from cxr.measures.measure_table import Measure
from cxr.statistics import metrics

# A film's pixel below one gray level counts as one: black has no relative
# change.
GRAY_LEVEL = 1 / 255
CORRELATED_COPIES = 2
COPIES = 4  # of which the worst counts
MEASURES = 'input', 'output', 'representation'


def correlation(subject: Subject, methods: Sequence[str]) -> list[Measure]:
  """`stability.stability` of the raw maps: their rank correlation with those of
  the film under noise that no one sees (Alvarez-Melis and Jaakkola 2018)."""
  rows = subject.films(subject.config.evaluate.sanity_films)
  image = over_films.images(subject, rows)
  key = jax.random.key(subject.config.seed)
  measured = []
  for method in methods:
    map_fn = Partial(
      over_films.make_map_fn(subject, method, rows), subject.variables
    )
    value = stability.stability(
      map_fn,
      key,
      image,
      noise=over_films.NOISE,
      num_samples=CORRELATED_COPIES,
    )
    measured.append(
      over_films.make_measure(subject, 'stability', rows, value, method=method)
    )
  return measured


def relative(subject: Subject, methods: Sequence[str]) -> list[Measure]:
  """Relative input, output and representation stability, as log10.

  Films: config.evaluate.sanity_films, each with noise that no one sees, COPIES
  times; the raw maps. A copy counts for a finding where it leaves it called, or
  not called, at the operating point of the validation films. The output is all
  the logits; the representation is what the head sees, the mean of the features
  over the grid.
  """
  rows = subject.films(subject.config.evaluate.sanity_films)
  image = over_films.images(subject, rows)
  threshold = metrics.operating_threshold(*inference.validated(subject))
  called = lambda logits: (logits >= threshold.astype(np.float32))[
    :, subject.mapped_columns
  ]
  answer = _make_answer(subject, rows)
  key = jax.random.key(subject.config.seed)
  copies = [
    np.asarray(copy)
    for copy in stability.noisy_copies(
      key, image, noise=over_films.NOISE, num_samples=COPIES
    )
  ]
  logits, features = answer(image)
  causes, kept = [], []
  for copy in copies:
    moved_logits, moved_features = answer(copy)
    causes.append(
      (
        stability.relative_change(image, copy, (1, 2, 3), least=GRAY_LEVEL),
        stability.change(logits, moved_logits, 1),
        stability.relative_change(features, moved_features, 1),
      )
    )
    kept.append(called(logits) == called(moved_logits))
  measured = []
  for method in methods:
    map_fn = Partial(
      over_films.make_map_fn(subject, method, rows), subject.variables
    )
    clean = map_fn(image)
    of_maps = np.array(
      [
        stability.relative_change(clean, map_fn(copy), (1, 2))
        for copy in copies
      ]
    )
    for name, of_cause in zip(MEASURES, zip(*causes, strict=True), strict=True):
      value = stability.log_ratio(
        of_maps, np.array(of_cause)[..., None], np.array(kept)
      )
      measured.append(
        over_films.make_measure(
          subject, f'relative_{name}_stability', rows, value, method=method
        )
      )
  return measured


def _make_answer(subject: Subject, rows: Int[np.ndarray, ' n']) -> Callable:
  """image 'n h w 1' -> (logits 'n k', mean features 'n d')."""

  def apply(variables, image):
    logits, endpoints = subject.model.apply(variables, image)
    return logits, endpoints['features'].mean((1, 2))

  apply = jax.jit(apply)
  fn = lambda keys, image: apply(subject.variables, image)
  return lambda image: over_films.in_batches(subject, fn, rows, image)
