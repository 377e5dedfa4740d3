"""Weights from elsewhere become a run, and are evaluated as they are."""

import csv
import json
import math
import pathlib

import numpy as np
import pytest
import safetensors.numpy

from configs import baseline
from cxr import inference, modes, run_files
from cxr.foreign import run_of_weights
from cxr.models import torch_weights, torchxrayvision
from tests.evaluation.test_other_films import draw
from tests.models import test_resnet

SIZE = 32
POINTS = np.full(18, 0.25, np.float32)


@pytest.fixture(scope='module')
def films(tmp_path_factory):
  """A table of films labelled with Pulmonary edema and Stent."""
  folder = tmp_path_factory.mktemp('foreign')
  splits = 'train', 'validation', 'test', 'test'
  draw(folder, ('Pulmonary edema', 'Stent'), films=64, seed=0, splits=splits)
  return folder


def weights_file(path, outputs=18, changes=(), prefix='', **metadata):
  """A ResNet-18 of 4 filters and one stage, as TorchXRayVision writes it."""
  _, variables = test_resnet.build(num_filters=4, num_stages=1)
  rng = np.random.default_rng(0)
  tensors = torch_weights.to_torch(variables) | {
    'fc.weight': rng.normal(size=(outputs, 4)).astype(np.float32),
    'fc.bias': rng.normal(size=outputs).astype(np.float32),
    'bn1.num_batches_tracked': np.array(7),
    **dict(changes),
  }
  tensors = {f'{prefix}{name}': value for name, value in tensors.items()}
  safetensors.numpy.save_file(tensors, path, metadata or None)
  return str(path)


def config_of(films, stated, tmp_path, **model):
  config = baseline.get_config('smoke')
  config.data.source, config.data.dir = 'table', str(films)
  config.data.prepared_dir = str(tmp_path / 'prepared')
  config.data.image_size, config.data.workers = SIZE, 1
  config.model.init_from = stated
  for name, value in model.items():
    config.model[name] = value
  config.evaluate.measures, config.evaluate.num_resamples = (), 20
  config.evaluate.finding_attack_films = 0
  return config


def make(config, workdir, **overrides):
  found = run_of_weights.find(config, overrides, str(workdir))
  workdir.mkdir(exist_ok=True)
  run_of_weights.make_run(found, str(workdir))
  return run_files.read_weights_from(str(workdir))


def read_json(path):
  return json.loads(pathlib.Path(path).read_text())


def test_torchxrayvision(films, tmp_path, caplog):
  """Its outputs by synonym, its pixels, its operating points."""
  points = POINTS.copy()
  points[0] = np.nan
  path = weights_file(
    tmp_path / 'xrv.safetensors', changes={'op_threshs': points}
  )
  workdir = tmp_path / 'xrv'
  with caplog.at_level('INFO'):
    record = make(config_of(films, path, tmp_path), workdir)
  edema = torchxrayvision.FINDINGS.index('Edema')
  assert record['findings'] == {
    'Pulmonary edema': {'output': edema, 'name': 'Edema'}
  }
  assert record['findings_left_out'] == ['Stent']
  assert len(record['outputs_left_out']) == 17
  assert record['outputs_left_out'][0] == 'output 0'  # never trained
  assert record['counters_left_out'] == 1
  assert record['arrays_left_out'] == []
  logit = record['operating_points']['Pulmonary edema']
  assert logit == pytest.approx(math.log(0.25 / 0.75))
  # What was matched is seen in the log.
  assert 'conv1.weight' in caplog.text and '1 (Stent)' in caplog.text
  assert 'output 4, Edema' in caplog.text

  config, model, variables, step = inference.load_model(str(workdir))
  assert (config.model.arch, config.model.num_filters) == ('resnet18', 4)
  assert (config.model.num_stages, config.model.output_stride) == (1, 4)
  assert (config.model.input_mean, config.model.input_std) == (0.5, 1 / 2048)
  assert (config.name, step) == ('xrv', 0)
  stored = safetensors.numpy.load_file(path)
  kernel, bias = model.head(variables['params'])
  np.testing.assert_array_equal(kernel[:, 0], stored['fc.weight'][edema])
  assert bias[0] == stored['fc.bias'][edema]
  np.testing.assert_array_equal(
    variables['params']['conv1']['kernel'],
    stored['conv1.weight'].transpose(2, 3, 1, 0),
  )
  np.testing.assert_array_equal(
    variables['batch_stats']['bn1']['mean'], stored['bn1.running_mean']
  )
  described = read_json(workdir / 'data.json')
  assert described['findings'] == ['Pulmonary edema']
  assert 'train' not in described['splits']
  with open(workdir / 'weights.csv', newline='') as f:
    (row,) = (r for r in csv.DictReader(f) if r['array'] == 'fc.bias')
  assert float(row['mean']) == pytest.approx(stored['fc.bias'].mean(), rel=1e-4)


def test_three_channels_stay_three(films, tmp_path):
  kernel = np.random.default_rng(0).normal(size=(4, 3, 7, 7))
  kernel = kernel.astype(np.float32)
  path = weights_file(
    tmp_path / 'w.safetensors', 2, {'conv1.weight': kernel}, prefix='module.'
  )
  record = make(config_of(films, path, tmp_path), tmp_path / 'run')
  assert record['notes'][0].startswith('the file does not name its outputs')
  config, _, variables, _ = inference.load_model(str(tmp_path / 'run'))
  assert config.model.input_mean == (0.485, 0.456, 0.406)
  np.testing.assert_array_equal(
    variables['params']['conv1']['kernel'], kernel.transpose(2, 3, 1, 0)
  )


def test_the_user_names_the_outputs(films, tmp_path):
  path = weights_file(tmp_path / 'w.safetensors', 3)
  config = config_of(
    films,
    path,
    tmp_path,
    init_pixels='unit',
    init_findings=('-', 'edema', '-'),
  )
  record = make(config, tmp_path / 'run')
  assert record['findings']['Pulmonary edema'] == {'output': 1, 'name': 'edema'}
  assert record['notes'] == []


@pytest.mark.parametrize(
  ('outputs', 'changes', 'model', 'message'),
  [
    (3, {}, {'init_pixels': 'unit'}, r'has 3 outputs and does not say which'),
    (3, {}, {}, 'does not say what pixels'),
    (
      2,
      {},
      {'init_pixels': 'unit', 'init_findings': ('a', 'b')},
      r'None of the 2 outputs .* \(a, b\) is a finding of the films',
    ),
    (
      2,
      {},
      {'init_pixels': 'unit', 'init_findings': ('edema',)},
      'init_findings names 1 findings, and .* has 2 outputs',
    ),
    (
      2,
      {'bn1.weight': np.array([1, np.nan, 1, 1], np.float32)},
      {'init_pixels': 'unit'},
      'bn1.weight in .* has 1 numbers of 4 that are not finite',
    ),
    (
      2,
      {'bn1.running_var': -np.ones(4, np.float32)},
      {'init_pixels': 'unit'},
      'is a variance, and has -1',
    ),
    (
      2,
      {'layer1.0.conv2.weight': np.zeros((4, 2, 3, 3), np.float32)},
      {'init_pixels': 'unit'},
      'wide and grouped networks',
    ),
  ],
)
def test_refused_in_a_sentence(
  films, tmp_path, outputs, changes, model, message
):
  path = weights_file(tmp_path / 'w.safetensors', outputs, changes)
  with pytest.raises(ValueError, match=message):
    make(config_of(films, path, tmp_path, **model), tmp_path / 'run')
  assert not (tmp_path / 'run' / 'config.json').exists()


def test_an_override_may_not_contradict_the_file(films, tmp_path):
  path = weights_file(tmp_path / 'w.safetensors', 2)
  config = config_of(films, path, tmp_path, init_pixels='unit')
  for name, value in (('model.arch', 'resnet50'), ('model.num_stages', 2)):
    with pytest.raises(ValueError, match=rf'config\.{name} \({value!r} here\)'):
      run_of_weights.find(config, {name: value}, str(tmp_path / 'run'))
  free = {'model.dtype': 'bfloat16', 'name': 'mine'}
  config.name = 'mine'
  made = run_of_weights.find(config, free, str(tmp_path / 'run')).config
  assert (made.model.dtype, made.name) == ('bfloat16', 'mine')


def test_a_run_that_was_killed_as_it_was_made(films, tmp_path):
  """config.json comes last: without it, the run is made again, of any file."""
  config = config_of(
    films,
    weights_file(tmp_path / 'a.safetensors', 2),
    tmp_path,
    init_pixels='unit',
  )
  first = make(config, tmp_path / 'run')
  (tmp_path / 'run' / 'config.json').unlink()
  other = np.full(4, 2, np.float32)
  config.model.init_from = weights_file(
    tmp_path / 'b.safetensors', 2, {'bn1.bias': other}
  )
  second = make(config, tmp_path / 'run')
  assert first['sha256'] != second['sha256']
  _, _, variables, _ = inference.load_model(str(tmp_path / 'run'))
  np.testing.assert_array_equal(variables['params']['bn1']['bias'], other)


def test_evaluated_exported_and_evaluated_again(films, tmp_path):
  """The export's evaluation has the rows of the run, bit for bit."""
  path = weights_file(
    tmp_path / 'xrv.safetensors', changes={'op_threshs': POINTS}
  )
  run, again = tmp_path / 'run', tmp_path / 'again'

  def evaluate(stated, workdir):
    config = config_of(films, stated, tmp_path)
    overrides = {'model.init_from': stated}
    modes.run('evaluate', modes.Request(config, overrides, str(workdir)))

  evaluate(path, run)
  metrics = read_json(run / 'metrics.json')
  assert 'train' not in metrics['data']['splits']
  given = metrics['calibration']['given']
  assert given['from'] == 'op_threshs of xrv.safetensors'
  with open(run / 'predictions.csv', newline='') as f:
    rows = [r for r in csv.DictReader(f) if r['split'] == 'test']
  rows = [r for r in rows if r['attack'] == 'clean']
  columns = [c for c in rows[0] if 'edema' in c]
  logit, label = (
    np.array([float(r[c]) for r in rows])
    for kind in ('logit', 'label')
    for c in columns
    if kind in c
  )
  called = logit >= math.log(0.25 / 0.75)
  sensitivity = given['sensitivity']['Pulmonary edema']['value']
  assert sensitivity == pytest.approx(called[label == 1].mean())
  page = (run / 'report.html').read_text()
  assert 'were trained is not known' in page
  assert 'with the weights of xrv.safetensors as they are' in page
  assert 'came with the weights' in (run / 'MODEL_CARD.md').read_text()

  modes.run('export', modes.Request(workdir=str(run)))
  assert 'not known' in (run / 'export' / 'README.md').read_text()
  # Nothing claims that they learned from the films of this run.
  assert not (run / 'export' / 'seen_films.npz').exists()
  evaluate(str(run / 'export'), again)
  assert 'were trained is not known' in (again / 'report.html').read_text()
  for name in ('predictions.csv', 'boxes.csv'):
    assert (run / name).read_bytes() == (again / name).read_bytes()

  # The same command goes on; another file, and a training, are refused.
  evaluate(path, run)
  assert (run / 'report.html').read_text() == page
  other = weights_file(
    tmp_path / 'other.safetensors',
    18,
    {
      'op_threshs': POINTS,
      'bn1.bias': np.ones(4, np.float32),
    },
  )
  with pytest.raises(ValueError, match='the evaluation of other weights'):
    evaluate(other, run)
  config = run_files.read_config(str(run))
  with pytest.raises(ValueError, match='to train from them choose another'):
    modes.run('train', modes.Request(config, workdir=str(run)))
