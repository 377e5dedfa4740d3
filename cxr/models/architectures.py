"""From a configuration to a model, and to the linear layer at its end.

`config.model` has the fields arch, num_filters, num_stages, output_stride
(None: what the stages reach by striding), input_mean, input_std, dtype and
remat. The parameters do not depend on output_stride, dtype or remat.
"""

import math
from collections.abc import Mapping

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cxr.models import densenet, resnet

MODELS = {
  **dict.fromkeys(resnet.BLOCKS, resnet.ResNet),
  **dict.fromkeys(densenet.NUM_LAYERS, densenet.DenseNet),
}
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def make_model(config_model, num_findings: int) -> nn.Module:
  """The model that a configuration describes.

  `model.init(key, image)` gives `{'params', 'batch_stats'}`;
  `model.apply(variables, image, train=False, start='image')` gives
  `(logits, endpoints)`.

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
  if not c.input_std > 0:
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


def head(
  params: Mapping,
) -> tuple[Float[Array, 'd k'], Float[Array, ' k']]:
  """The (kernel, bias) with which logits = mean(features) @ kernel + bias."""
  linear = params['fc' if 'fc' in params else 'classifier']
  return linear['kernel'], linear['bias']


def dense(model: nn.Module) -> nn.Module:
  """The same weights on a grid twice as fine: one stride less is taken, and
  what follows is dilated (Giusti et al. 2013; DeepLab, Chen et al. 2018).

  Every second cell, from the first, has the features that it had; between them
  the network looks from where its stride had skipped. Their mean, and so the
  logits, are no longer quite those that the model learned.

  Raises:
    ValueError: the model has no stride to give up, or is not dilated.
  """
  grid = None
  if isinstance(model, resnet.ResNet):
    grid = resnet.stage_grid(model.num_stages, model.output_stride)
  if not grid or all(stride == 1 for stride, _ in grid):
    raise ValueError(
      'dense_cam needs a ResNet with a stride to turn into a dilation '
      '(model.output_stride of 8 or more); choose cam.'
    )
  stride = resnet.STEM_STRIDE * math.prod(stride for stride, _ in grid)
  return model.clone(output_stride=stride // 2)
