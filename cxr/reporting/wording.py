"""The words and the numbers of a page, as text.

An estimate is {'value', 'low', 'high', 'images', 'patients'}: a statistic, the
ends of its 95 % interval, and how many films and patients it rests on. Its
value is None where it is undefined; 'why' then gives the reason.
"""

import math
from collections.abc import Mapping, Sequence

Estimate = Mapping | None
CONTROLS = {
  'random': 'random map',
  'centre': 'centre prior',
  'mean_box': 'mean box of other patients',
  'uniform': 'uniform map',
}
# How the names of a method's own controls end: the same network's maps of other
# patients' films, the map's own boxes set down in random places, and the maps
# of the network with shuffled weights.
ANOTHER_PATIENT = '_another_patient'
SET_DOWN = '_set_down'
SHUFFLED_WEIGHTS = '_shuffled_weights'
_SUFFIXES = {
  ANOTHER_PATIENT: '{}, another patient',
  SET_DOWN: '{} boxes set down elsewhere',
  SHUFFLED_WEIGHTS: '{} of shuffled weights',
  # Of older runs: maps torn at the film's border, and a network at its start.
  '_moved': '{} moved at random',
  '_random_weights': '{} of random weights',
}
# What a method scores beyond its maps of other patients.
LESS_ANOTHER = '_own_less_another'
# How the name of an attack ends that is aimed at every finding alone.
ALONE = '-alone'
SCORES = {
  'iou': 'IoU',
  'iobb': 'IoBB',
  'ior': 'IoR',
  'mean_iou': 'mean IoU',
  'mask_iou': 'IoU of the mask',
  'pointing': 'pointing game',
  'energy': 'energy in the box',
  'map_auroc': 'AUROC of the map',
  'map_ap': 'average precision of the map',
  'box_iou': 'IoU of the boxes',
  'map_spearman': 'rank correlation of the maps',
  'map_ssim': 'SSIM of the maps',
  'road_morf': 'ROAD, most relevant first',
  'road_lerf': 'ROAD, least relevant first',
  'road': 'ROAD, least less most relevant first',
  'relative_input_stability': 'log10 relative input stability',
  'relative_output_stability': 'log10 relative output stability',
  'relative_representation_stability': 'log10 relative representation '
  'stability',
  'attacked_map': 'rank correlation of the attacked map',
  'attacked_top': 'hottest tenth of the attacked map that stays',
  'attacked_iou': 'IoU of the boxes of the attacked map',
  'attacked_logit': 'change of the logit, map attacked',
  'attacked_logits': 'largest change of a logit, map attacked',
}
# config.data.source -> the films that it stands for.
SOURCES = {
  'nih': 'NIH ChestX-ray14',
  'phantom': 'phantom films',
  'chexpert': 'CheXpert',
  'vindr': 'VinDr-CXR',
  'rsna': 'RSNA Pneumonia 2018',
  'mimic': 'MIMIC-CXR-JPG',
  'padchest': 'PadChest',
  'table': 'films of a table',
}
# What an attack is made for, and what follows for AUROC.
RAISES = (
  'An attack raises the loss of each film; AUROC is what becomes of the order '
  'of the films. With every finding attacked alone it is the loss of that '
  "finding: a film's logit moves to the wrong side, and AUROC falls. With all "
  'findings attacked at once it is the mean loss over findings: what is spent '
  'on one finding is missing for another, whose loss may even fall, so that a '
  'higher mean loss can go with a higher AUROC.'
)
# What was measured of the intervals: tests/benchmarks/bench_coverage.py.
COVERAGE = (
  "Intervals are Student's, of 95 %, from a bootstrap over patients. In "
  'simulations of 1,000 studies with 60 and 300 patients they covered an AUROC '
  'or an accuracy in 94.5 to 97.5 % (percentiles of the bootstrap: 84.9 to '
  '94.5 %), and over three and five training seeds in 93.6 to 95.3 %, '
  'differences in 94.7 to 96.2 %.'
)
UNDEFINED = '–'


def value_of(estimate: Estimate) -> float | None:
  """The estimate's value, None where it is undefined."""
  value = (estimate or {}).get('value')
  return None if value is None or not math.isfinite(value) else float(value)


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
  """'0.812', with `sign` '+0.812'; '–' where the value is None or NaN."""
  if value is None or not math.isfinite(value):
    return UNDEFINED
  return f'{value:{"+" if sign else ""}.{digits}f}'.replace('-', '−')


def interval(estimate: Estimate, *, sign: bool = False) -> str:
  """'0.790 to 0.831', '' where the estimate has no interval."""
  low, high = (estimate or {}).get('low'), (estimate or {}).get('high')
  if value_of(estimate) is None or low is None or high is None:
    return ''
  return f'{number(low, sign=sign)} to {number(high, sign=sign)}'


def with_interval(estimate: Estimate, *more: str, sign: bool = False) -> str:
  """'0.812 (0.790 to 0.831)'; `more` follows inside the brackets."""
  inner = '; '.join(t for t in (interval(estimate, sign=sign), *more) if t)
  text = number(value_of(estimate), sign=sign)
  return f'{text} ({inner})' if inner else text


def p_text(p: float | None) -> str:
  """'0.012', '< 0.001', or '–' where there is no p-value."""
  if p is None:
    return UNDEFINED
  return '< 0.001' if p < 0.001 else f'{p:.3f}'


def count(quantity: int | None, one: str, many: str = '') -> str:
  """'1 film', '1,987 films', 'an unknown number of films'."""
  many = many or one + 's'
  if quantity is None:
    return f'an unknown number of {many}'
  return f'{quantity:,} {one if quantity == 1 else many}'


def listed(texts: Sequence[str]) -> str:
  """'a', 'a and b', 'a, b and c'."""
  *others, last = texts
  return f'{", ".join(others)} and {last}' if others else last


def capital(text: str) -> str:
  """'mean AUROC' -> 'Mean AUROC'."""
  return text[:1].upper() + text[1:]


def is_control(method: str) -> bool:
  """Whether the maps of a method are no explanation of the trained model."""
  return method in CONTROLS or method.endswith(tuple(_SUFFIXES))


def is_difference(method: str) -> bool:
  """Whether it stands for a method less its control of another patient."""
  return method.endswith(LESS_ANOTHER)


def is_own(method: str) -> bool:
  """Whether its maps are explanations of the trained model."""
  return not is_control(method) and not is_difference(method)


def method_name(method: str) -> str:
  """'cam_set_down' -> 'cam boxes set down elsewhere', 'random' -> …"""
  if is_difference(method):
    name = method.removesuffix(LESS_ANOTHER)
    return f"{name}, own less another patient's"
  for suffix, text in _SUFFIXES.items():
    if method.endswith(suffix):
      return text.format(method.removesuffix(suffix))
  return CONTROLS.get(method, method)


def is_alone(attack: str) -> bool:
  """Whether it is aimed at every finding alone, not at all at once."""
  return attack.endswith(ALONE)


def aim(attack: str) -> str:
  """'every finding attacked alone' or 'all findings attacked at once'."""
  if is_alone(attack):
    return 'every finding attacked alone'
  return 'all findings attacked at once'


_MEASURES_ALONE = (
  '--mode=evaluate measures it, on config.evaluate.finding_attack_films films '
  'of each finding.'
)
# Of several runs.
NOT_ALL_ALONE = (
  'AUROC with every finding attacked alone is not compared, since at least one '
  f'of these runs has none; {_MEASURES_ALONE}'
)


def not_alone(runs: str = '') -> str:
  """The sentence where no run, or none of `runs`, was attacked so."""
  return (
    f'AUROC with every finding attacked alone was not measured{runs}; '
    f'{_MEASURES_ALONE}'
  )


def attack_name(attack: str) -> str:
  """'pgd-10-alone' -> 'pgd-10, every finding attacked alone'."""
  return f'{attack.removesuffix(ALONE)}, {aim(attack)}'


def score_name(score: str) -> str:
  """'iou@0.3' -> 'T(IoU) 0.3', 'afp_iou@0.3' -> 'AFP at T(IoU) 0.3', and
  'false_iou@0.3' -> 'false boxes a film and finding at T(IoU) 0.3'."""
  kind, _, threshold = score.partition('@')
  if not threshold:
    return SCORES.get(kind, spelled(kind))
  counted = {'afp': 'AFP at ', 'false': 'false boxes a film and finding at '}
  prefix, _, ratio = kind.rpartition('_')
  return f'{counted.get(prefix, "")}T({SCORES.get(ratio, ratio)}) {threshold}'


def films(split: str) -> str:
  """'test_without_shortcut' -> 'test films without shortcut'."""
  first, _, rest = spelled(split).partition(' ')
  return f'{first} films {rest}'.strip()


def spelled(name: str) -> str:
  """'test_without_shortcut' -> 'test without shortcut'."""
  return name.replace('_', ' ')


def of_findings(estimates: Mapping) -> str:
  """'Mass' where `estimates`, by 'mean' and finding, are of Mass alone; else
  ''. A mean over one finding is that finding's."""
  findings = [name for name in estimates if name != 'mean']
  return findings[0] if len(findings) == 1 else ''


def mean_of(score: str, estimates: Mapping) -> str:
  """'mean AUROC', or 'AUROC of Mass' where there is no other finding.

  Args:
    score: 'AUROC', say.
    estimates: by 'mean' and finding.
  """
  only = of_findings(estimates)
  return f'{score} of {only}' if only else f'mean {score}'
