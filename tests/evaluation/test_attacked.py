"""Attacks aimed at every finding alone and at all findings at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs import default
from cxr import data, inference, losses, sharding
from cxr.attacks import batched
from cxr.estimates import ranking_estimates
from cxr.evaluation import attacked
from cxr.evaluation.parts import Parts
from cxr.stored_rows import Condition
from input_pipeline import pipeline

SIZE = 8
K = 3
N = 11
ALONE, JOINT = Condition('test', 'pgd-4-alone', 8.0), Condition('test', 'pgd-4')


TRACED = []  # the shapes that Network was compiled for


class Network(nn.Module):
  """Three logits of shared hidden units."""

  @nn.compact
  def __call__(self, image, train=False, start='image'):
    TRACED.append(image.shape)
    x = nn.tanh(nn.Dense(16)(image.reshape(len(image), -1) - 0.5))
    return 3 * nn.Dense(K)(x), {}


class Opposed(nn.Module):
  """The brightness of a film is for the first two findings and against the
  third."""

  def __call__(self, image, train=False, start='image'):
    level = image.mean((1, 2, 3)) - 0.5
    return jnp.stack([level, level, -level / 2], axis=-1), {}


def films(label, seed=0):
  n = len(label)
  rng = np.random.default_rng(seed)
  return pipeline.Split(
    name='test',
    image=rng.integers(20, 235, (n, SIZE, SIZE, 1), np.uint8),
    label=np.asarray(label, np.float32),
    image_name=np.array([f'{i}.png' for i in range(n)]),
    patient=np.arange(n) // 2,
    view=np.full(n, 'PA'),
    age=np.full(n, 50.0),
    sex=np.full(n, 'F'),
    box=np.zeros((0, 4)),
    box_image=np.zeros(0, np.int64),
    box_finding=np.zeros(0, np.int64),
  )


def make(model, label, *, num_devices=1, **settings):
  config = default.get_config('smoke')
  config.data.image_size = SIZE
  config.evaluate.update(
    {
      'batch_size': 4,
      'epsilons': (8.0,),
      'num_steps': 4,
      'finding_attack_films': 6,
    }
    | settings
  )
  mesh = sharding.make_mesh(num_devices)
  image = jnp.zeros((1, SIZE, SIZE, 1))
  variables = model.init(jax.random.key(0), image)
  return inference.Subject(
    config,
    model,
    sharding.replicate(mesh, variables),
    mesh,
    {'test': films(label)},
  )


def run(subject, folder):
  blocks, audits = attacked.attacked(subject, Parts(str(folder), subject))
  return {(c.attack, c.epsilon): b for c, b in blocks.items()}, audits


def random_labels():
  label = np.random.default_rng(1).integers(0, 2, (N, K)).astype(np.float32)
  label[:3] = [[0, 1, 0], [1, 0, 1], [np.nan, 1, 1]]
  return label


@pytest.mark.parametrize('restarts', [1, 2])
def test_a_finding_is_attacked_as_by_a_loss_of_its_logit_alone(
  tmp_path, restarts
):
  subject = make(Network(), random_labels(), restarts=restarts)
  name = 'pgd-4-alone' if restarts == 1 else 'pgd-4x2-alone'
  block = run(subject, tmp_path)[0][name, 8.0]
  options = batched.Options(8 / 255, num_steps=4, restarts=restarts)
  model, test = subject.model, subject.test
  keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))
  place = {image: i for i, image in enumerate(test.image_name)}
  for k in range(K):

    def loss_fn(logits, label, k=k):
      return losses.sigmoid_cross_entropy(logits[k : k + 1], label[k : k + 1])

    attack = batched.make_attack(
      lambda variables, image: model.apply(variables, image)[0],
      loss_fn,
      options,
    )
    row = np.flatnonzero(~np.isnan(block.label[:, k]))
    film = np.array([place[name] for name in block.image[row]])
    assert len(film) == 6
    adversarial = attack(
      subject.variables,
      keys(jnp.asarray(film)),
      data.to_unit(jnp.asarray(test.image[film])),
      test.label[film],
    )
    logits = model.apply(subject.variables, adversarial)[0][:, k]
    np.testing.assert_allclose(block.logit[row, k], logits, atol=1e-5)
    np.testing.assert_array_equal(block.label[row, k], test.label[film, k])


def test_each_finding_falls_further_alone_than_at_once(tmp_path):
  """Two findings outvote the third, of which the joint attack helps."""
  label = np.array([[0, 0, 0], [1, 1, 1]] * 4)
  found, audits = run(make(Opposed(), label, finding_attack_films=8), tmp_path)
  level = films(label).image.mean((1, 2, 3)) / 255 - 0.5
  clean = np.stack([level, level, -level / 2], axis=-1)
  wrong = (1 - 2 * label) * np.array([1, 1, 0.5]) * 8 / 255
  alone, joint = (found[name, 8.0].logit for name in ('pgd-4-alone', 'pgd-4'))
  np.testing.assert_allclose(alone, clean + wrong, atol=1e-6)
  np.testing.assert_allclose(joint, clean + wrong * [1, 1, -1], atol=1e-6)
  assert audits['pgd-4-alone 8']['audit']['max_perturbation'] <= 8 / 255 + 1e-7


def test_what_was_not_attacked_is_unknown(tmp_path):
  label = random_labels()
  label[:, 1] = 1  # no film without it
  found, _ = run(make(Network(), label), tmp_path)
  block = found['pgd-4-alone', 8.0]
  np.testing.assert_array_equal(np.isnan(block.label), np.isnan(block.logit))
  assert np.isnan(block.label[:, 1]).all()
  assert (~np.isnan(block.label)).sum(0).tolist() == [6, 0, 6]
  assert len(set(block.image)) == len(block.image) <= N
  # The joint attack has every film and label.
  assert len(found['pgd-4', 8.0].image) == N
  figures = ranking_estimates.estimates(
    block,
    findings=('a', 'b', 'c'),
    makers=ranking_estimates.rankings_of(ALONE),
    num_resamples=20,
  )
  assert set(figures) == {'auroc'}
  assert figures['auroc']['b']['value'] is None
  assert figures['auroc']['a']['images'] == 6


def test_all_aims_are_one_program(tmp_path):
  def traces(num_films):
    subject = make(Network(), random_labels(), finding_attack_films=num_films)
    jax.clear_caches()
    TRACED.clear()
    run(subject, tmp_path / str(num_films))
    return len(TRACED)

  joint = traces(0)
  assert traces(6) == joint > 0


def test_no_films_ask_for_no_attack_on_a_finding(tmp_path):
  found, audits = run(
    make(Network(), random_labels(), finding_attack_films=0), tmp_path
  )
  assert list(found) == [('pgd-4', 8.0)] and list(audits) == ['pgd-4 8']


def test_devices_and_batches_change_nothing(tmp_path):
  label = random_labels()
  one, _ = run(make(Network(), label), tmp_path / 'one')
  four, _ = run(
    make(Network(), label, num_devices=4, batch_size=8), tmp_path / 'four'
  )
  for key, block in one.items():
    np.testing.assert_allclose(block.logit, four[key].logit, atol=1e-5)


def test_the_worst_case_of_several_attacks_on_a_finding(tmp_path):
  found, audits = run(
    make(Network(), random_labels(), attacks=('pgd', 'fgsm')), tmp_path
  )
  several = [found[name, 8.0] for name in ('pgd-4-alone', 'fgsm-alone')]
  worst = found['worst_case-alone', 8.0]
  sign = 1 - 2 * worst.label
  expected = np.max([sign * block.logit for block in several], axis=0)
  np.testing.assert_array_equal(sign * worst.logit, expected)
  assert audits['worst_case-alone 8'] == {'norm': 'linf'}


def test_films_of_a_finding_are_of_both_kinds_and_spread():
  label = np.zeros((40, 5), np.float32)
  label[::2, 0] = 1  # 20 and 20
  label[[3, 30], 1] = 1  # 2 and 38
  label[:, 2] = 1  # no film without it
  label[:36, 3] = 1  # 36 and 4, and some unknown
  label[::3, 3] = np.nan
  label[:, 4] = np.nan
  film, finding = attacked.films_of_findings(label, 8)
  chosen = [film[finding == k] for k in range(5)]
  of_kinds = [
    np.bincount(label[f, k].astype(int)) for k, f in enumerate(chosen)
  ]
  assert of_kinds[0].tolist() == [4, 4]
  assert of_kinds[1].tolist() == [6, 2] and {3, 30} <= set(chosen[1])
  assert len(chosen[2]) == len(chosen[4]) == 0
  known = label[:, 3][~np.isnan(label[:, 3])]
  negatives = int((known == 0).sum())
  assert of_kinds[3].tolist() == [negatives, 8 - negatives]
  for f in chosen:
    assert len(set(f)) == len(f) and (np.diff(f) > 0).all()
  # A quarter of the films of each kind from each quarter of the split.
  quarters = chosen[0][label[chosen[0], 0] == 1] // 10
  assert quarters.tolist() == [0, 1, 2, 3]
  film, finding = attacked.films_of_findings(label, 1000)
  assert np.bincount(finding, minlength=5).tolist() == [
    40,
    40,
    0,
    len(known),
    0,
  ]
  film, _ = attacked.films_of_findings(label, 0)
  assert len(film) == 0


def test_auroc_of_films_chosen_by_label_is_that_of_all():
  """The mean over many drawn test splits; average precision is another."""
  rng = np.random.default_rng(0)
  aurocs, precisions = [], []
  makers = ranking_estimates.RANKINGS
  for _ in range(300):
    label = (rng.random((60, 1)) < 0.15).astype(np.float32)
    logit = (label + rng.normal(size=label.shape)).astype(np.float32)
    film, _ = attacked.films_of_findings(label, 12)
    values = [
      [
        make(logit[i], label[i], np.arange(len(i)), len(i))(
          np.ones((len(i), 1))
        )[0, 0]
        for make in makers.values()
      ]
      for i in (np.arange(60), film)
    ]
    aurocs.append(values[1][0] - values[0][0])
    precisions.append(values[1][1] - values[0][1])
  error = np.nanstd(aurocs) / np.sqrt(len(aurocs))
  assert abs(np.nanmean(aurocs)) < 3 * error < 0.03
  assert np.nanmean(precisions) > 0.1
