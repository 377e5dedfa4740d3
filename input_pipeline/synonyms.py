"""A user's own table of synonyms: what other names mean the same finding."""

import pathlib

from input_pipeline import findings, tables


def read(path: str | pathlib.Path) -> dict[str, str]:
  """The table of synonyms with a user's own names in it.

  Args:
    path: a csv with the columns `name` and `finding`, one pair a row: `name`
      means the same as `finding`. A row goes before the built-in table; '' is
      no file.

  Raises:
    FileNotFoundError, ValueError: the file is absent, has not these columns, or
      says two things of a name.
  """
  if not str(path):
    return dict(findings.SYNONYMS)
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise FileNotFoundError(
      f'There is no table of synonyms {path} (data.synonyms); it is a csv with '
      'the columns name and finding.'
    )
  own = {}
  columns = {'name': ('name',), 'finding': ('finding',)}
  for line, row in tables.read_table(path, columns):
    key = findings.plain(row['name'])
    if not key or not findings.plain(row['finding']):
      raise ValueError(
        f'{path}, line {line}: a row needs a name and a finding, and has '
        f'{row["name"]!r} and {row["finding"]!r}.'
      )
    finding = findings.SYNONYMS.get(
      findings.plain(row['finding']), findings.tidy(row['finding'])
    )
    if own.setdefault(key, finding) != finding:
      raise ValueError(
        f'{path}, line {line}: {row["name"]!r} means {finding!r} here and '
        f'{own[key]!r} in a line before; give it one meaning.'
      )
  return dict(findings.SYNONYMS) | own
