"""Who is filmed, with which findings."""

import collections

import numpy as np
import pytest

from input_pipeline.findings import FINDINGS
from input_pipeline.phantom import draw, plan


@pytest.fixture(scope='module')
def entries():
  return plan.make_plan(5000, seed=0)


def test_plan_prevalences(entries):
  for finding, prevalence in plan.PREVALENCE.items():
    found = np.mean([finding in e.findings for e in entries])
    assert abs(found - prevalence) < 0.02, finding
  healthy = {
    test: np.mean([not e.findings for e in entries if e.test == test])
    for test in (False, True)
  }
  assert 0.4 < healthy[True] < healthy[False] < 0.65
  test = [e for e in entries if e.test]
  assert 0.2 < len(test) / len(entries) < 0.25
  for finding in FINDINGS:
    assert sum(finding in e.findings for e in test) >= 30, finding


def test_plan_cooccurrence(entries):
  def share(one, given):
    return np.mean([one in e.findings for e in entries if given in e.findings])

  for one, given in (('Emphysema', 'Pneumothorax'), ('Effusion', 'Edema')):
    assert share(one, given) > 2 * plan.PREVALENCE[one]


def test_plan_patients(entries):
  patients = collections.defaultdict(list)
  for entry in entries:
    patients[entry.patient].append(entry)
  for films in patients.values():
    assert [e.follow_up for e in films] == list(range(len(films)))
    assert len({(e.sex, e.test) for e in films}) == 1
  assert 0.45 < np.mean([len(f) == 1 for f in patients.values()]) < 0.65
  again = [
    set(a.findings) & set(b.findings)
    for films in patients.values()
    for a, b in zip(films, films[1:], strict=False)
    if 'Fibrosis' in a.findings
  ]
  assert np.mean(['Fibrosis' in both for both in again]) > 0.5
  ap = {
    t: np.mean([e.view == 'AP' for e in entries if e.test == t]) for t in (0, 1)
  }
  assert ap[0] < 0.45 < ap[1]


def test_box_areas_are_in_the_manner_of_the_data_set(entries):
  # Medians of the data set's boxes, in per cent: facts about real films.
  real = {
    'Atelectasis': 1.9,
    'Cardiomegaly': 17.1,
    'Effusion': 5.6,
    'Infiltration': 5.7,
    'Mass': 1.5,
    'Nodule': 0.5,
    'Pneumonia': 5.7,
    'Pneumothorax': 3.6,
  }
  for finding, median in real.items():
    films = [e for e in entries if finding in e.findings][:24]
    areas = []
    for entry in films:
      alone = entry._replace(findings=(finding,))
      box = draw.draw_film(alone, renderings=False).box[finding]
      areas.append(100 * (box[2] - box[0]) * (box[3] - box[1]))
    assert median / 2 < np.median(areas) < median * 2, (finding, areas)
