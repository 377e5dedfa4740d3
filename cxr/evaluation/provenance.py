"""What made a run's estimates, stored beside them in evaluation.json.

data.json is the record of the films that the weights learned from; training
alone writes it. An evaluation may be of other films: it keeps its own record,
and makes sure that it does not measure on films of the training.
"""

import os
from collections.abc import Mapping

import numpy as np
from absl import logging
from jaxtyping import Bool
from ml_collections import ConfigDict

from cxr import data, film_hashes, run_files
from cxr.evaluation import parts
from cxr.exporting import companions
from input_pipeline import pipeline


def record(
  workdir: str,
  config: ConfigDict,
  weights: str,
  splits: Mapping[str, pipeline.Split],
) -> dict:
  """What evaluation.json holds of the weights, films, labels and settings.

  Returns:
    'weights': their hash; 'version': of what estimates mean; 'config': of this
    evaluation; 'data': its films as in data.json, but for 'train', the films
    that the weights learned from.
  """
  described = data.summary(config, splits)
  trained = trained_on(workdir)
  for name in ('train', 'validation'):
    if trained.get(name) and (name == 'train' or name not in splits):
      described['splits'][name] = trained[name]
  if run_files.read_weights_from(workdir):
    # They did not learn from these.
    described['splits'].pop('train', None)
    described['weights_from'] = run_files.read(workdir, 'data.json')[
      'weights_from'
    ]
  return {
    'weights': weights,
    'version': parts.VERSION,
    'config': config.to_dict(),
    'data': described,
  }


def check_films(
  workdir: str, config: ConfigDict, splits: Mapping[str, pipeline.Split]
) -> None:
  """Refuses to evaluate on films that the weights of a training learned from.

  Raises:
    ValueError: validation or test films are among the training films, or it
      cannot be known, as the training films are not there any more.
  """
  trained = trained_on(workdir)
  now = data.summary(config, splits)['splits']
  if all(_same(trained.get(n), now[n]) for n in ('train', 'validation')):
    return
  stored = run_files.read_config(workdir)
  if not trained and not _other_data(stored, config):
    return
  learned = _load_training_films(workdir, stored, trained, config)
  for name, split in splits.items():
    if name == 'train':
      continue
    count = int(shared_films(learned, split).sum())
    if count:
      raise ValueError(
        f'{count:,} of the {len(split.label):,} {name} films are films that '
        f'the weights in {workdir} learned from; evaluate with the config.data '
        f'of its training ({_told(stored)}) or on other films.'
      )
  logging.info('The films are others than those of the training.')


def without_seen(
  workdir: str, splits: Mapping[str, pipeline.Split]
) -> Mapping[str, pipeline.Split]:
  """The splits without the films that weights from elsewhere have seen.

  Test films may be none that they learned from or were chosen by, validation
  films none that they learned from: the calibration is fitted on these. What
  is left out is counted in the `left_out` of the splits.

  Args:
    workdir: of a run that was made of such weights; where no hashes of films
      came with them, nothing is known and nothing is left out.
    splits: of the films; those of the phantom without a cause go with the test
      films that they are drawn of.

  Raises:
    ValueError: all films of a split were seen.
  """
  kept, left_out = dict(splits), dict(getattr(splits, 'left_out', {}))
  for name in ('validation', 'test'):
    split = splits[name]
    seen = seen_elsewhere(workdir, split, validation=name != 'validation')
    if not seen.any():
      continue
    sentence = f'{name} films, such as {split.image_name[seen][0]}, are films '
    sentence += f'that the weights in {workdir} were trained or validated on'
    if seen.all():
      raise ValueError(f'All {sentence}; evaluate them on other films.')
    logging.warning(
      f'{seen.sum():,} of the {len(seen):,} {sentence}: they are left out.'
    )
    left_out[f'{name} seen by the weights'] = int(seen.sum())
    for other, drawn in splits.items():
      if other == name or (name == 'test' and other.startswith('test_')):
        kept[other] = data.without(drawn, seen)
  kept = pipeline.Splits(kept)
  kept.left_out = left_out
  return kept


def seen_elsewhere(
  workdir: str, split: pipeline.Split, *, validation: bool = True
) -> Bool[np.ndarray, ' n']:
  """Which films weights from elsewhere have seen, as far as it is known.

  Args:
    workdir: of the run; of one that was trained here the answer is none.
    split: its n films.
    validation: whether those that the checkpoint was chosen by count.
  """
  path = os.path.join(workdir, companions.SEEN_FILMS)
  if not os.path.exists(path):
    return np.zeros(len(split.label), bool)
  seen = film_hashes.read(path)
  known = [seen.train, seen.validation] if validation else [seen.train]
  return np.isin(film_hashes.of_split(split), np.concatenate(known))


def trained_on(workdir: str) -> dict:
  """data.json's splits; {} where a run has none."""
  path = os.path.join(workdir, 'data.json')
  if not os.path.exists(path):
    return {}
  return run_files.read(workdir, 'data.json', 'splits')['splits']


def _same(stored: Mapping | None, now: Mapping) -> bool:
  if not stored:
    return False
  key = 'content_sha256' if stored.get('content_sha256') else 'sha256'
  return stored[key] == now[key]


def as_trained(stored: ConfigDict, config: ConfigDict) -> ConfigDict:
  """The config by which the training's films are loaded here.

  Args:
    stored: of the training.
    config: of this evaluation, which says where prepared films are.
  """
  result = stored.copy_and_resolve_references()
  for field in ('cache', 'workers', 'prepared_dir'):
    result.data[field] = config.data[field]
  return result


def _data_fields(config: ConfigDict) -> dict:
  free = ('cache', 'workers', 'prepared_dir')
  fields = run_files.flat(config.data)
  return {k: v for k, v in fields.items() if k not in free}


def _other_data(stored: ConfigDict, config: ConfigDict) -> bool:
  return _data_fields(stored) != _data_fields(config)


def _told(config: ConfigDict) -> str:
  names = 'dir', 'split_seed', 'validation_fraction'
  return ', '.join(f'{name}={config.data[name]!r}' for name in names)


def _load_training_films(
  workdir: str, stored: ConfigDict, trained: Mapping, config: ConfigDict
) -> pipeline.Split:
  """The training films, from where the training's config says."""
  stored = as_trained(stored, config)
  try:
    split = data.load(stored)['train']
  except (OSError, ValueError) as error:
    reason = str(error)
  else:
    now = data.summary(stored, {'train': split})['splits']['train']
    if not trained or _same(trained.get('train'), now):
      return split
    reason = f'{_told(stored)} has other films now'
  raise ValueError(
    f'These are not the films that {workdir} was trained and validated on, and '
    f'it cannot be seen whether some of them were: {reason.rstrip(".")}. '
    'Evaluate with the config.data of the training, or put its films back.'
  )


def shared_films(
  learned: pipeline.Split, split: pipeline.Split
) -> Bool[np.ndarray, ' n']:
  """Which of the n films of `split` are films of `learned`.

  Films are equal where all their pixels are, whatever their names: other
  hospitals' films may have the same names.
  """
  return np.isin(film_hashes.of_split(split), film_hashes.of_split(learned))
