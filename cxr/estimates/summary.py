"""The stored rows of a run -> its estimates, so that each can be recomputed.

Contract. `summarize` turns a workdir's tables (run_tables.py) into the parts of
metrics.json that follow from them. An estimate is what `intervals.estimate`
returns; the one named 'mean' is of the mean over findings. All intervals are by
bootstrap over patients. `options` are num_resamples and seed of the bootstrap.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

from cxr import stored_rows
from cxr.estimates import (
  box_estimates,
  ranking_estimates,
  reader_estimates,
  run_tables,
)
from cxr.measures import measure_table
from cxr.reporting import wording
from cxr.statistics import (
  bootstrap,
  calibration,
  intervals,
  metrics,
  rankings,
  ratios,
)
from input_pipeline import renditions


def headline_first(entry: Mapping) -> tuple:
  """The order of attacks: every finding attacked alone before all at once."""
  attack = entry['attack']
  return entry['split'], not wording.is_alone(attack), attack, entry['epsilon']


AGE_BANDS = ((0, 18), (18, 40), (40, 60), (60, 80), (80, math.inf))
MAIN_SPLIT = 'test'
CALIBRATION_SPLIT = 'validation'


# Classification.


def attack_effect(
  clean: stored_rows.Predictions | None,
  attacked: stored_rows.Predictions,
  **options,
) -> dict:
  """What an attack did to the mean AUROC of its films, and to their logits.

  Args:
    clean: the films of the split as they are, the attacked ones among them.
    attacked: films under attack; a finding that was not attacked is unknown.
    **options: num_resamples and seed.

  Returns:
    'clean': the estimate of the attacked films' mean AUROC without the attack;
    'change': that of their AUROC under attack less it, paired; 'unmoved': the
    number of films of which the attack moved no logit. {} without the films.
  """
  place = {} if clean is None else {n: i for i, n in enumerate(clean.image)}
  if not all(name in place for name in attacked.image):
    return {}
  before = _subset(clean, [place[name] for name in attacked.image])
  unit, num_units = bootstrap.index_patients(attacked.patient)
  without, under = (
    bootstrap.with_mean(
      rankings.make_auroc(logit, attacked.label, unit, num_units)
    )
    for logit in (before.logit, attacked.logit)
  )

  def statistic(weight):
    first, second = without(weight)[:, :1], under(weight)[:, :1]
    return np.column_stack([first, second - first])

  sampled = intervals.sample(statistic, num_units, **options)
  (counts, *_) = ranking_estimates.counts_of(attacked, ())
  found = {}
  for i, (name, scale) in enumerate(
    (('clean', ranking_estimates.SCALE), ('change', 'linear'))
  ):
    part = sampled.take(slice(i, i + 1))
    found |= intervals.estimates(
      [name],
      part.values,
      intervals.over_patients(part),
      [counts],
      scale=scale,
    )
  # A logit that is NaN was not attacked.
  moved = ~np.isclose(before.logit, attacked.logit, rtol=1e-6, atol=1e-6)
  moved &= ~np.isnan(attacked.logit)
  return found | {'unmoved': int((~moved.any(axis=1)).sum())}


def subgroups(
  block: stored_rows.Predictions,
) -> dict[str, dict[str, np.ndarray]]:
  """{'view' | 'sex' | 'age': {name: mask of its films}}, without empty ones."""
  age = np.asarray(block.age, np.float64)
  masks = {
    'view': {v: block.view == v for v in ('PA', 'AP')},
    'sex': {s: block.sex == s for s in ('F', 'M')},
    'age': {
      f'{low}-{high}' if high < math.inf else f'{low}+': (age >= low)
      & (age < high)
      for low, high in AGE_BANDS
    },
  }
  return {
    kind: {name: mask for name, mask in groups.items() if mask.any()}
    for kind, groups in masks.items()
  }


def _subset(block: stored_rows.Predictions, mask) -> stored_rows.Predictions:
  return stored_rows.Predictions(*(column[mask] for column in block))


def aligned(
  first: stored_rows.Predictions, other: stored_rows.Predictions, what: str
) -> stored_rows.Predictions:
  """`other` in the order of `first`.

  Raises:
    ValueError: they are not the same films with the same labels.
  """
  order = stored_rows.matching_order([first.image], [other.image])
  if order is None:
    shared = len(np.intersect1d(first.image, other.image))
    raise ValueError(
      f'{what} share {shared} of {len(first.image)} and {len(other.image)} '
      'films; only results on the same films can be compared.'
    )
  other = _subset(other, order)
  if not (
    np.array_equal(first.label, other.label, equal_nan=True)
    and np.array_equal(first.patient, other.patient)
  ):
    raise ValueError(
      f'{what} have other labels or patients for the same films; evaluate '
      'them again on one data folder.'
    )
  return other


# Calibration and operating points.


def _calibrate(blocks, findings, given, **options) -> dict:
  """Fits the calibration on validation films and tries it on test films.

  Operating points that came with the weights are tried beside those fitted.
  """
  block = blocks.get(stored_rows.Condition(CALIBRATION_SPLIT))
  test = blocks.get(stored_rows.Condition(MAIN_SPLIT))
  result = {}
  if given and test is not None:
    threshold = np.array([given.get(name, np.nan) for name in findings])
    result['given'] = {
      'threshold': dict(given),
      **_operating_point(
        test, {'threshold': threshold}, findings=findings, **options
      ),
    }
  if block is None:
    return result
  fitted = calibration.fit(block.logit, block.label)
  result |= {
    'fitted': {
      'split': CALIBRATION_SPLIT,
      'images': len(block.image),
      'patients': ranking_estimates.count_patients(block.patient),
      'findings': calibration.to_json(fitted, block.label, findings),
    }
  }
  if test is not None:
    result |= calibration_estimates(test, fitted, findings=findings, **options)
  return result


def calibration_estimates(
  block: stored_rows.Predictions,
  fitted: calibration.Fitted,
  *,
  findings: Sequence[str],
  **options,
) -> dict:
  """How far probabilities and operating points hold on other films.

  Returns:
    {'raw' | 'calibrated': {'brier' | 'excess' | 'calibration_error': {'mean' |
    finding: estimate}}, 'operating_point': {'sensitivity' | 'specificity' |
    'called': {'mean' | finding: estimate}}}. 'excess' is the mean probability
    minus the share of positive films, 'called' the share of films at or above
    the threshold.
  """
  known = ~np.isnan(block.label)
  label = np.where(known, block.label, 0.0).astype(np.float64)
  has_point = ~np.isnan(fitted['threshold'])

  def estimates(parts):
    return _ratio_estimates(block, parts, findings, **options)

  result = {}
  for name, probability in (
    ('raw', special.expit(block.logit.astype(np.float64))),
    ('calibrated', calibration.probability(block.logit, fitted)),
  ):
    defined = known & has_point
    error = np.where(defined, probability - label, 0.0)
    weight = defined.astype(np.float64)
    result[name] = estimates(
      {'brier': (error**2, weight), 'excess': (error, weight)}
    )
    result[name]['calibration_error'] = _calibration_error(
      block, np.where(defined, probability, 0.0), has_point, findings
    )
  result['operating_point'] = _operating_point(
    block, fitted, findings=findings, **options
  )
  return result


def _operating_point(
  block: stored_rows.Predictions,
  fitted: calibration.Fitted,
  *,
  findings: Sequence[str],
  **options,
) -> dict:
  """'sensitivity', 'specificity' and 'called' at fitted['threshold']."""
  label, called = block.label, calibration.called(block.logit, fitted)
  defined = ~np.isnan(label) & ~np.isnan(fitted['threshold'])
  share = lambda mask: (mask & defined).astype(np.float64)
  parts = {
    'sensitivity': (share(called & (label == 1)), share(label == 1)),
    'specificity': (share(~called & (label == 0)), share(label == 0)),
    'called': (share(called), share(defined)),
  }
  return _ratio_estimates(block, parts, findings, **options)


def _ratio_estimates(block, parts, findings, **options) -> dict[str, dict]:
  """name -> (numerator, denominator) 'n k' -> name -> {'mean' | finding}."""
  result = {}
  for name, (numerator, denominator) in parts.items():
    counted = [denominator.any(axis=1), *(denominator.T > 0)]
    counts = [
      {
        'images': int(films.sum()),
        'patients': ranking_estimates.count_patients(block.patient[films]),
        'why': 'no such test film, or no operating point from validation',
      }
      for films in counted
    ]
    of_name = ratios.Ratios(
      numerator[:, None],
      denominator[:, None],
      tuple(findings),
      # The excess of a probability has a sign; the others are shares.
      ('linear' if name == 'excess' else 'logit',),
    )
    (result[name],) = ratios.estimates(
      of_name, block.patient, [counts], **options
    )
  return result


def _calibration_error(block, probability, has_point, findings) -> dict:
  label = np.where(has_point, block.label, np.nan)
  values = metrics.calibration_error(probability, label)
  counts = ranking_estimates.counts_of(block._replace(label=label), findings)
  # Resampled films are lumpier than films: every resample errs by more.
  nothing = np.full(1 + len(values), np.nan)
  return intervals.estimates(
    ('mean', *findings),
    np.array([bootstrap.defined_mean(values), *values]),
    intervals.Spread(nothing, nothing),
    counts,
    scale='logit',
    no_interval='resampling biases this estimate upwards',
  )


# The parts of metrics.json.


def summarize(
  workdir: str,
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = 0,
  given: Mapping[str, float] = {},
) -> dict:
  """Computes the estimates that follow from a workdir's tables.

  Args:
    workdir: of the run.
    num_resamples: of the bootstrap.
    seed: of the bootstrap.
    given: {finding: the logit from which on it is called}, where operating
      points came with the weights.

  Returns:
    'classification': {split: {'auroc' | 'average_precision': {'mean' |
    finding: estimate}}}; 'robustness': a list of the same by split, attack and
    epsilon, in the order of `headline_first`, with its 'aim' and what
    `attack_effect` returns; 'subgroups': {'view' | 'sex' | 'age': {name:
    {'mean' | finding: AUROC}}} of the clean test films; 'reliance': {split:
    {'auroc': {'mean' | finding: estimate}}}, AUROC on test films drawn without
    the shortcut (or the lesions) minus AUROC with them; 'calibration':
    {'fitted': {'split', 'images', 'patients', 'findings': what
    calibration.to_json gives}}, `calibration_estimates` of the clean test
    films and, where operating points were given, 'given': {'threshold', and
    'sensitivity', 'specificity' and 'called' there}; 'localization': what
    `box_estimates.estimates` returns; 'readers': what
    `reader_estimates.estimates` returns of the clean test films.

  Raises:
    FileNotFoundError: the run was not evaluated.
    ValueError: a damaged file.
  """
  options = {'num_resamples': num_resamples, 'seed': seed}
  findings, blocks, boxes, measured, read = run_tables.read(workdir)
  classification, robustness = {}, []
  for condition, block in blocks.items():
    makers = ranking_estimates.rankings_of(condition)
    estimates = ranking_estimates.estimates(
      block, findings=findings, makers=makers, **options
    )
    if condition.attack == stored_rows.CLEAN:
      classification[condition.split] = estimates
    else:
      robustness.append(
        {
          **condition._asdict(),
          'aim': wording.aim(condition.attack),
          **estimates,
          **attack_effect(
            blocks.get(stored_rows.Condition(condition.split)), block, **options
          ),
        }
      )
  robustness.sort(key=headline_first)
  test = blocks.get(stored_rows.Condition(MAIN_SPLIT))
  return {
    'classification': classification,
    'robustness': robustness,
    'calibration': _calibrate(blocks, findings, given, **options),
    'subgroups': {}
    if test is None
    else {
      kind: {
        name: ranking_estimates.estimates(
          _subset(test, mask),
          findings=findings,
          makers={'auroc': rankings.make_auroc},
          **options,
        )['auroc']
        for name, mask in groups.items()
      }
      for kind, groups in subgroups(test).items()
    },
    'reliance': {
      split: {
        'auroc': _without_runs(
          ranking_estimates.compare(
            [
              test,
              aligned(
                test, blocks[stored_rows.Condition(split)], 'Two test splits'
              ),
            ],
            findings,
            rankings.make_auroc,
            **options,
          )
        )
      }
      for split in renditions.SPLITS.values()
      if test is not None and stored_rows.Condition(split) in blocks
    },
    'localization': box_estimates.estimates(
      boxes.where(split=MAIN_SPLIT), **options
    ),
    'measures': measure_table.estimates(measured, **options),
    'readers': {}
    if test is None
    else reader_estimates.estimates(test, read, **options),
  }


def _without_runs(compared: dict) -> dict:
  return {name: entry['difference'] for name, entry in compared.items()}
