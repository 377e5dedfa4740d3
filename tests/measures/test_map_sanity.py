"""Measures of maps, on a linear model whose maps are its weights."""

import types

import numpy as np
import pytest
from flax import linen as nn

from configs import default
from cxr import configuration, heatmaps
from cxr.attribution import by_name
from cxr.measures import map_sanity, measure_table, over_films
from cxr.models import resnet
from input_pipeline.findings import BOXED, FINDINGS
from input_pipeline.phantom import draw
from tests.measures.made_subject import (
  SIZE,
  Linear,
  N,
  by_key,
  films,
  labels,
  make_subject,
  split,
  taken,
  weights,
)

# Maps as they are.


def test_one_map_for_every_film_is_the_same_map_and_a_warning():
  found = taken('maps', make_subject(weights()))
  assert found[1].image.tolist() == [f'{i:03d}.png' for i in range(N)]
  np.testing.assert_allclose(
    by_key(found)['sameness', 'gradient', ''], np.ones((N, len(BOXED)))
  )
  figures = measure_table.estimates(found, num_resamples=10, seed=0)
  (sentence,) = map_sanity.warnings(figures)
  assert sentence.startswith('gradient is nearly one map for every film')
  assert all(finding in sentence for finding in BOXED)
  figures['sameness']['gradient'][''] = dict.fromkeys(BOXED, {'value': 0.9})
  assert not map_sanity.warnings(figures)


def test_share_outside_the_body():
  kernel = np.zeros((SIZE, SIZE, len(FINDINGS)))
  kernel[10:20, 10:20] = -2  # in the body
  kernel[:2, :5, 0] = 30  # in the air
  kernel[:, :, 1] = 0
  found = by_key(taken('maps', make_subject(kernel)))
  value = found['outside_body', 'gradient', '']
  np.testing.assert_allclose(value[:, 0], 0.6)
  assert np.isnan(value[:, 1]).all()
  assert not value[:, 2:].any()
  uniform = found['outside_body', 'uniform', '']
  np.testing.assert_allclose(uniform, 1 - (32 / SIZE) ** 2, atol=0.03)


def test_the_same_on_several_devices_and_in_other_batches():
  kernel, splits = weights(), {'test': split('test', films(), labels(*[0] * N))}
  one, four = (
    by_key(taken('maps', make_subject(kernel, splits, **options)))
    for options in ({'mesh': 1, 'batch_size': 5}, {'mesh': 4})
  )
  for key, value in one.items():
    np.testing.assert_allclose(value, four[key], rtol=1e-5)


@pytest.mark.parametrize(('steps', 'complete'), [(1, False), (64, True)])
def test_completeness_gap_of_integrated_gradients(steps, complete):
  class Square(Linear):
    @nn.compact
    def __call__(self, x, train=False, start='image'):
      logits = nn.Dense(len(FINDINGS), name='fc')(x.reshape(len(x), -1))
      return logits**4, {'features': x}

  subject = make_subject(
    weights(),
    methods=('integrated_gradients',),
    integration_steps=steps,
    measure_films=2,
  )
  found = taken('maps', subject._replace(model=Square()))
  gap = by_key(found)['completeness_gap', 'integrated_gradients', '']
  assert gap.shape == (2, 1)
  # One step of Gauss-Legendre: 4 (1/2)^3 = 1/2 of the change.
  np.testing.assert_allclose(gap, 0.0 if complete else 0.5, atol=1e-4)
  warned = [
    'integration_steps' in sentence
    for sentence in map_sanity.warnings(
      measure_table.estimates(found, num_resamples=10, seed=0)
    )
  ]
  assert any(warned) != complete


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


def test_sparsity_of_one_pixel_and_of_all():
  kernel = np.zeros((SIZE, SIZE, len(FINDINGS)))
  kernel[10, 10, 0] = -2
  kernel[:, :, 1] = 3
  found = by_key(taken('maps', make_subject(kernel)))
  value = found['sparsity', 'gradient', '']
  np.testing.assert_allclose(value[:, 0], 1 - 1 / SIZE**2)
  np.testing.assert_allclose(value[:, 1], 0, atol=1e-9)
  assert np.isnan(value[:, 2:]).all()


# Many maps of a film.


def test_shuffled_weights_leave_nothing_of_the_map():
  subject = make_subject(weights(), sanity_films=3)
  (found,) = taken('randomisation', subject)
  assert found.key == ('randomisation', 'gradient', 'fc')
  assert found.value.shape == (3, len(BOXED))
  assert np.abs(found.value).max() < 0.1


def test_spread_takes_an_equal_share_of_each_finding():
  wanted = np.zeros((20, 3), bool)
  wanted[:, 0] = wanted[4, 1] = True
  row, column = over_films.spread(wanted, 9)
  assert column.tolist() == [0, 0, 0, 1]
  assert row.tolist() == [0, 10, 19, 4]
  row, column = over_films.spread(wanted, 0)
  assert np.bincount(column).tolist() == [20, 1]
  assert not len(over_films.spread(wanted[:0], 9)[0])


# Causes.


@pytest.fixture(scope='module')
def caused():
  """Films with one finding each, and the same without a cause."""
  base = np.full((4, SIZE, SIZE, 1), 100)
  finding = [0, 1, 1, 12]
  lesion = np.zeros_like(base)
  lesion[:, 5:15, 20:30] = 40
  grating = np.stack(
    [np.rint(20 * draw.grating(FINDINGS[k], SIZE, phase=1.0)) for k in finding]
  )[..., None]
  label = labels(*finding, 3, 4)
  label[4, 5] = 1  # two findings: left out
  image = np.concatenate([base + lesion + grating, base[:2]])
  return types.SimpleNamespace(
    lesion=lesion,
    grating=grating,
    splits={
      'test': split('test', image, label),
      'test_without_shortcut': split(
        '', np.concatenate([base + lesion, base[:2]]), label
      ),
      'test_without_lesions': split(
        '', np.concatenate([base + grating, base[:2]]), label
      ),
    },
  )


def test_effects_of_known_causes(caused):
  kernel = weights()
  found = by_key(taken('causes', make_subject(kernel, caused.splits)))
  finding = [0, 1, 1, 12]
  effects = {}
  for cause, added in (('lesion', caused.lesion), ('shortcut', caused.grating)):
    value = found['effect', '', cause]
    # A film without a cause, or with two findings, is left out.
    assert value.shape == (4, len(FINDINGS))
    effects[cause] = np.einsum('bhwc,hwk->bk', added / 255, kernel)[
      np.arange(4), finding
    ]
    np.testing.assert_allclose(
      value[np.arange(4), finding], effects[cause], atol=1e-4
    )
    assert np.isnan(value).sum() == 4 * (len(FINDINGS) - 1)
  lesion, shortcut = np.abs(list(effects.values()))
  share = lesion / (lesion + shortcut)
  by_logits = found['lesion_share', '', ''][np.arange(4), finding]
  np.testing.assert_allclose(by_logits, share, rtol=1e-3)
  # The model is linear: its gradient knows the effects. Of boxed findings only.
  by_map = found['lesion_share', 'gradient', '']
  assert by_map.shape == (3, len(BOXED))
  np.testing.assert_allclose(
    by_map[np.arange(3), finding[:3]], share[:3], rtol=1e-3
  )


def test_maps_on_the_lesion_and_on_the_shortcut(caused):
  kernel = weights()
  kernel[..., 0] = 3 * draw.grating(FINDINGS[0], SIZE, phase=0.3)
  kernel[..., 1] = 0
  kernel[5:15, 20:30, 1], kernel[0, 0, 1] = 1, 25
  found = by_key(taken('causes', make_subject(kernel, caused.splits)))
  on_lesion = found['on_lesion', 'gradient', '']
  np.testing.assert_allclose(on_lesion[1:, 1], 0.8)
  area = found['on_lesion', 'uniform', '']
  np.testing.assert_allclose(area[[0, 1], [0, 1]], 100 / SIZE**2)
  on_shortcut = found['on_shortcut', 'gradient', '']
  assert on_shortcut[0, 0] == pytest.approx(1)
  assert on_shortcut[1, 1] < 0.1


def test_films_of_unknown_causes_have_none(caused):
  test = caused.splits['test']
  assert taken('causes', make_subject(weights(), {'test': test})) == []
  nothing = test._replace(label=np.zeros_like(test.label))
  splits = caused.splits | {'test': nothing}
  assert taken('causes', make_subject(weights(), splits)) == []
  assert taken('faithfulness', make_subject(weights(), splits)) == []


# Maps that are none.


@pytest.mark.parametrize('fill', [0.0, np.nan])
def test_broken_maps_have_defined_measures(caused, fill, tmp_path):
  subject = make_subject(
    np.full((SIZE, SIZE, len(FINDINGS)), fill),
    caused.splits,
    sanity_films=8,
    measure_films=8,
  )
  found = []
  for name in ('maps', 'stability', 'randomisation', 'faithfulness', 'causes'):
    found += taken(name, subject)
  value = by_key(found)
  # Constant maps are one and the same; of NaN nothing is known.
  one = np.nan if np.isnan(fill) else 1.0
  for key in ('sameness', 'stability'):
    np.testing.assert_array_equal(value[key, 'gradient', ''], one)
  np.testing.assert_array_equal(value['randomisation', 'gradient', 'fc'], one)
  for key in (
    'outside_body',
    'sparsity',
    'on_lesion',
    'on_shortcut',
    'lesion_share',
  ):
    assert np.isnan(value[key, 'gradient', '']).all()
  inserted = value['insertion', 'gradient', '']
  assert (
    np.isnan(inserted).all()
    if np.isnan(fill)
    else (inserted[~np.isnan(inserted)] == 0.5).all()
  )
  path = str(tmp_path / 'measures.csv')
  measure_table.write(path, found)
  figures = measure_table.estimates(
    measure_table.read(path), num_resamples=10, seed=0
  )
  assert figures['outside_body']['gradient']['']['mean']['value'] is None
  assert bool(map_sanity.warnings(figures)) != np.isnan(fill)
