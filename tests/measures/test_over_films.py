"""The films and findings that a measure is taken of."""

import numpy as np

from cxr.measures import over_films


def test_spread_takes_an_equal_share_of_each_finding():
  wanted = np.zeros((20, 3), bool)
  wanted[:, 0] = wanted[4, 1] = True
  row, column = over_films.spread(wanted, 9)
  assert column.tolist() == [0, 0, 0, 1]
  assert row.tolist() == [0, 10, 19, 4]
  row, column = over_films.spread(wanted, 0)
  assert np.bincount(column).tolist() == [20, 1]
  assert not len(over_films.spread(wanted[:0], 9)[0])
