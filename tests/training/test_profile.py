"""A training that is watched: its trace, scalars, what crosses to the host."""

import gzip
import json

import jax
import pytest

from cxr import files
from cxr.training import loop, profile, train


def test_a_span_is_two_numbers():
  assert profile.parse('') is None
  assert profile.parse('0,1') == (0, 1)
  for text in ('5', '5,0', '1,2,3', 'a,b', '-1,2', '1.5,2'):
    with pytest.raises(ValueError, match='must be START,STEPS'):
      profile.parse(text)


@pytest.fixture(scope='module')
def watched(tiny_config, tmp_path_factory):
  """The workdir of a training whose steps 3 and 4 were traced."""
  config = tiny_config.copy_and_resolve_references()
  config.attack.objective = 'adversarial'
  config.attack.num_steps = 1
  config.attack.warmup_epochs = 1.0
  config.augment.rotation = 5.0
  config.train.log_every = 1
  workdir = tmp_path_factory.mktemp('watched')
  with pytest.MonkeyPatch.context() as patch:
    fit = loop.fit

    def guarded(*args, **options):
      # Whatever crosses to or from a device must have been asked for by name.
      with jax.transfer_guard('disallow'):
        fit(*args, **options)

    patch.setattr(loop, 'fit', guarded)
    train.train(config, str(workdir), span=profile.Span(2, 2))
  return workdir, config


def test_a_trace_names_the_steps_and_their_parts(watched):
  workdir, _ = watched
  (events,) = workdir.rglob('*.trace.json.gz')
  with gzip.open(events) as f:
    named = {
      event.get('args', {}).get('step_num')
      for event in json.load(f)['traceEvents']
      if event.get('name', '').startswith('train')
    }
  assert named - {None} == {'3', '4'}
  # The operations of the programs, with the scopes they were traced in.
  (planes,) = workdir.rglob('*.xplane.pb')
  operations = planes.read_bytes()
  for part in (b'augmentation', b'attack', b'update'):
    assert b'/' + part + b'/' in operations


def test_scalars_tell_rate_radius_memory_and_seconds(watched):
  workdir, config = watched
  records = files.read_json_lines(str(workdir / 'train.jsonl'))
  steps = [r for r in records if 'train/loss' in r]
  radii = [r['train/epsilon'] for r in steps]
  assert radii == sorted(radii) and radii[-1] == config.attack.epsilon
  assert 0 < radii[0] < radii[-1]
  rates = [r['train/learning_rate'] for r in steps]
  assert 0 < rates[-1] < max(rates) <= config.train.learning_rate
  assert all(r['host_gib'] > 0 for r in steps)
  assert all(r['val/seconds'] > 0 for r in records if 'val/auroc' in r)
