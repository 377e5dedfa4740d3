"""The part 'measures' of a page: a row for whatever was measured of a film.

Measures come as {measure: {method: {condition: {'mean' | finding: …}}}}, with
an estimate at the end, or an entry of a comparison.
"""

from collections.abc import Mapping

from cxr.reporting import tables

# Measure -> what it says, as a note below the table.
MEANINGS = {
  'alignment': 'of film and gradient, |<film, gradient>| / |gradient| (Etmann '
  'et al. 2019), in [0, 1] pixels; larger where the gradient shows the film.',
  'cosine': 'of the angle between film and gradient.',
  'hidden': 'share of the films called positive that an attack within epsilon '
  'turns negative; both by the operating points of the validation films.',
  'planted': 'share of the films called negative that it turns positive.',
  'hide_moves_others': 'mean change, in logits, of the other findings while '
  'one is hidden: the attack holds them.',
  'plant_moves_others': 'the same while one is planted.',
  'box_iou': 'mean over true boxes, clean and under attack.',
  'pointing': 'share of true boxes that hold the highest point of the map.',
  'map_spearman': 'of a film clean and attacked, where it has a true box.',
  'map_ssim': 'the same films; each map by its own largest magnitude.',
  'sameness': "correlation of a film's map with the mean map of the others; "
  'near 1 it is one map for every film.',
  'outside_body': 'share of |map| outside the body; of a uniform map, the '
  'share of the film that lies outside.',
  'completeness_gap': 'what integrated gradients miss of the change from a '
  'black film, over that change (Sundararajan et al. 2017).',
  'stability': 'rank correlation of a map with those of the film under noise '
  'of 1 % (Alvarez-Melis and Jaakkola 2018).',
  'randomisation': 'rank correlation of |map| with that of the network '
  'shuffled from its head down to a stage (Adebayo et al. 2018); what does not '
  'fall shows the film, not what was learned.',
  'insertion': "area under the finding's probability as the hottest pixels of "
  'a blurred film turn sharp (Petsiuk et al. 2018); higher is better.',
  'deletion': 'the same as the hottest pixels turn black; lower is better.',
  'effect': 'logits that a film loses without its lesion, or without its '
  'shortcut, where it is its only finding.',
  'lesion_share': 'effect of the lesion over those of both causes, in size; of '
  'a method, what its maps tell of that.',
  'on_lesion': 'share of |map| on the pixels that the lesion changes; of a '
  'uniform map, their share of the film.',
  'on_shortcut': "share of a map's energy at the frequency of the finding's "
  'grating.',
}


def measures(metrics: Mapping) -> dict | None:
  """Whatever was measured of a film, in one table: a row a figure."""
  found = metrics.get('measures', {})
  rows = [
    tables.row(
      *measure_cells(measure, method, condition, finding),
      tables.estimate_cell(estimate),
      tables.number_cell(estimate.get('images')),
      tables.number_cell(estimate.get('patients')),
      measure=measure,
      finding=finding,
    )
    for measure, method, condition, findings in measured(found)
    for finding, estimate in findings.items()
  ]
  table = tables.table(
    'measures-table',
    'Measures of a film, mean over films',
    [
      *map(tables.column, MEASURE_KEYS),
      tables.column('mean', estimate=True),
      *map(tables.column, ('films', 'patients')),
    ],
    rows,
    notes=measure_notes(found),
  )
  return tables.group([table], measure_filters(rows))


MEASURE_KEYS = ('measure', 'method', 'condition', 'finding')


def measured(found: Mapping):
  """(measure, method, condition, findings) of a tree by these keys."""
  for measure, methods in found.items():
    for method, conditions in methods.items():
      for condition, findings in conditions.items():
        yield measure, method, condition, findings


def measure_cells(measure, method, condition, finding) -> list[dict]:
  return [
    tables.text_cell(tables.score_name(measure)),
    tables.text_cell(tables.method_name(method)),
    tables.text_cell(condition),
    tables.text_cell(finding),
  ]


def measure_filters(rows) -> list[dict]:
  names = {r['tags']['measure']: r['cells'][0]['text'] for r in rows}
  return [
    tables.choice('measure', 'Measure', rows, default='', names=names),
    tables.choice('finding', 'Finding', rows, default='mean'),
  ]


def measure_notes(found: Mapping) -> list[str]:
  return [
    f'{tables.score_name(name)}: {meaning}'
    for name, meaning in MEANINGS.items()
    if name in found
  ]
