"""An evaluation is of films that the weights have not seen, and names them."""

import json
import os

import numpy as np
import pytest

from cxr import data, files, film_hashes, run_files
from cxr.evaluation import parts, provenance
from cxr.exporting import companions
from input_pipeline.phantom import write


@pytest.fixture
def trained(tiny_config, tmp_path):
  """(workdir, config) of a run that has stored its config and its films."""
  workdir = str(tmp_path / 'run')
  run_files.write_config(workdir, tiny_config)
  data.write_summary(workdir, tiny_config, data.load(tiny_config))
  return workdir, tiny_config


def changed(config, **fields):
  other = config.copy_and_resolve_references()
  other.data.update(fields)
  return other


def check(workdir, config):
  splits = data.load(config)
  provenance.check_films(workdir, config, splits)
  return splits


def test_the_films_of_the_training_are_evaluated(trained):
  check(*trained)


def test_another_validation_split_is_refused(trained):
  """Calibration would be fitted on films that the weights learned from."""
  workdir, config = trained
  before = files.read_json(f'{workdir}/data.json')
  learned = set(data.load(config)['train'].image_name)
  for fields in ({'split_seed': 3}, {'validation_fraction': 0.4}):
    other = changed(config, **fields)
    count = len(learned & set(data.load(other)['validation'].image_name))
    assert count
    with pytest.raises(ValueError, match=f'^{count} of the .* validation'):
      check(workdir, other)
  assert files.read_json(f'{workdir}/data.json') == before


def test_other_films_are_evaluated_and_kept_apart(trained, tmp_path):
  """Films of the same names, drawn otherwise: another hospital's."""
  workdir, config = trained
  folder = tmp_path / 'other'
  write.write_phantom(
    folder, num_films=60, image_size=48, seed=1, workers=1, progress=False
  )
  other = changed(config, dir=str(folder))
  splits = check(workdir, other)
  before = files.read_json(f'{workdir}/data.json')
  record = provenance.record(workdir, other, 'ab', splits)
  assert (record['weights'], record['version']) == ('ab', parts.VERSION)
  assert record['config']['data']['dir'] == str(folder)
  described = record['data']['splits']
  assert described['test']['content_sha256'] == splits['test'].content
  # What the weights learned from stays what it was.
  assert described['train'] == before['splits']['train']
  assert files.read_json(f'{workdir}/data.json') == before


def test_films_that_cannot_be_told_apart_are_refused(trained, tmp_path):
  workdir, config = trained
  stored = changed(config, dir=str(tmp_path / 'gone'), source='nih')
  run_files.write_config(workdir, stored)
  with pytest.raises(ValueError, match='cannot be seen whether.*gone'):
    check(workdir, changed(config, split_seed=3))


def test_a_run_without_a_record_of_its_films_goes_by_its_config(trained):
  workdir, config = trained
  os.remove(f'{workdir}/data.json')
  check(workdir, config)
  with pytest.raises(ValueError, match='validation films are films that'):
    check(workdir, changed(config, split_seed=3))


def test_a_record_by_names_alone_is_understood(trained):
  """Older versions hashed the names and not the content."""
  workdir, config = trained
  stored = files.read_json(f'{workdir}/data.json')
  for split in stored['splits'].values():
    del split['content_sha256']
  files.write_json(f'{workdir}/data.json', stored)
  check(workdir, config)
  with pytest.raises(ValueError, match='validation films are films that'):
    check(workdir, changed(config, split_seed=3))


def test_json_is_strict(tmp_path):
  path = tmp_path / 'a.json'
  files.write_json(str(path), {'a': 1})
  for number in (float('nan'), float('inf'), np.float64('-inf')):
    with pytest.raises(ValueError, match=r'a\.json is not written'):
      files.write_json(str(path), {'a': [number]})
  assert json.loads(path.read_text()) == {'a': 1}


class TestWithoutSeen:
  """Weights from elsewhere, with hashes of the films that they have seen."""

  @pytest.fixture
  def splits(self, tiny_config):
    return data.load(tiny_config)

  def seen(self, tmp_path, splits, train, validation):
    hashes = lambda films: np.concatenate(
      [np.zeros(0, np.uint64)]
      + [film_hashes.of_split(splits[name])[index] for name, index in films]
    )
    path = str(tmp_path / companions.SEEN_FILMS)
    film_hashes.write(path, film_hashes.Seen(hashes(train), hashes(validation)))
    return str(tmp_path)

  def test_they_are_left_out_and_counted(self, splits, tmp_path, caplog):
    workdir = self.seen(
      tmp_path,
      splits,
      train=[('test', [0]), ('validation', [1])],
      validation=[('test', [2]), ('validation', [0])],
    )
    kept = provenance.without_seen(workdir, splits)
    names = splits['test'].image_name
    left = [name for i, name in enumerate(names) if i not in (0, 2)]
    assert kept['test'].image_name.tolist() == left
    # Films without a cause stand at the places of those that they belong to.
    assert kept['test_without_lesions'].image_name.tolist() == left
    # The checkpoint was chosen on film 0, and so may the calibration be.
    left = np.delete(splits['validation'].image_name, 1)
    assert kept['validation'].image_name.tolist() == left.tolist()
    assert kept['train'] is splits['train']
    assert kept.left_out == dict(splits.left_out) | {
      'test seen by the weights': 2,
      'validation seen by the weights': 1,
    }
    assert f'2 of the {len(names)} test films, such as' in caplog.text

  def test_nothing_is_left_out_where_nothing_was_seen(self, splits, tmp_path):
    for workdir in (
      str(tmp_path / 'nothing known'),
      self.seen(tmp_path, splits, [('train', slice(None))], []),
    ):
      kept = provenance.without_seen(workdir, splits)
      assert {n: s.content for n, s in kept.items()} == {
        n: s.content for n, s in splits.items()
      }

  def test_only_seen_films_are_refused(self, splits, tmp_path):
    workdir = self.seen(tmp_path, splits, [('test', slice(None))], [])
    with pytest.raises(ValueError, match='All test films, such as .*other'):
      provenance.without_seen(workdir, splits)
