"""A patient's anatomy, how a film was taken, and their picture without lesions.

`make_anatomy` draws what a patient keeps from film to film, `make_acquisition`
what every film has anew. `make_chest` lays the organs over the film's pixels,
`attenuate` sums what a ray passes through, `develop` turns the sum into gray.
Coordinates are those of the package's docstring.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from input_pipeline.phantom.shapes import Field, ball, smooth


class Anatomy(NamedTuple):
  """What a patient keeps from film to film; lengths in units of the film."""

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


# Pulmonary vessels in lung coordinates: for each generation of branches its
# side, its width, and its segments (u, t, u, t).
Tree = list[tuple[int, float, Float[np.ndarray, '_ 4']]]


class Acquisition(NamedTuple):
  """How a film was taken; anew for every film."""

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


def make_anatomy(rng: np.random.Generator, sex: str) -> Anatomy:
  """Draws a patient's anatomy."""
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


def expose(anatomy: Anatomy, view: str, rng: np.random.Generator) -> Anatomy:
  """The anatomy as one exposure shows it: breath, and magnification if AP."""
  breath = rng.normal(-0.035 if view == 'AP' else 0, 0.012)
  return anatomy._replace(
    base=anatomy.base + breath,
    dome=anatomy.dome - 0.3 * breath,
    heart=anatomy.heart * (1.12 if view == 'AP' else 1),
    mediastinum=anatomy.mediastinum * (1.15 if view == 'AP' else 1),
    clavicle=anatomy.clavicle - (0.03 if view == 'AP' else 0),
    bubble=anatomy.bubble * rng.uniform(0.4, 1),
  )


def make_acquisition(rng: np.random.Generator, view: str) -> Acquisition:
  """Draws how a film was taken; AP films, taken in bed, vary more."""
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


def midline(a: Anatomy, y):
  """The x of the spine at height y."""
  return a.curve * np.sin(6 * y)


def lung_edges(a: Anatomy, t):
  """Distances of a lung's inner and outer edge from the midline."""
  t = np.clip(t, 0, 1)
  t3 = t * t * t
  inner = a.mediastinum + 0.05 * t * t3
  return inner, a.reach * np.sqrt(1 - 0.9 * t3) - 0.03 * t3 * t3


def make_chest(a: Anatomy, x: Field, y: Field) -> Chest:
  """Lays the organs over the pixels whose anatomical coordinates are x, y."""
  x_mid = x - midline(a, y)
  side = np.copysign(np.float32(1), x_mid)
  right = (1 - side) / 2
  off = np.abs(x_mid)
  base = a.base - 0.5 * a.lift * right
  t = (base - y) / (base - a.apex)
  inner, outer = lung_edges(a, t)
  width = np.maximum(outer - inner, 1e-3)
  u = (off - inner) / width
  dome = a.dome + 0.5 * a.lift * right
  level = (np.maximum(u, 0.15) - 0.4) / 0.6
  above = base - dome * (1 - level**2) - y
  across = np.sqrt(1 - np.square(np.square(2 * np.clip(u, 0, 1) - 1)))
  along = np.sqrt(smooth(above / 0.05)) * smooth((1 - t) / 0.12)
  heart_y = a.base - a.dome - 0.05 - 0.5 * (a.heart - 0.14)
  heart_x = a.heart_x + 0.35 * (a.heart - 0.14)
  heart = ball(
    x_mid - heart_x, y - heart_y, a.heart, 0.74 * a.heart, a.heart_tilt
  )
  return Chest(
    a,
    x,
    y,
    u,
    t,
    side,
    width,
    above,
    across * along,
    smooth(1.8 * heart),
  )


def make_tree(rng: np.random.Generator) -> Tree:
  """Draws a patient's pulmonary vessels, forking from the hila outwards."""
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


def draw_vessels(tree: Tree, a: Anatomy, q: Acquisition, size: int) -> Field:
  """Draws the pulmonary vessels on the film; 0 to 1."""
  canvas = Image.new('L', (2 * size, 2 * size))
  pen = ImageDraw.Draw(canvas)
  for side, width, segments in sorted(tree, key=lambda branch: branch[1]):
    pixels = 2 * size * width
    if pixels < 0.9:
      continue
    u, t = segments.reshape(-1, 2).T
    inner, outer = lung_edges(a, np.minimum(t, 0.97))
    y = a.base - t * (a.base - a.apex)
    x = side * (inner + u * (outer - inner)) + midline(a, y)
    ends = (to_film(q, x, y) * 2 * size).reshape(-1, 4).tolist()
    tone = int(255 * (0.45 + 40 * width))
    for segment in ends:
      pen.line(segment, fill=min(tone, 255), width=max(1, round(pixels)))
  return np.asarray(canvas.reduce(2), np.float32) / 255


def _skeleton(a: Anatomy, chest: Chest) -> Field:
  """The bones of the trunk: ribs, spine, clavicles, shoulder blades."""
  x, y = chest.x - midline(a, chest.y), chest.y
  off = np.abs(x)
  cage = smooth((a.reach + 0.025 - off) / 0.02)
  cage = cage * smooth((y - a.apex + 0.02) / 0.04)
  # Inner edge of the cage follows the lungs' outline at the top.
  _, outer = lung_edges(a, chest.t)
  cage = cage * smooth((outer + 0.03 - off) / 0.02)

  def arcs(phase, half):
    r2 = ((phase - np.floor(phase) - 0.5) / half) ** 2
    return np.sqrt(np.maximum(1 - r2, 0)) * (0.75 + 0.5 * r2)

  # Posterior ribs rise from the spine, then fall; anterior ones fall inwards.
  back = y - a.rib_slope * (1.9 * off**2 - 0.3 * off)
  front = y + a.rib_slope * (0.42 * off + 0.3 * off**2)
  fade = smooth((a.base + 0.06 - y) / 0.25)
  ribs = arcs(back / a.rib_pitch + a.rib_phase, 0.2) * fade
  ribs = ribs + 0.45 * arcs(
    front / (1.15 * a.rib_pitch) + a.rib_phase, 0.22
  ) * fade * smooth((off - 0.1) / 0.1)
  spine = smooth(1.6 * (1 - (off / 0.042) ** 2))
  spine = spine * (0.8 + 0.2 * np.cos(2 * math.pi * y / 0.052))
  line = y - (a.apex + 0.085 + a.clavicle) + 0.42 * off - 0.55 * off**2
  collar = ball(line, 0, 0.018 + 0.007 * np.cos(10 * off), 1)
  collar = collar * smooth((off - 0.03) / 0.02) * smooth((0.4 - off) / 0.03)
  # Shoulder blades: over the lungs' outer edge, their rim the brightest.
  plate = ball(off - a.reach - 0.005, y - a.apex - 0.2, 0.085, 0.17, -0.25)
  blade = smooth(4 * plate) * (1.6 - plate)
  return 0.2 * ribs * cage + 0.55 * spine + 0.36 * collar + 0.12 * blade


def _body(a: Anatomy, q: Acquisition, x, y):
  """Thickness of soft tissue, with the bones of the arms."""
  trunk = a.reach + a.wall + 0.02
  neck = 0.1 + 0.3 * a.wall
  shoulder = smooth((y - a.apex + 0.12) / 0.2)
  half = neck + (trunk + 0.02 - neck) * shoulder
  half = half + 0.03 * smooth((y - 0.7) / 0.3)
  body = np.sqrt(np.maximum(1 - np.abs(x / half) * np.square(x / half), 0))
  body = body * (0.72 + 0.28 * smooth(y / 0.3))
  # Arms hang from the shoulders.
  top_x, top_y = trunk + 0.01, a.apex + 0.13
  dx, dy = np.abs(x) - top_x, y - top_y
  c, s = math.cos(q.arm), math.sin(q.arm)
  along, across = dx * s + dy * c, dx * c - dy * s
  gap = np.sqrt(np.minimum(along, 0) ** 2 + across**2)
  radius = 0.07 + 0.35 * a.wall
  arm = 0.6 * np.sqrt(np.maximum(1 - (gap / radius) ** 2, 0))
  bone = smooth(2 - gap / 0.022) * (along > 0)
  bone = bone + smooth(2.4 * ball(dx, dy, 0.045, 0.05))
  return np.maximum(body, arm), 0.3 * np.minimum(bone, 1)


def attenuate(
  chest: Chest,
  acquisition: Acquisition,
  vessels: Field,
  fill: Field | np.float32,
  gap: Field | np.float32,
  bulge: tuple[Field | np.float32, Field | np.float32],
) -> Field:
  """What the ray to each pixel has passed through, summed.

  Args:
    chest: the organs.
    acquisition: how the film was taken.
    vessels: brightness of the pulmonary vessels, as `draw_vessels` makes it.
    fill: share of the lung's air that lesions fill.
    gap: share of the lung's place that a pneumothorax takes.
    bulge: tissue and gas of a hernia.
  """
  a = chest.anatomy
  x, y = chest.x - midline(a, chest.y), chest.y
  body, arm_bone = _body(a, acquisition, x, y)
  pedicle = ball(x - 0.02, y - a.base + a.dome + 0.16, a.pedicle, 0.2, -0.12)
  knob = ball(x - 0.055, y - a.apex - 0.2, 0.04, 0.045)
  centre = np.maximum(chest.heart, smooth(1.5 * np.maximum(pedicle, knob)))
  centre = np.maximum(centre, 0.9 * smooth(1.5 * bulge[0]))
  air = chest.air * (1 - 0.92 * centre) * (1 - fill)
  # Behind the dome of the diaphragm some lung reaches down.
  tissue = 2.05 * body * (1 - a.lucency * air)
  lung = air * (1 - gap)
  pleura = 2 * gap * (1 - gap) * smooth(chest.air / 0.3)
  hilum = ball(np.abs(x) - 0.075, y - a.apex - 0.3, 0.045, 0.075)
  trachea = ball(x + 0.006, 0, 0.022, 1) * smooth((a.apex + 0.24 - y) / 0.03)
  chamber = ball(x - 0.15, y - a.base + a.dome - 0.08, 0.09, 0.05)
  breast = smooth(1.3 * ball(np.abs(x) - 0.2, y - a.base + 0.1, 0.16, 0.17)) * (
    0.5 + smooth((y - a.base + 0.2) / 0.2)
  )
  total = (
    tissue
    + 0.16 * lung
    - 0.3 * gap * air
    + 0.36 * a.vessels * vessels * lung
    + _skeleton(a, chest)
    + arm_bone
    + pleura
    + 0.14 * hilum
    + 0.22 * chest.heart * smooth(0.5 + chest.above / 0.06)
    + 0.6 * bulge[0]
    - 2.2 * bulge[1]
    - 0.4 * trachea
    - 0.8 * a.bubble * chamber * (chest.above < 0)
    + a.breast * breast * 0.6
  )
  return np.maximum(total, 0) * (body > 0)


def develop(attenuation: Field, q: Acquisition, x: Field) -> Field:
  """Gray levels in [0, 1] of what the rays have passed through."""
  exposed = 1 - np.exp(-q.gain * (1 + q.tilt * x) * attenuation)
  return q.floor + (q.ceiling - q.floor) * exposed**q.gamma


def to_film(q: Acquisition, x, y) -> Float[np.ndarray, '... 2']:
  """(column, row) on the film, in [0, 1], of the anatomy's x and y."""
  c, s = math.cos(q.angle), math.sin(q.angle)
  x, y = x * q.zoom, (y - 0.5) * q.zoom
  column, row = x * c - y * s + q.shift[0], x * s + y * c + q.shift[1]
  return np.stack([column + 0.5, row + 0.5], -1)


def make_grid(q: Acquisition, size: int) -> tuple[Field, Field]:
  """Anatomy's x and y at every pixel: the inverse of `_to_film`."""
  c, s = math.cos(q.angle), math.sin(q.angle)
  centre = (np.arange(size) + 0.5) / size - 0.5
  column, row = centre[None] - q.shift[0], centre[:, None] - q.shift[1]
  x = (column * c + row * s) / q.zoom
  y = (row * c - column * s) / q.zoom + 0.5
  return x.astype(np.float32), y.astype(np.float32)
