"""The first screen and the sections of a comparison, without a page."""

from cxr.reporting import part_comparison
from tests import made_workdir


def test_comparison_tells_what_the_logits_rest_on():
  entry = {
    'runs': [made_workdir.estimate(0.25), made_workdir.estimate(0.75)],
    'difference': made_workdir.estimate(0.5) | {'p': 0.01, 'p_holm': None},
  }
  comparison = {
    'runs': ['a', 'b'],
    'measures': {'lesion_share': {'': {'': {'mean': entry}}}},
  }
  (row,) = part_comparison.headline(comparison).rows
  texts = [cell.text for cell in row.cells.values()]
  assert texts[0].startswith("the lesion's share")
  assert texts[1:4] == ['0.250', '0.750', '+0.500']


def test_a_run_may_be_called_as_another_column():
  estimates = [made_workdir.estimate(value) for value in (0.25, 0.75)]
  entry = {
    'runs': estimates,
    'difference': made_workdir.estimate(0.5) | {'p': 0.01, 'p_holm': 0.02},
  }
  section = part_comparison.classification(
    {
      'runs': ['finding', 'p'],
      'classification': {'test': {'auroc': {'Mass': entry}}},
    }
  )
  ((table,),) = (group.tables for group in section.groups)
  cells = {name: cell.text for name, cell in table.rows[0].cells.items()}
  assert cells == {
    'finding': 'Mass',
    'split': 'test',
    'run finding': '0.250',
    'run p': '0.750',
    'difference': '+0.500',
    'p': '0.010',
    'p, Holm': '0.020',
  }
