"""--mode=score: maps from elsewhere on a small folder of films with boxes."""

import csv
import json
import pathlib
import shutil
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from configs import baseline
from cxr import data, modes, stored_rows
from cxr.foreign import map_files, matched_maps, prediction_table, score
from cxr.foreign.map_places import Place
from cxr.scored_maps import map_rows
from input_pipeline import workers

SIZE, SIDE, FILMS = 32, 8, 12
FINDINGS = 'Mass', 'Pulmonary edema'


def write_csv(path, rows):
  with open(path, 'w', newline='') as f:
    csv.writer(f).writerows(rows)


def square(i):
  """y and x of the box of film i, which has one finding: i % 2."""
  return 4 * (i % 5), 3 * (i % 7)


def draw(folder, scale=1):
  """Films of 12 patients, each with one box of one of two findings."""
  (folder / 'images').mkdir()
  rng = np.random.default_rng(0)
  rows, boxes = [['image', 'patient', *FINDINGS]], []
  for i in range(FILMS):
    name = f'images/{i:02d}.png'
    pixels = rng.integers(60, 200, (scale * SIZE,) * 2).astype(np.uint8)
    Image.fromarray(pixels).save(folder / name)
    rows.append([name, f'p{i}', 1 - i % 2, i % 2])
    y, x = square(i)
    corners = [scale * value for value in (x, y, SIDE, SIDE)]
    boxes.append([name, FINDINGS[i % 2], *corners])
  write_csv(folder / 'films.csv', rows)
  write_csv(
    folder / 'boxes.csv', [['image', 'finding', 'x', 'y', 'w', 'h'], *boxes]
  )
  return folder


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  return draw(tmp_path_factory.mktemp('films'))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
  monkeypatch.setattr(workers, 'cores', lambda: 1)


def right_maps():
  """A map for every film and finding: 1 in its box, -1 elsewhere; of a finding
  that the film has not, a slope."""
  image, finding, maps = [], [], []
  for i in range(FILMS):
    for k, name in enumerate(('mass', 'Edema')):  # by other names
      cells = -np.ones((SIZE, SIZE))
      y, x = square(i)
      if k == i % 2:
        cells[y : y + SIDE, x : x + SIDE] = 1
      else:
        cells = np.add.outer(np.arange(SIZE), np.arange(SIZE)) - 5.0
      image.append(f'{i:02d}')  # without folder and ending
      finding.append(name)
      maps.append(cells)
  return image, finding, maps


def save(path, image, finding, maps, **place):
  np.savez(
    path,
    image=np.array(image),
    finding=np.array(finding),
    map=np.array(maps),
    **place,
  )
  return path


def run(made, maps, output, *, place=Place(), overrides=(), **more):
  overrides = {
    'data.source': 'table',
    'data.dir': str(made),
    'data.prepared_dir': str(made / 'prepared'),
    'data.image_size': SIZE,
    'data.workers': 1,
    'evaluate.num_resamples': 20,
    'evaluate.rules': ('fixed', 'tuned'),
    **dict(overrides),
  }
  config = baseline.get_config()
  config.update_from_flattened_dict(overrides)
  modes.run(
    'score',
    modes.Request(
      config,
      overrides=overrides,
      maps=str(maps),
      output=str(output),
      place=place,
      **more,
    ),
  )
  return pathlib.Path(output)


def read_json(path):
  return json.loads(pathlib.Path(path).read_text())


def left_out(output):
  with open(output / 'left_out.csv', newline='') as f:
    return list(csv.DictReader(f))


@pytest.fixture(scope='module')
def scored(made, tmp_path_factory):
  folder = tmp_path_factory.mktemp('scored')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(workers, 'cores', lambda: 1)
    return run(made, save(folder / 'right.npz', *right_maps()), folder / 'out')


def test_right_maps_score_1_and_have_every_control(scored):
  metrics = read_json(scored / 'metrics.json')
  methods = metrics['localization']['methods']
  assert list(methods) == [
    'given_own_less_another', 'given', 'given_another_patient', 'random',
    'centre', 'mean_box', 'given_set_down',
  ]  # fmt: skip
  for rule in ('fixed', 'tuned'):
    mean = methods['given'][rule]['mean']
    for name in ('iou@0.7', 'pointing', 'energy', 'mask_iou', 'map_auroc'):
      assert mean[name]['value'] == pytest.approx(1)
      assert mean[name]['images'] == FILMS
  # Another film's map of the finding is a slope, whose peak is a corner.
  another = methods['given_another_patient']['fixed']['mean']
  assert another['pointing']['value'] == 0
  less = methods['given_own_less_another']['fixed']['mean']['pointing']
  assert less['value'] == 1
  assert metrics['localization']['count'] == dict.fromkeys(FINDINGS, 6)
  assert metrics['classification'] == {} and metrics['measures'] == {}
  assert left_out(scored) == []
  boxes = stored_rows.read_boxes(str(scored / 'boxes.csv'))
  assert len(boxes.where(method='given', rule='fixed').image) == 2 * FILMS


def test_the_page_says_whose_maps_these_are_and_knows_no_network(scored):
  page = (scored / 'report.html').read_text()
  assert 'These maps are from elsewhere: 24 maps of right.npz' in page
  assert 'maps of the same origin' in page
  for unknown in ('same network', 'trained', 'resnet', 'checkpoint'):
    assert unknown not in page, unknown
  assert not (scored / 'MODEL_CARD.md').exists()
  # The folder has the maps' scores and no weights, and is no run.
  assert not (scored / 'placed-maps.bin').exists()
  with pytest.raises(ValueError, match='holds the scores of maps'):
    modes.run('explain', modes.Request(workdir=str(scored), images='x.png'))


def test_report_makes_the_same_results_again(scored):
  before = (scored / 'metrics.json').read_bytes()
  modes.run('report', modes.Request(workdir=str(scored)))
  assert (scored / 'metrics.json').read_bytes() == before


def test_bad_maps_are_counted_and_named(made, tmp_path):
  folder = tmp_path / 'maps'
  image, finding, maps = right_maps()
  for row in zip(image, finding, maps, strict=True):
    (folder / row[0]).mkdir(parents=True, exist_ok=True)
    np.save(folder / row[0] / f'{row[1]}.npy', row[2])
  maps[0][:] = np.nan
  np.save(folder / '00' / 'mass.npy', maps[0])
  maps[3][0, 0] = np.inf
  np.save(folder / '01' / 'Edema.npy', maps[3])
  np.save(folder / '02' / 'mass.npy', np.ones((4, 4)))
  (folder / '04' / 'mass.npy').unlink()
  np.save(folder / '06' / 'mass.npy', np.zeros((2, 2, 2)))
  (folder / '08' / 'mass.npy').write_bytes(b'')
  np.save(folder / '10' / 'Mass.npy', np.zeros((2, 2)))
  np.save(folder / '10' / 'Unicorn.npy', np.zeros((2, 2)))
  (folder / 'nobody').mkdir()
  np.save(folder / 'nobody' / 'mass.npy', np.zeros((2, 2)))
  output = run(made, folder, tmp_path / 'out')
  found = {
    (row['image'], row['finding'], row['reason']) for row in left_out(output)
  }
  missing = matched_maps.MISSING
  assert found == {
    ('00', 'mass', matched_maps.NOT_FINITE),
    ('00', 'mass', matched_maps.CONSTANT),
    ('01', 'Edema', matched_maps.NOT_FINITE),
    ('02', 'mass', matched_maps.CONSTANT),
    ('images/04.png', 'Mass', missing),
    ('06', 'mass', 'not of two axes, height and width'),
    ('images/06.png', 'Mass', missing),
    ('08', 'mass', 'a file that cannot be read'),
    ('images/08.png', 'Mass', missing),
    ('10', 'mass', 'a second map of a film and finding: the first is scored'),
    ('10', 'Mass', matched_maps.CONSTANT),
    ('10', 'Unicorn', 'a finding that is unknown'),
    ('nobody', 'mass', 'a film that is unknown'),
  }
  metrics = read_json(output / 'metrics.json')
  maps = metrics['evaluation']['maps']
  assert (maps['boxes'], maps['all_boxes'], maps['missing']) == (9, 12, 3)
  assert maps['left_out'][missing] == 3
  methods = metrics['localization']['methods']
  # Of the six true boxes of Mass three have a map; one of these is right: 00 is
  # not finite, 02 constant, and of 10 the first map is all 0.
  of_mass = methods['given']['fixed']['Mass']
  assert of_mass['iou@0.5']['value'] == 0
  assert of_mass['iou@0.5']['images'] == 3
  assert methods['given']['fixed']['Pulmonary edema']['iou@0.5']['value'] == 1
  # A film whose map is missing is not one without a false box.
  assert of_mass['afp_iou@0.5']['value'] is None
  assert methods['random']['fixed']['Mass']['iou@0.5']['images'] == 3
  page = (output / 'report.html').read_text()
  assert '3 true boxes have no map' in page
  assert 'a second map of a film and finding' in page


def test_maps_of_nothing_are_refused_with_what_was_found(made, tmp_path):
  path = save(
    tmp_path / 'a.npz', ['x', '01'], ['Mass', 'X'], np.zeros((2, 2, 2))
  )
  with pytest.raises(
    ValueError, match=r'1 x a film that is unknown \(x Mass\)'
  ):
    run(made, path, tmp_path / 'out')
  with pytest.raises(ValueError, match='needs --output'):
    run(made, path, '')
  with pytest.raises(ValueError, match='needs --maps'):
    run(made, '', tmp_path / 'out')
  with pytest.raises(ValueError, match='stands for no control'):
    run(made, path, tmp_path / 'out', place=Place(method='random'))
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / 'thesis.tex').touch()
  with pytest.raises(ValueError, match='holds other files'):
    run(made, path, tmp_path / 'mine')


def test_an_output_of_other_maps_is_refused(scored, made, tmp_path):
  path = save(tmp_path / 'other.npz', *right_maps())
  with pytest.raises(ValueError, match=r'holds the scores of .*right\.npz'):
    run(made, path, scored)


def test_scored_maps_stand_beside_each_other(scored, made, tmp_path):
  """The second lack a film's maps: all are compared on what both have."""
  image, finding, maps = (column[4:] for column in right_maps())
  second = [cells[::-1] for cells in maps]
  path = save(tmp_path / 'second.npz', image, finding, second)
  other = run(made, path, tmp_path / 'second')
  workdirs = (str(scored), str(other))
  output = str(tmp_path / 'compared')
  modes.run('compare', modes.Request(workdirs=workdirs, output=output))
  comparison = read_json(tmp_path / 'compared' / 'comparison.json')
  runs = comparison['localization']['given']['fixed']['pointing']['mean']
  first, flipped = runs['runs']
  assert first['value'] == 1 and first['images'] == FILMS - 2
  expected = np.mean([2 * square(i)[0] + SIDE == SIZE for i in range(2, FILMS)])
  assert flipped['value'] == pytest.approx(expected, abs=0.2)
  assert runs['difference']['value'] == flipped['value'] - 1
  warnings = ' '.join(comparison['warnings'])
  assert 'Not every run has a map' in warnings
  assert 'out and second are maps from elsewhere' in warnings
  output = str(tmp_path / 'study')
  modes.run('study', modes.Request(workdirs=workdirs, output=output))
  groups = read_json(tmp_path / 'study' / 'study.json')['groups']
  assert [group['name'] for group in groups] == ['right', 'second']
  with pytest.raises(ValueError, match='weights or maps'):
    modes.run(
      'compare',
      modes.Request(workdirs=(str(scored), str(_copy(scored, tmp_path)))),
    )


def _copy(scored, tmp_path):

  return shutil.copytree(scored, tmp_path / 'copy')


@pytest.mark.parametrize('kind', ['logits', 'probabilities'])
def test_predictions_give_the_classification(made, tmp_path, kind):
  """Of film 3 the prediction is missing, and one finding has no column."""
  rows = [['Image Index', 'mass', 'Unicorn']]
  for i in range(FILMS):
    if i != 3:
      value = (1 - i % 2) * 0.25 + (i == 5) * 0.5 + 0.25
      rows.append([f'{i:02d}.png', value if kind != 'logits' else 8 * value, 1])
  write_csv(tmp_path / 'predictions.csv', [*rows, ['nobody', 0.5, 1]])
  path = save(tmp_path / 'maps.npz', *right_maps())
  output = run(
    made, path, tmp_path / 'out', predictions=str(tmp_path / 'predictions.csv')
  )
  metrics = read_json(output / 'metrics.json')
  auroc = metrics['classification']['test']['auroc']
  # Six positive films at .5, four of five negative ones at .25, one at .75.
  assert auroc['Mass']['value'] == pytest.approx(4 / 5)
  assert auroc['Mass']['images'] == FILMS - 1
  assert auroc.keys() == {'mean', 'Mass'}
  assert metrics['evaluation']['maps']['predictions'] == kind
  reasons = {row['reason'] for row in left_out(output)}
  assert reasons == {
    'a column of predictions that is no finding',
    'a prediction of a film that is unknown',
    'a test film without a prediction',
  }
  assert (
    f'Predictions were given as {kind}' in (output / 'report.html').read_text()
  )


def test_predictions_are_read_as_they_are_meant(tmp_path):
  path = tmp_path / 'p.csv'
  row_of = lambda name: int(name) if name.isdigit() else 'a film that is odd'
  read = lambda **more: prediction_table.read(
    str(path), row_of, 3, ('Mass', 'Edema'), {}, **more
  )
  path.write_text('image;Edema\n0;0,5\n1;1\n1;0\n2;nan\nodd;1\n')
  found = read()
  assert (found.findings, found.kind) == (('Edema',), 'probabilities')
  assert found.logit[:2, 0].tolist() == [0, 1000] and np.isnan(
    found.logit[2, 0]
  )
  assert [row[0] for row in found.left_out] == ['1', '2', 'odd']
  assert read(kind='logits').logit[1, 0] == 1
  path.write_text('image,Edema\n0,-3\n')
  assert read().kind == 'logits'
  with pytest.raises(ValueError, match='which are no probabilities'):
    read(kind='probabilities')
  path.write_text('image,Unicorn\n0,1\n')
  with pytest.raises(ValueError, match='a column for none of the findings'):
    read()
  path.write_text('image,Edema,edema\n0,1,1\n')
  with pytest.raises(ValueError, match='mean the same finding'):
    read()


def test_a_long_folder_streams_in_bounded_memory(made, tmp_path):
  """300 maps of 256 pixels are 79 MB; a few of them are held at a time."""
  size, count = 256, 300
  label = np.zeros((count, 1), np.float32)
  label[::2] = 1
  boxed = np.arange(0, count, 2)
  config = baseline.get_config()
  config.update_from_flattened_dict(
    {'data.source': 'table', 'data.dir': str(made),
     'data.prepared_dir': str(made / 'prepared'), 'data.image_size': SIZE,
     'data.workers': 1, 'data.test_fraction': 1.0}
  )  # fmt: skip
  split = data.load(config, ('test',))['test']._replace(
    image=np.zeros((count, 1, 1, 1), np.uint8),
    label=label,
    image_name=np.array([f'{i}' for i in range(count)]),
    patient=np.arange(count),
    frame=np.zeros((0, 5), np.int64),
    findings=('Mass',),
    boxed=('Mass',),
    box=np.tile([0.25, 0.25, 0.5, 0.5], (len(boxed), 1)),
    box_image=boxed,
    box_finding=np.zeros(len(boxed), np.int64),
  )
  rng = np.random.default_rng(0)
  cells = rng.normal(size=(size, size)).astype(np.float32)
  for i in range(count):
    (tmp_path / 'maps' / f'{i}').mkdir(parents=True)
    np.save(tmp_path / 'maps' / f'{i}' / 'Mass.npy', cells + i)
  source = map_files.open_source(str(tmp_path / 'maps'))
  tracemalloc.start()
  with open(tmp_path / 'store', 'wb') as store:
    matched = matched_maps.match(source, split, int, {}, size=size, store=store)
    films = np.arange(20)
    map_rows.score(
      matched.maps(films, 0),
      score.map_controls.of_finding(matched.films, 0).take(films),
      'given',
      ('percentile',),
    )
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 30e6
  index = int(matched.index[2, 0])  # of film 4, the third with a true box
  np.testing.assert_array_equal(matched.stored.read(index), cells + 4)
  # Every film has a true box or lends its map: of those without, 64.
  assert len(matched.films.row) == 150 and len(matched.beside.row) == 64
  assert matched_maps.counts(matched.left_out) == {matched_maps.NOT_NEEDED: 86}
