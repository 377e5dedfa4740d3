"""The heatmaps of a model: which methods a config asks for, run over films.

A method of attribution (cxr/attribution) knows no config and no data set; here
it gets its options from config.evaluate and the films of a split in batches.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from cxr import data, inference, platforms, sharding
from cxr.attribution import by_name, cam, sanity

# A gradient's size marks a region, its sign changes from pixel to pixel.
BY_MAGNITUDE = (
  'gradient',
  'gradient_x_input',
  'smooth_grad',
  'integrated_gradients',
)

# Options of the methods -> the fields of config.evaluate that set them.
_FIELDS = {
  'gradient_x_input': {'baseline': 'baseline'},
  'smooth_grad': {
    'num_samples': 'smooth_grad_samples',
    'noise': 'smooth_grad_noise',
  },
  'integrated_gradients': {
    'num_steps': 'integration_steps',
    'baseline': 'baseline',
  },
  'occlusion': {
    'window': 'occlusion_window',
    'stride': 'occlusion_stride',
    'baseline': 'baseline',
  },
  'rise': {
    'num_masks': 'rise_masks',
    'grid': 'rise_grid',
    'keep': 'rise_keep',
    'baseline': 'baseline',
  },
}


def options(config: ConfigDict, method: str) -> dict:
  """The options of a method of attribution, as config.evaluate has them."""
  evaluate = config.evaluate
  if method in by_name.CAM_METHODS:
    if by_name.METHODS[method] is cam.cam:
      return {}
    stages = evaluate.stages
    return {'stage': stages[0] if len(stages) == 1 else stages}
  fields = _FIELDS.get(method, {})
  chosen = {option: evaluate[field] for option, field in fields.items()}
  return chosen | {'chunk': evaluate.chunk}


def settings(config: ConfigDict, method: str, *, raw: bool = False) -> dict:
  """What moves the values of a method's maps, beside weights and films."""
  chosen = {'method': method, 'seed': config.seed, **options(config, method)}
  chosen.pop('chunk', None)  # memory alone
  if method in BY_MAGNITUDE and not raw:
    chosen['smooth'] = config.evaluate.smooth
  return chosen


def make_maps(
  subject: inference.Subject, method: str, *, raw: bool = False
) -> Callable:
  """(variables, keys 'b', image 'b h w 1') -> 'b h w k', ready to be scored.

  They are of the k findings `subject.mapped`. Each device maps its own films.
  `raw`: as the method gives them, signed.
  """
  config = subject.config
  by_magnitude = method in BY_MAGNITUDE and not raw
  return _make_maps(
    subject.model,
    subject.mesh,
    method,
    tuple(subject.mapped_columns.tolist()),
    tuple(sorted(options(config, method).items())),
    config.evaluate.smooth if by_magnitude else None,
  )


# Both are kept, so that every use of a method in a run compiles it once, and on
# one CPU raw and scored maps share it.
@functools.lru_cache(maxsize=16)
def _attribution(
  model, method: str, columns: tuple, options: tuple, from_host: bool
) -> by_name.Attribution:
  make = by_name.make_attribution
  if from_host:
    make = by_name.make_host_attribution
  return make(model, method, findings=columns, **dict(options))


@functools.lru_cache(maxsize=16)
def _make_maps(
  model,
  mesh,
  method: str,
  columns: tuple,
  options: tuple,
  smooth: float | None,
) -> Callable:
  # The host drives the passes where that is quicker: on one CPU.
  from_host = platforms.of(mesh).host_loops and mesh.size == 1
  attribute = _attribution(model, method, columns, options, from_host)
  magnitude = functools.partial(by_name.magnitude, sigma=smooth)
  if from_host:
    magnitude = jax.jit(magnitude)

  def maps(variables, keys, image, *finding):
    out = attribute(variables, keys, data.to_unit(image), *finding)
    return out if smooth is None else magnitude(out)

  return maps if from_host else sharding.each_share(mesh, maps)


class Grid(NamedTuple):
  """The cells of a method's maps, and where they look on the film.

  `stride` and `offset` in pixels: cell i looks at pixel offset + stride * i.
  """

  rows: int
  columns: int
  stride: float = 1
  offset: float = 0

  def weights(self, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Of its rows 'h u' and columns 'w v', for a film of `size` pixels."""
    place = {'stride': self.stride, 'offset': self.offset}
    return (
      cam.interpolation(self.rows, size, **place),
      cam.interpolation(self.columns, size, **place),
    )


def grids(subject: inference.Subject) -> dict[str, Grid]:
  """The grid of each method's maps, before they are enlarged to the film.

  Raises:
    ValueError: config.evaluate.stages names an endpoint the model lacks.
  """
  config, model, variables = subject.config, subject.model, subject.variables
  size = config.data.image_size

  def endpoints_of(model):
    image = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    return jax.eval_shape(lambda v, x: model.apply(v, x), variables, image)[1]

  endpoints = endpoints_of(model)
  stages = config.evaluate.stages
  unknown = [stage for stage in stages if stage not in endpoints]
  if unknown:
    raise ValueError(
      f'config.evaluate.stages ({", ".join(unknown)}) must be among the '
      f"model's endpoints: {', '.join(endpoints)}."
    )

  def grid(method):
    if method == by_name.DENSE_CAM:
      dense = model.dense()
      shape = endpoints_of(dense)['features'].shape[1:3]
      return Grid(*shape, *dense.cells('features'))
    stage = options(config, method).get('stage', 'features')
    if method not in by_name.CAM_METHODS or stage not in endpoints:
      # Maps of several stages are fused on the film's own pixels.
      return Grid(size, size)
    return Grid(*endpoints[stage].shape[1:3], *model.cells(stage))

  return {method: grid(method) for method in config.evaluate.methods}


def shuffled(subject: inference.Subject) -> inference.Subject:
  """The network with every array's entries in random order, by config.seed.

  What was learned is gone, and each array keeps its distribution. A new
  initialisation would not do: the last scale of its residual blocks is 0, and
  their branches are dead. BatchNorm's statistics are shuffled, too: they were
  learned as the weights were.
  """
  variables = sanity.shuffle(
    subject.config.seed, jax.device_get(subject.variables)
  )
  return subject._replace(
    variables=sharding.replicate(subject.mesh, variables), boxed_maps={}
  )


def compute_maps(
  subject: inference.Subject,
  maps_fn: Callable,
  rows: Int[np.ndarray, ' n'],
) -> Float[np.ndarray, 'n ...']:
  """maps_fn(variables, keys 'b', image 'b h w 1') of the test films at `rows`.

  A film's random draws depend on its row and config.seed alone.
  """
  key = jax.random.key(subject.config.seed)

  def of_films(batch):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(batch['index'])
    return maps_fn(subject.variables, keys, batch['image'])

  maps = None
  for part, of_batch in inference.computed(
    subject.mesh, of_films, subject.batches(rows)
  ):
    if maps is None:
      maps = np.empty((len(rows), *of_batch.shape[1:]), np.float32)
    maps[part] = of_batch
  return maps
