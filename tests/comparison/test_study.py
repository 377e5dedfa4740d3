"""Groups of runs: their mean, its interval, what differs, and the page."""

import json
import os
import shutil

import numpy as np
import pytest
from scipy import stats

from configs import baseline, robust
from cxr import stored_rows
from cxr.comparison import compare, paired_summary, runs, study
from cxr.measures import measure_table
from cxr.reporting import part_study, plots
from cxr.statistics import intervals
from input_pipeline.findings import BOXED, FINDINGS
from tests import made_rows
from tests.made_rows import LEFT, RIGHT

FAST = {'num_resamples': 60}


def run(tmp_path, name, config, *, seed, skill, films='ab', evaluated=None):
  """A workdir whose networks are chance and `skill`.

  films: a hash of what it was trained on; evaluated: fields of config.evaluate
  that the evaluation had otherwise than the training.
  """
  rng = np.random.default_rng(seed)
  rows = [
    made_rows.row(
      f'f{film}',
      finding,
      LEFT if film % 2 else None,
      [LEFT] if rng.random() < skill else [RIGHT],
      method=method,
    )
    for film in range(12)
    for finding in BOXED[:2]
    for method in ('gradient', 'random')
  ]
  condition = stored_rows.Condition('test')
  block = made_rows.predictions(seed=seed, skill=2 * skill)
  workdir = made_rows.written(tmp_path, rows, name, {condition: block})
  measure_table.write(
    f'{workdir}/measures.csv',
    [
      measure_table.Measure(
        'alignment',
        np.array([f'f{i}' for i in range(9)]),
        np.arange(9) // 2,
        rng.random((9, 1)),
        'gradient',
      )
    ],
  )
  config.seed = seed
  fields = config.to_json_best_effort()
  own = json.loads(fields)
  own['evaluate'] |= evaluated or {}
  train = {'images': 90, 'patients': 30, 'content_sha256': films}
  test = {'images': 60, 'patients': 20, 'sha256': 'ab'}
  for file, content in (
    ('config.json', json.loads(fields)),
    ('data.json', {'splits': {'train': train, 'test': test}}),
    (
      'metrics.json',
      {
        'step': 7,
        'versions': {'jax': '1'},
        'evaluation': {'config': own} | FAST,
      },
    ),
  ):
    with open(f'{workdir}/{file}', 'w') as f:
      json.dump(content, f)
  return workdir


@pytest.fixture
def workdirs(tmp_path):
  at = robust.get_config()
  at.attack.epsilon = 0.5
  return [
    run(tmp_path, 'b0', baseline.get_config(), seed=0, skill=0.3),
    run(tmp_path, 'b1', baseline.get_config(), seed=1, skill=0.3),
    run(tmp_path, 'r0', robust.get_config(), seed=0, skill=0.8),
    run(tmp_path, 'r1', robust.get_config(), seed=1, skill=0.9),
    run(tmp_path, 'h0', at, seed=0, skill=0.6),
  ]


def test_runs_trained_on_other_films_are_another_group(tmp_path):
  opened = [
    runs.read(run(tmp_path, name, baseline.get_config(), skill=0.3, **options))
    for name, options in (
      ('a', {'seed': 0}),
      ('b', {'seed': 1}),
      ('c', {'seed': 2, 'films': 'cd'}),
    )
  ]
  assert {
    name: [os.path.basename(r.workdir) for r in of_group]
    for name, of_group in study.group(opened).items()
  } == {
    'baseline trained films 90 (ab)': ['a', 'b'],
    'baseline trained films 90 (cd)': ['c'],
  }


def test_one_training_is_counted_once(tmp_path, workdirs):
  first = workdirs[0]
  copy = shutil.copytree(first, tmp_path / 'copy')
  link = tmp_path / 'link'
  link.symlink_to(first)
  for names, message in (
    ((first, first + '/'), 'one folder'),
    ((first, str(link)), 'one folder'),
    ((first, str(copy)), 'hold the same weights'),
  ):
    with pytest.raises(ValueError, match=f'{message}.*named more than once'):
      study.study(names, str(tmp_path / 'out'))
    with pytest.raises(ValueError, match=f'{message}.*named more than once'):
      compare.compare(names, str(tmp_path / 'out'))
  # Its copy is evaluated otherwise: two evaluations, still one training.
  path = copy / 'metrics.json'
  metrics = json.loads(path.read_text())
  metrics['evaluation']['config']['evaluate']['smooth'] = 0.5
  path.write_text(json.dumps(metrics))
  with pytest.raises(ValueError, match='hold the same weights'):
    study.study((first, str(copy)), str(tmp_path / 'out'))
  # A name and a pattern that matches it are no mistake.
  assert (
    runs.find((first, str(tmp_path / '[bl][0i]*')))
    == (
      first,
      str(tmp_path / 'b0'),
    )[:1]
  )


def test_a_seed_stands_once_in_a_group(tmp_path):
  """Another machine's training of the same seed is no other seed."""
  names = [
    run(tmp_path, name, baseline.get_config(), seed=0, skill=skill)
    for name, skill in (('a', 0.3), ('b', 0.4))
  ]
  with pytest.raises(ValueError, match=r'the same seed \(0\)'):
    study.study(names, str(tmp_path / 'out'))


def test_other_settings_of_the_evaluations_are_told_or_refused(tmp_path):
  make = lambda name, config, **options: run(
    tmp_path, name, config.get_config(), **options
  )
  a = make('a', baseline, seed=0, skill=0.3)
  b = make('b', baseline, seed=1, skill=0.3, evaluated={'smooth': 0.1})
  c = make('c', robust, seed=0, skill=0.8, evaluated={'restarts': 3})
  with pytest.raises(ValueError, match=r'alike.*smooth: 0\.02 .*0\.1'):
    study.study((a, b), str(tmp_path / 'out'))
  folder = study.study((a, c), str(tmp_path / 'out'))
  with open(f'{folder}/study.json') as f:
    result = json.load(f)
  assert result['settings'] == {'restarts': [1, 3]}
  with open(f'{folder}/study.md') as f:
    assert 'different config.evaluate.restarts: 1 (a), 3 (c)' in f.read()
  # Maps of another grid than the network was trained with.
  path = tmp_path / 'c' / 'metrics.json'
  metrics = json.loads(path.read_text())
  metrics['evaluation']['config']['model']['output_stride'] = 16
  path.write_text(json.dumps(metrics))
  settings = runs.differing_settings([runs.read(a), runs.read(c)])
  assert settings['model.output_stride'] == ['as trained', 16]
  (sentence,) = runs.told({'model.output_stride': [8, 16]}, 'ac')
  assert 'different config.model.output_stride: 8 (a), 16 (c)' in sentence
  # What no figure depends on is not told.
  d = make('d', robust, seed=0, skill=0.7, evaluated={'batch_size': 3})
  assert runs.differing_settings([runs.read(a), runs.read(d)]) == {}


def test_other_films_of_the_same_names_and_other_versions_are_told(tmp_path):
  a, b = (
    run(tmp_path, name, module.get_config(), seed=0, skill=skill)
    for name, module, skill in (('a', baseline, 0.3), ('b', robust, 0.8))
  )

  def evaluated(name, content, version):
    path = tmp_path / name / 'metrics.json'
    metrics = json.loads(path.read_text())
    splits = metrics.setdefault('data', {}).setdefault('splits', {})
    splits['test'] = {'sha256': '0', 'content_sha256': content}
    metrics['evaluation']['version'] = version
    path.write_text(json.dumps(metrics))

  evaluated('a', 'e' * 64, 2)
  evaluated('b', 'f' * 64, None)
  settings = runs.differing_settings([runs.read(a), runs.read(b)])
  films, version = sorted(runs.told(settings, 'ab'))[::-1]
  assert 'eeeeeeee (a), ffffffff (b)' in films and 'other pixels' in films
  assert '2 (a), an older one (b)' in version and 'evaluate' in version
  evaluated('b', 'e' * 64, 2)
  assert not runs.differing_settings([runs.read(a), runs.read(b)])
  # Networks of films of two sizes have other pixels by their nature.
  evaluated('b', 'f' * 64, 2)
  other = runs.read(b)
  other.config['data.image_size'] += 1
  assert not runs.differing_settings([runs.read(a), other])


def test_a_run_that_is_older_than_a_field_is_of_its_group(tmp_path):
  names = [
    run(tmp_path, name, baseline.get_config(), seed=i, skill=0.3)
    for i, name in enumerate('ab')
  ]
  path = tmp_path / 'a' / 'config.json'
  fields = json.loads(path.read_text())
  assert fields['attack'].pop('warmup_epochs') == 0
  path.write_text(json.dumps(fields))
  (group,) = study.group([runs.read(name) for name in names]).values()
  assert [of_group.seed for of_group in group] == [0, 1]


def test_a_folder_whose_name_is_a_pattern_is_taken_literally(tmp_path):
  name = run(tmp_path, 'a[0]', baseline.get_config(), seed=0, skill=0.3)
  run(tmp_path, 'a0', baseline.get_config(), seed=1, skill=0.3)
  assert runs.find((name,)) == (name,)


def test_runs_are_named_by_what_tells_them_apart():
  assert runs.distinct_names(['x/run', 'y/run/']) == ['x/run', 'y/run']
  assert runs.distinct_names(['x/a', 'y/b']) == ['a', 'b']


def test_other_labels_are_refused(tmp_path):
  names = [
    run(tmp_path, name, baseline.get_config(), seed=i, skill=0.3)
    for i, name in enumerate('ab')
  ]
  path = f'{names[1]}/predictions.csv'
  findings, blocks = stored_rows.read_predictions(path)
  block = blocks[stored_rows.Condition('test')]
  block.label[0] = 1 - block.label[0]
  stored_rows.write_predictions(
    path, {stored_rows.Condition('test'): block}, findings=FINDINGS
  )
  with pytest.raises(ValueError, match='different films, labels'):
    study.study(names, str(tmp_path / 'out'))


def entry_of(figures, *key, finding='mean'):
  (entry,) = [
    e for e in figures if e['key'] == list(key) and e['finding'] == finding
  ]
  return entry


def test_runs_that_differ_in_their_seed_are_a_group(workdirs):
  groups = study.group([runs.read(w) for w in workdirs])
  assert {n: len(of_group) for n, of_group in groups.items()} == {
    'baseline': 2,
    'robust epsilon 2': 2,
    'robust epsilon 0.5': 1,
  }


def test_what_is_free_makes_no_group(tmp_path):
  """How a run was evaluated, read and logged says nothing of its weights."""
  other = baseline.get_config()
  other.evaluate.smooth, other.data.workers = 0.5, 2
  paths = [
    run(tmp_path, 'a', baseline.get_config(), seed=0, skill=0.3),
    run(tmp_path, 'b', other, seed=1, skill=0.3),
  ]
  assert list(study.group([runs.read(path) for path in paths])) == ['baseline']


def test_groups_of_one_run_are_a_comparison(workdirs):
  """Its figures, differences and intervals, from code of its own."""
  pair = [workdirs[0], workdirs[2]]
  figures = study.estimates([[study.sample(w, **FAST)] for w in pair])
  compared = paired_summary.compare(pair, **FAST)
  for key, entries in (
    (
      ('classification', 'auroc', 'test', 'clean', '0'),
      compared['classification']['test']['auroc'],
    ),
    (
      ('localization', 'iou@0.3', 'gradient', 'wang'),
      compared['localization']['gradient']['wang']['iou@0.3'],
    ),
    (
      ('measures', 'alignment', 'gradient', ''),
      compared['measures']['alignment']['gradient'][''],
    ),
  ):
    for finding, expected in entries.items():
      entry = entry_of(figures, *key, finding=finding)
      pairs = [
        *zip(entry['groups'], expected['runs'], strict=True),
        (entry['differences'][0], expected['difference']),
      ]
      for ours, theirs in pairs:
        for part in ('value', 'low', 'high', 'images', 'patients'):
          assert ours[part] == pytest.approx(theirs[part]), (key, finding, part)


def sampled(value, spread=0.0, films='f'):
  rng = np.random.default_rng(0)
  return {
    ('measures', 'effect', '', 'lesion'): study.Result(
      ('mean',),
      films,
      intervals.Sampled(
        np.array([value]),
        value + spread * rng.normal(size=(4000, 1)),
        spread * rng.normal(size=(4000, 1)),
        10**6,
      ),
      [{'images': 1, 'patients': 1}],
      'linear',
    )
  }


def test_the_interval_covers_the_seeds():
  """Patients without chance: what is left is Student's t over the seeds."""
  (entry,) = study.estimates([[sampled(0.0), sampled(1.0)], [sampled(3.0)]])
  first, second = entry['groups']
  expected = stats.ttest_1samp([0.0, 1.0], 0).confidence_interval()
  of = lambda estimate: [estimate[key] for key in ('value', 'low', 'high')]
  assert of(first) == pytest.approx([0.5, *expected])
  assert of(second) == [3.0, 3.0, 3.0]
  assert first['runs'] == [0.0, 1.0]
  (difference,) = entry['differences']
  assert of(difference) == pytest.approx(
    [2.5, 3 - expected.high, 3 - expected.low]
  )


def test_three_seeds_need_a_longer_interval_than_many():
  """The pigeonhole bootstrap took 2/3 of their variance, and no t."""
  values = (0.0, 1.0, 2.0)
  (entry,) = study.estimates([[sampled(v) for v in values]])
  expected = stats.ttest_1samp(values, 0).confidence_interval()
  assert entry['groups'][0]['low'] == pytest.approx(expected.low)


def test_the_interval_covers_patients_and_seeds():
  """Independent chances: variances add."""
  values = (0.0, 1.0, 2.0, 3.0)
  (entry,) = study.estimates([[sampled(v, 0.5) for v in values]])
  figure = entry['groups'][0]
  of_seeds = np.var(values, ddof=1) / 4
  variance = of_seeds + 0.5**2
  # Welch and Satterthwaite: of the patients' variance nearly all is known.
  degrees = variance**2 / (of_seeds**2 / 3)
  width = 2 * stats.t.ppf(0.975, degrees) * np.sqrt(variance)
  assert figure['high'] - figure['low'] == pytest.approx(width, rel=0.05)


def test_as_many_resamples_as_an_evaluation_took(workdirs, tmp_path):
  """Else one run's interval would be another than in its own metrics.json."""
  opened = [runs.read(workdir) for workdir in workdirs[:2]]
  assert runs.num_resamples(opened) == FAST['num_resamples']
  more = opened[0]._replace(num_resamples=70)
  assert runs.num_resamples([more, opened[1]]) == 70
  output = compare.compare(workdirs[:2], str(tmp_path / 'out'))
  with open(f'{output}/comparison.json') as f:
    of_runs = json.load(f)['classification']
  expected = paired_summary.compare(workdirs[:2], **FAST)['classification']
  assert of_runs == expected


def test_other_films_are_refused():
  with pytest.raises(ValueError, match='different films'):
    study.estimates([[sampled(0.0)], [sampled(0.0, films='g')]])


def test_the_page(workdirs, tmp_path):
  pattern = os.path.join(tmp_path, '[brh][01]')
  folder = study.study([workdirs[0], pattern], str(tmp_path / 'out'))
  with open(f'{folder}/study.json') as f:
    result = json.load(f)
  assert [g['seeds'] for g in result['groups']] == [[0, 1], [0], [0, 1]]
  assert result['made_with'][0]['splits']['test']['sha256'] == 'ab'
  assert os.path.getsize(f'{folder}/study.png') > 10_000
  with open(f'{folder}/study.md') as f:
    text = f.read()
  lines = text.splitlines()
  entry = entry_of(
    result['figures'], 'classification', 'auroc', 'test', 'clean', '0'
  )
  value, difference = entry['groups'][0]['value'], entry['differences'][1]
  (of_groups, of_difference) = [
    line for line in lines if line.startswith('| AUROC |')
  ]
  assert f'| {value:.3f} (' in of_groups
  assert f'{difference["value"]:+.3f}'.replace('-', '−') in of_difference
  assert '## Localization of controls' in lines
  assert sum('random map' in line for line in lines) == 12
  # Every row of a table has the cells of its header.
  tables = [line for line in lines if line.startswith('|')]
  assert {line.count('|') for line in tables} <= {4, 5, 6}


@pytest.mark.parametrize(
  'names, message',
  [
    (['b0'], 'two runs or more .1 given'),
    (['x*'], 'no run matches'),
    (['b0', 'none'], 'run --mode=train first'),
  ],
)
def test_runs_that_are_not_there(workdirs, tmp_path, names, message):
  del workdirs
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    study.study([os.path.join(tmp_path, name) for name in names])


def test_panels_draw_what_is_undefined():
  """A figure that is None, a group without runs: nothing is drawn there."""
  nothing = {'value': None, 'low': None, 'high': None, 'runs': [None]}
  figure = plots.small_multiples(
    [{'title': 'a $x', 'estimates': [nothing] * 7, 'control': 0.5}] * 5,
    [f'group {i}' for i in range(7)],
  )
  assert len(figure.axes) == 5
  figure.canvas.draw()


def test_names():
  for key, name in (
    (('classification', 'auroc', 'test', 'clean', '0'), 'AUROC'),
    (
      ('classification', 'auroc', 'test', 'pgd-10', '2'),
      'AUROC, all findings attacked at once, pgd-10, epsilon 2/255',
    ),
    (('localization', 'iou@0.3', 'cam', 'wang'), 'cam: T(IoU) 0.3'),
    (
      ('localization', 'pointing', 'cam', 'otsu'),
      'cam: pointing game (otsu rule)',
    ),
    (('measures', 'pointing', 'cam', 'pgd-10'), 'cam: pointing game (pgd-10)'),
    (
      ('measures', 'effect', '', 'shortcut'),
      'logits lost without the shortcut',
    ),
  ):
    assert part_study.name(key) == name
