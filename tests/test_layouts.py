"""CheXpert and VinDr-CXR as downloaded: prepared, trained, evaluated."""

import csv
import json

import numpy as np

from configs import default
from cxr import data, files, modes, run_files
from cxr.exporting import chexlocalize
from input_pipeline.sources import chexpert
from tests.input_pipeline.sources.made_downloads import (
  chexpert_folder,
  chexpert_row,
  vindr_box,
  vindr_folder,
  vindr_labels,
)


def train(folder, source, workdir, **fields):
  """The smallest network, and no measure that compiles anything of its own."""
  config = default.get_config('smoke')
  config.data.source, config.data.dir = source, str(folder)
  config.data.prepared_dir = str(workdir.parent / 'prepared')
  config.data.image_size, config.data.workers = 32, 1
  config.data.update(fields)
  config.model.num_filters, config.model.num_stages = 2, 1
  config.model.output_stride = 4
  for name in config.augment:
    config.augment[name] = type(config.augment[name])(0)
  config.train.batch_size, config.train.num_epochs = 8, 1.0
  config.train.robust_films = 0
  config.evaluate.methods, config.evaluate.measures = ('cam',), ()
  config.evaluate.attacks, config.evaluate.num_resamples = ('pgd',), 10
  modes.run('train', modes.Request(config=config, workdir=str(workdir)))
  return config, json.loads((workdir / 'metrics.json').read_text())


def left_out(workdir):
  (path,) = (workdir.parent / 'prepared').glob('*/*/*/left_out.csv')
  with open(path, newline='') as f:
    return [row['reason'] for row in csv.DictReader(f)]


def test_chexpert(tmp_path):
  rows = {}
  for split, first in (('train', 1), ('valid', 64541)):
    rows[split] = []
    for k in range(28 if split == 'train' else 8):
      every = {name.replace(' ', '_'): '1.0' for name in chexpert.FINDINGS}
      if k % 2 == 0:
        every = {'No_Finding': '1.0', 'Support_Devices': '0.0'}
      elif k == 1:
        every |= {'Edema': '-1.0'}
      rows[split].append(
        chexpert_row(first + k, split=split, prefix='CheXpert-v1.0/', **every)
      )
  rows['train'].append(chexpert_row(1, file='view2_lateral.jpg', Edema='1.0'))
  folder = chexpert_folder(
    tmp_path / 'CheXpert-v1.0', rows['train'], rows['valid']
  )
  lesion = np.zeros((80, 72), bool)
  lesion[20:40, 30:60] = True
  drawn = chexlocalize.rle_encode(lesion)
  empty = chexlocalize.rle_encode(np.zeros_like(lesion))
  masks = {
    f'patient{64541 + k}_study1_view1_frontal': {
      task: drawn if k % 2 and task != 'Edema' else empty
      for task in chexlocalize.TASKS
    }
    for k in range(8)
  }
  files.write_json(str(folder / 'gt_segmentations_val.json'), masks)

  workdir = tmp_path / 'run'
  config, metrics = train(folder, 'chexpert', workdir, uncertain='positive')
  assert run_files.read_findings(str(workdir)) == chexpert.FINDINGS
  test = metrics['data']['splits']['test']
  assert test['images'] == 8  # valid.csv, where no other test is there
  assert test['positives']['Lung Opacity'] == 4
  trained = sum(
    metrics['data']['splits'][name]['positives']['Edema']
    for name in ('train', 'validation')
  )
  assert trained == 14  # with the uncertain one
  assert left_out(workdir) == ['lateral film']
  assert metrics['classification']['test']['auroc']['mean']['images'] == 8
  # Nine of the ten segmented findings have a mask, and Edema has none.
  tested = data.load(config)['test']
  names = np.array(tested.findings)
  assert {*names[tested.mask_finding]} == {*chexpert.SEGMENTED} - {'Edema'}
  assert {*tested.mask_image.tolist()} == {1, 3, 5, 7}
  # They are the truth of the figures, and everything says so.
  segmented = {name: 4 for name in chexpert.SEGMENTED if name != 'Edema'}
  localization = metrics['localization']
  assert {n: c for n, c in localization['count'].items() if c} == segmented
  assert localization['masks'] == segmented
  masks = metrics['data']['splits']['test']['masks']
  assert {n: c for n, c in masks.items() if c} == segmented
  cam = localization['methods']['cam']['wang']
  for score in ('mask_iou', 'pointing', 'energy', 'iou@0.3', 'iobb@0.5'):
    assert cam['Cardiomegaly'][score]['value'] is not None
    assert cam['Cardiomegaly'][score]['images'] == 4
    assert cam['Edema'][score]['value'] is None
  page = (workdir / 'report.html').read_text()
  assert 'Films whose truth is a mask' in page and 'masks, test' in page
  assert 'boxes or masks exist for' in (workdir / 'MODEL_CARD.md').read_text()
  with open(workdir / 'boxes.csv', newline='') as f:
    kinds = {row['truth_kind'] for row in csv.DictReader(f)}
  assert kinds == {'mask', ''}


def test_vindr(tmp_path):
  readers = ('R8', 'R9', 'R10')
  train_rows, train_boxes, test_rows, test_boxes = [], [], [], []
  for k in range(28):
    image = f'{k:032x}'
    for reader in readers:
      # One reader of three does not see what the others see.
      ill = k % 2 and reader != readers[k % 3]
      labels = {'Cardiomegaly': 1, 'Pleural_effusion': 1} if ill else {}
      train_rows.append(vindr_labels(image, reader, **labels))
      if ill:
        train_boxes.append(
          vindr_box(image, reader, 'Cardiomegaly', 20, 30, 50, 60)
        )
  for k in range(8):
    image = f'{1000 + k:032x}'
    labels = {'Cardiomegaly': 1, 'Pleural_effusion': 1} if k % 2 else {}
    test_rows.append(vindr_labels(image, **labels))
    if k % 2:
      # Two boxes of one finding.
      test_boxes += [
        vindr_box(image, '', 'Cardiomegaly', 20, 30, 50, 60),
        vindr_box(image, '', 'Cardiomegaly', 5, 5, 15, 15),
        vindr_box(image, '', 'Pleural effusion', 60, 60, 500, 70),
      ]
  folder = vindr_folder(
    tmp_path / 'vindr',
    train=train_rows,
    train_boxes=train_boxes,
    test=test_rows,
    test_boxes=test_boxes,
  )
  workdir = tmp_path / 'run'
  names = ('Pleural Effusion', 'Cardiomegaly')
  _, metrics = train(folder, 'vindr', workdir, findings=names)
  assert run_files.read_findings(str(workdir)) == names
  splits = metrics['data']['splits']
  assert splits['test']['images'] == 8
  assert splits['test']['boxes'] == {'Pleural Effusion': 0, 'Cardiomegaly': 8}
  assert splits['train']['images'] + splits['validation']['images'] == 28
  trained = [splits[name]['positives'] for name in ('train', 'validation')]
  assert sum(of['Cardiomegaly'] for of in trained) == 14
  # 500 is far outside films of 72 pixels.
  assert left_out(workdir) == ['box outside the film'] * 4
  cam = metrics['localization']['methods']['cam']['wang']
  assert cam['mean']['pointing']['images'] == 4
