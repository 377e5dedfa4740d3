"""What config.model.init_from says -> a file, without any network."""

import json
import sys
import types

import pytest

from cxr.models import origins

DESCRIBED = {
  'arch': 'resnet18',
  'num_filters': 8,
  'findings': ['Mass'],
  'input': {},
}


@pytest.fixture
def export(tmp_path):
  folder = tmp_path / 'export'
  folder.mkdir()
  (folder / 'model.safetensors').write_bytes(b'weights')
  (folder / 'config.json').write_text(json.dumps(DESCRIBED))
  return folder


def hub(monkeypatch, folder, listed=(), fails=None):
  """A hub whose only repository is a folder."""

  def download(repository, name):
    if fails:
      raise fails
    assert repository == 'owner/name'
    return str(folder / name)

  fake = types.SimpleNamespace(
    hf_hub_download=download,
    list_repo_files=lambda repository: list(listed),
    file_exists=lambda repository, name: (folder / name).is_file(),
  )
  monkeypatch.setitem(sys.modules, 'huggingface_hub', fake)


def test_folder_of_an_export_or_its_weights(export):
  for stated in (export, export / 'model.safetensors'):
    origin = origins.find(str(stated), 0)
    assert origin.path == str(export / 'model.safetensors')
    assert origin.exported == DESCRIBED
  # Of b'weights', by sha256sum.
  assert origin.sha256.startswith('9a129038d9a00aed0cf6a7ea')


def test_config_beside_another_file_or_of_another_program_is_not_ours(export):
  (export / 'other.pt').write_bytes(b'')
  assert origins.find(str(export / 'other.pt'), 0).exported == {}
  (export / 'config.json').write_text('{"architectures": ["ViT"]}')
  assert origins.find(str(export), 0).exported == {}


def test_the_weights_of_a_seed(export):
  """So that the runs of a study have one config."""
  seeded = export.rename(export.parent / 'start_7')
  origin = origins.find(str(export.parent / 'start_{seed}'), 7)
  assert origin.path == str(seeded / 'model.safetensors')
  with pytest.raises(FileNotFoundError, match='start_8'):
    origins.find(str(export.parent / 'start_{seed}'), 8)


def test_absent(tmp_path):
  with pytest.raises(FileNotFoundError, match='No weights file at'):
    origins.find(str(tmp_path / 'none.pt'), 0)
  with pytest.raises(FileNotFoundError, match=r'No model\.safetensors in'):
    origins.find(str(tmp_path), 0)


def test_hub(export, monkeypatch):
  hub(monkeypatch, export, ['README.md', 'model.safetensors', 'other.pt'])
  origin = origins.find('hf://owner/name', 0)
  assert origin.path == str(export / 'model.safetensors')
  assert origin.exported == DESCRIBED and origin.stated == 'hf://owner/name'
  hub(monkeypatch, export, ['only.pt', 'config.json'])
  assert origins.find('hf://owner/name', 0).path == str(export / 'only.pt')
  assert origins.find('hf://owner/name/deep/a.pt', 0).path.endswith('deep/a.pt')


def test_hub_refused_in_a_sentence(export, monkeypatch):
  hub(monkeypatch, export, ['a.pt', 'b.pt'])
  with pytest.raises(ValueError, match=r'which has 2 \(a\.pt, b\.pt\)'):
    origins.find('hf://owner/name', 0)
  with pytest.raises(ValueError, match='must be hf://OWNER/NAME'):
    origins.find('hf://name', 0)
  hub(monkeypatch, export, fails=ConnectionError('no route\nto host'))
  with pytest.raises(
    ValueError, match=r'cannot be fetched .*ConnectionError: no route\)'
  ):
    origins.find('hf://owner/name/a.pt', 0)
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  with pytest.raises(ValueError, match='pip install huggingface_hub'):
    origins.find('hf://owner/name', 0)


def test_a_hub_that_is_not_whole(export, monkeypatch):
  hub(monkeypatch, export, fails=ModuleNotFoundError("No module named 'x'"))
  with pytest.raises(ValueError, match=r"not whole here \(No module named 'x'"):
    origins.find('hf://owner/name/a.pt', 0)
