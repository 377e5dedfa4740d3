"""What explain says of the network's training, and of films of another kind."""

import json

import pytest

from cxr.explaining import origin


def write_run(folder, source, **data):
  folder.mkdir(exist_ok=True)
  config = {
    'model': {'arch': 'resnet18'},
    'data': {'source': source, 'image_size': 64},
    'attack': {'objective': 'madry', 'norm': 'linf', 'epsilon': 2.0},
  }
  (folder / 'config.json').write_text(json.dumps(config))
  if data:
    (folder / 'data.json').write_text(json.dumps(data))
  return str(folder)


@pytest.fixture
def films(tmp_path):
  """Paths of a drawn film and of two others."""
  paths = [tmp_path / 'phantom' / 'images' / 'a.png', tmp_path / 'b.png']
  paths.append(tmp_path / 'deep' / 'phantom' / 'c.png')
  for path in paths:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'')
  (tmp_path / 'phantom' / 'phantom.json').write_text('{}')
  return list(map(str, paths))


def test_films_patients_and_attack_are_named(tmp_path):
  splits = {'train': {'images': 3483, 'patients': 1275}}
  run = write_run(tmp_path / 'run', 'phantom', splits=splits)
  assert origin.describe(run, []).sentences == [
    'The network is a resnet18 trained on phantom films against an attack '
    '(madry, linf, epsilon 2/255), on 3,483 films of 1,275 patients at 64 × 64 '
    'pixels.'
  ]


def test_a_run_without_a_record_of_its_films(tmp_path):
  run = write_run(tmp_path / 'run', 'nih')
  assert origin.describe(run, []).sentences == [
    'The network is a resnet18 trained on NIH ChestX-ray14 against an attack '
    '(madry, linf, epsilon 2/255) at 64 × 64 pixels.'
  ]
  assert origin.describe(str(tmp_path / 'nothing'), []) == ([], [])


def test_real_films_meet_a_network_of_drawn_ones(tmp_path, films):
  run = write_run(tmp_path / 'run', 'phantom')
  (warning,) = origin.describe(run, films).warnings
  assert '2 of the 3 films are real ones:' in warning
  (warning,) = origin.describe(run, films[:2]).warnings
  assert '1 of the 2 films is a real one:' in warning
  (warning,) = origin.describe(run, films[1:]).warnings
  assert 'all 2 films are real ones:' in warning
  (warning,) = origin.describe(run, films[1:2]).warnings
  assert 'and the film is a real one:' in warning
  assert origin.describe(run, films[:1]).warnings == []


def test_drawn_films_meet_a_network_of_real_ones(tmp_path, films):
  run = write_run(tmp_path / 'run', 'nih')
  (warning,) = origin.describe(run, films).warnings
  assert 'real films (NIH ChestX-ray14)' in warning
  assert '1 of the 3 films is a drawn one' in warning
  assert origin.describe(run, films[1:]).warnings == []
