"""What an evaluation is about: a trained model and the films it is shown."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import SingleDeviceSharding
from ml_collections import ConfigDict

from cxr import checkpoint, data, run_files, sharding, train_state
from cxr.models import architectures
from input_pipeline import pipeline
from input_pipeline.findings import FINDINGS


class Subject(NamedTuple):
  """Closed over by every measurement; `variables` lie on all of `mesh`."""

  config: ConfigDict
  model: nn.Module
  variables: Any
  mesh: jax.sharding.Mesh
  splits: Mapping[str, pipeline.Split]

  @property
  def test(self) -> pipeline.Split:
    return self.splits['test']

  @property
  def batch_size(self) -> int:
    return sharding.round_up(self.mesh, self.config.evaluate.batch_size)

  def films(self, num_films: int) -> np.ndarray:
    """Rows of the test split: `num_films` evenly spread over it; 0: all."""
    return subset(self.test, num_films or len(self.test.label))

  def batches(
    self, rows: np.ndarray, batch_size: int
  ) -> Iterator[tuple[np.ndarray, np.ndarray, dict]]:
    """(places in `rows`, mask, batch on the mesh) of ascending test `rows`.

    What is computed of the batch, host[mask], belongs to rows[places].
    """
    for batch in pipeline.eval_batches(
      self.test, batch_size=batch_size, index=rows, **data.share()
    ):
      batch = sharding.shard(self.mesh, batch)
      mask = sharding.to_host(batch['mask'])
      index = sharding.to_host(batch['index'])[mask]
      yield np.searchsorted(rows, index), mask, batch


def subset(split: pipeline.Split, num_films: int) -> np.ndarray:
  """Rows of a fixed subset, evenly spread over the split's order."""
  n = len(split.label)
  return np.unique(np.linspace(0, n - 1, min(num_films, n)).astype(np.int64))


def make_predict(model, mesh) -> Callable:
  """(variables, image uint8 or float 'b h w 1') -> logits 'b k', everywhere."""

  def predict(variables, image):
    return model.apply(variables, data.to_unit(image))[0]

  return jax.jit(predict, out_shardings=sharding.replicated(mesh))


def predict_split(
  predict, variables, mesh, split, *, batch_size, index=None, attack=None
) -> np.ndarray:
  """Logits 'n k' of a split's films (or of `index`), each film once.

  `attack(variables, index 'b', image, label) -> image` comes before the model.
  """
  rows = np.arange(len(split.label)) if index is None else np.asarray(index)
  logits = np.full((len(rows), split.label.shape[1]), np.nan, np.float32)
  place = np.zeros(len(split.label), np.int64)
  place[rows] = np.arange(len(rows))
  for batch in pipeline.eval_batches(
    split, batch_size=batch_size, index=rows, **data.share()
  ):
    batch = sharding.shard(mesh, batch)
    image = batch['image']
    if attack is not None:
      image = attack(variables, batch['index'], image, batch['label'])
    mask = sharding.to_host(batch['mask'])
    out = np.asarray(predict(variables, image))
    logits[place[sharding.to_host(batch['index'])[mask]]] = out[mask]
  return logits


def by_index(attack: Callable, key, **options) -> Callable:
  """(variables, index 'b', image, label) -> image: draws hang on the film."""

  def attack_by_index(variables, index, image, label):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
    return attack(variables, keys, data.to_unit(image), label, **options)

  return attack_by_index


def load_model(workdir: str, config: ConfigDict | None = None):
  """A trained model: (config, model, variables, step).

  Raises FileNotFoundError where the workdir has no run or no checkpoint.
  """
  config = config or run_files.read_config(workdir)
  model = architectures.make_model(config.model, num_findings=len(FINDINGS))
  saver = checkpoint.checkpointer(workdir, best_metric=config.train.best_metric)
  step = checkpoint.step_of(
    saver, config.evaluate.checkpoint, best_metric=config.train.best_metric
  )
  if step is None:
    raise FileNotFoundError(
      f'No checkpoint in {workdir}; run --mode=train first.'
    )
  checkpoint._check_made_for(saver, step, config, workdir)
  # As it was saved, but here: the devices it came from may be others.
  here = SingleDeviceSharding(jax.local_devices()[0])
  with checkpoint._told(saver, step, workdir):
    abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
      saver.metadata(step).metadata,
    )
    stored = saver.load(step, abstract)
  saver.close()
  state = train_state.TrainState(
    **{
      f.name: stored.get(f.name)
      for f in dataclasses.fields(train_state.TrainState)
    }
  )
  variables = train_state.variables(
    state, batch_stats=config.evaluate.batch_stats
  )
  return config, model, variables, step
