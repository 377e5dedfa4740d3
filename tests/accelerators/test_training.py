"""Steps of training, made for devices that need not be there.

What is looked at is the program that XLA made: that it talks to no host, loops
over the attack's steps, uses the state's memory again, gives each device its
share of the work, and lets nothing but sums cross devices.
"""

import functools

import jax
import pytest

from cxr.training import configured_step
from tests.accelerators import compiled_text, machines

BATCH = 16
STEPS = 5  # of the attack
OBJECTIVES = {
  'clean': {},
  'adversarial': {},
  'one step': {'attack.objective': 'adversarial', 'attack.num_steps': 1},
  'mixed': {'attack.objective': 'adversarial', 'attack.clean_weight': 0.5},
  'statistics apart': {
    'attack.objective': 'adversarial',
    'attack.clean_weight': 0.5,
    'attack.separate_batch_stats': True,
  },
  'trades': {},
  'free': {'attack.free_replays': 2},
}
by_machine = pytest.mark.parametrize(
  'platform, num_devices', [('tpu', 8), ('gpu', 4), ('gpu', 1)]
)


def needs(platform):
  reason = machines.missing(platform)
  if reason:
    pytest.skip(f'No program for a {platform} is made: {reason}.')


@functools.cache
def made_step(platform, num_devices, objective='adversarial', **fields):
  """(what it is made of, the program's text)"""
  needs(platform)
  config = machines.small_config(
    **{
      'attack.objective': objective,
      # Written out on a CPU.
      'attack.num_steps': 1 if platform == 'cpu' else STEPS,
      'train.batch_size': BATCH,
    }
    | OBJECTIVES[objective]
    | {name.replace('__', '.'): value for name, value in fields.items()}
  )
  made = machines.make_setup(config, machines.mesh(platform, num_devices))
  lowered = lower(made, BATCH)
  assert not compiled_text.rounded_products(lowered.as_text())
  return made, lowered.compile(machines.QUICKLY).as_text()


def lower(made, num_films):
  batch = machines.batch_of(made, num_films)
  batch = {name: batch[name] for name in ('image', 'label')}
  step = configured_step.jitted(made, jax.random.key(0))
  return step.lower(machines.state_of(made), batch, {})


@pytest.mark.parametrize('objective', OBJECTIVES)
@by_machine
def test_a_step(platform, num_devices, objective):
  if (platform, num_devices) == ('gpu', 1) and objective != 'adversarial':
    pytest.skip('One GPU is seen with one objective; four with all.')
  made, text = made_step(platform, num_devices, objective)
  assert not compiled_text.kinds(text) & compiled_text.TO_HOST
  assert 'callback' not in text
  # The state is donated, whole.
  leaves = jax.tree.leaves(machines.state_of(made))
  assert text.splitlines()[0].count('-alias)') == len(leaves)
  # The attack's steps are a loop; of 'free', each step is an update.
  unrolled = objective in ('clean', 'one step', 'free')
  assert compiled_text.loops(text) in ([[], [1]] if unrolled else [[STEPS]])
  crossing = compiled_text.collectives(text)
  assert crossing.keys() == ({'all-reduce'} if num_devices > 1 else set())
  if num_devices > 1:
    check_sums(compiled_text.crossing_numbers(text), made)


def check_sums(crossing, made):
  """Gradients, each once, and sums of BatchNorm; of the losses a few."""
  sizes = {'block': 0, 'end': 0, 'norm': 0}
  params = machines.state_of(made).params
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    name = jax.tree_util.keystr(path)
    part = 'norm' if "['bn" in name else 'block' if 'layer' in name else 'end'
    sizes[part] += leaf.size
  attack = made.config.attack
  updates = attack.free_replays if attack.objective == 'free' else 1
  # Kernels of the blocks are in the type of the network. Where clean and
  # adversarial films are normalised apart, a TPU sends the gradients of both, a
  # GPU their sum in float32.
  kernels, apart = {'bf16': sizes['block']}, attack.separate_batch_stats
  if apart and machines.is_tpu(made.mesh):
    kernels = {'bf16': 2 * sizes['block']}
  elif apart:
    kernels = {'f32': sizes['block']}
  # A channel has a scale and a bias, and five sums: two of the statistics, two
  # of their gradient, and that of the bias.
  most = sizes['end'] + 5 * (1 + apart) * sizes['norm'] // 2 + 8
  assert crossing.pop('bf16', 0) == updates * kernels.get('bf16', 0)
  in_float32 = crossing.pop('f32') - updates * kernels.get('f32', 0)
  assert updates * sizes['end'] < in_float32 <= updates * most
  assert not crossing


@by_machine
def test_nothing_crosses_devices_in_the_loop(platform, num_devices):
  _, text = made_step(platform, num_devices)
  for instruction, times, _ in compiled_text.instructions(text):
    kind = instruction.kind.removesuffix('-start')
    assert times == 1 or kind not in compiled_text.COLLECTIVES


@by_machine
def test_convolutions_are_of_the_type_that_was_asked(platform, num_devices):
  _, text = made_step(platform, num_devices)
  products = compiled_text.products(text)
  blocks = [p for p in products if '/layer' in p.layer]
  assert len(blocks) >= 20 and {p.dtype for p in blocks} == {'bf16'}
  # The stem and the head are float32, and are not rounded.
  ends = [p for p in products if '/conv1/' in p.layer and p not in blocks]
  assert ends and {p.dtype for p in ends} == {'f32'}
  assert all(p.is_exact for p in ends)


@pytest.mark.parametrize('platform, num_devices', [('tpu', 8), ('gpu', 1)])
def test_float32_is_float32(platform, num_devices):
  _, text = made_step(platform, num_devices, 'clean', model__dtype='float32')
  of_model = [p for p in compiled_text.products(text) if p.layer]
  assert len(of_model) >= 10
  assert all(p.dtype == 'f32' and p.is_exact for p in of_model)


@pytest.mark.parametrize('objective', OBJECTIVES)
@pytest.mark.parametrize(
  'platform, num_devices', [('tpu', 8), ('gpu', 4), ('cpu', 4)]
)
def test_work_is_shared_out(platform, num_devices, objective):
  if platform == 'cpu' and objective not in ('adversarial', 'trades'):
    pytest.skip('CPU devices are seen with two objectives; others with all.')
  alone, share = (
    compiled_text.operations(made_step(platform, n, objective)[1])
    for n in (1, num_devices)
  )
  assert share == pytest.approx(alone / num_devices, rel=0.02)


@pytest.mark.parametrize(
  'platform, num_devices', [('tpu', 8), ('gpu', 4), ('cpu', 4)]
)
def test_work_of_the_passes_of_a_batch_is_shared_out(platform, num_devices):
  """A loop over passes must not gather the films that lie on the devices."""
  texts = [
    made_step(platform, n, 'clean', train__accumulate=2)[1]
    for n in (1, num_devices)
  ]
  alone, share = map(compiled_text.operations, texts)
  assert share == pytest.approx(alone / num_devices, rel=0.02)
  assert compiled_text.collectives(texts[1]).keys() == {'all-reduce'}


def test_a_gpu_s_gradient_of_the_pooling_is_no_scatter():
  """Its sums would come in any order."""
  _, text = made_step('gpu', 1)
  assert not {'scatter', 'select-and-scatter'} & compiled_text.kinds(text)


def test_a_gpu_has_deterministic_kernels_for_all_of_a_step():
  """XLA refuses a program that it has none for."""
  needs('gpu')
  config = machines.small_config(**{'train.batch_size': BATCH})
  made = machines.make_setup(config, machines.mesh('gpu', 1))
  program = lower(made, BATCH).compile({'xla_gpu_deterministic_ops': True})
  assert 'convBackwardFilter' in program.as_text()


@pytest.mark.parametrize('platform', ['tpu', 'gpu'])
def test_the_preset_fits_a_device_of_16_gb(platform):
  needs(platform)
  from configs import robust

  config = robust.get_config('nih')
  # The whole batch on one.
  made = machines.make_setup(config, machines.mesh(platform, 1))
  program = lower(made, config.train.batch_size).compile(machines.QUICKLY)
  memory = program.memory_analysis()
  held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
  assert 1e9 < held < 16e9


def test_a_quickly_made_program_does_the_same():
  """But for where its arrays lie; else these tests would see another one."""
  made, quick = made_step('tpu', 8)
  whole = lower(made, BATCH).compile().as_text()
  for seen in (
    compiled_text.loops,
    compiled_text.collectives,
    compiled_text.operations,
    lambda text: text.splitlines()[0].count('-alias)'),
    lambda text: [(p.layer, p.dtype) for p in compiled_text.products(text)],
  ):
    assert seen(quick) == seen(whole)
