"""The section on readers: its sentence, its tables, and what it draws."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from cxr.estimates import reader_estimates
from cxr.estimates.readings import Readings
from cxr.reporting import (
  part_comparison,
  part_readers,
  part_study,
  plots,
  terminal,
)
from input_pipeline.findings import FINDINGS
from tests import made_rows, made_workdir


@pytest.fixture(scope='module')
def estimated():
  block = made_rows.predictions(n=90)
  rng = np.random.default_rng(0)
  truth = np.nan_to_num(block.label)
  votes = np.where(rng.random((3, 90, 14)) < 0.15, 1 - truth, truth)
  votes[..., -1] = 0.0  # nobody sees a hernia
  names = 'Ann', 'Bo <b>', '$Cy$'
  read = Readings(FINDINGS, names, block.image, votes.astype(np.float32))
  return reader_estimates.estimates(block, read, num_resamples=40)


def test_the_section_says_what_an_auroc_is_to_be_read_against(estimated):
  section = part_readers.readers({'readers': estimated})
  first, second = section.text
  assert first.startswith('Against the majority of 3 readers, who read 90 test')
  for estimate in (
    estimated['auroc']['mean'],
    estimated['label']['network']['mean'],
    estimated['label']['votes']['mean'],
  ):
    assert f'{estimate["value"]:.3f}' in first
  assert second.endswith('negative films: Hernia.')
  findings, kappas, group = section.groups
  rows = {row.cells['finding'].text: row.cells for row in findings.rows}
  assert list(rows) == ['mean', *FINDINGS]
  assert rows['Hernia']['network, majority'].text == '–'
  assert 'needs both' in rows['Hernia']['network, majority'].why
  assert kappas.rows[0].cells['label and majority'].text == (
    f'{estimated["kappa"]["label"]["mean"]["value"]:.3f}'
  )
  (points,) = group.tables
  assert len(points.rows) == 3 * 15
  # One row a reader is shown at first.
  shown = [r for r in points.rows if not any(f.hides(r) for f in group.filters)]
  assert [r.cells['reader'].text for r in shown] == ['Ann', 'Bo <b>', '$Cy$']


def test_the_picture_has_a_panel_for_each_finding_that_is_scored(estimated):
  (drawing,) = part_readers.readers({'readers': estimated}).figures
  root = ElementTree.fromstring(str(drawing.picture))
  texts = [
    ''.join(e.itertext()).strip() for e in root.iter() if 'text' in e.tag
  ]
  for text in ('network', 'Ann', 'Bo <b>', '$Cy$', *FINDINGS[:-1]):
    assert text in texts
  assert 'Hernia' not in texts
  sensitivity = estimated['readers']['Ann']['sensitivity']['Mass']['value']
  assert f'Ann {sensitivity:.2f} at' in root.attrib['aria-label']


def test_points_lie_where_the_estimates_say(estimated):
  of = estimated['readers']['Ann']
  point = of['sensitivity']['Mass'], of['specificity']['Mass']
  panel = {
    'title': 'Mass',
    'rates': [0.0, 1.0],
    'sensitivities': [0.5, 1.0],
    'points': {'Ann': point},
  }
  (axes,) = plots.roc_panels([panel]).axes
  drawn = [line.get_xydata()[0].tolist() for line in axes.lines]
  assert [1 - point[1]['value'], point[0]['value']] in drawn


def test_the_terminal_says_it(estimated):
  auroc = {'test': {'auroc': {'mean': made_workdir.estimate(0.8)}}}
  (line,) = terminal.lines({'classification': auroc, 'readers': estimated})
  votes = estimated['label']['votes']['mean']['value']
  assert 'against the majority of 3 readers, whose votes reach' in line
  assert line.endswith(f'reach {votes:.3f} on the labels.')


def test_a_run_without_readers_has_no_section():
  assert part_readers.readers({'readers': {}}) is None
  assert part_readers.readers({}) is None
  assert part_readers.sentence({}) == ''


def test_runs_stand_beside_each_other():
  entry = {
    'runs': [made_workdir.estimate(0.6), made_workdir.estimate(0.7)],
    'difference': made_workdir.estimate(0.1) | {'p': 0.01, 'p_holm': None},
  }
  comparison = {'runs': ['a', 'b'], 'readers': {'auroc': {'mean': entry}}}
  (table,) = part_comparison.readers(comparison).groups
  assert table.rows[0].cells['difference'].text == '+0.100'
  answer = ' '.join(part_comparison.answer(comparison))
  start = "The mean AUROC by the readers' majority is 0.700 against 0.600"
  assert answer.startswith(start)
  assert part_comparison.readers({'runs': ['a', 'b']}) is None


def test_a_study_has_a_table_of_it():
  estimate = made_workdir.estimate(0.6) | {'runs': [0.6]}
  key = ['readers', 'auroc', 'majority', 'test']
  text = part_study.markdown(
    {
      'groups': [{'name': 'a', 'runs': ['a'], 'seeds': [0]}],
      'figures': [
        {'key': key, 'finding': name, 'groups': [estimate], 'differences': []}
        for name in ('mean', 'Mass')
      ],
    }
  )
  assert '## Readers' in text
  assert "## AUROC, against the readers' majority, by finding" in text
