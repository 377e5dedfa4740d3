"""Who is filmed, with which findings, and in which list.

Findings follow a probit model: each film has a normally distributed propensity
for each finding, correlated between findings and between films of a patient,
and has the findings whose propensity exceeds a threshold.
"""

from typing import NamedTuple

import numpy as np
import scipy.special

from input_pipeline.findings import FINDINGS

PREVALENCE = {
  'Atelectasis': 0.11,
  'Cardiomegaly': 0.06,
  'Effusion': 0.12,
  'Infiltration': 0.15,
  'Mass': 0.06,
  'Nodule': 0.07,
  'Pneumonia': 0.05,
  'Pneumothorax': 0.06,
  'Consolidation': 0.06,
  'Edema': 0.05,
  'Emphysema': 0.05,
  'Fibrosis': 0.045,
  'Pleural_Thickening': 0.05,
  'Hernia': 0.04,
}

# Correlation of the findings' propensities: a little between all (illness), and
# these pairs, which the data set shows.
_CORRELATION = 0.12

_TOGETHER = {
  ('Effusion', 'Atelectasis'): 0.35,
  ('Effusion', 'Infiltration'): 0.2,
  ('Effusion', 'Consolidation'): 0.3,
  ('Effusion', 'Cardiomegaly'): 0.35,
  ('Effusion', 'Edema'): 0.3,
  ('Effusion', 'Pleural_Thickening'): 0.25,
  ('Atelectasis', 'Consolidation'): 0.3,
  ('Infiltration', 'Edema'): 0.3,
  ('Infiltration', 'Pneumonia'): 0.35,
  ('Edema', 'Pneumonia'): 0.4,
  ('Edema', 'Cardiomegaly'): 0.3,
  ('Emphysema', 'Pneumothorax'): 0.4,
  ('Mass', 'Nodule'): 0.35,
  ('Fibrosis', 'Pleural_Thickening'): 0.3,
}

# Share of a propensity that stays with the patient from film to film.
_CHRONIC = 0.9

_ACUTE = 0.5

_ACUTE_FINDINGS = (
  'Atelectasis',
  'Effusion',
  'Infiltration',
  'Pneumonia',
  'Pneumothorax',
  'Consolidation',
  'Edema',
)

_TEST_SHARE = 0.22

# Streams of random numbers, so that a film is the same whoever draws it.
_PLAN, PATIENT, FILM, LESION = range(4)


class Entry(NamedTuple):
  """A film as the label file knows it."""

  film: int  # 0, 1, ...
  patient: int  # from 1
  follow_up: int
  findings: tuple[str, ...]
  age: int
  sex: str  # 'M' | 'F'
  view: str  # 'PA' | 'AP'
  test: bool

  @property
  def name(self) -> str:
    return f'{self.patient:08d}_{self.follow_up:03d}.png'


def make_plan(num_films: int, seed: int = 0) -> list[Entry]:
  """Who is filmed, with which findings, in which list."""
  rng = np.random.default_rng([seed, _PLAN])
  films = np.minimum(rng.zipf(1.9, num_films), 12)
  films = films[: np.searchsorted(films.cumsum(), num_films) + 1]
  films[-1] -= films.sum() - num_films
  patient = np.repeat(np.arange(len(films)), films)

  k = len(FINDINGS)
  correlation = np.full((k, k), _CORRELATION)
  for (one, other), value in _TOGETHER.items():
    i, j = FINDINGS.index(one), FINDINGS.index(other)
    correlation[i, j] = correlation[j, i] = value
  np.fill_diagonal(correlation, 1)
  root = np.linalg.cholesky(correlation).T
  stays = np.array(
    [_ACUTE if f in _ACUTE_FINDINGS else _CHRONIC for f in FINDINGS]
  )
  lasting = rng.standard_normal((len(films), k)) @ root
  passing = rng.standard_normal((num_films, k)) @ root
  propensity = np.sqrt(stays) * lasting[patient] + np.sqrt(1 - stays) * passing
  threshold = scipy.special.ndtri(
    1 - np.array([PREVALENCE[f] for f in FINDINGS])
  )
  has = propensity > threshold

  ill = lasting.mean(1)
  in_bed = ill + 0.6 * rng.standard_normal(len(films))
  order = np.argsort(-(0.6 * in_bed + rng.standard_normal(len(films))))
  enough = np.searchsorted(films[order].cumsum(), _TEST_SHARE * num_films)
  test = np.zeros(len(films), bool)
  test[order[: enough + 1]] = True
  sex = rng.choice(('M', 'F'), len(films), p=(0.56, 0.44))
  age = np.clip(rng.normal(47, 17, len(films)), 3, 92).astype(int)
  today = propensity.mean(1) + rng.normal(0, 0.3, num_films)
  ap = in_bed[patient] + today > 0.33
  follow_up = np.arange(num_films) - np.repeat(films.cumsum() - films, films)
  return [
    Entry(
      film=i,
      patient=int(p) + 1,
      follow_up=int(follow_up[i]),
      findings=tuple(f for f, h in zip(FINDINGS, has[i], strict=True) if h),
      age=int(age[p] + follow_up[i] // 3),
      sex=str(sex[p]),
      view='AP' if ap[i] else 'PA',
      test=bool(test[p]),
    )
    for i, p in enumerate(patient)
  ]
