"""Run lengths against CheXlocalize's, as they are written for exports."""

import hypothesis
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest

from cxr.exporting import chexlocalize
from input_pipeline import run_lengths


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2)))
def test_they_are_read_as_they_are_written(mask):
  encoded = chexlocalize.rle_encode(mask)
  size = tuple(encoded['size'])
  decoded = run_lengths.decode(encoded['counts'], size)
  np.testing.assert_array_equal(decoded, mask)
  assert sum(run_lengths.runs(encoded['counts'], size)[1::2]) == mask.sum()


def test_long_runs():
  """Runs of more than one digit, and shorter than the one two before."""
  mask = np.zeros((2000, 1500), bool)
  mask[300:1800, 200:900] = True
  mask[5, 5] = True
  encoded = chexlocalize.rle_encode(mask)
  decoded = run_lengths.decode(encoded['counts'], (2000, 1500))
  np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize(
  'counts', ['', '1', '133', 'P', '~', '1O2', 'oooooooo']
)
def test_what_is_none_is_refused(counts):
  with pytest.raises(ValueError, match='run lengths'):
    run_lengths.decode(counts, (2, 3))
