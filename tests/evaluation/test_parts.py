"""An evaluation computes what it has not stored, and nothing else."""

import os

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax import numpy as jnp

from configs import default
from cxr import files, heatmaps, inference, sharding
from cxr.evaluation import attack_flags, classify, film_measures, localize
from cxr.evaluation.parts import Parts, hash_weights
from cxr.measures import named_measures
from cxr.measures.measure_table import Measure
from cxr.scored_maps import map_controls
from input_pipeline import pipeline
from input_pipeline.findings import BOXED, FINDINGS

SIZE = 16


class Linear(nn.Module):
  @nn.compact
  def __call__(self, x, train=False, start='image'):
    logits = nn.Dense(len(FINDINGS), name='fc')(x.reshape(len(x), -1))
    return logits, {'features': x}


def split(name, content, n=4):
  rng = np.random.default_rng(n)
  label = rng.integers(0, 2, (n, len(FINDINGS))).astype(np.float32)
  label[:, :8] = np.eye(n, 8, -1)  # the boxed films are each other's donors
  return pipeline.Split(
    name=name,
    image=rng.integers(0, 255, (n, SIZE, SIZE, 1), np.uint8),
    label=label,
    image_name=np.array([f'{name}{i}.png' for i in range(n)]),
    patient=np.arange(n),
    view=np.full(n, 'PA'),
    age=np.full(n, 50.0),
    sex=np.full(n, 'F'),
    box=np.array([[0.1, 0.1, 0.5, 0.5]] * 2),
    box_image=np.array([1, 2]),
    box_finding=np.array([0, 1]),
    content=content,
    findings=FINDINGS,
    boxed=BOXED,
  )


def make_subject(seed=0, **settings):
  config = default.get_config('smoke')
  config.data.image_size = SIZE
  config.evaluate.update(
    {'methods': ('gradient',), 'measures': ('alignment', 'stability')}
    | settings
  )
  variables = Linear().init(jax.random.key(seed), jnp.zeros((1, SIZE, SIZE, 1)))
  mesh = sharding.make_mesh(1)
  return inference.Subject(
    config,
    Linear(),
    sharding.replicate(mesh, variables),
    mesh,
    {
      'validation': split('validation', 'v', 3),
      'test': split('test', 't'),
    },
  )


@pytest.fixture
def computed(monkeypatch, tmp_path):
  """(subject) -> names of the parts that its evaluation computes."""
  names = []

  def logits(subject, split='test', *, attack=None, index=None, label=None):
    name = 'attacked alone' if attack and np.isnan(label).any() else 'attacked'
    names.append(name if attack else split)
    count = len(subject.splits[split].label if index is None else index)
    return np.zeros((count, len(FINDINGS)), np.float32)

  def compute_maps(subject, maps_fn, rows):
    names.append(f'maps of {maps_fn}')
    return np.zeros((len(rows), SIZE, SIZE, 8), np.float32)

  def measure(subject, methods):
    names.extend(f'measure of {method}' for method in methods)
    films = subject.test
    return [
      Measure('a', films.image_name, films.patient, np.ones((4, 1)), method)
      for method in methods
    ]

  class Here:
    """Workers cost a second each; the same without a process."""

    def __enter__(self):
      return self

    def __exit__(self, *_):
      pass

    def submit(self, function, *arguments):
      _, films, name, *_ = arguments
      first = films.finding == BOXED[0]
      if first and (name in map_controls.CONTROLS or 'another' in name):
        names.append(f'boxes of {name}')
      done = function(*arguments)
      return type('Done', (), {'result': lambda self: done})()

  monkeypatch.setattr(inference, 'predict_split', logits)
  monkeypatch.setattr(heatmaps, 'compute_maps', compute_maps)
  monkeypatch.setattr(heatmaps, 'make_maps', lambda subject, method: method)
  monkeypatch.setattr(localize.workers, 'pool', lambda _: Here())
  for name in ('alignment', 'stability'):
    kind = named_measures.MEASURES[name]._replace(compute=measure)
    monkeypatch.setitem(named_measures.MEASURES, name, kind)
  monkeypatch.setattr(
    attack_flags, 'run', lambda subject: names.append('checks') or []
  )

  def evaluate(subject):
    names.clear()
    parts = Parts(str(tmp_path), subject)
    blocks, audits = classify.classify(subject, parts)
    boxes, *_ = localize.localize(subject, parts)
    rows = film_measures.measure(subject, parts)
    attack_flags.checked(subject, parts)
    evaluate.last = blocks, audits, boxes, rows
    return sorted(names)

  return evaluate


def of_method(name):
  return [
    f'boxes of {name}_another_patient',
    f'maps of {name}',
    f'maps of {name}',  # of shuffled weights
    f'measure of {name}',
  ]


ATTACKED = ['attacked', 'attacked alone']
CONTROLS = ['boxes of centre', 'boxes of mean_box', 'boxes of random']
EVERYTHING = sorted(
  [
    *ATTACKED, 'test', 'validation', 'measure of ', 'checks', *CONTROLS,
    *of_method('gradient'),
  ]
)  # fmt: skip


def test_nothing_is_computed_twice(computed):
  subject = make_subject(check_films=2)
  assert computed(subject) == EVERYTHING
  first = computed.last
  assert computed(subject) == []
  jax.tree.map(np.testing.assert_array_equal, first[0], computed.last[0])
  for a, b in zip(first[2], computed.last[2], strict=True):
    np.testing.assert_array_equal(a, b)
  assert first[1] == computed.last[1]
  assert [m.key for m in first[3]] == [m.key for m in computed.last[3]]


@pytest.mark.parametrize(
  ('settings', 'expected'),
  [
    ({'methods': ('gradient', 'smooth_grad')}, of_method('smooth_grad')),
    ({'attacks': ('pgd', 'fgsm')}, ATTACKED),
    ({'epsilons': (1.0, 0.5)}, ATTACKED),
    ({'epsilons': (3.0,)}, [*ATTACKED, 'checks']),  # the middle one
    ({'restarts': 2}, [*ATTACKED, 'checks']),
    ({'attack_films': 2}, ['attacked']),
    ({'finding_attack_films': 2}, ['attacked alone']),
    ({'smooth': 0.1}, of_method('gradient')[:3]),  # raw maps are measured
    ({'rules': ('otsu',)}, [*CONTROLS, *of_method('gradient')[:3]]),
    ({'sanity_films': 3}, ['measure of gradient']),
    ({'measure_films': 3}, ['measure of ']),
    ({'check_films': 3}, ['checks']),
    ({'batch_size': 2, 'chunk': 3, 'num_resamples': 70, 'queries': 7}, []),
    ({'measures': ()}, []),
  ],
)  # fmt: skip
def test_a_setting_makes_its_parts_anew(computed, settings, expected):
  computed(make_subject(check_films=2))
  changed = make_subject(**({'check_films': 2} | settings))
  assert computed(changed) == sorted(expected)
  # The parts of before are still there.
  assert computed(make_subject(check_films=2)) == []


def test_other_weights_make_all_anew_but_what_sees_none(computed):
  computed(make_subject(check_films=2))
  expected = [name for name in EVERYTHING if name not in CONTROLS]
  assert computed(make_subject(seed=1, check_films=2)) == expected


def test_other_films_make_their_own_parts_anew(computed):
  subject = make_subject(check_films=2)
  computed(subject)
  validation = split('validation', 'other', 3)
  other = subject._replace(splits=subject.splits | {'validation': validation})
  assert computed(other) == ['validation']
  test = split('test', 'other')
  other = subject._replace(splits=subject.splits | {'test': test})
  everything = list(EVERYTHING)
  everything.remove('validation')
  assert computed(other) == everything


def test_a_part_that_is_missing_is_made_alone(computed, tmp_path, caplog):
  subject = make_subject()
  computed(subject)
  parts = tmp_path / 'evaluation' / 'parts'
  (path,) = parts.glob('logits-pgd-2-1-*.npz')
  os.remove(path)
  assert computed(subject) == ['attacked']
  # So is one that is damaged, and said so.
  path.write_bytes(path.read_bytes()[:-20])
  (measured,) = parts.glob('measures-stability-gradient-*.csv')
  measured.write_text(measured.read_text()[:-7])
  (boxes,) = parts.glob('boxes-random-*.npz')
  boxes.write_bytes(b'')
  expected = ['attacked', 'boxes of random', 'measure of gradient']
  assert computed(subject) == expected
  assert sum('made anew' in m for m in caplog.messages) >= 3


def test_what_a_part_took_is_a_line_of_the_training_s_log(tmp_path):
  path = tmp_path / 'train.jsonl'
  path.write_text('{"step": 9, "train/loss": 0.5}\n')
  parts = Parts(str(tmp_path), make_subject(), step=7)
  assert parts.timed('checks')(lambda: 'computed')() == 'computed'
  _, record = files.read_json_lines(str(path))
  assert record.keys() >= {
    'step',
    'evaluate/checks/seconds',
    'evaluate/checks/host_gib',
  }
  assert record['step'] == 7 and record['evaluate/checks/seconds'] >= 0


def test_the_hash_of_weights_sees_values_names_shapes_and_types():
  tree = {'a': np.ones((2, 3), np.float32), 'b': np.zeros(2, np.float32)}
  others = [
    tree | {'a': tree['a'].reshape(3, 2)},
    tree | {'a': np.ones((2, 3), np.float64)},
    tree | {'b': np.array([0, 1e-8], np.float32)},
    {'a': tree['a'], 'c': tree['b']},
  ]
  hashes = {hash_weights(t) for t in [tree, *others]}
  assert len(hashes) == 5
  assert hash_weights(jax.tree.map(jnp.asarray, tree)) == hash_weights(tree)
