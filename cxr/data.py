"""The films of a config: their folder, their splits, and batches of them."""

import collections
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Bool, Float, Int
from ml_collections import ConfigDict

from cxr import files, sharding
from cxr.localization import overlap
from input_pipeline import pipeline
from input_pipeline.findings import BOXED
from input_pipeline.phantom import write


def folder(config: ConfigDict) -> str:
  """The folder of the films, in NIH's layout; a phantom is drawn if absent.

  Raises:
    ValueError: config.data.dir is empty, and the films are not drawn ones.
    FileNotFoundError: there is no such folder.
  """
  source = config.data.source
  path = config.data.dir
  if source == 'phantom':
    spec = config.data.phantom.to_dict() | {
      'image_size': config.data.image_size
    }
    if not path:
      digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode())
      path = files.find(
        os.path.join('data', f'phantom-{digest.hexdigest()[:8]}')
      )
    if not os.path.isdir(path) and jax.process_index() == 0:
      logging.info('Drawing %d phantom films into %s', spec['num_films'], path)
      write.write_phantom(path, workers=config.data.workers, **spec)
    sharding.wait_for_all('phantom')
  if not path:
    raise ValueError(
      'config.data.dir is empty; give the folder of NIH ChestX-ray14: '
      '--config.data.dir=/path/to/ChestX-ray14.'
    )
  if not os.path.isdir(path):
    raise FileNotFoundError(
      f'config.data.dir ({path}) is not a folder; give the one that holds '
      'the label file, the two lists and the images.'
    )
  return path


def load(config: ConfigDict) -> Mapping[str, pipeline.Split]:
  """Loads every split of the films; they are decoded and stored at first use.

  Raises:
    FileNotFoundError: there is no such folder, or a table is absent.
    ValueError: a table cannot be understood, or train, validation or test has
      no film.
  """
  splits = pipeline.load(
    folder(config),
    image_size=config.data.image_size,
    prepared_dir=config.data.prepared_dir,
    validation_fraction=config.data.validation_fraction,
    seed=config.data.split_seed,
    workers=config.data.workers,
    cache='memory' if config.data.cache == 'device' else config.data.cache,
  )
  ways = {
    'train': 'lower config.data.validation_fraction',
    'validation': 'raise config.data.validation_fraction',
    'test': 'see test_list.txt',
  }
  for name, way in ways.items():
    if name not in splits:
      counts = ', '.join(f'{n} {len(s.label)}' for n, s in splits.items())
      left_out = sum(splits.left_out.values())
      raise ValueError(
        f'No {name} film is there (films: {counts}; left out: {left_out}); '
        f'{way}, config.data.split_seed ({config.data.split_seed}) or add '
        'films.'
      )
  return splits


def check_same_films(
  workdir: str, splits: Mapping[str, pipeline.Split]
) -> None:
  """Raises ValueError where the workdir's run was trained on other films.

  The folder of the films may have moved, so config.data.dir is not compared.
  """
  path = os.path.join(workdir, 'data.json')
  if not os.path.exists(path):
    return
  stored = files.read_json(path)['splits']
  for name in ('train', 'validation'):
    old, new = stored.get(name, {}), splits[name]
    if old.get('content_sha256', new.content) != new.content:
      raise ValueError(
        f'{workdir} holds a run on other {name} films ({old["images"]} '
        f'there, {len(new.label)} here); choose another --workdir or the '
        'config.data.dir that it was trained on.'
      )


def summary(config: ConfigDict, splits: Mapping[str, pipeline.Split]) -> dict:
  """Counts and hashes of the splits, and the name of their source."""
  return {'name': config.data.source} | pipeline.summary(splits)


def write_summary(
  workdir: str, config: ConfigDict, splits: Mapping[str, pipeline.Split]
) -> None:
  """Writes data.json, the record of what the weights learn from."""
  if jax.process_index() == 0:
    described = summary(config, splits)
    files.write_json(os.path.join(workdir, 'data.json'), described, indent=2)


def share() -> dict[str, int]:
  """Says which part of each batch this process reads: arguments of the
  pipeline's batches."""
  return {
    'process_index': jax.process_index(),
    'process_count': jax.process_count(),
  }


def to_unit(image):
  """An image as float32 in [0, 1]: uint8 is divided by 255, floats stay."""
  if image.dtype == jnp.uint8:
    return image.astype(jnp.float32) / 255
  return image


def on_device(
  split: pipeline.Split, mesh: jax.sharding.Mesh
) -> dict[str, jax.Array]:
  """Lays the films and labels of a split over the devices' memory; see
  `take`."""
  # The last film is repeated so that the devices' shares are equal.
  n = len(split.label)
  index = list(range(n)) + [n - 1] * (-n % mesh.size)

  def put(array):
    return jax.make_array_from_callback(
      (len(index), *array.shape[1:]),
      sharding.over_data(mesh),
      lambda slices: array[index[slices[0]]],
    )

  return {'image': put(split.image), 'label': put(split.label)}


def take(batch: dict, films: dict) -> dict:
  """The batch with its films: those of batch['index'] out of `films`.

  Args:
    batch: has 'index', or 'image' and 'label' already.
    films: of `on_device`; {} where the batch has its films.
  """
  if not films:
    return batch
  index = batch['index']
  return {'image': films['image'][index], 'label': films['label'][index]}


def train_batches(
  config: ConfigDict,
  split: pipeline.Split,
  mesh: jax.sharding.Mesh,
  *,
  start_step: int,
) -> Iterator[dict[str, jax.Array]]:
  """Yields the training batches from `start_step` on, without end.

  They lie over the devices, and are the same whatever config.data.cache is;
  with 'device' they hold indices, for `take`.
  """
  options = {
    'batch_size': config.train.batch_size,
    'seed': config.seed,
    'start_step': start_step,
  }
  if config.data.cache == 'device':
    for index in pipeline.index_batches(len(split.label), **options):
      part = index.reshape(jax.process_count(), -1)[jax.process_index()]
      yield sharding.shard(mesh, {'index': part})
  else:
    batches = pipeline.train_batches(split, **options, **share())
    with contextlib.closing(batches):
      for batch in batches:
        yield sharding.shard(
          mesh, {'image': batch['image'], 'label': batch['label']}
        )


class BoxedFilms(NamedTuple):
  """The films of a split that have a true box of at least one finding."""

  row: Int[np.ndarray, ' n']  # index in the split
  name: np.ndarray
  patient: Int[np.ndarray, ' n']
  label: Float[np.ndarray, 'n 8']  # of the boxed findings: 0, 1 or NaN
  # t: the most true boxes that a film has of one finding; the rest is NaN.
  truth: Float[np.ndarray, 'n 8 t 4']

  @property
  def boxed(self) -> Bool[np.ndarray, 'n 8']:
    """Whether the film has a true box of the finding."""
    return overlap.has_box(self.truth).any(axis=-1)


def boxed_films(split: pipeline.Split) -> BoxedFilms:
  """The split's boxed films, in its order, with all their true boxes."""
  rows = np.unique(split.box_image)
  film = np.searchsorted(rows, split.box_image)
  # Which box of its film and finding each one is, in the split's order.
  seen = collections.Counter()
  slot = np.zeros(len(film), np.int64)
  for i, pair in enumerate(
    zip(film.tolist(), split.box_finding.tolist(), strict=True)
  ):
    slot[i] = seen[pair]
    seen[pair] += 1
  most = slot.max(initial=0) + 1
  truth = np.full((len(rows), len(BOXED), most, 4), np.nan)
  truth[film, split.box_finding, slot] = split.box
  return BoxedFilms(
    rows,
    split.image_name[rows],
    split.patient[rows],
    split.label[rows, : len(BOXED)],
    truth,
  )
