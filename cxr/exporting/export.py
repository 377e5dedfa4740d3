"""--mode=export: a run -> files that are used without this code.

  model.safetensors   the weights in torchvision's names and layouts
  model.stablehlo     the whole model as a program: films -> logits,
                      probabilities and class activation maps
  config.json         architecture, input, findings, calibration; the run's
                      config under 'run'
  README.md           how to load both, in lines that can be copied

and what `companions` lists, with which --mode=explain takes the folder in the
place of the run.

The program is what `jax.export` serializes: weights included, any batch size,
for CPU, CUDA and TPU. It computes as the model was evaluated, but that float32
products keep their precision on every platform.
"""

import json
import os
from collections.abc import Mapping, Sequence

import jax
import jax.export  # no attribute of jax until it is imported
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import linen as nn
from ml_collections import ConfigDict

from cxr import files, inference, run_files
from cxr.attribution import cam
from cxr.exporting import companions
from cxr.models import densenet, head, layers, resnet, torch_weights
from cxr.reporting import main_result, part_origin, rendering, wording
from cxr.shipped import networks
from cxr.statistics import calibration

PLATFORMS = ('cpu', 'cuda', 'tpu')
OUTPUTS = {
  'logit': 'before the sigmoid',
  'probability': 'sigmoid of the logit, not calibrated',
  'calibrated': 'calibrated on validation films; NaN where they had films of '
  'one kind only',
  'cam': 'class activation map, cell by cell: its mean over the cells plus '
  'the bias of the last layer is the logit',
}


def export(config: ConfigDict, workdir: str, output_dir: str = '') -> str:
  """Exports the workdir's checkpoint and returns the folder.

  Args:
    config: of the run.
    workdir: holds the checkpoint, and calibration.json once it is evaluated;
      or weights that were exported.
    output_dir: by default <workdir>/export.

  Raises:
    FileNotFoundError: the workdir has no checkpoint.
    ValueError: the output is the workdir.
  """
  output_dir = output_dir or os.path.join(networks.results(workdir), 'export')
  if os.path.realpath(output_dir) == os.path.realpath(workdir):
    raise ValueError(
      f'--output ({output_dir}) is the folder that is exported; give another.'
    )
  config, model, variables, step = inference.load_model(workdir, config)
  findings = run_files.read_findings(workdir)
  stored = run_files.read_calibration(
    workdir, step, config.evaluate.batch_stats
  )
  fitted = None
  if stored is None:
    logging.warning(
      'No calibration of step %d in %s: probabilities are exported as they '
      'are; run --mode=evaluate first for calibrated ones.',
      step,
      workdir,
    )
  else:
    fitted = calibration.from_json(stored['findings'], findings)
  os.makedirs(output_dir, exist_ok=True)
  in_output = lambda name: os.path.join(output_dir, name)
  torch_weights.save(
    in_output(networks.WEIGHTS), variables, config.model, findings=findings
  )
  program = make_program(model, variables, config.data.image_size, fitted)
  _write(in_output('model.stablehlo'), program.serialize())
  described = describe(config, model, program, step, stored, findings)
  described['run'] = companions.portable(config)
  elsewhere = _from_elsewhere(workdir, config)
  if elsewhere:
    described['training'] = None  # by others
  _write(
    in_output('config.json'), (json.dumps(described, indent=2) + '\n').encode()
  )
  metrics = companions.write(workdir, output_dir, config, step)
  readme = rendering.render(
    'export.md',
    **described,
    stages=_stages(config.model),
    elsewhere=elsewhere,
    blocks=densenet.NUM_LAYERS.get(config.model.arch),
    channels=int(np.size(config.model.input_mean)),
    measured=main_result.in_short(metrics),
    source=config.data.source,
    trained_on=wording.SOURCES.get(config.data.source, config.data.source),
  )
  _write(in_output('README.md'), readme.encode())
  logging.info('Done: %s', output_dir)
  return output_dir


def make_program(
  model: nn.Module,
  variables: Mapping,
  size: int,
  fitted: calibration.Fitted | None = None,
) -> jax.export.Exported:
  """The model as a program: film 'b h w 1' float32 in [0, 1] -> `OUTPUTS`.

  The model's forms must be those of any platform. 'calibrated' is left out
  where nothing was fitted.
  """
  variables = jax.tree.map(np.asarray, variables)  # constants of the program

  def program(film):
    logits, endpoints = model.apply(variables, film)
    kernel, _ = model.head(variables['params'])
    out = {
      'logit': logits,
      'probability': jax.nn.sigmoid(logits),
      'cam': cam.cam(endpoints['features'], kernel),
    }
    if fitted is not None:
      scale, bias = (
        jnp.asarray(x, jnp.float32)[None]
        for x in (1 / fitted['temperature'], fitted['bias'])
      )
      out['calibrated'] = jax.nn.sigmoid(logits * scale + bias)
    return out

  (batch,) = jax.export.symbolic_shape('b')
  film = jax.ShapeDtypeStruct((batch, size, size, 1), jnp.float32)
  with jax.default_matmul_precision('highest'):
    return jax.export.export(jax.jit(program), platforms=PLATFORMS)(film)


def describe(
  config: ConfigDict,
  model: layers.Network,
  program: jax.export.Exported,
  step: int,
  stored: Mapping | None,
  findings: Sequence[str],
) -> dict:
  """What config.json says: plain values, nothing of the machine."""
  c = config.model
  outputs = jax.tree.unflatten(program.out_tree, program.out_avals)
  stride, offset = model.cells('features')
  return {
    'name': config.name,
    'step': step,
    'arch': c.arch,
    'num_filters': c.num_filters,
    'num_stages': c.num_stages,
    'output_stride': c.output_stride,
    **{name: c[name] for name in head.FIELDS},
    'findings': list(findings),
    'input': {
      'shape': 'b h w 1',
      'height': config.data.image_size,
      'width': config.data.image_size,
      'range': [0, 1],
      'meaning': 'gray values over 255, lungs dark, bones bright; aspect '
      'ratio kept, black beside the film',
      'mean': c.input_mean,
      'std': c.input_std,
    },
    'outputs': {
      name: {'meaning': text, 'shape': list(map(str, outputs[name].shape))}
      for name, text in OUTPUTS.items()
      if name in outputs
    },
    # Cell i of 'cam' looks at pixel offset + stride * i, pixels counted from 0.
    'cells': {'stride': stride, 'offset': offset},
    'training': config.attack.to_dict()
    | {'data': config.data.source, 'loss_weighting': config.loss.weighting},
    'calibration': dict(stored) if stored else None,
    'platforms': list(PLATFORMS),
    'jax': jax.__version__,
    'intended_use': 'Research. Not a medical device, not for diagnosis.',
  }


def _from_elsewhere(workdir: str, config: ConfigDict) -> str:
  """What the network is whose weights were not trained here; '' of others."""
  if not os.path.exists(os.path.join(workdir, 'data.json')):
    return ''
  stored = run_files.read(workdir, 'data.json')
  known = 'weights_from' in stored
  return part_origin.network(config.to_dict(), stored) if known else ''


def _stages(c: ConfigDict) -> dict | None:
  """The stages of a ResNet, for the lines that build it with torchvision.

  None for a DenseNet, which torchvision builds in any width.
  """
  if c.arch not in resnet.BLOCKS:
    return None
  kind, num_blocks = resnet.BLOCKS[c.arch]
  grid = resnet.stage_grid(c.num_stages, c.output_stride)
  before = [1, *(dilation for _, dilation in grid)]
  stages = [
    {
      'filters': c.num_filters * 2**i,
      'blocks': num_blocks[i],
      'stride': stride,
      # Of the first 3x3 convolution, and of all after it.
      'dilations': [before[i], dilation],
    }
    for i, (stride, dilation) in enumerate(grid)
  ]
  is_dilated = any(dilation > 1 for _, dilation in grid)
  # torchvision's own ResNets have one width, and dilate bottlenecks only.
  built_in = c.num_filters == 64 and not (kind == 'basic' and is_dilated)
  replaced = [dilation > 1 for _, dilation in grid[1:]]
  replaced += [False] * (3 - len(replaced))
  block = {'basic': resnet.BasicBlock, 'bottleneck': resnet.Bottleneck}[kind]
  return {
    'kind': kind,
    'stages': stages,
    'features': stages[-1]['filters'] * block.expansion,
    'built_in': built_in,
    'replaced': replaced if built_in else [False] * 3,
  }


def _write(path: str, content: bytes | bytearray) -> None:
  with files.replacing(path) as temporary, open(temporary, 'wb') as f:
    f.write(content)
