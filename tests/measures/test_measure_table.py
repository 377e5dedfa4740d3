"""Rows of measures.csv, and the figures that follow from them."""

import numpy as np
import pytest

from cxr.measures import measure_table

FILMS = np.array(['a', 'b', 'c', 'd'])
PATIENTS = np.array([1, 1, 2, 3])
OPTIONS = {'num_resamples': 200, 'seed': 0}


def measure(value, **options):
  value = np.asarray(value, np.float64)
  names = ('Mass', 'Nodule')[: value.shape[1]]
  options = {'findings': names} | options
  return measure_table.Measure('effect', FILMS, PATIENTS, value, **options)


VALUES = [[1, 0], [2, np.nan], [3, 4], [6, np.nan]]


def test_what_is_written_is_read(tmp_path):
  path = str(tmp_path / 'measures.csv')
  wanted = [
    measure(VALUES, method='cam'),
    measure(VALUES, method='cam', condition='pgd-10 2'),
    measure([[1.5]] * 4, findings=('',)),
  ]
  measure_table.write(path, wanted)
  for one, other in zip(wanted, measure_table.read(path), strict=True):
    assert one.key == other.key and one.findings == other.findings
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.patient, other.patient)
    np.testing.assert_array_equal(one.value, other.value)


def test_hostile_names_are_escaped(tmp_path):
  path = tmp_path / 'measures.csv'
  images = np.array(['=cmd()', 'b', 'c', 'd'])
  measure_table.write(str(path), [measure(VALUES)._replace(image=images)])
  assert ',=cmd' not in path.read_text()
  assert measure_table.read(str(path))[0].image[0] == '=cmd()'


def test_no_file_is_no_measure_and_a_damaged_one_is_named(tmp_path):
  path = tmp_path / 'measures.csv'
  assert measure_table.read(str(path)) == []
  path.write_text('measure,method,condition,finding,image,patient,value\na,b\n')
  with pytest.raises(ValueError, match='damaged near line 2'):
    measure_table.read(str(path))
  for value in ('1,half', 'one,0.5'):
    path.write_text(f'{path.read_text().splitlines()[0]}\nm,,,f,i,{value}\n')
    with pytest.raises(
      ValueError, match='line 2 \\(a cell is not a (whole )?num'
    ):
      measure_table.read(str(path))
  path.write_bytes(b'\xff\xfe')
  with pytest.raises(ValueError, match='is not UTF-8; write it again'):
    measure_table.read(str(path))
  path.write_text('other\n')
  with pytest.raises(ValueError, match='does not have the columns'):
    measure_table.read(str(path))


def test_a_figure_is_the_mean_of_what_is_defined():
  found = measure_table.estimates([measure(VALUES, method='cam')], **OPTIONS)
  figures = found['effect']['cam']['']
  assert figures['Mass']['value'] == 3
  assert figures['Mass']['patients'] == 3
  assert figures['Nodule']['value'] == 2
  assert figures['Nodule']['images'] == 2
  assert figures['mean']['value'] == 2.5
  assert figures['Mass']['low'] < 3 < figures['Mass']['high']


def test_a_measure_without_findings_has_its_mean_alone():
  found = measure_table.estimates(
    [measure([[1.0]] * 4, findings=('',))], **OPTIONS
  )
  assert list(found['effect']['']['']) == ['mean']


def test_a_value_of_no_film_says_why():
  found = measure_table.estimates([measure([[np.nan]] * 4)], **OPTIONS)
  figure = found['effect']['']['']['mean']
  assert figure['value'] is None and figure['why']


def test_runs_are_paired_by_film_whatever_their_order():
  first = measure(VALUES)
  order = [2, 0, 3, 1]
  second = first._replace(
    image=FILMS[order],
    patient=PATIENTS[order],
    value=first.value[order] + 1,
  )
  found = measure_table.compare([[first], [second]], **OPTIONS)
  difference = found['effect']['']['']['Mass']['difference']
  # Every film differs by 1, so every resample does.
  for name in ('value', 'low', 'high'):
    assert difference[name] == pytest.approx(1)
  with pytest.raises(ValueError, match='other films'):
    measure_table.compare(
      [[first], [second._replace(image=np.array(['x', 'b', 'c', 'd']))]]
    )


def test_only_what_every_run_has_is_compared():
  assert measure_table.compare([[measure(VALUES)], []]) == {}
