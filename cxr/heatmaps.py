"""The heatmaps of a model: which methods a config asks for, run over films.

A method of attribution (cxr/attribution) knows no config and no data set; here
it gets its options from config.evaluate and the films of a split in batches.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from cxr import data, sharding
from cxr.attribution import by_name, cam
from cxr.models import architectures
from input_pipeline import pipeline
from input_pipeline.findings import BOXED

# A gradient's size marks a region, its sign changes from pixel to pixel.
BY_MAGNITUDE = (
  'gradient',
  'gradient_x_input',
  'smooth_grad',
  'integrated_gradients',
)


def options(config: ConfigDict, method: str) -> dict:
  """What config.evaluate says of a method of attribution."""
  e = config.evaluate
  if method in by_name.CAM_METHODS:
    if by_name.METHODS[method] is cam.cam:
      return {}
    return {'stage': e.stages[0] if len(e.stages) == 1 else e.stages}
  found = {'chunk': e.chunk}
  if method == 'integrated_gradients':
    found['num_steps'] = e.integration_steps
  return found


def make_maps(
  config: ConfigDict, model, method: str, *, raw: bool = False
) -> Callable:
  """(variables, keys 'b', image 'b h w 1') -> 'b h w 8', ready to be scored.

  `raw`: as the method gives them, signed.
  """
  by_magnitude = method in BY_MAGNITUDE and not raw
  return _make_maps(
    model,
    method,
    tuple(sorted(options(config, method).items())),
    config.evaluate.smooth if by_magnitude else None,
  )


# Both are kept, so that every use of a method in a run compiles it once, and on
# one CPU raw and scored maps share it.
@functools.lru_cache(maxsize=16)
def _attribution(model, method: str, options: tuple) -> by_name.Attribution:
  return by_name.make_attribution(
    model, method, findings=range(len(BOXED)), **dict(options)
  )


@functools.lru_cache(maxsize=16)
def _make_maps(
  model, method: str, options: tuple, smooth: float | None
) -> Callable:
  attribute = _attribution(model, method, options)

  def maps(variables, keys, image):
    out = attribute(variables, keys, data.to_unit(image))
    return out if smooth is None else by_name.magnitude(out, sigma=smooth)

  # On one CPU the parts are jitted one by one: see saliency.py on loops.
  if jax.default_backend() == 'cpu' and jax.process_count() == 1:
    return maps
  return jax.jit(maps)


def map_sizes(config, model, variables) -> dict[str, tuple[int, int]]:
  """Cells of each method's map, before it is enlarged to the film.

  Raises:
    ValueError: config.evaluate.stages names an endpoint the model lacks.
  """
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
    if method not in by_name.CAM_METHODS:
      return size, size
    if method == by_name.DENSE_CAM:
      return endpoints_of(architectures.dense(model))['features'].shape[1:3]
    stage = options(config, method).get('stage', 'features')
    # Maps of several stages are fused on the film's own grid.
    return endpoints[stage].shape[1:3] if stage in endpoints else (size, size)

  return {method: grid(method) for method in config.evaluate.methods}


def compute_maps(
  maps_fn: Callable, variables, key, mesh, split, rows, *, batch_size: int
) -> Float[np.ndarray, 'n h w 8']:
  """The maps of the split's `rows`; a film's draws depend on its row alone."""
  out = None
  for batch in pipeline.eval_batches(
    split, batch_size=batch_size, index=rows, **data.share()
  ):
    batch = sharding.shard(mesh, batch)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(batch['index'])
    maps = sharding.to_host(maps_fn(variables, keys, batch['image']))
    mask = sharding.to_host(batch['mask'])
    if out is None:
      out = np.empty((len(rows), *maps.shape[1:]), np.float32)
    out[np.searchsorted(rows, sharding.to_host(batch['index'])[mask])] = maps[
      mask
    ]
  return out
