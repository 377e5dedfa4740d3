"""shipped://NAME -> the folder of a network that comes with the code.

Each is a folder beside this file, as --mode=export writes it, without the
program (docs/weights.md has the command). --workdir takes one for explain and
export, --config.model.init_from for an evaluation.
"""

import os
import pathlib

WEIGHTS = 'model.safetensors'  # what --mode=export calls a network's weights
SCHEME = 'shipped://'
# It explains where no other network is named: the robust one of real films.
DEFAULT = f'{SCHEME}nih_robust'
_HERE = pathlib.Path(__file__).parent


def names() -> list[str]:
  """The networks that come with the code, in alphabetical order."""
  return sorted(path.parent.name for path in _HERE.glob(f'*/{WEIGHTS}'))


def others() -> list[str]:
  """All of them but the default, as they are given to --workdir."""
  return [SCHEME + n for n in names() if SCHEME + n != DEFAULT]


def is_shipped(path: str) -> bool:
  """Whether the path names a network that comes with the code."""
  return path.startswith(SCHEME)


def folder(path: str) -> str:
  """The folder of shipped://NAME; any other path as it is.

  Raises:
    ValueError: no network of that name comes with the code.

  Examples:
    >>> folder('runs/robust')
    'runs/robust'
  """
  if not is_shipped(path):
    return path
  name = path.removeprefix(SCHEME).rstrip('/')
  if name not in names():
    raise ValueError(
      f'No network {name} comes with the code; there are '
      f'{", ".join(names())}: write {DEFAULT}.'
    )
  return str(_HERE / name)


def name_of(workdir: str) -> str:
  """The name of the network whose folder this is; '' of other folders.

  Examples:
    >>> name_of('runs/robust')
    ''
  """
  path = pathlib.Path(workdir).resolve()
  return path.name if path.parent == _HERE.resolve() else ''


def results(workdir: str) -> str:
  """Where what is made with a network is written, by default: its workdir, but
  never among the code.

  Examples:
    >>> results('runs/robust')
    'runs/robust'
    >>> results(str(_HERE / 'nih_robust'))
    'runs/shipped/nih_robust'
  """
  name = name_of(workdir)
  return os.path.join('runs', 'shipped', name) if name else workdir
