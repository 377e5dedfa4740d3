"""The layouts by the name that config.data.source gives.

A new layout is one module (see film_table) and one line here.
"""

from types import ModuleType

from input_pipeline.sources import (
  chexpert,
  mimic,
  nih,
  padchest,
  rsna,
  table,
  vindr,
)

SOURCES: dict[str, ModuleType] = {
  'nih': nih,
  'phantom': nih,  # drawn in the same layout
  'table': table,
  'chexpert': chexpert,
  'vindr': vindr,
  'rsna': rsna,
  'mimic': mimic,
  'padchest': padchest,
}


def find(source: str) -> ModuleType:
  """The module that reads a layout.

  Raises:
    ValueError: there is none of that name.
  """
  if source not in SOURCES:
    raise ValueError(
      f'config.data.source ({source!r}) must be one of {", ".join(SOURCES)}.'
    )
  return SOURCES[source]
