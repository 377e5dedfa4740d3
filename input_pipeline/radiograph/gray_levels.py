"""Stored values of a DICOM -> gray in [0, 1]: modality, then window or table.

Windows are pydicom's. Lookup tables are not: where entries have 8 bits, pydicom
counts them in 8 bits too, so that the 4096 entries of a table become 256 over
and over; and it does not read packed or big-endian ones.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer
from pydicom import pixels
from pydicom.dataset import Dataset

from input_pipeline.radiograph import elements
from input_pipeline.radiograph.errors import RadiographError


def modality(
  film: Dataset, values: Integer[np.ndarray, 'h w']
) -> tuple[Float[np.ndarray, 'h w'], float, list[str]]:
  """Stored values -> the modality's, by table or by slope and intercept.

  Returns:
    The values; what one gray level is in them, at most 1; notes.

  Raises:
    RadiographError: slope or intercept is no number, or the slope is 0.
  """
  tables = _tables(film, 'ModalityLUTSequence')
  if tables:
    mapped, _ = look_up(*tables[0], values, film)
    return mapped, 1.0, ['modality table']
  slope = (elements.numbers(film, 'RescaleSlope', strict=True) or [1.0])[0]
  intercept = (
    elements.numbers(film, 'RescaleIntercept', strict=True) or [0.0]
  )[0]
  if slope == 0:
    raise RadiographError(
      'The DICOM has a RescaleSlope of 0: all of its pixels would be equal.'
    )
  values = values * slope + intercept
  note = f'rescaled by {slope:g}, {intercept:+g}'
  return values, min(1.0, abs(slope)), [note] * ((slope, intercept) != (1, 0))


def of_interest(
  film: Dataset,
  values: Float[np.ndarray, 'h w'],
  unit: float,
  padding: Bool[np.ndarray, 'h w'],
) -> tuple[Float[np.ndarray, 'h w'], list[str]]:
  """The modality's values -> gray in [0, 1], by table, window or range.

  A table comes before a window: the standard offers them as alternatives, and
  a table is the vendor's own curve. Of several windows the first that is one
  is taken; what is none is passed by and noted.

  Args:
    film: the DICOM.
    values: of `modality`.
    unit: what one gray level is in them.
    padding: pixels that are left out of the range.

  Returns:
    The gray values and notes.

  Raises:
    RadiographError: a function or a table that is not known.
  """
  notes = []
  tables = _tables(film, 'VOILUTSequence')
  if tables:
    gray, bits = look_up(*tables[0], values, film)
    return gray / (2**bits - 1), [f'VOI table 1 of {len(tables)}']
  if film.get('VOILUTSequence'):
    notes.append('its VOI table is empty and was passed by')
  function = elements.text(film, 'VOILUTFunction').replace(' ', '_') or 'LINEAR'
  if function not in ('LINEAR', 'LINEAR_EXACT', 'SIGMOID'):
    raise RadiographError('The DICOM has a VOILUTFunction that is not known.')
  centers, widths = (
    elements.numbers(film, keyword, passed_by=notes)
    for keyword in ('WindowCenter', 'WindowWidth')
  )
  windows = list(zip(centers, widths, strict=False))
  for i, (center, width) in enumerate(windows, start=1):
    narrowest = unit if function == 'LINEAR' else 0
    if np.isfinite([center, width]).all() and width >= narrowest and width > 0:
      notes.append(
        f'window {i} of {len(windows)}: centre {center:g}, width {width:g}, '
        f'{function}'
      )
      return _window(values, center, width, unit, function), notes
  if not np.isnan([*centers, *widths]).all():
    notes.append('its window is not a window and was passed by')
  known = values[~padding]
  low, high = known.min(), known.max()
  gray = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
  return gray, [*notes, f'no window: {low:g} to {high:g} made black to white']


def _window(
  values: Float[np.ndarray, 'h w'],
  center: float,
  width: float,
  unit: float,
  function: str,
) -> Float[np.ndarray, 'h w']:
  """pydicom's window, to [0, 1].

  LINEAR ends half a gray level before and after its width (PS3.3,
  C.11.2.1.2.1), which the standard takes for 1; it is `unit` where a slope has
  made it less.
  """
  window = Dataset()
  window.PhotometricInterpretation = 'MONOCHROME2'
  # pydicom's result has the range of the stored values: of one bit, 0 to 1.
  window.BitsStored, window.PixelRepresentation = 1, 0
  window.add_new('WindowCenter', 'FD', center / unit)
  window.add_new('WindowWidth', 'FD', width / unit)
  window.VOILUTFunction = function
  with np.errstate(over='ignore'):  # far from a sigmoid's centre
    return pixels.apply_windowing(values / unit, window)


def _tables(film: Dataset, keyword: str) -> list[tuple]:
  """(descriptor, data) of the items of a sequence that hold a lookup table."""
  try:
    return [
      (item.LUTDescriptor, item.LUTData)
      for item in film.get(keyword) or ()
      if item.get('LUTData') is not None and item.get('LUTDescriptor')
    ]
  except Exception:
    return []


def look_up(
  descriptor: Sequence[int],
  data: bytes | int | Sequence[int],
  values: Float[np.ndarray, 'h w'] | Integer[np.ndarray, 'h w'],
  film: Dataset,
) -> tuple[Float[np.ndarray, 'h w'], int]:
  """Values mapped by a lookup table (PS3.3, C.11.1.1), and the table's bits.

  Args:
    descriptor: number of entries, the value of the first, bits of an entry.
    data: the entries.
    values: to be mapped; those outside of the table take its first or last.
    film: says in which order bytes lie and whether values have a sign.
  """
  if np.size(descriptor) != 3:
    raise RadiographError(
      'The DICOM has a LUTDescriptor that is not three numbers.'
    )
  count, first, bits = (int(v) for v in descriptor)
  count = (count & 0xFFFF) or 2**16
  if film.PixelRepresentation == 0 and 'RescaleSlope' not in film:
    first &= 0xFFFF
  if not 8 <= bits <= 16:
    raise RadiographError(
      f'The DICOM has a table of {bits} bits an entry (LUTDescriptor), which '
      'is not read.'
    )
  order = '<' if film.original_encoding[1] else '>'
  if not isinstance(data, bytes):
    data = np.atleast_1d(np.asarray(data, np.int64)).astype(f'{order}u2')
    data = data.tobytes()
  # Entries of 8 bits are found both packed and in 16 bits each.
  kind = f'{order}u2' if len(data) >= 2 * count else 'u1'
  table = np.frombuffer(data, kind)[:count].astype(np.float32)
  if len(table) < count or (kind == 'u1' and bits > 8):
    raise RadiographError(
      'The DICOM is damaged: its table (LUTData) is shorter than its '
      'LUTDescriptor says.'
    )
  index = np.rint(values).astype(np.int64) - first
  mapped = table[np.clip(index, 0, count - 1)]
  return np.minimum(mapped, np.float32(2**bits - 1)), bits
