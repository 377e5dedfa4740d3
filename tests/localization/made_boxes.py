"""Boxes for property tests."""

import hypothesis.strategies as st
import numpy as np

_corners = st.floats(0, 1, width=32)


def _box(numbers):
  y, x = sorted(numbers[:2]), sorted(numbers[2:])
  return np.array([y[0], x[0], y[1], x[1]])


STRATEGY = st.tuples(_corners, _corners, _corners, _corners).map(_box)
