"""Why a film is not read: one sentence, that says what would help.

'Damaged' is said of files whose bytes are cut or changed, 'in colour' of films
with colours. Where the meaning of an element decides, its keyword is named;
what the file says is never quoted, since it could be about a patient.
"""

from pydicom import pixels, uid

MAX_PIXELS = 50_000_000  # thrice the largest film plate's

# The best decoder of each way to compress, as pydicom calls it, and what
# installs it; tried with pydicom's own test files. pylibjpeg-libjpeg, which
# decodes JPEG too, is under the GPL and so is not named.
_PACKAGES = {
  'gdcm': 'python-gdcm',
  'pyjpegls': 'pyjpegls',
  'pylibjpeg': 'pylibjpeg pylibjpeg-openjpeg',
}
_DECODERS = {
  uid.JPEGBaseline8Bit: 'gdcm',
  uid.JPEGExtended12Bit: 'gdcm',
  uid.JPEGLossless: 'gdcm',
  uid.JPEGLosslessSV1: 'gdcm',
  uid.JPEGLSLossless: 'pyjpegls',
  uid.JPEGLSNearLossless: 'pyjpegls',
  uid.JPEG2000Lossless: 'pylibjpeg',
  uid.JPEG2000: 'pylibjpeg',
  uid.HTJ2KLossless: 'pylibjpeg',
  uid.HTJ2KLosslessRPCL: 'pylibjpeg',
  uid.HTJ2K: 'pylibjpeg',
}


class RadiographError(ValueError):
  """A film that is not read; its text is one sentence that says why.

  `reason` is what films are counted under that are not read for the same: in
  two or three words.
  """

  def __init__(self, sentence: str, reason: str = 'undecodable'):
    super().__init__(sentence)
    self.reason = reason


def check_size(height: int, width: int) -> None:
  """Raises RadiographError where a film claims more pixels than are read.

  Called before anything is decoded: a file of a few bytes can claim any size.
  """
  if not 0 < height * width <= MAX_PIXELS:
    raise RadiographError(
      f'The film claims {height} x {width} pixels; '
      f'1 to {MAX_PIXELS:,} are read.',
      reason='too large',
    )


def undecoded(syntax: uid.UID, bits: int) -> RadiographError:
  """The error for compressed or raw pixels that could not be decoded.

  Args:
    syntax: the file's transfer syntax.
    bits: stored for each pixel.
  """
  damaged = RadiographError(
    'The DICOM is damaged: its pixels cannot be decoded.'
  )
  if not syntax.is_encapsulated or syntax == uid.RLELossless:
    return damaged
  if syntax not in _DECODERS:
    return RadiographError(
      'The DICOM is compressed in a way that is not read; decompress it first.'
    )
  if syntax == uid.JPEGExtended12Bit and bits > 8:
    # No decoder under a permissive licence reads these from Python.
    return RadiographError(
      f'The DICOM is compressed as {syntax.name} with {bits} bits, which is '
      'not read; decompress it first (dcmdjpeg of DCMTK).'
    )
  installed = pixels.get_decoder(syntax).available_plugins
  advice = f'pip install {_PACKAGES[_DECODERS[syntax]]}'
  if not installed:
    return RadiographError(
      f'The DICOM is compressed as {syntax.name}: {advice}.'
    )
  if _DECODERS[syntax] in installed:
    return damaged
  return RadiographError(
    f'The DICOM is damaged, or is {syntax.name} of a kind that another decoder '
    f'may read: {advice}.'
  )
