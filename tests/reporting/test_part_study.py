"""A study as Markdown: every group, every difference, and the controls once."""

from cxr.reporting import part_study
from tests import made_workdir


def _entry(key, finding, *values):
  groups = [
    made_workdir.estimate(value) | {'runs': [value - 0.01, value + 0.01]}
    for value in values
  ]
  less = [
    made_workdir.estimate(value - values[0], width=0.02) for value in values[1:]
  ]
  return {
    'key': key,
    'finding': finding,
    'groups': groups,
    'differences': less,
  }


def test_markdown_shows_groups_differences_and_controls():
  auroc = ['classification', 'auroc', 'test', 'clean', '0']
  text = part_study.markdown(
    {
      'groups': [
        {'name': 'baseline', 'runs': ['a', 'b'], 'seeds': [0, 1]},
        {'name': 'robust|2', 'runs': ['c'], 'seeds': [0]},
      ],
      'figures': [
        _entry(auroc, 'mean', 0.8, 0.7),
        _entry(auroc, 'Mass', 0.75, 0.74),
        _entry(['localization', 'iou@0.3', 'random', 'wang'], 'mean', 0.1, 0.1),
      ],
    }
  )
  titles = [line for line in text.splitlines() if line.startswith('## ')]
  assert titles == [
    '## Classification',
    '## Classification: difference',
    '## Localization of controls',
    '## AUROC, by finding',
    '## AUROC, by finding: difference',
  ]
  assert '* baseline: 2 runs, seed 0, 1' in text
  assert '|  | films (patients) | baseline | robust\\|2 |' in text
  assert (
    '| AUROC | 160 (60) | 0.800 (0.760 to 0.840); 0.790 to 0.810 | '
    '0.700 (0.660 to 0.740); 0.690 to 0.710 |'
  ) in text
  assert '| AUROC | 160 (60) | −0.100 (−0.120 to −0.080) |' in text
  assert '| Mass | 160 (60) | −0.010 (−0.030 to +0.010) |' in text
  assert (
    '| random map: T(IoU) 0.3 | 160 (60) | 0.100 (0.060 to 0.140) |' in text
  )


def test_own_less_another_patient_s_is_the_first_sentence_and_the_main_row():
  entry = lambda method, *values: _entry(
    ['localization', 'iou@0.3', method, 'wang'], 'mean', *values
  )
  study = {
    'groups': [
      {'name': 'baseline', 'runs': ['a', 'b'], 'seeds': [0, 1]},
      {'name': 'robust', 'runs': ['c'], 'seeds': [0]},
    ],
    'figures': [
      entry('cam_own_less_another', 0.125, 0.25),
      entry('cam', 0.5, 0.75),
      entry('cam_another_patient', 0.375, 0.5),
      entry('cam_set_down', 0.25, 0.375),
      entry('random', 0.1, 0.1),
    ],
  }
  lines = part_study.markdown(study).splitlines()
  assert lines[2] == (
    "Own less another patient's: the accuracy of cam at T(IoU) 0.3, less that "
    "of the same networks' maps of other patients without the finding, is "
    '+0.125 (+0.085 to +0.165) for baseline and +0.250 (+0.210 to +0.290) for '
    'robust; the difference is +0.125 (+0.105 to +0.145) for robust less '
    'baseline.'
  )
  table = lines[lines.index('## Localization') + 4 :][:3]
  starts = [line.split('|')[1].strip() for line in table]
  assert starts == [
    "cam, own less another patient's: T(IoU) 0.3",
    'cam: T(IoU) 0.3',
    'cam, another patient: T(IoU) 0.3',
  ]
  # What a network makes differs from group to group.
  title = lines.index("## Localization of the networks' controls: difference")
  assert 'cam boxes set down elsewhere' in lines[title + 4]
  shown = [panel['title'] for panel in part_study.panels(study)]
  assert shown == starts[:2]
  assert part_study.panels(study)[0]['control'] is None
  assert part_study.panels(study)[1]['control'] == 0.1


def test_every_finding_attacked_alone_is_the_headline_of_robustness():
  entry = lambda attack, *values: _entry(
    ['classification', 'auroc', 'test', attack, '2'], 'mean', *values
  )
  study = {
    'groups': [
      {'name': 'baseline', 'runs': ['a', 'b'], 'seeds': [0, 1]},
      {'name': 'robust', 'runs': ['c'], 'seeds': [0]},
    ],
    'figures': [
      entry('pgd-10-alone', 0.25, 0.75),
      entry('pgd-10', 0.75, 0.875),
    ],
  }
  lines = part_study.markdown(study).splitlines()
  assert lines[2] == (
    'Mean AUROC under pgd-10 at epsilon 2/255, every finding attacked alone, '
    'is 0.250 (0.210 to 0.290) for baseline and 0.750 (0.710 to 0.790) for '
    'robust; the difference is +0.500 (+0.480 to +0.520) for robust less '
    'baseline. Mean AUROC under pgd-10 at epsilon 2/255, all findings attacked '
    'at once, is 0.750 (0.710 to 0.790) for baseline and 0.875 (0.835 to '
    '0.915) for robust; the difference is +0.125 (+0.105 to +0.145) for robust '
    'less baseline.'
  )
  titles = [panel['title'] for panel in part_study.panels(study)]
  assert titles == [
    'AUROC, every finding attacked alone, pgd-10, epsilon 2/255',
    'AUROC, all findings attacked at once, pgd-10, epsilon 2/255',
  ]
  del study['figures'][0]
  text = part_study.markdown(study)
  assert 'is not compared, since at least one of these runs has none' in text
