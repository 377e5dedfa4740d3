"""The one form of a table, of its filters, and of a section of a page.

A part of a page gives `table` its rows, each a dict: column -> a text, a
number, an estimate (wording.py), or a `Cell` where one of these needs more. The
template page.html draws the table, `markdown` writes it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
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
  """Made by `table`; all rows of a table have the same columns."""

  cells: dict[str, Cell]
  mark: str


class Table(NamedTuple):
  """Made by `table`."""

  id: str
  caption: str
  rows: tuple[Row, ...]
  notes: tuple[str, ...]


class Filter(NamedTuple):
  """Buttons that show those rows alone whose cell `column` has a value."""

  column: str
  choices: tuple[str, ...]  # '': every row
  chosen: str  # at first

  @property
  def key(self) -> str:
    """The column as the name of an attribute in HTML."""
    return self.column.partition(' ')[0]

  def hides(self, row: Row) -> bool:
    """Whether the row is hidden at first."""
    choice = row.cells[self.column].choice
    return bool(self.chosen) and choice not in ('*', self.chosen)


class Group(NamedTuple):
  """Tables under common filters."""

  tables: tuple[Table, ...]
  filters: tuple[Filter, ...] = ()


class Section(NamedTuple):
  """What stands below a heading; a None among its parts is left out."""

  id: str
  title: str
  groups: Sequence[Group | Table | None] = ()
  text: Sequence[str] = ()  # paragraphs
  figures: Sequence = ()  # of plots.Drawing
  films: Mapping | None = None  # of gallery.py
  folded: str = ''  # the line that unfolds the section; '': it is open
  plain: str = ''  # text that keeps its lines

  @property
  def empty(self) -> bool:
    shown = [*self.groups, *self.figures, self.films, self.plain]
    return not any(shown)


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
  beside: Mapping[str, wording.Estimate] = {},
) -> Cell:
  """A value above its interval, and above the estimates `beside` it, by name,
  such as its false positives."""
  estimate = estimate or {}
  value = wording.value_of(estimate)
  copied = [value, estimate.get('low'), estimate.get('high')]
  parts, below = ('', ' low', ' high'), [wording.interval(estimate, sign=sign)]
  for name, other in beside.items():
    copied.append(wording.value_of(other))
    parts += (f' {name}',)
    below.append(f'{name} {wording.number(copied[-1], 2)}')
  return Cell(
    wording.number(value, sign=sign),
    tuple('' if c is None else f'{c:.6g}' for c in copied),
    parts,
    tuple(filter(None, below)),
    why=estimate.get('why', '') if value is None else '',
  )


def counts(estimate: wording.Estimate) -> dict[str, int | None]:
  """The columns that say what an estimate rests on."""
  estimate = estimate or {}
  return {
    'films': estimate.get('images'),
    'patients': estimate.get('patients'),
  }


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
  id: str, caption: str, rows: Sequence[Mapping], *notes: str
) -> Table | None:
  """A table of rows, all with the same columns; None where there are none."""
  if not rows:
    return None
  cells = [{name: cell(value) for name, value in row.items()} for row in rows]
  reasons = sorted({c.why for row in cells for c in row.values()} - {''})
  if len(reasons) > 3:
    reasons = [*reasons[:3], 'for the others point at the cell']
  if reasons:
    notes += (f'{wording.UNDEFINED} undefined: {"; ".join(reasons)}.',)
  mark = lambda row: next((c.mark for c in row.values() if c.mark), '')
  return Table(id, caption, tuple(Row(r, mark(r)) for r in cells), notes)


def group(
  tables: Sequence[Table | None], chosen: Mapping[str, str]
) -> Group | None:
  """Tables that are filtered together; None without a table.

  Args:
    tables: each has the columns that are filtered.
    chosen: column -> the value that is chosen at first, '' for all; where no
      row has that value, the first one is chosen.
  """
  tables, filters = tuple(filter(None, tables)), []
  for column, first in chosen.items():
    values = dict.fromkeys(
      row.cells[column].choice for t in tables for row in t.rows
    )
    values.pop('*', None)
    choices = (*values, '')
    if len(values) > 1:
      first = first if first in choices else choices[0]
      filters.append(Filter(column, choices, first))
  return Group(tables, tuple(filters)) if tables else None


def walk(tree: Mapping, depth: int) -> Iterator[tuple]:
  """(keys, value) of nested dicts: {'a': {'b': 1}} -> ('a', 'b', 1)."""
  for key, value in tree.items():
    if depth == 1:
      yield key, value
    else:
      yield from ((key, *rest) for rest in walk(value, depth - 1))


def markdown(rows: Sequence[Mapping]) -> str:
  """Rows, as `table` takes them, as a table of Markdown; '' without rows."""
  if not rows:
    return ''
  lines = [list(rows[0]), ['---'] * len(rows[0])]
  for row in rows:
    lines.append([])
    for value in map(cell, row.values()):
      beside = '; '.join(filter(None, (*value.below, value.why)))
      lines[-1].append(value.text + (f' ({beside})' if beside else ''))
  escaped = lambda text: one_line(text).replace('|', '\\|')
  return '\n'.join(f'| {" | ".join(map(escaped, line))} |' for line in lines)


def one_line(text: str) -> str:
  """The text on one line and without HTML: a viewer of Markdown runs it."""
  return ' '.join(text.split()).replace('&', '&amp;').replace('<', '&lt;')
