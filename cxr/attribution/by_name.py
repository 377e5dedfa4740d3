"""Maps of a batch of films, by the name of a method.

  attribution = jax.jit(make_attribution(model, 'smooth_grad', num_samples=16))
  maps = attribution(variables, key, image)  # 'b h w 1' -> 'b h w k'

Maps are raw: signed, unscaled, in the units of their method (see cam.py and
saliency.py); `positive` and `magnitude` prepare them for localization and
display. `key` is one key, split over the batch, or an array of b keys, one per
image: then an image's map depends neither on its batch nor on its place in it.

`make_attribution` makes a pure function, to be jitted by the caller.
`make_host_attribution` makes the same maps for callers outside of `jit`: it
compiles what it needs once and drives the loops from the host, which is
quicker on a CPU (see `passes`). Make it once and call it often.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, PyTree

from cxr.attribution import cam, passes, saliency

Maps = Float[Array, 'b h w k']
# (variables, key, image 'b h w 1', finding 'b' or nothing) -> maps
Attribution = Callable[..., Maps]


@runtime_checkable
class Model(Protocol):
  """What is asked of a network.

  For 'dense_cam' it also has `dense()`, which returns the network of the same
  weights whose grid is twice as fine.
  """

  def apply(
    self, variables: PyTree, x: Array, *, start: str = 'image'
  ) -> tuple[Float[Array, 'b k'], Mapping[str, Array]]:
    """(logits, endpoints) of images, or of the endpoint that `start` names."""

  def head(
    self, params: Mapping
  ) -> tuple[Float[Array | np.ndarray, 'd k'], Float[Array | np.ndarray, ' k']]:
    """(kernel, bias): logits = mean(endpoints['features']) @ kernel + bias."""

  def cells(self, endpoint: str) -> tuple[float, float]:
    """(stride, offset): cell i looks at pixel offset + stride * i."""


# The CAM of the same weights on a grid twice as fine, by dilation in place of
# stride: every second cell of it is the CAM's own.
DENSE_CAM = 'dense_cam'
CAM_METHODS = {
  'cam': cam.cam,
  DENSE_CAM: cam.cam,
  'grad_cam': cam.grad_cam,
  'grad_cam_plus_plus': cam.grad_cam_plus_plus,
  'hires_cam': cam.hires_cam,
  'layer_cam': cam.layer_cam,
}
SALIENCY_METHODS = {
  'gradient': saliency.gradient,
  'gradient_x_input': saliency.gradient_x_input,
  'smooth_grad': saliency.smooth_grad,
  'integrated_gradients': saliency.integrated_gradients,
  'occlusion': saliency.occlusion,
  'rise': saliency.rise,
}
METHODS = {**CAM_METHODS, **SALIENCY_METHODS}
# Options of functions that are set here, not by the caller.
_OURS = {'from_host'}


def make_attribution(
  model: Model,
  method: str,
  *,
  findings: Sequence[int] | None = None,
  native: bool = False,
  **options: Any,
) -> Attribution:
  """Returns attribution(variables, key, image 'b h w 1') -> 'b h w k'.

  With a fourth argument, `finding` 'b', it maps each image for that one of the
  k findings alone, 'b h w 1': as many gradients as maps.

  Args:
    model: the network; see `Model`.
    method: a name of `METHODS`.
    findings: indices of the findings wanted, in this order; all where None.
    native: leave the maps of the CAM family on their own grid, 'b u v k'; else
      they are enlarged to the film, every cell where it looks.
    **options: those of the function in cam.py or saliency.py, by keyword.
      `baseline` may also be a name of `saliency.BASELINES`. `chunk` bounds the
      memory: samples a pass, or images a pass for the methods that do not
      sample. The CAM family but 'cam' and 'dense_cam' has `stage`, an endpoint
      (default 'features'), or a sequence of endpoints to fuse, as LayerCAM
      does.

  Raises:
    ValueError: on an unknown method or option, or options that contradict.
  """
  return _make(model, method, findings, native, options, from_host=False)


def make_host_attribution(
  model: Model,
  method: str,
  *,
  findings: Sequence[int] | None = None,
  native: bool = False,
  **options: Any,
) -> Attribution:
  """As `make_attribution`, driven from the host: not to be jitted."""
  return _make(model, method, findings, native, options, from_host=True)


def _make(model, method, findings, native, options, *, from_host):
  _check(method, native, options)
  if method == DENSE_CAM:
    model = model.dense()
  if findings is not None:
    findings = jnp.asarray(findings)
  function = METHODS[method]
  if method in CAM_METHODS:
    maps_fn = _make_cam(model, function, findings, native, **options)
    maps_fn = jax.jit(maps_fn) if from_host else maps_fn
  else:
    maps_fn = _make_saliency(model, function, findings, from_host, **options)

  def attribution(variables, key, image, finding=None):
    keys = key if key.ndim else jax.random.split(key, len(image))
    own = () if finding is None else (finding,)
    return maps_fn(variables, keys, image, *own)

  return attribution


def _check(method, native, options):
  if method not in METHODS:
    raise ValueError(
      f'Unknown attribution method {method!r}; choose from'
      f' {", ".join(METHODS)}.'
    )
  known = _options(METHODS[method]) - _OURS
  if method not in CAM_METHODS:
    known |= {'chunk'}
  elif METHODS[method] is not cam.cam:
    known |= {'stage'}
  unknown = sorted(options.keys() - known)
  if unknown:
    raise ValueError(
      f'{method} has no option {", ".join(unknown)}; it has'
      f' {", ".join(sorted(known))}.'
    )
  if native and method not in CAM_METHODS:
    raise ValueError(
      f'native=True keeps the grid of a CAM, and {method} has none: leave it '
      'out.'
    )


def positive(maps: Float[Array, '*shape']) -> Float[Array, '*shape']:
  """Evidence for the finding only: negative values become 0.

  Examples:
    >>> positive(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
  """
  return jax.nn.relu(maps)


def magnitude(maps: Maps, *, sigma: float = 0.02) -> Maps:
  """|map|, blurred by a Gaussian of `sigma` image heights (0: not at all).

  A gradient changes sign from pixel to pixel; its size marks a region.

  Examples:
    >>> magnitude(jnp.full((1, 2, 2, 1), -3.0)).ravel().tolist()
    [3.0, 3.0, 3.0, 3.0]
  """
  sigma = sigma * maps.shape[1]
  return jax.vmap(lambda x: saliency.blur(x, sigma))(jnp.abs(maps))


def _make_cam(model, method, findings, native, *, stage='features', **options):
  fused = not isinstance(stage, str)

  def maps_fn(variables, keys, image, finding=None):
    del keys
    maps = of_all(variables, image)
    if finding is None:
      return maps
    # The passes through the network are shared by all findings.
    own = jnp.expand_dims(finding, (1, 2, 3))
    return jnp.take_along_axis(maps, own, axis=-1)

  def of_all(variables, image):
    _, endpoints = model.apply(variables, image)
    if method is cam.cam:
      kernel, _ = model.head(variables['params'])
      maps = cam.cam(
        endpoints['features'], _select(kernel, findings), **options
      )
      return maps if native else on_film(maps, 'features', image)
    if fused:
      return cam.fuse(
        [
          on_film(at_stage(variables, endpoints, name), name, image)
          for name in stage
        ]
      )
    maps = at_stage(variables, endpoints, stage)
    return maps if native else on_film(maps, stage, image)

  def on_film(maps, endpoint, image):
    stride, offset = model.cells(endpoint)
    return cam.enlarge(maps, image.shape[1:3], stride=stride, offset=offset)

  def at_stage(variables, endpoints, name):
    if name not in endpoints:
      raise ValueError(
        f'The model has no stage {name!r}; it has {", ".join(endpoints)}.'
      )

    def head_fn(features):
      logits, _ = model.apply(variables, features, start=name)
      return _select(logits, findings)

    return method(head_fn, endpoints[name], **options)

  return maps_fn


def _make_saliency(
  model, method, findings, from_host, *, baseline=None, **options
):
  make_baseline = _make_baseline(baseline)
  samples = 'chunk' in _options(method)
  chunk = 1 if samples else options.pop('chunk', 8)
  if 'from_host' in _options(method):
    options['from_host'] = from_host

  def logits_fn(variables, finding, image):
    logits, _ = model.apply(variables, image[None])
    return _select(_select(logits[0], findings), finding)

  def one_image(variables, key_image_and_finding):
    key, image, finding = key_image_and_finding
    arguments = {
      'score_fn': Partial(logits_fn, variables, finding),
      'image': image,
    }
    if 'key' in inspect.signature(method).parameters:
      arguments['key'] = key
    if baseline is not None:
      arguments['baseline'] = make_baseline(image)
    maps = method(**arguments, **options)
    return maps[0] if method is saliency.integrated_gradients else maps

  def maps_fn(variables, keys, image, finding=None):
    fn = Partial(one_image, variables)
    xs = keys, image, None if finding is None else finding[:, None]
    if samples and from_host:
      # It compiles its own passes: image by image.
      images = range(len(image))
      return jnp.stack([fn(jax.tree.map(itemgetter(i), xs)) for i in images])
    return passes.map_chunks(fn, xs, chunk=chunk, from_host=from_host)

  return maps_fn


def _make_baseline(baseline):
  if not isinstance(baseline, str):
    return lambda image: jnp.full_like(image, baseline)
  if baseline not in saliency.BASELINES:
    raise ValueError(
      f'Unknown baseline {baseline!r}; choose from'
      f' {", ".join(saliency.BASELINES)}, or give a number.'
    )
  return saliency.BASELINES[baseline]


def _options(function):
  return {
    name
    for name, parameter in inspect.signature(function).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
  }


def _select(x, findings):
  return x if findings is None else x[..., findings]
