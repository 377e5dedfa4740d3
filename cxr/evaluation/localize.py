"""Weakly supervised localization: the maps of boxed films, scored.

Every film with a box is mapped for every boxed finding: a film without a box
of a finding can only earn false positives, and they count.
"""

import functools
import zlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from cxr import data, files, sharding
from cxr.attribution import by_name, cam
from cxr.localization import regions
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
CONTROLS = ('random', 'centre', 'mean_box')


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


def film_noise(
  image: str, finding: int, *, grid, size, seed: int
) -> Float[np.ndarray, 'h w']:
  """The random map of a film: the same whichever films are scored."""
  return regions.random_map(
    _seed_of(image, finding, seed), grid=grid, size=size
  )


def _seed_of(image: str, finding: int, seed: int) -> tuple[int, ...]:
  return seed, finding, zlib.crc32(image.encode())


def moved_maps(
  maps: Float[np.ndarray, 'n h w'],
  films: data.BoxedFilms,
  finding: int,
  *,
  seed: int,
) -> Float[np.ndarray, 'n h w']:
  """What a map's scores are worth without where it points."""
  return np.stack(
    [
      regions.moved_map(_seed_of(str(image), finding, seed), heatmap)
      for image, heatmap in zip(films.name, maps, strict=True)
    ]
  )


def control_maps(
  name: str, films: data.BoxedFilms, finding: int, *, grid, size, seed: int
) -> Float[np.ndarray, 'n h w']:
  """What a score is worth without looking at the film."""
  if name == 'random':
    return np.stack(
      [
        film_noise(str(image), finding, grid=grid, size=size, seed=seed)
        for image in films.name
      ]
    )
  if name == 'centre':
    return np.broadcast_to(regions.centre_map(size), (len(films.name), *size))
  boxes = regions.mean_boxes(films.truth[:, finding], films.patient)
  return np.stack(
    [
      np.zeros(size) if np.isnan(box).any() else regions.box_cover(box, size)
      for box in boxes
    ]
  )


def score(
  maps: Float[np.ndarray, 'n h w'],
  truth: Float[np.ndarray, 'n 4'],
  patient: Int[np.ndarray, ' n'],
  rules: Sequence[str],
) -> dict[str, list[dict]]:
  """`localization.score_finding`, at module level for the worker processes."""
  return regions.score_finding(maps, truth, patient, rules=tuple(rules))


def rows_of(
  films: data.BoxedFilms,
  method: str,
  by_finding: Sequence[dict[str, list[dict]]],
) -> list[dict]:
  """Rows of boxes.csv."""
  return [
    {
      'split': 'test',
      'image': str(name),
      'patient': int(patient),
      'finding': finding,
      'method': method,
      'rule': rule,
      **row,
    }
    for finding, by_rule in zip(BOXED, by_finding, strict=True)
    for rule, rows in by_rule.items()
    for name, patient, row in zip(films.name, films.patient, rows, strict=True)
  ]


KINDS = ('best', 'median', 'worst', 'typical')


def choose_examples(
  films: data.BoxedFilms, ious: Float[np.ndarray, 'n 8']
) -> list[tuple[int, int, str]]:
  """(film, finding, kind) by rule, none by hand.

  best, median, worst: by the IoU of this run's first method. typical: the film
  whose true box has the finding's median area, so the same in every run.
  """
  chosen = []
  for finding in range(len(BOXED)):
    boxed = np.flatnonzero(regions.has_box(films.truth[:, finding]))
    if not len(boxed):
      continue
    area = regions.area(films.truth[boxed, finding])
    # Ties go by name, so that the choice does not hang on the order of films.
    by_iou = boxed[np.lexsort((films.name[boxed], ious[boxed, finding]))]
    by_area = boxed[np.lexsort((films.name[boxed], area))]
    middle = len(boxed) // 2
    films_of_kind = by_iou[-1], by_iou[middle], by_iou[0], by_area[middle]
    chosen += [
      (int(film), finding, kind)
      for film, kind in zip(films_of_kind, KINDS, strict=True)
    ]
  return chosen


def save_examples(
  path: str,
  films: data.BoxedFilms,
  split,
  chosen,
  maps: dict[str, dict[int, np.ndarray]],
  logits: Float[np.ndarray, 'n k'],
) -> None:
  """examples.npz: what the gallery shows."""
  film = np.array([c[0] for c in chosen], np.int64)
  finding = np.array([c[1] for c in chosen], np.int64)
  arrays = {
    'image': split.image[films.row[film]][..., 0],
    'name': films.name[film].astype(str),
    'finding': np.array(BOXED)[finding],
    'kind': np.array([c[2] for c in chosen]),
    'probability': 1 / (1 + np.exp(-logits[films.row[film], finding])),
    'truth': films.truth[film, finding],
  } | {
    f'map_{method}': np.stack(
      [of_film[i][..., j] for i, j in zip(film, finding, strict=True)]
    )
    for method, of_film in maps.items()
  }
  with files.replacing(path, '.npz') as temporary:
    np.savez_compressed(temporary, **arrays)


def to_plain(rows: list[dict]) -> list[dict]:
  """Rows for a part file: arrays as lists, NaN as None."""

  def plain(value):
    if isinstance(value, np.ndarray):
      return value.tolist()
    if isinstance(value, float) and np.isnan(value):
      return None
    return value.item() if isinstance(value, np.generic) else value

  return [{name: plain(v) for name, v in row.items()} for row in rows]


def from_plain(rows: list[dict]) -> list[dict]:
  """The inverse of `to_plain`."""
  for row in rows:
    row['boxes'] = np.asarray(row['boxes'], np.float64).reshape(-1, 4)
    for name in regions.SCORES:
      row[name] = np.nan if row[name] is None else row[name]
    if row['truth'] is not None:
      row['truth'] = np.asarray(row['truth'], np.float64)
  return rows
