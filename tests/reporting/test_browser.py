"""Pages in headless Chromium: what is clicked, slid, sorted, copied works."""

import contextlib
import json
import shutil

import numpy as np
import pytest

from configs import robust
from cxr.localization import overlap, regions
from cxr.reporting import card, gallery, pages
from tests import made_workdir

webdriver = pytest.importorskip(
  'selenium.webdriver', reason='selenium is not installed'
)
action_chains = pytest.importorskip('selenium.webdriver.common.action_chains')
Keys = pytest.importorskip('selenium.webdriver.common.keys').Keys
CHROMIUM, DRIVER = shutil.which('chromium'), shutil.which('chromedriver')
pytestmark = pytest.mark.skipif(
  not (CHROMIUM and DRIVER),
  reason='chromium and chromedriver are not installed (apt: chromium, '
  'chromium-driver)',
)
HOSTILE = '<script>document.title="x"</script>.png'


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
  options = webdriver.ChromeOptions()
  options.binary_location = CHROMIUM
  for flag in (
    'headless',
    'no-sandbox',
    'disable-gpu',
    'no-first-run',
    'disable-dev-shm-usage',
    'disable-background-networking',
    'disable-component-update',
    'disable-sync',
    f'user-data-dir={tmp_path_factory.mktemp("profile")}',
  ):
    options.add_argument(f'--{flag}')
  options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
  service = webdriver.ChromeService(executable_path=DRIVER)
  driver = webdriver.Chrome(options=options, service=service)
  yield driver
  driver.quit()


def _case(rng, name, index):
  box = [0.3, 0.2, 0.6, 0.5]
  return {
    'name': name,
    'image': made_workdir.film(rng, 64)[:, : 64 - 10 * index],
    'warnings': ['Not square.'] if index else [],
    'findings': [
      {
        'finding': finding,
        'probability': 0.7,
        'truth': [box] if finding == 'Mass' else [],
        'maps': {
          'cam': made_workdir.blob(rng, 8, box),
          'gradient': np.abs(made_workdir.blob(rng, 64, box)),
        },
        'boxes': {'cam': [[0.3, 0.2, 0.6, 0.35]]},
        **({'calibrated': 0.123, 'called': 0.0} if finding == 'Mass' else {}),
      }
      for finding in ('Mass', 'Nodule')
    ],
  }


@pytest.fixture(scope='module')
def paths(tmp_path_factory):
  """Name of a page -> its path, and the cases of explain."""
  folder = tmp_path_factory.mktemp('pages')
  names = ['baseline', 'robust']
  runs = [
    made_workdir.write(folder / name, name=name, seed=i, level=0.7 + i / 10)
    for i, name in enumerate(names)
  ]
  config = robust.get_config('smoke').to_dict()
  (folder / 'baseline' / 'config.json').write_text(json.dumps(config))
  card.write(runs[0])
  rng = np.random.default_rng(0)
  cases = [_case(rng, f'{i} {HOSTILE}', i) for i in range(2)]
  return {
    'report': pages.write(runs[0]),
    'compare': pages.write_comparison(
      folder / 'compare.html', runs, made_workdir.comparison(runs, names)
    ),
    'explain': pages.write_explain(
      folder / 'explain.html',
      cases,
      operating_points=made_workdir.calibration(),
      warnings=['broken.png: not read'],
    ),
    'cases': cases,
  }


@pytest.fixture
def visit(browser, paths):
  """visit(name) opens a page; no page may complain, however it was used."""
  browser.get_log('browser')

  def open_page(name):
    browser.get(f'file://{paths[name]}')
    return browser

  yield open_page
  assert [line['message'] for line in browser.get_log('browser')] == []


def _all(browser, selector):
  return browser.find_elements('css selector', selector)


def _click(browser, selector):
  # Through the page: sticky bars may lie over what is clicked.
  browser.execute_script(
    'document.querySelector(arguments[0]).click()', selector
  )


def _slide(browser, selector, value):
  browser.execute_script(
    'const slider = document.querySelector(arguments[0]);'
    'slider.value = arguments[1];'
    'slider.dispatchEvent(new Event("input"));',
    selector,
    value,
  )


def _boxes(browser, method, kind='predicted'):
  """Boxes drawn over the first film's map, as (ymin, xmin, ymax, xmax)."""
  return np.array(
    browser.execute_script(
      'const panel = document.querySelector('
      '  `.panel[data-method=${arguments[0]}]`);'
      'return [...panel.querySelectorAll(`rect.${arguments[1]}`)].map((r) => {'
      '  const [x, y, w, h] = ["x", "y", "width", "height"].map('
      '    (k) => Number(r.getAttribute(k)));'
      '  return [y, x, y + h, x + w]; })',
      method,
      kind,
    )
  ).reshape(-1, 4)


def _scores(browser, method):
  return browser.execute_script(
    'return document.querySelector('
    '  `.panel[data-method=${arguments[0]}] .scores`).textContent',
    method,
  )


def _column(browser, table, index):
  """The copied values of a column's visible cells, from top to bottom."""
  return browser.execute_script(
    'return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)]'
    '  .filter((row) => !row.hidden).map((row) => {'
    '    const cell = row.cells[arguments[1]];'
    '    return (cell.dataset.tsv ?? cell.textContent).split("\\t")[0]; })',
    table,
    index,
  )


PAGES = ['report', 'compare', 'explain']


@contextlib.contextmanager
def _screen(browser, width):
  browser.execute_cdp_cmd(
    'Emulation.setDeviceMetricsOverride',
    {
      'width': width,
      'height': 800,
      'deviceScaleFactor': 1,
      'mobile': width < 500,
    },
  )
  try:
    yield
  finally:
    browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})


@pytest.mark.parametrize('name', PAGES)
@pytest.mark.parametrize('width', [400, 1280, 1920])
def test_fits_the_screen(visit, name, width):
  browser = visit(name)
  with _screen(browser, width):
    browser.execute_script(
      'document.querySelectorAll("details").forEach((e) => { e.open = true; })'
    )
    # Wide tables scroll in their own frame, never the page, and by keyboard.
    assert (
      browser.execute_script('return document.documentElement.scrollWidth')
      <= width
    )
    deaf = browser.execute_script(
      'return [...document.querySelectorAll("main *")].filter((e) =>'
      '  getComputedStyle(e).overflowX === "auto" && e.tabIndex < 0 &&'
      '  e.scrollWidth > e.clientWidth).map((e) => e.className)'
    )
    assert deaf == []
    assert browser.execute_script(
      'return [...document.images].every((image) => image.naturalWidth > 0)'
    )


@pytest.mark.parametrize('width', [400, 1280, 1920])
@pytest.mark.parametrize('name', ['report', 'compare'])
def test_the_pictures_stand_by_the_first_sentence(visit, name, width):
  browser = visit(name)
  with _screen(browser, width):
    first, pictures, others = browser.execute_script(
      'return [".answer", ".medians", ".others"].map((s) => {'
      '  const b = document.querySelector(s).getBoundingClientRect();'
      '  return {left: b.left, right: b.right, top: b.top,'
      '    bottom: b.bottom}; })'
    )
  if width == 400:  # below it, and before the other sentences
    assert first['bottom'] <= pictures['top'] < 400
    assert pictures['bottom'] <= others['top']
  else:  # beside it
    assert first['right'] <= pictures['left'] and pictures['top'] < 150
    assert first['bottom'] <= others['top'] < 600


# Everything that a key can reach, in the order of the page.
_STOPS = """
  const stops = [...document.querySelectorAll(
    'a[href], button, input, select, summary, [tabindex="0"]')].filter((e) =>
    e.checkVisibility({visibilityProperty: true}));
"""


@pytest.mark.parametrize('width', [400, 1280, 1920])
@pytest.mark.parametrize('name', PAGES)
def test_by_keyboard_alone(visit, name, width):
  browser = visit(name)
  with _screen(browser, width):
    stops = browser.execute_script(
      _STOPS + 'window.stops = stops; window.seen = [];'
      'document.documentElement.style.scrollBehavior = "auto";'
      'document.addEventListener("focusin", ({target}) => {'
      '  const style = getComputedStyle(target);'
      '  const box = target.getBoundingClientRect();'
      '  window.seen.push([stops.indexOf(target),'
      '    style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,'
      '    box.bottom > 0 && box.top < innerHeight]); });'
      'return stops.length;'
    )
    assert stops > 10
    keys = action_chains.ActionChains(browser, duration=0)
    keys.send_keys(Keys.TAB * stops).perform()
    seen = browser.execute_script('return window.seen')
  assert [index for index, *_ in seen] == list(range(stops))
  assert all(outlined and on_screen for _, outlined, on_screen in seen)


def _press(browser, selector, key):
  """Focuses what the selector finds and presses a key there."""
  browser.execute_script(
    'document.querySelector(arguments[0]).focus()', selector
  )
  action_chains.ActionChains(browser, duration=0).send_keys(key).perform()


@pytest.mark.parametrize('name', PAGES)
def test_the_first_stop_skips_to_the_results(visit, name):
  browser = visit(name)
  action_chains.ActionChains(browser).send_keys(Keys.TAB, Keys.ENTER).perform()
  active = browser.switch_to.active_element
  assert active.tag_name == 'main'


def test_controls_answer_to_keys(visit):
  browser = visit('report')
  _press(browser, '#card summary', Keys.ENTER)
  assert _all(browser, '#card details')[0].get_property('open')
  head = '#auroc-test thead th:nth-child(3)'
  _press(browser, f'{head} button', Keys.SPACE)
  assert _all(browser, head)[0].get_attribute('aria-sort') == 'ascending'
  _press(
    browser, '#localization [data-filter=finding] [value=Mass]', Keys.ENTER
  )
  assert set(_column(browser, 'accuracy-iou', 1)) == {'Mass'}
  _press(browser, '[data-choice=finding] [value=Mass]', Keys.SPACE)
  assert 'Mass' in _all(browser, '.card h3 span')[0].text
  _press(browser, '.level', Keys.ARROW_RIGHT)
  assert f'{gallery.LEVEL + 1} of 255' in _all(browser, '.level-text')[0].text


@pytest.mark.parametrize('name', PAGES)
def test_nothing_is_loaded(visit, name):
  browser = visit(name)
  loaded = browser.execute_script(
    'return performance.getEntriesByType("resource").map((e) => e.name)'
  )
  assert [url for url in loaded if not url.startswith('data:')] == []


@pytest.mark.parametrize('name', PAGES)
def test_every_figure_has_a_text(visit, name):
  browser = visit(name)
  missing = browser.execute_script(
    'return [...document.querySelectorAll("img, svg, canvas")].filter((e) =>'
    '  !e.closest("[aria-hidden=true]") && !e.getAttribute("alt") &&'
    '  !e.getAttribute("aria-label")).map((e) => e.outerHTML.slice(0, 80))'
  )
  assert missing == []


def test_dark_and_light(visit):
  colors = []
  for scheme in ('dark', 'light'):
    browser = visit('report')
    browser.execute_cdp_cmd(
      'Emulation.setEmulatedMedia',
      {'features': [{'name': 'prefers-color-scheme', 'value': scheme}]},
    )
    colors.append(
      browser.execute_script(
        'const style = getComputedStyle(document.body);'
        'const label = document.querySelector(".plot text");'
        'return [style.backgroundColor, getComputedStyle(label).fill]'
      )
    )
  browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': []})
  lightness = [
    [sum(map(int, c[c.index('(') + 1 : -1].split(',')[:3])) for c in of]
    for of in colors
  ]
  assert lightness[0][0] < 150 < 600 < lightness[0][1]
  assert lightness[1][1] < 150 < 600 < lightness[1][0]


@pytest.mark.parametrize('name', PAGES)
def test_paper_shows_whole_tables_and_dark_text(visit, name):
  browser = visit(name)
  browser.execute_cdp_cmd(
    'Emulation.setEmulatedMedia',
    {
      'media': 'print',
      'features': [{'name': 'prefers-color-scheme', 'value': 'dark'}],
    },
  )
  # A4 between margins of a centimetre, at 96 pixels an inch.
  browser.execute_cdp_cmd(
    'Emulation.setDeviceMetricsOverride',
    {'width': 718, 'height': 1046, 'deviceScaleFactor': 1, 'mobile': False},
  )
  try:
    wide = browser.execute_script(
      'return [...document.querySelectorAll("table")].filter((t) =>'
      '  t.getBoundingClientRect().right > innerWidth + 1)'
      '  .map((t) => t.closest(".table").id)'
    )
    paper = browser.execute_script(
      'return [...document.querySelectorAll("body, .warning")].map((e) =>'
      '  getComputedStyle(e).backgroundColor)'
    )
  finally:
    browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
    browser.execute_cdp_cmd(
      'Emulation.setEmulatedMedia', {'media': '', 'features': []}
    )
  assert wide == []
  assert set(paper) == {'rgb(255, 255, 255)'}


def test_calibrated_probability_stands_by_the_raw_one(visit):
  browser = visit('explain')
  _click(browser, '[data-choice=finding] [value=Mass]')
  (head,) = _all(browser, '.card h3 span')
  assert head.text == 'Mass, probability 0.70 (calibrated 0.12, not called)'
  _click(browser, '[data-choice=finding] [value=Nodule]')
  (head,) = _all(browser, '.card h3 span')
  assert head.text == 'Nodule, probability 0.70'


def test_films_with_a_warning_are_marked_in_the_list(visit):
  options = [o.text for o in _all(visit('explain'), '.film option')]
  assert [o.endswith(' (warning)') for o in options] == [False, True]


def test_stored_boxes_stand_first(visit):
  browser = visit('explain')
  np.testing.assert_allclose(
    _boxes(browser, 'cam'), [[0.3, 0.2, 0.6, 0.35]], atol=1e-6
  )
  # Half of the true box, and all of it inside.
  assert _scores(browser, 'cam') == 'IoU 0.50 · IoBB 1.00'
  np.testing.assert_allclose(
    _boxes(browser, 'cam', 'truth'), [[0.3, 0.2, 0.6, 0.5]], atol=1e-6
  )


@pytest.mark.parametrize('level', [60, 128, 200])
@pytest.mark.parametrize('method', ['cam', 'gradient'])
def test_slider_draws_the_boxes_of_localization(visit, paths, level, method):
  browser = visit('explain')
  _slide(browser, '.level', level)
  case = paths['cases'][0]
  heatmap = np.asarray(case['findings'][0]['maps'][method], np.float64)
  # What the page holds: eight bits a cell.
  low, high = heatmap.min(), heatmap.max()
  heatmap = (
    low + np.round((heatmap - low) / (high - low) * 255) * (high - low) / 255
  )
  heatmap = regions.scale_255(
    made_workdir.enlarged(heatmap, case['image'].shape)
  )
  expected = regions.levels_to_boxes(heatmap, [level + 1e-3])
  drawn = _boxes(browser, method)
  assert len(drawn) == len(expected) > 0
  order = lambda boxes: np.array(sorted(boxes.tolist()))
  np.testing.assert_allclose(order(drawn), order(expected), atol=1e-6)
  truth = np.array(case['findings'][0]['truth'][0])
  iou = overlap.iou(expected, truth).max()
  iobb = overlap.iobb(expected, truth).max()
  assert _scores(browser, method) == f'IoU {iou:.2f} · IoBB {iobb:.2f}'


def test_slider_and_reset(visit):
  browser = visit('explain')
  before = _boxes(browser, 'cam'), _scores(browser, 'cam')
  _slide(browser, '.level', 90)
  assert _scores(browser, 'cam') != before[1]
  assert '90 of 255' in _all(browser, '.level-text')[0].text
  _click(browser, '.reset')
  np.testing.assert_array_equal(_boxes(browser, 'cam'), before[0])
  slider = _all(browser, '.level')[0]
  assert int(slider.get_property('value')) == gallery.LEVEL


def test_choices_of_film_finding_and_method(visit):
  browser = visit('explain')
  _click(browser, '[data-choice=finding] [value=Nodule]')
  assert 'no true box' in _all(browser, '.cards')[0].text
  assert 'IoU' not in _scores(browser, 'cam')
  _click(browser, '[data-choice=method] [value=gradient]')
  assert _all(browser, '.panel[data-method=gradient]') == []
  pressed = _all(browser, '[data-choice=method] [aria-pressed=true]')
  assert [button.get_attribute('value') for button in pressed] == ['cam']
  _click(browser, '.step[value="1"]')
  assert 'Not square.' in _all(browser, '.cards')[0].text
  assert f'1 {HOSTILE}' in _all(browser, '.card h3')[0].text


def test_hostile_names_do_not_run(visit):
  browser = visit('explain')
  assert browser.title == 'Films explained'
  assert len(_all(browser, 'script')) == 2


def test_opacity_and_common_scale(visit):
  browser = visit('report')
  _slide(browser, '.opacity', 100)
  canvas = _all(browser, '.view canvas')[0]
  assert canvas.value_of_css_property('opacity') == '1'
  unit = _all(browser, '.unit')[0]
  assert 'of each map by itself' in unit.text
  _click(browser, '.shared')
  assert 'all films alike' in unit.text


def test_map_is_painted_in_inferno(visit, paths):
  browser = visit('explain')
  rgb = browser.execute_script(
    'const canvas = document.querySelector(".panel[data-method=cam] canvas");'
    'const {data} = canvas.getContext("2d").getImageData('
    '  0, 0, canvas.width, canvas.height);'
    'return [...data]'
  )
  case = paths['cases'][0]
  pixels = np.reshape(rgb, (*case['image'].shape, 4))[..., :3]
  heatmap = made_workdir.enlarged(
    np.asarray(case['findings'][0]['maps']['cam'], np.float64),
    case['image'].shape,
  )
  # Inferno grows lighter throughout: the order of cells is the map's.
  lightness = pixels @ [0.2126, 0.7152, 0.0722]
  peak = np.unravel_index(lightness.argmax(), lightness.shape)
  assert heatmap[peak] > np.quantile(heatmap, 0.995)
  ranks = [np.argsort(np.argsort(v.ravel())) for v in (heatmap, lightness)]
  assert np.corrcoef(ranks)[0, 1] > 0.999


def test_comparison_shows_run_above_run(visit):
  browser = visit('compare')
  shown = _all(browser, '.card')[0]
  names = shown.find_elements('css selector', '.run-name')
  assert [n.text.split(',')[0] for n in names] == ['baseline', 'robust']
  tops = [n.location['y'] for n in names]
  assert tops[0] < tops[1]


def test_tables_sort(visit):
  browser = visit('report')
  head = '#auroc-test thead th:nth-child(3)'
  rising, falling = [], []
  for values, direction in ((rising, 'ascending'), (falling, 'descending')):
    _click(browser, f'{head} button')
    assert _all(browser, head)[0].get_attribute('aria-sort') == direction
    values += _column(browser, 'auroc-test', 2)
  # The undefined figure stays last either way.
  assert rising[-1] == falling[-1] == ''
  numbers = [float(v) for v in rising[:-1]]
  assert numbers == sorted(numbers) and len(set(numbers)) > 5
  assert [float(v) for v in falling[:-1]] == sorted(numbers, reverse=True)
  _click(browser, '#auroc-test thead th:nth-child(1) button')
  names = _column(browser, 'auroc-test', 0)
  assert names == sorted(names, key=str.lower)
  assert _all(browser, head)[0].get_attribute('aria-sort') == 'none'


def test_tables_filter(visit):
  browser = visit('report')
  assert set(_column(browser, 'accuracy-iou', 1)) == {'mean'}
  _click(browser, '#localization [data-filter=finding] [value=Mass]')
  assert set(_column(browser, 'accuracy-iou', 1)) == {'Mass'}
  assert set(_column(browser, 'scores', 1)) == {'Mass'}
  _click(browser, '#localization [data-filter=finding] [value=""]')
  _click(browser, '#localization [data-filter=method] [value=cam]')
  assert len(_column(browser, 'accuracy-iou', 1)) == 9


def test_tables_copy(visit):
  browser = visit('report')
  browser.execute_script(
    'window.copied = null;'
    'Object.defineProperty(navigator, "clipboard", {configurable: true,'
    '  value: {writeText: async (text) => { window.copied = text; }}});'
  )
  _click(browser, '#auroc-test .copy')
  text = browser.execute_script('return window.copied')
  lines = [line.split('\t') for line in text.strip().split('\n')]
  assert len({len(line) for line in lines}) == 1
  assert lines[0][:4] == ['finding', 'positive films', 'AUROC', 'AUROC low']
  assert len(lines) == 16
  mean = next(line for line in lines if line[0] == 'mean')
  assert [float(v) for v in mean[2:5]] == pytest.approx([0.7, 0.66, 0.74])


def test_pages_work_without_the_script(paths, browser):
  browser.execute_cdp_cmd(
    'Emulation.setScriptExecutionDisabled', {'value': True}
  )
  browser.get(f'file://{paths["report"]}')
  browser.execute_cdp_cmd(
    'Emulation.setScriptExecutionDisabled', {'value': False}
  )
  rows = browser.execute_script(
    'return [...document.querySelectorAll("#accuracy-iou tbody tr")]'
    '  .filter((row) => row.offsetParent).length'
  )
  assert rows == len(made_workdir.METHODS)


def test_json_cannot_close_its_script(paths):
  with open(paths['explain'], encoding='utf-8') as file:
    source = file.read()
  start = source.index('<script type="application/json"')
  raw = source[source.index('>', start) + 1 : source.index('</script>', start)]
  assert json.loads(raw)['films'][0]['name'] == f'0 {HOSTILE}'
