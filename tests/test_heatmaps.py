"""The maps of a model that a config asks for."""

import jax
import jax.numpy as jnp
import numpy as np

from configs import default
from cxr import heatmaps, inference, sharding
from cxr.models import architectures
from input_pipeline.findings import FINDINGS


def test_every_branch_of_the_shuffled_network_lives():
  config = default.get_config('smoke')
  model = architectures.make_model(config.model, num_findings=len(FINDINGS))
  image = jax.random.uniform(jax.random.key(0), (2, 64, 64, 1))
  fresh = model.init(jax.random.key(1), image)
  # As after training: no array is all 0 or all 1.
  rng = np.random.default_rng(0)
  trained = jax.tree.map(
    lambda a: np.float32(a + 0.1 * np.abs(rng.normal(size=a.shape))), fresh
  )
  mesh = sharding.make_mesh(1)
  subject = inference.Subject(
    config, model, jax.device_put(trained, sharding.replicated(mesh)), mesh, {}
  )
  shuffled = heatmaps.shuffled(subject).variables

  def smallest_gradient(variables):
    def total(params):
      return model.apply(variables | {'params': params}, image)[0].sum()

    gradient = jax.grad(total)(variables['params'])
    leaves = jax.tree_util.tree_leaves_with_path(gradient)
    of_conv1 = [
      float(jnp.abs(leaf).max())
      for path, leaf in leaves
      if "['conv1']" in jax.tree_util.keystr(path) and 'layer' in str(path)
    ]
    assert len(of_conv1) >= 4
    assert np.isfinite(of_conv1).all()
    return min(of_conv1)

  # The network at its start has dead branches; it was the control once.
  assert smallest_gradient(fresh) == 0
  assert smallest_gradient(shuffled) > 0
  for a, b in zip(
    jax.tree.leaves(trained), jax.tree.leaves(shuffled), strict=True
  ):
    assert a.size < 2 or not np.array_equal(a, b)
    np.testing.assert_array_equal(np.sort(a, None), np.sort(b, None))
