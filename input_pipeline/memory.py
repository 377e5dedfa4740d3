"""How much memory this process may still take, and a refusal where it is short.

Linux kills a process that takes more memory than there is, without a message
and in the middle of its work. Code that is about to take much calls `require`
first.
"""

import os
import pathlib

_PROC = pathlib.Path('/proc')
_CGROUP = pathlib.Path('/sys/fs/cgroup')


def available(
  proc: pathlib.Path = _PROC, cgroup: pathlib.Path = _CGROUP
) -> int | None:
  """The bytes of memory that this process may still take.

  That is the least of what the machine has left and what each cgroup that the
  process is in has left. Page cache counts as free, since the system drops it
  when memory is needed. None where the system does not tell (it is not Linux).
  """
  rooms = []
  for line in _lines(proc / 'meminfo'):
    if line.startswith('MemAvailable:'):
      rooms.append(int(line.split()[1]) * 1024)
  for line in _lines(proc / 'self' / 'cgroup'):
    _, controllers, path = line.rstrip('\n').split(':', 2)
    if not controllers:  # version 2
      rooms += _rooms(cgroup, path, 'memory.max', 'memory.current')
    elif 'memory' in controllers.split(','):
      rooms += _rooms(
        cgroup / 'memory',
        path,
        'memory.limit_in_bytes',
        'memory.usage_in_bytes',
      )
  return min(rooms, default=None)


def _rooms(root: pathlib.Path, path: str, limit: str, usage: str) -> list[int]:
  """The bytes left in the cgroup `path` and in each one around it."""
  rooms = []
  group = root / path.lstrip('/')
  while group.is_relative_to(root):
    bounds = [''.join(_lines(group / name)).strip() for name in (limit, usage)]
    # 'max': no limit of its own. Empty: no such file, as at version 2's root.
    if all(bound.isdigit() for bound in bounds):
      rooms.append(int(bounds[0]) - int(bounds[1]) + _page_cache(group))
    group = group.parent
  return rooms


def _page_cache(group: pathlib.Path) -> int:
  fields = dict(line.split() for line in _lines(group / 'memory.stat'))
  # Version 1 tells of the group alone and, as total_, of all within it.
  return sum(
    int(fields.get(f'total_{name}', fields.get(name, 0)))
    for name in ('active_file', 'inactive_file')
  )


def _lines(path: pathlib.Path) -> list[str]:
  try:
    with open(path) as f:
      return f.readlines()
  except OSError:
    return []


def held(proc: pathlib.Path = _PROC) -> int:
  """The bytes that this process shares with no other.

  0 where the system does not tell.
  """
  fields = ''.join(_lines(proc / 'self' / 'statm')).split()
  if not fields:
    return 0
  return (int(fields[1]) - int(fields[2])) * os.sysconf('SC_PAGE_SIZE')


def require(needed: int, what: str, way_out: str) -> None:
  """Checks that there is enough memory for what is about to be done.

  Args:
    needed: bytes.
    what: the subject of the error's sentence, e.g. 'A training step'.
    way_out: what the user can do, the end of that sentence.

  Raises:
    ValueError: fewer bytes are left.
  """
  room = available()
  if room is not None and needed > room:
    raise ValueError(
      f'{what} needs {needed / 1e6:,.0f} MB of memory, of which '
      f'{max(room, 0) / 1e6:,.0f} MB are free; {way_out}.'
    )
