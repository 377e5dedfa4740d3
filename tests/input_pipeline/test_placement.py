"""Boxes and masks in the prepared image, against the way back and by hand."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image

from input_pipeline import placement
from input_pipeline.radiograph import radiograph, views
from input_pipeline.sources.film_table import Mask

SIDE = st.integers(20, 400)


def square(height, width, *, turn=(False, False, False), size=64):
  upright = (width, height) if turn[0] else (height, width)
  return placement.Square(
    np.zeros((size, size), np.uint8),
    height,
    width,
    turn,
    radiograph.padded(*upright, size),
  )


@hypothesis.given(SIDE, SIDE, st.tuples(*[st.booleans()] * 3), st.data())
def test_boxes_come_back_to_where_they_were_drawn(height, width, turn, data):
  ymin, ymax = sorted(
    data.draw(
      st.lists(st.integers(0, height), min_size=2, max_size=2, unique=True)
    )
  )
  xmin, xmax = sorted(
    data.draw(
      st.lists(st.integers(0, width), min_size=2, max_size=2, unique=True)
    )
  )
  box = float(ymin), float(xmin), float(ymax), float(xmax)
  made = square(height, width, turn=turn)
  placed = placement.place_box(made, box, None)
  assert min(placed) >= 0 and max(placed) <= 1
  y, x, h, w = made.place
  upright = (width, height) if turn[0] else (height, width)
  film = radiograph.Radiograph(
    image=np.zeros((64, 64, 1), np.float32),
    height=height,
    width=width,
    turn=views.Turn(*turn),
    offset=(float(y), float(x)),
    scale=(h / upright[0], w / upright[1]),
    fit='pad',
    notes=(),
    warnings=(),
  )
  np.testing.assert_allclose(
    film.to_film_pixels(np.array(placed)), box, atol=1e-6
  )


def test_a_square_films_shares_stay_bit_by_bit():
  box = 225.084745762712, 547.019267, 867.5, 1024.0
  placed = placement.place_box(square(100, 100), box, (1024, 1024))
  assert placed == tuple(v / 1024 for v in box)


@pytest.mark.parametrize(
  'box, reason',
  [
    ((10, 10, 10, 20), 'box of no size'),
    ((20, 10, 10, 20), 'box of no size'),
    ((10, 10, 50, 101.1), 'box outside the film'),
    ((-1.1, 10, 50, 90), 'box outside the film'),
    ((49.5, 100, 51, 101), 'box of no size'),
  ],
)
def test_boxes_that_are_not_on_the_film(box, reason):
  with pytest.raises(ValueError) as error:
    placement.place_box(square(50, 100), box, None)
  assert error.value.args[0] == reason


def save(path, values, mode=None):
  Image.fromarray(values).convert(mode).save(path)
  return Mask(0, path=str(path))


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGB', 'RGBA', 'LA', 'I;16'])
def test_masks_of_every_mode(tmp_path, mode):
  """What is not black belongs to it; what is transparent does not."""
  values = np.zeros((64, 64), np.uint8)
  values[8:20, 30:60] = 255
  picture = Image.fromarray(values)
  if mode == 'I;16':
    picture = Image.fromarray(values.astype(np.uint16))
  elif mode in ('RGBA', 'LA'):
    picture = Image.new('L', (64, 64), 255).convert(mode)
    picture.putalpha(Image.fromarray(values))
  else:
    picture = picture.convert(mode)
  picture.save(tmp_path / 'm.png')
  mask = Mask(0, path=str(tmp_path / 'm.png'))
  placed = placement.place_mask(square(64, 64), mask)
  np.testing.assert_array_equal(placed, values > 0)


def test_a_mask_of_ones_is_one(tmp_path):
  values = np.zeros((64, 64), np.uint8)
  values[3, 4] = 1
  placed = placement.place_mask(
    square(64, 64), save(tmp_path / 'm.png', values)
  )
  np.testing.assert_array_equal(placed, values > 0)


def test_a_region_smaller_than_a_pixel_is_not_lost(tmp_path):
  values = np.zeros((640, 320), np.uint8)
  values[301:303, 100:104] = 255
  mask = save(tmp_path / 'm.png', values)
  placed = placement.place_mask(square(640, 320), mask)
  # A tenth of the size, 16 columns of black on the left.
  assert np.argwhere(placed).tolist() == [[30, 26]]


def test_masks_that_cannot_be_read(tmp_path):
  (tmp_path / 'm.png').write_bytes(b'no picture')
  with pytest.raises(placement.MaskError, match='cannot be read as a PNG'):
    placement.place_mask(square(9, 9), Mask(0, path=str(tmp_path / 'm.png')))
  for mask in (
    save(tmp_path / 'n.png', np.zeros((9, 8), np.uint8)),
    Mask(0, counts='1', size=(9, 8)),
  ):
    with pytest.raises(placement.MaskError, match='of 9 x 8 .* of 9 x 9'):
      placement.place_mask(square(9, 9), mask)
  empty = save(tmp_path / 'e.png', np.zeros((9, 9), np.uint8))
  assert placement.place_mask(square(9, 9), empty) is None


def test_bits_come_back():
  mask = np.random.default_rng(0).random((13, 13)) < 0.3
  bits = placement.unpack(placement.pack(mask))
  np.testing.assert_array_equal(bits, np.packbits(mask))
