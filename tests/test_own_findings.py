"""A data set that names its own findings, through every mode.

Two findings, of which one has boxes and some labels are unknown; beside the run
on both stands one that knows the boxed finding alone.
"""

import csv
import json
import pathlib

import numpy as np
import pytest
from jax import export
from PIL import Image

from configs import baseline
from cxr import modes, run_files

FINDINGS = ('Zyste', 'Schatten/links')
SIZE = 40
MEASURES = (
  'alignment', 'targeted', 'under_attack', 'maps', 'faithfulness', 'causes',
)  # fmt: skip


def draw_films(folder):
  """A bright square is a Zyste, a dark left side a Schatten."""
  rng = np.random.default_rng(0)
  films, boxes = [], []
  (folder / 'images').mkdir(parents=True)
  for i in range(72):
    pixels = rng.normal(120, 15, (SIZE, SIZE))
    cyst, shadow = i % 2, i // 2 % 2
    split = ('train', 'train', 'validation', 'test')[i // 4 % 4]
    name = f'{i:02d}.png'
    if cyst:
      y, x = rng.integers(4, 24, 2)
      pixels[y : y + 10, x : x + 10] += 70
      if split == 'test':
        boxes.append([f'images/{name}', FINDINGS[0], x, y, 10, 10])
    if shadow:
      pixels[:, :12] -= 60
    pixels = pixels.clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / 'images' / name)
    known = '' if i % 9 == 4 else shadow
    films.append([f'images/{name}', f'patient {i // 4}', split, cyst, known])
  for name, header, rows in (
    ('films.csv', ['image', 'patient', 'split', *FINDINGS], films),
    ('boxes.csv', ['image', 'finding', 'x', 'y', 'w', 'h'], boxes),
  ):
    with open(folder / name, 'w', newline='') as f:
      csv.writer(f).writerows([header, *rows])


def tiny(folder, **fields):
  config = baseline.get_config('smoke')
  config.data.source, config.data.dir = 'table', str(folder / 'films')
  config.data.prepared_dir = str(folder / 'prepared')
  config.data.image_size, config.data.workers = SIZE, 1
  config.data.update(fields)
  config.model.num_filters, config.model.num_stages = 4, 1
  config.model.output_stride = 4
  for name in config.augment:
    config.augment[name] = type(config.augment[name])(0)
  config.train.batch_size, config.train.robust_films = 8, 4
  config.evaluate.measures = MEASURES
  config.evaluate.check_films = 4
  config.evaluate.num_resamples = 20
  config.evaluate.export = ('coco', 'chexlocalize')
  return config


def read_json(path):
  return json.loads(pathlib.Path(path).read_text())


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """The folder with films/, and the trained runs both/ and one/."""
  folder = tmp_path_factory.mktemp('own')
  draw_films(folder / 'films')
  for name, fields in (('both', {}), ('one', {'findings': FINDINGS[:1]})):
    config = tiny(folder, **fields)
    config.name = name
    modes.run('train', modes.Request(config, workdir=str(folder / name)))
  return folder


def test_a_run_has_the_findings_of_its_data(made):
  for name, findings in (('both', FINDINGS), ('one', FINDINGS[:1])):
    workdir = made / name
    assert run_files.read_findings(str(workdir)) == findings
    assert read_json(workdir / 'data.json')['boxed'] == ['Zyste']
    metrics = read_json(workdir / 'metrics.json')
    auroc = metrics['classification']['test']['auroc']
    assert list(auroc) == ['mean', *findings]
    fitted = read_json(workdir / 'calibration.json')['findings']
    assert list(fitted) == list(findings)
    scores = metrics['localization']['methods']['cam']['wang']
    assert list(scores) == ['mean', 'Zyste']
    # Every boxed film has a Zyste: the other patients are those without a box.
    assert 'cam_own_less_another' in metrics['localization']['methods']
    measured = metrics['measures']
    assert list(measured['hidden']['']['pgd-2 1']) == ['mean', *findings]
    assert list(measured['sameness']['cam']['']) == ['mean', 'Zyste']
    assert 'effect' not in measured  # of phantoms alone
    for page in ('report.html', 'MODEL_CARD.md'):
      text = (workdir / page).read_text()
      assert 'Zyste' in text and 'Atelectasis' not in text
  # With one finding there is none that could be held.
  moved = metrics['measures']['hide_moves_others']['']['pgd-2 1']
  assert moved['mean']['value'] is None


def test_unknown_labels_count_nowhere(made):
  with open(made / 'both' / 'predictions.csv', newline='') as f:
    rows = [row for row in csv.DictReader(f) if row['split'] == 'test']
  unknown = sum(row['label_Schatten/links'] == '' for row in rows)
  clean = [row for row in rows if row['attack'] == 'clean']
  metrics = read_json(made / 'both' / 'metrics.json')
  estimate = metrics['classification']['test']['auroc']['Schatten/links']
  assert unknown > 0 and estimate['images'] == len(clean) - sum(
    row['label_Schatten/links'] == '' for row in clean
  )


def test_files_for_other_tools_name_them(made):
  (truth,) = (made / 'both' / 'evaluation').glob('*/coco-truth.json')
  truth = read_json(truth)
  assert [c['name'] for c in truth['categories']] == ['Zyste']
  with open(made / 'films' / 'boxes.csv', newline='') as f:
    boxes = [[float(row[side]) for side in 'xywh'] for row in csv.DictReader(f)]
  np.testing.assert_allclose(
    sorted(entry['bbox'] for entry in truth['annotations']),
    sorted(boxes),
    rtol=1e-6,
  )


def test_runs_of_different_findings_are_compared_and_studied(made):
  workdirs = str(made / 'both'), str(made / 'one')
  for mode in ('compare', 'study'):
    modes.run(mode, modes.Request(workdirs=workdirs, output=str(made / mode)))
  comparison = read_json(made / 'compare' / 'comparison.json')
  (warning,) = comparison['warnings']
  assert 'Left out: Schatten/links (both).' in warning
  auroc = comparison['classification']['test']['auroc']
  assert list(auroc) == ['mean', 'Zyste']
  less = comparison['localization']['cam_own_less_another']['wang']
  assert less['iou@0.3']['mean']['difference']['value'] is not None
  study = (made / 'study' / 'study.md').read_text()
  assert 'Compared are those that all know: Zyste.' in study


def test_films_are_explained_with_them(made):
  modes.run(
    'explain',
    modes.Request(
      workdir=str(made / 'one'),
      images=str(made / 'films' / 'images' / '01.png'),
      output=str(made / 'explained'),
    ),
  )
  with open(made / 'explained' / 'predictions.csv', newline='') as f:
    (row,) = csv.DictReader(f)
  assert 0 < float(row['probability_Zyste']) < 1
  assert not any('Schatten' in name for name in row)


def test_the_exported_network_names_them(made):
  modes.run(
    'export',
    modes.Request(workdir=str(made / 'both'), output=str(made / 'exported')),
  )
  config = read_json(made / 'exported' / 'config.json')
  assert config['findings'] == list(FINDINGS)
  readme = (made / 'exported' / 'README.md').read_text()
  assert 'finds in a chest film: Zyste, Schatten/links.' in readme
  program = export.deserialize(
    bytearray((made / 'exported' / 'model.stablehlo').read_bytes())
  )
  out = program.call(np.zeros((1, SIZE, SIZE, 1), np.float32))
  assert out['logit'].shape == (1, 2)


def test_a_run_on_other_findings_is_not_gone_on_with(made):
  config = tiny(made, findings=FINDINGS[::-1])
  config.name = 'both'
  with pytest.raises(ValueError, match='findings'):
    modes.run('train', modes.Request(config, workdir=str(made / 'both')))
