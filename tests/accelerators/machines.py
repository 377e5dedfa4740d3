"""Machines that may be elsewhere, and what lies in their memory, as shapes.

XLA makes a program for devices that it is told of; none has to be there. A TPU
needs the package libtpu, a GPU jax's CUDA plugin; docs/scale.md says how to
get them.
"""

import functools
import importlib.util
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType

from configs import robust
from cxr import inference, sharding, train_state
from cxr.training import setup
from input_pipeline import pipeline
from input_pipeline.findings import FINDINGS

# Else it looks for a TPU in the machine, and a lock file keeps out others.
_LIBTPU = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}
# A TPU's compiler then places no arrays in the chip's own memory, which took it
# 65 of 79 seconds for a step of the small network. The kernels, the loops and
# what crosses devices are the same (test_training.py compares them).
QUICKLY = {'exec_time_optimization_effort': -1.0}
_H100 = pathlib.Path(__file__).with_name('h100.txtpb')
_PACKAGES = {'tpu': 'libtpu', 'gpu': 'jax_plugins.xla_cuda13'}


def missing(platform: str) -> str:
  """Why no program is made for a platform here; '' where one is.

  Those for CPU devices take minutes of compiling, which the usual suite has
  not: they are made where programs for accelerators are, or if asked for.
  """
  if platform == 'cpu':
    asked = 'CPU_PROGRAMS' in os.environ
    if asked or not all(map(missing, _PACKAGES)):
      return ''
    return 'it takes minutes; ask for it with CPU_PROGRAMS=1 (docs/scale.md)'
  package = _PACKAGES.get(platform)
  try:
    there = package is None or importlib.util.find_spec(package) is not None
  except ModuleNotFoundError:
    there = False
  return '' if there else f'{package} is not installed (docs/scale.md)'


@functools.cache
def mesh(platform: str, num_devices: int) -> jax.sharding.Mesh:
  """Of so many v5e chips (of eight), H100s, or virtual CPU devices."""
  if platform == 'cpu':
    devices = jax.devices()
  elif platform == 'tpu':
    os.environ |= _LIBTPU
    devices = topologies.get_topology_desc(
      platform='tpu', topology_name='v5e:2x4'
    ).devices
  else:
    devices = topologies.get_topology_desc(
      platform='cuda',
      topology=f'1x1x{num_devices}',
      target_config=_H100.read_text(),
    ).devices
  return jax.make_mesh(
    (num_devices,),
    ('data',),
    axis_types=(AxisType.Auto,),
    devices=devices[:num_devices],
  )


def is_tpu(mesh: jax.sharding.Mesh) -> bool:
  return mesh.devices.flat[0].platform == 'tpu'


def small_config(**fields):
  """A ResNet of few channels on small films: what a program is made of does not
  depend on its size."""
  config = robust.get_config('smoke')
  config.data.image_size = 32
  config.model.num_filters = 8
  config.model.num_stages = 1
  config.model.output_stride = 4
  config.model.dtype = 'bfloat16'
  config.evaluate.smooth_grad_samples = 8
  config.evaluate.integration_steps = 8
  config.evaluate.rise_masks = 16
  config.evaluate.num_steps = config.evaluate.queries = 3
  config.evaluate.chunk = 4
  config.update_from_flattened_dict(fields)
  return config


# A split of two films; programs are made from its findings and labels.
_FILMS = pipeline.Split(
  name='test',
  image=np.zeros((2, 32, 32, 1), np.uint8),
  label=np.eye(2, len(FINDINGS), dtype=np.float32),
  image_name=np.array(['a.png', 'b.png']),
  patient=np.arange(2),
  view=np.full(2, 'PA'),
  age=np.full(2, 50.0),
  sex=np.full(2, 'F'),
  box=np.zeros((0, 4)),
  box_image=np.zeros(0, np.int64),
  box_finding=np.zeros(0, np.int64),
)


def make_setup(config, mesh) -> setup.Setup:
  return setup.make_setup(config, _FILMS, mesh)


def subject_of(made: setup.Setup) -> inference.Subject:
  splits = {'test': _FILMS}
  return inference.Subject(made.config, made.model, None, made.mesh, splits)


def state_of(made: setup.Setup) -> train_state.TrainState:
  """The shapes of a training's state, whole on every device."""
  config = made.config
  image = jnp.zeros((1, *(config.data.image_size,) * 2, 1))
  state = jax.eval_shape(
    lambda key: train_state.create(
      made.model,
      made.tx,
      key,
      image,
      separate_batch_stats=config.attack.separate_batch_stats,
      average=config.train.ema > 0,
    ),
    jax.random.key(0),
  )
  return _lying(state, sharding.replicated(made.mesh))


def batch_of(made: setup.Setup, num_films: int, dtype=jnp.uint8) -> dict:
  """The shapes of so many films, each device with its share."""
  size = made.config.data.image_size
  batch = {
    'key': jax.eval_shape(
      lambda: jax.random.split(jax.random.key(0), num_films)
    ),
    'image': jax.ShapeDtypeStruct((num_films, size, size, 1), dtype),
    'label': jax.ShapeDtypeStruct((num_films, len(FINDINGS)), jnp.float32),
    'heatmap': jax.ShapeDtypeStruct((num_films, size, size), jnp.float32),
    'finding': jax.ShapeDtypeStruct((num_films,), jnp.int32),
  }
  return _lying(batch, sharding.over_data(made.mesh))


def _lying(tree, sharding_):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding_), tree
  )
