"""An exported folder is used as its run is, and known for what it is."""

import json
import os

import jax
import numpy as np
import pytest

from cxr import data, files, film_hashes, inference, run_files
from cxr.exporting import companions, export
from cxr.models import architectures
from tests.exporting import test_export


@pytest.fixture(scope='module')
def exported(tiny_config, tmp_path_factory):
  """(workdir, its export, config, variables) of a network never trained."""
  workdir = tmp_path_factory.mktemp('run')
  config = tiny_config.copy_and_resolve_references()
  run_files.write_config(str(workdir), config)
  data.write_summary(str(workdir), config, data.load(config))
  (workdir / 'calibration.json').write_text(
    json.dumps(test_export.calibration_rows())
  )
  (workdir / 'MODEL_CARD.md').write_text('# Card\n')
  auroc = {'mean': {'value': 0.7, 'low': 0.6, 'high': 0.8}}
  metrics = {
    'step': 7,
    'classification': {
      'test': {'auroc': auroc, 'average_precision': {}},
      'validation': {'auroc': auroc},
    },
    'robustness': [],
    'localization': {'methods': {}},
  }
  files.write_json(str(workdir / 'metrics.json'), metrics)
  model = architectures.make_model(config.model, 14)
  variables = test_export.variables_of(model)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      export.inference,
      'load_model',
      lambda workdir, config: (config, model, variables, 7),
    )
    path = export.export(config, str(workdir))
  return str(workdir), path, config, variables


def test_it_is_opened_as_the_run_is(exported):
  workdir, path, config, variables = exported
  assert path == os.path.join(workdir, 'export')
  again, model, read, step = inference.load_model(path)
  assert step == 7 and run_files.read_findings(path)[0] == 'Atelectasis'
  jax.tree.map(np.testing.assert_array_equal, read, dict(variables))
  assert again.model == config.model and again.evaluate == config.evaluate
  stored = run_files.read_calibration(path, 7, 'clean')
  assert stored == test_export.calibration_rows()


def test_nothing_of_the_machine_goes_along(exported):
  workdir, path, config, _ = exported
  assert os.path.isabs(config.data.dir)
  stored = run_files.read_config(path)
  assert stored.data.dir == 'phantom'
  for name in os.listdir(path):
    with open(os.path.join(path, name), 'rb') as f:
      text = f.read()
    assert os.path.dirname(workdir).encode() not in text, name
    # A film's name: the hashes stand for it.
    assert b'_000.png' not in text, name


def test_the_films_that_it_has_seen_are_known(exported):
  _, path, config, _ = exported
  splits = data.load(config)
  seen = film_hashes.read(os.path.join(path, companions.SEEN_FILMS))
  hashes = {name: film_hashes.of_split(splits[name]) for name in splits}
  assert seen.train.tolist() == sorted(hashes['train'].tolist())
  assert seen.validation.tolist() == sorted(hashes['validation'].tolist())
  assert not np.isin(hashes['test'], np.concatenate(seen)).any()


def test_it_says_how_good_the_network_is(exported):
  _, path, _, _ = exported
  metrics = run_files.read(path, 'metrics.json')
  assert metrics['classification']['test']['auroc']['mean']['value'] == 0.7
  assert 'localization' not in metrics
  assert 'validation' not in metrics['classification']
  with open(os.path.join(path, 'README.md')) as f:
    text = f.read()
  assert 'Its AUROC, as the mean over findings, is 0.700' in text
  assert os.path.exists(os.path.join(path, 'MODEL_CARD.md'))


def test_estimates_of_another_step_stay_behind(exported, tmp_path):
  workdir, _, config, _ = exported
  assert companions.write(workdir, str(tmp_path), config, 8) == {}
  assert sorted(os.listdir(tmp_path)) == ['data.json', companions.SEEN_FILMS]


def test_an_export_of_an_export_is_the_same(exported, tmp_path):
  _, path, _, variables = exported
  export.export(run_files.read_config(path), path, str(tmp_path))
  for name in sorted(os.listdir(path)):
    with (
      open(os.path.join(path, name), 'rb') as one,
      open(tmp_path / name, 'rb') as other,
    ):
      # The program names the lines of its making; the weights' metadata come
      # in any order.
      if name not in ('model.stablehlo', 'model.safetensors'):
        assert one.read() == other.read(), name
  again = inference.load_model(str(tmp_path))[2]
  jax.tree.map(np.testing.assert_array_equal, again, dict(variables))


def test_an_export_is_not_written_over_itself(exported):
  _, path, config, _ = exported
  with pytest.raises(ValueError, match='is the folder that is exported'):
    export.export(config, path, path)


def test_it_holds_one_checkpoint_and_says_so(exported):
  _, path, _, _ = exported
  config = run_files.read_config(path)
  config.evaluate.batch_stats = 'adversarial'
  with pytest.raises(ValueError, match="holds the weights of 'clean' alone"):
    inference.load_model(path, config)


def test_an_export_of_an_older_version_is_exported_anew(exported, tmp_path):
  _, path, _, _ = exported
  (tmp_path / 'model.safetensors').write_bytes(b'')
  described = files.read_json(os.path.join(path, 'config.json'))
  del described['run']
  files.write_json(str(tmp_path / 'config.json'), described)
  with pytest.raises(ValueError, match='holds no config.*Export the run again'):
    run_files.read_config(str(tmp_path))
