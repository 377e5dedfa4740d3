"""The maps of a model that a config asks for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from cxr import configuration, heatmaps, inference, sharding
from cxr.attribution import by_name
from cxr.models import architectures, resnet
from input_pipeline.findings import BOXED, FINDINGS
from tests.measures.made_subject import Linear


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


@pytest.mark.parametrize('method', by_name.METHODS)
def test_the_config_bounds_every_method(method):
  config = default.get_config()
  config.evaluate.chunk, config.evaluate.integration_steps = 3, 5
  options = heatmaps.options(config, method)
  # What it has no option for is refused.
  model = Linear()
  if method == by_name.DENSE_CAM:
    model = resnet.ResNet('resnet18', len(BOXED))
  by_name.make_attribution(model, method, **options)
  if method in by_name.SALIENCY_METHODS:
    assert options['chunk'] == 3
  whole = ('cam', by_name.DENSE_CAM)
  if method in by_name.CAM_METHODS and method not in whole:
    assert options == {'stage': 'features'}
    config.evaluate.stages = ('stage1', 'features')
    assert heatmaps.options(config, method) == {'stage': ('stage1', 'features')}
  steps = options.get('num_steps')
  assert steps == (5 if method == 'integrated_gradients' else None)


@pytest.mark.parametrize(
  'method, field, option, value',
  [
    ('smooth_grad', 'smooth_grad_samples', 'num_samples', 3),
    ('smooth_grad', 'smooth_grad_noise', 'noise', 0.2),
    ('occlusion', 'occlusion_window', 'window', 0.1),
    ('occlusion', 'occlusion_stride', 'stride', 1.0),
    ('rise', 'rise_masks', 'num_masks', 9),
    ('rise', 'rise_grid', 'grid', 5),
    ('rise', 'rise_keep', 'keep', 0.25),
    ('integrated_gradients', 'baseline', 'baseline', 'white'),
    ('occlusion', 'baseline', 'baseline', 'blurred'),
  ],
)
def test_the_config_sets_the_options_of_a_method(method, field, option, value):
  """And they are part of the key of what is made of its maps."""
  config = default.get_config()
  before = heatmaps.settings(config, method)
  config.evaluate[field] = value
  configuration.validate(config)
  assert heatmaps.options(config, method)[option] == value
  assert heatmaps.settings(config, method) == before | {option: value}
