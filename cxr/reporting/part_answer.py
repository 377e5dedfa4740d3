"""What stands for the whole of a run, and the first screen of its page.

One split, one method, one rule and one score speak for the whole; every page
and the model card choose them here.
"""

from collections.abc import Mapping, Sequence

from cxr.reporting import tables


def main_split(scores: Mapping) -> str | None:
  return 'test' if 'test' in scores else next(iter(scores), None)


def shown_splits(classification: Mapping) -> dict:
  """Test films first; validation films chose the checkpoint: no headline."""
  names = sorted(classification, key=lambda split: split != 'test')
  return {n: classification[n] for n in names if n != 'validation'}


def main_method(methods: Mapping) -> str | None:
  own = [m for m in methods if not tables.is_control(m)]
  return 'cam' if 'cam' in own else next(iter(own), None)


def main_rule(localization: Mapping) -> str:
  methods = localization.get('methods', {})
  return next(iter(methods.get(main_method(methods), {})), '')


def mean_scores(localization: Mapping, method: str) -> Mapping:
  """Score -> estimate, mean over findings, under the main rule."""
  rules = localization.get('methods', {}).get(method, {})
  return rules.get(main_rule(localization), {}).get('mean', {})


def main_score(scores: Mapping) -> str | None:
  """T(IoU) .3 where measured: chance fails it, a good map meets it."""
  wanted = ('iou@0.3', 'iou@0.1', 'mean_iou')
  return next((s for s in wanted if s in scores), None)


def attacked(entries: Sequence[Mapping]) -> Mapping | None:
  """The entry at the largest epsilon, on the test films."""
  entries = [e for e in entries if e['epsilon'] and main_films(e)]
  return max(entries, key=lambda e: e['epsilon'], default=None)


def main_films(entry: Mapping) -> bool:
  return entry.get('split', 'test') == 'test'


def condition(entry: Mapping) -> str:
  return f'{entry["attack"]} at epsilon {entry["epsilon"]:g}/255'


# The first screen.


def answer(metrics: Mapping) -> str:
  sentences = []
  classification = metrics.get('classification', {})
  scores = classification.get(main_split(classification), {})
  auroc = scores.get('auroc', {}).get('mean')
  if auroc:
    text = (
      f'On {tables.count(auroc.get("images"), "test film")} of '
      f'{tables.count(auroc.get("patients"), "patient")} the mean AUROC is '
      f'{tables.with_interval(auroc)}'
    )
    entry = attacked(metrics.get('robustness', ()))
    if entry:
      under = entry['auroc'].get('mean') or {}
      kept = tables.with_interval(under)
      text += f', and {kept} under {condition(entry)}'
      if under.get('images') != auroc.get('images'):
        few = tables.count(under.get('images'), 'of them', 'of them')
        text += f' on {few}'
    sentences.append(f'{text}.')
  localization = metrics.get('localization', {})
  method = main_method(localization.get('methods', {}))
  score = method and main_score(mean_scores(localization, method))
  if score:
    here = tables.with_interval(mean_scores(localization, method)[score])
    boxes = sum(localization.get('count', {}).values())
    text = (
      f'Boxes drawn from {method} reach an accuracy of {here} at '
      f'{tables.score_name(score)} on '
      f'{tables.count(boxes, "true box", "true boxes")}'
    )
    controls = [
      f'{tables.number(value)} for the {tables.method_name(control)}'
      for control in ('random', method + tables.MOVED, 'mean_box')
      if (
        value := tables.value_of(mean_scores(localization, control).get(score))
      )
      is not None
    ]
    if controls:
      text += f', against {tables.listed(controls)}'
    scores = mean_scores(localization, method)
    afp = tables.value_of(scores.get(f'afp_{score}'))
    if afp is not None:
      text += f', at an AFP of {tables.number(afp, 2)}'
    sentences.append(f'{text}.')
  share = metrics.get('measures', {}).get('lesion_share', {}).get('', {})
  share = share.get('', {}).get('mean')
  if tables.value_of(share) is not None:
    sentences.append(
      "Of what lesion and shortcut add to a finding's logit the lesion's share "
      f'is {tables.with_interval(share)}.'
    )
  if not sentences:
    return 'This run has not been evaluated yet: there are no figures.'
  return ' '.join(sentences)


def tile(label: str, estimate: tables.Estimate, *lines: str, sign=False):
  """A large figure with its interval and counts."""
  estimate = estimate or {}
  value = tables.value_of(estimate)
  counts = ''
  if estimate.get('images') is not None:
    counts = (
      f'{tables.count(estimate["images"], "film")}, '
      f'{tables.count(estimate.get("patients"), "patient")}'
    )
  lines = (
    tables.interval_of(estimate, sign=sign),
    *lines,
    counts,
    estimate.get('why', ''),
  )
  return {
    'label': label,
    'text': tables.number(value, sign=sign),
    'lines': [line for line in lines if line],
  }


def tiles(metrics: Mapping) -> list[dict]:
  result = []
  classification = metrics.get('classification', {})
  for split, scores in shown_splits(classification).items():
    label = 'clean' if split == 'test' else tables.spelled(split)
    if 'mean' in scores.get('auroc', {}):
      result.append(tile(f'Mean AUROC, {label}', scores['auroc']['mean']))
  entry = attacked(metrics.get('robustness', ()))
  if entry and 'mean' in entry.get('auroc', {}):
    label = f'Mean AUROC, {condition(entry)}'
    result.append(tile(label, entry['auroc']['mean']))
  localization = metrics.get('localization', {})
  for method in localization.get('methods', {}):
    scores = mean_scores(localization, method)
    score = main_score(scores)
    if tables.is_control(method) or not score:
      continue
    afp = tables.value_of(scores.get(f'afp_{score}'))
    line = '' if afp is None else f'AFP {tables.number(afp, 2)}'
    label = f'Accuracy at {tables.score_name(score)}, {method}'
    result.append(tile(label, scores[score], line))
  return result
