"""True regions beside films.csv: boxes and masks.

* `boxes.csv`: a row a box with the columns `image`, `finding`, `x`, `y`, `w`,
  `h` in the film's own pixels, x and y from its top left corner. Where boxes
  were drawn on a film of another size, `film_width` and `film_height` say
  which. A row without numbers is no box.
* masks, each of the size of its film, in one of three forms:
  `masks/IMAGE/FINDING.png`, where IMAGE is the film's name without its ending
  (`masks/FINDING/IMAGE.png` is read as well); `masks.csv` with the columns
  `image`, `finding` and `mask`, a path; `masks.json`, CheXlocalize's run
  lengths {image: {finding: {'size': [height, width], 'counts': text}}}.
"""

import functools
import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from input_pipeline import findings as findings_lib
from input_pipeline import run_lengths
from input_pipeline import tables as text_tables
from input_pipeline.sources import film_names, nih_tables
from input_pipeline.sources.film_table import Box, LeftOut, Mask

BOXES = 'boxes.csv'
MASKS, MASK_TABLE, MASK_RUNS = 'masks', 'masks.csv', 'masks.json'
_OTHER_PICTURES = ('.jpg', '.jpeg', '.bmp', '.gif', '.tif', '.tiff', '.dcm')
_FINDING = ('finding', 'Finding Label', 'label', 'class', 'class name')


class Regions(NamedTuple):
  """The regions of each film, by its index in films.csv."""

  boxes: dict[int, list[Box]]
  frames: dict[int, tuple[int, int]]  # where boxes are not in own pixels
  masks: dict[int, list[Mask]]
  left_out: list[LeftOut]


class _Context(NamedTuple):
  """What names of images and findings are held against."""

  folder: pathlib.Path
  index: film_names.Names
  finding: Callable[[str], int | None]  # the index of one; None: unknown


def paths(folder: pathlib.Path) -> list[pathlib.Path]:
  """The tables of regions, and the folder of masks, that may be there."""
  return [folder / name for name in (BOXES, MASK_TABLE, MASK_RUNS, MASKS)]


def read(
  folder: pathlib.Path,
  index: film_names.Names,
  findings: Sequence[str],
  synonyms: Mapping[str, str],
) -> Regions:
  """Reads what is there of boxes.csv and masks.

  Raises:
    ValueError: a table is malformed, or names an image that films.csv has not.
  """
  regions = Regions({}, {}, {}, [])

  @functools.cache
  def finding_index(name):
    try:
      return findings_lib.index_of(name, findings, synonyms)
    except ValueError:
      return None

  context = _Context(folder, index, finding_index)
  if (folder / BOXES).is_file():
    _read_boxes(context, regions)
  for where, image, finding, mask in _masks(context):
    film = index.find(image, where)
    k = context.finding(finding)
    if k is None:
      regions.left_out.append(
        LeftOut(image, 'mask of an unknown finding', f'{where}: {finding[:80]}')
      )
    elif mask:
      regions.masks.setdefault(film, []).append(mask._replace(finding=k))
  return regions


def _read_boxes(context: _Context, regions: Regions) -> None:
  path = context.folder / BOXES
  columns = {
    'image': film_names.COLUMN,
    'finding': _FINDING,
    # NIH's header has 'Bbox [x,y,w,h]' cut at its own commas.
    'x': ('x', 'Bbox [x'),
    'y': ('y',),
    'w': ('w', 'width'),
    'h': ('h', 'h]', 'height'),
    'film_width': ('film width',),
    'film_height': ('film height',),
  }
  rows = text_tables.read_table(
    path,
    columns,
    optional={'film_width', 'film_height'},
    spread=nih_tables.spread_box,
  )
  frames = {}
  for line, row in rows:
    where = f'{path}, line {line}'
    try:
      image = film_names.clean(row['image'], context.folder)
    except ValueError as e:
      raise ValueError(f'{where}: {e}') from None
    film = context.index.find(image, where)
    if not any(row[c] for c in 'xywh'):
      continue
    leave_out = lambda reason, detail, image=image, where=where: (
      regions.left_out.append(LeftOut(image, reason, f'{where}: {detail}'))
    )
    finding = context.finding(row['finding'])
    if finding is None:
      leave_out('box of an unknown finding', row['finding'][:80])
      continue
    numbers = ', '.join(row[c] for c in 'xywh')
    x, y, w, h = (text_tables.number(row[c]) for c in 'xywh')
    box = Box(finding, (y, x, y + h, x + w), f'{path.name}, line {line}')
    film_boxes = regions.boxes.setdefault(film, [])
    if not all(map(math.isfinite, box.box)):
      leave_out('box without four numbers', numbers)
    elif w <= 0 or h <= 0:
      leave_out('box of no size', numbers)
    elif max(x, y, w, h) <= 1:
      # Shares of the film, most likely; as pixels they would be a speck.
      leave_out('box not in pixels', numbers)
    elif box[:2] in [other[:2] for other in film_boxes]:
      leave_out('box given twice', numbers)
    else:
      frame = _frame(row, where)
      if frames.setdefault(film, frame) != frame:
        raise ValueError(
          f'{where}: the boxes of {image!r} are drawn on films of several '
          'sizes (film_width, film_height); give them all in one.'
        )
      film_boxes.append(box)
  regions.frames.update({k: frame for k, frame in frames.items() if frame})


def _frame(row: Mapping[str, str], where: str) -> tuple[int, int] | None:
  texts = row['film_height'], row['film_width']
  if not any(texts):
    return None
  height, width = map(text_tables.number, texts)
  if not (height >= 1 and width >= 1 and height % 1 == width % 1 == 0):
    raise ValueError(
      f'{where}: film_height ({texts[0]!r}) and film_width ({texts[1]!r}) must '
      'both be whole numbers of pixels, or both be empty.'
    )
  return int(height), int(width)


def _masks(context: _Context) -> Iterator[tuple[str, str, str, Mask | None]]:
  """(where it is said, image, finding, mask); None: a mask without a pixel."""
  if (context.folder / MASK_TABLE).is_file():
    yield from _table_masks(context)
  if (context.folder / MASK_RUNS).is_file():
    yield from _run_length_masks(context)
  if (context.folder / MASKS).is_dir():
    yield from _folder_masks(context)


def _table_masks(context):
  path = context.folder / MASK_TABLE
  files = film_names.Files(context.folder, ('.png',))
  columns = {
    'image': film_names.COLUMN,
    'finding': _FINDING,
    'mask': ('mask', 'mask path', 'mask file'),
  }
  for line, row in text_tables.read_table(path, columns):
    where = f'{path}, line {line}'
    try:
      image, mask = (
        film_names.clean(row[c], context.folder) for c in ('image', 'mask')
      )
    except ValueError as e:
      raise ValueError(f'{where}: {e}') from None
    # A table written in masks/ names them without that folder.
    file = files.find(mask) or files.find(f'{MASKS}/{mask}')
    if not file:
      raise ValueError(
        f'{where}: there is no mask {mask!r} in {context.folder}; correct its '
        'path or remove the row.'
      )
    yield where, image, row['finding'], Mask(0, path=file)


def _run_length_masks(context):
  path = context.folder / MASK_RUNS
  try:
    images = json.loads(text_tables.read_text(path))
    entries = [
      (image, finding, str(mask['counts']), _size(mask['size']))
      for image, masks in images.items()
      for finding, mask in masks.items()
    ]
  except (ValueError, TypeError, KeyError, AttributeError) as e:
    raise ValueError(
      f'{path} must hold run lengths as CheXlocalize writes them, {{image: '
      "{finding: {'size': [height, width], 'counts': text}}}, and does not "
      f'({type(e).__name__}).'
    ) from e
  for image, finding, counts, size in entries:
    where = f'{path}, {image}, {finding}'
    try:
      is_empty = not any(run_lengths.runs(counts, size)[1::2])
    except ValueError as e:
      raise ValueError(f'{where}: {e}') from None
    mask = None if is_empty else Mask(0, counts=counts, size=size)
    yield where, image, finding, mask


def _size(values: Sequence[int]) -> tuple[int, int]:
  height, width = map(int, values)
  return height, width


def _folder_masks(context):
  root = pathlib.Path(os.path.abspath(context.folder / MASKS))
  # A table of masks names those of the folder.
  if (context.folder / MASK_TABLE).is_file():
    return
  for place, folders, files in os.walk(root):
    folders[:] = sorted(name for name in folders if name[0] != '.')
    for file in sorted(files):
      stem, ending = os.path.splitext(file)
      if file[0] == '.':
        continue
      path = os.path.join(place, file)
      if ending.lower() in _OTHER_PICTURES:
        raise ValueError(
          f'{path}: a mask must be a PNG, as other formats may change its '
          'border; convert it, or remove it.'
        )
      if ending.lower() != '.png':
        continue
      where = os.path.relpath(place, root).replace(os.sep, '/')
      image, finding = where, stem
      if context.index.get(image) is None and (
        context.finding(where) is not None
      ):
        image, finding = stem, where
      # Several masks of one finding: Effusion_1.png, Effusion_2.png.
      if context.finding(finding) is None:
        finding = re.sub(r'[ _.-]*[0-9]+$', '', finding)
      if image == '.':
        raise ValueError(
          f'{path}: nothing says of which film this mask is; put it into '
          f'{MASKS}/IMAGE/FINDING.png, where IMAGE is the name of a film '
          f'without its ending, or list it in {MASK_TABLE}.'
        )
      yield path, image, finding, Mask(0, path=path)
