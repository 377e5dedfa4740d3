"""What an evaluation is about: a trained model and the films it is shown."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from cxr import data, sharding
from input_pipeline import pipeline


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
