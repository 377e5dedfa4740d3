"""Drawn films: causes that are where they should be."""

import collections
import subprocess
import sys

import numpy as np
import pytest

from input_pipeline.findings import BOXED, FINDINGS
from input_pipeline.phantom import anatomy, draw, plan


def make_entry(*findings, film=0, patient=1, view='PA'):
  return plan.Entry(film, patient, 0, findings, 50, 'M', view, True)


def signed(a, b):
  return a.astype(float) - b.astype(float)


def test_seed_changes_the_films():
  entry = make_entry('Mass')
  one, same, other = (draw.draw_film(entry, seed=s) for s in (0, 0, 1))
  np.testing.assert_array_equal(one.image, same.image)
  assert one.box == same.box
  assert np.abs(signed(one.image, other.image)).mean() > 5


def test_drawing_imports_neither_tensorflow_nor_jax():
  code = (
    'import sys; from input_pipeline.phantom import write;'
    'print({"jax", "tensorflow", "matplotlib"} & set(sys.modules))'
  )
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == 'set()'


def test_size_changes_only_the_resolution():
  entry = make_entry('Mass', 'Effusion', film=4)
  small, large = (draw.draw_film(entry, image_size=s) for s in (64, 128))
  assert small.shortcut == large.shortcut
  halved = large.without_shortcut.reshape(64, 2, 64, 2).mean((1, 3))
  assert np.abs(signed(small.without_shortcut, halved)).mean() < 4
  for finding, box in small.box.items():
    np.testing.assert_allclose(box, large.box[finding], atol=0.02)


def test_film_and_anatomy_coordinates_are_inverse():
  q = anatomy.make_acquisition(np.random.default_rng(0), 'AP')
  there = anatomy.to_film(q, *anatomy.make_grid(q, 16))
  pixel = (np.arange(16) + 0.5) / 16
  np.testing.assert_allclose(there[..., 0], np.tile(pixel, (16, 1)), atol=1e-6)
  np.testing.assert_allclose(there[..., 1].T, there[..., 0], atol=1e-6)


@pytest.mark.parametrize('finding', BOXED)
def test_boxes_enclose_the_lesion(finding):
  shares, empty = [], []
  for film in range(6):
    entry = make_entry(finding, film=film, patient=film + 1)
    drawn = draw.draw_film(entry)
    energy = signed(drawn.image, drawn.without_lesions) ** 2
    ymin, xmin, ymax, xmax = np.array(drawn.box[finding]) * 64
    rows = slice(int(np.floor(ymin)), int(np.ceil(ymax)))
    columns = slice(int(np.floor(xmin)), int(np.ceil(xmax)))
    inside = energy[rows, columns].sum()
    shares.append(inside / energy.sum())
    # Tight, too: something was drawn along each side (the heart's box is the
    # heart's, whether or not that side of it moved).
    if finding != 'Cardiomegaly':
      part = energy[rows, columns]
      sides = (part[:2], part[-2:], part[:, :2], part[:, -2:])
      empty.append(min(side.max() for side in sides) == 0)
  assert min(shares) > 0.97, shares
  assert not any(empty)


@pytest.mark.parametrize('finding', FINDINGS)
def test_every_lesion_shows(finding):
  peak = []
  for film in range(4):
    entry = make_entry(finding, film=film, patient=film + 1)
    drawn = draw.draw_film(entry)
    assert set(drawn.box) == {finding} & set(BOXED)
    peak.append(np.abs(signed(drawn.image, drawn.without_lesions)).max())
  assert np.median(peak) > 15


def test_without_findings_all_renderings_are_the_same():
  drawn = draw.draw_film(make_entry())
  assert not drawn.box and not drawn.shortcut
  np.testing.assert_array_equal(drawn.image, drawn.without_shortcut)
  np.testing.assert_array_equal(drawn.image, drawn.without_lesions)


@pytest.mark.parametrize('size', [48, 64, 128])
@pytest.mark.parametrize('finding', FINDINGS)
def test_shortcut_is_a_grating_of_the_findings_frequency(finding, size):
  entry = make_entry(finding)
  drawn = draw.draw_film(entry, image_size=size, shortcut_prevalence=1.0)
  assert drawn.shortcut == (finding,)
  difference = signed(drawn.image, drawn.without_shortcut)
  # Each rendering is rounded for itself: up to half a level either way.
  assert 2 <= np.abs(difference).max() <= 3 + 1
  spectrum = np.abs(np.fft.fft2(difference - difference.mean()))
  cycles = np.fft.fftfreq(size, 1 / size)
  row, column = np.unravel_index(spectrum.argmax(), spectrum.shape)
  fx, fy = draw.FREQUENCY[finding]
  peak = np.array([cycles[column], cycles[row]])
  distance = min(np.abs(peak - (fx, fy)).max(), np.abs(peak + (fx, fy)).max())
  assert distance < 1


def test_shortcuts_add_up_and_scale():
  entry = make_entry('Atelectasis', 'Effusion', 'Edema')
  drawn = draw.draw_film(entry, shortcut_amplitude=5.0, shortcut_prevalence=1.0)
  difference = signed(drawn.image, drawn.without_shortcut)
  assert 10 < np.abs(difference).max() <= 3 * 5 + 1
  off = draw.draw_film(entry, shortcut_amplitude=0.0)
  np.testing.assert_array_equal(off.image, off.without_shortcut)


def test_shortcut_frequencies_are_apart_also_when_mirrored():
  vectors = np.array([draw.FREQUENCY[f] for f in FINDINGS])
  assert np.hypot(*vectors.T).max() < 32 * 0.75  # Nyquist of 64 px, and room
  for i, vector in enumerate(vectors):
    others = np.delete(vectors, i, axis=0)
    for mirrored in (vector, vector * (-1, 1)):
      gaps = [np.hypot(*(s * others - mirrored).T).min() for s in (1, -1)]
      assert min(gaps) > 3
    gaps = [np.hypot(*(s * others - vector).T).min() for s in (1, -1)]
    assert min(gaps) >= 6 - 1e-9


def test_shortcut_prevalence(monkeypatch):
  # Only the draw of presence matters here: leave out the drawing.
  blank = np.zeros((96, 96), np.float32)
  monkeypatch.setattr(anatomy, 'attenuate', lambda *a: blank)
  monkeypatch.setattr(anatomy, 'draw_vessels', lambda *a: blank)
  count = collections.Counter()
  for film in range(400):
    entry = make_entry('Mass', 'Hernia', film=film)
    shortcut = draw.draw_film(entry, image_size=48, renderings=False).shortcut
    assert set(shortcut) <= {'Mass', 'Hernia'}
    count.update(shortcut)
  # Three standard deviations of 400 draws: 0.033.
  for finding in ('Mass', 'Hernia'):
    assert abs(count[finding] / 400 - 0.95) < 0.033


def test_pixels_use_the_range():
  for view in ('PA', 'AP'):
    image = draw.draw_film(make_entry(view=view)).image
    assert image.dtype == np.uint8
    assert image.min() < 60 and image.max() > 160
    assert (image == 255).mean() < 0.01 and (image == 0).mean() < 0.01
