"""The whole path on a tiny phantom: train, evaluate, report, compare, explain.

One phantom, two runs, made once; every test looks at what they left, so they
stand in one file, however long.
"""

import csv
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from jax import export
from PIL import Image

from configs import baseline, robust
from cxr import files, inference, jax_setup, modes, run_files, stored_rows
from cxr.evaluation import evaluate
from cxr.localization import regions, thresholds
from cxr.reporting import examples
from cxr.training import loop, signals, train
from input_pipeline.findings import FINDINGS
from tests.exporting import readers

ROOT = pathlib.Path(__file__).parents[1]


def request(config=None, workdir='', **options):
  fields = {
    'overrides': {},
    'workdirs': (),
    'images': '',
    'output': '',
  } | options
  return modes.Request(config=config, workdir=str(workdir), **fields)


def smoke(module, data_dir):
  config = module.get_config('smoke')
  config.data.dir = str(data_dir / 'phantom')
  config.data.prepared_dir = str(data_dir / 'prepared')
  config.attack.num_steps = 1
  config.evaluate.num_resamples = 20
  return config


@pytest.fixture(scope='module', autouse=True)
def precision():
  """That of main.py, so that its processes find the programs made here."""
  before = jax.config.jax_default_matmul_precision
  jax_setup.set_precision()
  yield
  jax.config.update('jax_default_matmul_precision', before)


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp('data')


@pytest.fixture(scope='module')
def runs(tmp_path_factory, data_dir):
  folder = tmp_path_factory.mktemp('runs')
  for module, name in ((baseline, 'baseline'), (robust, 'robust')):
    config = smoke(module, data_dir)
    # The robust run stays as the config has it: another process repeats it.
    if name == 'baseline':
      config.evaluate.measures += ('targeted', 'under_attack')
      config.evaluate.check_films = 8
      modes.MODES['fit'](request(config, folder / name))
      assert (folder / name / 'checkpoints').is_dir()
      assert not (folder / name / 'evaluation').exists()
    modes.MODES['train'](request(config, folder / name))
  return folder


def read_json(path):
  return json.loads(path.read_text())


@pytest.mark.parametrize('name', ['baseline', 'robust'])
def test_a_run_leaves_all_its_results(runs, name):
  workdir = runs / name
  metrics = read_json(workdir / 'metrics.json')
  assert {
    'data',
    'versions',
    'classification',
    'robustness',
    'localization',
  } <= (metrics.keys())
  figure = metrics['classification']['test']['auroc']['mean']
  assert figure['low'] <= figure['value'] <= figure['high']
  assert figure['images'] == metrics['data']['splits']['test']['images']
  assert 'test_without_shortcut' in metrics['classification']
  attacks = metrics['robustness']
  assert [attack['attack'] for attack in attacks] == ['pgd-2-alone', 'pgd-2']
  for attack in attacks:
    assert attack['audit']['max_perturbation'] <= 1 / 255 + 1e-7
    assert attack['audit']['nan'] == 0
    assert attack['clean']['images'] == attack['auroc']['mean']['images']
  assert attacks[0]['change']['value'] < 0 == attacks[0]['unmoved']
  methods = metrics['localization']['methods']
  assert {'cam', 'gradient', 'random', 'mean_box', 'centre'} <= methods.keys()
  controls = 'another_patient', 'own_less_another', 'set_down'
  controls += ('shuffled_weights',)
  assert {f'cam_{name}' for name in controls} <= methods.keys()
  own, another, less = (
    methods[f'cam{end}']['wang']['mean']['pointing']['value']
    for end in ('', '_another_patient', '_own_less_another')
  )
  assert less == pytest.approx(own - another)
  assert metrics['localization']['map_size']['gradient'] == [64, 64]
  cosine = metrics['measures']['cosine']['gradient']['']['mean']
  assert -1 <= cosine['low'] <= cosine['value'] <= cosine['high'] <= 1
  assert isinstance(metrics['warnings'], list)
  flags = [flag['name'] for flag in metrics['attack_checks']]
  assert flags[-1] == 'larger_epsilon_weaker'
  if name == 'baseline':
    assert 'not_converged' in flags and len(flags) == 8
    for measure in ('hidden', 'planted'):
      (figure_,) = metrics['measures'][measure][''].values()
      assert 0 <= figure_['mean']['value'] <= 1
    similarity = metrics['measures']['map_ssim']
    assert similarity.keys() == {'cam', 'gradient'}
    assert 0 < similarity['cam']['pgd-2 1']['mean']['value'] < 1
    page = (workdir / 'report.html').read_text()
    assert 'Whether the attacks may be believed' in page
  with open(workdir / 'predictions.csv') as f:
    rows = list(csv.DictReader(f))
  test = [r for r in rows if r['split'] == 'test' and r['attack'] == 'clean']
  assert len(test) == figure['images'] == len({r['image'] for r in test})
  calibrated = read_json(workdir / 'calibration.json')
  assert calibrated['step'] == metrics['step']
  assert list(calibrated['findings']) == list(FINDINGS)
  card = (workdir / 'MODEL_CARD.md').read_text()
  assert metrics['data']['splits']['test']['sha256'] in card
  page = (workdir / 'report.html').read_text()
  assert page.index('Own less another patient') < page.index('This run is a ')
  assert name in page and 'http://' not in page.replace('http://www.w3.org', '')
  log = files.read_json_lines(str(workdir / 'train.jsonl'))
  # The lines of the evaluation's parts follow those of the training.
  assert [r for r in log if 'val/auroc' in r][-1]['val/auroc'] >= 0
  assert any('val/robust_auroc' in record for record in log)
  assert list(workdir.glob('events.out.tfevents.*'))


def test_the_same_command_ends_at_once(runs, data_dir):
  before = read_json(runs / 'robust' / 'metrics.json')
  modes.MODES['train'](request(smoke(robust, data_dir), runs / 'robust'))
  assert read_json(runs / 'robust' / 'metrics.json') == before


def test_report_is_made_from_the_csv_files_alone(runs):
  path = runs / 'baseline' / 'metrics.json'
  before = path.read_bytes()
  path.unlink()
  modes.MODES['report'](request(smoke(baseline, runs), runs / 'baseline'))
  assert path.read_bytes() == before


def test_report_of_what_an_older_version_left_is_a_sentence(runs, tmp_path):
  report = lambda: evaluate.summarize(
    run_files.read_config(str(runs / 'baseline')), str(tmp_path)
  )
  left = read_json(runs / 'baseline' / 'evaluation.json')
  del left['batch_stats']
  for name, text, sentence in (
    ('data.json', (runs / 'baseline' / 'data.json').read_text(), 'No eval'),
    ('evaluation.json', json.dumps(left), "no 'batch_stats': an older"),
    ('evaluation.json', '{"step"', 'is not a JSON file'),
  ):
    (tmp_path / name).write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence) as e:
      report()
    assert '--mode=evaluate' in str(e.value)


def test_other_rules_fused_stages_and_files_for_other_tools(
  runs, data_dir, tmp_path
):
  workdir = shutil.copytree(runs / 'robust', tmp_path / 'run')
  rules = ('oracle', 'otsu', 'tuned')
  overrides = {
    'evaluate.rules': rules,
    'evaluate.methods': ('layer_cam',),
    'evaluate.stages': ('stage1', 'features'),
    'evaluate.measures': (
      'maps',
      'stability',
      'randomisation',
      'faithfulness',
      'causes',
    ),
    'evaluate.attack_films': 4,
    'evaluate.save_maps': True,
    'evaluate.export': ('coco', 'chexlocalize'),
  }
  config = smoke(robust, data_dir)
  evaluate_again = lambda: modes.MODES['evaluate'](
    request(config, workdir, overrides=overrides)
  )
  evaluate_again()
  metrics = read_json(workdir / 'metrics.json')
  scores = metrics['localization']
  assert scores['map_size']['layer_cam'] == [64, 64]
  of_method = scores['methods']['layer_cam']
  # The upper bound never stands first.
  assert list(of_method) == [*rules[1:], 'oracle']
  page = (workdir / 'report.html').read_text()
  assert 'upper bound' in page
  folders = list((workdir / 'evaluation').glob('*/coco-truth.json'))
  (folder,) = [path.parent for path in folders]
  with np.load(folder / 'maps-layer_cam.npz') as stored:
    films = len(set(stored['image'].tolist()))
    assert stored['map'].shape == (8 * films, 64, 64)
  names, _, hits = readers.results(folder / 'chexlocalize-layer_cam-hit.csv')
  assert len(names) == films
  pointing = of_method['otsu']['mean']['pointing']['value']
  assert np.nanmean(np.nanmean(hits, 0)) == pytest.approx(pointing, abs=0.1)
  measured = metrics['measures']
  assert {'sameness', 'outside_body', 'stability', 'insertion', 'deletion'} <= (
    measured.keys()
  )
  stages = list(measured['randomisation']['layer_cam'])
  assert stages == ['fc', 'layer2', 'layer1', 'bn1', 'conv1']
  assert measured['effect'][''].keys() == {'lesion', 'shortcut'}
  # Asked for later, the maps are made again; the figures stay.
  (folder / 'maps-layer_cam.npz').unlink()
  evaluate_again()
  assert (folder / 'maps-layer_cam.npz').exists()
  assert read_json(workdir / 'metrics.json') == metrics


def test_an_endpoint_that_the_model_lacks_is_named(runs, data_dir, tmp_path):
  workdir = shutil.copytree(runs / 'robust', tmp_path / 'run')
  overrides = {'evaluate.stages': ('stage3',)}
  with pytest.raises(ValueError, match=r'stages \(stage3\) must be among'):
    modes.MODES['evaluate'](
      request(smoke(robust, data_dir), workdir, overrides=overrides)
    )


def test_another_patients_map_on_the_page_is_the_one_that_was_scored(runs):
  cases = examples.read(str(runs / 'robust'), 'wang')
  for case in cases:
    another = case['another']['cam']
    heatmap = np.asarray(another['map'], np.float64)
    drawn = regions.levels_to_boxes(heatmap, thresholds.wang_levels(heatmap))
    np.testing.assert_allclose(drawn, another['boxes'], atol=1e-6)
    # NIH's names begin with the patient.
    assert another['name'][:8] != case['name'][:8]
  page = (runs / 'robust' / 'report.html').read_text()
  assert page.count('<b>another patient&#39;s</b>') == 4


def test_compare(runs):
  modes.MODES['compare'](
    request(
      workdirs=(str(runs / 'baseline'), str(runs / 'robust')),
      output=str(runs / 'compare'),
    )
  )
  comparison = read_json(runs / 'compare' / 'comparison.json')
  entry = comparison['classification']['test']['auroc']['mean']
  a, b = (run['value'] for run in entry['runs'])
  assert entry['difference']['value'] == pytest.approx(b - a)
  assert (runs / 'compare' / 'compare.html').exists()
  with Image.open(runs / 'compare' / 'compare.png') as image:
    assert image.size[0] > 400


def test_study(runs):
  """Patterns, real rows, and a second name for a run that differs."""
  modes.MODES['study'](
    request(
      workdirs=(str(runs / 'baseline'), str(runs / 'rob*')),
      output=str(runs / 'study'),
    )
  )
  study = read_json(runs / 'study' / 'study.json')
  assert [g['name'] for g in study['groups']] == [
    'smoke_baseline',
    'smoke_robust',
  ]
  metrics = read_json(runs / 'robust' / 'metrics.json')
  (entry,) = [
    e
    for e in study['figures']
    if e['key'] == ['localization', 'iou@0.3', 'cam', 'wang']
    and e['finding'] == 'mean'
  ]
  expected = metrics['localization']['methods']['cam']['wang']['mean']
  assert entry['groups'][1]['value'] == expected['iou@0.3']['value']
  assert study['made_with'][1]['versions'] == metrics['versions']
  assert (runs / 'study' / 'study.md').exists()


def test_compare_needs_two_runs_on_the_same_films(runs, tmp_path):
  workdir = str(runs / 'baseline')
  with pytest.raises(ValueError, match='two runs'):
    modes.MODES['compare'](request(workdirs=(workdir,)))
  with pytest.raises(ValueError, match='more than once'):
    modes.MODES['compare'](request(workdirs=(workdir, workdir)))
  with pytest.raises(FileNotFoundError, match='train first'):
    modes.MODES['compare'](request(workdirs=(workdir, str(tmp_path))))


def test_explain_a_folder(runs, data_dir, tmp_path):
  films = sorted((data_dir / 'phantom' / 'images').iterdir())[:2]
  folder = tmp_path / 'films'
  folder.mkdir()
  for film in films:
    with Image.open(film) as image:
      image.resize((100, 80)).save(folder / film.name)
  (folder / 'broken.png').write_bytes(b'\x89PNG\r\n\x1a\nno')
  modes.MODES['explain'](
    request(
      smoke(robust, data_dir),
      runs / 'robust',
      images=str(folder),
      output=str(tmp_path / 'out'),
    )
  )
  with open(tmp_path / 'out' / 'predictions.csv') as f:
    rows = list(csv.DictReader(f))
  assert len(rows) == 3
  assert sum(bool(row['error']) for row in rows) == 1
  page = (tmp_path / 'out' / 'explain.html').read_text()
  # Beside whose folder no phantom.json stands, they are real films.
  assert 'trained on phantom films' in page and 'are real ones' in page
  with open(tmp_path / 'out' / 'boxes.csv') as f:
    boxes = list(csv.DictReader(f))
  assert boxes


def test_the_exported_program_gives_the_logits_of_predictions_csv(
  runs, data_dir, tmp_path
):
  workdir = runs / 'robust'
  modes.MODES['export'](
    request(smoke(robust, data_dir), workdir, output=str(tmp_path))
  )
  described = read_json(tmp_path / 'config.json')
  calibrated = read_json(workdir / 'calibration.json')
  assert described['calibration'] == calibrated
  with open(workdir / 'predictions.csv') as f:
    rows = [r for r in csv.DictReader(f) if r['split'] == 'test'][:2]
  images = data_dir / 'phantom' / 'images'
  films = []
  for row in rows:
    with Image.open(images / row['image']) as image:
      films.append(np.asarray(image))
  program = export.deserialize(
    bytearray((tmp_path / 'model.stablehlo').read_bytes())
  )
  out = jax.jit(program.call)(np.float32(films)[..., None] / 255)
  np.testing.assert_allclose(
    out['logit'],
    [[float(row[f'logit_{name}']) for name in FINDINGS] for row in rows],
    atol=1e-4,
  )
  # Where validation films had both kinds there is a calibrated probability.
  fitted = [calibrated['findings'][n]['threshold'] for n in FINDINGS]
  np.testing.assert_array_equal(
    np.isnan(out['calibrated'][0]), [t is None for t in fitted]
  )


def params(workdir):
  """Of the latest checkpoint: the variables and the step."""
  config = run_files.read_config(str(workdir))
  config.evaluate.checkpoint = 'latest'
  _, _, variables, step = inference.load_model(str(workdir), config)
  return variables, step


def assert_same_bits(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_array_equal(x, y)


def test_stopped_by_a_signal_a_run_goes_on_to_the_same_bits(
  runs, data_dir, tmp_path, monkeypatch
):
  config = smoke(robust, data_dir)
  calls = []

  def write(*args):
    calls.append(args)
    if len(calls) == 2:
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(loop, 'write_metrics', write)
  with pytest.raises(signals.Stopped, match='same command') as stop:
    train.train(config, str(tmp_path))
  assert stop.value.number == signal.SIGTERM
  monkeypatch.undo()
  _, step = params(tmp_path)
  assert step > 0
  train.train(config, str(tmp_path))
  (ours, last), (theirs, same) = params(tmp_path), params(runs / 'robust')
  assert last == same > step
  assert_same_bits(ours, theirs)


def test_killed_a_run_goes_on_to_the_same_bits(tmp_path, data_dir, runs):
  """kill -9 in the middle, in a process of its own: the same command then
  leaves what another process left that was never disturbed."""
  command = [
    sys.executable,
    str(ROOT / 'main.py'),
    '--config=configs/robust.py:smoke',
    f'--config.data.dir={data_dir / "phantom"}',
    f'--config.data.prepared_dir={data_dir / "prepared"}',
    '--config.attack.num_steps=1',
    '--config.evaluate.num_resamples=20',
  ]
  environment = os.environ | {
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': os.environ['XLA_FLAGS']
    + ' --xla_force_host_platform_device_count=4',
    'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'programs'),
  }
  # All but the step: the second start must find the one that the first made.
  shutil.copytree(
    jax.config.jax_compilation_cache_dir,
    tmp_path / 'programs',
    ignore=shutil.ignore_patterns('jit_one_step-*'),
  )
  options = {'cwd': ROOT, 'env': environment, 'stderr': subprocess.PIPE}

  def killed(workdir, when):
    process = subprocess.Popen(
      [*command, f'--workdir={workdir}'], text=True, **options
    )
    deadline = time.monotonic() + 240
    while not when() and process.poll() is None:
      assert time.monotonic() < deadline
      time.sleep(0.05)
    process.kill()
    process.communicate()

  log = tmp_path / 'train.jsonl'
  lines = lambda: len(log.read_text().splitlines()) if log.exists() else 0
  killed(tmp_path, lambda: lines() >= 2)
  assert not (tmp_path / 'metrics.json').exists()
  compiled = set(os.listdir(tmp_path / 'programs'))
  assert any(name.startswith('jit_one_step-') for name in compiled)
  done = subprocess.run(
    [*command, f'--workdir={tmp_path}'], text=True, timeout=300, **options
  )
  assert done.returncode == 0, done.stderr[-2000:]
  ours, step = params(tmp_path)
  theirs, same = params(runs / 'robust')
  assert step == same
  assert_same_bits(ours, theirs)
  for name in (
    'predictions.csv', 'boxes.csv', 'measures.csv', 'evaluation.json',
    'metrics.json', 'calibration.json', 'data.json', 'MODEL_CARD.md',
  ):  # fmt: skip
    same = (runs / 'robust' / name).read_bytes()
    assert (tmp_path / name).read_bytes() == same, name
  anew = set(os.listdir(tmp_path / 'programs')) - compiled
  assert not any(name.startswith('jit_one_step-') for name in anew)


def main(*arguments, cwd=ROOT):
  return subprocess.run(
    [sys.executable, str(ROOT / 'main.py'), *arguments],
    cwd=cwd,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    timeout=120,
  )


@pytest.mark.skipif(
  not jax_setup.has_onednn(), reason='jaxlib here is not one with oneDNN'
)
def test_with_onednn_a_run_is_the_same_but_for_rounding(
  runs, data_dir, tmp_path, monkeypatch
):
  programs, kept = tmp_path / 'programs', tmp_path / 'kept'
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(kept))
  monkeypatch.setenv(
    'XLA_FLAGS',
    f'{os.environ["XLA_FLAGS"]} --xla_dump_to={programs} '
    '--xla_dump_hlo_module_re=one_step',
  )
  done = main(
    '--config=configs/robust.py:smoke',
    '--onednn',
    f'--config.data.dir={data_dir / "phantom"}',
    f'--config.data.prepared_dir={data_dir / "prepared"}',
    '--config.attack.num_steps=1',
    '--config.evaluate.num_resamples=20',
    f'--workdir={tmp_path}',
  )
  assert done.returncode == 0, done.stderr[-2000:]
  (step,) = programs.glob('*after_optimizations.txt')
  assert '__onednn$convolution' in step.read_text()
  # JAX would warn of each program that it fails to keep.
  assert 'arning' not in done.stderr
  assert not kept.exists()
  ours, theirs = (
    json.loads((folder / 'train.jsonl').read_text().splitlines()[0])
    for folder in (tmp_path, runs / 'robust')
  )
  for name in ('train/loss', 'train/adversarial_loss', 'train/grad_norm'):
    assert ours[name] == pytest.approx(theirs[name], rel=1e-3)
  assert (tmp_path / 'report.html').exists()


@pytest.mark.parametrize(
  ('arguments', 'sentence'),
  [
    (
      ['--config=configs/baseline.py:nih', '--config.data.dir=/no/such'],
      'config.data.dir (/no/such) is not a folder',
    ),
    (['--config=configs/none.py'], 'configs/none.py'),
    (['--config=configs/baseline.py:nhi'], "('nhi') must be one of"),
    (['--config.atack.epsilon=2'], 'attack'),
    (['--confg=configs/baseline.py'], 'confg'),
    (
      ['--config=configs/robust.py:smoke', '--config.attack.epsilon=-1.0'],
      'config.attack.epsilon (-1.0) must be from 0 to 255',
    ),
    (['--mode=evaluate', '--workdir=runs/none'], 'run --mode=train first'),
    (['--mode=explain', '--workdir=runs/none'], 'run --mode=train first'),
  ],
)
def test_bad_input_gets_one_sentence(arguments, sentence):
  done = main(*arguments)
  assert done.returncode != 0
  assert sentence in done.stderr + done.stdout
  assert 'Traceback' not in done.stderr
  assert not (ROOT / 'runs' / 'none').exists()


def test_a_workdir_of_another_run_is_not_written_over(runs, data_dir):
  config = smoke(baseline, data_dir)
  config.train.learning_rate = 0.5
  with pytest.raises(ValueError, match=r'train.learning_rate .* another'):
    train.train(config, str(runs / 'baseline'))


def test_two_runs_do_not_share_a_workdir(tmp_path):
  held = run_files.lock(str(tmp_path))
  with pytest.raises(ValueError, match='Another run is at work'):
    run_files.lock(str(tmp_path))
  held.close()
  run_files.lock(str(tmp_path)).close()


def test_a_batch_that_does_not_divide(data_dir, tmp_path):
  config = smoke(baseline, data_dir)
  config.train.batch_size = 10
  with pytest.raises(
    ValueError, match=r'batch_size \(10\) must be divisible .* \(4\)'
  ):
    train.train(config, str(tmp_path))
  assert not list(tmp_path.iterdir())


def test_real_films_end_to_end(nih_dir, tmp_path):
  """A few real films through the very command of the README."""
  source = pathlib.Path(nih_dir)
  folder = tmp_path / 'nih'
  (folder / 'images').mkdir(parents=True)
  names = {p.name for p in (source / 'images').iterdir()}
  with open(source / 'BBox_List_2017.csv') as f:
    boxed = [row[0] for row in csv.reader(f) if row[0] in names][:24]
  of_train = (source / 'train_val_list.txt').read_text().split()
  for name in [n for n in of_train if n in names][:160] + boxed:
    path = folder / 'images' / name
    if not path.exists():
      path.symlink_to((source / 'images' / name).resolve())
  shown = {path.name for path in (folder / 'images').iterdir()}
  for path in source.glob('*.*'):
    if path.suffix in ('.csv', '.txt'):
      # With the header, and one in a hundred of the films that are absent.
      rows = [
        row
        for i, row in enumerate(path.read_text().splitlines())
        if i % 100 == 0 or row.split(',')[0] in shown
      ]
      (folder / path.name).write_text('\n'.join(rows))
  config = smoke(robust, tmp_path)
  config.data.source = 'nih'
  config.data.dir = str(folder)
  config.train.num_epochs = 1.0
  config.evaluate.attacks = ('fgsm',)
  config.evaluate.measures = ('alignment', 'maps')
  modes.MODES['train'](request(config, tmp_path / 'run'))
  metrics = read_json(tmp_path / 'run' / 'metrics.json')
  assert metrics['data']['name'] == 'nih'
  assert metrics['data']['left_out']
  assert sum(metrics['localization']['count'].values()) >= 20
  assert set(metrics['classification']['test']['auroc']) == {'mean', *FINDINGS}


def test_exported_maps_score_as_in_the_run_s_own_evaluation(
  runs, data_dir, tmp_path
):
  workdir = runs / 'baseline'
  config = smoke(baseline, data_dir)
  exported = tmp_path / 'export'
  modes.run(
    'export',
    request(
      config,
      workdir,
      output=str(exported),
      overrides={'evaluate.save_maps': True},
    ),
  )
  modes.run(
    'score',
    request(
      config,
      overrides={'data.image_size': 64},
      maps=str(exported / 'maps-cam.npz'),
      output=str(tmp_path / 'scored'),
    ),
  )
  own, scored = (
    stored_rows.read_boxes(str(folder / 'boxes.csv'))
    for folder in (workdir, tmp_path / 'scored')
  )
  methods = list(dict.fromkeys(scored.method.tolist()))
  controls = 'random', 'centre', 'mean_box', 'cam_set_down'
  assert methods == ['cam', 'cam_another_patient', *controls]
  for method in methods:
    for mine, theirs in zip(
      own.where(method=method), scored.where(method=method), strict=True
    ):
      np.testing.assert_array_equal(mine, theirs)
  of_run, of_maps = (
    read_json(folder / 'metrics.json')['localization']['methods']
    for folder in (workdir, tmp_path / 'scored')
  )
  assert of_maps == {name: of_run[name] for name in of_maps}
