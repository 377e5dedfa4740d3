"""The experiments behind docs/results_*.md, each a config and a record."""

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict


def make(
  variants: Mapping[str, Callable[[str], ConfigDict]], name: str, preset: str
) -> ConfigDict:
  """The config of the variant with that name, from its `get_config(preset)`.

  Raises:
    ValueError: there is no such variant.
  """
  if name not in variants:
    raise ValueError(
      f'The variant ({name!r}) must be one of {", ".join(variants)}.'
    )
  return variants[name](preset)
