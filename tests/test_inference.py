"""Batches of films on their way to the devices and back."""

import threading

import jax.numpy as jnp
import numpy as np
import pytest

from cxr import inference, sharding
from tests import made_row_sums


def batches(num_films=11, size=4):
  """The last one is filled up."""
  for start in range(0, num_films, size):
    part = slice(start, min(start + size, num_films))
    yield part, np.arange(start, start + size, dtype=np.float32)


def computed(num_devices, compute):
  mesh = sharding.make_mesh(num_devices)
  return list(inference.computed(mesh, compute, batches()))


@pytest.mark.parametrize('num_devices', [1, 4])
def test_every_film_once_in_order(num_devices):
  double = lambda batch: {'twice': jnp.asarray(batch) * 2}
  results = computed(num_devices, double)
  assert [part for part, _ in results] == [
    slice(0, 4), slice(4, 8), slice(8, 11)
  ]  # fmt: skip
  values = np.concatenate([arrays['twice'] for _, arrays in results])
  np.testing.assert_array_equal(values, 2 * np.arange(11))


def test_one_cpu_has_batches_from_two_threads():
  """The first is waited for: what it compiles the others have."""
  thread_of, done = {}, []

  def compute(batch):
    start = int(batch[0])
    thread_of[start] = threading.get_ident()
    assert start == 0 or 0 in done
    done.append(start)
    return jnp.asarray(batch)

  computed(1, compute)
  assert threading.get_ident() not in thread_of.values()
  assert thread_of[0] == thread_of[8] != thread_of[4]


def test_several_devices_have_them_from_one_thread():
  threads = set()

  def compute(batch):
    threads.add(threading.get_ident())
    return jnp.asarray(batch)

  computed(4, compute)
  assert threads == {threading.get_ident()}


def test_an_error_is_that_of_its_batch():
  def compute(batch):
    if batch[0] == 4:
      raise ValueError('of the second batch')
    return jnp.asarray(batch)

  with pytest.raises(ValueError, match='of the second batch'):
    computed(1, compute)


def test_few_batches_wait_at_a_time():
  asked, taken = [], []

  def counted():
    for part, batch in batches(40):
      asked.append(part)
      yield part, batch

  mesh = sharding.make_mesh(1)
  for part, _ in inference.computed(mesh, jnp.asarray, counted()):
    taken.append(part)
    assert len(asked) - len(taken) <= 2
  assert taken == asked


def test_few_sizes_of_batches_serve_any_number_of_films():
  subject = made_row_sums.make(num_devices=1)
  subject.config.evaluate.batch_size = 24
  sizes = {n: subject.batch_size(n) for n in (0, 1, 3, 8, 9, 16, 17, 500)}
  assert sizes == {0: 1, 1: 1, 3: 4, 8: 8, 9: 16, 16: 16, 17: 24, 500: 24}
  four = subject._replace(mesh=sharding.make_mesh(4))
  assert [four.batch_size(n) for n in (1, 6)] == [4, 8]


def test_batches_give_every_row_its_place():
  subject = made_row_sums.make(num_devices=4)
  rows = np.array([5, 0, 2, 3, 4])
  seen = np.full(len(rows), -1)
  for part, batch in subject.batches(rows, 4):
    count = part.stop - part.start
    seen[part] = sharding.to_host(batch['image'])[:count, 0, 0, 0]
  np.testing.assert_array_equal(seen, np.array(made_row_sums.LEVELS)[rows])
