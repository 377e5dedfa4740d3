"""From features to logits: how the cells of a film become its logit.

Every cell has a logit of its own, `features @ kernel + bias`, which less the
bias is the class activation map. A film's logit is pooled from them.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

KINDS = ('mean', 'lse', 'top')
# Of config.model.
FIELDS = ('pooling', 'pooling_sharpness', 'pooling_share')


def pool(
  cells: Float[Array, 'b u v k'],
  kind: str,
  *,
  sharpness: float = 4.0,
  share: float = 0.1,
) -> Float[Array, 'b k']:
  """A film's logits from those of its cells.

  Args:
    cells: a logit of each cell and finding.
    kind: 'mean'; 'lse', log(mean(exp(r cells))) / r, by which Wang et al. 2017
      pool features; 'top', the mean of the highest cells.
    sharpness: r of 'lse': the mean as it goes to 0, the maximum as it grows.
    share: of the cells, which 'top' takes; at least one.

  Examples:
    >>> cells = jnp.array([0.0, 0.0, 2.0, 4.0]).reshape(1, 2, 2, 1)
    >>> [pool(cells, kind, share=0.5).item() for kind in ('mean', 'top')]
    [1.5, 3.0]
    >>> round(pool(cells, 'lse', sharpness=1.0).item(), 3)
    2.772
  """
  if kind == 'mean':
    return cells.mean((1, 2))
  b, u, v, k = cells.shape
  cells = cells.reshape(b, u * v, k)
  if kind == 'lse':
    summed = jax.nn.logsumexp(sharpness * cells, axis=1)
    return (summed - jnp.log(u * v)) / sharpness
  highest = max(1, round(share * u * v))
  values, _ = jax.lax.top_k(cells.swapaxes(1, 2), highest)
  return values.mean(-1)


def pool_and_classify(
  features: Float[Array, 'b u v d'],
  num_findings: int,
  *,
  name: str,
  pooling: tuple[str, float, float] = ('mean', 4.0, 0.1),
) -> Float[Array, 'b k']:
  """One linear layer and `pool`; call it inside a module.

  `pooling`: kind, sharpness and share.
  """
  kind, sharpness, share = pooling
  classify = nn.Dense(num_findings, precision='highest', name=name)
  if kind == 'mean':
    # The same number from a product that is u v times as small.
    return classify(features.mean((1, 2)))
  return pool(classify(features), kind, sharpness=sharpness, share=share)
