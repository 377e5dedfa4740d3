"""Expected pixels are computed by hand from the DICOM standard's formulas."""

import io
import os
import struct
import zlib

import hypothesis
import numpy as np
import pydicom
import pytest
from hypothesis import strategies
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from cxr.explaining import radiograph
from input_pipeline import preprocess

SECRET = 'Doe^Jane'


def dicom(pixels, *, syntax=uid.ExplicitVRLittleEndian, dtype=None, **elements):
  """A DX film of the values given, with a patient in it."""
  pixels = np.asarray(pixels)
  film = Dataset()
  film.file_meta = FileMetaDataset()
  film.file_meta.TransferSyntaxUID = syntax
  film.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
  film.SOPInstanceUID = uid.generate_uid()
  film.PatientName = SECRET
  film.PatientID = '4711'
  film.Modality = 'DX'
  film.Rows, film.Columns = pixels.shape[-2:]
  film.SamplesPerPixel = 1
  film.PhotometricInterpretation = 'MONOCHROME2'
  film.BitsAllocated = 16
  film.BitsStored = 12
  film.PixelRepresentation = 0
  for name in ('BitsAllocated', 'BitsStored', 'PixelRepresentation'):
    if name in elements:
      setattr(film, name, elements.pop(name))
  film.HighBit = film.BitsStored - 1
  for name, value in elements.items():
    setattr(film, name, value)
  order = '>' if syntax == uid.ExplicitVRBigEndian else '<'
  kind = 'i' if film.PixelRepresentation else 'u'
  dtype = dtype or f'{order}{kind}{film.BitsAllocated // 8}'
  film.PixelData = pixels.astype(dtype).tobytes()
  film['PixelData'].VR = 'OB' if film.BitsAllocated == 8 else 'OW'
  return film


def table(entries, *, first=0, bits=16, vr='US', data=None):
  item = Dataset()
  signed = first < 0
  item.add_new(
    'LUTDescriptor',
    'SS' if signed else 'US',
    [len(entries), first, bits],
  )
  item.add_new('LUTData', vr, entries if data is None else data)
  return Sequence([item])


@pytest.fixture
def path(tmp_path):
  return str(tmp_path / 'film')


def save(film, path):
  if isinstance(film, Dataset):
    film.save_as(path, enforce_file_format=True)
  else:
    film.save(path, format='PNG')
  return path


def gray(path, **options):
  """The film's pixels, unscaled where it is a square of `size`."""
  return radiograph.read(path, **options).image[..., 0]


def near(actual, expected):
  # Steps of 1/255: half a step of rounding.
  np.testing.assert_allclose(actual, expected, atol=0.5 / 255 + 1e-6)


RAMP = [[0, 1000], [2000, 4000]]


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
      ({'VOILUTFunction': SECRET, 'WindowCenter': 1, 'WindowWidth': 2}, 'VOI'),
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


def png(array, mode=None):
  return Image.fromarray(np.asarray(array), mode=mode)


GRAY = np.array([[0, 51], [102, 255]], np.uint8)


class TestPicture:
  @pytest.mark.parametrize('mode', ['L', 'RGB', 'RGBA', 'LA', 'P'])
  def test_kinds_of_png(self, path, mode):
    save(png(GRAY).convert(mode), path)
    near(gray(path, size=2), GRAY / 255)

  def test_palette_that_is_not_in_gray_order(self, path):
    picture = png(np.array([[0, 1], [2, 3]], np.uint8), 'P')
    picture.putpalette(np.repeat([255, 0, 102, 51], 3).tolist())
    save(picture, path)
    near(gray(path, size=2), [[1, 0], [0.4, 0.2]])

  def test_one_bit(self, path):
    save(png(np.array([[True, False], [False, True]])), path)
    near(gray(path, size=2), [[1, 0], [0, 1]])

  def test_transparency_is_black(self, path):
    rgba = np.full((2, 2, 4), 255, np.uint8)
    rgba[..., 3] = [[0, 51], [102, 255]]
    save(png(rgba), path)
    near(gray(path, size=2), GRAY / 255)

  @pytest.mark.parametrize('bits', [8, 10, 12, 14, 16])
  def test_sixteen_bits(self, path, bits):
    top = 2**bits - 1
    values = np.array([[0, top // 4], [top // 2, top]], np.uint16)
    save(png(values), path)
    near(gray(path, size=2), values / top)

  def test_sixteen_bits_black(self, path):
    save(png(np.zeros((2, 2), np.uint16)), path)
    near(gray(path, size=2), np.zeros((2, 2)))

  def test_jpeg_whatever_its_name(self, tmp_path):
    path = str(tmp_path / 'film.png')
    values = np.full((16, 16), 100, np.uint8)
    Image.fromarray(values).save(path, format='JPEG', quality=95)
    near(gray(path, size=16), values / 255)

  def test_cmyk_jpeg(self, path):
    values = np.full((16, 16), 100, np.uint8)
    picture = Image.fromarray(values).convert('CMYK')
    picture.save(path, format='JPEG', quality=100)
    np.testing.assert_allclose(gray(path, size=16), values / 255, atol=0.02)

  def test_exif_orientation_is_followed(self, path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    values = np.zeros((16, 32), np.uint8)
    values[:, :16] = 255
    Image.fromarray(values).save(path, format='JPEG', exif=exif, quality=95)
    film = radiograph.read(path, size=32)
    assert (film.height, film.width) == (32, 16)
    assert film.image[:8].mean() > 0.45 and film.image[24:].mean() < 0.05

  def test_colour_is_refused(self, path):
    rgb = np.zeros((8, 8, 3), np.uint8)
    rgb[..., 0] = 200
    save(png(rgb), path)
    with pytest.raises(radiograph.RadiographError, match='colour'):
      radiograph.read(path, size=8)

  def test_small_coloured_mark_is_not(self, path):
    rgb = np.full((40, 40, 3), 128, np.uint8)
    rgb[:4, :4] = (255, 0, 0)
    save(png(rgb), path)
    radiograph.read(path, size=40)

  def test_animation_is_refused(self, path):
    frames = [png(GRAY), png(GRAY[::-1])]
    frames[0].save(path, 'PNG', save_all=True, append_images=frames[1:])
    with pytest.raises(radiograph.RadiographError, match='frames'):
      radiograph.read(path, size=2)

  def test_bomb_is_refused_before_it_is_decoded(self, path):
    def chunk(kind, data):
      crc = zlib.crc32(kind + data)
      return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', crc)

    head = struct.pack('>IIBBBBB', 9000, 9000, 8, 0, 0, 0, 0)
    with open(path, 'wb') as f:
      f.write(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head))
      f.write(chunk(b'IDAT', zlib.compress(b'\0' * 100)) + chunk(b'IEND', b''))
    with pytest.raises(radiograph.RadiographError, match='9000 x 9000'):
      radiograph.read(path, size=2)

  def test_large_file_is_refused(self, path):
    save(png(GRAY), path)
    os.truncate(path, radiograph.MAX_BYTES + 1)
    with pytest.raises(radiograph.RadiographError, match='larger'):
      radiograph.read(path, size=2)

  @pytest.mark.parametrize(
    'content', [b'', b'GIF89a', b'\x89PNG\r\n\x1a\n', b'%PDF-1.4' * 50]
  )
  def test_other_files(self, path, content):
    with open(path, 'wb') as f:
      f.write(content)
    with pytest.raises(radiograph.RadiographError):
      radiograph.read(path, size=2)

  def test_absent_file(self, path):
    with pytest.raises(radiograph.RadiographError, match='gone'):
      radiograph.read(path, size=2)

  def test_fit_is_one_of_two(self, path):
    with pytest.raises(ValueError, match="fit \\('stretch'\\)"):
      radiograph.read(path, size=2, fit='stretch')


class TestFit:
  @pytest.mark.parametrize('shape', [(40, 20), (20, 40), (30, 37), (64, 64)])
  @pytest.mark.parametrize('fit', radiograph.FITS)
  def test_a_bright_spot_is_where_its_box_says(self, path, shape, fit):
    height, width = shape
    top, left = height // 2 - 4, width // 2 - 6
    values = np.zeros(shape, np.uint8)
    values[top : top + 8, left : left + 8] = 255
    save(png(values), path)
    film = radiograph.read(path, size=160, fit=fit)
    rows, columns, _ = np.nonzero(film.image > 0.5)
    box = np.array(
      [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    )
    found = film.to_film_pixels(box / 160)
    np.testing.assert_allclose(found, [top, left, top + 8, left + 8], atol=0.6)

  def test_pad_by_hand(self, path):
    # 40 x 20 in 80: scale 2, 20 columns of black at either side.
    save(png(np.full((40, 20), 255, np.uint8)), path)
    film = radiograph.read(path, size=80)
    assert (film.offset, film.scale) == ((0, 20), (2, 2))
    assert not film.image[:, :20].any() and not film.image[:, 60:].any()
    assert film.image[:, 20:60].all()
    boxes = [[0, 0.25, 0.5, 0.75], [0, 0, 1, 0.2], [0.25, 0.5, 1, 1]]
    np.testing.assert_allclose(
      film.to_film_pixels(np.array(boxes)),
      [[0, 0, 20, 20], [0, 0, 40, 0], [10, 10, 40, 20]],
    )

  def test_crop_by_hand(self, path):
    # The middle 20 rows of 40, in 80 pixels: scale 4, 10 rows above.
    values = np.zeros((40, 20), np.uint8)
    values[10:30] = 255
    save(png(values), path)
    film = radiograph.read(path, size=80, fit='crop')
    assert (film.offset, film.scale) == ((-40, 0), (4, 4))
    assert film.image.all()
    np.testing.assert_allclose(
      film.to_film_pixels(np.array([0, 0, 1, 0.5])), [10, 0, 30, 10]
    )

  def test_no_boxes(self, path):
    save(png(GRAY), path)
    film = radiograph.read(path, size=2)
    assert film.to_film_pixels(np.zeros((0, 4))).shape == (0, 4)

  def test_a_line_of_pixels(self, path):
    save(png(np.full((1, 500), 255, np.uint8)), path)
    for fit in radiograph.FITS:
      assert radiograph.read(path, size=16, fit=fit).image.shape == (16, 16, 1)

  def test_reduction_is_anti_aliased(self, path):
    values = np.indices((64, 64)).sum(axis=0) % 2 * 255
    save(png(values.astype(np.uint8)), path)
    np.testing.assert_allclose(gray(path, size=8), 0.5, atol=0.02)

  @pytest.mark.parametrize('mode', ['L', 'RGB', 'RGBA', 'P'])
  def test_image_is_what_training_sees(self, path, mode):
    values = np.random.default_rng(0).integers(0, 256, (50, 50), np.uint8)
    save(png(values).convert(mode), path)
    for size in (16, 50):
      np.testing.assert_array_equal(
        gray(path, size=size),
        np.asarray(preprocess.decode(path, size)) / np.float32(255),
      )

  def test_film_of_the_right_size_is_untouched(self, path):
    values = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    save(png(values), path)
    image = gray(path, size=32)
    np.testing.assert_array_equal(image, values / np.float32(255))
    assert image.dtype == np.float32


def chest(size=64):
  """The mean film, mirrored: what the likeness is measured against."""
  cells = np.array([row + row[::-1] for row in radiograph._MEAN_FILM])
  cells = (cells / 100 * 255).astype(np.uint8)
  return np.kron(cells, np.ones((size // 8, size // 8), np.uint8))


class TestDoubts:
  def warnings(self, values, path, size=64, fit='pad'):
    save(png(np.asarray(values, np.uint8)), path)
    return ' '.join(radiograph.read(path, size=size, fit=fit).warnings)

  def test_a_chest_film_has_none(self, path):
    assert not self.warnings(chest(), path)

  def test_inverted(self, path):
    assert 'inverted' in self.warnings(255 - chest(), path)

  def test_upside_down(self, path):
    assert 'upright' in self.warnings(chest()[::-1], path)

  def test_noise(self, path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64))
    assert 'does not look like' in self.warnings(noise, path)

  def test_flat(self, path):
    assert 'contrast' in self.warnings(np.full((64, 64), 99), path)

  def test_small(self, path):
    assert 'small: 64 x 64' in self.warnings(chest(), path, size=65)

  def test_cropped(self, path):
    assert 'cropped' in self.warnings(chest(128)[:64], path)


class TestFind:
  def test_folder(self, tmp_path):
    names = [
      'b/film.PNG',
      'a/film.png',
      'a.jpeg',
      'x.dcm',
      '=cmd|x.jpg',
      'line\nbreak.png',
      '<img src=x>.png',
    ]
    for name in names:
      (tmp_path / name).parent.mkdir(exist_ok=True)
      (tmp_path / name).write_bytes(b'')
    save(dicom(RAMP), str(tmp_path / '1.2.840.113'))
    save(dicom(RAMP), str(tmp_path / 'DICOMDIR'))
    (tmp_path / 'table.csv').write_text('a')
    (tmp_path / '.hidden.png').write_text('a')
    (tmp_path / '.git').mkdir()
    (tmp_path / '.git' / 'film.png').write_text('a')
    os.mkfifo(tmp_path / 'pipe.png')
    found, skipped = radiograph.find(str(tmp_path))
    found = [os.path.relpath(p, tmp_path) for p in found]
    assert sorted(found) == sorted([*names, '1.2.840.113'])
    assert skipped == {'hidden': 2, 'other': 3}
    assert found.index('a/film.png') < found.index('b/film.PNG')

  def test_one_file_is_taken_as_it_is(self, tmp_path):
    (tmp_path / 'film.tif').write_bytes(b'')
    path = str(tmp_path / 'film.tif')
    assert radiograph.find(path) == ([path], {'hidden': 0, 'other': 0})

  def test_nothing_there(self, tmp_path):
    with pytest.raises(FileNotFoundError, match='no file or folder'):
      radiograph.find(str(tmp_path / 'x'))
    with pytest.raises(ValueError, match='holds no PNG'):
      radiograph.find(str(tmp_path))


def _bytes(film):
  out = io.BytesIO()
  film.save_as(out, enforce_file_format=True)
  return out.getvalue()


def _samples():
  values = np.random.default_rng(0).integers(0, 4096, (12, 9))
  pictures = io.BytesIO(), io.BytesIO()
  picture = png((values // 16).astype(np.uint8))
  picture.save(pictures[0], 'PNG')
  picture.save(pictures[1], 'JPEG')
  film = dicom(
    values,
    WindowCenter=[2000, 1],
    WindowWidth=[4000, 1],
    PixelPaddingValue=0,
    ModalityLUTSequence=table(list(range(40)), first=5),
    VOILUTSequence=table(list(range(40)), first=5, bits=8),
  )
  packed = dicom(values, RescaleSlope=1.5, RescaleIntercept=-1)
  packed.compress(uid.RLELossless)
  return [
    _bytes(film),
    _bytes(dicom(values, syntax=uid.ImplicitVRLittleEndian)),
    _bytes(packed),
    *(p.getvalue() for p in pictures),
  ]


SAMPLES = _samples()


class TestDamage:
  @hypothesis.settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(
    which=strategies.integers(0, len(SAMPLES) - 1),
    cut=strategies.none() | strategies.floats(0, 1),
    edits=strategies.lists(
      strategies.tuples(strategies.floats(0, 1), strategies.binary(max_size=4)),
      max_size=5,
    ),
  )
  @pytest.mark.filterwarnings('ignore')
  def test_is_one_sentence_or_a_film(self, tmp_path, which, cut, edits):
    data = bytearray(SAMPLES[which])
    for where, new in edits:
      start = int(where * len(data))
      data[start : start + len(new)] = new
    if cut is not None:
      data = data[: int(cut * len(data))]
    path = tmp_path / 'film'
    path.write_bytes(data)
    try:
      film = radiograph.read(str(path), size=8)
    except radiograph.RadiographError as error:
      assert str(error).endswith('.') and '\n' not in str(error)
    else:
      assert film.image.shape == (8, 8, 1)
      assert film.image.min() >= 0 and film.image.max() <= 1


def test_real_films(nih_dir):
  paths, _ = radiograph.find(os.path.join(nih_dir, 'originals'))
  films = [radiograph.read(path, size=224) for path in paths[::4]]
  assert all((f.height, f.width) == (1024, 1024) for f in films)
  # Some real films are rotated, framed or inverted; few.
  assert sum(bool(f.warnings) for f in films) <= len(films) // 4


def test_real_films_are_what_training_sees(nih_dir):
  paths, _ = radiograph.find(os.path.join(nih_dir, 'originals'))
  modes = [Image.open(path).mode for path in paths]
  for path in paths[:2] + [paths[modes.index('RGBA')]]:
    np.testing.assert_array_equal(
      gray(path, size=128),
      np.asarray(preprocess.decode(path, 128)) / np.float32(255),
    )


def test_a_real_film_is_the_same_as_png_and_dicom(nih_dir, path):
  paths, _ = radiograph.find(os.path.join(nih_dir, 'originals'))
  values = np.asarray(Image.open(paths[0]).convert('L'))
  film = dicom(
    255 - values,
    BitsAllocated=8,
    BitsStored=8,
    PhotometricInterpretation='MONOCHROME1',
    WindowCenter=127.5,
    WindowWidth=255,
    VOILUTFunction='LINEAR_EXACT',
  )
  save(film, path)
  np.testing.assert_allclose(
    gray(path, size=128), gray(paths[0], size=128), atol=1.01 / 255
  )
