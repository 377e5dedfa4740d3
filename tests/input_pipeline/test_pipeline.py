"""Order, shares, padding and what a prepared set says of itself."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from input_pipeline import pipeline, renditions
from tests.input_pipeline import made_folder as made


@pytest.fixture(scope='session')
def options(tmp_path_factory):
  """Arguments of `load` for one made folder with a phantom's renditions."""
  folder = made.layout(tmp_path_factory.mktemp('phantom'), size=32)
  for seed, rendition in enumerate(renditions.FOLDERS.values(), 50):
    for name in made.TEST:
      made.film(str(folder / rendition / name), 32, seed=seed)
  # A film of which one rendition is damaged is in none of the three splits.
  (folder / 'images_without_lesions' / made.TEST[2]).write_bytes(b'')
  return {
    'dir': folder,
    'image_size': 32,
    'prepared_dir': tmp_path_factory.mktemp('prepared'),
    'validation_fraction': 0.3,
  }


@pytest.fixture(scope='session')
def splits(options):
  return pipeline.load(**options)


@pytest.fixture(scope='session')
def lazy(options):
  return pipeline.load(**options, cache='none')


def take(batches, n):
  return [next(batches) for _ in range(n)]


# --- splits


def test_every_row_is_its_own_film(options, splits):
  table = {name: i for i, name in enumerate(made.TRAIN + made.TEST)}
  for split in (splits['train'], splits['validation'], splits['test']):
    assert split.image.dtype == np.uint8
    assert split.label.dtype == np.float32
    for i, name in enumerate(split.image_name.tolist()):
      pixels = np.random.default_rng(table[name]).integers(
        0, 256, (32, 32), np.uint8
      )
      np.testing.assert_array_equal(split.image[i, ..., 0], pixels)
      findings = made.LABELS.get(name, 'No Finding')
      np.testing.assert_array_equal(
        split.label[i], [f in findings.split('|') for f in pipeline.FINDINGS]
      )
      assert split.patient[i] == int(name[:8])
    assert set(split.view) == {'PA'} and set(split.sex) == {'M'}
    assert np.all(split.age == 57)


def test_boxes_point_at_their_film(splits):
  test = splits['test']
  np.testing.assert_allclose(test.box, [[0.5, 0.25, 0.75, 0.375]])
  assert test.image_name[test.box_image].tolist() == [made.TEST[0]]
  assert test.box_finding.tolist() == [1]


def test_renditions_show_the_same_films(options, splits):
  test = splits['test']
  assert made.TEST[2] not in test.image_name
  for rendition in renditions.FOLDERS.values():
    split = splits[f'test_{rendition.removeprefix("images_")}']
    for field in set(split._fields) - {'name', 'image', 'content'}:
      np.testing.assert_array_equal(getattr(split, field), getattr(test, field))
    for i, name in enumerate(split.image_name):
      with Image.open(options['dir'] / rendition / name) as image:
        np.testing.assert_array_equal(split.image[i, ..., 0], image)


def test_caches_hold_the_same(splits, lazy):
  assert splits.keys() == lazy.keys()
  for name, split in splits.items():
    films = lazy[name].image
    assert isinstance(split.image, np.ndarray)
    assert not isinstance(films, np.ndarray)
    assert (films.shape, films.dtype) == (split.image.shape, np.uint8)
    index = np.arange(len(films))[::-1]
    for at in (index, index % 2, [], 0, -1, slice(1, 3), index[:0]):
      np.testing.assert_array_equal(films[at], split.image[at])
    np.testing.assert_array_equal(np.asarray(films), split.image)
  with pytest.raises(IndexError):
    lazy['test'].image[np.array([99])]


def test_an_unknown_cache_is_refused(options):
  with pytest.raises(ValueError, match='memory, none'):
    pipeline.load(**options, cache='disk')


def test_preparing_needs_no_tensorflow_and_no_network(options, tmp_path):
  """Both take longer than a small set; a network may not be there at all."""
  script = (
    'import socket, sys\n'
    'def refuse(*args): raise AssertionError("network")\n'
    'socket.socket.connect = refuse\n'
    'from input_pipeline import pipeline\n'
    f'pipeline.load({str(options["dir"])!r}, image_size=32,'
    f' prepared_dir={str(tmp_path)!r}, validation_fraction=.3, workers=1)\n'
    'assert "tensorflow" not in sys.modules\n'
  )
  subprocess.run(
    [sys.executable, '-c', script],
    check=True,
    cwd=pathlib.Path(__file__).parents[2],
  )


# --- order


@pytest.mark.parametrize('n, batch_size', [(10, 3), (10, 10), (3, 8), (1, 2)])
def test_epochs_are_permutations_without_a_gap(n, batch_size):
  stream = pipeline.index_batches(n, batch_size=batch_size, seed=5)
  batches = take(stream, 3 * n)
  assert {len(batch) for batch in batches} == {batch_size}
  epochs = np.concatenate(batches).reshape(-1, n)
  np.testing.assert_array_equal(
    np.sort(epochs), np.broadcast_to(np.arange(n), epochs.shape)
  )
  if n > 3:
    assert len(np.unique(epochs, axis=0)) > 1


@pytest.mark.parametrize('start_step', [0, 1, 3, 4, 11])
@pytest.mark.parametrize('batch_size', [3, 4, 10, 17])
def test_order_resumes_at_any_step(start_step, batch_size):
  options = {'batch_size': batch_size, 'seed': 2}
  whole = take(pipeline.index_batches(10, **options), start_step + 4)
  rest = pipeline.index_batches(10, **options, start_step=start_step)
  np.testing.assert_array_equal(take(rest, 4), whole[start_step:])


def test_order_depends_on_the_seed():
  orders = [
    next(pipeline.index_batches(50, batch_size=50, seed=s)).tolist()
    for s in (0, 0, 1)
  ]
  assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(
  'n, options, message',
  [
    (0, {'batch_size': 1}, 'no film'),
    (5, {'batch_size': 0}, 'batch_size'),
    (5, {'batch_size': 1, 'start_step': -1}, 'start_step'),
  ],
)
def test_order_ranges(n, options, message):
  with pytest.raises(ValueError, match=message):
    next(pipeline.index_batches(n, seed=0, **options))


# --- batches


@pytest.mark.parametrize('cache', ['splits', 'lazy'])
def test_train_batches_follow_the_order(cache, request, splits):
  split = request.getfixturevalue(cache)['train']
  options = {'batch_size': 4, 'seed': 3, 'start_step': 2}
  order = pipeline.index_batches(len(split.label), **options)
  for batch in take(pipeline.train_batches(split, **options), 6):
    index = next(order)
    np.testing.assert_array_equal(batch['index'], index)
    np.testing.assert_array_equal(batch['image'], splits['train'].image[index])
    np.testing.assert_array_equal(batch['label'], split.label[index])
    assert batch['image'].dtype == np.uint8
    assert batch['label'].dtype == np.float32
    assert set(batch) == {'image', 'label', 'index'}


def test_films_in_memory_need_no_tensorflow(splits, monkeypatch):
  monkeypatch.setattr(pipeline, '_tensorflow', None)
  take(pipeline.train_batches(splits['train'], batch_size=4, seed=0), 2)
  assert len(list(pipeline.eval_batches(splits['test'], batch_size=4))) == 1


def test_shares_of_a_train_batch_join_to_it(splits):
  options = {'batch_size': 6, 'seed': 1, 'start_step': 1}
  whole = take(pipeline.train_batches(splits['train'], **options), 3)
  parts = [
    take(
      pipeline.train_batches(
        splits['train'], **options, process_index=i, process_count=3
      ),
      3,
    )
    for i in range(3)
  ]
  for step, batch in enumerate(whole):
    for key, value in batch.items():
      joined = np.concatenate([part[step][key] for part in parts])
      np.testing.assert_array_equal(joined, value)


def test_a_batch_must_divide(splits):
  for batches in (pipeline.train_batches, pipeline.eval_batches):
    options = {'seed': 0} if batches is pipeline.train_batches else {}
    with pytest.raises(ValueError, match=r'batch_size \(5\) must be divis'):
      batches(splits['test'], batch_size=5, process_count=2, **options)


@pytest.mark.parametrize('batch_size', [1, 2, 3, 8])
def test_evaluation_shows_every_film_once(splits, batch_size):
  split = splits['test']
  batches = list(pipeline.eval_batches(split, batch_size=batch_size))
  assert len(batches) == -(-len(split.label) // batch_size)
  seen = np.concatenate([b['index'][b['mask']] for b in batches])
  np.testing.assert_array_equal(seen, np.arange(len(split.label)))
  for batch in batches:
    assert batch['mask'].dtype == bool
    # Also where the mask is False: real films, nothing that could turn NaN.
    np.testing.assert_array_equal(batch['image'], split.image[batch['index']])
    np.testing.assert_array_equal(batch['label'], split.label[batch['index']])
    assert len(batch['image']) == batch_size


def test_evaluation_of_chosen_rows(splits):
  chosen = np.array([2, 0, 2])
  (batch,) = pipeline.eval_batches(splits['test'], batch_size=4, index=chosen)
  assert batch['index'].tolist() == [2, 0, 2, 2]
  assert batch['mask'].tolist() == [True, True, True, False]
  none = pipeline.eval_batches(splits['test'], batch_size=4, index=chosen[:0])
  assert list(none) == []
  with pytest.raises(ValueError, match='films of test'):
    pipeline.eval_batches(splits['test'], batch_size=4, index=np.array([-1]))


def test_evaluation_shares_are_equal_and_complete(splits):
  split = splits['train']
  seen = []
  for i in range(2):
    batches = list(
      pipeline.eval_batches(
        split, batch_size=8, process_index=i, process_count=2
      )
    )
    assert [len(b['mask']) for b in batches] == [4] * -(-len(split.label) // 8)
    seen += [b['index'][b['mask']] for b in batches]
  np.testing.assert_array_equal(
    np.sort(np.concatenate(seen)), np.arange(len(split.label))
  )


# --- summary


def test_summary(splits):
  summary = json.loads(json.dumps(pipeline.summary(splits)))
  test = summary['splits']['test']
  assert (test['images'], test['patients']) == (3, 3)
  assert test['positives']['Cardiomegaly'] == test['boxes']['Cardiomegaly'] == 1
  assert sum(test['positives'].values()) == 2
  assert summary['left_out'] == {'undecodable': 1}
  hashes = {name: s['sha256'] for name, s in summary['splits'].items()}
  assert hashes['test'] == hashes['test_without_shortcut']
  assert len(set(hashes.values())) == 3
  content = {s['content_sha256'] for s in summary['splits'].values()}
  assert len(content) == len(hashes)
  shuffled = splits['test']._replace(image_name=splits['test'].image_name[::-1])
  again = pipeline.summary({'test': shuffled})['splits']['test']
  assert again['sha256'] == hashes['test']


def test_real_films(nih_dir, tmp_path):
  """A handful of the real originals through the whole pipeline."""
  source = pathlib.Path(nih_dir)
  for path in source.iterdir():
    if path.suffix in ('.csv', '.txt'):
      (tmp_path / path.name).symlink_to(path)
  (tmp_path / 'images').mkdir()
  for path in sorted((source / 'originals').iterdir())[::8]:
    (tmp_path / 'images' / path.name).symlink_to(path)
  splits = pipeline.load(
    tmp_path,
    image_size=224,
    prepared_dir=tmp_path / 'prepared',
    validation_fraction=0.1,
  )
  films = sum(len(split.label) for split in splits.values())
  assert films == len(list((tmp_path / 'images').iterdir()))
  for split in splits.values():
    assert split.image.shape[1:] == (224, 224, 1)
    assert np.all(np.std(split.image, axis=(1, 2, 3)) > 5)
