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


def test_the_difference_of_differences_comes_first():
  def entry(first, second, low, high):
    return {
      'mean': {
        'runs': [made_workdir.estimate(first), made_workdir.estimate(second)],
        'difference': {'value': second - first, 'low': low, 'high': high}
        | {'p': 0.25},
      }
    }

  localization = {
    'cam_own_less_another': {
      'wang': {'iou@0.3': entry(0.25, 0.125, -0.2, -0.1)}
    },
    'cam': {'wang': {'iou@0.3': entry(0.5, 0.75, 0.1, 0.4)}},
    'cam_another_patient': {'wang': {'iou@0.3': entry(0.25, 0.625, 0.3, 0.5)}},
    'random': {'wang': {'iou@0.3': entry(0.1, 0.1, 0, 0)}},
  }
  comparison = {'runs': ['a', 'b'], 'localization': localization}
  text, others = part_comparison.answer(comparison)
  # It alone decides: b is better than a on the other patients' maps as well.
  assert text.startswith(
    'b localizes worse than a: the accuracy of cam at T(IoU) 0.3, own less '
    "another patient's, is 0.125 against 0.250, a difference of −0.125 "
    '(−0.200 to −0.100; p = 0.250).'
  )
  assert others.startswith(
    'The accuracy of cam at T(IoU) 0.3 is 0.750 against 0.500, a difference of '
    '+0.250'
  )
  rows = part_comparison.headline(comparison).rows
  assert [row.cells['result'].text for row in rows] == [
    "cam, own less another patient's: accuracy at T(IoU) 0.3",
    'cam: accuracy at T(IoU) 0.3',
    'cam, another patient: accuracy at T(IoU) 0.3',
  ]


def test_every_finding_attacked_alone_is_compared_first():
  def entry(attack, *values):
    runs = [made_workdir.estimate(value) for value in values]
    less = made_workdir.estimate(values[1] - values[0]) | {'p': 0.25}
    auroc = {'mean': {'runs': runs, 'difference': less}}
    return {'attack': attack, 'epsilon': 2.0, 'auroc': auroc}

  joint, alone = entry('pgd', 0.5, 0.875), entry('pgd-alone', 0.125, 0.75)
  comparison = {'runs': ['a', 'b'], 'robustness': [joint, alone]}
  (text,) = part_comparison.answer(comparison)
  first = (
    'The mean AUROC under pgd at epsilon 2/255, every finding attacked alone, '
    'is 0.750 against 0.125, a difference of +0.625 (+0.585 to +0.665; p = '
    '0.250).'
  )
  assert text.startswith(first)
  assert 'all findings attacked at once, is 0.875 against 0.500' in text
  rows = part_comparison.headline(comparison).rows
  assert [row.cells['result'].text.split(', ')[1] for row in rows] == [
    'every finding attacked alone',
    'all findings attacked at once',
  ]
  section = part_comparison.robustness(comparison, {})
  ((table,),) = (group.tables for group in section.groups if group)
  kinds = [row.cells['findings attacked'].text for row in table.rows]
  assert sorted(kinds) == ['all at once', 'every one alone']
  # One of the runs is older.
  comparison['robustness'] = [joint]
  _, text = part_comparison.answer(comparison)
  assert text == (
    'AUROC with every finding attacked alone is not compared, since at least '
    'one of these runs has none; --mode=evaluate measures it, on '
    'config.evaluate.finding_attack_films films of each finding.'
  )
