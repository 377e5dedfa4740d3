"""The measures of config.evaluate.measures: computed, or read where stored.

Most measures are taken of each method of attribution. Each method's values are
a part of their own (parts.py), so that one method more costs that method alone.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from absl import logging

from cxr import heatmaps, named_attacks
from cxr.evaluation import (
  measure_attacks,
  measure_causes,
  measure_faithfulness,
  measure_map_attacks,
  measure_maps,
  measure_stability,
  measures,
)
from cxr.evaluation.parts import Parts, is_whole, stored
from cxr.inference import Subject
from cxr.localization import thresholds
from input_pipeline import renditions


class _Kind(NamedTuple):
  """How one of config.evaluate.measures is taken.

  compute: (subject, methods) -> what it measures of these methods. Among them
    are `before` and `after`, names that stand for what is measured without a
    method of attribution, or of a control.
  settings: (subject) -> what moves its values, but for the methods' settings.
  raw: whether it takes the methods' maps as they are, without a blur.
  """

  compute: Callable[[Subject, Sequence[str]], list[measures.Measure]]
  settings: Callable[[Subject], dict]
  before: tuple[str, ...] = ()
  after: tuple[str, ...] = ()
  of_methods: bool = True
  raw: bool = True
  splits: tuple[str, ...] = ('test',)


def _measured_films(subject: Subject) -> dict:
  return {'films': subject.config.evaluate.measure_films}


def _sanity_films(subject: Subject) -> dict:
  return {
    'films': subject.config.evaluate.sanity_films,
    'seed': subject.config.seed,
  }


def _attack(subject: Subject) -> dict:
  """The attack that stands for the others."""
  return named_attacks.settings(subject.config, 'pgd') | {
    'epsilon': named_attacks.middle_epsilon(subject.config)
  }


MEASURES = {
  'alignment': _Kind(
    measure_attacks.alignment,
    _measured_films,
    before=('',),
    of_methods=False,
  ),
  'targeted': _Kind(
    measure_attacks.targeted,
    lambda subject: _measured_films(subject) | _attack(subject),
    before=('',),
    of_methods=False,
    splits=('validation', 'test'),
  ),
  'under_attack': _Kind(
    measure_attacks.under_attack,
    lambda subject: {
      'rule': thresholds.main_rule(subject.config.evaluate.rules),
      **_attack(subject),
    },
    raw=False,
  ),
  # sameness, outside_body, sparsity, completeness_gap
  'maps': _Kind(
    measure_maps.whole_maps,
    # Older parts are without sparsity.
    lambda subject: _measured_films(subject) | {'sparsity': 'gini'},
    before=(measure_maps.UNIFORM,),
  ),
  'stability': _Kind(measure_stability.correlation, _sanity_films),
  'randomisation': _Kind(measure_maps.randomisation, _sanity_films),
  # insertion, deletion
  'faithfulness': _Kind(
    measure_faithfulness.faithfulness,
    _sanity_films,
    after=(measure_maps.RANDOM,),
    raw=False,
  ),
  # road_morf, road_lerf, road
  'road': _Kind(
    measure_faithfulness.road,
    _sanity_films,
    after=(measure_maps.RANDOM,),
    raw=False,
  ),
  # relative_input_stability, relative_output_stability,
  # relative_representation_stability
  'relative_stability': _Kind(
    measure_stability.relative, _sanity_films, splits=('validation', 'test')
  ),
  # attacked_map, attacked_top, attacked_iou, attacked_logit, attacked_logits
  'map_attacks': _Kind(
    measure_map_attacks.map_attacks, measure_map_attacks.settings, raw=False
  ),
  # of phantoms: effects, maps on what causes
  'causes': _Kind(
    measure_causes.causes,
    _measured_films,
    before=('', measure_maps.UNIFORM),
    splits=('test', *renditions.SPLITS.values()),
  ),
}


def measure(subject: Subject, parts: Parts) -> list[measures.Measure]:
  """The rows of measures.csv, in the order of the config."""
  rows = []
  for name in subject.config.evaluate.measures:
    kind = MEASURES[name]
    methods = subject.config.evaluate.methods if kind.of_methods else ()
    methods = (*kind.before, *methods, *kind.after)
    paths = {
      method: parts.path(
        f'measures-{"-".join(filter(None, (name, method)))}.csv',
        kind.settings(subject) | _method_settings(subject, kind, method),
        splits=kind.splits,
      )
      for method in methods
    }
    missing = [
      method
      for method, path in paths.items()
      if not is_whole(path, measures.read)
    ]
    computed = []
    if missing:
      methods = ', '.join(filter(None, missing))
      logging.info(
        'Measuring: %s.', f'{name} of {methods}' if methods else name
      )
      with parts.timed(name):
        computed = kind.compute(subject, missing)
    for method, path in paths.items():
      rows += stored(
        path,
        lambda kind=kind, method=method, computed=computed: [
          m for m in computed if not kind.of_methods or m.method == method
        ],
        measures.write,
        measures.read,
      )
  return rows


def _method_settings(subject: Subject, kind: _Kind, method: str) -> dict:
  if method == measure_maps.RANDOM:
    return {'grid': measure_maps.random_grid(subject)}
  if method in (*kind.before, *kind.after):
    return {}
  return heatmaps.settings(subject.config, method, raw=kind.raw)
