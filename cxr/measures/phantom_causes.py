"""On phantoms: what causes a finding's logit, and what its maps point at.

The test films exist again without the shortcut and without the lesions
(input_pipeline/renditions.py), so that the effect of either on the network is
known.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging
from jaxtyping import Float, Int

from cxr.attribution import sanity
from cxr.inference import Subject
from cxr.measures import over_films
from cxr.measures.measure_table import Measure
from input_pipeline import renditions
from input_pipeline.phantom import draw

# Maps in score per pixel, which a grating or a difference can be compared with.
PER_PIXEL = ('gradient', 'smooth_grad')


def causes(subject: Subject, methods: Sequence[str]) -> list[Measure]:
  """What moves a finding's logit, and what the methods' maps point at.

  Of each finding the films are used that have it alone and show both its
  causes, so that what differs is one lesion, or one grating:

  effect: logit(film) - logit(film without the cause), in logits; the causal
    effect itself, as both films are there (as in BAM, Yang and Kim 2019).
  lesion_share: |effect of the lesion| over the sum of both causes' sizes. By a
    method whose maps are per pixel: the same of <map, what the cause adds to
    the film>, which is the effect to first order.
  on_lesion: share of |map| on the pixels that the lesion changes; of the
    uniform map, the share of the film that they are.
  on_shortcut: share of a per-pixel map's energy at the frequency of the
    finding's grating, in any phase; white noise has 2 / pixels of it there.

  The method '' stands for what is measured of the network itself. Films of
  unknown causes give no measure.
  """
  if not set(renditions.SPLITS.values()) <= subject.splits.keys():
    logging.info(
      'Causes are known of phantom films, and these are none: not measured.'
    )
    return []
  if set(subject.findings) != set(draw.FREQUENCY):
    logging.info(
      'Causes are measured on films that have one finding alone, which is seen '
      'where all %d findings of the phantom are labelled: not measured.',
      len(draw.FREQUENCY),
    )
    return []
  rows, finding = _single_causes(subject)
  if not len(rows):
    return []
  image = over_films.images(subject, rows)
  without = {
    cause: over_films.images(subject, rows, renditions.SPLITS[cause])
    for cause in ('lesion', 'shortcut')
  }
  measured = []
  if '' in methods:
    measured += _effects(subject, rows, finding, image, without)
  films, mapped = over_films.spread(
    finding[:, None] == subject.mapped_columns,
    subject.config.evaluate.measure_films,
  )
  on_maps = [method for method in methods if method]
  if not len(films) or not on_maps:
    return measured
  return measured + _maps_on_causes(
    subject,
    on_maps,
    rows[films],
    mapped,
    {cause: image[films] - other[films] for cause, other in without.items()},
  )


def _single_causes(
  subject: Subject,
) -> tuple[Int[np.ndarray, ' n'], Int[np.ndarray, ' n']]:
  """(row, finding) of the test films with one finding and both its causes."""
  label = subject.test.label
  rows = np.flatnonzero((label == 1).sum(1) == 1)
  changed = np.ones(len(rows), bool)
  for name in renditions.SPLITS.values():
    other = subject.splits[name].image[rows]
    changed &= (subject.test.image[rows] != other).any((1, 2, 3))
  rows = rows[changed]
  return rows, (label[rows] == 1).argmax(1)


def _effects(
  subject: Subject,
  rows: Int[np.ndarray, ' n'],
  finding: Int[np.ndarray, ' n'],
  image: Float[np.ndarray, 'n h w 1'],
  without: Mapping[str, Float[np.ndarray, 'n h w 1']],
) -> list[Measure]:
  """Effects on the network; `without`: cause -> the films without it."""
  logits = over_films.make_logits_fn(subject, rows)
  own = np.arange(len(rows)), finding
  scores = logits(image)[own]
  effects = {
    cause: scores - logits(other)[own] for cause, other in without.items()
  }

  def measure(name, value, condition=''):
    by_finding = np.full((len(rows), len(subject.findings)), np.nan)
    by_finding[own] = value
    return over_films.make_measure(
      subject,
      name,
      rows,
      by_finding,
      condition=condition,
      findings=subject.findings,
    )

  return [
    *(measure('effect', effect, cause) for cause, effect in effects.items()),
    measure('lesion_share', _first_share(*effects.values())),
  ]


def _maps_on_causes(
  subject: Subject,
  methods: Sequence[str],
  rows: Int[np.ndarray, ' n'],
  finding: Int[np.ndarray, ' n'],
  difference: Mapping[str, Float[np.ndarray, 'n h w 1']],
) -> list[Measure]:
  """Shares of the maps; `difference`: cause -> what it adds to the film, and
  `finding` is each film's, as an index into `subject.mapped`."""
  lesion = (difference['lesion'] != 0)[..., 0]
  image = over_films.images(subject, rows)
  size = image.shape[1]
  gratings = {
    k: np.stack(
      [draw.grating(subject.mapped[k], size, phase=p) for p in (0.0, np.pi / 2)]
    )
    for k in set(finding.tolist())
  }
  measured = []

  def add(name, value, method):
    by_finding = np.full((len(rows), len(subject.mapped)), np.nan)
    by_finding[np.arange(len(rows)), finding] = value
    measured.append(
      over_films.make_measure(subject, name, rows, by_finding, method=method)
    )

  for method in methods:
    if method == over_films.UNIFORM:
      maps = np.ones(lesion.shape)
    else:
      map_fn = over_films.make_map_fn(subject, method, rows)
      maps = map_fn(subject.variables, image)
      maps = maps[np.arange(len(rows)), ..., finding]
    add('on_lesion', 1 - sanity.share_outside(maps, lesion), method)
    if method not in PER_PIXEL:
      continue
    on_shortcut = [
      sanity.share_in_span(one[None], gratings[k])[0]
      for one, k in zip(maps, finding.tolist(), strict=True)
    ]
    add('on_shortcut', on_shortcut, method)
    first_order = [
      sanity.cause_attribution(maps, difference[cause])
      for cause in ('lesion', 'shortcut')
    ]
    add('lesion_share', _first_share(*first_order), method)
  return measured


def _first_share(
  first: Float[np.ndarray, ' n'], second: Float[np.ndarray, ' n']
) -> Float[np.ndarray, ' n']:
  """|first| over |first| + |second|."""
  first, second = np.abs(first), np.abs(second)
  return over_films.share(first, first + second)
