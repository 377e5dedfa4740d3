"""Published localization on NIH's boxes, beside that of one's own runs."""

from collections.abc import Mapping

from cxr.reporting import main_result, part_origin, published, tables, wording


def on_nih(metrics: Mapping, data: Mapping) -> bool:
  """Whether a run was evaluated on NIH's films, whose boxes others scored.

  Args:
    metrics: metrics.json; it may be older than its entry 'data'.
    data: data.json.
  """
  return 'nih' in (data.get('name'), metrics.get('data', {}).get('name'))


def caveat(metrics: Mapping, data: Mapping) -> str:
  """Why published results may stand beside a run's; '' where they may not."""
  if not on_nih(metrics, data):
    return ''
  return published.caveat(
    part_origin.splits(data).get('test', {}).get('images'),
    sum(metrics.get('localization', {}).get('count', {}).values()),
  )


def table(runs: Mapping[str, Mapping], films: str) -> tables.Table | None:
  """T(IoU) .1 to .5 of every run's methods and of every published work.

  Args:
    runs: name ('' for the only one) -> its metrics.json.
    films: the caveat of the first of them; '' where its films are others.
  """
  own = [row for name, run in runs.items() for row in _own(name, run)]
  if not (films and own):
    return None
  rows = [*own, *map(_published, published.LOCALIZATION)]
  return tables.table(
    'published',
    'Beside published results: accuracy at T(IoU), mean over 8 findings',
    rows,
    f'{films} Rules that make boxes of a map, the films that were scored and '
    'the size of the films differ from work to work: a difference of some '
    'hundredths says nothing. A random map is part of each reading: what one '
    'reaches depends on the rule of the boxes.',
  )


def _own(name, metrics):
  """The rows of a run's own methods, and of its random map."""
  localization = metrics.get('localization', {})
  methods = [
    m
    for m in localization.get('methods', {})
    if wording.is_own(m) or m == 'random'
  ]
  train = part_origin.splits(metrics.get('data', {})).get('train', {})
  films = wording.count(train.get('images'), 'film')
  learned = f'{films} of NIH ChestX-ray14' if train else 'not known here'
  return [
    _row(
      f'{name}, {wording.method_name(m)}' if name else wording.method_name(m),
      main_result.mean_scores(localization, m),
      'nothing: a random map' if m == 'random' else learned,
      'none' if train or m == 'random' else 'not known here',
      'this run' if not name else f'the run {name}',
    )
    for m in methods
  ]


def _published(work):
  source = work.source
  if work.read_in:
    source += f' (not read there, but as printed by others: {work.read_in})'
  accuracy = {score: {'value': value} for score, value in work.accuracy.items()}
  name = tables.text_cell(
    work.name, mark='as printed by others' if work.read_in else 'published'
  )
  return _row(name, accuracy, work.trained_on, work.boxes, source)


def _row(name, scores, trained_on, boxes, source):
  wrapped = lambda text: tables.text_cell(text, wrap=True)
  return {
    'map': name,
    **{
      wording.score_name(score): tables.estimate_cell(scores.get(score))
      for score in published.LOCALIZATION[0].accuracy
    },
    'trained on': wrapped(trained_on),
    'boxes used': wrapped(boxes),
    'source': wrapped(source),
  }
