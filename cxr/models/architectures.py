"""From a configuration to a model.

`config.model` has the fields arch, num_filters, num_stages, output_stride
(None: what the stages reach by striding), input_mean, input_std, dtype and
remat. The parameters do not depend on output_stride, dtype or remat.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from cxr import platforms
from cxr.models import densenet, head, layers, resnet

MODELS = {
  **dict.fromkeys(resnet.BLOCKS, resnet.ResNet),
  **dict.fromkeys(densenet.NUM_LAYERS, densenet.DenseNet),
}
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def make_model(
  config_model: Any, num_findings: int, forms: platforms.Forms = platforms.ANY
) -> layers.Network:
  """The model that a configuration describes.

  `model.init(key, image)` gives `{'params', 'batch_stats'}`;
  `model.apply(variables, image, train=False, start='image')` gives
  `(logits, endpoints)`.

  Args:
    config_model: the fields above.
    num_findings: the number of logits.
    forms: of its computations, by default those that run anywhere.

  Raises:
    ValueError: an unknown arch or dtype, or sizes that no network has.
  """
  c = config_model
  if c.arch not in MODELS:
    raise ValueError(
      f'model.arch ({c.arch}) must be one of {", ".join(MODELS)}.'
    )
  if c.dtype not in DTYPES:
    raise ValueError(
      f'model.dtype ({c.dtype}) must be one of {", ".join(DTYPES)}.'
    )
  if c.num_filters < 2 or c.num_filters % 2:
    raise ValueError(
      f'model.num_filters ({c.num_filters}) must be even and positive; 64 is '
      "torchvision's."
    )
  if not np.min(c.input_std) > 0:
    raise ValueError(f'model.input_std ({c.input_std}) must be positive.')
  grid = resnet.stage_grid(c.num_stages, c.output_stride)
  options = {
    'arch': c.arch,
    'num_findings': num_findings,
    'num_filters': c.num_filters,
    'num_stages': c.num_stages,
    'input_mean': c.input_mean,
    'input_std': c.input_std,
    'dtype': DTYPES[c.dtype],
    'remat': c.remat,
    'pooling': tuple(getattr(c, name) for name in head.FIELDS),
    'forms': forms,
  }
  if MODELS[c.arch] is resnet.ResNet:
    return resnet.ResNet(output_stride=c.output_stride, **options)
  if any(dilation > 1 for _, dilation in grid):
    raise ValueError(
      f'model.output_stride ({c.output_stride}) needs a ResNet: {c.arch} is '
      'not dilated; lower model.num_stages instead, for a stride of 4, 8, 16 '
      'or 32 with 1 to 4 stages.'
    )
  return MODELS[c.arch](**options)
