"""Every field has a rule; whatever is not in it is refused in one sentence."""

import json
import math
import os

import pytest
from ml_collections import ConfigDict

from configs import baseline, default, densenet, robust
from cxr import configuration, modes, run_files

FIELDS = run_files.flat(default.get_config())
# What no field takes: another type, no number, nothing, or out of any range.
STRANGE = (
  None, [], {}, (), ('',), (None,), ((1.0,),), math.nan, math.inf, -math.inf,
  -1, -0.5, 1e300, 2**40, 'no such thing\0', b'cam', object(),
)  # fmt: skip


def changed(name, value):
  fields = default.get_config().to_dict()
  *sections, field = name.split('.')
  section = fields
  for part in sections:
    section = section[part]
  section[field] = value
  return ConfigDict(fields)


@pytest.mark.parametrize('preset', ['phantom', 'nih', 'smoke'])
@pytest.mark.parametrize('module', [baseline, robust])
def test_presets_are_valid(module, preset):
  configuration.validate(module.get_config(preset))


def test_every_field_has_a_rule():
  assert set(configuration._rules()) == set(FIELDS)


@pytest.mark.parametrize('name', FIELDS)
def test_a_field_takes_nothing_strange(name):
  for value in STRANGE:
    if value == () and name in (
      'evaluate.measures',
      'evaluate.export',
      'data.findings',
      'model.init_findings',
    ):
      continue
    with pytest.raises(ValueError, match=rf'^config\.{name} (\(|is)') as error:
      configuration.validate(changed(name, value))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  'name', [n for n, v in FIELDS.items() if type(v) in (int, float)]
)
def test_a_number_is_no_text_and_no_switch(name):
  for value in (str(FIELDS[name]), True, (FIELDS[name],)):
    with pytest.raises(ValueError, match=rf'^config\.{name} \('):
      configuration.validate(changed(name, value))


@pytest.mark.parametrize(
  'name', ['../etc', 'a/b', '', '.', '..', '/tmp', 'x' * 101, 'a b', '-rf']
)
def test_a_name_cannot_lead_out_of_runs(name):
  with pytest.raises(ValueError, match='config.name'):
    configuration.validate(changed('name', name))


def test_an_unknown_field_is_answered_with_the_nearest():
  config = changed('attack.epsilom', 2.0)
  with pytest.raises(ValueError, match='the nearest is attack.epsilon'):
    configuration.validate(config)


def test_an_upper_bound_alone_is_no_result():
  with pytest.raises(ValueError, match='upper bound alone'):
    configuration.validate(changed('evaluate.rules', ('oracle',)))
  configuration.validate(changed('evaluate.rules', ('oracle', 'tuned')))


def test_a_missing_field_is_named():
  config = changed('seed', 0)
  del config.attack.epsilon
  with pytest.raises(ValueError, match='config.attack.epsilon is missing'):
    configuration.validate(config)


@pytest.mark.parametrize('part', ['evaluate', 'explain'])
def test_a_network_without_a_dense_cam_is_refused_before_it_is_trained(part):
  config = densenet.get_config()
  config[part].methods = ('cam', 'dense_cam')
  with pytest.raises(ValueError, match='dense_cam needs a ResNet'):
    configuration.validate(config)


def test_what_no_network_has_is_refused_before_films_are_read():
  config = default.get_config()
  config.model.output_stride = 32
  with pytest.raises(ValueError, match=r'output_stride \(32\)'):
    configuration.validate(config)
  config = default.get_config()
  config.data.image_size = 16
  with pytest.raises(ValueError, match='image_size'):
    configuration.validate(config)


@pytest.mark.parametrize(
  ('fields', 'warned'),
  [
    ({}, []),
    ({'attack.epsilon': 0.03}, ['attack.epsilon']),
    ({'attack.epsilon': 0.125}, []),
    ({'attack.epsilon': 0.0}, []),
    ({'attack.epsilon': 0.03, 'train.robust_films': 0}, []),
    ({'evaluate.epsilons': (0.01, 2.0)}, ['evaluate.epsilons']),
    # An L2 ball of .5 per pixel, and one that was meant in [0, 1].
    ({'attack.norm': 'l2', 'attack.epsilon': 32.0}, []),
    ({'attack.norm': 'l2', 'attack.epsilon': 0.5}, ['attack.epsilon']),
    # Two steps that stay far inside the ball of 2.
    (
      {'attack.objective': 'trades', 'attack.step_size': 0.007},
      ['attack.step_size'],
    ),
    ({'attack.objective': 'trades', 'attack.step_size': 0.2}, []),
  ],
)
def test_an_attack_far_below_a_gray_level_is_warned_of(fields, warned):
  config = default.get_config()
  config.update_from_flattened_dict(fields)
  sentences = configuration.describe_faint_attacks(config)
  assert [s.split()[0].removeprefix('config.') for s in sentences] == warned


@pytest.mark.parametrize(
  'field, values',
  [('evaluate.epsilons', (1.0, 1.0)), ('evaluate.methods', ('cam', 'cam'))],
)
def test_a_value_twice_is_refused(field, values):
  config = default.get_config()
  config.update_from_flattened_dict({field: values})
  with pytest.raises(ValueError, match=f'{field}.*none twice'):
    configuration.validate(config)


def test_a_faint_epsilon_is_answered_with_the_one_that_was_meant():
  config = robust.get_config('smoke')
  config.attack.epsilon = 8 / 255
  (sentence,) = configuration.describe_faint_attacks(config)
  assert sentence.endswith('write 8.')


@pytest.mark.parametrize('name', configuration._PATHS)
def test_a_path_may_start_with_the_home_folder(name, monkeypatch):
  monkeypatch.setenv('HOME', '/home/somebody')
  fields = configuration.expand_paths({name: '~/x', 'name': '~'})
  assert fields == {name: '/home/somebody/x', 'name': '~'}


def test_every_field_of_free_text_is_a_path():
  text = configuration._TEXT, configuration._PATH
  names = {n for n, rule in configuration._rules().items() if rule in text}
  assert names == {'preset', *configuration._PATHS}


def test_paths_of_a_request_are_expanded(monkeypatch):
  monkeypatch.setenv('HOME', '/home/somebody')
  seen = []
  monkeypatch.setitem(modes.MODES, 'fit', seen.append)
  config = default.get_config()
  config.data.dir = '~/films'
  overrides = {'data.dir': '~/films'}
  modes.run(
    'fit',
    modes.Request(config, overrides, '~/a', ('~/b', '/c'), '~/d', '~/e'),
  )
  (request,) = seen
  assert request.config.data.dir == '/home/somebody/films'
  assert request[1:7] == (
    {'data.dir': '/home/somebody/films'},
    '/home/somebody/a',
    ('/home/somebody/b', '/c'),
    '/home/somebody/d',
    '/home/somebody/e',
    '',
  )


def test_a_notebook_names_what_it_needs(tmp_path):
  with pytest.raises(ValueError, match='needs two runs or more'):
    modes.run('compare', modes.Request(workdirs=('~/a',)))
  with pytest.raises(FileNotFoundError, match=f'No run in {tmp_path}'):
    modes.run('evaluate', modes.Request(workdir=str(tmp_path)))


def test_a_run_finds_its_films_from_another_folder(tmp_path, monkeypatch):
  """Those that lie in the project's folder, under the path that it stored."""
  monkeypatch.chdir(tmp_path)
  change = lambda fields: fields['data'].update(dir='tests', prepared_dir='x')
  config = stored(tmp_path, change=change)
  assert config.data.dir == os.path.dirname(__file__)
  assert config.data.prepared_dir == 'x'


# --- a stored run


def stored(tmp_path, overrides=None, change=lambda fields: None):
  config = default.get_config('smoke')
  run_files.write_config(str(tmp_path), config)
  path = tmp_path / 'config.json'
  fields = json.loads(path.read_text())
  change(fields)
  path.write_text(json.dumps(fields))
  return modes._stored(
    modes.Request(
      default.get_config(), overrides or {}, str(tmp_path), (), '', ''
    )
  )[0]


def test_a_stored_run_keeps_its_own_fields(tmp_path):
  config = stored(tmp_path, {'evaluate.epsilons': (8.0,), 'data.dir': 'x'})
  assert config.evaluate.epsilons == (8.0,) and config.data.dir == 'x'
  assert config.model.num_filters == 8


@pytest.mark.parametrize(
  'name, value',
  [
    ('model.arch', 'resnet50'), ('model.num_filters', 16),
    ('data.image_size', 128), ('train.ema', 0.9), ('attack.epsilon', 1.0),
  ],
)  # fmt: skip
def test_a_stored_run_does_not_become_another(tmp_path, name, value):
  with pytest.raises(ValueError, match=rf'config\.{name} .* here\) is') as e:
    stored(tmp_path, {name: value})
  assert str(tmp_path) in str(e.value) and repr(value) in str(e.value)


@pytest.mark.parametrize(
  'name, value', [('model.dtype', 'bfloat16'), ('model.remat', True)]
)
def test_how_weights_are_applied_is_free_at_evaluation(tmp_path, name, value):
  config = stored(tmp_path, {name: value})
  assert run_files.flat(config)[name] == value
  # Training under another would give other weights.
  other = default.get_config('smoke')
  other.update_from_flattened_dict({name: value})
  with pytest.raises(ValueError, match='holds another run'):
    run_files.check_config(str(tmp_path), other)


def test_a_run_older_than_a_field_takes_its_default(tmp_path):
  config = stored(
    tmp_path, change=lambda fields: fields['evaluate'].pop('smooth')
  )
  assert config.evaluate.smooth == default.get_config().evaluate.smooth
  config = stored(tmp_path, change=lambda fields: fields.pop('explain'))
  assert config.explain.fit == 'pad'


@pytest.mark.parametrize(
  'change, message',
  [
    (lambda f: f['train'].update(batch_size='16'), r"batch_size \('16'\)"),
    (lambda f: f['train'].update(batchsize=16), 'nearest is train.batch_size'),
    (lambda f: f.update(train=3), 'no fields in train'),
    (lambda f: f['model'].update(arch=['resnet18']), 'arch'),
  ],
)
def test_a_config_written_by_hand_is_checked_too(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    stored(tmp_path, change=change)


@pytest.mark.parametrize(
  'text', ['', '{', '[]', '"a"', 'null', '\xff', '{"a":']
)
def test_a_damaged_config_is_named(tmp_path, text):
  (tmp_path / 'config.json').write_bytes(text.encode('latin-1'))
  with pytest.raises(ValueError, match=r'config\.json'):
    run_files.read_config(str(tmp_path))
