"""Draws a whole phantom into a folder in the layout of NIH ChestX-ray14."""

import contextlib
import csv
import fcntl
import glob
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import tqdm
from PIL import Image

from input_pipeline import workers as worker_pool
from input_pipeline.findings import BOXED, FINDINGS
from input_pipeline.phantom import draw, plan
from input_pipeline.phantom.shapes import Box

# What a phantom was drawn with, in its folder beside those of its films.
RECORD = 'phantom.json'
# A process takes as long to start as to draw so many films.
_FILMS_A_START = 200


def is_drawn(film: str) -> bool:
  """Whether the film at this path stands in a folder of a phantom."""
  folder = pathlib.Path(film).resolve().parent
  return any((place / RECORD).is_file() for place in (folder, folder.parent))


class _Task(NamedTuple):
  dir: pathlib.Path
  entries: list[plan.Entry]
  options: dict


def _write_films(task: _Task) -> list[tuple[plan.Entry, dict[str, Box]]]:
  """Draws and saves some films; returns what the tables need of them."""
  rows = []
  for entry in task.entries:
    film = draw.draw_film(entry, renderings=entry.test, **task.options)
    folders = {
      'images': film.image,
      'images_without_shortcut': film.without_shortcut,
      'images_without_lesions': film.without_lesions,
    }
    for folder, image in folders.items():
      if image is not None:
        Image.fromarray(image).save(task.dir / folder / entry.name)
    rows.append((entry, film.box))
  return rows


@contextlib.contextmanager
def _partial(dir: pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder beside `dir` that is gone afterwards, whatever happens.

  Its lock dies with its process: one that is not locked was left by a process
  that was killed, and goes first.
  """
  for abandoned in dir.parent.glob(f'{glob.escape(dir.name)}.partial-*'):
    with contextlib.suppress(OSError), _folder_lock(abandoned):
      shutil.rmtree(abandoned)
  partial = dir.with_name(f'{dir.name}.partial-{os.getpid()}')
  partial.mkdir(parents=True)
  try:
    with _folder_lock(partial):
      yield partial
  finally:
    shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _folder_lock(folder: pathlib.Path) -> Iterator[None]:
  handle = os.open(folder, os.O_RDONLY)
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield
  finally:
    os.close(handle)


def _write_tables(
  dir: pathlib.Path, rows: Sequence[tuple[plan.Entry, dict[str, Box]]]
):
  with open(dir / 'Data_Entry_2017_v2020.csv', 'w', newline='') as f:
    f.write(
      'Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,'
      'Patient Gender,View Position,OriginalImage[Width,Height],'
      'OriginalImagePixelSpacing[x,y]\n'
    )
    table = csv.writer(f, lineterminator='\n')
    for e, _ in rows:
      labels = '|'.join(e.findings) or 'No Finding'
      pixels = (2992, 2991, 0.143) if e.view == 'PA' else (2500, 2048, 0.168)
      width, height, spacing = pixels
      table.writerow(
        (e.name, labels, e.follow_up, e.patient, e.age, e.sex, e.view)
        + (width, height, spacing, spacing)
      )
  with open(dir / 'BBox_List_2017.csv', 'w', newline='') as f:
    # The data set's own header: nine fields over rows of six.
    f.write('Image Index,Finding Label,Bbox [x,y,w,h],,,\n')
    table = csv.writer(f, lineterminator='\n')
    for finding in BOXED:
      label = 'Infiltrate' if finding == 'Infiltration' else finding
      for e, boxes in rows:
        if e.test and finding in boxes:
          ymin, xmin, ymax, xmax = (1024 * v for v in boxes[finding])
          table.writerow((e.name, label, xmin, ymin, xmax - xmin, ymax - ymin))
  for name, test in (('train_val_list.txt', False), ('test_list.txt', True)):
    # No newline at the end, as in the data set.
    (dir / name).write_text(
      '\n'.join(e.name for e, _ in rows if e.test == test)
    )


def _move(partial: pathlib.Path, dir: pathlib.Path) -> None:
  try:
    os.rename(partial, dir)
  except OSError:
    # Two runs that start together both write it: the first one's will do.
    ours, theirs = partial / RECORD, dir / RECORD
    if not theirs.exists() or theirs.read_text() != ours.read_text():
      raise ValueError(
        f'{dir} was made by something else meanwhile; choose another folder.'
      ) from None


def write_phantom(
  dir: str | os.PathLike,
  *,
  num_films: int = 5000,
  image_size: int = 64,
  seed: int = 0,
  shortcut_amplitude: float = 3.0,
  shortcut_prevalence: float = 0.95,
  workers: int = 0,
  progress: bool = True,
) -> None:
  """Writes the data set; `dir` appears when it is complete, or not at all.

  Args:
    dir: folder to make; it must not exist, or be empty.
    num_films: films in all, some 22 % of them in the test list.
    image_size: pixels a side.
    seed: same seed, same films, whatever `workers` is.
    shortcut_amplitude: of each grating, in 1/255; 0 for none.
    shortcut_prevalence: share of a finding's films that have its grating.
    workers: processes; 0 for one per core (fewer for few films), 1 for this
      one.
    progress: whether to show a progress bar.

  Raises:
    ValueError: an argument is out of range, or `dir` holds something.
  """
  dir = pathlib.Path(dir)
  if num_films < 20:
    raise ValueError(
      f'num_films ({num_films}) must be at least 20, so that both lists have '
      'patients.'
    )
  if image_size < draw.MIN_IMAGE_SIZE:
    raise ValueError(
      f'image_size ({image_size}) must be at least {draw.MIN_IMAGE_SIZE}: the '
      f'gratings have up to {max(draw.RADII):.0f} cycles a film.'
    )
  if not 0 <= shortcut_amplitude <= 255:
    raise ValueError(
      f'shortcut_amplitude ({shortcut_amplitude}) must lie in 0 .. 255; it is '
      'in gray levels.'
    )
  if not 0 <= shortcut_prevalence <= 1:
    raise ValueError(
      f'shortcut_prevalence ({shortcut_prevalence}) must lie in 0 .. 1.'
    )
  if seed < 0 or workers < 0:
    raise ValueError(
      f'seed ({seed}) and workers ({workers}) must not be negative.'
    )
  if dir.exists() and (not dir.is_dir() or any(dir.iterdir())):
    raise ValueError(
      f'{dir} exists already; remove it or choose another folder.'
    )

  options = {
    'image_size': image_size,
    'seed': seed,
    'shortcut_amplitude': shortcut_amplitude,
    'shortcut_prevalence': shortcut_prevalence,
  }
  entries = plan.make_plan(num_films, seed)
  chunks = [entries[i : i + 32] for i in range(0, num_films, 32)]
  with _partial(dir) as partial:
    for folder in ('', '_without_shortcut', '_without_lesions'):
      (partial / f'images{folder}').mkdir()
    worth = max(num_films // _FILMS_A_START, 1)
    count = min(workers or min(worker_pool.cores(), worth), len(chunks))
    with (
      worker_pool.pool(count) as executor,
      tqdm.tqdm(
        total=num_films,
        desc='phantom',
        unit='film',
        disable=not progress,
        # Into a log file only now and then.
        mininterval=0.1 if sys.stderr.isatty() else 10,
      ) as bar,
    ):
      drawn = []
      for chunk in chunks:
        task = _Task(partial, chunk, options)
        drawn.append(executor.submit(_write_films, task))
        drawn[-1].add_done_callback(lambda _, n=len(chunk): bar.update(n))
      rows = [row for future in drawn for row in future.result()]
    _write_tables(partial, rows)
    parameters = {'num_films': num_films, **options}
    parameters['shortcut_cycles_per_film'] = {
      f: draw.FREQUENCY[f] for f in FINDINGS
    }
    (partial / RECORD).write_text(json.dumps(parameters, indent=2))
    _move(partial, dir)
