"""From a split to scores, on a model whose maps are its films."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs import default
from cxr import data, inference, sharding, stored_rows
from cxr.estimates import box_estimates
from cxr.evaluation import localize
from cxr.evaluation.parts import Parts
from cxr.localization import controls, overlap
from cxr.scored_maps import map_controls, map_rows
from input_pipeline import pipeline, workers
from input_pipeline.findings import BOXED, FINDINGS

SIZE = 16
MASS, NODULE = BOXED.index('Mass'), BOXED.index('Nodule')
# Squares of four pixels; an area is named by its upper left corner.
SIDE = 4


class Bright(nn.Module):
  """Every logit is the sum of the pixels: film times gradient is the film."""

  def __call__(self, image, train=False, start='image'):
    total = image.sum((1, 2, 3))[:, None]
    logits = jnp.broadcast_to(total, (len(image), len(FINDINGS)))
    return logits, {'features': image}

  def cells(self, endpoint):
    return 1, 0

  def head(self, params):
    raise NotImplementedError('the pooled film has no weights')


def box(y, x):
  return np.array([y, x, y + SIDE, x + SIDE]) / SIZE


# Of each film: its patient, its bright squares, its true boxes, what is known
# of Mass.
FILMS = (
  # One of two true boxes is found, one predicted box is wrong.
  (0, [(0, 0), (8, 0)], [(MASS, (0, 0)), (MASS, (12, 12))], 1),
  # The one donor of film 0.
  (1, [(0, 8)], [(NODULE, (0, 8))], 0),
  # Of the patient of film 0; its Nodule has no donor: film 0 is his own.
  (0, [(12, 12)], [(NODULE, (12, 12))], 0),
  # Nobody knows whether it has a Mass.
  (2, [(12, 12)], [(NODULE, (0, 0))], np.nan),
)


def make_split():
  image = np.zeros((len(FILMS), SIZE, SIZE, 1), np.uint8)
  label = np.zeros((len(FILMS), len(FINDINGS)), np.float32)
  boxes = []
  for i, (_, squares, truth, mass) in enumerate(FILMS):
    for y, x in squares:
      image[i, y : y + SIDE, x : x + SIDE] = 200
    boxes += [(i, finding, box(*corner)) for finding, corner in truth]
    label[i, [finding for finding, _ in truth]] = 1
    label[i, MASS] = mass
  film, finding, corners = zip(*boxes, strict=True)
  return pipeline.Split(
    name='test',
    image=image,
    label=label,
    image_name=np.array([f'f{i}.png' for i in range(len(FILMS))]),
    patient=np.array([patient for patient, *_ in FILMS]),
    view=np.full(len(FILMS), 'PA'),
    age=np.full(len(FILMS), 50.0),
    sex=np.full(len(FILMS), 'F'),
    box=np.array(corners),
    box_image=np.array(film),
    box_finding=np.array(finding),
    findings=FINDINGS,
    boxed=BOXED,
  )


METHOD = 'gradient_x_input'


def subject():
  config = default.get_config('smoke')
  config.data.image_size = SIZE
  config.evaluate.batch_size = 4
  config.evaluate.methods = (METHOD,)
  config.evaluate.smooth = 0.0
  config.evaluate.rules = ('fixed',)
  return inference.Subject(
    config, Bright(), {}, sharding.make_mesh(1), {'test': make_split()}
  )


@pytest.fixture(scope='module')
def rows(tmp_path_factory):
  """The rows of boxes.csv of these films, written and read again."""
  folder = tmp_path_factory.mktemp('run')
  found, *_ = localize.localize(subject(), Parts(str(folder), subject()))
  again, *_ = localize.localize(subject(), Parts(str(folder), subject()))
  path = str(folder / 'boxes.csv')
  stored_rows.write_boxes(path, found)
  read = stored_rows.read_boxes(path)
  for other in (again, read, stored_rows._parse_boxes(path)):
    for a, b in zip(found, other, strict=True):
      np.testing.assert_array_equal(a, b)
  return found


@pytest.fixture(scope='module')
def estimates(rows):
  return box_estimates.estimates(rows, num_resamples=20)


def test_a_film_has_all_its_true_boxes():
  films = data.boxed_films(make_split())
  assert films.truth.shape == (4, len(BOXED), 2, 4)
  np.testing.assert_array_equal(films.truth[0, MASS], [box(0, 0), box(12, 12)])
  assert films.boxed.sum() == 4
  np.testing.assert_array_equal(films.label[:, MASS], [1, 0, 0, np.nan])


def test_several_true_boxes_are_counted_each_once(rows, estimates):
  assert estimates['count'] == dict.fromkeys(BOXED, 0) | {
    'Mass': 2,
    'Nodule': 3,
  }
  mass = rows.where(method=METHOD, finding='Mass', image='f0.png')
  np.testing.assert_array_equal(mass.truth, [box(0, 0), box(12, 12)])
  own = estimates['methods'][METHOD]['fixed']['Mass']
  assert own['iou@0.5']['value'] == 1 / 2
  assert own['iou@0.5']['images'] == 1
  # f0 has one wrong box, the three films without a Mass one each; 5 true boxes.
  assert own['afp_iou@0.5']['value'] == pytest.approx(4 / 5)
  # Half of the brightest pixels, half of the energy lie in the union.
  assert own['pointing']['value'] == own['energy']['value'] == 0.5
  assert own['mean_iou']['value'] == 0.5
  nodule = estimates['methods'][METHOD]['fixed']['Nodule']
  assert nodule['iou@0.5']['value'] == pytest.approx(2 / 3)
  # f0 has two boxes and no Nodule, f3 one box elsewhere.
  assert nodule['afp_iou@0.5']['value'] == pytest.approx(3 / 5)


def test_another_patient_s_map_is_held_against_the_same_true_boxes(
  rows, estimates
):
  name = f'{METHOD}_another_patient'
  mass = rows.where(method=name, finding='Mass', image='f0.png')
  # Film 1 is the only donor: one draw, a row for each true box.
  assert mass.draw.tolist() == [0, 0]
  np.testing.assert_array_equal(mass.box, [box(0, 8), box(0, 8)])
  assert mass.patient.tolist() == [0, 0]
  # Without a true box one draw is enough.
  effusion = rows.where(method=name, finding='Effusion')
  assert effusion.draw.tolist() == [0, 0, 0, 0]
  another = estimates['methods'][name]['fixed']
  assert another['Mass']['iou@0.5']['value'] == 0
  assert another['Mass']['pointing']['value'] == 0
  # f0's squares, on f1's and f3's Nodule: the second is one of them.
  assert another['Nodule']['iou@0.5']['value'] == 1 / 2
  assert another['Nodule']['pointing']['value'] == 1 / 4
  assert estimates['without_another'] == {'Nodule': ['f2.png']}


def test_own_less_another_patient_s_is_paired_by_true_box(estimates):
  assert next(iter(estimates['methods'])) == f'{METHOD}_own_less_another'
  less = estimates['methods'][f'{METHOD}_own_less_another']['fixed']
  assert less['Mass']['iou@0.5']['value'] == 1 / 2
  assert less['Mass']['pointing']['value'] == 1 / 2
  assert less['Mass']['energy']['value'] == 1 / 2
  # One wrong box a film on either side.
  assert less['Mass']['afp_iou@0.5']['value'] == 0
  # f1: 1 - 0, f3: 0 - 1; f2 has no other film and counts on neither side.
  assert less['Nodule']['iou@0.5']['value'] == 0
  assert less['Nodule']['iou@0.5']['images'] == 2
  assert less['mean']['iou@0.5']['value'] == 1 / 4
  low, high = less['mean']['iou@0.5']['low'], less['mean']['iou@0.5']['high']
  assert low <= 1 / 4 <= high
  # No film without a Nodule is another patient's of f0.
  assert less['Nodule']['afp_iou@0.5']['value'] is None


def test_draws_of_a_true_box_count_as_one():
  rng = np.random.default_rng(0)
  image = np.array([f'{i}.png' for i in range(6)])
  without = np.arange(6) > 0
  films = data.BoxedFilms(
    BOXED,
    np.arange(6),
    image,
    np.arange(6),
    np.where(without[:, None], 0.0, np.ones((6, len(BOXED)))),
    np.full((6, len(BOXED), 1, 4), np.nan),
    np.zeros((6, 5), int),
  )
  films.truth[0, 0] = box(0, 0)
  films.truth[1, 1] = films.truth[2, 1] = box(0, 0)
  nobody = data.BoxedFilms(BOXED, *(column[:0] for column in films[1:7]))
  donors = map_controls.draw_donors(films, 0, 0, nobody)
  assert (donors[0] > 0).all() and len(set(donors[0])) == map_controls.NUM_DRAWS
  assert (donors[1:, 0] > 0).all() and (donors[1:, 1:] == -1).all()
  maps = np.zeros((6, SIZE, SIZE))
  maps[donors[0, 0], :SIDE, :SIDE] = 1  # one of three draws hits
  maps += 1e-3 * rng.random(maps.shape)
  of_finding = map_controls.of_finding(films, 0)
  another = map_rows.score_donors(
    maps, of_finding, 'cam_another_patient', ('fixed',), donors
  )
  assert another.where(image='0.png').draw.tolist() == [0, 1, 2]
  own = map_rows.score(maps, of_finding, 'cam', ('fixed',))
  result = box_estimates.estimates(
    stored_rows.concatenate_boxes([own, another]), num_resamples=20
  )
  of = lambda method: result['methods'][method]['fixed']['Atelectasis']
  assert of('cam_another_patient')['iou@0.5']['value'] == pytest.approx(1 / 3)
  assert of('cam_another_patient')['iou@0.5']['images'] == 1
  assert of('cam_own_less_another')['iou@0.5']['value'] == pytest.approx(-1 / 3)
  # Wrong boxes of the three draws are averaged, those of other films added.
  hit = donors[0, 0]
  wrong = np.array([own.where(image=f'{i}.png').count[0] for i in range(6)])
  missed = wrong[donors[0, 1:]].sum() / 3 + (wrong[hit] - 1) / 3
  assert of('cam_another_patient')['afp_iou@0.5']['value'] == pytest.approx(
    missed + wrong[donors[1:, 0]].sum()
  )


def test_boxes_are_set_down_whole(rows, estimates):
  own = rows.where(method=METHOD)
  moved = rows.where(method=f'{METHOD}_set_down')
  np.testing.assert_array_equal(moved.count, own.count)
  np.testing.assert_allclose(
    moved.box[:, 2:] - moved.box[:, :2], own.box[:, 2:] - own.box[:, :2]
  )
  assert (moved.box != own.box).any(axis=1).all()
  # Rows of one film and finding stand for one map.
  first, second = moved.where(finding='Mass', image='f0.png').boxes_of_rows()
  np.testing.assert_array_equal(first, second)
  seed = controls.film_seed('f1.png', MASS, 0)
  np.testing.assert_array_equal(
    moved.where(finding='Mass', image='f1.png').box,
    controls.set_down(seed, own.where(finding='Mass', image='f1.png').box),
  )
  scores = estimates['methods'][f'{METHOD}_set_down']['fixed']['Mass']
  assert 0 <= scores['iou@0.5']['value'] <= 1
  # There is no map that could point or have energy anywhere.
  assert scores['pointing']['value'] is None
  assert 'set down have none' in scores['pointing']['why']


def test_processes_score_as_one_does(rows, tmp_path, monkeypatch):
  monkeypatch.setattr(map_rows, 'MAPS_A_START', 1)
  monkeypatch.setattr(workers, 'cores', lambda: 2)
  started = []
  pool = workers.pool
  monkeypatch.setattr(workers, 'pool', lambda n: started.append(n) or pool(n))
  found, *_ = localize.localize(subject(), Parts(str(tmp_path), subject()))
  assert started == [2]
  for a, b in zip(found, rows, strict=True):
    np.testing.assert_array_equal(a, b)


def one_finding():
  """Boxes of Mass alone, on films of two patients; others without it."""
  split = make_split()
  mass = split.box_finding == MASS
  label = np.zeros((4, 1), np.float32)
  label[0], label[3] = 1, np.nan
  return split._replace(
    label=label,
    box=split.box[mass],
    box_image=split.box_image[mass],
    box_finding=np.zeros(mass.sum(), int),
    findings=('Mass',),
    boxed=('Mass',),
  )


class OneLogit(Bright):
  def __call__(self, image, train=False, start='image'):
    return image.sum((1, 2, 3))[:, None], {'features': image}


def test_of_one_boxed_finding_films_without_a_box_are_the_other_patients(
  tmp_path,
):
  """f1 is another patient's without a Mass; f2 is the same patient's, and of f3
  nobody knows."""
  split = one_finding()
  films = data.boxed_films(split)
  assert films.name.tolist() == ['f0.png']
  beside = map_controls.unboxed_donors(split, films)
  assert beside.name.tolist() == ['f1.png', 'f2.png']
  donors = map_controls.draw_donors(films, 0, 0, beside)
  assert donors.tolist() == [[1, -1, -1]]
  config = default.get_config('smoke')
  config.data.image_size = SIZE
  config.evaluate.batch_size = 4
  config.evaluate.methods = (METHOD,)
  config.evaluate.smooth = 0.0
  config.evaluate.rules = ('fixed',)
  subject = inference.Subject(
    config, OneLogit(), {}, sharding.make_mesh(1), {'test': split}
  )
  found, *_ = localize.localize(subject, Parts(str(tmp_path), subject))
  assert set(found.finding.tolist()) == {'Mass'}
  assert set(found.image.tolist()) == {'f0.png'}
  another = found.where(method=f'{METHOD}_another_patient')
  np.testing.assert_array_equal(another.box, [box(0, 8), box(0, 8)])
  result = box_estimates.estimates(found, num_resamples=20)
  less = result['methods'][f'{METHOD}_own_less_another']['fixed']
  assert less['mean']['iou@0.5']['value'] == 1 / 2
  assert 'without_another' not in result


def test_boxed_films_are_each_other_s_donors_where_they_can_be():
  split = make_split()
  films = data.boxed_films(split)
  beside = map_controls.unboxed_donors(split, films)
  assert not len(beside.row)


# Regions that were drawn pixel by pixel.


def by_mask():
  """The Mass of f0 and the Nodule of f1 as masks instead of boxes."""
  split = make_split()
  keep = split.box_image > 1
  mask = np.zeros((3, SIZE, SIZE), bool)
  mask[0, :SIDE, :2] = True  # half of the square that is bright
  mask[1, 12:, 12:] = mask[1, :2, :2] = True  # another place, and some of it
  mask[2, :SIDE, 8:12] = True
  return split._replace(
    box=split.box[keep],
    box_image=split.box_image[keep],
    box_finding=split.box_finding[keep],
    mask=mask,
    mask_image=np.array([0, 0, 1]),
    mask_finding=np.array([MASS, MASS, NODULE]),
  )


def test_a_film_has_its_mask_and_the_boxes_of_its_parts():
  split = by_mask()
  films = data.boxed_films(split)
  assert films.row.tolist() == [0, 1, 2, 3]
  assert sorted(films.masks) == [(0, MASS), (1, NODULE)]
  np.testing.assert_array_equal(
    films.true_region(0, MASS), split.mask[0] | split.mask[1]
  )
  corner = np.array([0, 0, 2, 2]) / SIZE
  left = np.array([0, 0, SIDE, 2]) / SIZE
  # In the order of masks, and in a mask from top to bottom.
  np.testing.assert_array_equal(
    films.truth[0, MASS], [left, corner, box(12, 12)]
  )
  np.testing.assert_array_equal(films.truth[1, NODULE, 0], box(0, 8))
  np.testing.assert_array_equal(films.true_region(3, NODULE)[0], box(0, 0))
  # Boxes that were drawn beside a mask are the true boxes.
  both = split._replace(
    box=np.array([box(4, 4)]),
    box_image=np.array([0]),
    box_finding=np.array([MASS]),
  )
  films = data.boxed_films(both)
  np.testing.assert_array_equal(films.truth[0, MASS, 0], box(4, 4))
  assert films.boxed.sum() == 2
  assert films.true_region(0, MASS).dtype == bool


def test_masks_are_the_truth_of_every_map(tmp_path):
  config = default.get_config('smoke')
  config.data.image_size = SIZE
  config.evaluate.batch_size = 4
  config.evaluate.methods = (METHOD,)
  config.evaluate.smooth = 0.0
  config.evaluate.rules = ('fixed', 'tuned')
  subject = inference.Subject(
    config, Bright(), {}, sharding.make_mesh(1), {'test': by_mask()}
  )
  found, *_ = localize.localize(subject, Parts(str(tmp_path), subject))
  truth = found.masked[overlap.has_box(found.truth)]
  assert truth.any() and not truth.all()
  result = box_estimates.estimates(found, num_resamples=20)
  assert result['masks'] == {'Mass': 1, 'Nodule': 1}
  own = result['methods'][METHOD]['fixed']
  # f0 has 32 bright pixels, 8 of them in a mask of 8 + 16.
  assert own['Mass']['energy']['value'] == pytest.approx(8 / 32)
  assert own['Mass']['pointing']['value'] == pytest.approx(8 / 32)
  assert own['Mass']['ior']['value'] == pytest.approx(8 / 32)
  assert own['Mass']['mask_iou']['value'] == pytest.approx(8 / 48)
  # The bright square overlaps the left half by half, the corner by a quarter.
  assert own['Mass']['iou@0.4']['value'] == pytest.approx(1 / 3)
  assert own['Mass']['mean_iou']['value'] == pytest.approx(0.75 / 3)
  # f1 is found in its mask, f2 in its box, f3 not.
  assert own['Nodule']['mask_iou']['value'] == pytest.approx(2 / 3)
  # Another patient's map is held against the same mask: f1's lies outside.
  another = result['methods'][f'{METHOD}_another_patient']['fixed']
  assert another['Mass']['energy']['value'] == 0
  # Of the films with another patient, f1's mask and f3's box: f0 and f1 or f2.
  assert another['Nodule']['energy']['value'] is not None


def test_masks_alone_have_figures(tmp_path):
  split = by_mask()._replace(
    box=np.zeros((0, 4)),
    box_image=np.zeros(0, int),
    box_finding=np.zeros(0, int),
  )
  films = data.boxed_films(split)
  assert films.name.tolist() == ['f0.png', 'f1.png']
  assert films.boxed[:, [MASS, NODULE]].tolist() == [[1, 0], [0, 1]]
