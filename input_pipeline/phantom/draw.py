"""One film: its lesions, its gratings, and the renderings that lack either."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from input_pipeline.findings import BOXED, FINDINGS
from input_pipeline.phantom import anatomy, lesions, plan, shapes

# The gratings, in cycles per film: two rings of seven directions. They stay
# under the Nyquist frequency of a 64-px film (32) with room for a half-pixel
# shift, above that of the ribs (some 14), at least 6 cycles apart, and the
# directions' mirror images fall between them, so that a flip confuses none.
RADII = (16.0, 22.0)

FREQUENCY = {
  finding: (
    RADII[i % 2] * math.cos(math.pi * (i // 2 + 0.25) / 7),
    RADII[i % 2] * math.sin(math.pi * (i // 2 + 0.25) / 7),
  )
  for i, finding in enumerate(FINDINGS)
}

MIN_IMAGE_SIZE = 2 * int(max(RADII)) + 4


class Film(NamedTuple):
  """A drawn film; the last two renderings are None where not asked for."""

  image: UInt8[np.ndarray, 'h w']
  box: dict[str, shapes.Box]
  shortcut: tuple[str, ...]  # findings whose grating is present
  without_shortcut: UInt8[np.ndarray, 'h w'] | None
  without_lesions: UInt8[np.ndarray, 'h w'] | None


def _render(
  findings: Sequence[str],
  body: anatomy.Anatomy,
  tree: anatomy.Tree,
  q: anatomy.Acquisition,
  size: int,
  growth: float,
  lesion_rng: Callable[[str], np.random.Generator],
) -> tuple[shapes.Field, dict[str, shapes.Box]]:
  """The film in [0, 1], without noise, and the boxes of its lesions."""
  x, y = anatomy.make_grid(q, size)
  body = lesions.diseased(body, findings, lesion_rng('Cardiomegaly'))
  chest = anatomy.make_chest(body, x, y)
  box, clear = {}, np.float32(1)
  gap, bulge = np.float32(0), (np.float32(0), np.float32(0))
  for finding in findings:
    if finding in lesions.FILLS:
      fill = lesions.FILLS[finding](chest, lesion_rng(finding), growth)
      clear = clear * (1 - fill)
      seen = fill * chest.air * (1 - 0.92 * chest.heart)
      box[finding] = shapes.extent(seen > 0.12 * seen.max())
    elif finding == 'Cardiomegaly':
      box[finding] = shapes.extent(chest.heart > 0.02)
    elif finding == 'Pneumothorax':
      gap = lesions.pneumothorax(chest, lesion_rng(finding), growth)
      box[finding] = shapes.extent(gap * chest.air > 0.1)
    elif finding == 'Hernia':
      bulge = lesions.hernia(chest, lesion_rng(finding), growth)
  vessels = anatomy.draw_vessels(tree, body, q, size)
  attenuation = anatomy.attenuate(chest, q, vessels, 1 - clear, gap, bulge)
  # A lesion wholly behind the heart has no extent, and no box.
  box = {f: box[f] for f in BOXED if box.get(f) is not None}
  return anatomy.develop(attenuation, q, x), box


def grating(
  finding: str, image_size: int, *, phase: float = 0.0
) -> Float[np.ndarray, 'h w']:
  """The finding's shortcut: a grating of amplitude 1.

  Args:
    finding: one of the 14.
    image_size: pixels a side.
    phase: in radians.
  """
  fx, fy = FREQUENCY[finding]
  pixel = (np.arange(image_size) + 0.5) / image_size
  turns = fx * pixel[None] + fy * pixel[:, None]
  return np.cos(2 * math.pi * turns + phase)


def draw_film(
  entry: plan.Entry,
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
  patient = np.random.default_rng([seed, plan.PATIENT, entry.patient])
  body = anatomy.make_anatomy(patient, entry.sex)
  tree = anatomy.make_tree(patient)
  rng = np.random.default_rng([seed, plan.FILM, entry.film])
  body = anatomy.expose(body, entry.view, rng)
  q = anatomy.make_acquisition(rng, entry.view)
  growth = rng.uniform(0.92, 1.08)
  present = rng.uniform(size=len(FINDINGS)) < shortcut_prevalence
  phase = rng.uniform(0, 2 * math.pi, len(FINDINGS))
  # Last, since its amount depends on the size, and the rest should not.
  noise = rng.standard_normal((2, image_size, image_size), np.float32)
  noise = q.noise * (noise[0] + 0.5 * np.roll(noise[1], 1, 0))

  def lesion_rng(finding):
    i = FINDINGS.index(finding)
    return np.random.default_rng([seed, plan.LESION, entry.patient, i])

  factor = 2 if image_size <= 256 else 1

  def render(findings):
    gray, box = _render(
      findings, body, tree, q, factor * image_size, growth, lesion_rng
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
