"""The networks that come with the code are whole, small, and what they say."""

import os
import pathlib
import re

import numpy as np
import pytest
from scipy import stats

from configs import default
from cxr import film_hashes, inference, run_files, sharding
from cxr.exporting import companions
from cxr.models import origins
from cxr.reporting import main_result, wording
from cxr.shipped import networks
from input_pipeline.findings import FINDINGS
from input_pipeline.phantom import draw, plan

NAMES = ['nih_baseline', 'nih_robust', 'phantom_baseline', 'phantom_robust']
FILES = [
  'MODEL_CARD.md',
  'README.md',
  'calibration.json',
  'config.json',
  'data.json',
  'metrics.json',
  'model.safetensors',
  companions.SEEN_FILMS,
]
MOST_BYTES = 8_000_000  # of all networks


def read(name, file):
  with open(
    os.path.join(networks.folder(f'shipped://{name}'), file), 'rb'
  ) as f:
    return f.read()


def test_all_are_there():
  assert networks.names() == NAMES
  assert networks.DEFAULT == 'shipped://nih_robust'
  assert len(networks.others()) == 3


def test_an_unknown_one_is_told_those_there_are():
  with pytest.raises(ValueError, match='No network nih comes .*nih_baseline'):
    networks.folder('shipped://nih')
  with pytest.raises(ValueError, match='No network nih comes .*nih_baseline'):
    origins.find('shipped://nih', 0)
  with pytest.raises(ValueError, match='No network .. comes'):
    networks.folder('shipped://..')


def test_results_are_never_written_among_the_code():
  assert networks.results('runs/robust') == 'runs/robust'
  folder = networks.folder(networks.DEFAULT)
  assert networks.results(folder) == os.path.join('runs/shipped/nih_robust')


def test_they_are_small():
  total = sum(len(read(name, file)) for name in NAMES for file in FILES)
  assert total < MOST_BYTES


@pytest.mark.parametrize('name', NAMES)
def test_a_network_is_whole_and_names_no_film(name):
  folder = networks.folder(f'shipped://{name}')
  assert sorted(os.listdir(folder)) == sorted(FILES)
  config, _, variables, step = inference.load_model(folder)
  assert origins.find(f'shipped://{name}', 0).exported['step'] == step
  assert run_files.read_findings(folder) == FINDINGS
  assert run_files.read_calibration(folder, step, 'clean')
  data = run_files.read(folder, 'data.json', 'splits')['splits']
  seen = film_hashes.read(os.path.join(folder, companions.SEEN_FILMS))
  for split, hashes in seen._asdict().items():
    assert len(hashes) == data[split]['images']
  for file in FILES:
    text = read(name, file)
    assert not re.search(rb'\d{8}_\d{3}', text), file
    assert not re.search(rb'(?<![\w.])/(root|home|tmp)/', text), file
  readme = read(name, 'README.md').decode()
  assert 'not for diagnosis' in readme
  is_robust = config.attack.objective != 'clean'
  assert is_robust == name.endswith('robust')
  if name.startswith('nih'):
    for text in (readme, read(name, 'MODEL_CARD.md').decode()):
      text = ' '.join(text.split())
      assert 'NIH Clinical Center' in text and 'CVPR 2017' in text


@pytest.fixture(scope='module')
def phantom():
  """Label and image of the default phantom's test films, drawn one by one, past
  files and preparation."""
  config = default.get_config()
  options = config.data.phantom.to_dict()
  entries = plan.make_plan(options.pop('num_films'), options['seed'])
  entries = [entry for entry in entries if entry.test]
  options['image_size'] = config.data.image_size
  label = np.array([[f in e.findings for f in FINDINGS] for e in entries])
  image = np.stack(
    [draw.draw_film(e, renderings=False, **options).image for e in entries]
  )
  return label, image[..., None]


@pytest.mark.parametrize('name', ['phantom_baseline', 'phantom_robust'])
def test_a_network_has_on_the_phantom_the_auroc_that_its_card_states(
  name, phantom
):
  label, image = phantom
  folder = networks.folder(f'shipped://{name}')
  config, model, variables, _ = inference.load_model(folder)
  assert config.data == default.get_config().data
  predict = inference.make_predict(model, sharding.make_mesh(1))
  logits = np.concatenate(
    [predict(variables, image[k : k + 100]) for k in range(0, len(image), 100)]
  )
  aurocs = []
  for has, logit in zip(label.T, logits.T, strict=True):
    won = stats.mannwhitneyu(logit[has], logit[~has]).statistic
    aurocs.append(won / has.sum() / (~has).sum())
  mean = np.mean(aurocs)
  stated = run_files.read(folder, 'metrics.json')['classification']['test']
  assert stated['auroc']['mean']['images'] == len(label)
  assert mean == pytest.approx(stated['auroc']['mean']['value'], abs=5e-4)
  assert f'is {mean:.3f} (' in read(name, 'README.md').decode()


@pytest.mark.parametrize('name', NAMES)
def test_the_documents_state_the_same(name):
  pages = pathlib.Path(__file__).parents[2] / 'docs' / 'weights.md'
  (row,) = [
    line for line in pages.read_text().splitlines() if f'| `{name}` |' in line
  ]
  stated = run_files.read(networks.folder(f'shipped://{name}'), 'metrics.json')
  (attacked, *_) = main_result.attacked(stated['robustness'])
  assert wording.is_alone(attacked['attack'])
  for estimate in (
    stated['classification']['test']['auroc']['mean'],
    attacked['auroc']['mean'],
  ):
    value, low, high = (
      f'{estimate[key]:.3f}'.removeprefix('0')
      for key in ('value', 'low', 'high')
    )
    assert f'{value} ({low} to {high})' in row
    assert f'{estimate["images"]:,} films of {estimate["patients"]:,}' in row
