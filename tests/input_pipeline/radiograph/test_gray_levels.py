"""Expected gray is computed by hand from the DICOM standard's formulas."""

import numpy as np
import pytest
from pydicom import pixels, uid
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from input_pipeline.radiograph import gray_levels, radiograph
from tests.input_pipeline.radiograph.made_films import (
  RAMP,
  SECRET,
  dicom,
  gray,
  near,
  save,
  table,
)


@pytest.fixture
def path(tmp_path):
  return str(tmp_path / 'film')


class TestGrayLevels:
  def test_without_window_the_range_is_black_to_white(self, path):
    save(dicom([[100, 600], [850, 1100]]), path)
    near(gray(path, size=2), [[0, 0.5], [0.75, 1]])

  def test_linear_window(self, path):
    # C.11.2.1.2.1: (x - (c - .5)) / (w - 1) + .5
    save(dicom(RAMP, WindowCenter=2000, WindowWidth=3001), path)
    film = radiograph.read(path, size=2)
    near(
      film.image[..., 0],
      [[0, 0.5 - 999.5 / 3000], [0.5 + 0.5 / 3000, 1]],
    )
    assert 'window 1 of 1: centre 2000, width 3001, LINEAR' in film.notes

  def test_linear_window_of_width_one_is_a_step(self, path):
    save(dicom(RAMP, WindowCenter=1000, WindowWidth=1), path)
    near(gray(path, size=2), [[0, 1], [1, 1]])

  def test_linear_exact_window(self, path):
    film = dicom(
      RAMP,
      WindowCenter=2000,
      WindowWidth=4000,
      VOILUTFunction='LINEAR_EXACT',
    )
    save(film, path)
    near(gray(path, size=2), [[0, 0.25], [0.5, 1]])

  def test_sigmoid_window(self, path):
    film = dicom(
      RAMP, WindowCenter=2000, WindowWidth=4000, VOILUTFunction='SIGMOID'
    )
    save(film, path)
    expected = [[1 / (1 + np.e**2), 1 / (1 + np.e)], [0.5, 1 / (1 + np.e**-2)]]
    near(gray(path, size=2), expected)

  def test_first_of_several_windows_is_taken_and_recorded(self, path):
    film = dicom(
      RAMP,
      WindowCenter=[2000, 50],
      WindowWidth=[4000, 10],
      VOILUTFunction='LINEAR_EXACT',
      WindowCenterWidthExplanation=[SECRET, 'BONE'],
    )
    save(film, path)
    film = radiograph.read(path, size=2)
    near(film.image[..., 0], [[0, 0.25], [0.5, 1]])
    assert any(note.startswith('window 1 of 2') for note in film.notes)

  @pytest.mark.parametrize('width', [0, -5])
  def test_impossible_window_is_passed_by_and_noted(self, path, width):
    save(dicom(RAMP, WindowCenter=2000, WindowWidth=width), path)
    film = radiograph.read(path, size=2)
    near(film.image[..., 0], [[0, 0.25], [0.5, 1]])
    assert any('passed by' in note for note in film.notes)

  def test_voi_table_comes_before_the_window(self, path):
    film = dicom(
      [[0, 9], [10, 12]],
      VOILUTSequence=table([0, 51, 204, 255], first=9, bits=8),
      WindowCenter=1,
      WindowWidth=2,
    )
    save(film, path)
    film = radiograph.read(path, size=2)
    near(film.image[..., 0], [[0, 0], [0.2, 1]])
    assert 'VOI table 1 of 1' in film.notes

  @pytest.mark.parametrize(
    'vr, data',
    [
      ('US', [0, 16384, 32768, 65535]),
      ('OW', np.array([0, 16384, 32768, 65535], '<u2').tobytes()),
    ],
  )
  def test_voi_table_of_16_bits(self, path, vr, data):
    item = table([0] * 4, vr=vr, data=data)
    save(dicom([[0, 1], [2, 4095]], VOILUTSequence=item), path)
    near(gray(path, size=2), [[0, 0.25], [0.5, 1]])

  @pytest.mark.parametrize(
    'data',
    [bytes([0, 64, 128, 255]), np.array([0, 64, 128, 255], '<u2').tobytes()],
    ids=['packed', 'in 16'],
  )
  def test_table_of_8_bits_is_read_packed_and_in_16(self, path, data):
    item = table([0] * 4, bits=8, vr='OW', data=data)
    save(dicom([[0, 1], [2, 3]], VOILUTSequence=item), path)
    near(gray(path, size=2), np.array([[0, 64], [128, 255]]) / 255)

  def test_table_of_65536_entries(self, path):
    entries = np.arange(2**16, dtype='<u2')[::-1]
    item = table([0], vr='OW', data=entries.tobytes())
    item[0].LUTDescriptor = [0, 0, 16]
    film = dicom(
      [[0, 16384], [32768, 65535]], BitsStored=16, VOILUTSequence=item
    )
    save(film, path)
    near(gray(path, size=2), [[1, 0.75], [0.5, 0]])

  def test_short_table_is_refused(self, path):
    item = table([0] * 9, vr='OW', data=bytes(4))
    save(dicom(RAMP, VOILUTSequence=item), path)
    with pytest.raises(radiograph.RadiographError, match='shorter'):
      radiograph.read(path, size=2)

  def test_modality_table_comes_before_the_window(self, path):
    film = dicom(
      [[0, 1], [2, 3]],
      ModalityLUTSequence=table([0, 300, 100, 400]),
      WindowCenter=200,
      WindowWidth=400,
      VOILUTFunction='LINEAR_EXACT',
    )
    save(film, path)
    near(gray(path, size=2), [[0, 0.75], [0.25, 1]])

  def test_rescaling_comes_before_the_window(self, path):
    film = dicom(
      RAMP,
      RescaleSlope=2,
      RescaleIntercept=-1000,
      WindowCenter=3000,
      WindowWidth=8000,
      VOILUTFunction='LINEAR_EXACT',
    )
    save(film, path)
    film = radiograph.read(path, size=2)
    near(film.image[..., 0], [[0, 0.25], [0.5, 1]])
    assert 'rescaled by 2, -1000' in film.notes

  def test_negative_slope(self, path):
    save(dicom(RAMP, RescaleSlope=-1, RescaleIntercept=0), path)
    near(gray(path, size=2), [[1, 0.75], [0.5, 0]])

  def test_slope_of_zero_is_refused(self, path):
    save(dicom(RAMP, RescaleSlope=0, RescaleIntercept=0), path)
    with pytest.raises(radiograph.RadiographError, match='RescaleSlope'):
      radiograph.read(path, size=2)

  def test_voi_table_after_rescaling_with_negative_first_value(self, path):
    film = dicom(
      [[0, 1], [2, 3]],
      PixelRepresentation=1,
      RescaleSlope=1,
      RescaleIntercept=-2,
      VOILUTSequence=table([0, 51, 204, 255], first=-2, bits=8),
    )
    save(film, path)
    near(gray(path, size=2), [[0, 0.2], [0.8, 1]])

  def test_table_of_8_bits_is_longer_than_256(self, path):
    # pydicom's own takes the index of an entry in 8 bits, and wraps around.
    entries = np.arange(4096) // 16
    item = table([0], vr='OW', data=entries.astype(np.uint8).tobytes())
    item[0].LUTDescriptor = [4096, 0, 8]
    film = dicom(RAMP, VOILUTSequence=item)
    save(film, path)
    near(gray(path, size=2), entries[RAMP] / 255)
    item[0].LUTData = entries.astype('<u2').tobytes()
    theirs = pixels.apply_voi(np.array(RAMP), film)
    assert (theirs[1] != entries[RAMP][1]).all()

  def test_big_endian_table(self, path):
    data = np.array([0, 16384, 32768, 65535], '>u2').tobytes()
    item = table([0] * 4, vr='OW', data=data)
    film = dicom(
      [[0, 1], [2, 3]], syntax=uid.ExplicitVRBigEndian, VOILUTSequence=item
    )
    save(film, path)
    near(gray(path, size=2), [[0, 0.25], [0.5, 1]])

  @pytest.mark.parametrize(
    'slope, center, width',
    [(1 / 4000, 0.5, 1), (1 / 2000, 1, 2), (2, 4e3, 8e3)],
  )
  def test_window_of_few_units_is_one_of_gray_levels(
    self, path, slope, center, width
  ):
    # LINEAR alone would take half a unit off: all of the film.
    film = dicom(RAMP, WindowCenter=center, WindowWidth=width)
    film.RescaleSlope, film.RescaleIntercept = slope, 0
    save(film, path)
    near(gray(path, size=2), [[0, 0.25], [0.5, 1]])

  def test_window_below_one_gray_level_is_passed_by(self, path):
    film = dicom(RAMP, WindowCenter=0.5, WindowWidth=0.0001)
    film.RescaleSlope, film.RescaleIntercept = 1 / 4000, 0
    save(film, path)
    film = radiograph.read(path, size=2)
    near(film.image[..., 0], [[0, 0.25], [0.5, 1]])
    assert 'its window is not a window and was passed by' in film.notes

  @pytest.mark.parametrize('text', [b'2048,0', b'AUTO', b'NaN ', b'inf '])
  def test_window_that_is_no_number_is_passed_by_and_noted(self, path, text):
    film = dicom(RAMP)
    for tag in (0x00281050, 0x00281051):
      film._dict[Tag(tag)] = RawDataElement(
        Tag(tag), 'DS', len(text), text, 0, False, True
      )
    save(film, path)
    film = radiograph.read(path, size=2)
    near(film.image[..., 0], [[0, 0.25], [0.5, 1]])
    assert any('passed by' in note for note in film.notes)

  @pytest.mark.parametrize('first', [b'AUTO', b'', b'NaN', b'2048,0'])
  def test_one_bad_value_leaves_the_others(self, path, first):
    film = dicom(RAMP, VOILUTFunction='LINEAR_EXACT')
    for tag, value in ((0x00281050, b'\\2000 '), (0x00281051, b'\\4000 ')):
      film._dict[Tag(tag)] = RawDataElement(
        Tag(tag), 'DS', len(first + value), first + value, 0, False, True
      )
    save(film, path)
    film = radiograph.read(path, size=2)
    near(film.image[..., 0], [[0, 0.25], [0.5, 1]])
    assert 'its WindowCenter is no number and was passed by' in film.notes
    assert any(note.startswith('window 2 of 2') for note in film.notes)

  @pytest.mark.parametrize('element', ['WindowCenter', 'WindowWidth'])
  def test_half_a_window_is_passed_by(self, path, element):
    save(dicom(RAMP, **{element: 2000}), path)
    film = radiograph.read(path, size=2)
    near(film.image[..., 0], [[0, 0.25], [0.5, 1]])
    assert 'its window is not a window and was passed by' in film.notes

  def test_a_table_of_a_wrong_descriptor_is_named(self, path):
    film = dicom(RAMP, VOILUTSequence=table([0, 1, 2, 3]))
    film.VOILUTSequence[0].add_new('LUTDescriptor', 'US', [4, 0])
    save(film, path)
    with pytest.raises(radiograph.RadiographError, match='LUTDescriptor'):
      radiograph.read(path, size=2)

  def test_first_window_that_is_one_is_taken(self, path):
    film = dicom(RAMP, WindowCenter=[0, 2000], WindowWidth=[0, 4001])
    save(film, path)
    film = radiograph.read(path, size=2)
    assert any(note.startswith('window 2 of 2') for note in film.notes)

  @pytest.mark.parametrize('element', ['VOILUTSequence', 'ModalityLUTSequence'])
  def test_empty_item_of_a_table_is_passed_by(self, path, element):
    item = Dataset()
    item.LUTExplanation = 'NORMAL'
    film = dicom(
      RAMP,
      WindowCenter=2000,
      WindowWidth=4000,
      VOILUTFunction='LINEAR_EXACT',
      **{element: Sequence([item])},
    )
    save(film, path)
    near(gray(path, size=2), [[0, 0.25], [0.5, 1]])

  @pytest.mark.parametrize('element', ['RescaleSlope', 'RescaleIntercept'])
  def test_rescaling_that_is_no_number_is_named(self, path, element):
    film = dicom(RAMP)
    tag = Tag(element)
    film._dict[tag] = RawDataElement(tag, 'DS', 4, b'1,5 ', 0, False, True)
    save(film, path)
    with pytest.raises(radiograph.RadiographError, match=element):
      radiograph.read(path, size=2)


@pytest.mark.parametrize('function', ['LINEAR', 'LINEAR_EXACT', 'SIGMOID'])
@pytest.mark.parametrize('slope', [1.0, 0.25])
def test_windows_are_those_of_the_standard(function, slope):
  rng = np.random.default_rng(0)
  values = rng.integers(0, 4096, (9, 9)) * slope
  center, width = 1800.0 * slope, 1500.0 * slope
  got = gray_levels._window(values, center, width, min(slope, 1), function)
  # PS3.3, C.11.2.1.2.1, C.11.2.1.3.2 and C.11.2.1.3.1.
  expected = {
    'LINEAR': (values - (center - slope / 2)) / (width - slope) + 0.5,
    'LINEAR_EXACT': (values - center) / width + 0.5,
    'SIGMOID': 1 / (1 + np.exp(-4 * (values - center) / width)),
  }[function]
  np.testing.assert_allclose(got, np.clip(expected, 0, 1), atol=1e-12)
