"""Films -> probabilities of findings, maps and boxes of the probable ones.

Films go through the device in batches of one size, so that a folder of any
length needs one compilation and the memory of one batch.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jax import numpy as jnp
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict
from scipy import special

from cxr import heatmaps
from cxr.attribution import by_name
from cxr.localization import overlap, regions, thresholds
from cxr.statistics import calibration
from input_pipeline.radiograph import radiograph

# What is said of each finding of a film. 'calibrated' and 'called' are what
# the run's calibration.json makes of the logit: the calibrated probability,
# and whether the finding is called (1) or not (0) at its operating point.
KINDS = ('probability', 'calibrated', 'called')


class Interpreter(NamedTuple):
  """What makes maps and boxes of films."""

  # image 'b h w 1' in [0, 1] -> logits 'b k'; b is always batch_size
  predict: Callable[
    [Float[np.ndarray, 'b h w 1']], Float[Array | np.ndarray, 'b k']
  ]
  # image, indices of findings 'b n' -> {method: map 'b h w n'}, as they are
  # shown and as `boxes` takes them
  maps: Callable[
    [Float[np.ndarray, 'b h w 1'], Int[np.ndarray, 'b n']],
    Mapping[str, Float[Array | np.ndarray, 'b h w n']],
  ]
  # map 'h w' -> boxes 'm 4' in [0, 1]
  boxes: Callable[[Float[np.ndarray, 'h w']], Float[np.ndarray, 'm 4']]
  rule: str  # the name of `boxes`
  methods: Sequence[str]  # the keys of what `maps` returns
  findings: Sequence[str]  # the names of the k findings
  size: int  # of the images, height and width
  fit: str = 'pad'  # 'pad' | 'crop', see `radiograph.read`
  top_findings: int = 3  # the most probable ones get maps and boxes
  batch_size: int = 16
  fitted: calibration.Fitted | None = None  # of the k findings


class Interpreted(NamedTuple):
  """What is said of one film."""

  path: str
  film: radiograph.Radiograph | radiograph.RadiographError
  values: Mapping[str, Float[np.ndarray, ' k']]  # for each of KINDS; or NaN
  findings: list[dict]  # the probable ones, as `pages.write_explain` takes them


def from_run(
  config: ConfigDict,
  model: nn.Module,
  variables: Mapping,
  findings: Sequence[str],
  fitted: calibration.Fitted | None,
) -> Interpreter:
  """The interpreter that `config.explain` asks for."""
  options = config.explain
  levels_fn = thresholds.RULES[options.rule]
  predict = jax.jit(lambda variables, image: model.apply(variables, image)[0])
  return Interpreter(
    predict=lambda image: predict(variables, image),
    maps=make_maps(
      model,
      variables,
      {m: heatmaps.options(config, m) for m in options.methods},
      smooth=config.evaluate.smooth,
    ),
    boxes=lambda heatmap: regions.levels_to_boxes(heatmap, levels_fn(heatmap)),
    rule=options.rule,
    methods=options.methods,
    findings=findings,
    size=config.data.image_size,
    fit=options.fit,
    top_findings=options.top_findings,
    batch_size=options.batch_size,
    fitted=fitted,
  )


def make_maps(
  model: nn.Module | None,
  variables: Mapping | None,
  methods: Mapping[str, dict],
  *,
  smooth: float,
) -> Callable:
  """`Interpreter.maps` of a model.

  Args:
    model: the network.
    variables: its weights.
    methods: name -> options of its attribution.
    smooth: sigma of the blur of maps that are scored by their magnitude, as a
      share of their side.
  """
  attributions = {
    method: by_name.make_host_attribution(model, method, **options)
    for method, options in methods.items()
  }

  @jax.jit
  def select(maps, finding):
    return jnp.take_along_axis(maps, finding[:, None, None, :], axis=-1)

  def maps_fn(image, finding):
    # A key for each film, the same for all: a film's maps must not depend on
    # its place in the folder.
    keys = jnp.stack([jax.random.key(0)] * len(image))
    maps = {}
    for method, attribute in attributions.items():
      maps[method] = select(attribute(variables, keys, image), finding)
      # As where the maps were scored.
      if method in heatmaps.BY_MAGNITUDE:
        maps[method] = by_name.magnitude(maps[method], sigma=smooth)
    return maps

  return maps_fn


def interpret(
  interpreter: Interpreter, films: Iterable[tuple]
) -> Iterator[Interpreted]:
  """(path, film or error) of each film -> what is said of it, in order."""
  films = iter(films)
  size, batch_size = interpreter.size, interpreter.batch_size
  while batch := list(itertools.islice(films, batch_size)):
    readable = [
      film for _, film in batch if isinstance(film, radiograph.Radiograph)
    ]
    image = np.zeros((batch_size, size, size, 1), np.float32)
    for i, film in enumerate(readable):
      image[i] = film.image
    if readable:
      logits = np.asarray(interpreter.predict(image))
      values = _values(logits, interpreter.fitted)
      top = np.argsort(-logits, axis=1, kind='stable')
      top = top[:, : interpreter.top_findings]
      maps = interpreter.maps(image, top)
      maps = {method: np.asarray(m) for method, m in maps.items()}
    rows = iter(range(batch_size))
    for path, film in batch:
      if isinstance(film, radiograph.RadiographError):
        yield Interpreted(path, film, {}, [])
        continue
      i = next(rows)
      of_film = {kind: value[i] for kind, value in values.items()}
      findings = []
      for j, k in enumerate(top[i]):
        of_finding = {method: m[i, ..., j] for method, m in maps.items()}
        findings.append(_finding(interpreter, film, k, of_film, of_finding))
      yield Interpreted(path, film, of_film, findings)


def _finding(
  interpreter: Interpreter,
  film: radiograph.Radiograph,
  k: int | np.integer,
  values: Mapping[str, Float[np.ndarray, ' k']],
  maps: Mapping[str, Float[np.ndarray, 'h w']],
) -> dict:
  """One finding of a film, as `pages.write_explain` takes it."""
  return {
    'finding': interpreter.findings[k],
    **{
      kind: None if np.isnan(value[k]) else float(value[k])
      for kind, value in values.items()
    },
    'truth': [],
    'maps': maps,
    'boxes': {
      method: _on_film(film, interpreter.boxes(heatmap))
      for method, heatmap in maps.items()
    },
  }


def _on_film(
  film: radiograph.Radiograph, boxes: Float[np.ndarray, 'm 4']
) -> list[Float[np.ndarray, '4']]:
  """Without those that lie in the padding beside the film."""
  area = overlap.area(film.to_film_pixels(boxes))
  return list(np.asarray(boxes)[area > 0])


def _values(
  logits: Float[np.ndarray, 'b k'], fitted: calibration.Fitted | None
) -> dict[str, Float[np.ndarray, 'b k']]:
  """One array for each of KINDS; NaN where it is undefined."""
  values = dict.fromkeys(KINDS, np.full(logits.shape, np.nan))
  values['probability'] = special.expit(logits)
  if fitted is not None:
    values['calibrated'] = calibration.probability(logits, fitted)
    values['called'] = np.where(
      np.isnan(fitted['threshold']),
      np.nan,
      calibration.called(logits, fitted),
    )
  return values
