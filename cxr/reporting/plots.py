"""Figures: curves, films with maps and boxes, the paper's figure.

Every function returns a matplotlib `Figure` built without pyplot, so that no
state is shared between calls. `svg` turns one into text for a page, where its
ink follows the page (light or dark), `drawing` adds a caption; `save` writes a
file.

An estimate is `{'value', 'low', 'high', ...}`, value None where undefined.
Boxes are (ymin, xmin, ymax, xmax) in [0, 1]: truth is drawn solid, a
prediction dashed. Texts are shown as they are: file and run names may hold a
dollar sign, so mathtext is off.
"""

import html
import io
import math
import os
import re
import textwrap
from collections.abc import Mapping, Sequence

import markupsafe
import matplotlib
import numpy as np
from matplotlib import (
  colors,
  figure,
  font_manager,
  lines,
  patches,
  textpath,
)
from matplotlib.backends import backend_agg

from cxr.reporting import tables

# Legible on white and on near-black (contrast above 3 on both).
PALETTE = (
  '#1f77c4',
  '#d95f02',
  '#1b9e77',
  '#d6409f',
  '#8478d8',
  '#a6761d',
)
STYLES = ('-', '--', '-.', ':')
TRUTH = '#00e5ff'
PREDICTION = '#c6ff3d'
COLORMAP = 'inferno'
OPACITY = 0.6  # of a map over its film
# A colour nobody else uses: `svg` turns it into currentColor.
INK = '#0a0b0c'


def curves(
  series: Mapping[str, tuple],
  *,
  xlabel: str,
  ylabel: str,
  ylim: tuple[float, float] | None = None,
  markers: bool = False,
) -> figure.Figure:
  """Lines over a shared axis.

  Args:
    series: name -> (x, y) or (x, y, low, high); NaN or None leaves a gap, low
      and high draw a band.
    xlabel: text below.
    ylabel: text beside.
    ylim: range of y, else from the data.
    markers: draw the points.
  """
  # A single line is named by the axis.
  legend_rows = math.ceil(len(series) / 2) if len(series) > 1 else 0
  fig, axes = _canvas(legend_rows)
  handles = []
  for i, values in enumerate(series.values()):
    x, y, *band = (np.asarray(v, np.float64) for v in values)
    color = PALETTE[i % len(PALETTE)]
    (line,) = axes.plot(
      x,
      y,
      color=color,
      linestyle=STYLES[i // len(PALETTE) % len(STYLES)],
      marker='o' if markers or len(x) == 1 else None,
      markersize=4,
      linewidth=1.8,
    )
    handles.append(line)
    if band:
      axes.fill_between(x, *band, color=color, alpha=0.18, linewidth=0)
  axes.set_xlabel(xlabel)
  axes.set_ylabel(ylabel)
  if ylim:
    axes.set_ylim(*ylim)
  if legend_rows:
    _legend(fig, handles, list(series))
  return fig


def security_curve(
  runs: Mapping[str, Sequence[tuple[float, Mapping]]],
  *,
  ylabel: str = 'mean AUROC',
) -> figure.Figure:
  """AUROC over epsilon with its interval.

  Args:
    runs: name -> [(epsilon in 1/255, estimate), ...].
    ylabel: text beside.
  """
  return curves(
    {name: _columns(points) for name, points in runs.items()},
    xlabel='epsilon (1/255)',
    ylabel=ylabel,
    ylim=(0, 1),
    markers=True,
  )


def localization_curve(
  runs: Mapping[str, Sequence[tuple[float, Mapping]]], *, score: str = 'IoU'
) -> figure.Figure:
  """Localization accuracy over the threshold T(score), with its interval.

  Args:
    runs: name (run, method or control) -> [(threshold, estimate), ...].
    score: 'IoU', 'IoBB' or 'IoR', for the axis.
  """
  return curves(
    {name: _columns(points) for name, points in runs.items()},
    xlabel=f'T({score})',
    ylabel='accuracy',
    ylim=(0, 1),
    markers=True,
  )


def _told_apart(names):
  """Names without the words at their start that all share, and not too long."""
  shared = os.path.commonprefix(list(names))
  start = max(shared.rfind('_'), shared.rfind('-')) + 1
  if len(names) < 2 or start in map(len, names):
    start = 0
  short = [name[start:] for name in names]
  return [n if len(n) <= 20 else n[:9] + '…' + n[-10:] for n in short]


def gallery_figure(
  cases: Sequence[Mapping],
  *,
  runs: Sequence[str],
  methods: Sequence[str],
) -> figure.Figure:
  """The same films in columns; below each, every run's maps, run under run.

  Args:
    cases: {'finding', 'image' 'h w', 'truth' [box], 'maps': {run: {method: 'u
      v'}}, 'boxes': {run: {method: [box]}}}; a missing map leaves its place
      empty.
    runs: in the order from top to bottom, as a rule the baseline first.
    methods: one block of rows each.
  """
  names = _told_apart(runs)
  rows = 1 + len(runs) * len(methods)
  side, top, bottom, gap = 1.25, 0.5, 0.62, 0.05
  font = font_manager.FontProperties(size=8)
  measure = textpath.text_to_path.get_text_width_height_descent
  points = (measure(t, font, ismath=False)[0] for t in [*names, *methods])
  left = max(1.05, 0.2 + max(points, default=0) / 72)
  width = left + len(cases) * side + 0.1
  height = top + rows * side + bottom
  fig = figure.Figure(figsize=(width, height), facecolor='white', dpi=150)
  backend_agg.FigureCanvasAgg(fig)

  def place(row, column):
    axes = fig.add_axes(
      (
        (left + column * side) / width,
        1 - (top + (row + 1) * side - gap) / height,
        (side - gap) / width,
        (side - gap) / height,
      )
    )
    axes.set_axis_off()
    return axes

  def label(row, text):
    fig.text(
      (left - 0.08) / width,
      1 - (top + (row + 0.5) * side) / height,
      text,
      size=8,
      ha='right',
      va='center',
      parse_math=False,
      color=INK,
    )

  label(0, 'film')
  norm = colors.Normalize(0, 1)
  for column, case in enumerate(cases):
    fig.text(
      (left + (column + 0.5) * side - gap / 2) / width,
      1 - (top - 0.08) / height,
      case['finding'],
      size=8,
      ha='center',
      va='bottom',
      parse_math=False,
      color=INK,
    )
    axes = place(0, column)
    _film(axes, case['image'])
    _boxes(axes, case['truth'], ())
    for i, (method, run) in enumerate((m, r) for m in methods for r in runs):
      heatmap = case['maps'].get(run, {}).get(method)
      axes = place(i + 1, column)
      if heatmap is None:
        continue
      low, high = _limits(heatmap)
      _film(axes, case['image'])
      _map(axes, (np.asarray(heatmap) - low) / (high - low), norm)
      found = case['boxes'].get(run, {}).get(method, ())
      _boxes(axes, case['truth'], found)
  for i, (method, name) in enumerate((m, n) for m in methods for n in names):
    label(i + 1, f'{name}\n{method}')
  bar = fig.add_axes((left / width, 0.36 / height, 1.6 / width, 0.09 / height))
  bar.imshow(np.linspace(0, 1, 256)[None], aspect='auto', cmap=COLORMAP)
  bar.set_yticks([])
  bar.set_xticks([0, 255], ["map's minimum", 'maximum'], size=7)
  for text, side in zip(bar.get_xticklabels(), ('left', 'right'), strict=True):
    text.set_horizontalalignment(side)
  bar.tick_params(length=0)
  keys = [
    lines.Line2D([], [], color='#0091a8', label='true box'),
    lines.Line2D([], [], color='#6f9b00', ls='--', label='predicted box'),
  ]
  fig.legend(
    handles=keys,
    loc='lower right',
    ncols=2,
    fontsize=7,
    frameon=False,
    bbox_to_anchor=(1 - 0.1 / width, 0.02),
  )
  return fig


def small_multiples(
  panels: Sequence[Mapping], groups: Sequence[str], *, columns: int = 4
) -> figure.Figure:
  """Small panels, one figure each: a bar of its interval for every group.

  Args:
    panels: {'title', 'estimates': one per group, each with 'runs', the values
      of its runs, drawn as small dots, 'control': a dotted line or None}.
    groups: their names, for the legend.
    columns: panels side by side.
  """
  columns = min(columns, len(panels))
  rows = math.ceil(len(panels) / columns)
  legend = 0.1 + 0.2 * math.ceil(len(groups) / columns)
  height = 1.9 * rows + legend
  fig = figure.Figure(figsize=(2.35 * columns, height), dpi=150)
  backend_agg.FigureCanvasAgg(fig)
  grid = fig.add_gridspec(
    rows,
    columns,
    left=0.05,
    right=0.99,
    bottom=0.12 / height,
    top=1 - (legend + 0.25) / height,
    wspace=0.32,
    hspace=0.32,
  )
  for i, panel in enumerate(panels):
    axes = fig.add_subplot(grid[divmod(i, columns)])
    axes.set_title(
      textwrap.fill(panel['title'], 30),
      color=INK,
      fontsize=8,
      loc='left',
      parse_math=False,
    )
    handles = [
      _interval(axes, k, estimate)
      for k, estimate in enumerate(panel['estimates'])
    ]
    if panel['control'] is not None:
      axes.axhline(panel['control'], color=INK, linestyle=':', linewidth=1)
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color(INK)
    axes.tick_params(colors=INK, labelsize=7)
    axes.set_xticks([])
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.margins(y=0.15)
    axes.grid(axis='y', color=INK, alpha=0.12, linewidth=0.6)
  _legend(fig, handles, groups, columns)
  return fig


def _interval(axes, x: float, estimate: Mapping):
  color = PALETTE[x % len(PALETTE)]
  number = lambda v: np.nan if v is None else v
  value, low, high = (number(estimate[k]) for k in ('value', 'low', 'high'))
  runs = [number(v) for v in estimate.get('runs', ())]
  axes.plot([x, x], [low, high], color=color, linewidth=1.6)
  axes.plot([x + 0.22] * len(runs), runs, '.', color=color, markersize=3)
  (point,) = axes.plot([x], [value], 'o', color=color, markersize=5)
  return point


def svg(fig: figure.Figure, description: str) -> str:
  """The figure as an inline SVG element, with a text alternative.

  Its ink is `currentColor`, its background clear, its text text, so that it
  follows the page it stands in.
  """
  out = io.StringIO()
  # The salt makes the ids of two figures on a page differ, run for run alike.
  settings = {'svg.fonttype': 'none', 'svg.hashsalt': description}
  with matplotlib.rc_context(settings):
    fig.savefig(out, format='svg', transparent=True, metadata={'Date': None})
  text = out.getvalue().replace(INK, 'currentColor')
  width, height = (72 * inches for inches in fig.get_size_inches())
  text = text[text.index('</metadata>') + len('</metadata>') :]
  # A style element inside the page would reach the whole page.
  text = re.sub(r'<style.*?</style>', '', text, flags=re.DOTALL)
  # matplotlib's names of groups repeat between figures; none is referred to.
  text = re.sub(r' id="[A-Za-z][\w.]*_\d+"', '', text)
  # The page sets the type: matplotlib's own is not on every machine.
  text = re.sub(r'font-family: [^;"]*;?', '', text)
  return (
    f'<svg xmlns="http://www.w3.org/2000/svg"'
    f' xmlns:xlink="http://www.w3.org/1999/xlink"'
    f' viewBox="0 0 {width:g} {height:g}" role="img"'
    f' aria-label="{html.escape(description)}"'
    f' style="stroke-linejoin: round; stroke-linecap: butt">{text}'
  )


def drawing(fig: figure.Figure, caption: str, series: Mapping) -> dict:
  """A figure for the page; its text alternative tells where lines begin and
  end. `series`: name -> [(x, estimate)]."""
  ends = []
  for name, points in series.items():
    known = [(x, v) for x, e in points if (v := tables.value_of(e)) is not None]
    if known:
      (x, y), (x_end, y_end) = known[0], known[-1]
      ends.append(f'{name}: {y:.3g} at {x:g}, {y_end:.3g} at {x_end:g}')
  return {
    'svg': markupsafe.Markup(svg(fig, f'{caption}. {"; ".join(ends)}.')),
    'caption': f'{caption}.',
  }


def save(fig: figure.Figure, path) -> None:
  """Write the figure to `path` (PNG, SVG or PDF by its ending)."""
  fig.savefig(path, facecolor='white')


def _canvas(legend_rows):
  # Margins by hand: a layout engine draws everything twice to find them.
  width, plot, below, row = 5.2, 2.8, 0.52, 0.2
  height = below + plot + 0.1 + row * legend_rows
  fig = figure.Figure(figsize=(width, height), dpi=150)
  backend_agg.FigureCanvasAgg(fig)
  axes = fig.add_axes((0.115, below / height, 0.865, plot / height))
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color(INK)
  axes.tick_params(colors=INK, labelsize=9)
  axes.xaxis.label.set(color=INK, size=10)
  axes.yaxis.label.set(color=INK, size=10)
  axes.grid(color=INK, alpha=0.12, linewidth=0.6)
  return fig, axes


def _legend(fig, handles, names, columns=2):
  legend = fig.legend(
    handles,
    [n if len(n) <= 40 else n[:39] + '…' for n in names],
    loc='upper left',
    borderaxespad=0,
    ncols=columns,
    fontsize=9,
    frameon=False,
    labelcolor=INK,
  )
  for text in legend.get_texts():
    text.set_parse_math(False)


def _columns(points):
  number = lambda v: np.nan if v is None else v
  return tuple(
    np.array(column, np.float64)
    for column in (
      [x for x, _ in points],
      *(
        [number(estimate.get(key)) for _, estimate in points]
        for key in ('value', 'low', 'high')
      ),
    )
  )


def _limits(heatmap):
  """A range that a constant, empty or NaN map cannot break."""
  finite = np.asarray(heatmap)[np.isfinite(heatmap)]
  low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
  return float(low), float(high if high > low else low + 1.0)


def _film(axes, image):
  axes.imshow(
    image, cmap='gray', extent=(0, 1, 1, 0), aspect='auto', resample=True
  )
  axes.set_axis_off()


def _map(axes, heatmap, norm):
  shown = axes.imshow(
    heatmap,
    cmap=COLORMAP,
    norm=norm,
    alpha=OPACITY,
    extent=(0, 1, 1, 0),
    aspect='auto',
    interpolation='bilinear',
  )
  axes.set(xlim=(0, 1), ylim=(1, 0))
  return shown


def _boxes(axes, truth, boxes):
  for found, color, style in ((truth, TRUTH, '-'), (boxes, PREDICTION, '--')):
    for ymin, xmin, ymax, xmax in found:
      for line, ink, kind in ((2.6, 'black', '-'), (1.3, color, style)):
        axes.add_patch(
          patches.Rectangle(
            (xmin, ymin),
            xmax - xmin,
            ymax - ymin,
            fill=False,
            edgecolor=ink,
            linewidth=line,
            linestyle=kind,
            alpha=0.5 if ink == 'black' else 1.0,
          )
        )
  axes.set(xlim=(0, 1), ylim=(1, 0))
