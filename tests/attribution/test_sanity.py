"""Checks of maps, on maps whose answer is known."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax import numpy as jnp

from cxr.attribution import saliency, sanity, similarity
from input_pipeline.phantom import draw, plan

RNG = np.random.default_rng(0)


def _maps(*shape):
  return RNG.normal(size=shape)


class Chain(nn.Module):
  """Its names do not sort in the order in which they are called."""

  @nn.compact
  def __call__(self, x):
    for name in ('z', 'b', 'k'):
      x = nn.Dense(4, name=name)(x)
      x = nn.BatchNorm(use_running_average=True, name=f'{name}_norm')(x)
    return nn.Dense(1, name='a')(x)


def _chain():
  init = lambda: Chain().init(jax.random.key(0), jnp.ones((1, 4)))
  return init, init()


def test_stages_from_head_are_in_the_order_of_the_calls():
  init, _ = _chain()
  stages = sanity.stages_from_head(init)
  expected = {
    'a': ['a'],
    'k': ['k_norm', 'k'],
    'b': ['b_norm', 'b'],
    'z': ['z_norm', 'z'],
  }
  assert list(stages.items()) == list(expected.items())


def test_cascade_replaces_stage_after_stage():
  _, variables = _chain()
  random = jax.tree.map(lambda x: x + 100, variables)
  steps = list(sanity.cascade(variables, random, [['a'], ['k_norm', 'k']]))
  expected = [[], ['a'], ['a', 'k_norm', 'k']]
  for step, replaced in zip(steps, expected, strict=True):
    assert jax.tree.structure(step) == jax.tree.structure(variables)
    for collection, tree in step.items():
      for name in tree:
        source = random if name in replaced else variables
        jax.tree.map(
          np.testing.assert_array_equal, tree[name], source[collection][name]
        )


def test_shuffle_keeps_the_entries_and_moves_them():
  variables = {'params': {'a': jnp.arange(60.0).reshape(3, 20)}}
  shuffled = sanity.shuffle(0, variables)['params']['a']
  assert shuffled.shape == (3, 20)
  np.testing.assert_array_equal(np.sort(shuffled.ravel()), np.arange(60))
  assert (shuffled != variables['params']['a']).mean() > 0.5


def test_cascading_randomisation_falls_where_the_map_reads_the_layer():
  pattern, other = _maps(2, 5, 5), _maps(2, 5, 5)
  variables = {'params': {'first': {'w': 1.0}, 'head': {'w': 1.0}}}
  random = {'params': {'first': {'w': 0.0}, 'head': {'w': -3.0}}}

  def map_fn(v):  # the head only scales: |map| keeps its order
    first = v['params']['first']['w']
    return v['params']['head']['w'] * (first * pattern + (1 - first) * other)

  rows = sanity.cascading_randomisation(
    map_fn, variables, random, [['head'], ['first']]
  )
  expected = similarity.correlation(np.abs(pattern), np.abs(other), rank=True)
  np.testing.assert_allclose(rows, [[1, 1], [1, 1], expected])


def test_deletion_by_hand():
  image = jnp.array([[1.0, 2.0], [3.0, 4.0]])[..., None]
  curve = sanity.deletion(jnp.sum, image, image[..., 0], num_steps=4)
  np.testing.assert_allclose(curve, [10, 6, 3, 1, 0])
  curve = sanity.deletion(jnp.sum, image, -image[..., 0], num_steps=4, chunk=2)
  np.testing.assert_allclose(curve, [10, 9, 7, 4, 0])
  curve = sanity.deletion(
    jnp.sum, image, image[..., 0], num_steps=2, baseline=1.0
  )
  np.testing.assert_allclose(curve, [10, 5, 4])


def test_insertion_goes_from_the_blurred_film_to_the_film():
  image = jax.random.uniform(jax.random.key(0), (8, 8, 1))
  score = lambda x: ((x - image) ** 2).sum()
  curve = sanity.insertion(score, image, image[..., 0], sigma=0.1, num_steps=8)
  blurred = saliency.blur(image, 0.8)
  assert curve.shape == (9,)
  assert curve[0] == pytest.approx(float(score(blurred)), rel=1e-5)
  assert curve[-1] == 0
  assert (np.diff(curve) < 0).all()


def test_a_better_map_has_the_better_areas():
  image = jnp.full((6, 6, 1), 0.1).at[2:4, 2:4].set(1.0)
  score = lambda x: jax.nn.sigmoid(8 * x[2:4, 2:4].mean() - 4)
  good = jnp.zeros((6, 6)).at[2:4, 2:4].set(1.0)
  deletion = [
    sanity.area(sanity.deletion(score, image, h, num_steps=9))
    for h in (good, -good)
  ]
  insertion = [
    sanity.area(sanity.insertion(score, image, h, sigma=0.5, num_steps=9))
    for h in (good, -good)
  ]
  assert deletion[0] < 0.2 < 0.8 < deletion[1]
  assert insertion[0] > insertion[1] + 0.4


def test_a_constant_heatmap_is_a_curve_all_the_same():
  curve = sanity.deletion(
    jnp.sum, jnp.ones((2, 2, 1)), jnp.zeros((2, 2)), num_steps=4
  )
  np.testing.assert_allclose(curve, [4, 3, 2, 1, 0])


def test_area():
  assert sanity.area(np.array([1.0, 1.0, 1.0])) == 1
  assert sanity.area(np.array([0.0, 1.0])) == 0.5
  curves = np.array([[0.0, 0, 1], [1, 0, 0]])
  np.testing.assert_allclose(sanity.area(curves), [0.25, 0.25])


def test_sameness_is_the_correlation_with_the_mean_of_the_others():
  maps = _maps(4, 5, 6, 2)
  value = sanity.sameness(maps)
  flat = maps.reshape(4, -1, 2)
  for k in range(2):
    standard = (flat[..., k] - flat[..., k].mean(1)[:, None]) / flat[
      ..., k
    ].std(1)[:, None]
    for i in range(4):
      others = np.delete(standard, i, axis=0).mean(0)
      expected = np.corrcoef(standard[i], others)[0, 1]
      assert value[i, k] == pytest.approx(expected)
  # One map at any scale.
  scaled = maps[:1] * np.arange(1, 4)[:, None, None, None] + 7
  np.testing.assert_allclose(sanity.sameness(scaled), np.ones((3, 2)))


def test_sameness_of_constants_of_one_film_and_of_nan():
  flat = np.full((3, 4, 4), 0.1)
  np.testing.assert_array_equal(sanity.sameness(flat), 1)
  mixed = np.concatenate([flat[:2], _maps(2, 4, 4)])
  value = sanity.sameness(mixed)
  np.testing.assert_array_equal(value[:2], 0)
  assert np.abs(value[2:]).min() > 0
  assert np.isnan(sanity.sameness(flat[:1])).all()
  mixed[3] = np.nan
  value = sanity.sameness(mixed)
  assert np.isnan(value).tolist() == [False, False, False, True]
  # What is left to be compared with is constant.
  np.testing.assert_array_equal(value[:3], 0)
  assert np.isnan(sanity.sameness(mixed[[3, 3]])).all()
  assert np.isnan(sanity.sameness(mixed[2:])).all()


def test_body_mask_fills_the_lungs_and_leaves_markers_out():
  image = np.zeros((64, 64, 1))
  image[8:60, 10:54] = 0.6
  image[20:40, 18:28] = image[20:40, 36:46] = 0.02  # lungs
  image[2:5, 58:62] = 1.0  # a side marker
  mask = sanity.body_mask(image)
  body = np.zeros((64, 64), bool)
  body[8:60, 10:54] = True
  assert (mask != body).mean() < 0.02
  assert mask[30, 22]
  assert not mask[3, 60]
  assert not sanity.body_mask(np.full((8, 8, 1), 0.5)).any()


@pytest.mark.parametrize('view', ['PA', 'AP'])
def test_body_mask_of_drawn_films(view):
  entries = [e for e in plan.make_plan(60) if e.view == view and e.findings][:4]
  for entry in entries:
    film = draw.draw_film(entry, image_size=64, renderings=False)
    mask = sanity.body_mask(film.image[..., None] / 255)
    # Above the shoulders is air, all that has a box is body.
    assert not mask[:3, [0, 1, 2, -3, -2, -1]].any()
    assert mask[40:, 16:48].all()
    for ymin, xmin, ymax, xmax in film.box.values():
      rows = slice(round(64 * ymin), round(64 * ymax))
      assert mask[rows, round(64 * xmin) : round(64 * xmax)].mean() > 0.98


def test_share_outside():
  maps = np.array([[[1.0, -3.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
  mask = np.array([[[True, False], [True, True]]] * 2)
  share = sanity.share_outside(maps, mask)
  assert share[0] == 0.5
  assert np.isnan(share[1])
  many = sanity.share_outside(np.stack([maps, 2 * maps], -1), mask)
  np.testing.assert_allclose(many[0], [0.5, 0.5])
  assert np.isnan(sanity.share_outside(maps, np.zeros_like(mask))).all()


def test_share_in_span():
  basis = _maps(2, 6, 6)
  inside = 3 * basis[0] - basis[1] + 5
  maps = np.stack([inside, np.ones((6, 6)), np.full((6, 6), np.nan)])
  value = sanity.share_in_span(maps, basis)
  assert value[0] == pytest.approx(1)
  assert np.isnan(value[1:]).all()
  noise = sanity.share_in_span(_maps(4000, 6, 6), basis)
  assert noise.mean() == pytest.approx(2 / 35, rel=0.05)
  both = np.stack([inside, inside + 10 * _maps(6, 6)], -1)[None]
  assert sanity.share_in_span(both, basis)[0, 1] < 0.9


def test_cause_attribution_of_a_linear_model_is_the_causal_effect():
  weight = _maps(4, 4, 3)
  logits = lambda x: np.einsum('bhwc,hwk->bk', x, weight) + 0.7
  film, without = _maps(2, 4, 4, 1), _maps(2, 4, 4, 1)
  gradient = np.broadcast_to(weight, (2, 4, 4, 3))
  np.testing.assert_allclose(
    sanity.cause_attribution(gradient, film - without),
    logits(film) - logits(without),
  )
  one = sanity.cause_attribution(gradient[..., 0], film - without)
  assert one.shape == (2,)


def test_cause_attribution_along_the_path_is_the_causal_effect():
  score = lambda x: jnp.tanh(2 * x).sum() + x[0, 0, 0] * x[1, 1, 0]
  film = jax.random.uniform(jax.random.key(0), (3, 3, 1))
  without = film.at[:2, :2].set(0.0)
  maps, _ = saliency.integrated_gradients(score, film, baseline=without)
  np.testing.assert_allclose(
    maps.sum(), score(film) - score(without), rtol=1e-4
  )


def test_bad_counts_are_named():
  image = jnp.ones((1, 2, 2, 1))
  with pytest.raises(ValueError, match='num_steps'):
    sanity.deletion(jnp.sum, image[0], jnp.ones((2, 2)), num_steps=0)


# Sparsity.


def test_gini_of_one_pixel_of_a_constant_map_and_of_a_ramp():
  one = np.zeros((1, 4, 5))
  one[0, 2, 3] = -7
  assert sanity.gini(one) == pytest.approx(1 - 1 / 20)
  assert sanity.gini(np.full((1, 4, 5), -2.0)) == pytest.approx(0, abs=1e-12)
  # Of 1, 2, ..., n it is (n - 1) / (3 n) * (n + 1) / (n + 1).
  ramp = np.arange(1.0, 21.0).reshape(1, 4, 5)
  assert sanity.gini(ramp) == pytest.approx(19 / 60)
  maps = np.random.default_rng(0).normal(size=(2, 6, 7, 3))
  found = sanity.gini(maps)
  assert found.shape == (2, 3)
  # Half of the mean difference of two pixels, over the mean.
  for b, k in np.ndindex(2, 3):
    size = np.abs(maps[b, ..., k]).ravel()
    pairs = np.abs(size[:, None] - size[None]).mean()
    assert found[b, k] == pytest.approx(pairs / (2 * size.mean()))
  np.testing.assert_allclose(sanity.gini(-1e9 * maps), found)


def test_gini_of_maps_that_are_none():
  maps = np.ones((3, 2, 2))
  maps[0], maps[1, 0, 0], maps[2, 0, 0] = 0, np.nan, np.inf
  assert np.isnan(sanity.gini(maps)).all()
