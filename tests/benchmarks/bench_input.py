"""Films a second and core, prepared and fed.

  python -m tests.benchmarks.bench_input --originals=FOLDER --films=1000

Preparing: the files of FOLDER, linked again and again into a made folder in
NIH's layout, are prepared by one worker and by all, in turns, so that another
load on the machine strikes both. The efficiency is the second rate over cores
x the first. Beside them stands the rate of `decode` alone in one process, the
ceiling. Every rate is also given by second of processor time, all processes
together, which another load hardly changes.

Finding: a set of the full number of films, in a table, is looked for among
those that are prepared, for the first time and again.

Kinds of files: the same films as PNG, as JPEG, as DICOM of 12 bits (raw and
by run lengths), and as DICOM of twice the side, decoded to the size
that is prepared, by second of processor time.

Feeding: films of noise are prepared, then read by index in random order from
disk, and by `train_batches` from disk and from memory.
"""

import os
import pathlib
import tempfile
import time
from collections.abc import Iterator

import numpy as np
from absl import app, flags
from PIL import Image
from pydicom import uid

from input_pipeline import pipeline, prepare, preprocess
from input_pipeline import workers as workers_lib
from input_pipeline.findings import FINDINGS
from input_pipeline.sources import film_table
from tests.input_pipeline.radiograph import made_films

_ORIGINALS = flags.DEFINE_string(
  'originals', '../shared/nih/originals', 'Folder of 1024-pixel films.'
)
_FILMS = flags.DEFINE_integer('films', 1000, 'Films to prepare and to feed.')
_SIZE = flags.DEFINE_integer('image_size', 224, 'Pixels to prepare to.')
_FEED_SIZES = flags.DEFINE_multi_integer(
  'feed_size', [224, 256, 512], 'Pixels of the films fed.'
)
_REPEATS = flags.DEFINE_integer('repeats', 2, 'Turns; the best counts.')
_BATCH = 64
_KIND_FILMS = 24
_FULL_SET = 112_120


def _folder(root: pathlib.Path, films: int) -> Iterator[pathlib.Path]:
  """NIH's tables for `films` films, all of the test; yields their paths."""
  names = [f'{k // 10 + 2:08d}_{k % 10:03d}.png' for k in range(films)]
  (root / 'images').mkdir(parents=True)
  table = ['Image Index,Finding Labels', '00000001_000.png,No Finding']
  table += [f'{name},No Finding' for name in names]
  for name, lines in {
    'Data_Entry_2017_v2020.csv': table,
    'BBox_List_2017.csv': ['Image Index,Finding Label,Bbox [x,y,w,h]'],
    'train_val_list.txt': ['00000001_000.png'],
    'test_list.txt': names,
  }.items():
    (root / name).write_text('\n'.join(lines))
  return (root / 'images' / name for name in names)


def _clock() -> np.ndarray:
  """Seconds on the wall, and of processor time with ended children's."""
  return np.array([time.perf_counter(), sum(os.times()[:4])])


def _prepare(root: pathlib.Path, out: pathlib.Path, workers: int) -> None:
  prepare.prepare(
    root,
    film_table.Options(validation_fraction=0),
    image_size=_SIZE.value,
    prepared_dir=out,
    num_workers=workers,
  )


def bench_preparing(temporary: pathlib.Path) -> None:
  originals = sorted(pathlib.Path(_ORIGINALS.value).resolve().glob('*.png'))
  if not originals:
    raise app.UsageError(f'no films in --originals={_ORIGINALS.value}')
  root, films = temporary / 'nih', _FILMS.value
  for k, path in enumerate(_folder(root, films)):
    path.symlink_to(originals[k % len(originals)])
  cores = workers_lib.cores()
  best = {}

  def measure(name, films, function):
    begun = _clock()
    function()
    best[name] = np.maximum(best.get(name, 0), films / (_clock() - begun))

  def decode():
    for path in originals:
      preprocess.decode(str(path), _SIZE.value)

  for turn in range(_REPEATS.value):
    measure('decode alone', len(originals), decode)
    for workers in (1, cores):
      name = f'prepare, {workers} workers'
      out = temporary / f'{turn}-{workers}'
      measure(name, films, lambda o=out, w=workers: _prepare(root, o, w))
  for name, (wall, core) in best.items():
    print(f'{name:20} {wall:8.1f} films/s, {core:8.1f} a core')
  (alone, _), (one, _), (all_, core) = best.values()
  print(
    f'{cores} workers reach {all_ / (cores * one):.0%} of {cores} x one worker '
    f'and {all_ / (cores * alone):.0%} of {cores} x decode alone; '
    f'{_FULL_SET:,} films take {_FULL_SET / core / 3600:.2f} core hours'
  )


def _kinds(original: pathlib.Path, place: pathlib.Path) -> dict[str, str]:
  """The film in files of every kind, by the kind's name."""
  with Image.open(original) as picture:
    gray = picture.convert('L')
  paths = {}
  for ending, options in {'png': {}, 'jpg': {'quality': 95}}.items():
    path = place / f'{original.stem}.{ending}'
    gray.save(path, **options)
    paths[ending.upper()] = str(path)
  large = gray.resize((2 * gray.width, 2 * gray.height))
  for name, film, syntax in (
    ('DICOM', gray, None),
    ('DICOM, run lengths', gray, uid.RLELossless),
    ('DICOM of twice the side', large, None),
  ):
    made = made_films.dicom(np.asarray(film, np.uint16) * 16)
    if syntax:
      made.compress(syntax)
    path = place / f'{original.stem}-{name}.dcm'
    paths[name] = made_films.save(made, str(path))
  return paths


def bench_kinds(temporary: pathlib.Path) -> None:
  originals = sorted(pathlib.Path(_ORIGINALS.value).resolve().glob('*.png'))
  made = [_kinds(path, temporary) for path in originals[:_KIND_FILMS]]
  for kind in made[0]:
    preprocess.decode(made[0][kind], _SIZE.value)  # its imports
    rates = []
    for _ in range(_REPEATS.value):
      begun = _clock()
      for paths in made:
        preprocess.decode(paths[kind], _SIZE.value)
      rates.append(len(made) / (_clock() - begun)[1])
    print(f'decode {kind:24} {max(rates):8.1f} films/s a core')


def bench_finding(temporary: pathlib.Path) -> None:
  """Finds a prepared set of the full number of films, in a table, again."""
  root = temporary / 'table'
  root.mkdir()
  lines = [f'image,patient,{",".join(FINDINGS)}']
  for k in range(_FULL_SET):
    source = root / f'source{k // 60_000}'  # a file has at most 65,000 links
    source.touch()
    os.link(source, root / f'{k:06d}.png')
    lines.append(f'{k:06d}.png,P{k // 4},' + ','.join('0' * len(FINDINGS)))
  (root / 'films.csv').write_text('\n'.join(lines))
  options = film_table.Options(source='table')
  for name in ('reading its table', 'found again'):
    begun = _clock()
    prepare.fingerprint(
      root, options, image_size=_SIZE.value, listings=temporary / 'listings'
    )
    wall, core = _clock() - begun
    print(f'{_FULL_SET:,} films, {name}: {wall:.1f} s, {core:.1f} s of a core')


def bench_feeding(temporary: pathlib.Path, size: int) -> None:
  root, films = temporary / f'feed-{size}', _FILMS.value
  noise = np.random.default_rng(0).integers(0, 256, (size, size), np.uint8)
  for path in _folder(root, films):
    Image.fromarray(noise).save(path, compress_level=0)
  rates = {}
  for cache in pipeline.CACHES:
    split = pipeline.load(
      root,
      image_size=size,
      prepared_dir=temporary / 'prepared',
      validation_fraction=0,
      cache=cache,
    )['test']
    if cache == 'none':
      order = np.random.default_rng(0).permutation(films)
      begun = _clock()
      for k in range(0, films, _BATCH):
        split.image[order[k : k + _BATCH]]
      rates['by index'] = films / (_clock() - begun)
    batches = pipeline.train_batches(split, batch_size=_BATCH, seed=0)
    for _ in range(4):
      next(batches)
    begun = _clock()
    steps = max(20, 2 * films // _BATCH)
    for _ in range(steps):
      next(batches)
    rates[f'cache={cache}'] = steps * _BATCH / (_clock() - begun)
  for name, (wall, core) in rates.items():
    print(f'{size} px, {name:12} {wall:8.0f} films/s, {core:8.0f} a core')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]}')
  with tempfile.TemporaryDirectory() as temporary:
    bench_finding(pathlib.Path(temporary))
    bench_kinds(pathlib.Path(temporary))
    bench_preparing(pathlib.Path(temporary))
    for size in _FEED_SIZES.value:
      bench_feeding(pathlib.Path(temporary), size)


if __name__ == '__main__':
  app.run(main)
