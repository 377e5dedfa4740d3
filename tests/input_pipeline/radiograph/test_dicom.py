"""Bits, padding, syntaxes and refusals; pixels computed by hand.

Long, since its cases are many and share the films that they are made from.
"""

import collections
import io
import pathlib
import types

import numpy as np
import pydicom
import pydicom.data
import pytest
from PIL import Image
from pydicom import pixels, uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from input_pipeline.radiograph import dicom as dicom_reader
from input_pipeline.radiograph import errors, radiograph
from tests.input_pipeline.radiograph.made_films import (
  LEVELS,
  RAMP,
  SECRET,
  dicom,
  film_bytes,
  gray,
  near,
  palette,
  rgb,
  save,
)


@pytest.fixture
def path(tmp_path):
  return str(tmp_path / 'film')


class TestDicom:
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
  def test_other_syntaxes_name_the_package(
    self, path, syntax, package, monkeypatch
  ):
    # As on a machine without the package.
    bare = types.SimpleNamespace(available_plugins=())
    monkeypatch.setattr(errors.pixels, 'get_decoder', lambda syntax: bare)
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
      ({'PhotometricInterpretation': 'RGB'}, 'SamplesPerPixel'),
      (
        {'PhotometricInterpretation': 'RGB', 'SamplesPerPixel': 3},
        'PlanarConfiguration',
      ),
      ({'PhotometricInterpretation': 'CMYK'}, 'PhotometricInterpretation'),
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


class TestBits:
  def compressed_as_uncompressed(self, path, film):
    """The picture of a film is that of its RLE."""
    save(film, path)
    plain = radiograph.read(path, size=4)
    film.compress(uid.RLELossless)
    save(film, path)
    packed = radiograph.read(path, size=4)
    np.testing.assert_array_equal(packed.image, plain.image)
    return plain.image[..., 0]

  VALUES = np.arange(16).reshape(4, 4) * 260 + 45

  @pytest.mark.parametrize('garbage', [0, 0x8000, 0x9000])
  def test_overlay_in_upper_bits(self, path, garbage):
    stored = self.VALUES.copy()
    stored[::2] |= garbage
    film = dicom(stored, WindowCenter=2048, WindowWidth=4096)
    near(self.compressed_as_uncompressed(path, film), self.VALUES / 4095)

  def test_bits_below_those_stored(self, path):
    film = dicom(self.VALUES * 16 + 15, HighBit=15)
    film.WindowCenter, film.WindowWidth = 2048, 4096
    near(self.compressed_as_uncompressed(path, film), self.VALUES / 4095)

  @pytest.mark.parametrize(
    'cells, elements',
    [
      (VALUES | 0x8000, {}),
      (VALUES * 16 + 3, {'HighBit': 15}),
      (np.where(VALUES < 400, 0xFFFF, VALUES), {'PixelPaddingValue': 0xFFFF}),
      ((VALUES - 2048) & 0xFFFF, {'PixelRepresentation': 1}),
    ],
    ids=['overlay', 'high bit', 'padding', 'signed'],
  )
  def test_jpeg_2000_of_whole_cells(self, path, cells, elements):
    film = dicom(cells, dtype='<u2', WindowWidth=4096, **elements)
    film.WindowCenter = 2048 * (1 - film.PixelRepresentation)
    save(film, path)
    plain = gray(path, size=4)
    data = io.BytesIO()
    picture = Image.fromarray(cells.astype(np.uint16))
    picture.save(data, 'JPEG2000', irreversible=False)
    film.PixelData = pydicom.encaps.encapsulate([data.getvalue()])
    film.file_meta.TransferSyntaxUID = uid.JPEG2000Lossless
    save(film, path)
    np.testing.assert_array_equal(gray(path, size=4), plain)

  def test_jpeg_of_the_stored_bits_alone(self, path):
    # The header says that they lie highest; in the code stream they lie lowest.
    values = self.VALUES.astype(np.uint16)
    film = dicom(values, HighBit=15, WindowCenter=2048, WindowWidth=4096)
    data = io.BytesIO()
    Image.fromarray(values).save(data, 'JPEG2000', irreversible=False)
    film.PixelData = pydicom.encaps.encapsulate([data.getvalue()])
    film.file_meta.TransferSyntaxUID = uid.JPEG2000Lossless
    save(film, path)
    near(gray(path, size=4), values / 4095)

  @pytest.mark.parametrize('highest', [3, 40])
  def test_impossible_high_bit_is_passed_by(self, path, highest):
    film = dicom(self.VALUES, HighBit=highest)
    film.WindowCenter, film.WindowWidth = 2048, 4096
    save(film, path)
    film = radiograph.read(path, size=4)
    near(film.image[..., 0], self.VALUES / 4095)
    assert any('HighBit' in note for note in film.notes)

  def test_more_bits_than_are_said_to_be_stored_are_warned_of(self, path):
    save(dicom(self.VALUES, BitsStored=8), path)
    warnings = radiograph.read(path, size=4).warnings
    assert any('BitsStored' in warning for warning in warnings)

  @pytest.mark.parametrize(
    'signed, stored, padding',
    [
      (0, 0xFFFF, 0xFFFF),
      (0, 0x0FFF, 0xFFFF),  # an encoder has cut the upper bits
      (0, 0x8000, 0),  # an overlay's bit on padding
      (1, -32768, -32768),
      (1, 0x0800, -2048),  # in 12 bits, without sign extension
    ],
  )
  def test_padding_whatever_its_upper_bits(self, path, signed, stored, padding):
    values = self.VALUES - 2048 * signed
    values[:2] = stored
    film = dicom(
      values,
      dtype='<i4',
      PixelRepresentation=signed,
      PixelPaddingValue=padding,
      WindowCenter=2048 * (1 - signed),
      WindowWidth=4096,
    )
    film.PixelData = values.astype('<i4').astype('<u2').tobytes()
    image = self.compressed_as_uncompressed(path, film)
    near(image[2:], self.VALUES[2:] / 4095)
    assert not image[:2].any()

  def test_white_is_no_padding_of_more_bits(self, path):
    values = self.VALUES.copy()
    values[0], values[1] = 0xFFFF, 0x0FFF
    film = dicom(
      values, PixelPaddingValue=0xFFFF, WindowCenter=2048, WindowWidth=4096
    )
    image = self.compressed_as_uncompressed(path, film)
    assert not image[0].any() and (image[1] == 1).all()

  @pytest.mark.parametrize('syntax', [None, uid.RLELossless])
  def test_a_high_bit_that_no_pixel_has_is_passed_by(self, path, syntax):
    film = dicom(self.VALUES, WindowCenter=2048, WindowWidth=4096)
    if syntax:
      film.compress(syntax)
    film.HighBit = 15  # written by some whatever they store
    save(film, path)
    film = radiograph.read(path, size=4)
    near(film.image[..., 0], self.VALUES / 4095)
    assert 'its HighBit contradicts its pixels and was passed by' in film.notes

  def test_padding_of_minus_one_is_no_white(self, path):
    cells = self.VALUES.copy()
    cells[0], cells[1, 0] = 0xFFFF, 4095
    film = dicom(cells, WindowCenter=2048, WindowWidth=4096)
    film.add_new('PixelPaddingValue', 'SS', -1)
    save(film, path)
    values = np.where(cells == 0xFFFF, 0, cells)
    near(gray(path, size=4), values / 4095)


def in_jpeg(picture, **elements):
  """A film of 8 bits whose pixels are a JPEG."""
  film = dicom(LEVELS, BitsAllocated=8, BitsStored=8)
  film.WindowCenter, film.WindowWidth = 128, 256
  data = io.BytesIO()
  picture.save(data, 'JPEG', quality=100, subsampling=0)
  film.PixelData = pydicom.encaps.encapsulate([data.getvalue()])
  film['PixelData'].is_undefined_length = True
  film.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
  for name, value in elements.items():
    setattr(film, name, value)
  return film


class TestCodestreams:
  """Elements that contradict the compressed pixels: these are believed."""

  @pytest.mark.parametrize('stored', [8, 12])
  def test_eight_bits_in_sixteen(self, path, stored):
    elements = {'BitsAllocated': 16, 'BitsStored': stored, 'HighBit': 11}
    save(in_jpeg(Image.fromarray(LEVELS), **elements), path)
    film = radiograph.read(path, size=8)
    np.testing.assert_allclose(film.image[..., 0], LEVELS / 255, atol=0.02)
    assert any('BitsAllocated contradicts' in note for note in film.notes)

  def test_sixteen_bits_in_eight(self, path):
    values = (LEVELS * 256.0).astype(np.uint16)
    film = dicom(LEVELS, BitsAllocated=8, BitsStored=8)
    film.WindowCenter, film.WindowWidth = 32768, 65536
    data = io.BytesIO()
    Image.fromarray(values).save(data, 'JPEG2000', irreversible=False)
    film.PixelData = pydicom.encaps.encapsulate([data.getvalue()])
    film['PixelData'].is_undefined_length = True
    film.file_meta.TransferSyntaxUID = uid.JPEG2000Lossless
    save(film, path)
    near(gray(path, size=8), values / 65535)

  @pytest.mark.parametrize(
    'mode, samples, kind', [('RGB', 1, 'MONOCHROME2'), ('L', 3, 'RGB')]
  )
  def test_another_number_of_samples(self, path, mode, samples, kind):
    film = in_jpeg(
      Image.fromarray(LEVELS).convert(mode),
      SamplesPerPixel=samples,
      PhotometricInterpretation=kind,
    )
    save(film, path)
    film = radiograph.read(path, size=8)
    np.testing.assert_allclose(film.image[..., 0], LEVELS / 255, atol=0.02)
    assert any('SamplesPerPixel contradicts' in note for note in film.notes)


def without_preamble(film):
  return film_bytes(film)[132:]


class TestSentences:
  def test_a_file_without_preamble_is_read(self, tmp_path):
    path = tmp_path / 'film.dcm'
    path.write_bytes(without_preamble(dicom(RAMP)))
    film = radiograph.read(str(path), size=2)
    near(film.image[..., 0], [[0, 0.25], [0.5, 1]])
    assert 'the file has no preamble' in film.notes
    found, _ = radiograph.find(str(tmp_path))
    assert found == [str(path)]

  @pytest.mark.parametrize(
    'implicit, little', [(True, True), (False, True), (False, False)]
  )
  def test_a_bare_data_set_is_read(self, path, implicit, little):
    made = dicom(
      RAMP,
      syntax=uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian,
    )
    film = Dataset()
    film.update(made)
    film.save_as(
      path,
      implicit_vr=implicit,
      little_endian=little,
      enforce_file_format=False,
    )
    assert dicom_reader.begins(pathlib.Path(path).read_bytes()[:132])
    near(gray(path, size=2), [[0, 0.25], [0.5, 1]])

  @pytest.mark.parametrize('before', [b'DICM', bytes(128), b'II*\0' * 32])
  def test_half_a_preamble_is_read(self, tmp_path, before):
    path = tmp_path / 'film'
    path.write_bytes(before + without_preamble(dicom(RAMP)))
    near(gray(str(path), size=2), [[0, 0.25], [0.5, 1]])
    assert radiograph.find(str(tmp_path))[0] == [str(path)]

  def test_a_long_first_element(self, path):
    film = Dataset()
    film.update(dicom(RAMP))
    film.ImageType = ['ORIGINAL', 'PRIMARY', *['X' * 16] * 20]
    film.save_as(
      path, implicit_vr=True, little_endian=True, enforce_file_format=False
    )
    near(gray(path, size=2), [[0, 0.25], [0.5, 1]])

  def test_pixels_that_are_not_compressed_as_the_file_says(self, path):
    data = film_bytes(dicom(RAMP))
    plain, packed = b'1.2.840.10008.1.2.1\0', b'1.2.840.10008.1.2.5\0'
    assert data.count(plain) == 1
    pathlib.Path(path).write_bytes(data.replace(plain, packed))
    film = radiograph.read(path, size=2)
    near(film.image[..., 0], [[0, 0.25], [0.5, 1]])
    assert any('not compressed' in note for note in film.notes)

  def test_pixels_that_are_compressed_though_the_file_does_not_say_so(
    self, path
  ):
    film = in_jpeg(Image.fromarray(LEVELS))
    film['PixelData'].is_undefined_length = False
    film.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    save(film, path)
    with pytest.raises(radiograph.RadiographError, match='is compressed, but'):
      radiograph.read(path, size=8)

  def test_a_syntax_of_somebody_s_own_is_named(self, path):
    data = film_bytes(dicom(RAMP))
    own = data.replace(b'1.2.840.10008.1.2.1\0', b'1.2.840.113619.5.22\0')
    pathlib.Path(path).write_bytes(own)
    with pytest.raises(radiograph.RadiographError, match='TransferSyntaxUID'):
      radiograph.read(path, size=2)

  def test_a_representation_that_is_none_is_named(self, path):
    film = dicom(RAMP)
    film.PixelRepresentation = 2
    save(film, path)
    with pytest.raises(radiograph.RadiographError, match='PixelRepresentation'):
      radiograph.read(path, size=2)

  @pytest.mark.parametrize(
    'head', [b'', b'GIF89a', b'\x08\0', b'PK\3\4' + bytes(40), b'\0' * 200]
  )
  def test_other_files_begin_otherwise(self, head):
    assert not dicom_reader.begins(head)

  @pytest.mark.parametrize(
    'element',
    ['Rows', 'BitsStored', 'PixelRepresentation', 'PhotometricInterpretation'],
  )
  def test_a_missing_element_is_named(self, path, element):
    film = dicom(RAMP)
    delattr(film, element)
    film.save_as(path, enforce_file_format=False)
    with pytest.raises(radiograph.RadiographError, match=element) as error:
      radiograph.read(path, size=2)
    assert 'damaged' not in str(error.value)

  def test_one_sample_is_meant_where_none_is_named(self, path):
    film = dicom(RAMP)
    del film.SamplesPerPixel, film.HighBit
    film.save_as(path, enforce_file_format=False)
    near(gray(path, size=2), [[0, 0.25], [0.5, 1]])

  @pytest.mark.filterwarnings('ignore')  # pydicom's, while writing
  def test_photometric_interpretation_in_small_letters(self, path):
    film = dicom(RAMP)
    film.PhotometricInterpretation = 'Monochrome2 '
    film.save_as(path, enforce_file_format=False)
    near(gray(path, size=2), [[0, 0.25], [0.5, 1]])

  def test_too_few_bytes_are_counted(self, path):
    film = dicom(RAMP)
    film.PixelData = film.PixelData[:6]
    save(film, path)
    with pytest.raises(radiograph.RadiographError, match='6 bytes.*asks for 8'):
      radiograph.read(path, size=2)

  def test_fractions_are_no_missing_image(self, path):
    film = dicom(RAMP)
    del film.PixelData
    film.FloatPixelData = np.ones((2, 2), np.float32).tobytes()
    save(film, path)
    with pytest.raises(radiograph.RadiographError, match='fractions'):
      radiograph.read(path, size=2)

  def test_advice_is_a_decoder_that_is_not_there(self, path):
    # Pillow reads JPEG 2000 of gray; of a stream that it does not read another
    # decoder may.
    film = dicom(RAMP)
    film.PixelData = pydicom.encaps.encapsulate(
      [b'\xff\x4f\xff\x51' + bytes(9)]
    )
    film.file_meta.TransferSyntaxUID = uid.JPEG2000Lossless
    save(film, path)
    with pytest.raises(radiograph.RadiographError) as error:
      radiograph.read(path, size=2)
    plugins = pixels.get_decoder(uid.JPEG2000Lossless).available_plugins
    assert ('pip install' in str(error.value)) == ('pylibjpeg' not in plugins)

  def test_jpeg_of_12_bits_has_no_package(self, path):
    film = dicom(RAMP)
    film.PixelData = pydicom.encaps.encapsulate([bytes(10)])
    film.file_meta.TransferSyntaxUID = uid.JPEGExtended12Bit
    save(film, path)
    with pytest.raises(radiograph.RadiographError, match='dcmdjpeg'):
      radiograph.read(path, size=2)


class TestColour:
  @pytest.mark.parametrize('planar', [0, 1])
  def test_gray_in_rgb(self, path, planar):
    channels = np.stack([LEVELS] * 3, axis=0 if planar else -1)
    save(rgb(channels, planar=planar), path)
    near(gray(path, size=8), LEVELS / 255)

  def test_jpeg_needs_no_planar_configuration(self, path):
    film = in_jpeg(
      Image.fromarray(LEVELS).convert('RGB'),
      SamplesPerPixel=3,
      PhotometricInterpretation='YBR_FULL_422',
    )
    save(film, path)
    np.testing.assert_allclose(gray(path, size=8), LEVELS / 255, atol=0.02)

  def test_gray_in_ybr(self, path):
    flat = np.full_like(LEVELS, 128)
    save(rgb(np.stack([LEVELS, flat, flat], -1), 'YBR_FULL'), path)
    near(gray(path, size=8), LEVELS / 255)

  @pytest.mark.parametrize(
    'bits, scale, stored', [(16, 257, '<u2'), (8, 1, '<u2'), (8, 1, 'u1')]
  )
  def test_gray_in_a_palette(self, path, bits, scale, stored):
    entries = np.arange(256)[::-1] * scale
    save(palette(*[entries] * 3, bits=bits, stored=stored), path)
    near(gray(path, size=8), 1 - LEVELS / 255)

  def test_colours_are_refused(self, path):
    for film in (
      rgb(np.stack([LEVELS, LEVELS[::-1], LEVELS], -1)),
      palette(*[np.roll(np.arange(256), 80 * i) * 257 for i in range(3)]),
    ):
      save(film, path)
      with pytest.raises(radiograph.RadiographError, match='colour'):
        radiograph.read(path, size=8)

  def test_a_missing_part_is_named(self, path):
    film = palette(*[np.arange(256)] * 3)
    del film.GreenPaletteColorLookupTableData
    save(film, path)
    with pytest.raises(radiograph.RadiographError, match='palette'):
      radiograph.read(path, size=8)


def test_pydicom_s_own_files_end_in_a_film_or_a_sentence():
  """No traceback; and what pydicom shows as gray is shown."""
  folder = pathlib.Path(pydicom.data.__file__).parent / 'test_files'
  counts = collections.Counter()
  for path in sorted(p for p in folder.rglob('*') if p.is_file()):
    try:
      film = radiograph.read(str(path), size=16)
    except radiograph.RadiographError as error:
      assert str(error).endswith('.') and '\n' not in str(error)
      assert 'holds what no film' not in str(error), path
      counts['refused'] += 1
    else:
      assert film.image.shape == (16, 16, 1)
      counts['read'] += 1
  # Most are no pictures at all.
  assert counts['read'] > 45
