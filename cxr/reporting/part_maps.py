"""What a page says where its maps are from elsewhere (--mode=score).

metrics.json then has evaluation.maps: what was given, how much of it is scored,
and why the rest is not.
"""

from collections.abc import Mapping

from cxr.reporting import tables, wording

# The start of a reason in left_out.csv whose map is scored all the same.
_SCORED = 'scored: '


def given(metrics: Mapping) -> Mapping:
  """What metrics.json says of maps from elsewhere; {} of a run's own."""
  return (metrics.get('evaluation') or {}).get('maps') or {}


def sentences(metrics: Mapping) -> list[str]:
  """Whose maps these are; [] of a run's own."""
  maps = given(metrics)
  if not maps:
    return []
  films = (metrics.get('evaluation') or {}).get('films')
  text = (
    f'These maps are from elsewhere: {wording.count(maps["scored"], "map")} of '
    f'{maps["file"]}, called {maps["method"]}, on {films}. What network made '
    'them, and what it learned from, is not known here, and nothing that needs '
    'a network was measured.'
  )
  if maps['predictions']:
    text += f' Predictions were given as {maps["predictions"]}.'
  return [text]


def warnings(metrics: Mapping) -> list[str]:
  """What a reader of the scores must know of maps that are missing."""
  maps = given(metrics)
  if not maps:
    return []
  found = []
  without = maps['all_boxes'] - maps['boxes']
  if without:
    found.append(
      f'{wording.count(without, "true box has", "true boxes have")} no map and '
      f'count in no score: the scores are of {maps["boxes"]:,} of '
      f'{maps["all_boxes"]:,} true boxes. left_out.csv lists them.'
    )
  if maps['missing']:
    found.append(
      f'{maps["missing"]:,} of {maps["pairs"]:,} pairs of a film with a true '
      'region and a finding have no map. False boxes are counted only of '
      'findings that are mapped on each film of these maps, and other '
      "patients' maps are those of films that have one."
    )
  return found


def section(metrics: Mapping) -> tables.Section | None:
  """What was given, and why some of it is not scored."""
  maps = given(metrics)
  if not maps:
    return None
  counted = [
    {'what': what, 'number': number}
    for what, number in (
      ('maps given', maps['given']),
      ('maps of films with a true region, which are scored', maps['scored']),
      ('pairs of such a film and a finding', maps['pairs']),
      ('true boxes', maps['all_boxes']),
      ('true boxes with a map', maps['boxes']),
    )
  ]
  reasons = [
    {
      'reason': reason.removeprefix(_SCORED),
      'scored': 'yes' if reason.startswith(_SCORED) else 'no',
      'maps': count,
    }
    for reason, count in maps['left_out'].items()
  ]
  return tables.Section(
    'maps',
    'Maps from elsewhere',
    [
      tables.table('maps-given', 'Maps', counted),
      tables.table('maps-left-out', 'What left_out.csv lists', reasons),
    ],
    text=[
      f"{_place(maps['place'])} Another patient's map is one of these "
      'maps, too: of another film, and of the same finding.'
    ],
  )


def _place(place: Mapping) -> str:
  """Where the cells of the maps look."""
  whole = {
    'film': 'the film as it is stored',
    'square': 'the square with black beside the film',
  }[place['covers']]
  if 'stride' not in place:
    return f'The cells of a map share {whole} evenly.'
  return (
    f'Cell i of a map looks at pixel {place["offset"]:g} + '
    f'{place["stride"]:g} i of an input of {place["size"]:g} pixels a side, '
    f'which showed {whole}.'
  )


def of_others(metrics: Mapping) -> str:
  """The start of '... of other patients': whose maps the control takes."""
  return (
    'maps of the same origin' if given(metrics) else "the same network's maps"
  )
