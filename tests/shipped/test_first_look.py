"""explain without a run, and what the other modes say to weights alone."""

import csv
import os

import numpy as np
import pytest
from PIL import Image

from configs import default
from cxr import modes
from cxr.shipped import networks


@pytest.fixture
def film(tmp_path):
  path = tmp_path / 'films' / 'a.png'
  path.parent.mkdir()
  pixels = np.random.default_rng(0).integers(0, 256, (90, 80), np.uint8)
  Image.fromarray(pixels).save(path)
  return path


def test_a_film_is_explained_without_a_run(film, tmp_path, monkeypatch, caplog):
  monkeypatch.chdir(tmp_path)
  request = modes.Request(
    default.get_config(), config_chosen=False, images=str(film)
  )
  with caplog.at_level('INFO'):
    modes.run('explain', request)
  assert f'{networks.DEFAULT} explains' in caplog.text
  assert 'shipped://phantom_baseline' in caplog.text
  (folder,) = (tmp_path / 'runs/shipped/nih_robust/explain').iterdir()
  text = (folder / 'explain.html').read_text()
  assert 'nih_robust, which comes with the code' in text
  assert 'never for diagnosis' in text and 'guessing has 0.5' in text
  assert 'NIH ChestX-ray14' in text
  with open(folder / 'predictions.csv', newline='') as f:
    (row,) = csv.DictReader(f)
  assert row['image'] == 'a.png' and 0 < float(row['probability_Mass']) < 1
  assert row['called_Mass'] in ('0', '1')


def test_a_chosen_config_means_its_run(film, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  request = modes.Request(default.get_config(), images=str(film))
  with pytest.raises(FileNotFoundError, match='No run in runs/baseline'):
    modes.run('explain', request)


def test_a_film_is_asked_for_first():
  with pytest.raises(ValueError, match='needs --images=FILE'):
    modes.run('explain', modes.Request())


def test_an_unknown_network_is_told_those_there_are(film):
  request = modes.Request(workdir='shipped://mine', images=str(film))
  with pytest.raises(ValueError, match='No network mine .*phantom_robust'):
    modes.run('explain', request)


@pytest.mark.parametrize('mode', ['train', 'fit', 'evaluate', 'report'])
@pytest.mark.parametrize('is_named', [True, False])
def test_other_modes_need_a_run(mode, is_named):
  name = 'shipped://phantom_robust'
  workdir = name if is_named else networks.folder(name)
  before = sorted(os.listdir(networks.folder(name)))
  with pytest.raises(ValueError, match='weights and no run.*init_from') as e:
    modes.run(mode, modes.Request(workdir=workdir))
  assert workdir in str(e.value)
  assert sorted(os.listdir(networks.folder(name))) == before


def test_a_mode_may_not_change_what_the_weights_were_made_with(film):
  request = modes.Request(
    overrides={'model.num_filters': 8},
    workdir='shipped://phantom_robust',
    images=str(film),
  )
  with pytest.raises(ValueError, match='whose weights were made with it'):
    modes.run('explain', request)


def test_a_comparison_of_weights_alone_is_a_sentence():
  names = 'shipped://phantom_baseline', 'shipped://phantom_robust'
  with pytest.raises(ValueError, match='weights and no run'):
    modes.run('compare', modes.Request(workdirs=names))
