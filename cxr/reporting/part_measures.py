"""The section 'Measures' of a page: what was measured on each film.

Measures are {measure: {method: {condition: {'mean' or a finding: estimate}}}},
in a comparison with an entry for the estimate.
"""

from collections.abc import Iterator, Mapping

from cxr.reporting import tables, wording

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


def measures(metrics: Mapping) -> tables.Section | None:
  """A row for each measure, method, condition and finding of a run."""
  rows = [
    keys
    | {
      'mean': estimate,
      'films': estimate.get('images'),
      'patients': estimate.get('patients'),
    }
    for keys, estimate in entries(metrics)
  ]
  caption = 'Measures of a film, mean over films'
  return section(tables.table('measures-table', caption, rows, *notes(metrics)))


def entries(tree: Mapping) -> Iterator[tuple[dict[str, str], Mapping]]:
  """(first cells of a row, its estimate or entry) of a run or a comparison."""
  measures = tables.walk(tree.get('measures', {}), 4)
  for measure, method, condition, finding, entry in measures:
    yield (
      {
        'measure': wording.score_name(measure),
        'method': wording.method_name(method),
        'condition': condition,
        'finding': finding,
      },
      entry,
    )


def notes(tree: Mapping) -> list[str]:
  """What each of the measures means."""
  return [
    f'{wording.score_name(name)}: {meaning}'
    for name, meaning in MEANINGS.items()
    if name in tree.get('measures', {})
  ]


def section(table: tables.Table | None) -> tables.Section | None:
  filters = {'measure': '', 'finding': 'mean'}
  return tables.section('measures', 'Measures', tables.group([table], filters))
