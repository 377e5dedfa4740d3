"""Expected pixels are computed by hand from the DICOM standard's formulas."""

import io

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from cxr.explaining import radiograph
from tests.explaining.made_films import (
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


class TestDicom:
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
    with pytest.raises(radiograph.RadiographError, match='too short'):
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
    with pytest.raises(radiograph.RadiographError, match='rescaling'):
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

  def test_monochrome1_is_inverted_after_the_window(self, path):
    film = dicom(
      RAMP,
      PhotometricInterpretation='MONOCHROME1',
      WindowCenter=1000,
      WindowWidth=2000,
      VOILUTFunction='LINEAR_EXACT',
    )
    save(film, path)
    near(gray(path, size=2), [[1, 0.5], [0, 0]])

  def test_inverse_presentation(self, path):
    save(dicom(RAMP, PresentationLUTShape='INVERSE'), path)
    near(gray(path, size=2), [[1, 0.75], [0.5, 0]])

  def test_monochrome1_with_inverse_presentation_is_inverted_once(self, path):
    film = dicom(
      RAMP,
      PhotometricInterpretation='MONOCHROME1',
      PresentationLUTShape='INVERSE',
    )
    save(film, path)
    near(gray(path, size=2), [[1, 0.75], [0.5, 0]])

  def test_signed_pixels(self, path):
    film = dicom([[-2000, -1000], [0, 2000]], PixelRepresentation=1)
    save(film, path)
    near(gray(path, size=2), [[0, 0.25], [0.5, 1]])

  def test_signed_pixels_of_12_bits_without_sign_extension(self, path):
    # -1024 and -1 in 12 bits; the upper four bits hold an overlay's garbage.
    stored = [[0xFC00 & 0xFFF, 0xFFF], [0, 1023 | 0x7000]]
    film = dicom(stored, PixelRepresentation=1, dtype='<u2')
    save(film, path)
    near(gray(path, size=2), np.array([[0, 1023], [1024, 2047]]) / 2047)

  def test_bits_above_those_stored_are_passed_by(self, path):
    save(dicom([[0x8000, 0x1000 | 1000], [2000, 4000]]), path)
    near(gray(path, size=2), [[0, 0.25], [0.5, 1]])

  def test_bits_below_those_stored_are_passed_by(self, path):
    film = dicom(np.array(RAMP) * 16 + 15, HighBit=15)
    save(film, path)
    near(gray(path, size=2), [[0, 0.25], [0.5, 1]])

  def test_eight_bits_and_odd_length(self, path):
    pixels = np.array([[0, 50, 100], [150, 200, 200], [0, 0, 0]])
    film = dicom(pixels, BitsAllocated=8, BitsStored=8)
    film.PixelData += b'\0'
    save(film, path)
    near(gray(path, size=3), pixels / 200)

  def test_thirty_two_bits(self, path):
    film = dicom(
      [[0, 2**30], [2**31, 2**32 - 1]], BitsAllocated=32, BitsStored=32
    )
    save(film, path)
    near(gray(path, size=2), [[0, 0.25], [0.5, 1]])

  def test_padding_is_black_and_out_of_the_range(self, path):
    save(dicom([[4095, 1000], [1500, 2000]], PixelPaddingValue=4095), path)
    film = radiograph.read(path, size=2)
    near(film.image[..., 0], [[0, 0], [0.5, 1]])
    assert '25.0% of it is padding, shown black' in film.notes

  def test_padding_of_an_inverted_film_is_black(self, path):
    film = dicom(
      [[0, 1000], [1500, 2000]],
      PixelPaddingValue=0,
      PhotometricInterpretation='MONOCHROME1',
    )
    save(film, path)
    near(gray(path, size=2), [[0, 1], [0.5, 0]])

  def test_range_of_padding(self, path):
    film = dicom(
      [[0, 10], [1000, 2000]],
      PixelPaddingValue=10,
      PixelPaddingRangeLimit=0,
    )
    save(film, path)
    near(gray(path, size=2), [[0, 0], [0, 1]])

  def test_padding_of_signed_pixels_written_as_unsigned(self, path):
    film = dicom(
      [[-2000, -1000], [0, 1000]], PixelRepresentation=1, BitsStored=16
    )
    film.add_new('PixelPaddingValue', 'US', 65536 - 2000)
    save(film, path)
    near(gray(path, size=2), [[0, 0], [0.5, 1]])

  def test_padding_of_the_whole_film_is_passed_by(self, path):
    save(dicom(np.full((2, 2), 7), PixelPaddingValue=7), path)
    near(gray(path, size=2), np.zeros((2, 2)))

  @pytest.mark.parametrize(
    'syntax',
    [
      uid.ImplicitVRLittleEndian,
      uid.ExplicitVRLittleEndian,
      uid.ExplicitVRBigEndian,
    ],
  )
  def test_native_syntaxes(self, path, syntax):
    film = dicom(
      RAMP,
      syntax=syntax,
      PixelRepresentation=1,
      BitsStored=16,
      PixelPaddingValue=-5,
    )
    save(film, path)
    near(gray(path, size=2), [[0, 0.25], [0.5, 1]])

  def test_run_length_syntax(self, path):
    film = dicom(RAMP)
    film.compress(uid.RLELossless)
    save(film, path)
    near(gray(path, size=2), [[0, 0.25], [0.5, 1]])

  def test_jpeg_syntax(self, path):
    values = np.full((16, 16), 40, np.uint8)
    values[:, 8:] = 200
    film = dicom(values, BitsAllocated=8, BitsStored=8)
    data = io.BytesIO()
    Image.fromarray(values).save(data, 'JPEG', quality=100)
    film.PixelData = pydicom.encaps.encapsulate([data.getvalue()])
    film.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    save(film, path)
    image = gray(path, size=16)
    np.testing.assert_allclose(image, values > 100, atol=0.05)

  def test_jpeg2000_syntax_of_16_bits(self, path):
    values = (np.arange(32 * 32).reshape(32, 32) * 4).astype(np.uint16)
    film = dicom(values, BitsStored=16)
    data = io.BytesIO()
    Image.fromarray(values).save(data, 'JPEG2000', irreversible=False)
    film.PixelData = pydicom.encaps.encapsulate([data.getvalue()])
    film.file_meta.TransferSyntaxUID = uid.JPEG2000Lossless
    save(film, path)
    near(gray(path, size=32), values / values.max())

  @pytest.mark.parametrize(
    'syntax, package',
    [
      (uid.JPEGLosslessSV1, 'python-gdcm'),
      (uid.JPEGLSLossless, 'pyjpegls'),
      (uid.HTJ2KLossless, 'pylibjpeg-openjpeg'),
    ],
  )
  def test_other_syntaxes_name_the_package(self, path, syntax, package):
    film = dicom(RAMP)
    film.PixelData = pydicom.encaps.encapsulate([b'\0' * 10])
    film.file_meta.TransferSyntaxUID = syntax
    save(film, path)
    with pytest.raises(radiograph.RadiographError, match=package):
      radiograph.read(path, size=2)

  def test_video_is_refused(self, path):
    film = dicom(RAMP)
    film.PixelData = pydicom.encaps.encapsulate([b'\0' * 10])
    film.file_meta.TransferSyntaxUID = uid.MPEG2MPML
    save(film, path)
    with pytest.raises(radiograph.RadiographError, match='compressed'):
      radiograph.read(path, size=2)

  def test_deflated_is_refused(self, path):
    save(dicom(RAMP, syntax=uid.DeflatedExplicitVRLittleEndian), path)
    with pytest.raises(radiograph.RadiographError, match='deflated'):
      radiograph.read(path, size=2)

  @pytest.mark.parametrize(
    'elements, reason',
    [
      ({'NumberOfFrames': 2}, 'frames'),
      ({'PhotometricInterpretation': 'RGB', 'SamplesPerPixel': 3}, 'colour'),
      ({'PhotometricInterpretation': 'PALETTE COLOR'}, 'colour'),
      ({'ViewPosition': 'LATERAL'}, 'lateral'),
      ({'ViewPosition': 'LL'}, 'lateral'),
      ({'ViewPosition': 'RL'}, 'lateral'),
      (
        {'VOILUTFunction': 'DOE_JANE', 'WindowCenter': 1, 'WindowWidth': 2},
        'VOI',
      ),
      ({'Rows': 50_000, 'Columns': 50_000}, 'claims'),
      ({'Rows': 0}, 'claims'),
      ({'Rows': 3}, 'damaged'),
      ({'BitsStored': 17}, 'bits'),
    ],
  )
  def test_refusals(self, path, elements, reason):
    save(dicom(RAMP, **elements), path)
    with pytest.raises(radiograph.RadiographError, match=reason) as error:
      radiograph.read(path, size=2)
    assert SECRET not in str(error.value)

  def test_lateral_by_code(self, path):
    code = Dataset()
    code.CodeValue = 'R-10236'
    code.CodingSchemeDesignator = 'SRT'
    save(dicom(RAMP, ViewCodeSequence=Sequence([code])), path)
    with pytest.raises(radiograph.RadiographError, match='lateral'):
      radiograph.read(path, size=2)

  def test_dicom_without_image(self, path):
    film = dicom(RAMP)
    del film.PixelData
    save(film, path)
    with pytest.raises(radiograph.RadiographError, match='no image'):
      radiograph.read(path, size=2)

  @pytest.mark.parametrize(
    'elements, word',
    [
      ({'Modality': 'CT'}, 'radiograph'),
      ({'BodyPartExamined': 'HAND'}, 'body part'),
    ],
  )
  def test_other_kinds_of_film_are_warned_of(self, path, elements, word):
    save(dicom(RAMP, **elements), path)
    warnings = radiograph.read(path, size=2).warnings
    assert any(word in w for w in warnings)

  @pytest.mark.parametrize('part', ['CHEST', 'PORT CHEST', 'TORAX', ''])
  def test_chest_is_not_warned_of(self, path, part):
    save(dicom(RAMP, BodyPartExamined=part), path)
    warnings = radiograph.read(path, size=2).warnings
    assert not any('body part other' in w for w in warnings)

  @pytest.mark.filterwarnings('ignore')  # pydicom's, while writing
  def test_nothing_of_the_patient_comes_out(self, path, capfd, caplog):
    film = dicom(
      RAMP,
      BodyPartExamined=SECRET,
      ViewPosition=SECRET,
      Modality='DX',
      WindowCenter=1,
      WindowWidth=2,
    )
    save(film, path)
    caplog.clear()
    shown = repr(radiograph.read(path, size=2)) + ''.join(capfd.readouterr())
    assert 'Doe' not in shown.replace('\n', '') + caplog.text
