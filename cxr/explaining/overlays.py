"""A picture of a film with its maps over it and the boxes around their peaks.

`plots.gallery_figure` draws the same in a second a film, which is too long for
a thousand films; here a film takes some hundredths of a second.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from cxr.localization import regions
from cxr.reporting import plots

PANEL = 256  # pixels, at least
TITLE = 24
OPACITY = 0.45


def draw(
  image: UInt8[np.ndarray, 'h w'], findings: Sequence[Mapping]
) -> Image.Image:
  """A row for each finding: the film, then each map over it with its boxes.

  Args:
    image: the film, a square.
    findings: with 'finding', 'probability', 'maps' and 'boxes' (in [0, 1]), as
      `interpret.Interpreted` has them.
  """
  methods = list(findings[0]['maps'])
  side = max(PANEL, len(image))
  height = len(findings) * (TITLE + side) + 2 * TITLE
  sheet = Image.new('RGB', ((1 + len(methods)) * side, height), 'white')
  pen = ImageDraw.Draw(sheet)
  font = ImageFont.load_default(14)
  lut = np.uint8(
    255 * matplotlib.colormaps[plots.COLORMAP](np.arange(256))[:, :3] + 0.5
  )
  film = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
  film = film.convert('RGB')
  for row, finding in enumerate(findings):
    top = row * (TITLE + side)
    end = f'  {finding["probability"]:.3f}'
    room = side - 8 - pen.textlength(end, font)
    title = _shortened(finding['finding'], pen, font, room) + end
    pen.text((4, top + 4), title, 'black', font)
    sheet.paste(film, (0, top + TITLE))
    for column, method in enumerate(methods, start=1):
      pen.text((column * side + 4, top + 4), method, 'black', font)
      cells = np.uint8(regions.scale_255(finding['maps'][method]))
      cells = Image.fromarray(cells).resize(
        (side, side), Image.Resampling.BILINEAR
      )
      colours = Image.fromarray(lut[np.asarray(cells)])
      corner = column * side, top + TITLE
      sheet.paste(Image.blend(film, colours, OPACITY), corner)
      for box in finding['boxes'][method]:
        _draw_dashed(pen, np.asarray(box) * (side - 1), corner)
  bar = Image.fromarray(np.tile(lut, (10, 1, 1))).resize((200, 10))
  sheet.paste(bar, (8, height - TITLE))
  note = "each map's minimum to maximum; predicted boxes dashed"
  pen.text((216, height - TITLE - 4), note, 'black', font)
  return sheet


def _shortened(name: str, pen: ImageDraw.ImageDraw, font, room: float) -> str:
  """The name on one line of at most `room` pixels, cut with an ellipsis."""
  name = ' '.join(name.split())
  if pen.textlength(name, font) <= room:
    return name
  while name and pen.textlength(f'{name}…', font) > room:
    name = name[:-1]
  return f'{name}…'


def _draw_dashed(
  pen: ImageDraw.ImageDraw,
  box: Float[np.ndarray, '4'],
  corner: tuple[int, int],
  *,
  dash: int = 6,
) -> None:
  """A box in pixels from a corner (x, y) of the sheet."""
  ymin, xmin, ymax, xmax = np.round(box).astype(int)
  x, y = corner
  outline = (x + xmin, y + ymin, x + xmax, y + ymax)
  pen.rectangle(outline, outline='black')
  for start in range(xmin, xmax, 2 * dash):
    end = min(start + dash, xmax)
    for row in (ymin, ymax):
      pen.line((x + start, y + row, x + end, y + row), plots.PREDICTION, 2)
  for start in range(ymin, ymax, 2 * dash):
    end = min(start + dash, ymax)
    for col in (xmin, xmax):
      pen.line((x + col, y + start, x + col, y + end), plots.PREDICTION, 2)
