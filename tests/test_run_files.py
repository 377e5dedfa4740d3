"""A workdir's small files: read, or one sentence with what makes them anew."""

import json

import pytest

from configs import default
from cxr import run_files

DAMAGED = [b'', b'{"a"', b'\0' * 9, b'\xff\xfe', b'[]', b'null', b'{}']


@pytest.mark.parametrize('content', DAMAGED)
def test_a_damaged_config_is_one_sentence(tmp_path, content):
  (tmp_path / 'config.json').write_bytes(content)
  with pytest.raises(ValueError, match=r'config\.json .*train again') as error:
    run_files.read_config(str(tmp_path))
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('section', ['data', 'model', 'evaluate'])
def test_a_section_without_fields_is_named(tmp_path, section):
  config = default.get_config().to_dict() | {section: 4}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  with pytest.raises(ValueError, match=f'no fields in {section}'):
    run_files.read_config(str(tmp_path))


def test_a_config_comes_back_whatever_an_editor_puts_before_it(tmp_path):
  config = default.get_config()
  run_files.write_config(str(tmp_path), config)
  path = tmp_path / 'config.json'
  path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
  assert run_files.read_config(str(tmp_path)).to_dict() == config.to_dict()


@pytest.mark.parametrize(
  'name, command',
  [('data.json', '--mode=fit'), ('metrics.json', '--mode=evaluate writes it')],
)
@pytest.mark.parametrize('content', [None, *DAMAGED])
def test_the_way_out_makes_the_file(tmp_path, name, command, content):
  if content is not None:
    (tmp_path / name).write_bytes(content)
  with pytest.raises((ValueError, FileNotFoundError)) as error:
    run_files.read(str(tmp_path), name, 'splits')
  assert name in str(error.value) and command in str(error.value)
  assert ('Remove it' in str(error.value)) == (content is not None)
  assert '\n' not in str(error.value) and 'codec' not in str(error.value)


def test_a_run_that_is_older_than_a_field_goes_on(tmp_path):
  config = default.get_config()
  run_files.write_config(str(tmp_path), config)
  path = tmp_path / 'config.json'
  stored = json.loads(path.read_text())
  del stored['explain'], stored['attack']['warmup_epochs']
  path.write_text(json.dumps(stored))
  assert run_files.read_config(str(tmp_path)).to_dict() == config.to_dict()
  run_files.check_config(str(tmp_path), config)
