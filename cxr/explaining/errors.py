"""Why a film is not interpreted: one sentence each."""

MAX_PIXELS = 50_000_000  # thrice the largest film plate's


class RadiographError(ValueError):
  """A film that is not interpreted; its text is one sentence that says why."""


def check_size(height: int, width: int) -> None:
  # Before anything is decoded: a file of a few bytes can claim any size.
  if not 0 < height * width <= MAX_PIXELS:
    raise RadiographError(
      f'The film claims {height} x {width} pixels; '
      f'1 to {MAX_PIXELS:,} are read.'
    )
