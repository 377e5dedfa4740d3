"""Measures of maps that are constant, or no numbers."""

import numpy as np
import pytest

from cxr.measures import map_sanity, measure_table
from input_pipeline.findings import FINDINGS
from tests.measures.made_subject import (
  SIZE,
  by_key,
  caused,
  make_subject,
  taken,
)


@pytest.mark.parametrize('fill', [0.0, np.nan])
def test_broken_maps_have_defined_measures(fill, tmp_path):
  subject = make_subject(
    np.full((SIZE, SIZE, len(FINDINGS)), fill),
    caused().splits,
    sanity_films=8,
    measure_films=8,
  )
  found = []
  for name in ('maps', 'stability', 'randomisation', 'faithfulness', 'causes'):
    found += taken(name, subject)
  value = by_key(found)
  # Constant maps are one and the same; of NaN nothing is known.
  one = np.nan if np.isnan(fill) else 1.0
  for key in ('sameness', 'stability'):
    np.testing.assert_array_equal(value[key, 'gradient', ''], one)
  np.testing.assert_array_equal(value['randomisation', 'gradient', 'fc'], one)
  for key in (
    'outside_body',
    'sparsity',
    'on_lesion',
    'on_shortcut',
    'lesion_share',
  ):
    assert np.isnan(value[key, 'gradient', '']).all()
  inserted = value['insertion', 'gradient', '']
  assert (
    np.isnan(inserted).all()
    if np.isnan(fill)
    else (inserted[~np.isnan(inserted)] == 0.5).all()
  )
  path = str(tmp_path / 'measures.csv')
  measure_table.write(path, found)
  figures = measure_table.estimates(
    measure_table.read(path), num_resamples=10, seed=0
  )
  assert figures['outside_body']['gradient']['']['mean']['value'] is None
  assert bool(map_sanity.warnings(figures)) != np.isnan(fill)
