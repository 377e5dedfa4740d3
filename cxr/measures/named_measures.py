"""The measures that config.evaluate.measures names.

Each name stands for a function that takes one measure or several, and for what
moves their values.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from cxr import heatmaps, named_attacks
from cxr.inference import Subject
from cxr.localization import thresholds
from cxr.measures import (
  attacked_films,
  attacked_maps,
  faithfulness,
  map_sanity,
  measure_table,
  noise_stability,
  over_films,
  phantom_causes,
)
from input_pipeline import renditions


class Kind(NamedTuple):
  """How one of config.evaluate.measures is taken.

  compute: (subject, methods) -> what it measures of these methods. Among them
    are `before` and `after`, names that stand for what is measured without a
    method of attribution, or of a control.
  settings: (subject) -> what moves its values, but for the methods' settings.
  raw: whether it takes the methods' maps as they are, without a blur.
  """

  compute: Callable[[Subject, Sequence[str]], list[measure_table.Measure]]
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
  'alignment': Kind(
    attacked_films.alignment,
    _measured_films,
    before=('',),
    of_methods=False,
  ),
  'targeted': Kind(
    attacked_films.targeted,
    lambda subject: _measured_films(subject) | _attack(subject),
    before=('',),
    of_methods=False,
    splits=('validation', 'test'),
  ),
  'under_attack': Kind(
    attacked_films.under_attack,
    lambda subject: {
      'rule': thresholds.main_rule(subject.config.evaluate.rules),
      **_attack(subject),
    },
    raw=False,
  ),
  # sameness, outside_body, sparsity, completeness_gap
  'maps': Kind(
    map_sanity.whole_maps,
    # Older parts are without sparsity.
    lambda subject: _measured_films(subject) | {'sparsity': 'gini'},
    before=(over_films.UNIFORM,),
  ),
  'stability': Kind(noise_stability.correlation, _sanity_films),
  'randomisation': Kind(map_sanity.randomisation, _sanity_films),
  # insertion, deletion
  'faithfulness': Kind(
    faithfulness.faithfulness,
    _sanity_films,
    after=(over_films.RANDOM,),
    raw=False,
  ),
  # road_morf, road_lerf, road
  'road': Kind(
    faithfulness.road,
    _sanity_films,
    after=(over_films.RANDOM,),
    raw=False,
  ),
  # relative_input_stability, relative_output_stability,
  # relative_representation_stability
  'relative_stability': Kind(
    noise_stability.relative, _sanity_films, splits=('validation', 'test')
  ),
  # attacked_map, attacked_top, attacked_iou, attacked_logit, attacked_logits
  'map_attacks': Kind(
    attacked_maps.map_attacks, attacked_maps.settings, raw=False
  ),
  # of phantoms: effects, maps on what causes
  'causes': Kind(
    phantom_causes.causes,
    _measured_films,
    before=('', over_films.UNIFORM),
    splits=('test', *renditions.SPLITS.values()),
  ),
}


def settings(subject: Subject, kind: Kind, method: str) -> dict:
  """What moves the values that are taken of a method, or of a control.

  A part of an evaluation is stored under it; model and films are not in it.
  """
  return kind.settings(subject) | _method_settings(subject, kind, method)


def _method_settings(subject: Subject, kind: Kind, method: str) -> dict:
  if method == over_films.RANDOM:
    return {'grid': over_films.random_grid(subject)}
  if method in (*kind.before, *kind.after):
    return {}
  return heatmaps.settings(subject.config, method, raw=kind.raw)
