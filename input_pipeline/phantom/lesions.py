"""The lesions of the fourteen findings.

A function of `FILLS` returns the share of the lung's air that the lesion fills,
a field '(s, s)'. `rng` is the patient's own for this finding, so that a lesion
lasts from film to film; `growth` is near 1 and changes from film to film.
Pneumothorax and Hernia are drawn otherwise and say how; Cardiomegaly and
Emphysema are changes of the anatomy (`diseased`).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from input_pipeline.phantom.anatomy import Anatomy, Chest, lung_edges, midline
from input_pipeline.phantom.shapes import Field, ball, fractal, noise, smooth


def _either_side(rng: np.random.Generator) -> float:
  return 1.0 if rng.uniform() < 0.5 else -1.0


def _spot(chest, rng, u, t):
  """Offsets from a random place in a lung, given in lung coordinates."""
  a = chest.anatomy
  side = _either_side(rng)
  u, t = rng.uniform(*u), rng.uniform(*t)
  inner, outer = lung_edges(a, t)
  y = a.base - t * (a.base - a.apex)
  x = side * (inner + u * (outer - inner)) + midline(a, y)
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
  return 0.75 * smooth(1.4 * (1 - along**4 - across**2))


def effusion(chest: Chest, rng: np.random.Generator, growth: float) -> Field:
  """Fluid in a costophrenic angle, its level rising towards the wall."""
  side = _either_side(rng)
  level = (0.03 + rng.gamma(2, 0.06)) * growth
  rise = rng.uniform(0.12, 0.22) * growth
  u = np.clip(chest.u, 0, 1)
  surface = level - 0.06 + rise * u**2.5 + 0.03 * u
  depth = chest.anatomy.base - chest.y  # height above the angle
  fluid = smooth((surface + 0.05 - depth) / 0.03)
  return 0.95 * fluid * (chest.side == side)


def _patch(chest, rng, growth, u, t, rx, ry, rough):
  """An ill-defined opacity in one lung, 0 .. 1."""
  dx, dy, side = _spot(chest, rng, u, t)
  rx, ry = rng.uniform(*rx) * growth, rng.uniform(*ry) * growth
  angle = rng.uniform(-0.5, 0.5)
  texture = fractal(rng, len(chest.x), 18, 2)
  c, s = math.cos(angle), math.sin(angle)
  r2 = ((dx * c + dy * s) / rx) ** 2 + ((dy * c - dx * s) / ry) ** 2
  patch = smooth(1.5 * (1 - r2)) * (chest.side == side)
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
  bend = 1.5 * noise(rng, len(chest.x), 8)
  bronchi = smooth(2 * np.cos(24 * fan + bend) - 1)
  return 0.55 * patch * (1 - 0.5 * bronchi)


def consolidation(
  chest: Chest, rng: np.random.Generator, growth: float
) -> Field:
  """A dense, even opacity with a straight edge (a fissure)."""
  dx, dy, side = _spot(chest, rng, (0.4, 0.6), (0.3, 0.75))
  rx, ry = rng.uniform(0.11, 0.17) * growth, rng.uniform(0.1, 0.16) * growth
  edge = 0.25 * fractal(rng, len(chest.x), 10, 2)
  body = smooth(1.5 * (1 + edge - (dx / rx) ** 2 - (dy / ry) ** 2))
  fissure = smooth(0.5 - (dy - 0.4 * ry - 0.2 * side * dx) / 0.02)
  return 0.72 * body * fissure * (chest.side == side)


def _round(chest, rng, u, t, radius, lobes):
  dx, dy, _ = _spot(chest, rng, u, t)
  turn = np.arctan2(dy, dx)
  phase = rng.uniform(0, 2 * math.pi, 2).tolist()
  edge = 1 + lobes * (
    np.cos(3 * turn + phase[0]) + 0.6 * np.cos(5 * turn + phase[1])
  )
  return smooth(1.4 * ball(dx, dy, radius * edge, radius * edge))


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
  wing = ball(np.abs(chest.x) - 0.14, chest.y - y, 0.17 * growth, 0.25)
  mottle = 1 + 0.25 * fractal(rng, len(chest.x), 16, 2)
  septa = smooth(4 * np.cos(chest.y * 240) - 2.6) * smooth(6 * (chest.u - 0.75))
  low = smooth(3 * (0.45 - chest.t))
  return np.clip(0.5 * wing * mottle + 0.25 * septa * low, 0, 0.75)


def fibrosis(chest: Chest, rng: np.random.Generator, growth: float) -> Field:
  """A network at the bases and along the walls, both sides."""
  size = len(chest.x)
  ridge = 1 - np.minimum(
    np.abs(noise(rng, size, 32)), np.abs(noise(rng, size, 40))
  )
  where = smooth(2.2 * (0.75 * growth - chest.t)) * (
    0.45 + 0.55 * smooth(2 * chest.u - 0.4)
  )
  return 0.4 * where * smooth(2 * ridge - 1)


def pleural_thickening(
  chest: Chest, rng: np.random.Generator, growth: float
) -> Field:
  """A rim along a chest wall, of uneven depth."""
  side = _either_side(rng)
  depth = rng.uniform(0.04, 0.065) * growth
  uneven = 1 + 0.35 * np.sin(chest.t * rng.uniform(8, 14) + rng.uniform(0, 6))
  inwards = (1 - chest.u) * chest.width
  reach = smooth(8 * (chest.t - rng.uniform(0.05, 0.2)))
  rim = smooth(0.5 + (depth * uneven - inwards) / 0.012)
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
  return smooth(0.5 + edge / 0.014) * smooth(gap / 0.05) * (chest.side == side)


def hernia(
  chest: Chest, rng: np.random.Generator, growth: float
) -> tuple[Field, Field]:
  """A bulge behind the heart with a bubble of gas: (tissue, gas)."""
  radius = rng.uniform(0.08, 0.11) * growth
  dx = chest.x - rng.uniform(-0.045, 0.045)
  dy = chest.y - (chest.anatomy.base - chest.anatomy.dome - 0.03)
  bulge = ball(dx, dy, 1.1 * radius, radius)
  gas = ball(dx, dy, 0.85 * radius, 0.75 * radius)
  return bulge, gas * smooth(0.5 - (dy - 0.1 * radius) / 0.01)


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


def diseased(
  body: Anatomy, findings: Sequence[str], rng: np.random.Generator
) -> Anatomy:
  """The anatomy, changed by the two findings that are a change of shape."""
  enlarge, sink = rng.uniform(1.35, 1.6), rng.uniform(0.05, 0.08)
  if 'Cardiomegaly' in findings:
    body = body._replace(heart=body.heart * enlarge)
  if 'Emphysema' in findings:
    body = body._replace(
      base=body.base + 0.4 * sink,
      dome=body.dome * 0.3,
      lucency=0.93,
      vessels=body.vessels * 0.4,
      heart=body.heart * 0.85,
    )
  return body
