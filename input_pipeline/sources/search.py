"""Pictures that lie where nobody looks for them, in words."""

import functools
import os
import pathlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

# What somebody may have films in; what is read of it is a source's to say.
_PICTURES = (
  '.png', '.jpg', '.jpeg', '.dcm', '.dicom', '.tif', '.tiff', '.bmp', '.gif',
  '.webp', '.npy', '.zip', '.gz', '.tar',
)  # fmt: skip
_SEARCH_DEPTH = 4
_SEARCH_FOLDERS = 2000


def elsewhere(
  folder: pathlib.Path,
  known: Iterable[str],
  *,
  places: Sequence[pathlib.Path] = (),
  passed_by: Collection[str] = (),
) -> str:
  """Pictures in and below a folder that are not known, in words.

  Links to folders are followed, each folder once, wherever links lead.

  Args:
    folder: where to look.
    known: paths of the pictures that are known.
    places: folders that are looked in; a link among them that leads nowhere is
      named.
    passed_by: names of folders that are not looked in.
  """
  real = functools.lru_cache(os.path.realpath)
  known = {(real(os.path.dirname(p)), os.path.basename(p)) for p in known}
  counts, examples, seen = Counter(), {}, set()
  for place, folders, files in os.walk(folder, followlinks=True):
    depth = len(pathlib.Path(place).relative_to(folder).parts)
    if real(place) in seen or len(seen) > _SEARCH_FOLDERS:
      folders.clear()
      continue
    seen.add(real(place))
    if depth >= _SEARCH_DEPTH:
      folders.clear()
    folders[:] = sorted(
      name
      for name in folders
      if name not in passed_by and not name.startswith('.')
    )
    for name in sorted(files):
      suffix = os.path.splitext(name)[1]
      if suffix.lower() in _PICTURES and (real(place), name) not in known:
        counts[place, suffix] += 1
        examples.setdefault((place, suffix), name)
  parts = [
    f'{str(link)!r} leads to {os.readlink(link)!r}, which is not there'
    for link in places
    if link.is_symlink() and not link.exists()
  ]
  parts += [
    f'{count} {suffix} in {place!r} such as {examples[place, suffix]!r}'
    for (place, suffix), count in counts.most_common(3)
  ]
  return '; '.join(parts)
