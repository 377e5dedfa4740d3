"""Figures: curves, films with maps and boxes, intervals of groups of runs.

They are matplotlib figures made without pyplot, so that no state is shared
between calls. `drawing` makes one for a page, where its ink follows the page
(light or dark); `save` writes one to a file.

An estimate is {'value', 'low', 'high', …}, its value None where undefined.
Boxes are (ymin, xmin, ymax, xmax) in [0, 1]: the true one is drawn solid, a
predicted one dashed. Names of files and of runs are shown as they are; they may
hold a dollar sign, so mathtext is off.
"""

import html
import io
import math
import os
import re
import textwrap
from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

import cycler
import markupsafe
import matplotlib
import numpy as np
from jaxtyping import Real
from matplotlib import figure, font_manager, lines, patches, textpath
from matplotlib.backends import backend_agg

from cxr.reporting import wording

TRUTH = '#00e5ff'
PREDICTION = '#c6ff3d'
COLORMAP = 'inferno'
OPACITY = 0.6  # of a map over its film
# A colour that nothing else has: `svg` turns it into currentColor.
INK = '#0a0b0c'
# Legible on white and on near-black (contrast above 3 on both).
PALETTE = ('#1f77c4', '#d95f02', '#1b9e77', '#d6409f', '#8478d8', '#a6761d')
# The one look of all figures.
_look = matplotlib.rc_context(
  {
    'axes.edgecolor': INK,
    'axes.grid': True,
    'axes.labelcolor': INK,
    'axes.labelsize': 10,
    'axes.prop_cycle': cycler.cycler(linestyle=('-', '--', '-.', ':'))
    * cycler.cycler(color=PALETTE),
    'axes.spines.right': False,
    'axes.spines.top': False,
    'axes.titlesize': 8,
    'figure.dpi': 150,
    'font.size': 8,
    'grid.alpha': 0.12,
    'grid.color': INK,
    'grid.linewidth': 0.6,
    'legend.borderaxespad': 0,
    'legend.fontsize': 9,
    'legend.frameon': False,
    'lines.linewidth': 1.8,
    'lines.markersize': 4,
    'text.color': INK,
    'text.parse_math': False,
    'xtick.color': INK,
    'ytick.color': INK,
  }
)
# Lines of no more points than this show each of them.
_FEW = 20


class Drawing(NamedTuple):
  """A figure on a page."""

  picture: markupsafe.Markup
  caption: str
  wide: bool = False  # as wide as the page


# For pages.


def drawing(
  caption: str,
  series: Mapping[str, Sequence[tuple[float, Mapping]]],
  xlabel: str,
  ylabel: str,
  *,
  ylim: tuple[float, float] | None = None,
  dashed: Container[str] = (),
) -> Drawing | None:
  """The curves of `series` for a page; None where there are none.

  The text alternative tells where each line begins and ends.
  """
  if not series:
    return None
  ends = []
  for name, points in series.items():
    known = [
      (x, v) for x, e in points if (v := wording.value_of(e)) is not None
    ]
    if known:
      (x, y), (x_end, y_end) = known[0], known[-1]
      ends.append(f'{name}: {y:.3g} at {x:g}, {y_end:.3g} at {x_end:g}')
  fig = curves(series, xlabel=xlabel, ylabel=ylabel, ylim=ylim, dashed=dashed)
  picture = svg(fig, f'{caption}. {"; ".join(ends)}.')
  return Drawing(markupsafe.Markup(picture), f'{caption}.')


def svg(fig: figure.Figure, description: str) -> str:
  """The figure as an inline SVG element, with a text alternative.

  Its ink is `currentColor`, its background clear and its text text, so that it
  follows the page it stands in.
  """
  out = io.StringIO()
  # The salt keeps the ids of two figures on a page apart, and equal from run to
  # run.
  settings = {'svg.fonttype': 'none', 'svg.hashsalt': description}
  with matplotlib.rc_context(settings):
    fig.savefig(out, format='svg', transparent=True, metadata={'Date': None})
  source = out.getvalue().replace(INK, 'currentColor')
  width, height = (72 * inches for inches in fig.get_size_inches())
  source = source[source.index('</metadata>') + len('</metadata>') :]
  # A style element inside the page would reach the whole page.
  source = re.sub(r'<style.*?</style>', '', source, flags=re.DOTALL)
  # matplotlib's names of groups repeat between figures; nothing refers to them.
  source = re.sub(r' id="[A-Za-z][\w.]*_\d+"', '', source)
  # The page sets the type: matplotlib's own is not on every machine.
  source = re.sub(r'font-family: [^;"]*;?', '', source)
  return (
    f'<svg xmlns="http://www.w3.org/2000/svg"'
    f' xmlns:xlink="http://www.w3.org/1999/xlink"'
    f' viewBox="0 0 {width:g} {height:g}" role="img"'
    f' aria-label="{html.escape(description)}"'
    f' style="stroke-linejoin: round; stroke-linecap: butt">{source}'
  )


def save(fig: figure.Figure, path: str | os.PathLike) -> None:
  """Writes the figure to `path` (PNG, SVG or PDF by its ending)."""
  fig.savefig(path, facecolor='white')


# Figures.


@_look
def curves(
  series: Mapping[str, Sequence[tuple[float, Mapping]]],
  *,
  xlabel: str,
  ylabel: str,
  ylim: tuple[float, float] | None = None,
  dashed: Container[str] = (),
) -> figure.Figure:
  """A line for each name, with its interval as a band.

  Args:
    series: name -> [(x, estimate)]; an undefined estimate leaves a gap.
    xlabel: text below.
    ylabel: text beside.
    ylim: range of y, else from the data.
    dashed: names of lines that have the colour of the line before them.
  """
  # A single line is named by the axis.
  legend_rows = math.ceil(len(series) / 2) if len(series) > 1 else 0
  # Margins by hand: a layout engine draws everything twice to find them.
  width, plot, below, row = 5.2, 2.8, 0.52, 0.2
  height = below + plot + 0.1 + row * legend_rows
  fig = _figure(width, height)
  axes = fig.add_axes((0.15, below / height, 0.83, plot / height))
  axes.set(xlabel=xlabel, ylabel=ylabel)
  if ylim:
    axes.set_ylim(*ylim)
  axes.tick_params(labelsize=9)
  handles = []
  for name, points in series.items():
    style = {}
    if handles and name in dashed:
      style = {'color': handles[-1].get_color(), 'linestyle': '--'}
    x = np.array([x for x, _ in points], np.float64)
    value, low, high = np.transpose([_numbers(e) for _, e in points])
    marker = 'o' if len(x) <= _FEW else None
    (line,) = axes.plot(x, value, marker=marker, **style)
    handles.append(line)
    if np.isfinite(low).any():
      color = line.get_color()
      axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
  if legend_rows:
    _legend(fig, handles, list(series))
  return fig


@_look
def small_multiples(
  panels: Sequence[Mapping], groups: Sequence[str], *, columns: int = 4
) -> figure.Figure:
  """Small panels: in each, one statistic with its interval for every group.

  Args:
    panels: {'title', 'estimates': one per group, each with 'runs', the values
      of its runs, drawn as small dots, 'control': the value of a random map, a
      dotted line, or None}.
    groups: their names, for the legend.
    columns: panels side by side.
  """
  columns = min(columns, len(panels))
  rows = math.ceil(len(panels) / columns)
  control = None
  legend = 0.1 + 0.2 * math.ceil((len(groups) + 1) / columns)
  height = 1.9 * rows + legend
  fig = _figure(2.35 * columns, height)
  grid = fig.add_gridspec(
    rows,
    columns,
    left=0.06,
    right=0.99,
    bottom=0.12 / height,
    top=1 - (legend + 0.25) / height,
    wspace=0.36,
    hspace=0.32,
  )
  for i, panel in enumerate(panels):
    axes = fig.add_subplot(grid[divmod(i, columns)])
    axes.set_title(textwrap.fill(panel['title'], 30), loc='left')
    axes.tick_params(labelsize=7)
    axes.grid(visible=False, axis='x')
    handles = [
      _group(axes, k, estimate) for k, estimate in enumerate(panel['estimates'])
    ]
    if panel['control'] is not None:
      control = axes.axhline(panel['control'], color=INK, ls=':', linewidth=1)
    axes.set(xticks=[], xlim=(-0.6, len(groups) - 0.4))
    axes.margins(y=0.15)
  if control:
    handles, groups = [*handles, control], [*groups, 'random map']
  _legend(fig, handles, groups, columns)
  return fig


def _group(axes, x, estimate):
  color = PALETTE[x % len(PALETTE)]
  value, low, high = _numbers(estimate)
  runs = [np.nan if v is None else v for v in estimate.get('runs', ())]
  axes.plot([x, x], [low, high], '-', color=color, linewidth=1.6)
  axes.plot([x + 0.22] * len(runs), runs, '.', color=color, markersize=3)
  (point,) = axes.plot([x], [value], 'o', color=color, markersize=5)
  return point


@_look
def roc_panels(panels: Sequence[Mapping], *, columns: int = 4) -> figure.Figure:
  """A ROC curve in each panel, and the readers' points with their intervals.

  Args:
    panels: {'title', 'rates' and 'sensitivities': of the curve, 'points':
      {reader: (estimate of the sensitivity, of the specificity)}}.
    columns: panels side by side.
  """
  columns = min(columns, len(panels))
  rows = math.ceil(len(panels) / columns)
  readers = list(dict.fromkeys(r for p in panels for r in p['points']))
  legend_columns = min(columns, 3)
  legend = 0.3 + 0.2 * math.ceil((1 + len(readers)) / legend_columns)
  side, below = 1.7, 0.5
  width, height = 2.2 * columns + 0.3, (side + 0.6) * rows + legend + below
  fig = _figure(width, height)
  grid = fig.add_gridspec(
    rows,
    columns,
    left=0.55 / width,
    right=1 - 0.15 / width,
    bottom=below / height,
    top=1 - (legend + 0.15) / height,
    wspace=0.32,
    hspace=0.36,
  )
  handles = {}
  for i, panel in enumerate(panels):
    axes = fig.add_subplot(grid[divmod(i, columns)])
    axes.set_title(panel['title'], loc='left')
    axes.plot([0, 1], [0, 1], color=INK, ls=':', linewidth=0.8)
    (handles['network'],) = axes.plot(
      [0, *panel['rates']],
      [0, *panel['sensitivities']],
      color=INK,
      ls='-',
      linewidth=1.4,
    )
    for name, point in panel['points'].items():
      handles[name] = _reader_point(axes, readers.index(name), *point)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=(0, 0.5, 1))
    axes.set_yticks((0, 0.5, 1))
    axes.tick_params(labelsize=7)
  fig.supxlabel('1 − specificity', size=9, y=0.08 / height)
  fig.supylabel('sensitivity', size=9, x=0.1 / width)
  shown = ['network', *readers]
  _legend(fig, [handles[name] for name in shown], shown, legend_columns)
  return fig


def _reader_point(axes, number, sensitivity, specificity):
  """A marker of its own for each reader, in the middle of its intervals."""
  color = PALETTE[number % len(PALETTE)]
  marker = 'osD^vP'[number // len(PALETTE) % 6]
  y, y_low, y_high = _numbers(sensitivity)
  x, x_high, x_low = (1 - value for value in _numbers(specificity))
  line = {'color': color, 'ls': '-', 'linewidth': 0.8, 'alpha': 0.6}
  axes.plot([x, x], [y_low, y_high], **line)
  axes.plot([x_low, x_high], [y, y], **line)
  style = {'color': color, 'marker': marker, 'markersize': 4.5}
  (point,) = axes.plot([x], [y], ls='', **style)
  return point


@_look
def gallery_figure(
  cases: Sequence[Mapping],
  *,
  runs: Sequence[str],
  methods: Sequence[str],
) -> figure.Figure:
  """The same films in columns; below each, every run's maps, run under run.

  Args:
    cases: {'finding', 'image' 'h w', 'truth' [box], 'maps': {run: {method: 'u
      v'}}, 'boxes': {run: {method: [box]}}}; boxes without a map are drawn on
      the film, and where both are missing the place stays empty.
    runs: in the order from top to bottom, as a rule the baseline first.
    methods: one block of rows each.
  """
  names = _told_apart(runs)
  labels = ['film', *(f'{n}\n{method}' for method in methods for n in names)]
  # Inches.
  side, top, bottom, right, gap = 1.25, 0.5, 0.62, 0.1, 0.05
  # Where one or two columns have no room for both, the colour bar stands above
  # the legend and not beside it.
  bar_bottom, bar_width = 0.36, 1.6
  if len(cases) < 3:
    bar_bottom, bottom = 0.6, 0.86
  font = font_manager.FontProperties(size=8)
  measure = textpath.text_to_path.get_text_width_height_descent
  points = (measure(t, font, ismath=False)[0] for t in [*names, *methods])
  left = max(1.05, 0.2 + max(points, default=0) / 72)
  width = left + len(cases) * side - gap + right
  height = top + len(labels) * side - gap + bottom
  fig = _figure(width, height)
  grid = fig.add_gridspec(
    len(labels),
    len(cases),
    left=left / width,
    right=1 - right / width,
    top=1 - top / height,
    bottom=bottom / height,
    wspace=gap / (side - gap),
    hspace=gap / (side - gap),
  ).subplots(squeeze=False)
  for axes, name in zip(grid[:, 0], labels, strict=True):
    at = {'transform': axes.transAxes, 'ha': 'right', 'va': 'center'}
    axes.text(-0.07, 0.5, name, **at)
  for column, case in zip(grid.T, cases, strict=True):
    column[0].set_title(
      textwrap.fill(case['finding'], 18, max_lines=3, placeholder='…')
    )
    for axes in column:
      axes.set_axis_off()
    _film(column[0], case['image'])
    _boxes(column[0], case['truth'], ())
    rows = [(method, run) for method in methods for run in runs]
    for axes, (method, run) in zip(column[1:], rows, strict=True):
      heatmap = case['maps'].get(run, {}).get(method)
      boxes = case['boxes'].get(run, {}).get(method, ())
      if heatmap is not None or len(boxes):
        _film(axes, case['image'])
        if heatmap is not None:
          _map(axes, heatmap)
        _boxes(axes, case['truth'], boxes)
  bar_left = min(left, width - right - bar_width)
  bar = fig.add_axes(
    (bar_left / width, bar_bottom / height, bar_width / width, 0.09 / height)
  )
  bar.imshow(np.linspace(0, 1, 256)[None], aspect='auto', cmap=COLORMAP)
  bar.grid(visible=False)
  bar.set_yticks([])
  bar.set_xticks([0, 255], ["map's minimum", 'maximum'], size=7)
  for tick, ha in zip(bar.get_xticklabels(), ('left', 'right'), strict=True):
    tick.set_horizontalalignment(ha)
  bar.tick_params(length=0)
  line = lambda color, style, label: lines.Line2D(
    [], [], color=color, linestyle=style, label=label
  )
  fig.legend(
    handles=[
      line('#0091a8', '-', 'true box'),
      line('#6f9b00', '--', 'predicted box'),
    ],
    loc='lower right',
    ncols=2,
    fontsize=7,
    bbox_to_anchor=(1 - right / width, 0.02),
  )
  return fig


def _told_apart(names):
  """Names without the words at their start that all share, and not too long."""
  shared = os.path.commonprefix(list(names))
  start = max(shared.rfind('_'), shared.rfind('-')) + 1
  if len(names) < 2 or start in map(len, names):
    start = 0
  short = [name[start:] for name in names]
  return [n if len(n) <= 20 else n[:9] + '…' + n[-10:] for n in short]


# Their parts.


def _figure(width, height):
  fig = figure.Figure(figsize=(width, height))
  backend_agg.FigureCanvasAgg(fig)
  return fig


def _legend(fig, handles, names, columns=2):
  short = [n if len(n) <= 40 else n[:39] + '…' for n in names]
  # Long enough to show a dash on either side of the marker.
  place = {'loc': 'upper left', 'handlelength': 3}
  fig.legend(handles, short, ncols=columns, **place)


def _numbers(estimate) -> list[float]:
  """Value, low and high, NaN where undefined."""
  found = (estimate.get(key) for key in ('value', 'low', 'high'))
  return [np.nan if number is None else number for number in found]


def _film(axes, image):
  axes.imshow(
    image, cmap='gray', extent=(0, 1, 1, 0), aspect='auto', resample=True
  )


def _map(axes, heatmap: Real[np.ndarray, 'u v']):
  """A map from its own minimum to its maximum; a constant one is dark."""
  finite = heatmap[np.isfinite(heatmap)]
  low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
  axes.imshow(
    heatmap,
    cmap=COLORMAP,
    vmin=low,
    vmax=high if high > low else low + 1,
    alpha=OPACITY,
    extent=(0, 1, 1, 0),
    aspect='auto',
    interpolation='bilinear',
  )


def _boxes(axes, truth, predicted):
  kinds = (truth, TRUTH, '-'), (predicted, PREDICTION, '--')
  for boxes, color, style in kinds:
    # A dark line below keeps the box visible on a bright map.
    below = {'edgecolor': 'black', 'linewidth': 2.6, 'alpha': 0.5}
    above = {'edgecolor': color, 'linewidth': 1.3, 'linestyle': style}
    for ymin, xmin, ymax, xmax in boxes:
      for line in (below, above):
        size = xmax - xmin, ymax - ymin
        box = patches.Rectangle((xmin, ymin), *size, fill=False, **line)
        axes.add_patch(box)
  axes.set(xlim=(0, 1), ylim=(1, 0))
