"""The section 'Measures' of a page: what was measured on each film.

Measures are {measure: {method: {condition: {'mean' or a finding: estimate}}}},
in a comparison with an entry for the estimate.
"""

from collections.abc import Iterator, Mapping

from cxr.reporting import tables, wording

# Measure -> what it is, as a note below the table. The sentence begins with
# the measure's name.
MEANINGS = {
  'alignment': 'how well film x and gradient g agree, |<x, g>| / |g| with '
  'pixels in [0, 1] (Etmann et al. 2019). It is larger where the gradient '
  'looks like the film.',
  'cosine': 'the cosine of the angle between film and gradient.',
  'hidden': 'the share of films called positive that an attack within epsilon '
  'turns negative. The operating points are those of the validation films.',
  'planted': 'the share of films called negative that the attack turns '
  'positive.',
  'hide_moves_others': 'the mean change of the logits of the other findings '
  'while one is hidden. The attack tries to keep them as they are.',
  'plant_moves_others': 'the same while one finding is planted.',
  'box_iou': 'the IoU with the true box, mean over true boxes, on clean films '
  'and under attack.',
  'pointing': 'the share of true boxes that hold the highest point of the map.',
  'map_spearman': 'the rank correlation between the maps of a film before and '
  'after the attack, over films with a true box.',
  'map_ssim': 'the structural similarity of the same two maps, each divided by '
  'its largest magnitude.',
  'sameness': "the correlation between a film's map and the mean map of the "
  'other films. Near 1 every film has the same map.',
  'outside_body': 'the share of |map| that lies outside the body. For a '
  'uniform map it is the share of the film outside the body.',
  'sparsity': 'the Gini index of |map|: 0 where all pixels have the same '
  'magnitude, near 1 where few pixels have all of it (Hurley and Rickard 2009; '
  'Chalasani et al. 2020). Maps that are enlarged from few cells are smooth, '
  'so methods are compared with themselves alone.',
  'completeness_gap': 'the part of the change of the logit, from the baseline '
  'to the film, that integrated gradients do not explain, relative to that '
  'change (Sundararajan et al. 2017).',
  'stability': 'the rank correlation between the map of a film and the maps of '
  'the same film with noise of standard deviation 0.01 (Alvarez-Melis and '
  'Jaakkola 2018).',
  'randomisation': 'the rank correlation between |map| and that of the network '
  'whose weights are shuffled from the head down to a stage (Adebayo et al. '
  '2018). A map that stays the same shows the film, not what was learned.',
  'insertion': "the area under the curve of the finding's probability while "
  'the pixels of a blurred film turn sharp, those with the highest map value '
  'first (Petsiuk et al. 2018). Higher is better.',
  'deletion': 'the same while the pixels of the film turn black. Lower is '
  'better.',
  'road_morf': "the mean of the finding's probability as 10 to 90 % of the "
  'pixels are removed, the most relevant first, each replaced by the mean of '
  'its neighbours and noise (ROAD, Rong et al. 2022). Lower is better.',
  'road_lerf': 'the same, the least relevant pixels first. Higher is better.',
  'road': 'the second less the first: near 0 for a map that knows nothing of '
  'the network.',
  'relative_input_stability': 'how far the map moves under invisible noise, '
  'relative to the map, over how far the film moves, relative to the film: the '
  'largest ratio of four draws that leave the finding called or not called '
  '(Agarwal et al. 2022). All three are log10 of the ratio; in spite of the '
  'name a high value is a map that is not stable.',
  'relative_output_stability': 'the same over how far the logits move. A '
  'network whose logits hardly move has a small divisor.',
  'relative_representation_stability': 'the same over how far the features '
  'move that the head sees, relative to the features.',
  'attacked_map': 'the rank correlation of a map before and after an attack '
  'within epsilon. The attack away takes the map off its own hottest tenth, '
  'mirror draws it to the other side of the film, both while no logit moves by '
  'more than config.evaluate.map_attack_tolerance; logit lowers the logit of '
  'the finding while the map keeps a correlation of .95; noise is a random '
  'film of the same ball (after Ghorbani et al. 2019, Dombrowski et al. 2019).',
  'attacked_top': 'the share of the hottest tenth of the map that still is.',
  'attacked_iou': 'the IoU of the boxes with the true boxes, clean and '
  'attacked.',
  'attacked_logit': 'how far the logit of the finding moved.',
  'attacked_logits': 'the farthest that any logit moved.',
  'effect': 'how much the logit falls without the lesion, or without the '
  'shortcut, on films with one finding.',
  'lesion_share': 'the magnitude of the effect of the lesion, divided by the '
  'sum of both magnitudes. With a method both effects are estimated from its '
  'map.',
  'on_lesion': 'the share of |map| on the pixels that the lesion changes. For '
  'a uniform map it is the share of the film that these pixels are.',
  'on_shortcut': 'the share of the energy of the map at the frequency of the '
  "grating that is the finding's shortcut.",
}


def measures(metrics: Mapping) -> tables.Section | None:
  """A row for each measure, method, condition and finding of a run."""
  rows = [
    keys | {'mean': estimate} | tables.counts(estimate)
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
    f'{wording.capital(wording.score_name(name))} is {meaning}'
    for name, meaning in MEANINGS.items()
    if name in tree.get('measures', {})
  ]


def section(table: tables.Table | None) -> tables.Section | None:
  filters = {'measure': '', 'finding': 'mean'}
  return tables.Section(
    'measures', 'Measures', [tables.group([table], filters)]
  )
