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


def beside(runs: Mapping[str, Mapping], films: str) -> list[tables.Table]:
  """T(IoU) .1 to .5 of every run's methods and of every published work.

  Args:
    runs: name ('' for the only one) -> its metrics.json.
    films: the caveat of the first of them; '' where its films are others.

  Returns:
    the table, and where its published rows come from; [] for other films.
  """
  own = [row for name, run in runs.items() for row in _own(name, run)]
  if not (films and own):
    return []
  works = published.LOCALIZATION
  numbers = tables.table(
    'published',
    'Beside published results: accuracy at T(IoU), mean over 8 findings',
    [*own, *(_row(_name(work), _estimates(work)) for work in works)],
    f'{films} The later works scored the same 984 boxes, CLARiTy those of half '
    'of the boxed films. Rules that make boxes of a map and the size of the '
    'films differ from work to work: a difference of some hundredths says '
    'nothing. What a random map reaches depends on the rule of the boxes, and '
    'is part of each reading.',
  )
  sources = tables.table(
    'published-sources',
    'Where the published rows come from',
    list(map(_source, works)),
  )
  return [t for t in (numbers, sources) if t]


def _own(name, metrics):
  """The rows of a run's own methods, and of its random map."""
  localization = metrics.get('localization', {})
  methods = [
    m
    for m in localization.get('methods', {})
    if wording.is_own(m) or m == 'random'
  ]
  return [
    _row(
      f'{name}, {wording.method_name(m)}' if name else wording.method_name(m),
      main_result.mean_scores(localization, m),
    )
    for m in methods
  ]


def _row(name, scores):
  return {'map': name} | {
    wording.score_name(score): tables.estimate_cell(scores.get(score))
    for score in published.LOCALIZATION[0].accuracy
  }


def _name(work):
  mark = 'as printed by others' if work.read_in else 'published'
  return tables.text_cell(work.name, mark=mark)


def _estimates(work):
  return {score: {'value': value} for score, value in work.accuracy.items()}


def _source(work):
  source = work.source
  if work.read_in:
    source += f'. Not read there: as printed by others, in {work.read_in}'
  wrapped = lambda text: tables.text_cell(text, wrap=True)
  return {
    'work': _name(work),
    'trained on': wrapped(work.trained_on),
    'boxes used': wrapped(work.boxes),
    'source': wrapped(source),
  }
