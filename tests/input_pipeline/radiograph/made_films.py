"""Films made for the tests: DICOM and PNG files whose pixels are known."""

import io

import numpy as np
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from input_pipeline.radiograph import radiograph

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


def png(array, mode=None):
  return Image.fromarray(np.asarray(array), mode=mode)


GRAY = np.array([[0, 51], [102, 255]], np.uint8)


def film_bytes(film):
  out = io.BytesIO()
  film.save_as(out, enforce_file_format=True)
  return out.getvalue()


LEVELS = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def rgb(array, kind='RGB', planar=0):
  film = dicom(LEVELS, BitsAllocated=8, BitsStored=8)
  film.SamplesPerPixel, film.PhotometricInterpretation = 3, kind
  film.PlanarConfiguration = planar
  film.PixelData = np.ascontiguousarray(array).tobytes()
  return film


def palette(red, green, blue, bits=16, stored='<u2'):
  film = dicom(LEVELS, BitsAllocated=8, BitsStored=8)
  film.PhotometricInterpretation = 'PALETTE COLOR'
  for name, entries in (('Red', red), ('Green', green), ('Blue', blue)):
    name = f'{name}PaletteColorLookupTable'
    setattr(film, f'{name}Descriptor', [256, 0, bits])
    data = np.asarray(entries).astype(stored).tobytes()
    setattr(film, f'{name}Data', data)
  return film


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
  turned = dicom(
    values,
    PatientOrientation=['F', 'R'],
    ViewPosition='PA',
    WindowCenter=2000,
    WindowWidth=4000,
    VOILUTFunction='SIGMOID',
  )
  packed = dicom(values, RescaleSlope=1.5, RescaleIntercept=-1)
  packed.compress(uid.RLELossless)
  return [
    film_bytes(film),
    film_bytes(dicom(values, syntax=uid.ImplicitVRLittleEndian)),
    film_bytes(packed),
    film_bytes(turned)[132:],
    film_bytes(rgb(np.stack([LEVELS] * 3, -1))),
    film_bytes(palette(*[np.arange(256) * 257] * 3)),
    *(p.getvalue() for p in pictures),
  ]


SAMPLES = _samples()
