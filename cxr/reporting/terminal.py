"""What a run found, in three lines for the terminal that it ends on."""

from collections.abc import Mapping

from cxr.reporting import main_result, part_readers, wording

# Of config.evaluate.methods, the first so many: a line stays a line.
MOST_METHODS = 2


def lines(metrics: Mapping) -> list[str]:
  """Three lines of metrics.json: how films are classified, what the maps hit,
  and what either rests on.

  What was not measured has no line.
  """
  localization = metrics.get('localization', {})
  found = (
    _classified(metrics) + _read(metrics.get('readers') or {}),
    _localized(localization),
    _rests_on(metrics.get('measures', {}), localization),
  )
  return [f'{line}.' for line in found if line]


def _classified(metrics):
  classification = metrics.get('classification', {})
  scores = classification.get(main_result.main_split(classification), {})
  auroc = scores.get('auroc', {}).get('mean')
  if not auroc:
    return ''
  name = wording.capital(wording.mean_of('AUROC', scores['auroc']))
  text = (
    f'{name} {wording.with_interval(auroc)} on '
    f'{wording.count(auroc.get("images"), "test film")}'
  )
  # The first is the headline: every finding attacked alone.
  for entry in main_result.attacked(metrics.get('robustness', ()))[:1]:
    under = wording.with_interval(entry['auroc'].get('mean'))
    text += f', {under} under {main_result.condition(entry)}'
  return text


def _read(readers):
  auroc = readers.get('auroc', {}).get('mean')
  if wording.value_of(auroc) is None:
    return ''
  votes = wording.value_of(readers['label']['votes']['mean'])
  text = (
    f'; {wording.with_interval(auroc)} against {part_readers.name(readers)}'
  )
  if votes is not None:
    text += f', whose votes reach {wording.number(votes)} on the labels'
  return text


def _localized(localization):
  texts = []
  own = list(filter(wording.is_own, localization.get('methods', {})))
  for method in own[:MOST_METHODS]:
    scores = main_result.mean_scores(localization, method)
    score = main_result.main_score(scores)
    if not score:
      continue
    less = main_result.mean_scores(localization, method + wording.LESS_ANOTHER)
    beyond = ''
    if wording.value_of(less.get(score)) is not None:
      beyond = (
        f', {wording.with_interval(less[score], sign=True)} beyond another '
        "patient's"
      )
    hit = wording.number(wording.value_of(scores[score]))
    texts.append((score, f'{hit} by {method} maps{beyond}'))
  if not texts:
    return ''
  boxes = sum(localization.get('count', {}).values())
  return (
    f'Of {wording.count(boxes, "true box", "true boxes")}, hit at '
    f'{wording.score_name(texts[0][0])}: '
    + '; '.join(text for _, text in texts)
  )


def _rests_on(measures, localization):
  """The causes of the logits where they are known, else the controls."""
  share = measures.get('lesion_share', {}).get('', {}).get('', {}).get('mean')
  if wording.value_of(share) is not None:
    return (
      'Of what moves the logits the lesions are '
      f'{wording.with_interval(share)}, the rest the shortcut'
    )
  method = main_result.main_method(localization.get('methods', {})) or ''
  texts = []
  for control in ('random', method + wording.SET_DOWN, 'mean_box'):
    scores = main_result.mean_scores(localization, control)
    value = wording.value_of(scores.get(main_result.main_score(scores)))
    if value is not None:
      name = wording.method_name(control)
      texts.append(f'{wording.number(value)} by the {name}')
  return f'Controls: {", ".join(texts)}' if texts else ''
