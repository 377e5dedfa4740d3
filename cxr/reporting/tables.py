"""The one form of a table, of its filters, and of a section of a page.

A part of a page gives `table` rows of plain values: a text, a number, an
estimate (wording.py), or a `Cell` where one of these needs more. The template
page.html draws the table, `markdown` writes it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cxr import files
from cxr.reporting import wording


class Cell(NamedTuple):
  """One cell of a table."""

  text: str
  # What the button "Copy" copies: a value for each of `parts`, which are the
  # ends of the names of the copied columns.
  copied: tuple[str, ...]
  parts: tuple[str, ...] = ('',)
  below: tuple[str, ...] = ()  # smaller lines below the text
  why: str = ''  # the reason why a value is undefined
  wrap: bool = False
  choice: str = ''  # the choice of a filter that shows the row; '*': each one
  mark: str = ''  # what sets the row apart, such as 'control'


class Row(NamedTuple):
  cells: tuple[Cell, ...]
  mark: str


class Table(NamedTuple):
  id: str
  caption: str
  columns: tuple[str, ...]
  rows: tuple[Row, ...]
  notes: tuple[str, ...]


class Filter(NamedTuple):
  """Buttons that show those rows alone whose cell `column` has a value."""

  key: str
  label: str
  column: int
  choices: tuple[str, ...]  # '': all
  chosen: str  # at first; '' shows every row

  def hides(self, row: Row) -> bool:
    own = row.cells[self.column].choice
    return bool(self.chosen) and own not in ('*', self.chosen)


class Group(NamedTuple):
  """Tables under common filters."""

  tables: tuple[Table, ...]
  filters: tuple[Filter, ...] = ()


class Section(NamedTuple):
  id: str
  title: str
  text: tuple[str, ...]  # paragraphs
  figures: tuple  # of plots.Drawing
  groups: tuple[Group, ...]
  films: Mapping | None  # of gallery.py
  folded: str  # the line that unfolds the section; '': it is open
  plain: str  # text that keeps its lines


def text_cell(text: str, *, copied: str | None = None, **more) -> Cell:
  """A text. What is copied is one line, and never starts a formula."""
  if copied is None:
    copied = files.escape_cell(' '.join(text.split()))
  return Cell(text, (copied,), **({'choice': text} | more))


def number_cell(value: float | None, digits: int = 3, **more) -> Cell:
  """A number without an interval, such as a count or a setting."""
  missing = value is None or not math.isfinite(value)
  text = (
    f'{value:,}' if isinstance(value, int) else wording.number(value, digits)
  )
  return text_cell(text, copied='' if missing else f'{value:.9g}', **more)


def p_cell(p: float | None) -> Cell:
  return text_cell(wording.p_text(p), copied='' if p is None else f'{p:.6g}')


def estimate_cell(
  estimate: wording.Estimate,
  *,
  sign: bool = False,
  afp: wording.Estimate = None,
) -> Cell:
  """A value above its interval, and above its false positives where given."""
  estimate = estimate or {}
  value = wording.value_of(estimate)
  copied = [value, estimate.get('low'), estimate.get('high')]
  parts, below = ('', ' low', ' high'), [wording.interval(estimate, sign=sign)]
  if afp is not None:
    copied.append(wording.value_of(afp))
    parts += (' AFP',)
    below.append(f'AFP {wording.number(copied[-1], 2)}')
  return Cell(
    wording.number(value, sign=sign),
    tuple('' if c is None else f'{c:.6g}' for c in copied),
    parts,
    tuple(filter(None, below)),
    why=estimate.get('why', '') if value is None else '',
  )


def cell(value: Cell | Mapping | str | float | None) -> Cell:
  """A cell of a text, of an estimate or of a number."""
  if isinstance(value, Cell):
    return value
  if isinstance(value, str):
    return text_cell(value)
  return (
    estimate_cell(value) if isinstance(value, Mapping) else number_cell(value)
  )


def table(
  id: str,
  caption: str,
  columns: Sequence[str],
  rows: Sequence[Sequence],
  *notes: str,
) -> Table | None:
  """A table of rows of values or cells; None where there are no rows."""
  if not rows:
    return None
  cells = [tuple(map(cell, row)) for row in rows]
  reasons = sorted({c.why for row in cells for c in row} - {''})
  if len(reasons) > 3:
    reasons = [*reasons[:3], 'for the others point at the cell']
  if reasons:
    notes += (f'{wording.UNDEFINED} undefined: {"; ".join(reasons)}.',)
  rows = [Row(row, next((c.mark for c in row if c.mark), '')) for row in cells]
  return Table(id, caption, tuple(columns), tuple(rows), notes)


def group(
  tables: Sequence[Table | None], chosen: Mapping[str, str]
) -> Group | None:
  """Tables that are filtered together; None without a table.

  Args:
    tables: their filtered columns stand at the same places.
    chosen: column -> the value that is chosen at first, '' for all; where no
      row has that value, the first one is chosen.
  """
  tables = tuple(t for t in tables if t)
  if not tables:
    return None
  filters = []
  for name, first in chosen.items():
    column = tables[0].columns.index(name)
    values = dict.fromkeys(
      row.cells[column].choice for t in tables for row in t.rows
    )
    values.pop('*', None)
    if len(values) > 1:
      choices = (*values, '')
      default = first if first in choices else choices[0]
      label = name[0].upper() + name[1:]
      key = name.partition(' ')[0]
      filters.append(Filter(key, label, column, choices, default))
  return Group(tables, tuple(filters))


def section(
  id: str,
  title: str,
  *groups: Group | Table | None,
  text: Sequence[str] = (),
  figures: Sequence = (),
  films: Mapping | None = None,
  folded: str = '',
  plain: str = '',
) -> Section | None:
  """A section of a page; None where nothing would stand in it."""
  groups = tuple(
    Group((g,)) if isinstance(g, Table) else g for g in groups if g
  )
  figures = tuple(f for f in figures if f)
  if not (groups or figures or films or plain):
    return None
  return Section(id, title, tuple(text), figures, groups, films, folded, plain)


def markdown(columns: Sequence[str], rows: Sequence[Sequence]) -> str:
  """The same as a table of Markdown; '' without rows.

  A viewer of Markdown runs HTML, so that a text must not hold any.
  """
  lines = [columns, ['---'] * len(columns)]
  for row in rows:
    texts = []
    for value in map(cell, row):
      beside = '; '.join(filter(None, (*value.below, value.why)))
      texts.append(value.text + (f' ({beside})' if beside else ''))
    lines.append(texts)
  if not rows:
    return ''
  return '\n'.join(
    f'| {" | ".join(one_line(t).replace("|", chr(92) + "|") for t in line)} |'
    for line in lines
  )


def one_line(text: str) -> str:
  """The text on one line and without HTML."""
  return ' '.join(text.split()).replace('&', '&amp;').replace('<', '&lt;')
