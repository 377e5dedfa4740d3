"""Measures and checks of attacks on models whose answer is known.

A film of 16 by 16 pixels; finding k's logit is the sum of row k less 8.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs import default
from cxr import inference, named_attacks, sharding
from cxr.evaluation import attack_flags
from cxr.measures import attacked_films, measure_table
from input_pipeline import pipeline
from input_pipeline.findings import BOXED, FINDINGS

SIZE = 16
K = len(FINDINGS)
EPSILON = 5.0  # in 1/255


class Rows(nn.Module):
  """`grain` above 0: pixels in steps of so many 1/255, without gradient."""

  grain: float = 0.0

  def __call__(self, image, train=False, start='image'):
    x = image
    if self.grain:
      x = jnp.round(image * 255 / self.grain) * self.grain / 255
    return x[:, :K, :, 0].sum(-1) - 8, {'features': image}

  def cells(self, endpoint):
    return 1, 0

  def head(self, params):
    raise NotImplementedError  # it has no CAM


def split(name, level, label, boxes=()):
  """Films whose rows all have the `level` of the film, in 1/255."""
  n = len(level)
  image = np.broadcast_to(
    np.asarray(level, np.uint8)[:, None, None, None], (n, SIZE, SIZE, 1)
  )
  film, finding, box = zip(*boxes, strict=True) if boxes else ((), (), ())
  return pipeline.Split(
    name=name,
    image=image,
    label=np.broadcast_to(np.float32(label)[:, None], (n, K)).copy(),
    image_name=np.array([f'{name}{i}.png' for i in range(n)]),
    patient=np.arange(n),
    view=np.full(n, 'PA'),
    age=np.full(n, 50.0),
    sex=np.full(n, 'F'),
    box=np.array(box, np.float64).reshape(-1, 4),
    box_image=np.array(film, np.int64),
    box_finding=np.array(finding, np.int64),
    findings=FINDINGS,
    boxed=BOXED,
  )


# Called from 150 on: the lowest positive validation film.
VALIDATION = split('validation', [100, 120, 150, 200], [0, 0, 1, 1])
LEVELS = [154, 156, 146, 144, 250, 30]
LABELS = [1, 0, 1, 0, 1, 0]


def row_box(k):
  return (k / SIZE, 0.0, (k + 1) / SIZE, 1.0)


def make(grain=0.0, boxes=(), num_devices=1):
  config = default.get_config('smoke')
  config.data.image_size = SIZE
  config.evaluate.batch_size = 4
  config.evaluate.epsilons = (1.0, EPSILON, 9.0)
  config.evaluate.num_steps = 10
  config.evaluate.methods = ('gradient',)
  config.evaluate.smooth = 0.0
  config.evaluate.measure_films = 0
  config.evaluate.check_films = 6
  return inference.Subject(
    config,
    Rows(grain),
    {},
    sharding.make_mesh(num_devices),
    {
      'validation': VALIDATION,
      'test': split('test', LEVELS, LABELS, boxes),
    },
  )


def test_a_finding_crosses_where_epsilon_reaches_the_operating_point():
  found = {m.measure: m for m in attacked_films.targeted(make())}
  assert {m.condition for m in found.values()} == {'pgd-10 5'}
  nan = np.nan
  # 154 - 5 < 150 <= 156 - 5; 146 + 5 >= 150 > 144 + 5.
  expected = {
    'hidden': [1, 0, nan, nan, 0, nan],
    'planted': [nan, nan, 1, 0, nan, 0],
  }
  for name, of_film in expected.items():
    value = found[name].value
    assert value.shape == (6, K)
    for k in range(K):
      np.testing.assert_array_equal(value[:, k], of_film)
  for goal, done in (('hide', 'hidden'), ('plant', 'planted')):
    moved = found[f'{goal}_moves_others'].value
    np.testing.assert_array_equal(np.isnan(moved), np.isnan(found[done].value))
    # The target moves by 16 epsilon, the others are held.
    assert np.nanmax(moved) < 0.25 * SIZE * EPSILON / 255
  figure = measure_table.estimates(
    list(found.values()), num_resamples=20, seed=0
  )
  assert figure['hidden']['']['pgd-10 5']['mean']['value'] == pytest.approx(
    1 / 3
  )


def test_targeted_values_by_hand():
  before = np.float32([[1.0, -1.0, 0.5], [0.0, 2.0, 0.5]])
  after = np.stack([before] * 3)
  after[0, 0] = [-0.5, -1.5, 0.5]  # hides the first film's first finding
  after[1, 0] = [1.0, -0.5, 2.5]  # plants its second, not far enough
  after[1, 1] = [0.0, 0.0, 0.5]  # brings the second film's to the threshold
  threshold = np.array([0.25, 0.0, np.inf])
  found = attacked_films.targeted_values(before, after, threshold)
  nan = np.nan
  np.testing.assert_array_equal(found['hidden'], [[1, nan, nan], [nan, 0, nan]])
  np.testing.assert_array_equal(
    found['planted'], [[nan, 0, nan], [0, nan, nan]]
  )
  np.testing.assert_allclose(
    found['hide_moves_others'], [[0.25, nan, nan], [nan, 0, nan]]
  )
  np.testing.assert_allclose(
    found['plant_moves_others'], [[nan, 1.0, nan], [0, nan, nan]]
  )


def test_a_gradient_that_does_not_hang_on_the_film_stays_under_attack():
  elsewhere = row_box(15)
  boxes = [(1, 0, row_box(0)), (1, 3, elsewhere), (4, 3, row_box(3))]
  found = attacked_films.under_attack(make(boxes=boxes), ['gradient'])
  assert all(m.findings == BOXED and m.method == 'gradient' for m in found)
  subject = {(m.measure, m.condition): m.value for m in found}
  assert subject.keys() == {
    ('box_iou', 'clean'),
    ('box_iou', 'pgd-10 5'),
    ('pointing', 'clean'),
    ('pointing', 'pgd-10 5'),
    ('map_spearman', 'pgd-10 5'),
    ('map_ssim', 'pgd-10 5'),
  }
  for (measure, _), value in subject.items():
    # Films 1 and 4 alone have boxes; NaN without one of the finding.
    expected = np.full((2, len(BOXED)), np.nan)
    expected[0, 0] = expected[1, 3] = 1
    expected[0, 3] = 1 if measure.startswith('map_') else 0
    np.testing.assert_allclose(value, expected, atol=1e-6)


def test_maps_that_localization_made_are_not_made_again(monkeypatch):
  boxes = [(1, 0, row_box(0)), (1, 3, row_box(15)), (4, 3, row_box(3))]
  subject = make(boxes=boxes)
  mapped = []

  def maps_of(of_subject, method, rows, image, film, finding):
    mapped.append(image)
    return rows_of(of_subject, method, rows, image, film, finding)

  rows_of = attacked_films._maps_of
  monkeypatch.setattr(attacked_films, '_maps_of', maps_of)
  expected = attacked_films.under_attack(subject, ['gradient'])
  assert len(mapped) == 2
  clean = np.zeros((3, SIZE, SIZE), np.float32)
  clean[[0, 1, 2], [0, 3, 3]] = 1  # the finding's row, as its gradient has it
  kept = subject._replace(boxed_maps={'gradient': clean})
  found = attacked_films.under_attack(kept, ['gradient'])
  assert len(mapped) == 3  # of the attacked films alone
  for one, other in zip(found, expected, strict=True):
    assert one.key == other.key
    np.testing.assert_array_equal(one.value, other.value)


def test_few_sizes_of_batches_serve_any_number_of_films():
  subject = make(num_devices=1)
  subject.config.evaluate.batch_size = 24
  sizes = {n: subject.batch_size(n) for n in (0, 1, 3, 8, 9, 16, 17, 500)}
  assert sizes == {0: 1, 1: 1, 3: 4, 8: 8, 9: 16, 16: 16, 17: 24, 500: 24}
  four = subject._replace(mesh=sharding.make_mesh(4))
  assert [four.batch_size(n) for n in (1, 6)] == [4, 8]


def test_no_box_is_no_measure():
  assert attacked_films.under_attack(make(), ['gradient']) == []


def test_similarity_does_not_depend_on_the_scale_of_a_map():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 3, 16, 16)).astype(np.float32)
  b[2] = 0
  found = attacked_films.map_similarity(a, b)
  other = attacked_films.map_similarity(a, 100 * b)
  same = attacked_films.map_similarity(a, 7 * a)
  for name in ('map_spearman', 'map_ssim'):
    np.testing.assert_allclose(found[name], other[name], atol=1e-6)
    np.testing.assert_allclose(same[name], 1, atol=1e-6)
    assert np.abs(found[name]).max() < 0.3


def flags_of(subject):
  return {flag['name']: flag for flag in attack_flags.run(subject)}


def test_a_linear_model_passes_every_check():
  found = flags_of(make())
  assert found.keys() == {
    'randomized_output',
    'zero_gradient',
    'black_box_wins',
    'not_converged',
  }
  assert not any(flag['raised'] for flag in found.values())
  assert found['not_converged']['attack'] == 'pgd-10'
  assert found['black_box_wins']['attack'] == 'pgd-100'
  assert found['black_box_wins']['epsilon'] == EPSILON
  assert all(flag['images'] == 6 for flag in found.values())


def test_a_fall_within_chance_is_no_lack_of_convergence():
  rng = np.random.default_rng(0)
  label = (rng.random((16, 3)) < 0.5).astype(float)
  short = rng.normal(size=label.shape) + label
  long = short + 0.2 * rng.normal(size=label.shape)
  fall, (low, high) = attack_flags._fall(short, long, label, np.arange(16))
  assert low < fall < high and low < 0.01
  # Much stronger, and it is seen on 200 films.
  label = (rng.random((200, 3)) < 0.5).astype(float)
  short = rng.normal(size=label.shape) + label
  fall, (low, high) = attack_flags._fall(
    short, short - label, label, np.arange(200)
  )
  assert fall == pytest.approx(0.26, abs=0.05) and low > 0.1


def test_a_model_without_gradients_is_found_out():
  """Steps of 4/255 hide the gradient; epsilon is larger than a step."""
  found = flags_of(make(grain=4.0))
  assert found['zero_gradient']['value'] == 1
  # Of the six, two films are so sure that no loss moves.
  assert found['black_box_wins']['value'] == pytest.approx(4 / 6)
  assert found['black_box_wins']['raised']
  assert not found['randomized_output']['raised']


def figure(value, images=100, width=0.02):
  if value is None:
    return {'value': None, 'low': None, 'high': None, 'images': images}
  return {
    'value': value,
    'low': value - width,
    'high': value + width,
    'images': images,
  }


def entry(epsilon, value, attack='pgd-10', **options):
  return {
    'attack': attack,
    'epsilon': epsilon,
    'auroc': {'mean': figure(value)},
    **options,
  }


def test_larger_epsilon_is_held_against_the_interval():
  falling = [entry(1.0, 0.5), entry(4.0, 0.1), entry(2.0, 0.3)]
  rising = [entry(1.0, 0.5, 'apgd-10'), entry(2.0, 0.53, 'apgd-10')]
  other = [entry(2.0, 0.9, split='test_without_shortcut')]
  flags = attack_flags.of_estimates(falling + rising + other)
  assert [(f['attack'], f['raised']) for f in flags] == [
    ('pgd-10', False),
    ('apgd-10', True),
  ]
  assert flags[1]['value'] == pytest.approx(0.03)
  assert flags[1]['low'] == pytest.approx(0.01)
  # The same films without the attack are a point, too.
  falling[0]['clean'] = figure(0.4)
  (flag,) = attack_flags.of_estimates(falling)
  assert flag['raised'] and flag['value'] == pytest.approx(0.1)
  assert attack_flags.of_estimates([entry(1.0, None)]) == []


def test_a_withheld_interval_raises_no_flag():
  """More than 5 % of resamples were undefined: value, but no interval."""
  withheld = entry(4.0, 0.9)
  withheld['auroc']['mean'] |= {'low': None, 'high': None}
  assert attack_flags.of_estimates([withheld]) == []
  clean = {'clean': withheld['auroc']['mean']}
  (flag,) = attack_flags.of_estimates(
    [entry(1.0, 0.5, **clean), withheld, entry(2.0, 0.3)]
  )
  assert not flag['raised'] and flag['epsilon'] == 2.0


def test_an_attack_that_changes_nothing_is_flagged():
  def flags(change, unmoved=0):
    effect = {'clean': figure(0.5), 'change': change, 'unmoved': unmoved}
    found = attack_flags.of_estimates([entry(1.0, 0.5, **effect)])
    return {flag['name']: flag for flag in found}

  same = flags(figure(0.0, width=0.0004))['no_effect']
  assert same['raised'] and same['attack'] == 'pgd-10' and same['count'] == 0
  assert 'no sign of robustness' in same['why']
  assert not flags(figure(-0.03))['no_effect']['raised']
  # Few films may hide a fall.
  assert not flags(figure(0.0))['no_effect']['raised']
  assert flags(figure(None), unmoved=100)['no_effect']['raised']


def test_labels_tell_attacks_apart():
  config = make().config
  label = lambda name, *steps: named_attacks.label(config, name, *steps)
  assert label('pgd') == 'pgd-10'
  assert label('pgd', 100) == 'pgd-100'
  assert label('square') == 'square-1000'
  assert label('fgsm') == 'fgsm'
  config.evaluate.restarts = 3
  assert label('pgd') == 'pgd-10x3'
  assert label('fgsm') == 'fgsm'  # it has one start
  config.evaluate.norm = 'l2'
  assert label('apgd') == 'apgd-10x3-l2'
  assert label('fgsm') == 'fgsm-l2'
  assert named_attacks.middle_epsilon(config) == EPSILON


@pytest.mark.parametrize('name', ['pgd', 'square'])
def test_named_attacks_take_every_epsilon_in_one_program(name):
  subject = make()
  subject.config.evaluate.num_steps = subject.config.evaluate.queries = 2
  attack = named_attacks.make(subject, name)
  image = jnp.full((4, SIZE, SIZE, 1), 0.5)
  label = jnp.ones((4, K))
  for epsilon in (0.01, 0.02):
    found = attack({}, jax.random.key(0), image, label, epsilon=epsilon)
    moved = np.abs(np.asarray(found - image)).max()
    assert epsilon / 2 < moved <= epsilon + 1e-7


def test_batches_give_every_row_its_place():
  subject = make(num_devices=4)
  rows = np.array([5, 0, 2, 3, 4])
  seen = np.full(len(rows), -1)
  for part, batch in subject.batches(rows, 4):
    count = part.stop - part.start
    seen[part] = sharding.to_host(batch['image'])[:count, 0, 0, 0]
  np.testing.assert_array_equal(seen, np.array(LEVELS)[rows])
