"""Texts beside a run: its model card, and how to load what it exports."""

import os

import jinja2

TEMPLATES = os.path.join(os.path.dirname(__file__), 'templates')


def render(template: str, **context) -> str:
  """A Markdown template, filled in; a missing value is an error."""
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=False,  # Markdown; what is shown are our words and numbers
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  return environment.get_template(template).render(**context)
