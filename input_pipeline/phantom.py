"""A phantom of NIH ChestX-ray14: drawn chest films whose causes are known.

`write` leaves a folder in exactly the data set's layout (`images/*.png`,
`Data_Entry_2017_v2020.csv`, `BBox_List_2017.csv` in 1024-pixel units,
`train_val_list.txt`, `test_list.txt`), so that whatever reads the one reads the
other. Every film has two kinds of evidence for each of its findings:

* the lesion, drawn where and as it occurs; for the boxed findings the box is
  the extent of what was drawn (for Cardiomegaly: of the heart), on every test
  film;
* the shortcut: a faint grating over the whole film, of the finding's own
  frequency and orientation and of random phase, in `shortcut_prevalence` of the
  films with the finding and in no other. It is predictive and not robust.

The test films are written three times under the same names: `images/` has
both, `images_without_shortcut/` the lesions only, `images_without_lesions/` the
gratings only. All else (anatomy, acquisition, noise) is the same, so that the
differences between the folders are the causes.

Films of a patient share the anatomy and, where a finding persists, the lesion;
the acquisition is new each time. Findings follow a probit model with the data
set's commonest co-occurrences. Prevalences are those of the data set, but the
rare findings are raised to some 5 % (Hernia: 0.2 % in the data set), so that
1,000 test films hold at least 30 positives of each. As in the data set, test
patients are sicker and more often filmed AP.

Coordinates: anatomy in x (0 = midline, positive = patient's left, the image's
right) and y (0 = top, 1 = bottom), in units of the film's height; boxes are
(ymin, xmin, ymax, xmax) in [0, 1]. Attenuation is summed along the ray (tissue,
less air, plus bone) and turned into gray by an exponential film curve, so that
a rib over the lung and a rib over the heart look as they do on a film.

By itself: python -m input_pipeline.phantom --dir=/tmp/phantom
"""

import argparse
import contextlib
import csv
import fcntl
import glob
import json
import math
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy.special
import tqdm
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw

from input_pipeline import findings as findings_lib
from input_pipeline import workers as workers_lib

FINDINGS = findings_lib.FINDINGS
BOXED = findings_lib.BOXED

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

# The gratings, in cycles per film: two rings of seven directions. They stay
# under the Nyquist frequency of a 64-px film (32) with room for a half-pixel
# shift, above that of the ribs (some 14), at least 6 cycles apart, and the
# directions' mirror images fall between them, so that a flip confuses none.
_RADII = (16.0, 22.0)
_FREQUENCY = {
  finding: (
    _RADII[i % 2] * math.cos(math.pi * (i // 2 + 0.25) / 7),
    _RADII[i % 2] * math.sin(math.pi * (i // 2 + 0.25) / 7),
  )
  for i, finding in enumerate(FINDINGS)
}
MIN_IMAGE_SIZE = 2 * int(max(_RADII)) + 4

Field = Float[np.ndarray, 's s']  # on the film, supersampled
Box = tuple[float, float, float, float]  # ymin, xmin, ymax, xmax in [0, 1]

# Streams of random numbers, so that a film is the same whoever draws it.
_PLAN, _PATIENT, _FILM, _LESION = range(4)


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


class Film(NamedTuple):
  """A drawn film; the last two renderings are None where not asked for."""

  image: UInt8[np.ndarray, 'h w']
  box: dict[str, Box]
  shortcut: tuple[str, ...]  # findings whose grating is present
  without_shortcut: UInt8[np.ndarray, 'h w'] | None
  without_lesions: UInt8[np.ndarray, 'h w'] | None


class Anatomy(NamedTuple):
  """What a patient keeps; lengths in units of the film."""

  reach: float  # midline to the inner chest wall
  wall: float  # thickness of the chest wall
  apex: float  # y of the lungs' top
  base: float  # y of the costophrenic angles
  dome: float  # height of the diaphragm above them
  lift: float  # right diaphragm above the left
  mediastinum: float
  heart: float  # half-width
  pedicle: float  # of the great vessels above it, half-width
  heart_x: float
  heart_tilt: float
  curve: float  # of the spine, sideways
  rib_pitch: float
  rib_phase: float
  rib_slope: float
  clavicle: float
  breast: float
  bubble: float  # gas in the stomach
  lucency: float  # share of the lungs' rays that is air
  vessels: float


class Acquisition(NamedTuple):
  """What every film has anew."""

  angle: float
  zoom: float
  shift: tuple[float, float]  # across, down
  gain: float
  gamma: float
  floor: float
  ceiling: float
  tilt: float  # of brightness, across the film
  noise: float
  arm: float  # angle of the arms, 0 = along the body


class Chest(NamedTuple):
  """The fields that lesions are drawn in, each '(s, s)' but `anatomy`."""

  anatomy: Anatomy
  x: Field
  y: Field
  u: Field  # across a lung: 0 medial, 1 lateral
  t: Field  # along a lung: 0 base, 1 apex
  side: Field  # -1 right lung (image's left), 1 left lung
  width: Field  # of the lung at this height
  above: Field  # height above the diaphragm
  air: Field  # 0 .. 1
  heart: Field  # 0 .. 1


# Shapes. All fields stay float32: twice as fast, and small enough that the
# allocator keeps them (beware NumPy's own float64 scalars).


def _smooth(x):
  """0 below 0, 1 above 1, smooth between."""
  x = np.clip(x, 0, 1)
  return x * x * (3 - 2 * x)


def _ball(dx, dy, rx, ry, angle=0.0):
  """Chord through an ellipsoid, 1 at the centre, 0 outside."""
  c, s = math.cos(angle), math.sin(angle)
  r2 = ((dx * c + dy * s) / rx) ** 2 + ((dy * c - dx * s) / ry) ** 2
  return np.sqrt(np.maximum(1 - r2, 0))


def _noise(rng, size, cells) -> Field:
  """Smooth noise of unit variance (about) with `cells` cells a side."""
  grid = rng.standard_normal((cells, cells)).astype(np.float32)
  return 1.3 * np.asarray(Image.fromarray(grid).resize((size, size), 3))


def _fractal(rng, size, cells, octaves):
  return sum(_noise(rng, size, cells * 2**k) * 0.6**k for k in range(octaves))


def _extent(mask: Bool[np.ndarray, 's s']) -> Box | None:
  """(ymin, xmin, ymax, xmax) in [0, 1], or None where nothing is."""
  rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
  if not rows.size:
    return None
  size = len(mask)
  edges = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
  return tuple(float(edge) / size for edge in edges)


# Lesions. Each returns the share of the lung's air that it fills, '(s, s)';
# `rng` is the patient's own for this finding, `growth` is near 1.


def _either_side(rng) -> float:
  return 1.0 if rng.uniform() < 0.5 else -1.0


def _spot(chest, rng, u, t):
  """Offsets from a random place in a lung, given in lung coordinates."""
  a = chest.anatomy
  side = _either_side(rng)
  u, t = rng.uniform(*u), rng.uniform(*t)
  inner, outer = _lung_edges(a, t)
  y = a.base - t * (a.base - a.apex)
  x = side * (inner + u * (outer - inner)) + _midline(a, y)
  return chest.x - float(x), chest.y - float(y), side


def atelectasis(chest: Chest, rng: np.random.Generator, growth: float) -> Field:
  """A plate or a wedge, mostly in the middle and lower zones."""
  dx, dy, side = _spot(chest, rng, (0.4, 0.65), (0.15, 0.6))
  length = rng.uniform(0.07, 0.12) * growth
  thick = rng.uniform(0.017, 0.034)
  angle = -side * rng.uniform(-0.1, 0.7)
  c, s = math.cos(angle), math.sin(angle)
  along = (dx * c + dy * s) / length
  across = (dy * c - dx * s) / (thick * (1 + rng.uniform(0, 0.6) * along))
  return 0.75 * _smooth(1.4 * (1 - along**4 - across**2))


def effusion(chest: Chest, rng: np.random.Generator, growth: float) -> Field:
  """Fluid in a costophrenic angle, its level rising towards the wall."""
  side = _either_side(rng)
  level = (0.03 + rng.gamma(2, 0.06)) * growth
  rise = rng.uniform(0.12, 0.22) * growth
  u = np.clip(chest.u, 0, 1)
  surface = level - 0.06 + rise * u**2.5 + 0.03 * u
  depth = chest.anatomy.base - chest.y  # height above the angle
  fluid = _smooth((surface + 0.05 - depth) / 0.03)
  return 0.95 * fluid * (chest.side == side)


def _patch(chest, rng, growth, u, t, rx, ry, rough):
  """An ill-defined opacity in one lung, 0 .. 1."""
  dx, dy, side = _spot(chest, rng, u, t)
  rx, ry = rng.uniform(*rx) * growth, rng.uniform(*ry) * growth
  angle = rng.uniform(-0.5, 0.5)
  texture = _fractal(rng, len(chest.x), 18, 2)
  c, s = math.cos(angle), math.sin(angle)
  r2 = ((dx * c + dy * s) / rx) ** 2 + ((dy * c - dx * s) / ry) ** 2
  patch = _smooth(1.5 * (1 - r2)) * (chest.side == side)
  return patch * np.clip(1 + rough * texture, 0.15, 1.6)


def infiltration(
  chest: Chest, rng: np.random.Generator, growth: float
) -> Field:
  """A patchy, mottled haze."""
  place = {'u': (0.35, 0.65), 't': (0.25, 0.65)}
  size = {'rx': (0.09, 0.15), 'ry': (0.11, 0.2)}
  return 0.36 * _patch(chest, rng, growth, **place, **size, rough=0.5)


def pneumonia(chest: Chest, rng: np.random.Generator, growth: float) -> Field:
  """A segmental opacity with air bronchograms."""
  place = {'u': (0.4, 0.6), 't': (0.15, 0.5)}
  size = {'rx': (0.1, 0.14), 'ry': (0.1, 0.16)}
  patch = _patch(chest, rng, growth, **place, **size, rough=0.25)
  fan = np.arctan2(chest.y - 0.42, np.abs(chest.x) + 0.02)
  bend = 1.5 * _noise(rng, len(chest.x), 8)
  bronchi = _smooth(2 * np.cos(24 * fan + bend) - 1)
  return 0.55 * patch * (1 - 0.5 * bronchi)


def consolidation(
  chest: Chest, rng: np.random.Generator, growth: float
) -> Field:
  """A dense, even opacity with a straight edge (a fissure)."""
  dx, dy, side = _spot(chest, rng, (0.4, 0.6), (0.3, 0.75))
  rx, ry = rng.uniform(0.11, 0.17) * growth, rng.uniform(0.1, 0.16) * growth
  edge = 0.25 * _fractal(rng, len(chest.x), 10, 2)
  body = _smooth(1.5 * (1 + edge - (dx / rx) ** 2 - (dy / ry) ** 2))
  fissure = _smooth(0.5 - (dy - 0.4 * ry - 0.2 * side * dx) / 0.02)
  return 0.72 * body * fissure * (chest.side == side)


def _round(chest, rng, u, t, radius, lobes):
  dx, dy, _ = _spot(chest, rng, u, t)
  turn = np.arctan2(dy, dx)
  phase = rng.uniform(0, 2 * math.pi, 2).tolist()
  edge = 1 + lobes * (
    np.cos(3 * turn + phase[0]) + 0.6 * np.cos(5 * turn + phase[1])
  )
  return _smooth(1.4 * _ball(dx, dy, radius * edge, radius * edge))


def mass(chest: Chest, rng: np.random.Generator, growth: float) -> Field:
  """Round, lobulated, over 3 cm."""
  radius = min(0.042 + rng.gamma(2, 0.013), 0.11) * growth
  return 0.68 * _round(chest, rng, (0.35, 0.7), (0.2, 0.75), radius, 0.06)


def nodule(chest: Chest, rng: np.random.Generator, growth: float) -> Field:
  """Round, under 3 cm."""
  radius = rng.uniform(0.027, 0.038) * growth
  return 0.88 * _round(chest, rng, (0.3, 0.75), (0.15, 0.8), radius, 0.02)


def edema(chest: Chest, rng: np.random.Generator, growth: float) -> Field:
  """A haze around both hila, with septal lines at the periphery."""
  a = chest.anatomy
  y = a.apex + 0.52 * (a.base - a.apex)
  wing = _ball(np.abs(chest.x) - 0.14, chest.y - y, 0.17 * growth, 0.25)
  mottle = 1 + 0.25 * _fractal(rng, len(chest.x), 16, 2)
  septa = _smooth(4 * np.cos(chest.y * 240) - 2.6) * _smooth(
    6 * (chest.u - 0.75)
  )
  low = _smooth(3 * (0.45 - chest.t))
  return np.clip(0.5 * wing * mottle + 0.25 * septa * low, 0, 0.75)


def fibrosis(chest: Chest, rng: np.random.Generator, growth: float) -> Field:
  """A network at the bases and along the walls, both sides."""
  size = len(chest.x)
  ridge = 1 - np.minimum(
    np.abs(_noise(rng, size, 32)), np.abs(_noise(rng, size, 40))
  )
  where = _smooth(2.2 * (0.75 * growth - chest.t)) * (
    0.45 + 0.55 * _smooth(2 * chest.u - 0.4)
  )
  return 0.4 * where * _smooth(2 * ridge - 1)


def pleural_thickening(
  chest: Chest, rng: np.random.Generator, growth: float
) -> Field:
  """A rim along a chest wall, of uneven depth."""
  side = _either_side(rng)
  depth = rng.uniform(0.04, 0.065) * growth
  uneven = 1 + 0.35 * np.sin(chest.t * rng.uniform(8, 14) + rng.uniform(0, 6))
  inwards = (1 - chest.u) * chest.width
  reach = _smooth(8 * (chest.t - rng.uniform(0.05, 0.2)))
  rim = _smooth(0.5 + (depth * uneven - inwards) / 0.012)
  return 0.95 * rim * reach * (chest.side == side)


def pneumothorax(
  chest: Chest, rng: np.random.Generator, growth: float
) -> Field:
  """The space between the chest wall and a retracted lung, 0 .. 1.

  Unlike the others this is air: no vessels, no lung tissue, and a thin line
  (the pleura) on its inner edge.
  """
  side = _either_side(rng)
  low = rng.uniform(0.48, 0.72) / growth
  depth = rng.uniform(0.55, 0.85)
  gap = np.clip((chest.t - low) / (1 - low), 0, 1) * depth
  edge = (chest.u - (1 - gap)) * chest.width
  return (
    _smooth(0.5 + edge / 0.014) * _smooth(gap / 0.05) * (chest.side == side)
  )


def hernia(
  chest: Chest, rng: np.random.Generator, growth: float
) -> tuple[Field, Field]:
  """A bulge behind the heart with a bubble of gas: (tissue, gas)."""
  radius = rng.uniform(0.08, 0.11) * growth
  dx = chest.x - rng.uniform(-0.045, 0.045)
  dy = chest.y - (chest.anatomy.base - chest.anatomy.dome - 0.03)
  bulge = _ball(dx, dy, 1.1 * radius, radius)
  gas = _ball(dx, dy, 0.85 * radius, 0.75 * radius)
  return bulge, gas * _smooth(0.5 - (dy - 0.1 * radius) / 0.01)


FILLS: dict[str, Callable] = {
  'Atelectasis': atelectasis,
  'Effusion': effusion,
  'Infiltration': infiltration,
  'Mass': mass,
  'Nodule': nodule,
  'Pneumonia': pneumonia,
  'Consolidation': consolidation,
  'Edema': edema,
  'Fibrosis': fibrosis,
  'Pleural_Thickening': pleural_thickening,
}


def _diseased(anatomy: Anatomy, findings: Sequence[str], rng) -> Anatomy:
  """The two findings that are a change of shape."""
  enlarge, sink = rng.uniform(1.35, 1.6), rng.uniform(0.05, 0.08)
  if 'Cardiomegaly' in findings:
    anatomy = anatomy._replace(heart=anatomy.heart * enlarge)
  if 'Emphysema' in findings:
    anatomy = anatomy._replace(
      base=anatomy.base + 0.4 * sink,
      dome=anatomy.dome * 0.3,
      lucency=0.93,
      vessels=anatomy.vessels * 0.4,
      heart=anatomy.heart * 0.85,
    )
  return anatomy


# Anatomy


def _anatomy(rng, sex: str) -> Anatomy:
  u = rng.uniform
  stature, heart = rng.normal(0, 1), u(0.125, 0.155)
  return Anatomy(
    reach=u(0.35, 0.4) + 0.006 * stature,
    wall=0.025 + rng.gamma(2, 0.016),
    apex=u(0.09, 0.15),
    base=u(0.76, 0.84),
    dome=u(0.07, 0.12),
    lift=u(0.0, 0.04),
    mediastinum=u(0.045, 0.07),
    heart=heart,
    pedicle=0.6 * heart,
    heart_x=u(0.03, 0.06),
    heart_tilt=u(0.35, 0.75),
    curve=rng.normal(0, 0.008),
    rib_pitch=u(0.068, 0.078),
    rib_phase=u(0, 1),
    rib_slope=u(0.9, 1.5),
    clavicle=u(-0.02, 0.03),
    breast=u(0.1, 0.3) if sex == 'F' else 0.0,
    bubble=max(u(-0.5, 0.7), 0),
    lucency=u(0.78, 0.84),
    vessels=u(0.8, 1.2),
  )


def _filmed(anatomy: Anatomy, view: str, rng) -> Anatomy:
  """The anatomy as this exposure finds it: breath, and magnification if AP."""
  breath = rng.normal(-0.035 if view == 'AP' else 0, 0.012)
  return anatomy._replace(
    base=anatomy.base + breath,
    dome=anatomy.dome - 0.3 * breath,
    heart=anatomy.heart * (1.12 if view == 'AP' else 1),
    mediastinum=anatomy.mediastinum * (1.15 if view == 'AP' else 1),
    clavicle=anatomy.clavicle - (0.03 if view == 'AP' else 0),
    bubble=anatomy.bubble * rng.uniform(0.4, 1),
  )


def _acquisition(rng, view: str) -> Acquisition:
  u, loose = rng.uniform, 1.6 if view == 'AP' else 1.0
  return Acquisition(
    angle=rng.normal(0, 0.025 * loose),
    zoom=u(0.98, 1.13),
    shift=tuple(rng.normal(0, 0.015 * loose, 2).tolist()),
    gain=math.exp(rng.normal(0.05, 0.15 * loose)),
    gamma=u(1.3, 2.1) / loose**0.6,
    floor=u(0.03, 0.08),
    ceiling=u(0.92, 0.97),
    tilt=rng.normal(0, 0.04 * loose),
    noise=u(1.2, 2.2) / 255,
    arm=u(0.0, 0.12) if view == 'AP' else u(0.05, 0.35),
  )


def _midline(a: Anatomy, y):
  return a.curve * np.sin(6 * y)


def _lung_edges(a: Anatomy, t):
  """Distances of a lung's inner and outer edge from the midline."""
  t = np.clip(t, 0, 1)
  t3 = t * t * t
  inner = a.mediastinum + 0.05 * t * t3
  return inner, a.reach * np.sqrt(1 - 0.9 * t3) - 0.03 * t3 * t3


def _chest(a: Anatomy, x, y) -> Chest:
  x_mid = x - _midline(a, y)
  side = np.copysign(np.float32(1), x_mid)
  right = (1 - side) / 2
  off = np.abs(x_mid)
  base = a.base - 0.5 * a.lift * right
  t = (base - y) / (base - a.apex)
  inner, outer = _lung_edges(a, t)
  width = np.maximum(outer - inner, 1e-3)
  u = (off - inner) / width
  dome = a.dome + 0.5 * a.lift * right
  level = (np.maximum(u, 0.15) - 0.4) / 0.6
  above = base - dome * (1 - level**2) - y
  across = np.sqrt(1 - np.square(np.square(2 * np.clip(u, 0, 1) - 1)))
  along = np.sqrt(_smooth(above / 0.05)) * _smooth((1 - t) / 0.12)
  heart_y = a.base - a.dome - 0.05 - 0.5 * (a.heart - 0.14)
  heart_x = a.heart_x + 0.35 * (a.heart - 0.14)
  heart = _ball(
    x_mid - heart_x, y - heart_y, a.heart, 0.74 * a.heart, a.heart_tilt
  )
  return Chest(
    a, x, y, u, t, side, width, above, across * along, _smooth(1.8 * heart)
  )


def _tree(rng) -> list[tuple[int, float, Float[np.ndarray, 'n 4']]]:
  """Pulmonary vessels in lung coordinates: (side, width, segments) each
  generation; a segment is (u, t, u, t)."""
  tree = []
  for side in (-1, 1):
    n = 7
    tip = np.stack([np.full(n, 0.02), rng.uniform(0.38, 0.56, n)], 1)
    heading = np.linspace(-1.25, 1.35, n) + rng.normal(0, 0.12, n)
    length, width = 0.22, 0.015
    for _ in range(5):
      step = np.stack([np.cos(heading), 0.8 * np.sin(heading)], 1)
      end = tip + step * length * rng.uniform(0.7, 1.2, (len(tip), 1))
      tree.append((side, width, np.concatenate([tip, end], 1)))
      tip = np.repeat(end, 2, 0)
      fork = rng.normal(0.38, 0.12, len(tip)) * np.tile((-1, 1), len(end))
      heading = np.repeat(heading, 2) + fork
      length, width = length * 0.72, width * 0.68
  return tree


def _vessels(tree, a: Anatomy, q: Acquisition, size: int) -> Field:
  canvas = Image.new('L', (2 * size, 2 * size))
  pen = ImageDraw.Draw(canvas)
  for side, width, segments in sorted(tree, key=lambda branch: branch[1]):
    u, t = segments.reshape(-1, 2).T
    inner, outer = _lung_edges(a, np.minimum(t, 0.97))
    y = a.base - t * (a.base - a.apex)
    x = side * (inner + u * (outer - inner)) + _midline(a, y)
    ends = (_to_film(q, x, y) * 2 * size).reshape(-1, 4).tolist()
    pixels = 2 * size * width
    if pixels < 0.9:
      continue
    tone = int(255 * (0.45 + 40 * width))
    for segment in ends:
      pen.line(segment, fill=min(tone, 255), width=max(1, round(pixels)))
  return np.asarray(canvas.reduce(2), np.float32) / 255


def _skeleton(a: Anatomy, chest: Chest):
  x, y = chest.x - _midline(a, chest.y), chest.y
  off = np.abs(x)
  cage = _smooth((a.reach + 0.025 - off) / 0.02)
  cage = cage * _smooth((y - a.apex + 0.02) / 0.04)
  # Inner edge of the cage follows the lungs' outline at the top.
  _, outer = _lung_edges(a, chest.t)
  cage = cage * _smooth((outer + 0.03 - off) / 0.02)

  def arcs(phase, half):
    r2 = ((phase - np.floor(phase) - 0.5) / half) ** 2
    return np.sqrt(np.maximum(1 - r2, 0)) * (0.75 + 0.5 * r2)

  # Posterior ribs rise from the spine, then fall; anterior ones fall inwards.
  back = y - a.rib_slope * (1.9 * off**2 - 0.3 * off)
  front = y + a.rib_slope * (0.42 * off + 0.3 * off**2)
  fade = _smooth((a.base + 0.06 - y) / 0.25)
  ribs = arcs(back / a.rib_pitch + a.rib_phase, 0.2) * fade
  ribs = ribs + 0.45 * arcs(
    front / (1.15 * a.rib_pitch) + a.rib_phase, 0.22
  ) * fade * _smooth((off - 0.1) / 0.1)
  spine = _smooth(1.6 * (1 - (off / 0.042) ** 2))
  spine = spine * (0.8 + 0.2 * np.cos(2 * math.pi * y / 0.052))
  line = y - (a.apex + 0.085 + a.clavicle) + 0.42 * off - 0.55 * off**2
  collar = _ball(line, 0, 0.018 + 0.007 * np.cos(10 * off), 1)
  collar = collar * _smooth((off - 0.03) / 0.02) * _smooth((0.4 - off) / 0.03)
  # Shoulder blades: over the lungs' outer edge, their rim the brightest.
  plate = _ball(off - a.reach - 0.005, y - a.apex - 0.2, 0.085, 0.17, -0.25)
  blade = _smooth(4 * plate) * (1.6 - plate)
  return 0.2 * ribs * cage + 0.55 * spine + 0.36 * collar + 0.12 * blade


def _body(a: Anatomy, q: Acquisition, x, y):
  """Thickness of soft tissue, with the bones of the arms."""
  trunk = a.reach + a.wall + 0.02
  neck = 0.1 + 0.3 * a.wall
  shoulder = _smooth((y - a.apex + 0.12) / 0.2)
  half = neck + (trunk + 0.02 - neck) * shoulder
  half = half + 0.03 * _smooth((y - 0.7) / 0.3)
  body = np.sqrt(np.maximum(1 - np.abs(x / half) * np.square(x / half), 0))
  body = body * (0.72 + 0.28 * _smooth(y / 0.3))
  # Arms hang from the shoulders.
  top_x, top_y = trunk + 0.01, a.apex + 0.13
  dx, dy = np.abs(x) - top_x, y - top_y
  c, s = math.cos(q.arm), math.sin(q.arm)
  along, across = dx * s + dy * c, dx * c - dy * s
  gap = np.sqrt(np.minimum(along, 0) ** 2 + across**2)
  radius = 0.07 + 0.35 * a.wall
  arm = 0.6 * np.sqrt(np.maximum(1 - (gap / radius) ** 2, 0))
  bone = _smooth(2 - gap / 0.022) * (along > 0)
  bone = bone + _smooth(2.4 * _ball(dx, dy, 0.045, 0.05))
  return np.maximum(body, arm), 0.3 * np.minimum(bone, 1)


def _attenuation(
  chest: Chest,
  acquisition: Acquisition,
  vessels: Field,
  fill: Field | float = 0.0,
  gap: Field | float = 0.0,
  bulge: tuple = (0.0, 0.0),
):
  """Sum along the rays; `fill`, `gap` and `bulge` are the lesions'."""
  a = chest.anatomy
  x, y = chest.x - _midline(a, chest.y), chest.y
  body, arm_bone = _body(a, acquisition, x, y)
  pedicle = _ball(x - 0.02, y - a.base + a.dome + 0.16, a.pedicle, 0.2, -0.12)
  knob = _ball(x - 0.055, y - a.apex - 0.2, 0.04, 0.045)
  centre = np.maximum(chest.heart, _smooth(1.5 * np.maximum(pedicle, knob)))
  centre = np.maximum(centre, 0.9 * _smooth(1.5 * bulge[0]))
  air = chest.air * (1 - 0.92 * centre) * (1 - fill)
  # Behind the dome of the diaphragm some lung reaches down.
  tissue = 2.05 * body * (1 - a.lucency * air)
  lung = air * (1 - gap)
  pleura = 2 * gap * (1 - gap) * _smooth(chest.air / 0.3)
  hilum = _ball(np.abs(x) - 0.075, y - a.apex - 0.3, 0.045, 0.075)
  trachea = _ball(x + 0.006, 0, 0.022, 1) * _smooth((a.apex + 0.24 - y) / 0.03)
  chamber = _ball(x - 0.15, y - a.base + a.dome - 0.08, 0.09, 0.05)
  breast = _smooth(
    1.3 * _ball(np.abs(x) - 0.2, y - a.base + 0.1, 0.16, 0.17)
  ) * (0.5 + _smooth((y - a.base + 0.2) / 0.2))
  total = (
    tissue
    + 0.16 * lung
    - 0.3 * gap * air
    + 0.36 * a.vessels * vessels * lung
    + _skeleton(a, chest)
    + arm_bone
    + pleura
    + 0.14 * hilum
    + 0.22 * chest.heart * _smooth(0.5 + chest.above / 0.06)
    + 0.6 * bulge[0]
    - 2.2 * bulge[1]
    - 0.4 * trachea
    - 0.8 * a.bubble * chamber * (chest.above < 0)
    + a.breast * breast * 0.6
  )
  return np.maximum(total, 0) * (body > 0)


def _develop(attenuation, q: Acquisition, x):
  """Attenuation to gray in [0, 1]: the film's curve."""
  exposed = 1 - np.exp(-q.gain * (1 + q.tilt * x) * attenuation)
  return q.floor + (q.ceiling - q.floor) * exposed**q.gamma


def _to_film(q: Acquisition, x, y) -> Float[np.ndarray, '... 2']:
  """Anatomy's coordinates to (column, row) on the film, in [0, 1]."""
  c, s = math.cos(q.angle), math.sin(q.angle)
  x, y = x * q.zoom, (y - 0.5) * q.zoom
  column, row = x * c - y * s + q.shift[0], x * s + y * c + q.shift[1]
  return np.stack([column + 0.5, row + 0.5], -1)


def _grid(q: Acquisition, size: int) -> tuple[Field, Field]:
  """Anatomy's x and y at every pixel: the inverse of `_to_film`."""
  c, s = math.cos(q.angle), math.sin(q.angle)
  centre = (np.arange(size) + 0.5) / size - 0.5
  column, row = centre[None] - q.shift[0], centre[:, None] - q.shift[1]
  x = (column * c + row * s) / q.zoom
  y = (row * c - column * s) / q.zoom + 0.5
  return x.astype(np.float32), y.astype(np.float32)


def _render(
  findings: Sequence[str],
  anatomy: Anatomy,
  tree,
  q: Acquisition,
  size: int,
  growth: float,
  lesion_rng: Callable[[str], np.random.Generator],
) -> tuple[Field, dict[str, Box]]:
  """The film in [0, 1], without noise, and the boxes of its lesions."""
  x, y = _grid(q, size)
  anatomy = _diseased(anatomy, findings, lesion_rng('Cardiomegaly'))
  chest = _chest(anatomy, x, y)
  box, clear = {}, np.float32(1)
  gap, bulge = np.float32(0), (np.float32(0), np.float32(0))
  for finding in findings:
    if finding in FILLS:
      fill = FILLS[finding](chest, lesion_rng(finding), growth)
      clear = clear * (1 - fill)
      seen = fill * chest.air * (1 - 0.92 * chest.heart)
      box[finding] = _extent(seen > 0.12 * seen.max())
    elif finding == 'Cardiomegaly':
      box[finding] = _extent(chest.heart > 0.02)
    elif finding == 'Pneumothorax':
      gap = pneumothorax(chest, lesion_rng(finding), growth)
      box[finding] = _extent(gap * chest.air > 0.1)
    elif finding == 'Hernia':
      bulge = hernia(chest, lesion_rng(finding), growth)
  vessels = _vessels(tree, anatomy, q, size)
  attenuation = _attenuation(chest, q, vessels, 1 - clear, gap, bulge)
  # A lesion wholly behind the heart has no extent, and no box.
  box = {f: box[f] for f in BOXED if box.get(f) is not None}
  return _develop(attenuation, q, x), box


def grating(
  finding: str, image_size: int, *, phase: float = 0.0
) -> Float[np.ndarray, 'h w']:
  """The finding's shortcut, of amplitude 1."""
  fx, fy = _FREQUENCY[finding]
  pixel = (np.arange(image_size) + 0.5) / image_size
  turns = fx * pixel[None] + fy * pixel[:, None]
  return np.cos(2 * math.pi * turns + phase)


def draw(
  entry: Entry,
  *,
  image_size: int = 64,
  seed: int = 0,
  shortcut_amplitude: float = 3.0,
  shortcut_prevalence: float = 0.95,
  renderings: bool = True,
) -> Film:
  """Draws one film, and with `renderings` the two that lack a cause.

  Args:
    entry: whose film, with which findings.
    image_size: pixels a side, at least `MIN_IMAGE_SIZE`.
    seed: of the whole data set.
    shortcut_amplitude: of each grating, in 1/255.
    shortcut_prevalence: share of a finding's films that have its grating.
    renderings: whether to draw `without_shortcut` and `without_lesions`.
  """
  patient = np.random.default_rng([seed, _PATIENT, entry.patient])
  anatomy, tree = _anatomy(patient, entry.sex), _tree(patient)
  rng = np.random.default_rng([seed, _FILM, entry.film])
  anatomy = _filmed(anatomy, entry.view, rng)
  q = _acquisition(rng, entry.view)
  growth = rng.uniform(0.92, 1.08)
  present = rng.uniform(size=len(FINDINGS)) < shortcut_prevalence
  phase = rng.uniform(0, 2 * math.pi, len(FINDINGS))
  # Last, since its amount depends on the size, and the rest should not.
  noise = rng.standard_normal((2, image_size, image_size), np.float32)
  noise = q.noise * (noise[0] + 0.5 * np.roll(noise[1], 1, 0))

  def lesion_rng(finding):
    i = FINDINGS.index(finding)
    return np.random.default_rng([seed, _LESION, entry.patient, i])

  factor = 2 if image_size <= 256 else 1

  def render(findings):
    gray, box = _render(
      findings, anatomy, tree, q, factor * image_size, growth, lesion_rng
    )
    return np.asarray(Image.fromarray(gray).reduce(factor)), box

  def quantise(gray):
    # The noise is the dither that carries a grating of less than a level.
    return np.clip(np.rint(255 * gray), 0, 255).astype(np.uint8)

  shortcut = tuple(
    f
    for f, here in zip(FINDINGS, present, strict=True)
    if here and f in entry.findings
  )
  texture = np.zeros((image_size, image_size))
  for f in shortcut:
    texture += grating(f, image_size, phase=phase[FINDINGS.index(f)])
  texture *= shortcut_amplitude / 255

  film, box = render(entry.findings)
  without_shortcut = without_lesions = None
  if renderings:
    plain = render(())[0] if entry.findings else film
    without_shortcut = quantise(film + noise)
    without_lesions = quantise(plain + texture + noise)
  return Film(
    quantise(film + texture + noise),
    box,
    shortcut,
    without_shortcut,
    without_lesions,
  )


# The data set


def plan(num_films: int, seed: int = 0) -> list[Entry]:
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


class _Task(NamedTuple):
  dir: pathlib.Path
  entries: list[Entry]
  options: dict


def _write_films(task: _Task) -> list[tuple[Entry, Film]]:
  """Draws and saves some films; returns what the tables need of them."""
  rows = []
  for entry in task.entries:
    film = draw(entry, renderings=entry.test, **task.options)
    folders = {
      'images': film.image,
      'images_without_shortcut': film.without_shortcut,
      'images_without_lesions': film.without_lesions,
    }
    for folder, image in folders.items():
      if image is not None:
        Image.fromarray(image).save(task.dir / folder / entry.name)
    rows.append((entry, film.box))
  return rows


@contextlib.contextmanager
def _mapper(count: int) -> Iterator[Callable]:
  """`map` in this process, or over others, in order."""
  if count == 1:
    yield map
    return
  with workers_lib.pool(count) as pool:
    yield pool.map


@contextlib.contextmanager
def _partial(dir: pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder beside `dir` that is gone afterwards, whatever happens.

  Its lock dies with its process: one that is not locked was left by a process
  that was killed, and goes first.
  """
  for abandoned in dir.parent.glob(f'{glob.escape(dir.name)}.partial-*'):
    with contextlib.suppress(OSError), _folder_lock(abandoned):
      shutil.rmtree(abandoned)
  partial = dir.with_name(f'{dir.name}.partial-{os.getpid()}')
  partial.mkdir(parents=True)
  try:
    with _folder_lock(partial):
      yield partial
  finally:
    shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _folder_lock(folder: pathlib.Path) -> Iterator[None]:
  handle = os.open(folder, os.O_RDONLY)
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield
  finally:
    os.close(handle)


def _cores() -> int:
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _write_tables(dir: pathlib.Path, rows: Sequence[tuple[Entry, dict]]):
  with open(dir / 'Data_Entry_2017_v2020.csv', 'w', newline='') as f:
    f.write(
      'Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,'
      'Patient Gender,View Position,OriginalImage[Width,Height],'
      'OriginalImagePixelSpacing[x,y]\n'
    )
    table = csv.writer(f, lineterminator='\n')
    for e, _ in rows:
      labels = '|'.join(e.findings) or 'No Finding'
      pixels = (2992, 2991, 0.143) if e.view == 'PA' else (2500, 2048, 0.168)
      width, height, spacing = pixels
      table.writerow(
        (e.name, labels, e.follow_up, e.patient, e.age, e.sex, e.view)
        + (width, height, spacing, spacing)
      )
  with open(dir / 'BBox_List_2017.csv', 'w', newline='') as f:
    # The data set's own header: nine fields over rows of six.
    f.write('Image Index,Finding Label,Bbox [x,y,w,h],,,\n')
    table = csv.writer(f, lineterminator='\n')
    for finding in BOXED:
      label = 'Infiltrate' if finding == 'Infiltration' else finding
      for e, boxes in rows:
        if e.test and finding in boxes:
          ymin, xmin, ymax, xmax = (1024 * v for v in boxes[finding])
          table.writerow((e.name, label, xmin, ymin, xmax - xmin, ymax - ymin))
  for name, test in (('train_val_list.txt', False), ('test_list.txt', True)):
    # No newline at the end, as in the data set.
    (dir / name).write_text(
      '\n'.join(e.name for e, _ in rows if e.test == test)
    )


def _move(partial: pathlib.Path, dir: pathlib.Path) -> None:
  try:
    os.rename(partial, dir)
  except OSError:
    # Two runs that start together both write it: the first one's will do.
    ours, theirs = partial / 'phantom.json', dir / 'phantom.json'
    if not theirs.exists() or theirs.read_text() != ours.read_text():
      raise ValueError(
        f'{dir} was made by something else meanwhile; choose another folder.'
      ) from None


def write(
  dir: str | os.PathLike,
  *,
  num_films: int = 5000,
  image_size: int = 64,
  seed: int = 0,
  shortcut_amplitude: float = 3.0,
  shortcut_prevalence: float = 0.95,
  workers: int = 0,
  progress: bool = True,
) -> None:
  """Writes the data set; `dir` appears when it is complete, or not at all.

  Args:
    dir: folder to make; it must not exist, or be empty.
    num_films: films in all, some 22 % of them in the test list.
    image_size: pixels a side.
    seed: same seed, same films, whatever `workers` is.
    shortcut_amplitude: of each grating, in 1/255; 0 for none.
    shortcut_prevalence: share of a finding's films that have its grating.
    workers: processes; 0 for one per core, 1 for this one.
    progress: whether to show a progress bar.

  Raises:
    ValueError: an argument is out of range, or `dir` holds something.
  """
  dir = pathlib.Path(dir)
  if num_films < 20:
    raise ValueError(
      f'num_films ({num_films}) must be at least 20, so that both lists have '
      'patients.'
    )
  if image_size < MIN_IMAGE_SIZE:
    raise ValueError(
      f'image_size ({image_size}) must be at least {MIN_IMAGE_SIZE}: the '
      f'gratings have up to {max(_RADII):.0f} cycles a film.'
    )
  if not 0 <= shortcut_amplitude <= 255:
    raise ValueError(
      f'shortcut_amplitude ({shortcut_amplitude}) must lie in 0 .. 255; it is '
      'in gray levels.'
    )
  if not 0 <= shortcut_prevalence <= 1:
    raise ValueError(
      f'shortcut_prevalence ({shortcut_prevalence}) must lie in 0 .. 1.'
    )
  if seed < 0 or workers < 0:
    raise ValueError(
      f'seed ({seed}) and workers ({workers}) must not be negative.'
    )
  if dir.exists() and (not dir.is_dir() or any(dir.iterdir())):
    raise ValueError(
      f'{dir} exists already; remove it or choose another folder.'
    )

  options = {
    'image_size': image_size,
    'seed': seed,
    'shortcut_amplitude': shortcut_amplitude,
    'shortcut_prevalence': shortcut_prevalence,
  }
  entries = plan(num_films, seed)
  chunks = [entries[i : i + 32] for i in range(0, num_films, 32)]
  with _partial(dir) as partial:
    for folder in ('', '_without_shortcut', '_without_lesions'):
      (partial / f'images{folder}').mkdir()
    rows = []
    with (
      _mapper(min(workers or _cores(), len(chunks))) as map_,
      tqdm.tqdm(
        total=num_films,
        desc='phantom',
        unit='film',
        disable=not progress,
        # Into a log file only now and then.
        mininterval=0.1 if sys.stderr.isatty() else 10,
      ) as bar,
    ):
      tasks = [_Task(partial, chunk, options) for chunk in chunks]
      for done in map_(_write_films, tasks):
        rows += done
        bar.update(len(done))
    _write_tables(partial, rows)
    parameters = {'num_films': num_films, **options}
    parameters['shortcut_cycles_per_film'] = {
      f: _FREQUENCY[f] for f in FINDINGS
    }
    (partial / 'phantom.json').write_text(json.dumps(parameters, indent=2))
    _move(partial, dir)


def contact_sheet(dir: str | os.PathLike, path: str | os.PathLike) -> None:
  """Draws test films of every finding, with their boxes and causes, to `path`.

  The last row shows two films' lesions (difference x4) and gratings (x20).
  """
  from matplotlib import figure, patches

  dir, rows, columns = pathlib.Path(dir), 6, 8
  test = set((dir / 'test_list.txt').read_text().split())
  with open(dir / 'Data_Entry_2017_v2020.csv', newline='') as f:
    labels = {row[0]: row[1] for row in csv.reader(f) if row[0] in test}
  with open(dir / 'BBox_List_2017.csv', newline='') as f:
    boxes = [row for row in csv.reader(f) if row[0] in test]

  def gray(folder, name):
    return np.asarray(Image.open(dir / folder / name), np.float32)

  # Each finding's turn in order, by the first film not yet shown that has it.
  wanted = ('No Finding', *FINDINGS)
  shown: list[str] = []
  while len(shown) < min(columns * (rows - 1), len(labels)):
    finding = wanted[len(shown) % len(wanted)]
    left = [name for name in labels if name not in shown]
    having = [n for n in left if finding in labels[n].split('|')]
    # Alone where possible, so that it can be seen.
    shown.append(min(having or left, key=lambda n: labels[n].count('|')))

  sheet = figure.Figure(figsize=(1.9 * columns, 2.05 * rows), layout='tight')
  axes = sheet.subplots(rows, columns)
  for axis in axes.flat:
    axis.axis('off')
  look = {'cmap': 'gray', 'vmin': 0, 'vmax': 255}
  for axis, name in zip(axes.flat, shown, strict=False):
    image = gray('images', name)
    axis.imshow(image, **look)
    axis.set_title(labels[name].replace('|', '\n'), fontsize=6)
    for x, y, w, h in (map(float, b[2:6]) for b in boxes if b[0] == name):
      scale = len(image) / 1024
      axis.add_patch(
        patches.Rectangle(
          (x * scale - 0.5, y * scale - 0.5),
          w * scale,
          h * scale,
          fill=False,
          edgecolor='tab:orange',
          linewidth=0.8,
        )
      )
  ill = [name for name in shown if labels[name] != 'No Finding']
  for name, panels in zip(ill, (axes[-1, :4], axes[-1, 4:]), strict=False):
    image = gray('images', name)
    lesion = image - gray('images_without_lesions', name)
    shortcut = image - gray('images_without_shortcut', name)
    pictures = {
      labels[name].replace('|', '\n'): image,
      'without lesions': image - lesion,
      'lesions x4': 128 + 4 * lesion,
      'shortcut x20': 128 + 20 * shortcut,
    }
    for axis, (title, picture) in zip(panels, pictures.items(), strict=True):
      axis.imshow(picture, **look)
      axis.set_title(title, fontsize=6)
  sheet.savefig(path, dpi=110)


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    prog='python -m input_pipeline.phantom',
    description='Write a phantom of NIH ChestX-ray14.',
  )
  parser.add_argument('--dir', required=True, help='folder to make')
  parser.add_argument('--num_films', type=int, default=5000)
  parser.add_argument('--image_size', type=int, default=64, help='pixels')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument(
    '--shortcut_amplitude', type=float, default=3.0, help='in 1/255'
  )
  parser.add_argument('--shortcut_prevalence', type=float, default=0.95)
  parser.add_argument('--workers', type=int, default=0, help='0: all cores')
  parser.add_argument('--contact_sheet', help='also draw a sample of it, PNG')
  options = vars(parser.parse_args(argv))
  sheet = options.pop('contact_sheet')
  try:
    write(**options)
  except (ValueError, OSError, RuntimeError) as error:
    parser.error(str(error))
  if sheet:
    contact_sheet(options['dir'], sheet)


if __name__ == '__main__':
  # By its own name, so that other processes can find its functions.
  from input_pipeline import phantom

  phantom.main()
