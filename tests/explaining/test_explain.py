"""The core on functions whose answers are known; then once with a model.

Long, since one untrained model and one folder of films serve all of it.
"""

import csv
import json
import os

import jax
import numpy as np
import pytest
from flax import linen as nn
from ml_collections import ConfigDict
from PIL import Image
from scipy import special

from configs import default
from cxr import inference
from cxr.attribution import by_name
from cxr.explaining import explain, interpret
from cxr.localization import regions
from cxr.reporting import pages
from input_pipeline import findings
from input_pipeline.radiograph import radiograph

FINDINGS = ('Mass', 'Nodule', 'Edema')
SIZE = 32


def predict(image):
  """Probability of Mass: the mean; of Nodule: always .5; of Edema: none."""
  mean = image.mean(axis=(1, 2, 3))
  return special.logit(
    np.stack([mean, np.full_like(mean, 0.5), np.zeros_like(mean)], 1)
  )


def maps(image, finding):
  """'film': the film itself times the finding's number plus one; 'flat'."""
  film = image * (finding[:, None, None, :] + 1)
  return {'film': film, 'flat': np.zeros_like(film)}


def boxes(heatmap):
  return regions.levels_to_boxes(heatmap, [0.5])


def interpreter(**options):
  return interpret.Interpreter(
    **{
      'predict': predict,
      'maps': maps,
      'boxes': boxes,
      'rule': 'half',
      'methods': ('film', 'flat'),
      'size': SIZE,
      'findings': FINDINGS,
      'top_findings': 2,
      'batch_size': 3,
    }
    | options
  )


def run(folder, output, *, paths=None, page_films=50, **options):
  return explain.explain_films(
    interpreter(**options),
    paths or radiograph.find(str(folder))[0],
    str(output),
    root=str(folder),
    page_films=page_films,
  )


def rows(path):
  with open(path, newline='', encoding='utf-8') as f:
    return list(csv.DictReader(f))


def write(path, values):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.asarray(values, np.uint8)).save(path, 'PNG')


def spot(height, width, box):
  values = np.zeros((height, width), np.uint8)
  ymin, xmin, ymax, xmax = box
  values[ymin:ymax, xmin:xmax] = 255
  return values


@pytest.fixture
def films(tmp_path):
  folder = tmp_path / 'films'
  folder.mkdir()
  return folder


@pytest.fixture
def output(tmp_path):
  return tmp_path / 'results'


class TestFilms:
  def test_probabilities_are_those_of_the_function(self, films, output):
    for i, gray in enumerate((51, 255, 102, 0)):
      write(films / f'{i}.png', np.full((SIZE, SIZE), gray))
    explained = run(films, output)
    table = rows(output / 'predictions.csv')
    assert [row['image'] for row in table] == [f'{i}.png' for i in range(4)]
    mass = [float(row['probability_Mass']) for row in table]
    np.testing.assert_allclose(mass, [0.2, 1, 0.4, 0], atol=1e-6)
    assert {row['probability_Nodule'] for row in table} == {'0.500000'}
    assert {row['error'] for row in table} == {''}
    assert {row['calibrated_Mass'] + row['called_Mass'] for row in table} == {
      ''
    }
    assert explained.read == 4 and not explained.errors

  def test_calibrated_and_called_stand_apart_from_the_raw(self, films, output):
    for i, gray in enumerate((51, 204)):
      write(films / f'{i}.png', np.full((SIZE, SIZE), gray))
    fitted = {
      'temperature': np.array([0.5, 1.0, np.nan]),
      'bias': np.array([0.0, -2.0, np.nan]),
      'threshold': np.array([1.0, 0.0, np.nan]),
    }
    explained = run(films, output, fitted=fitted)
    dark, bright = rows(output / 'predictions.csv')
    # Odds of .8 are 4; at half the temperature 16.
    assert float(bright['probability_Mass']) == pytest.approx(0.8)
    assert float(bright['calibrated_Mass']) == pytest.approx(16 / 17, abs=1e-6)
    assert (dark['called_Mass'], bright['called_Mass']) == ('0', '1')
    assert float(dark['calibrated_Nodule']) == pytest.approx(
      special.expit(-2), abs=1e-6
    )
    assert dark['called_Nodule'] == '1'
    assert dark['calibrated_Edema'] == dark['called_Edema'] == ''
    found = {f['finding']: f for f in explained.cases[1]['findings']}
    assert found['Mass']['called'] == 1
    assert found['Mass']['calibrated'] == pytest.approx(16 / 17)

  @pytest.mark.parametrize(
    'fit, shape, box',
    [
      ('pad', (128, 64), (32, 8, 64, 40)),
      ('pad', (64, 128), (8, 32, 40, 64)),
      ('pad', (96, 96), (12, 24, 48, 60)),
      ('crop', (128, 64), (48, 8, 80, 40)),
      ('crop', (64, 160), (8, 64, 40, 96)),
    ],
  )
  def test_boxes_are_in_the_films_own_pixels(
    self, films, output, fit, shape, box
  ):
    write(films / 'film.png', spot(*shape, box))
    run(films, output, fit=fit, top_findings=1)
    (row,) = rows(output / 'boxes.csv')
    found = [float(row[k]) for k in ('ymin', 'xmin', 'ymax', 'xmax')]
    # All edges fall on the image's pixels here.
    np.testing.assert_allclose(found, box, atol=0.01)
    assert (row['finding'], row['method'], row['rule']) == (
      'Nodule',
      'film',
      'half',
    )
    (film,) = rows(output / 'predictions.csv')
    assert (film['height'], film['width'], film['fit']) == (
      str(shape[0]),
      str(shape[1]),
      fit,
    )
    with open(output / 'coco_film.json') as f:
      (detection,) = json.load(f)
    ymin, xmin, ymax, xmax = box
    np.testing.assert_allclose(
      detection['bbox'], [xmin, ymin, xmax - xmin, ymax - ymin], atol=0.01
    )
    assert detection['score'] == 0.5
    with open(output / 'coco_films.json') as f:
      listed = json.load(f)
    assert listed['images'] == [
      {
        'id': detection['image_id'],
        'file_name': 'film.png',
        'height': shape[0],
        'width': shape[1],
      }
    ]
    assert listed['annotations'] == []
    with open(output / 'coco_flat.json') as f:
      assert json.load(f) == []

  def test_boxes_in_the_padding_are_no_boxes(self, films, output):
    write(films / 'film.png', np.full((64, 16), 255))
    everywhere = lambda image, finding: {
      'film': np.broadcast_to(
        np.arange(SIZE)[None, None, :, None] < 8, (3, SIZE, SIZE, 1)
      ).astype(np.float32)
    }
    run(films, output, maps=everywhere, methods=('film',), top_findings=1)
    assert rows(output / 'boxes.csv') == []

  def test_most_probable_findings_have_maps(self, films, output):
    write(films / 'bright.png', np.full((SIZE, SIZE), 250))
    write(films / 'dark.png', np.full((SIZE, SIZE), 50))
    explained = run(films, output)
    names = [[f['finding'] for f in c['findings']] for c in explained.cases]
    assert names == [['Mass', 'Nodule'], ['Nodule', 'Mass']]
    # The map is the one of the finding it stands at.
    dark = explained.cases[1]['findings']
    np.testing.assert_allclose(dark[0]['maps']['film'], 2 * 50 / 255, rtol=1e-5)
    np.testing.assert_allclose(dark[1]['maps']['film'], 50 / 255, rtol=1e-5)

  def test_broken_film_costs_its_own_row(self, films, output):
    for name in ('a', 'c', 'd', 'e'):
      write(films / f'{name}.png', np.full((SIZE, SIZE), 51))
    (films / 'b.png').write_bytes((films / 'a.png').read_bytes()[:50])
    (films / 'f.dcm').write_bytes(b'no film')
    explained = run(films, output)
    table = rows(output / 'predictions.csv')
    assert [row['image'][0] for row in table] == list('abcdef')
    assert [bool(row['error']) for row in table] == [
      name in 'bf' for name in 'abcdef'
    ]
    assert table[1]['probability_Mass'] == table[1]['overlay'] == ''
    assert explained.read == 4 and list(explained.errors) == ['b.png', 'f.dcm']

  def test_a_folder_of_broken_films(self, films, output):
    for name in 'abcd':
      (films / f'{name}.png').write_bytes(b'')
    explained = run(films, output)
    assert explained.read == 0 and len(explained.errors) == 4
    assert len(rows(output / 'predictions.csv')) == 4

  def test_a_film_does_not_depend_on_its_place(self, films, output):
    generator = np.random.default_rng(0)
    for name in 'abcdefg':
      write(films / f'{name}.png', generator.integers(0, 255, (40, 30)))
    run(films, output)
    alone = output.parent / 'alone'
    run(films, alone, paths=[str(films / 'e.png')])
    keys = ('image', 'probability_Mass', 'warnings', 'notes')
    all_rows = rows(output / 'predictions.csv')
    (row,) = rows(alone / 'predictions.csv')
    assert [row[k] for k in keys] == [all_rows[4][k] for k in keys]
    assert rows(alone / 'boxes.csv') == [
      r for r in rows(output / 'boxes.csv') if r['image'] == 'e.png'
    ]

  def test_batches_have_one_size(self, films, output):
    for name in 'abcdefg':
      write(films / f'{name}.png', np.full((SIZE, SIZE), 9))
    shapes = []

    def recorded(image):
      shapes.append(image.shape)
      return predict(image)

    run(films, output, predict=recorded)
    assert shapes == [(3, SIZE, SIZE, 1)] * 3

  def test_names_are_relative_and_those_of_two_folders_differ(
    self, films, output
  ):
    write(films / 'a' / 'film.png', np.full((SIZE, SIZE), 0))
    write(films / 'b' / 'film.png', np.full((SIZE, SIZE), 255))
    explained = run(films, output)
    table = rows(output / 'predictions.csv')
    assert [row['image'] for row in table] == ['a/film.png', 'b/film.png']
    assert [c['name'] for c in explained.cases] == ['a/film.png', 'b/film.png']
    overlays = {row['overlay'] for row in table}
    assert set(os.listdir(output / 'overlays')) == overlays
    assert len(overlays) == 2
    for root, _, names in os.walk(output):
      for file in names:
        with open(os.path.join(root, file), 'rb') as f:
          assert str(films).encode() not in f.read()

  @pytest.mark.parametrize(
    'name, shown, cell',
    [
      ('=cmd|x.png', '=cmd|x.png', "'=cmd|x.png"),
      ('@sum.png', '@sum.png', "'@sum.png"),
      ('-1+2.png', '-1+2.png', "'-1+2.png"),
      ('\tx.png', '\\tx.png', '\\tx.png'),
      ('a\nb.png', 'a\\nb.png', 'a\\nb.png'),
      ('a\\nb.png', 'a\\\\nb.png', 'a\\\\nb.png'),
      ('a\u202egnp.png', 'a\\u202egnp.png', 'a\\u202egnp.png'),
      ('a\udcff.png', 'a\\udcff.png', 'a\\udcff.png'),
      ('a,"b".png', 'a,"b".png', 'a,"b".png'),
      ('<b>.png', '<b>.png', '<b>.png'),
    ],
  )
  def test_hostile_names(self, films, output, name, shown, cell):
    write(films / name, spot(64, 64, (8, 8, 40, 40)))
    explained = run(films, output, top_findings=1)
    assert rows(output / 'predictions.csv')[0]['image'] == cell
    assert rows(output / 'boxes.csv')[0]['image'] == cell
    assert explained.cases[0]['name'] == shown
    with open(output / 'coco_films.json', encoding='utf-8') as f:
      assert json.load(f)['images'][0]['file_name'] == shown
    (overlay,) = os.listdir(output / 'overlays')
    assert overlay.isascii() and overlay == os.path.basename(overlay)

  def test_warnings_are_in_the_table_and_on_the_page(self, films, output):
    write(films / 'film.png', np.full((8, 40), 99))
    explained = run(films, output)
    (row,) = rows(output / 'predictions.csv')
    assert 'almost no contrast' in row['warnings']
    assert 'small: 8 x 40' in row['warnings']
    assert len(explained.cases[0]['warnings']) == 3

  def test_page_has_the_first_films_only(self, films, output):
    for name in 'abcde':
      write(films / f'{name}.png', np.full((SIZE, SIZE), 9))
    explained = run(films, output, page_films=2)
    assert [c['name'] for c in explained.cases] == ['a.png', 'b.png']
    assert len(os.listdir(output / 'overlays')) == 5
    left_out = explain._left_out(explained, {'hidden': 3, 'other': 0})
    assert left_out[0].startswith('The page has the first 2 of 5')
    assert left_out[1].startswith('3 hidden')

  def test_reading_stays_a_bounded_way_ahead(self):
    begun = []
    films = explain._read_ahead(
      [str(i) for i in range(100)],
      lambda path: begun.append(path) or path,
      ahead=5,
      workers=2,
    )
    for i in range(10):
      assert next(films) == (str(i), str(i))
      assert len(begun) <= i + 6
    films.close()

  def test_more_findings_wanted_than_there_are(self, films, output):
    write(films / 'film.png', np.full((SIZE, SIZE), 9))
    explained = run(films, output, top_findings=14)
    assert len(explained.cases[0]['findings']) == 3


def tiny_config() -> ConfigDict:
  config = default.get_config('smoke')
  config.data.image_size = 32
  config.explain.batch_size = 2
  return config


class Tiny(nn.Module):
  """One convolution, pooled, one linear layer: what a CAM needs."""

  @nn.compact
  def __call__(self, image, train=False, start='image'):
    features = nn.relu(nn.Conv(4, (4, 4), strides=4)(image))
    logits = nn.Dense(14, name='fc')(features.mean(axis=(1, 2)))
    return logits, {'features': features}

  def head(self, params):
    return params['fc']['kernel'], params['fc']['bias']

  def cells(self, endpoint):
    return 4, 1.5


@pytest.fixture(scope='module')
def untrained():
  net = Tiny()
  variables = jax.jit(net.init)(
    jax.random.key(0), np.zeros((1, 32, 32, 1), np.float32)
  )
  return net, variables


@pytest.fixture
def model(monkeypatch, untrained):
  """A model that was never trained, in place of a checkpoint's."""
  monkeypatch.setattr(
    inference,
    'load_model',
    lambda workdir, config, forms: (config, *untrained, 7),
  )
  return tiny_config(), *untrained


def known_interpreter(config, *_):
  """Of all findings, with functions of known answers."""
  return interpreter(
    predict=lambda image: np.tile(predict(image)[:, :1], (1, 14)),
    maps=lambda image, finding: {
      method: image * np.ones((1, 1, 1, finding.shape[1]), np.float32)
      for method in config.explain.methods
    },
    methods=config.explain.methods,
    findings=findings.FINDINGS,
    size=config.data.image_size,
    batch_size=config.explain.batch_size,
  )


@pytest.fixture
def no_model(monkeypatch):
  """Functions of known answers in place of a checkpoint's."""
  monkeypatch.setattr(
    inference,
    'load_model',
    lambda workdir, config, forms: (config, None, None, 7),
  )
  monkeypatch.setattr(interpret, 'from_run', known_interpreter)
  return tiny_config()


class TestExplain:
  def test_folder_to_page(self, films, tmp_path, model):
    config, net, variables = model
    generator = np.random.default_rng(0)
    for name in ('a', 'b', '<img src=x onerror=alert(1)>'):
      write(films / f'{name}.png', generator.integers(0, 255, (40, 32)))
    (films / 'broken.png').write_bytes(b'')
    page = explain.explain(config, str(tmp_path / 'run'), str(films))
    output = os.path.dirname(page)
    assert sorted(os.listdir(output)) == [
      'boxes.csv',
      'coco_cam.json',
      'coco_films.json',
      'coco_gradient.json',
      'explain.html',
      'overlays',
      'predictions.csv',
    ]
    with open(page, encoding='utf-8') as f:
      text = f.read()
    assert '<img src=x' not in text and 'broken.png' in text
    table = {
      row['image']: row for row in rows(os.path.join(output, 'predictions.csv'))
    }
    film = radiograph.read(str(films / 'b.png'), size=32)
    logits, _ = net.apply(variables, film.image[None])
    np.testing.assert_allclose(
      [
        float(v)
        for k, v in table['b.png'].items()
        if k.startswith('probability_')
      ],
      jax.nn.sigmoid(logits[0]),
      atol=2e-6,
    )

  def test_results_among_the_films_are_not_films(self, films, no_model):
    write(films / 'a.png', spot(32, 32, (8, 8, 20, 20)))
    for _ in range(2):
      explain.explain(
        no_model, str(films / 'run'), str(films), str(films / 'out')
      )
      assert len(rows(films / 'out' / 'predictions.csv')) == 1

  def test_one_film(self, films, tmp_path, no_model):
    write(films / 'a.png', spot(32, 32, (8, 8, 20, 20)))
    write(films / 'b.png', spot(32, 32, (8, 8, 20, 20)))
    output = str(tmp_path / 'out')
    explain.explain(no_model, str(tmp_path), str(films / 'a.png'), output)
    (row,) = rows(os.path.join(output, 'predictions.csv'))
    assert row['image'] == 'a.png'

  def test_no_film_can_be_read(self, films, tmp_path, no_model):
    (films / 'a.png').write_bytes(b'')
    output = str(tmp_path / 'out')
    with pytest.raises(ValueError, match='None of the 1 file.*PNG, JPEG'):
      explain.explain(no_model, str(tmp_path), str(films), output)
    assert len(rows(os.path.join(output, 'predictions.csv'))) == 1

  def test_nothing_there(self, films, tmp_path, no_model):
    with pytest.raises(FileNotFoundError, match='no file or folder'):
      explain.explain(no_model, str(tmp_path), str(films / 'x'))

  def test_default_output_tells_folders_of_one_name_apart(self, tmp_path):
    (tmp_path / 'a' / 'films').mkdir(parents=True)
    (tmp_path / 'b' / 'films').mkdir(parents=True)
    name = lambda path: explain._default_output('runs/x', str(tmp_path / path))
    assert name('a/films') == name('a/films/') != name('b/films')
    assert name('a/films').startswith('runs/x/explain/films-')

  def test_maps_are_those_of_the_findings_asked_for(self, model):
    _, net, variables = model
    image = np.random.default_rng(0).random((2, 32, 32, 1), np.float32)
    maps_fn = interpret.make_maps(net, variables, {'cam': {}}, smooth=0.02)
    every = maps_fn(image, np.tile(np.arange(14), (2, 1)))['cam']
    some = maps_fn(image, np.array([[3, 1], [0, 13]]))['cam']
    np.testing.assert_array_equal(some[0], every[0][..., [3, 1]])
    np.testing.assert_array_equal(some[1], every[1][..., [0, 13]])

  def test_saliency_maps_are_magnitudes(self, model):
    _, net, variables = model
    image = np.random.default_rng(0).random((1, 32, 32, 1), np.float32)
    maps_fn = interpret.make_maps(net, variables, {'gradient': {}}, smooth=0.02)
    assert (np.asarray(maps_fn(image, np.array([[0]]))['gradient']) >= 0).all()

  def test_occlusion_keeps_its_sign(self, monkeypatch):
    # It is evidence for and against, as where it is scored.
    made = lambda model, method: lambda variables, keys, image: -image
    monkeypatch.setattr(by_name, 'make_host_attribution', made)
    maps_fn = interpret.make_maps(None, None, {'occlusion': {}}, smooth=0.02)
    image = np.ones((1, 8, 8, 1), np.float32)
    assert (
      np.asarray(maps_fn(image, np.array([[0]]))['occlusion']) == -1
    ).all()


def test_page_takes_the_cases_as_they_are(films, output):
  write(films / 'film.png', spot(64, 64, (8, 8, 40, 40)))
  explained = run(films, output)
  page = pages.write_explain(str(output / 'explain.html'), explained.cases)
  with open(page, encoding='utf-8') as f:
    assert 'film.png' in f.read()


def test_real_films(nih_dir, tmp_path, no_model):
  no_model.explain.page_films = 4
  folder = tmp_path / 'films'
  folder.mkdir()
  paths, _ = radiograph.find(os.path.join(nih_dir, 'originals'))
  for path in paths[::16]:
    os.symlink(path, folder / os.path.basename(path))
  page = explain.explain(no_model, str(tmp_path / 'run'), str(folder))
  table = rows(os.path.join(os.path.dirname(page), 'predictions.csv'))
  assert len(table) == 4 and not any(row['error'] for row in table)
  for row in rows(os.path.join(os.path.dirname(page), 'boxes.csv')):
    assert 0 <= float(row['ymin']) < float(row['ymax']) <= 1024
