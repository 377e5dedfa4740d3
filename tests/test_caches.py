"""Where 'auto' lays the films: on the devices, on the host, or on disk."""

import numpy as np
import pytest

from configs import default
from cxr import caches, data, sharding
from input_pipeline import pipeline


@pytest.fixture(scope='module')
def films(tiny_config):
  return data.load(tiny_config)['train']


def resolved(films, cache='auto', devices=1):
  config = default.get_config()
  config.data.cache = cache
  found = caches.resolve(config, films, sharding.make_mesh(devices))
  assert config.data.cache == cache  # the run's own record
  return found.data.cache


def test_the_devices_hold_what_fits(films, monkeypatch):
  """In units of the films' bytes: a device gives a third of what it has."""

  def choose(*rooms):
    rooms = dict(enumerate(rooms))
    room = lambda device: int(rooms[device.id] * films.image.size)
    monkeypatch.setattr(caches, '_room', room)
    return resolved(films, devices=len(rooms))

  assert choose(3.01) == 'device'
  assert choose(2.99) == 'memory'
  # Two devices hold half each; both must have the room.
  assert choose(1.51, 1.51) == 'device'
  assert choose(9.0, 1.49) == 'memory'


def test_a_cpu_has_no_memory_of_its_own(films):
  assert resolved(films, devices=2) == 'memory'


@pytest.mark.parametrize('cache', ['none', 'memory', 'device'])
def test_what_was_asked_for_is_kept(films, cache):
  assert resolved(films, cache) == cache


@pytest.mark.parametrize('free, cache', [(10**9, 'memory'), (1000, 'none')])
def test_films_stay_on_disk_where_the_host_has_no_room(
  tiny_config, monkeypatch, free, cache
):
  assert tiny_config.data.cache == 'auto'
  monkeypatch.setattr(pipeline.memory, 'available', lambda: free)
  films = data.load(tiny_config)['train']
  assert isinstance(films.image, np.ndarray) == (cache == 'memory')
  assert resolved(films) == cache
