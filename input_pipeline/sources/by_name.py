"""The layouts by the name that config.data.source gives.

A new layout is one module (see film_table) and one line here.
"""

from types import ModuleType

SOURCES: dict[str, ModuleType] = {}
