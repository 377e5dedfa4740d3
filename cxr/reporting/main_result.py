"""The first screen of a run's page: what the run is, and what was found.

One split, one method, one rule and one score stand for the whole run; every
page and the model card choose them here.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cxr.localization import thresholds
from cxr.reporting import part_maps, part_origin, part_readers, wording


class Tile(NamedTuple):
  """A large number with smaller lines below."""

  label: str
  text: str
  lines: tuple[str, ...]


def main_split(scores: Mapping) -> str | None:
  return 'test' if 'test' in scores else next(iter(scores), None)


def shown_splits(classification: Mapping) -> dict[str, Mapping]:
  """The splits that may be a headline, the test films first.

  Validation films may not: they chose the checkpoint.
  """
  names = sorted(classification, key=lambda split: split != 'test')
  return {n: classification[n] for n in names if n != 'validation'}


def main_method(methods: Mapping) -> str | None:
  own = [m for m in methods if wording.is_own(m)]
  return 'cam' if 'cam' in own else next(iter(own), None)


def main_rule(methods: Mapping) -> str:
  """The rule that stands for the others; '' where nothing was localized."""
  rules = methods.get(main_method(methods), {})
  return thresholds.main_rule(rules) if rules else ''


def mean_scores(localization: Mapping, method: str) -> Mapping:
  """Score -> its mean over findings, under the main rule."""
  methods = localization.get('methods', {})
  return methods.get(method, {}).get(main_rule(methods), {}).get('mean', {})


def main_score(scores: Mapping) -> str | None:
  """T(IoU) .3 where measured: a random map fails it, a good map does not."""
  wanted = ('iou@0.3', 'iou@0.1', 'mean_iou')
  return next((s for s in wanted if s in scores), None)


def attacked(entries: Sequence[Mapping]) -> list[Mapping]:
  """The entries that stand for robustness, the headline first.

  They are those at the largest epsilon, on the test films: every finding
  attacked alone, then all findings attacked at once. Of several attacks the
  worst case is taken. What was not measured is left out; of older runs that is
  every finding attacked alone.
  """
  entries = [e for e in entries if e['epsilon'] and main_films(e)]
  alone = [e for e in entries if wording.is_alone(e['attack'])]
  strongest = lambda e: (e['epsilon'], e['attack'].startswith('worst_case'))
  found = []
  for of_aim in (alone, [e for e in entries if e not in alone]):
    if found:  # beside it the same attack
      of_aim = [e for e in of_aim if e['epsilon'] == found[0]['epsilon']]
    found += [max(of_aim, key=strongest)] if of_aim else []
  return found


def without_alone(entries: Sequence[Mapping]) -> bool:
  """Whether there are attacks, but none on every finding alone."""
  entries = [e for e in entries if main_films(e)]
  return bool(entries) and not any(
    wording.is_alone(e['attack']) for e in entries
  )


def main_films(entry: Mapping) -> bool:
  return entry.get('split', 'test') == 'test'


def condition(entry: Mapping) -> str:
  """'pgd-10 at epsilon 2/255, every finding attacked alone'."""
  attack = entry['attack'].removesuffix(wording.ALONE)
  epsilon = f'epsilon {entry["epsilon"]:g}/255'
  return f'{attack} at {epsilon}, {wording.aim(entry["attack"])}'


# The first screen.


def run(config: Mapping, metrics: Mapping, data: Mapping) -> list[str]:
  """A sentence that says what the run is; [] without a config."""
  if 'arch' not in config.get('model', {}):
    return part_maps.sentences(metrics)
  text = f'This run is {part_origin.network(config, data)}'
  if 'step' in metrics and 'weights_from' not in data:
    text += (
      f'; its results are those of the checkpoint of step {metrics["step"]}'
    )
  films = (metrics.get('evaluation') or {}).get('films')
  if films:
    text += f' on other films than those of its data set: {films}'
  return [f'{text}.']


def answer(metrics: Mapping) -> list[str]:
  """Sentences on classification, localization and what the logits rest on."""
  localization = metrics.get('localization', {})
  sentences = [
    _less_another(localization, part_maps.of_others(metrics)),
    _classified(metrics),
    part_readers.sentence(metrics.get('readers') or {}),
    _attacked(metrics),
    _localized(localization),
    _lesion_share(metrics.get('measures', {})),
  ]
  return [s for s in sentences if s] or [
    'This run has not been evaluated yet, so there are no results to show.'
  ]


def in_short(metrics: Mapping) -> str:
  """How good the network is, in a sentence: AUROC on the test films, and under
  the attack that is the headline; '' where it was not evaluated."""
  classification = metrics.get('classification', {})
  scores = classification.get(main_split(classification), {}).get('auroc', {})
  auroc = scores.get('mean')
  if wording.value_of(auroc) is None:
    return ''
  only = wording.of_findings(scores)
  meant = f' of {only}' if only else ', as the mean over findings,'
  text = (
    f'Its AUROC{meant} is {wording.with_interval(auroc)} on '
    f'{wording.count(auroc.get("images"), "test film")} of '
    f'{wording.count(auroc.get("patients"), "patient")}'
  )
  for entry in attacked(metrics.get('robustness', ()))[:1]:
    under = entry['auroc'].get('mean') or {}
    text += (
      f', and {wording.with_interval(under)} under the attack '
      f'{condition(entry)} ({wording.count(under.get("images"), "film")} of '
      f'{wording.count(under.get("patients"), "patient")}'
    )
    without = wording.value_of(entry.get('clean'))
    if without is not None:
      text += f', {wording.number(without)} without the attack'
    text += ')'
  return f'{text}; guessing has 0.5.'


def _classified(metrics):
  classification = metrics.get('classification', {})
  scores = classification.get(main_split(classification), {})
  auroc = scores.get('auroc', {}).get('mean')
  if not auroc:
    return ''
  only = wording.of_findings(scores['auroc'])
  meant = f' of {only}' if only else ', as the mean over findings,'
  text = (
    f'On {wording.count(auroc.get("images"), "test film")} of '
    f'{wording.count(auroc.get("patients"), "patient")} the AUROC{meant} is '
    f'{wording.with_interval(auroc)}'
  )
  return f'{text}.'


def _attacked(metrics):
  """Under attack, on how many films, and of which films as they are."""
  entries = metrics.get('robustness', ())
  texts = []
  for entry in attacked(entries):
    under = entry['auroc'].get('mean') or {}
    films = wording.count(under.get('images'), 'film')
    if entry.get('clean'):
      without = wording.number(wording.value_of(entry['clean']))
      films += f', whose AUROC is {without} without the attack'
    texts.append(
      f'{wording.with_interval(under)} with '
      f'{wording.aim(entry["attack"])} (on {films})'
    )
  if not texts:
    return ''
  first = attacked(entries)[0]
  attack = first['attack'].removesuffix(wording.ALONE)
  only = wording.of_findings(first['auroc'])
  meant = f' of {only}' if only else ', as the mean over findings,'
  text = (
    f'Under the attack {attack} at epsilon {first["epsilon"]:g}/255 the '
    f'AUROC{meant} is {wording.listed(texts)}.'
  )
  return f'{text} {wording.not_alone()}' if without_alone(entries) else text


def _less_another(localization, of_others):
  """The first sentence: what the maps are worth beyond another patient's."""
  method = main_method(localization.get('methods', {})) or ''
  scores = mean_scores(localization, method + wording.LESS_ANOTHER)
  score = main_score(scores) or ''
  if wording.value_of(scores.get(score)) is None:
    return ''
  own, another = (
    wording.number(wording.value_of(mean_scores(localization, name)[score]))
    for name in (method, method + wording.ANOTHER_PATIENT)
  )
  text = (
    f"Own less another patient's: boxes drawn from a film's own {method} map "
    f'have an accuracy of {own} at {wording.score_name(score)}, those from '
    f'{of_others} of other patients without the finding {another}; the '
    f'difference is {wording.with_interval(scores[score], sign=True)}'
  )
  without = sum(map(len, localization.get('without_another', {}).values()))
  if without:
    films = wording.count(without, 'film and finding', 'films and findings')
    text += f', where {films} with a true box have no such other film'
  return f'{text}.'


def _localized(localization):
  method = main_method(localization.get('methods', {}))
  scores = mean_scores(localization, method) if method else {}
  score = main_score(scores)
  if not score:
    return ''
  boxes = sum(localization.get('count', {}).values())
  text = (
    f'Boxes predicted from {method} maps have an accuracy of '
    f'{wording.with_interval(scores[score])} at {wording.score_name(score)} on '
    f'{wording.count(boxes, "true box", "true boxes")}'
  )
  false = wording.value_of(scores.get(f'false_{score}'))
  if false is not None:
    findings = len(localization.get('count', {}))
    text += f', with {wording.number(false, 2)} false boxes a film and finding'
    if findings > 1:
      text += (
        f' ({wording.number(findings * false, 1)} a film, of {findings} '
        'findings)'
      )
  afp = wording.value_of(scores.get(f'afp_{score}'))
  if afp is not None:
    text += (
      f'{" and" if false is not None else ", with"} an average number of false '
      "positives (AFP: a finding's false boxes over the true boxes of all "
      f'findings) of {wording.number(afp, 2)}'
    )
  controls = []
  for control in (
    'random',
    method + wording.SET_DOWN,
    'mean_box',
  ):
    value = wording.value_of(mean_scores(localization, control).get(score))
    if value is not None:
      article = 'the ' if control in wording.CONTROLS else ''
      name = article + wording.method_name(control)
      controls.append(f'{wording.number(value)} for {name}')
  if controls:
    text += f'. The accuracy of the controls is {wording.listed(controls)}'
  if score.startswith('iou@'):
    text += (
      '. A true box is hit where its IoU with a predicted box is above '
      f'{score.removeprefix("iou@")}'
    )
  return f'{text}.'


def _lesion_share(measures):
  share = measures.get('lesion_share', {}).get('', {}).get('', {}).get('mean')
  if wording.value_of(share) is None:
    return ''
  return (
    "A lesion and the shortcut beside it both change a finding's logit; the "
    f"lesion's share of this change is {wording.with_interval(share)}."
  )


def tile(
  label: str, estimate: wording.Estimate, *lines: str, sign: bool = False
) -> Tile:
  """A value above its interval, `lines` and the counts of its films."""
  estimate = estimate or {}
  counts = ''
  if estimate.get('images') is not None:
    counts = (
      f'{wording.count(estimate["images"], "film")}, '
      f'{wording.count(estimate.get("patients"), "patient")}'
    )
  lines = wording.interval(estimate, sign=sign), *lines, counts
  return Tile(
    label,
    wording.number(wording.value_of(estimate), sign=sign),
    tuple(line for line in (*lines, estimate.get('why', '')) if line),
  )


def _without(entry: Mapping) -> list[str]:
  """'0.912 without the attack', of the films that were attacked."""
  value = wording.value_of(entry.get('clean'))
  return (
    [] if value is None else [f'{wording.number(value)} without the attack']
  )


def false_lines(scores: Mapping, score: str) -> list[str]:
  """'2.10 false boxes a film and finding' and 'AFP 1.30'; what was not counted
  is left out."""
  texts = {'false': '{} false boxes a film and finding', 'afp': 'AFP {}'}
  values = {
    text: wording.value_of(scores.get(f'{prefix}_{score}'))
    for prefix, text in texts.items()
  }
  return [
    text.format(wording.number(value, 2))
    for text, value in values.items()
    if value is not None
  ]


def tiles(metrics: Mapping) -> list[Tile]:
  """Mean AUROC, clean and attacked, and the accuracy of every method."""
  result = []
  classification = metrics.get('classification', {})
  for split, scores in shown_splits(classification).items():
    if 'mean' in scores.get('auroc', {}):
      name = wording.mean_of('AUROC', scores['auroc'])
      label = f'{wording.capital(name)} on {wording.films(split)}'
      result.append(tile(label, scores['auroc']['mean']))
  read = metrics.get('readers') or {}
  if read:
    name = wording.mean_of('AUROC', read['auroc'])
    label = f'{wording.capital(name)} against {part_readers.name(read)}'
    votes = wording.value_of(read['label']['votes']['mean'])
    lines = []
    if votes is not None:
      lines = [f"the readers' votes on the label {wording.number(votes)}"]
    result.append(tile(label, read['auroc']['mean'], *lines))
  for entry in attacked(metrics.get('robustness', ())):
    if 'mean' in entry.get('auroc', {}):
      name = wording.mean_of('AUROC', entry['auroc'])
      label = f'{wording.capital(name)} under {condition(entry)}'
      result.append(tile(label, entry['auroc']['mean'], *_without(entry)))
  localization = metrics.get('localization', {})
  for method in localization.get('methods', {}):
    scores = mean_scores(localization, method)
    score = main_score(scores)
    if not score or wording.is_control(method):
      continue
    label = f'Accuracy of {method} at {wording.score_name(score)}'
    if wording.is_difference(method):
      name = wording.method_name(method)
      label = f'Accuracy of {name}, at {wording.score_name(score)}'
      result.append(tile(label, scores[score], sign=True))
    else:
      lines = false_lines(scores, score)
      result.append(tile(label, scores[score], *lines))
  return result
