"""Pages as text: complete, self-contained, escaped, small, and never broken."""

import json
import re
from html import parser

import numpy as np
import pytest

from cxr.reporting import (
  main_result,
  pages,
  wording,
)
from input_pipeline.findings import BOXED
from tests import made_workdir

HOSTILE = '"><script>alert(1)</script>&\'=1+1{{ 7*7 }}.png'


class _Page(parser.HTMLParser):
  """Sections, table rows and the JSON in a page."""

  def __init__(self, path):
    super().__init__()
    self.ids, self.urls, self.scripts, self.texts = [], [], [], []
    self.rows, self._tag, self._type = [], None, None
    with open(path, encoding='utf-8') as file:
      self.source = file.read()
    self.feed(self.source)

  def handle_starttag(self, tag, attributes):
    attributes = dict(attributes)
    self._tag, self._type = tag, attributes.get('type')
    self.ids += [attributes['id']] if 'id' in attributes else []
    self.urls += [attributes[k] for k in ('src', 'href') if k in attributes]
    self.rows += [attributes] if tag == 'tr' else []
    if tag == 'script':
      self.scripts.append('')

  def handle_data(self, text):
    if self._tag == 'script':
      self.scripts[-1] += text
    else:
      self.texts.append(text)

  def handle_endtag(self, tag):
    self._tag = None

  @property
  def text(self):
    return ' '.join(' '.join(self.texts).split())

  def gallery(self):
    return next(json.loads(s) for s in self.scripts if s.startswith('{'))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  return made_workdir.write(tmp_path_factory.mktemp('run'), level=0.8)


@pytest.fixture(scope='module')
def page(run):
  return _Page(pages.write(run))


def test_report_has_every_section(page):
  for section in (
    'localization',
    'films',
    'classification',
    'calibration',
    'robustness',
    'measures',
    'training',
    'data',
    'configuration',
  ):
    assert section in page.ids and f'#{section}' in page.urls


def test_first_screen_answers(page):
  assert (
    'the AUROC, as the mean over findings, is 0.800 (0.760 to 0.840)'
    in page.text
  )
  assert '160 test films of 60 patients' in page.text
  assert (
    'Under the attack pgd-10 at epsilon 4/255 the AUROC, as the mean over '
    'findings, is 0.015 (−0.025 to 0.055) with every finding attacked alone'
  ) in page.text
  assert 'with all findings attacked at once (on 160 films' in page.text
  assert 'for the random map' in page.text
  assert '2.30 false boxes a film and finding (' in page.text
  assert "(AFP: a finding's false boxes over the true boxes of all" in page.text
  assert 'Map resolution: cam 8 × 8, gradient 64 × 64 cells' in page.text


def test_own_less_another_patient_s_is_the_first_sentence(page):
  first = page.text.index("Own less another patient's: boxes drawn")
  assert first < page.text.index('the AUROC, as the mean over findings')
  assert 'The main rows, own less another' in page.text


def test_warnings_stand_on_the_first_screen(tmp_path):
  run = made_workdir.write(tmp_path)
  path = tmp_path / 'metrics.json'
  metrics = json.loads(path.read_text()) | {'warnings': ['cam is one <map>.']}
  path.write_text(json.dumps(metrics))
  source = _Page(pages.write(run)).source
  place = source.index('<p class="warning">cam is one &lt;map&gt;.</p>')
  assert place < source.index('id="localization"')


def test_controls_are_marked_and_no_headline(page, run):
  controls = {
    r['data-method'] for r in page.rows if r.get('class') == 'control'
  }
  names = filter(wording.is_control, made_workdir.CONTROLS)
  assert controls == set(map(wording.method_name, names))
  assert 'cam of shuffled weights' in page.text
  with open(f'{run}/metrics.json') as file:
    labels = [t.label for t in main_result.tiles(json.load(file))]
  assert 'Accuracy of cam at T(IoU) 0.3' in labels
  assert "Accuracy of cam, own less another patient's, at T(IoU) 0.3" in labels
  assert not any('random' in label for label in labels)
  assert labels[0] == 'Mean AUROC on test films'
  assert not any('validation' in label for label in labels)


def test_ids_are_unique(page):
  assert len(page.ids) == len(set(page.ids))


def test_nothing_comes_from_elsewhere(page):
  for url in page.urls:
    assert url.startswith(('#', 'data:'))
  assert not re.search(r'(url\(|@import|src=.)\s*["\']?https?:', page.source)


def test_a_page_is_a_function_of_its_files(run):
  first, second = (_Page(pages.write(run)).source for _ in range(2))
  assert first == second


@pytest.mark.parametrize(
  'parts',
  [
    (),
    ('config',),
    ('metrics',),
    ('examples',),
    ('train', 'data'),
    ('config', 'metrics', 'examples'),
  ],
)
def test_missing_files_leave_their_part_out(tmp_path, parts):
  page = _Page(pages.write(made_workdir.write(tmp_path, parts=parts)))
  assert ('films' in page.ids) == ('examples' in parts)
  assert ('localization' in page.ids) == ('metrics' in parts)
  assert ('training' in page.ids) == ('train' in parts)
  if 'metrics' not in parts:
    assert 'not been evaluated yet' in page.text


def test_missing_folder(tmp_path):
  with pytest.raises(FileNotFoundError, match='run --mode=train first'):
    pages.write(tmp_path / 'absent')


@pytest.mark.parametrize('drop', ['robustness', 'localization', 'versions'])
def test_missing_metrics(tmp_path, drop):
  workdir = made_workdir.write(tmp_path)
  metrics = json.loads((tmp_path / 'metrics.json').read_text())
  del metrics[drop]
  (tmp_path / 'metrics.json').write_text(json.dumps(metrics))
  assert drop not in _Page(pages.write(workdir)).ids


def test_undefined_figures_say_why(page):
  assert 'undefined: no positive film' in page.text
  assert 'None' not in page.text and '>nan' not in page.source


def test_subgroups_and_reliance(tmp_path):
  workdir = made_workdir.write(tmp_path)
  metrics = json.loads((tmp_path / 'metrics.json').read_text())
  metrics['subgroups'] = {'view': {'PA': made_workdir.auroc(0.75)}}
  metrics['reliance'] = {
    'test_without_shortcut': {'auroc': made_workdir.auroc(-0.1)}
  }
  (tmp_path / 'metrics.json').write_text(json.dumps(metrics))
  page = _Page(pages.write(workdir))
  assert 'subgroups' in page.ids and 'reliance' in page.ids


def test_raised_flags_are_warnings_and_all_flags_are_rows(page):
  assert (
    'Attack check "black box wins" (0.25 (0.125 to 0.5), limit 0.05; pgd-100 '
    'at epsilon 2/255, all findings attacked at once; 16 of 64 films): '
    'black_box_wins is why.'
  ) in page.text
  assert 'not measurable' in page.text and 'not measured' in page.text
  assert 'check "zero gradient"' not in page.text
  assert 'zero gradient' in page.text and 'passed' in page.text
  assert page.source.count('class="warning"') == 1


def test_any_measure_has_its_rows(page):
  rows = [r for r in page.rows if 'data-measure' in r]
  # Methods by conditions by findings; all but the mean of each are hidden.
  assert len(rows) == (1 + 2 * 2) * (1 + len(BOXED)) + 1
  assert {r['data-finding'] for r in rows if 'hidden' not in r} == {'mean'}
  assert 'IoU of the boxes' in page.text and 'a new measure' in page.text
  assert 'Alignment is how well film x and gradient g agree' in page.text


def test_published_rows_need_nihs_films(tmp_path, page):
  assert 'Wang et al.' not in page.text
  nih = _Page(pages.write(made_workdir.write(tmp_path, source='nih')))
  published_rows = [r for r in nih.rows if r.get('class') == 'published']
  # Wang's in two tables by finding; then those that were read themselves.
  assert len(published_rows) == 2 * (1 + len(BOXED)) + 2 * 4
  assert 'published' in nih.ids and 'CLARiTy 2025' in nih.text
  assert 'published for another test set' in nih.text


OWN = (
  'Zyste',
  'Nodule/Mass',
  '<b>Schatten & "links"</b>',
  *map(str, range(17)),
)


@pytest.mark.parametrize('count', [1, 2, 20])
def test_a_data_set_names_its_findings(tmp_path, count):
  findings = OWN[:count]
  runs = [
    made_workdir.write(
      tmp_path / name,
      name=name,
      source='table',
      findings=findings,
      boxed=findings[:-1] or findings,
    )
    for name in ('first', 'second')
  ]
  page = _Page(pages.write(runs[0]))
  assert '<b>Schatten' not in page.source
  for finding in findings:
    assert finding in page.text
  assert 'Hernia' not in page.text
  shown = {case['finding'] for case in page.gallery()['cases']}
  assert shown == set(findings[:-1] or findings)
  alone = 'AUROC of Zyste is 0.800'
  assert (alone in page.text) == (count == 1)
  assert ('as the mean over findings' in page.text) == (count > 1)
  comparison = made_workdir.comparison(runs, ['first', 'second'])
  path = pages.write_comparison(tmp_path / 'c.html', runs, comparison)
  text = _Page(path).text
  more = 'The films below show 9 findings more.'
  assert (more in text) == (count == 20)


# Comparison.


@pytest.fixture(scope='module')
def compared(tmp_path_factory):
  folder = tmp_path_factory.mktemp('compare')
  names = ['baseline', 'robust']
  runs = [
    made_workdir.write(folder / name, name=name, seed=i, level=0.7 + i / 10)
    for i, name in enumerate(names)
  ]
  comparison = made_workdir.comparison(runs, names)
  path = pages.write_comparison(folder / 'compare.html', runs, comparison)
  return folder, _Page(path)


def test_comparison_answers_first(compared):
  _, page = compared
  assert 'robust localizes better than baseline' in page.text
  assert (
    'mean AUROC on test films is 0.800 against 0.700, a difference of +0.100'
    in page.text
  )
  assert 'p = 0.012' in page.text
  assert 'The accuracy of a random map is 0.' in page.text
  assert '(AFP) of cam at T(IoU) 0.3 is 1.300 against 1.300' in page.text
  assert 'AFP at T(IoU) 0.3' in page.text
  assert 'number of false boxes a film and finding of cam' in page.text


def test_comparison_has_the_figure(compared):
  folder, page = compared
  assert (folder / 'compare.png').stat().st_size > 10_000
  assert 'baseline above robust' in page.text


def test_comparison_shows_runs_of_one_film_together(compared):
  _, page = compared
  cases = page.gallery()['cases']
  assert [c['run'] for c in cases[:4]] == ['baseline', 'robust'] * 2
  assert cases[0]['film'] == cases[1]['film']
  assert cases[0]['kind'] == 'typical'


def test_comparison_shows_what_differs(compared):
  _, page = compared
  assert 'Fields in which the runs differ' in page.text
  assert 'attack.epsilon' not in page.text


def test_comparison_has_the_measures_of_both(compared):
  _, page = compared
  rows = [r for r in page.rows if 'data-measure' in r]
  assert len(rows) == (1 + 2 * 2) * (1 + len(BOXED)) + 1
  assert 'Measures of a film, run beside run' in page.text
  # (0.8 - 0.7) / 2, the mean of the measure without findings.
  assert '+0.050' in page.text


@pytest.mark.parametrize(
  ('low', 'high', 'verdict'),
  [
    (0.01, 0.05, 'b localizes better than a'),
    (-0.05, -0.01, 'b localizes worse than a'),
    (-0.01, 0.05, 'It is open whether b localizes better than a'),
  ],
)
def test_verdict_follows_the_interval(tmp_path, low, high, verdict):
  runs = [made_workdir.write(tmp_path / n, parts=('config',)) for n in 'ab']
  value = (low + high) / 2
  entry = {
    'runs': [made_workdir.estimate(0.4)] * 2,
    'difference': {'value': value, 'low': low, 'high': high, 'p': 0.02},
  }
  comparison = {
    'runs': ['a', 'b'],
    'localization': {'cam': {'wang': {'iou@0.3': {'mean': entry}}}},
  }
  path = pages.write_comparison(tmp_path / 'c.html', runs, comparison)
  assert verdict in _Page(path).text


def test_three_runs(tmp_path):
  names = ['a', 'b', 'c']
  runs = [
    made_workdir.write(tmp_path / n, name=n, seed=i)
    for i, n in enumerate(names)
  ]
  comparison = made_workdir.comparison(runs, names)
  path = pages.write_comparison(tmp_path / 'c.html', runs, comparison)
  page = _Page(path)
  assert 'difference, b' in page.text and 'difference, c' in page.text
  assert 'c localizes' in page.text


def test_nothing_in_common(tmp_path):
  runs = [made_workdir.write(tmp_path / n, parts=()) for n in 'ab']
  path = pages.write_comparison(tmp_path / 'c.html', runs, {'runs': ['a', 'b']})
  assert 'no results in common' in _Page(path).text


# A user's own films.


def _case(rng, name, size=64, **others):
  box = [0.3, 0.2, 0.55, 0.45]
  return {
    'name': name,
    'image': made_workdir.film(rng, size),
    'warnings': [],
    'findings': [
      {
        'finding': 'Mass',
        'probability': 0.7,
        'truth': [],
        'maps': {
          'cam': made_workdir.blob(rng, 8, box),
          'gradient': np.abs(made_workdir.blob(rng, size, box)),
        },
        'boxes': {'cam': [box]},
      }
    ],
  } | others


def test_hostile_names_are_text(tmp_path):
  rng = np.random.default_rng(0)
  path = pages.write_explain(
    tmp_path / 'e.html',
    [_case(rng, HOSTILE, warnings=[HOSTILE])],
    title=HOSTILE,
    warnings=[HOSTILE],
  )
  page = _Page(path)
  assert '<script>alert' not in page.source
  assert '{{ 7*7 }}' in page.text and ' 49 ' not in page.text
  assert len(page.scripts) == 2
  assert page.gallery()['films'][0]['name'] == HOSTILE


def test_hostile_names_in_a_workdir(tmp_path):
  workdir = made_workdir.write(
    tmp_path, name=HOSTILE, image_name='{:03d}' + HOSTILE.replace('{', '(')
  )
  page = _Page(pages.write(workdir))
  assert '<script>alert' not in page.source
  assert page.gallery()['cases'][0]['boxes']['cam']


def test_operating_points_and_why_there_is_none(page):
  assert 'fitted on 120 validation films' in page.text
  assert 'undefined: 0 positive and 120 negative films' in page.text
  assert 'resampling biases it upwards' in page.text


def test_calibrated_probabilities_stand_apart(tmp_path):
  rng = np.random.default_rng(0)
  case = _case(rng, 'a.png')
  case['findings'][0] |= {'calibrated': 0.123, 'called': 0.0}
  path = pages.write_explain(
    tmp_path / 'e.html',
    [case],
    operating_points=made_workdir.calibration(),
  )
  page = _Page(path)
  shown = page.source.split('<table')[1:]
  assert '0.700' in shown[0] and '0.123' not in shown[0]
  assert '0.123<small>not called</small>' in shown[1]
  assert 'operating-points' in page.ids
  (packed,) = page.gallery()['cases']
  assert (packed['calibrated'], packed['called']) == (0.123, 0.0)


def test_the_model_card_is_in_the_page(tmp_path):
  made_workdir.write(tmp_path)
  (tmp_path / 'MODEL_CARD.md').write_text(
    '# Card\n\nOne line\nand <b>more</b>.\n\n| a |\n| b |\n\n* c\n  d\n* e\n'
  )
  page = _Page(pages.write(tmp_path))
  assert 'card' in page.ids and '<b>more' not in page.source
  inside = page.source.partition('<pre class="text">')[2].partition('</pre>')[0]
  assert inside.splitlines() == [
    '# Card',
    '',
    'One line and &lt;b&gt;more&lt;/b&gt;.',
    '',
    '| a |',
    '| b |',
    '',
    '* c d',
    '* e',
  ]


def test_test_films_stand_before_those_that_chose_the_checkpoint(page):
  shown = [i for i in page.ids if i.startswith('auroc-') and 'cap' not in i]
  assert shown[0] == 'auroc-test' and shown[-1] == 'auroc-validation'


def test_no_films_at_all(tmp_path):
  page = _Page(pages.write_explain(tmp_path / 'e.html', []))
  assert '0 films' in page.text and 'films' not in page.ids


def test_findings_without_maps(tmp_path):
  rng = np.random.default_rng(0)
  case = _case(rng, 'a.png')
  case['findings'] = [{'finding': 'Mass', 'probability': None}]
  page = _Page(pages.write_explain(tmp_path / 'e.html', [case]))
  assert 'a.png' in page.text and 'films' not in page.ids


def test_200_films_stay_below_15_mb(tmp_path):
  rng = np.random.default_rng(0)
  # White noise is what compresses worst.
  noise = rng.integers(0, 255, (448, 448), np.uint8)
  findings = [
    {
      'finding': finding,
      'probability': 0.5,
      'maps': {
        method: rng.normal(size=(224, 224)).astype(np.float32)
        for method in ('cam', 'gradient')
      },
      'boxes': {'cam': rng.random((30, 4)), 'gradient': rng.random((30, 4))},
    }
    for finding in BOXED[:3]
  ]
  cases = [
    {'name': f'{i}.png', 'image': noise, 'warnings': [], 'findings': findings}
    for i in range(200)
  ]
  path = pages.write_explain(tmp_path / 'e.html', cases)
  assert tmp_path.joinpath('e.html').stat().st_size < 15e6
  assert path == str(tmp_path / 'e.html')
