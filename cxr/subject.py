"""What an evaluation is about: a trained model and the films it is shown."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from cxr import sharding
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


def subset(split: pipeline.Split, num_films: int) -> np.ndarray:
  """Rows of a fixed subset, evenly spread over the split's order."""
  n = len(split.label)
  return np.unique(np.linspace(0, n - 1, min(num_films, n)).astype(np.int64))
