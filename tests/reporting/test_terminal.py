"""A run's last lines in the terminal."""

import re

from cxr import run_files
from cxr.reporting import terminal
from tests import made_workdir


def test_three_lines_say_what_was_found(tmp_path):
  metrics = run_files.read(made_workdir.write(tmp_path / 'a'), 'metrics.json')
  for name, value in (('cam', 0.5), ('cam_own_less_another', 0.125)):
    metrics['localization']['methods'].setdefault(name, {'wang': {'mean': {}}})
    mean = metrics['localization']['methods'][name]['wang']['mean']
    mean['iou@0.3'] = made_workdir.estimate(value)
  share = {'': {'': {'mean': made_workdir.estimate(0.25)}}}
  metrics['measures']['lesion_share'] = share
  classified, localized, rests_on = terminal.lines(metrics)
  assert re.match(r'Mean AUROC 0\.\d{3} \(.*\) on [\d,]+ test film', classified)
  assert 'under ' in classified
  beyond = '0.500 by cam maps, +0.125 (+0.085 to +0.165) beyond another patient'
  assert beyond in localized
  assert 'lesions are 0.250 (0.210 to 0.290), the rest the shor' in rests_on


def test_without_known_causes_the_controls_are_named(tmp_path):
  metrics = run_files.read(made_workdir.write(tmp_path / 'a'), 'metrics.json')
  metrics['measures'] = {}
  *_, controls = terminal.lines(metrics)
  assert re.match(r'Controls: 0\.\d{3} by the random map', controls)


def test_what_was_not_measured_has_no_line():
  assert terminal.lines({}) == []
