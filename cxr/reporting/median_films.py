"""The pictures beside a page's first sentence: films chosen by rule.

They show what the sentence counts, without a script: the film with its true
box, the film's own map, and the same network's map of another patient, which
the same box is held against. Of four findings, spread evenly from the one with
the smallest true boxes to the one with the largest, the film is taken whose
true boxes have the finding's median area. Nobody chooses, and runs on the same
films show the same ones.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from cxr.localization import overlap, regions
from cxr.reporting import gallery, plots, wording

NUM_FINDINGS = 4
MOST_RUNS = 2  # more of them would be too small to see
SIDE = 224  # pixels, at most
Boxes = Float[np.ndarray, 'n 4']


class Panel(NamedTuple):
  """One picture, its boxes drawn over it."""

  title: str
  line: str  # below the title
  src: str  # a data URI
  alt: str
  truth: list
  predicted: list


class Group(NamedTuple):
  """Pictures under a heading: the film, or the maps of a run."""

  heading: str
  panels: list[Panel]


class Medians(NamedTuple):
  """What page.html draws."""

  films: list[list[Group]]
  runs: int
  caption: str


def medians(
  shared: Sequence[Mapping[str, Mapping]], method: str | None, rule: str
) -> Medians | None:
  """The pictures of `method`; None where no film has its map.

  Args:
    shared: [{run: case}], as examples.shared returns; the run of a page of one
      run is ''.
    method: that the page's first sentence speaks of.
    rule: that made the boxes.
  """
  typical = [
    case
    for case in shared
    if all(
      c['kind'] == 'typical' and c['truth'] and method in c['maps']
      for c in case.values()
    )
  ]
  typical.sort(key=lambda case: _area(next(iter(case.values()))))
  index = np.linspace(0, len(typical) - 1, NUM_FINDINGS).round().astype(int)
  chosen = [typical[i] for i in np.unique(index)] if typical else []
  if not chosen:
    return None
  runs = list(chosen[0])[:MOST_RUNS]
  films = [_film({r: case[r] for r in runs}, method) for case in chosen]
  return Medians(films, len(runs), _caption(films, shared, method, rule))


def _area(case):
  truth = np.array(case['truth'], np.float64)
  return overlap.area(overlap.disjoint(truth)).sum(), case['finding']


def _caption(films, shared, method, rule):
  runs = list(shared[0])
  text = (
    f'{wording.count(len(films), "film")} chosen by rule, none by hand: of '
    'findings spread evenly from the smallest true boxes to the largest, the '
    'film whose true boxes have the median area. Solid: the true box; dashed: '
    f'the boxes of rule {rule} from the {method} map. Each map is scaled from '
    'its minimum to its maximum.'
  )
  if any(case['another'].get(method) for c in shared for case in c.values()):
    text += (
      " Another patient's: a map made in the same way of another patient's "
      'film without the finding, laid over this film and held against its box.'
    )
  else:
    text += (
      " Another patient's maps are not here: an older version evaluated "
      '(--mode=evaluate stores them), or no film of another patient without '
      'the finding has a map.'
    )
  if len(runs) > MOST_RUNS:
    text += f' Of {len(runs)} runs the first {MOST_RUNS} are shown.'
  return text


def _film(by_run, method):
  first = next(iter(by_run.values()))
  name, finding, truth = first['name'], first['finding'], first['truth']
  boxes = wording.count(len(truth), 'true box', 'true boxes')
  film = _small(first['image'])
  alt = f'Film {name} with the {boxes} of {finding}.'
  panel = Panel('film', boxes, _uri(Image.fromarray(film)), alt, truth, [])
  groups = [Group(finding, [panel])]
  for run, case in by_run.items():
    show = functools.partial(_map_panel, film, case)
    what = f'{method} map of {run}' if run else f'{method} map'
    own, boxes = case['maps'][method], case['boxes'].get(method, [])
    panels = [show('own map', f'own {what}', own, boxes)]
    another = case['another'].get(method)
    if another:
      what += f" of another patient's film, {another['name']}"
      panels.append(
        show("another patient's", what, another['map'], another['boxes'])
      )
    groups.append(Group(run, panels))
  return groups


def _map_panel(film, case, title, what, heatmap, boxes):
  score = wording.number(_score(boxes, case['truth']), 2)
  return Panel(
    title,
    f'IoU {score}',
    _uri(_overlay(film, heatmap)),
    f'{wording.capital(what)}, laid over film {case["name"]}: IoU {score} of '
    f'its best box with the true box of {case["finding"]}.',
    case['truth'],
    boxes,
  )


def _score(boxes: Sequence, truth: Sequence) -> float:
  """Of each true box the IoU of the best predicted one, on average."""
  predicted = np.array(boxes, np.float64).reshape(-1, 4)
  return float(
    np.mean(
      [overlap.iou(predicted, np.array(box)).max(initial=0.0) for box in truth]
    )
  )


def _small(image: UInt8[np.ndarray, 'h w']) -> UInt8[np.ndarray, 'a b']:
  picture = Image.fromarray(np.asarray(image, np.uint8))
  picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
  return np.asarray(picture)


def _overlay(film: UInt8[np.ndarray, 'h w'], heatmap) -> Image.Image:
  """The map in colours over the film, scaled to its own range."""
  size = film.shape[::-1]
  cells = Image.fromarray(regions.scale_255(heatmap).astype(np.uint8))
  cells = np.asarray(cells.resize(size, Image.Resampling.BILINEAR))
  lut = matplotlib.colormaps[plots.COLORMAP](np.arange(256), bytes=True)
  colors = Image.fromarray(np.ascontiguousarray(lut[:, :3][cells]))
  gray = Image.fromarray(film).convert('RGB')
  return Image.blend(gray, colors, plots.OPACITY)


def _uri(picture: Image.Image) -> str:
  return gallery.uri(gallery.encode(picture, 'JPEG', quality=85), 'jpeg')
