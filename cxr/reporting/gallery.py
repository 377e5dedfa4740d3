"""Films with their maps, packed for a page that thresholds them again.

A case is {'name', 'image' uint8 'h w', 'finding', 'probability', 'truth':
[box], 'maps': {method: 'u v'}, 'boxes': {method: [box]}} and may have 'kind'
(best, median, …), 'run', 'warnings', 'calibrated' and 'called'. Boxes are
(ymin, xmin, ymax, xmax) in [0, 1]. Maps travel as eight bits a cell between
their own least and greatest value.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from PIL import Image

from cxr.localization import regions
from cxr.reporting import plots

# What a page may spend on films and on maps, in bytes before base64, whatever
# their number: 15 MB at most in all.
FILM_BYTES, MAP_BYTES = 4e6, 3.5e6
FILM_SIDE = 448
# Wang's upper level of 255.
LEVEL = 180


def gallery(
  cases: Sequence[Mapping],
  *,
  rule: str = '',
  sizes: Mapping[str, Sequence[int]] | None = None,
  level: int = LEVEL,
  choose_film: bool = False,
) -> dict | None:
  """What parts.html and page.js need, or None without a map.

  Args:
    cases: as above.
    rule: that made the boxes, for the caption.
    sizes: method -> the resolution its maps were computed at: maps arrive
      enlarged, so that their shape does not tell.
    level: of 255, where the slider stands at first.
    choose_film: one film at a time, chosen from a list; else all films of the
      chosen finding.
  """
  cases = [case for case in cases if case['maps']]
  if not cases:
    return None
  methods = list(dict.fromkeys(m for c in cases for m in c['maps']))
  num_maps = sum(len(c['maps']) for c in cases)
  side = math.sqrt(MAP_BYTES / max(num_maps, 1))
  films = {}
  for case in cases:
    films.setdefault(case['name'], case)
  index = {name: i for i, name in enumerate(films)}
  packed = []
  for case in cases:
    truth = [list(map(_round, box)) for box in case.get('truth', ())]
    boxes = {
      m: [list(map(_round, box)) for box in found]
      for m, found in case.get('boxes', {}).items()
    }
    item = {
      'film': index[case['name']],
      'finding': case['finding'],
      'kind': case.get('kind', ''),
      'probability': _finite(case.get('probability')),
      'calibrated': _finite(case.get('calibrated')),
      'called': case.get('called'),
      'truth': truth,
      'maps': {
        m: _pack_map(v, side, (sizes or {}).get(m))
        for m, v in case['maps'].items()
      },
      'boxes': boxes,
    }
    if 'run' in case:
      item['run'] = case['run']
    packed.append(item)
  lut = matplotlib.colormaps[plots.COLORMAP](np.arange(256), bytes=True)
  notes = [
    'Scores are of the best predicted box against the true one. '
    + (
      f'As evaluated: the boxes of rule {rule}, '
      if rule
      else 'As evaluated: the boxes as computed, '
    )
    + 'from the full map. The slider thresholds the map in this page (eight '
    'bits a cell, bilinear, scaled from its minimum to its maximum) and boxes '
    'every 8-connected region.'
  ]
  if any(side**2 < v.size for c in cases for v in c['maps'].values()):
    notes.append(
      'To keep the page small some maps are stored coarser than they were '
      'computed, and the slider works on these.'
    )
  data = {
    'films': [
      {
        'name': film['name'],
        'warnings': list(film.get('warnings', ())),
        'src': _film_uri(film['image'], len(films)),
        'height': int(film['image'].shape[0]),
        'width': int(film['image'].shape[1]),
      }
      for film in films.values()
    ],
    'cases': packed,
    'methods': methods,
    'level': level,
    'colors': lut[:, :3].tobytes().hex(),
  }
  return {
    'id': 'gallery',
    'data': data,
    'findings': list(dict.fromkeys(c['finding'] for c in cases)),
    'methods': methods,
    'chosen': main_methods(methods),
    'level': level,
    'choose_film': choose_film,
    'notes': notes,
  }


def _round(value):
  return round(float(value), 4)


def _finite(value):
  return None if value is None or not math.isfinite(value) else float(value)


def _pack_map(heatmap, side, cells_of=None):
  """Eight bits a cell, as base64 of the bytes themselves.

  Not as PNG: reading pixels back from a canvas is asynchronous, and browsers
  that guard against fingerprinting add noise to it.
  """
  heatmap = regions.clean(heatmap)
  height, width = heatmap.shape
  shrink = min(1.0, side / math.sqrt(height * width))
  if shrink < 1:
    size = (max(1, int(width * shrink)), max(1, int(height * shrink)))
    small = Image.fromarray(heatmap.astype(np.float32)).resize(
      size, Image.Resampling.BOX
    )
    heatmap = np.asarray(small, np.float64)
  low, high = float(heatmap.min()), float(heatmap.max())
  scale = 255 / (high - low) if high > low else 0.0
  cells = np.round((heatmap - low) * scale).astype(np.uint8)
  return {
    'data': base64.b64encode(cells.tobytes()).decode(),
    'shape': list(heatmap.shape),
    'cells': list(cells_of) if cells_of else None,
    'low': low,
    'high': high,
  }


def _film_uri(image, num_films):
  """A film within its share of the page; small ones without loss."""
  picture = Image.fromarray(np.asarray(image, np.uint8))
  if max(picture.size) <= 128:
    return uri(_encode(picture, 'PNG', optimize=True), 'png')
  share = FILM_BYTES / num_films
  side = FILM_SIDE
  while True:
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    raw = _encode(small, 'JPEG', quality=85)
    if len(raw) <= share or side <= 64:
      return uri(raw, 'jpeg')
    # Bytes go with the area; a little less, so that it ends soon.
    side = max(64, int(max(small.size) * 0.95 * math.sqrt(share / len(raw))))


def _encode(picture, kind, **options):
  out = io.BytesIO()
  picture.save(out, kind, **options)
  return out.getvalue()


def uri(raw, kind):
  return f'data:image/{kind};base64,{base64.b64encode(raw).decode()}'


def main_methods(methods) -> list[str]:
  """CAM and the gradient, the paper's two; else the first two there are."""
  methods = list(dict.fromkeys(methods))
  wanted = [m for m in ('cam', 'gradient') if m in methods]
  return (wanted + [m for m in methods if m not in wanted])[:2]
