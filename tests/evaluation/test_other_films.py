"""A run evaluated on films that it has never seen, into a folder of its own."""

import csv
import hashlib
import json
import os
import pathlib

import numpy as np
import pytest
from absl import logging
from flax import linen as nn
from PIL import Image

from configs import baseline
from cxr import (
  data,
  files,
  inference,
  modes,
  run_files,
  sharding,
  stored_rows,
)
from cxr.evaluation import other_films
from cxr.scored_maps import examples
from input_pipeline import catalogue, pipeline, records
from input_pipeline.sources.film_table import Options
from tests.input_pipeline import made_folder

SIZE = 32


def write_csv(path, rows):
  with open(path, 'w', newline='') as f:
    csv.writer(f).writerows(rows)


def draw(folder, findings, *, films, seed, splits=None):
  """A table folder whose films are bright where they have the first finding,
  and dark on the left where they have the second."""
  rng = np.random.default_rng(seed)
  rows = [['image', 'patient', *findings]]
  (folder / 'images').mkdir(parents=True)
  for i in range(films):
    pixels = rng.normal(120, 15, (SIZE, SIZE))
    pixels += 60 * (i % 2)
    pixels[:, :8] -= 60 * (i // 2 % 2)
    name = f'images/{seed}_{i:02d}.png'
    pixels = pixels.clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / name)
    rows.append([name, f'{seed} {i // 2}', i % 2, i // 2 % 2])
  if splits:
    rows = [
      [*row, splits[(i - 1) // 4 % len(splits)] if i else 'split']
      for i, row in enumerate(rows)
    ]
  write_csv(folder / 'films.csv', rows)
  return rows


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """The folder with home/, the films of run/, and away/, another hospital's."""
  folder = tmp_path_factory.mktemp('other')
  splits = 'train', 'train', 'validation', 'test'
  draw(folder / 'home', ('Mass', 'Edema'), films=64, seed=0, splits=splits)
  # Another order, another spelling, one finding of their own; one film is one
  # that the run learned from, under another name.
  rows = draw(folder / 'away', ('Pulmonary edema', 'Stent'), films=24, seed=1)
  known = (folder / 'home' / 'images' / '0_00.png').read_bytes()
  (folder / 'away' / 'images' / 'known.png').write_bytes(known)
  write_csv(
    folder / 'away' / 'films.csv',
    [*rows, ['images/known.png', 'somebody', 0, 0]],
  )
  write_csv(
    folder / 'away' / 'boxes.csv',
    [
      ('image', 'finding', 'x', 'y', 'w', 'h'),
      ('images/1_01.png', 'Pulmonary edema', 2, 3, 10, 12),
      ('images/1_01.png', 'Stent', 2, 3, 10, 12),
    ],
  )
  config = baseline.get_config('smoke')
  config.data.source, config.data.dir = 'table', str(folder / 'home')
  config.data.prepared_dir = str(folder / 'prepared')
  config.data.image_size, config.data.workers = SIZE, 1
  config.model.num_filters, config.model.num_stages = 4, 1
  config.model.output_stride = 4
  for name in config.augment:
    config.augment[name] = type(config.augment[name])(0)
  config.train.batch_size, config.train.robust_films = 8, 0
  config.evaluate.measures = ('targeted',)
  config.evaluate.num_resamples = 20
  config.evaluate.export = ()
  run = str(folder / 'run')
  modes.run('train', modes.Request(config, workdir=run))
  return folder


def evaluate(made, output, **overrides):
  overrides = {f'data.{name}': value for name, value in overrides.items()}
  modes.run(
    'evaluate',
    modes.Request(
      baseline.get_config('smoke'),
      overrides,
      workdir=str(made / 'run'),
      output=str(output),
    ),
  )


def read_json(path):
  return json.loads(pathlib.Path(path).read_text())


def contents(folder):
  return {
    path: hashlib.sha256(path.read_bytes()).hexdigest()
    for path in pathlib.Path(folder).rglob('*')
    if path.is_file()
  }


@pytest.fixture(scope='module')
def evaluated(made):
  """The folder of the evaluation, and the run's files before and after."""
  before = contents(made / 'run')
  evaluate(made, made / 'results', dir=str(made / 'away'))
  return made / 'results', before, contents(made / 'run')


def test_the_run_is_not_touched(evaluated):
  _, before, after = evaluated
  assert before == after


def test_all_films_are_tests_but_those_that_it_has_seen(evaluated):
  results, _, _ = evaluated
  with open(results / 'predictions.csv', newline='') as f:
    rows = list(csv.DictReader(f))
  clean = {
    split: [
      r['image'] for r in rows if r['split'] == split and r['attack'] == 'clean'
    ]
    for split in ('validation', 'test')
  }
  assert sorted(clean['test']) == [f'images/1_{i:02d}.png' for i in range(24)]
  assert all(name.startswith('images/0_') for name in clean['validation'])
  assert read_json(results / 'run.json')['seen'] == ['images/known.png']
  described = read_json(results / 'data.json')
  assert described['left_out'] == {'seen by the run': 1}
  assert described['splits']['test']['images'] == 24
  evaluation = read_json(results / 'evaluation.json')
  assert evaluation['config']['data']['test_fraction'] == 1


def test_findings_are_those_that_both_know(evaluated, made):
  results, _, _ = evaluated
  metrics = read_json(results / 'metrics.json')
  auroc = metrics['classification']['test']['auroc']
  assert auroc['Mass']['value'] is None and auroc['Edema']['value'] is not None
  scores = metrics['localization']['methods']['cam']['wang']
  assert list(scores) == ['mean', 'Edema']
  # What the weights learned from is still told.
  trained = read_json(made / 'run' / 'data.json')['splits']
  assert metrics['data']['splits']['train'] == trained['train']


def test_operating_points_are_the_run_s(evaluated, made):
  results, _, _ = evaluated
  fitted = read_json(results / 'calibration.json')
  assert fitted == read_json(made / 'run' / 'calibration.json')


def test_other_modes_take_the_folder_as_a_workdir(evaluated, made):
  results, _, _ = evaluated
  page = (results / 'report.html').read_text()
  assert 'smoke_baseline on films of a table (away)' in page
  assert not (results / 'MODEL_CARD.md').exists()  # the run has its card
  modes.run('report', modes.Request(workdir=str(results)))
  assert (results / 'report.html').read_text() == page
  # Nothing but the films: a run and the run itself, seen as two.
  with pytest.raises(ValueError, match='tested on different films'):
    modes.run(
      'compare', modes.Request(workdirs=(str(made / 'run'), str(results)))
    )
  # The same command again goes on; that of another run refuses.
  evaluate(made, results, dir=str(made / 'away'))
  with pytest.raises(ValueError, match='holds the evaluation of .*run'):
    other_films.check_output(str(results), str(made / 'another'))


def test_what_cannot_be_is_one_sentence(made, tmp_path):
  run = str(made / 'run')
  with pytest.raises(ValueError, match='is the folder of the run'):
    other_films.check_output(f'{run}/', run)
  with pytest.raises(ValueError, match='holds a run'):
    other_films.check_output(run, str(tmp_path))
  (tmp_path / 'file').write_text('')
  with pytest.raises(ValueError, match='holds other files'):
    other_films.check_output(str(tmp_path), run)
  with pytest.raises(ValueError, match='is a file'):
    other_films.check_output(str(tmp_path / 'file'), run)
  with pytest.raises(ValueError, match=r"trained on 'table'.*--output"):
    evaluate(made, '', source='nih', dir=str(made / 'away'))
  draw(tmp_path / 'none', ('Stent', 'Line'), films=4, seed=3)
  with pytest.raises(ValueError, match='share no finding'):
    evaluate(made, tmp_path / 'o', dir=str(tmp_path / 'none'))
  draw(tmp_path / 'seen', ('Mass', 'Edema'), films=4, seed=0)
  with pytest.raises(ValueError, match='^All test films'):
    evaluate(made, tmp_path / 'o', dir=str(tmp_path / 'seen'))


@pytest.mark.parametrize('mode', ['fit', 'evaluate', 'explain', 'export'])
def test_results_without_weights_are_no_run(tmp_path, mode):
  config = baseline.get_config('smoke')
  files.write_json(str(tmp_path / 'config.json'), config.to_dict())
  files.write_json(str(tmp_path / 'run.json'), {'workdir': '/runs/robust'})
  request = modes.Request(
    config=config, workdir=str(tmp_path), images=str(tmp_path)
  )
  with pytest.raises(ValueError, match='no weights.*--workdir=/runs/robust'):
    modes.run(mode, request)


def test_the_run_was_evaluated_before(made, tmp_path):
  os.makedirs(tmp_path / 'run')
  for name in ('config.json', 'data.json', 'checkpoints'):
    os.symlink(made / 'run' / name, tmp_path / 'run' / name)
  with pytest.raises(FileNotFoundError, match='evaluate it first'):
    evaluate(tmp_path, tmp_path / 'o', dir=str(made / 'away'))


def test_training_films_that_are_gone_are_said(made, tmp_path, caplog):
  split = data.load(run_files.read_config(str(made / 'run')))['test']
  config = run_files.read_config(str(made / 'run'))
  gone = config.copy_and_resolve_references()
  gone.data.dir = str(tmp_path / 'gone')
  run_files.write_config(str(tmp_path), gone)
  assert not other_films._seen(split, config, str(tmp_path)).any()
  assert 'cannot be seen' in caplog.text


def test_regions_and_readers_follow_the_films():
  rng = np.random.default_rng(0)
  split = pipeline.Split(
    name='test',
    image=rng.integers(0, 255, (4, 2, 2, 1), np.uint8),
    label=rng.normal(size=(4, 1)).astype(np.float32),
    image_name=np.array(list('abcd')),
    patient=np.arange(4),
    view=np.array(['PA'] * 4),
    age=np.zeros(4, np.float32),
    sex=np.array([''] * 4),
    box=np.arange(12.0).reshape(3, 4),
    box_image=np.array([0, 1, 3]),
    box_finding=np.array([0, 0, 0]),
    findings=('Mass',),
    boxed=('Mass',),
    mask=np.array([True, False]).reshape(2, 1, 1),
    mask_image=np.array([1, 2]),
    mask_finding=np.array([0, 0]),
    reader=np.arange(4, dtype=np.float32).reshape(1, 4, 1),
    reader_names=('R',),
  )
  kept = data.without(split, np.array([False, True, False, False]))
  assert kept.image_name.tolist() == ['a', 'c', 'd']
  np.testing.assert_array_equal(kept.image, split.image[[0, 2, 3]])
  np.testing.assert_array_equal(kept.box, split.box[[0, 2]])
  assert kept.box_image.tolist() == [0, 2]
  assert kept.mask_image.tolist() == [1] and not kept.mask.any()
  assert kept.reader.ravel().tolist() == [0, 2, 3]
  assert kept.content != split.content


def unboxed_films():
  return pipeline.Split(
    name='test',
    image=np.zeros((1, 2, 2, 1), np.uint8),
    label=np.zeros((1, 1), np.float32),
    image_name=np.array(['a']),
    patient=np.arange(1),
    view=np.array(['PA']),
    age=np.zeros(1, np.float32),
    sex=np.array(['']),
    box=np.zeros((0, 4)),
    box_image=np.zeros(0, int),
    box_finding=np.zeros(0, int),
    findings=('Mass',),
    boxed=(),
    content='new',
  )


def test_examples_of_earlier_films_are_not_kept(tmp_path):
  (tmp_path / 'examples.npz').write_bytes(b'of other films')
  config = baseline.get_config('smoke')
  splits = {'test': unboxed_films()}
  subject = inference.Subject(
    config, nn.Dense(1), {}, sharding.make_mesh(), splits
  )
  examples.write_examples(
    str(tmp_path / 'examples.npz'),
    subject,
    stored_rows.no_boxes(),
    np.zeros((1, 1)),
  )
  assert not (tmp_path / 'examples.npz').exists()


def test_results_that_are_replaced_are_told_of(tmp_path, monkeypatch):
  lines = []
  monkeypatch.setattr(logging, 'warning', lambda s, *a: lines.append(s % a))
  output, test = str(tmp_path), unboxed_films()
  other_films.tell_of_replaced(output, test)
  described = {'splits': {'test': {'images': 7, 'content_sha256': 'new'}}}
  files.write_json(str(tmp_path / 'data.json'), described)
  other_films.tell_of_replaced(output, test)
  assert not lines
  described['splits']['test']['content_sha256'] = 'old'
  files.write_json(str(tmp_path / 'data.json'), described)
  other_films.tell_of_replaced(output, test)
  assert 'an evaluation of 7 other films, which is replaced' in lines[0]


def test_films_on_disk_stay_there(made):
  config = run_files.read_config(str(made / 'run'))
  config.data.cache = 'none'
  split = data.load(config)['test']
  left_out = np.arange(len(split.label)) % 3 == 1
  kept = data.without(split, left_out)
  assert isinstance(kept.image, records.Films)
  pixels = np.asarray(split.image)[~left_out]
  np.testing.assert_array_equal(np.asarray(kept.image), pixels)
  np.testing.assert_array_equal(kept.image[[2, 0]], pixels[[2, 0]])


def test_nih_s_training_list_need_not_be_there(tmp_path):
  made_folder.layout(tmp_path)
  (tmp_path / 'train_val_list.txt').unlink()
  films = catalogue.read(tmp_path, Options(source='nih', test_fraction=1)).films
  assert [len(films[name]) for name in ('train', 'validation', 'test')] == [
    *(0, 0),
    len(made_folder.TEST),
  ]
  with pytest.raises(FileNotFoundError, match='has no train_val_list'):
    catalogue.read(tmp_path, Options(source='nih', test_fraction=0.2))
