"""What an evaluation runs on the devices, made for some that need not be there.

Each device predicts, attacks and maps its own films: nothing crosses devices
but the logits, and the work of n devices is a n-th each.
"""

import jax
import jax.numpy as jnp
import pytest

from cxr import heatmaps, inference, named_attacks, train_state
from cxr.attribution import by_name
from cxr.measures import attacked_maps, faithfulness
from tests.accelerators import compiled_text, machines

FILMS = 16
by_machine = pytest.mark.parametrize(
  'platform, num_devices', [('tpu', 8), ('gpu', 4), ('cpu', 4)]
)


def subject(platform, num_devices, **fields):
  """(the subject, its variables, a batch), as shapes."""
  if reason := machines.missing(platform):
    pytest.skip(f'No program for a {platform} is made: {reason}.')
  config = machines.small_config(**fields)
  made = machines.make_setup(config, machines.mesh(platform, num_devices))
  variables = train_state.variables(machines.state_of(made))
  batch = machines.batch_of(made, FILMS)
  return machines.subject_of(made), variables, batch


def text_of(fn, *arrays):
  """The program's text, having seen that it leaves the host alone and rounds
  no float32 numbers before it multiplies them."""
  lowered = fn.lower(*arrays)
  assert not compiled_text.rounded_products(lowered.as_text())
  text = lowered.compile(machines.QUICKLY).as_text()
  assert not compiled_text.kinds(text) & compiled_text.TO_HOST
  assert 'callback' not in text
  return text


@by_machine
def test_predictions(platform, num_devices):
  shown, variables, batch = subject(platform, num_devices)
  predict = inference.make_predict(shown.model, shown.mesh)
  text = text_of(predict, variables, batch['image'])
  crossing = compiled_text.collectives(text)
  # The logits alone: every device gets all.
  sent = sum(sum(sizes) for sizes in crossing.values())
  assert sent <= 2 * FILMS * len(shown.findings) * 4


def floats(image):
  """As an array of floats, in the same place."""
  return jax.ShapeDtypeStruct(image.shape, jnp.float32, sharding=image.sharding)


def attack_text(attack, variables, batch, label):
  """The program of an attack on a batch, whose films are floats."""
  return text_of(
    jax.jit(lambda *args: attack(*args, epsilon=jnp.float32(0.01))),
    variables, batch['key'], floats(batch['image']), label,
  )  # fmt: skip


by_accelerator = pytest.mark.parametrize(
  'platform, num_devices', [('tpu', 8), ('gpu', 4)]
)


@pytest.mark.parametrize('name', named_attacks.ATTACKS)
@by_accelerator
def test_attacks(platform, num_devices, name):
  shown, variables, batch = subject(platform, num_devices)
  attack = named_attacks.make(shown, name)
  text = attack_text(attack, variables, batch, batch['label'])
  assert compiled_text.collectives(text) == {}
  if name == 'fgsm':
    assert compiled_text.loops(text) in ([], [1])
  else:
    assert compiled_text.loops(text) == [shown.config.evaluate.num_steps]


def test_work_of_an_attack_is_shared_out():
  operations = []
  for num_devices in (1, 8):
    shown, variables, batch = subject('tpu', num_devices)
    attack = named_attacks.make(shown, 'pgd')
    text = attack_text(attack, variables, batch, batch['label'])
    operations.append(compiled_text.operations(text))
  alone, share = operations
  assert share == pytest.approx(alone / 8, rel=0.02)


@pytest.mark.parametrize('of_map', [True, False], ids=['map', 'logit'])
@by_accelerator
def test_attacks_on_maps(platform, num_devices, of_map):
  """Second derivatives of the smooth network, and small systems to solve."""
  fields = {'evaluate.map_attack_steps': 3}
  shown, variables, batch = subject(platform, num_devices, **fields)
  attack = attacked_maps._make_attack(shown, 'gradient', of_map=of_map)
  clean = {
    'finding': batch['finding'],
    'map': batch['heatmap'],
    'target': batch['heatmap'],
    'logits': batch['label'],
  }
  text = attack_text(attack, variables, batch, clean)
  assert compiled_text.collectives(text) == {}
  assert compiled_text.loops(text) == [3]


@by_accelerator
def test_maps_of_one_finding_a_film(platform, num_devices):
  shown, variables, batch = subject(platform, num_devices)
  maps = heatmaps.make_maps(shown, 'gradient')
  arrays = (batch[name] for name in ('key', 'image', 'finding'))
  assert compiled_text.collectives(text_of(maps, variables, *arrays)) == {}


@pytest.mark.parametrize('method', by_name.METHODS)
@by_machine
def test_every_device_maps_its_own_films(platform, num_devices, method):
  fields = {}
  if method == by_name.DENSE_CAM:
    fields = {'model.num_stages': 2, 'model.output_stride': 8}
  if platform == 'cpu':
    fields['model.dtype'] = 'float32'
  shown, variables, batch = subject(platform, num_devices, **fields)
  maps = heatmaps.make_maps(shown, method, raw=True)
  text = text_of(maps, variables, batch['key'], batch['image'])
  assert compiled_text.collectives(text) == {}
  if platform != 'cpu':
    blocks = [p for p in compiled_text.products(text) if '/layer' in p.layer]
    assert blocks and {p.dtype for p in blocks} == {'bf16'}
  # The same maps by one device.
  shown, variables, batch = subject(platform, 1, **fields)
  whole = jax.jit(
    by_name.make_attribution(
      shown.model,
      method,
      findings=shown.mapped_columns.tolist(),
      **heatmaps.options(shown.config, method),
    )
  )
  alone = compiled_text.operations(
    text_of(whole, variables, batch['key'], floats(batch['image']))
  )
  share = compiled_text.operations(text)
  assert share == pytest.approx(alone / num_devices, rel=0.02)


@by_machine
def test_insertion_and_deletion(platform, num_devices):
  shown, variables, batch = subject(platform, num_devices)
  curves = faithfulness._make_curves(shown)
  names = 'image', 'heatmap', 'finding'
  batch['image'] = floats(batch['image'])
  text = text_of(
    curves, variables, batch['key'], *(batch[name] for name in names)
  )
  assert compiled_text.collectives(text) == {}
