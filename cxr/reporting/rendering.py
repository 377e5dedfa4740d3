"""The one Jinja environment; the templates stand in the folder templates/."""

import os

import jinja2

from cxr import files
from cxr.reporting import tables

# HTML is escaped. Markdown is not: tables.one_line, which is a filter as well,
# makes its texts harmless.
_ENVIRONMENT = jinja2.Environment(
  loader=jinja2.FileSystemLoader(
    os.path.join(os.path.dirname(__file__), 'templates')
  ),
  autoescape=jinja2.select_autoescape(['html']),
  undefined=jinja2.StrictUndefined,
  trim_blocks=True,
  lstrip_blocks=True,
  keep_trailing_newline=True,
)
_ENVIRONMENT.filters['one_line'] = tables.one_line


def render(template: str, **context) -> str:
  """A template, filled in; a value that it misses is an error."""
  return _ENVIRONMENT.get_template(template).render(**context)


def write(path: str, template: str, **context) -> str:
  """Writes the filled-in template to `path`, and returns the path."""
  text = render(template, **context)
  files.replace_file(path, lambda f: f.write(text))
  return path
