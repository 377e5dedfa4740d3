"""Films with their maps, packed for a page that thresholds them again.

A case is {'name', 'image' uint8 'h w', 'finding', 'probability', 'truth':
[box], 'maps': {method: 'u v'}, 'boxes': {method: [box]}} and may have 'kind'
(best, median, …), 'run', 'warnings', 'calibrated' and 'called'. Boxes are
(ymin, xmin, ymax, xmax) in [0, 1]. Maps travel as eight bits a cell between
their own minimum and maximum.
"""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from PIL import Image

from cxr.localization import regions
from cxr.reporting import plots

# What a page may spend on films and on maps, in bytes before base64, however
# many there are: 15 MB at most in all.
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
  """What page.html and page.js need, or None without a map.

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
  side = math.sqrt(MAP_BYTES / sum(len(case['maps']) for case in cases))
  films = {}
  for case in cases:
    films.setdefault(case['name'], case)
  index = {name: i for i, name in enumerate(films)}
  lut = matplotlib.colormaps[plots.COLORMAP](np.arange(256), bytes=True)
  methods = list(dict.fromkeys(m for c in cases for m in c['maps']))
  boxes = f'the boxes of rule {rule}' if rule else 'the boxes as computed'
  notes = [
    f'The scores are those of the best predicted box against the true one. "As '
    f'evaluated" shows {boxes} from the full map. The slider thresholds the '
    'map in this page instead (eight bits a cell, bilinear, scaled from its '
    'minimum to its maximum) and boxes every 8-connected region.'
  ]
  if any(side**2 < v.size for c in cases for v in c['maps'].values()):
    notes.append(
      'To keep the page small some maps are stored coarser than they were '
      'computed; the slider works on the stored ones.'
    )
  return {
    'id': 'gallery',
    'data': {
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
      'cases': [
        _pack(case, side, sizes or {}) | {'film': index[case['name']]}
        for case in cases
      ],
      'methods': methods,
      'level': level,
      'colors': lut[:, :3].tobytes().hex(),
    },
    'findings': list(dict.fromkeys(c['finding'] for c in cases)),
    'chosen': main_methods(methods),
    'choose_film': choose_film,
    'notes': notes,
  }


def _pack(case, side, sizes):
  """The case as page.js reads it, its maps of no more than `side`² cells."""
  finite = lambda v: None if v is None or not math.isfinite(v) else float(v)
  rounded = lambda boxes: [[round(float(v), 4) for v in box] for box in boxes]
  return {
    'finding': case['finding'],
    'kind': case.get('kind', ''),
    'probability': finite(case.get('probability')),
    'calibrated': finite(case.get('calibrated')),
    'called': case.get('called'),
    'truth': rounded(case.get('truth', ())),
    'maps': {
      method: _pack_map(heatmap, side) | {'cells': _listed(sizes.get(method))}
      for method, heatmap in case['maps'].items()
    },
    'boxes': {
      method: rounded(boxes) for method, boxes in case.get('boxes', {}).items()
    },
  } | ({'run': case['run']} if 'run' in case else {})


def _listed(size):
  return list(size) if size else None


def _pack_map(heatmap, side):
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
    'low': low,
    'high': high,
  }


def _film_uri(image, num_films):
  """A film within its share of the page; small ones without loss."""
  picture = Image.fromarray(np.asarray(image, np.uint8))
  if max(picture.size) <= 128:
    return uri(encode(picture, 'PNG', optimize=True), 'png')
  share = FILM_BYTES / num_films
  side = FILM_SIDE
  while True:
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    raw = encode(small, 'JPEG', quality=85)
    if len(raw) <= share or side <= 64:
      return uri(raw, 'jpeg')
    # Bytes go with the area; a little less, so that it ends soon.
    side = max(64, int(max(small.size) * 0.95 * math.sqrt(share / len(raw))))


def encode(picture, kind, **options):
  out = io.BytesIO()
  picture.save(out, kind, **options)
  return out.getvalue()


def uri(raw: bytes, kind: str) -> str:
  """A picture as a data URI."""
  return f'data:image/{kind};base64,{base64.b64encode(raw).decode()}'


def main_methods(methods: Iterable[str]) -> list[str]:
  """CAM and the gradient, the paper's two; else the first two there are."""
  methods = list(dict.fromkeys(methods))
  wanted = [m for m in ('cam', 'gradient') if m in methods]
  return (wanted + [m for m in methods if m not in wanted])[:2]
