"""What the maps say of the model: measures of maps that need no true box.

Each function returns rows of measures.csv, of the given methods of attribution
and every mapped finding (`Subject.mapped`). What a measure is stands in its
function or in attribution/sanity.py, with its source. The films are
config.evaluate's `measure_films`, or its `sanity_films` where a film is mapped
many times. A value that does not exist is NaN.
"""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax import numpy as jnp

from cxr import heatmaps
from cxr.attribution import saliency, sanity
from cxr.inference import Subject
from cxr.measures import over_films
from cxr.measures.measure_table import Measure

# Above these the report warns.
SAME_MAP = 0.95
GAP = 0.05


def whole_maps(subject: Subject, methods: Sequence[str]) -> list[Measure]:
  """What can be said of a film's map as it is.

  sameness and sparsity: `sanity.sameness` and `sanity.gini`, of the raw maps.
  outside_body: `sanity.share_outside` of `sanity.body_mask`, beside the share
  of the film that lies outside. completeness_gap: of integrated gradients,
  |sum(map) - change of the logit| over the change from the baseline
  (Sundararajan et al. 2017), each summed over findings.
  """
  rows = subject.films(subject.config.evaluate.measure_films)
  image = over_films.images(subject, rows)
  body = np.stack([sanity.body_mask(film) for film in image])
  measured = []
  for method in methods:
    if method == over_films.UNIFORM:
      outside = sanity.share_outside(np.ones(body.shape), body)
      key = {'method': over_films.UNIFORM, 'findings': ('',)}
      measured.append(
        over_films.make_measure(subject, 'outside_body', rows, outside, **key)
      )
      continue
    maps = over_films.make_map_fn(subject, method, rows)(
      subject.variables, image
    )
    # Finding by finding: in float64 all maps at once would be large.
    of_map = {
      'sameness': sanity.sameness,
      'outside_body': lambda maps: sanity.share_outside(maps, body),
      'sparsity': sanity.gini,
    }
    for name, fn in of_map.items():
      values = [fn(of_finding) for of_finding in np.moveaxis(maps, -1, 0)]
      measured.append(
        over_films.make_measure(
          subject, name, rows, np.transpose(values), method=method
        )
      )
    if method == 'integrated_gradients':
      measured.append(_completeness_gap(subject, rows, image, maps))
  return measured


def _completeness_gap(subject, rows, image, maps) -> Measure:
  logits = over_films.make_logits_fn(subject, rows)
  baseline = saliency.BASELINES[subject.config.evaluate.baseline]
  change = logits(image) - logits(np.asarray(jax.vmap(baseline)(image)))
  change = change[:, subject.mapped_columns]
  gap = np.abs(maps.sum((1, 2), dtype=np.float64) - change).sum(1)
  return over_films.make_measure(
    subject,
    'completeness_gap',
    rows,
    over_films.share(gap, np.abs(change).sum(1)),
    method='integrated_gradients',
    findings=('',),
  )


def randomisation(subject: Subject, methods: Sequence[str]) -> list[Measure]:
  """`sanity.cascading_randomisation`; a condition is the stage down to which
  the network's weights are shuffled, from the head on."""
  rows = subject.films(subject.config.evaluate.sanity_films)
  image = over_films.images(subject, rows)
  stages = sanity.stages_from_head(
    lambda: subject.model.init(
      jax.random.key(0), jnp.zeros((1, *image.shape[1:]))
    )
  )
  shuffled = heatmaps.shuffled(subject).variables
  measured = []
  for method in methods:
    map_fn = over_films.make_map_fn(subject, method, rows)
    _, *values = sanity.cascading_randomisation(
      lambda variables, map_fn=map_fn: map_fn(variables, image),
      subject.variables,
      shuffled,
      list(stages.values()),
    )
    measured += [
      over_films.make_measure(
        subject, 'randomisation', rows, value, method=method, condition=stage
      )
      for stage, value in zip(stages, values, strict=True)
    ]
  return measured


# What the reader must know.


def warnings(estimates: Mapping) -> list[str]:
  """Sentences on maps that are not what they seem; `estimates` as
  `measure_table.estimates` gives them."""
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
