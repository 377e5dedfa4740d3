"""Readers on bytes that no one meant: no crash, hang or silent acceptance.

  pip install atheris
  python -m tests.faults.fuzz --reader=boxes --inputs=300000

Coverage-guided by atheris; where that is not installed, drawn by hypothesis.
Each input either ends in the reader's own error, of one line, or in a result
that keeps the reader's contract. Anything else stops with a traceback and the
input. An input that takes longer than ten seconds is a hang.
"""

import contextlib
import io
import math
import os
import random
import sys
import tempfile
import time
import warnings

import hypothesis
import hypothesis.strategies as st

try:
  import atheris
except ImportError:
  atheris = None

# Whatever is imported here tells the fuzzer which way an input took.
with atheris.instrument_imports() if atheris else contextlib.nullcontext():
  from input_pipeline import findings, preprocess
  from input_pipeline.radiograph import radiograph
  from input_pipeline.sources import nih_tables

from PIL import Image

HEADER = b'Image Index,Finding Labels,Patient ID,Patient Age,View Position\n'
BOX_HEADER = b'Image Index,Finding Label,Bbox [x,y,w,h],,,\n'
SEEDS = {
  'list': [
    b'00000001_000.png\n00000001_001.png',
    b'\xef\xbb\xbf\r\n',
    b';Image Index\r0;images/00000001_000.png\r',
    '00000001_000.png,,\n'.encode('utf-16'),
  ],
  'entries': [
    HEADER + b'00000001_000.png,Mass|Nodule,1,058Y,PA\r\n',
    HEADER + b'"00000001_000.png",No Finding,00000001,,AP',
    HEADER.replace(b',', b';') + b'00000001_000.png;Mass;1,0;45,5;pa;\r',
    b'sep=\t\n' + HEADER.replace(b',', b'\t') + b'00000001_000.png\tEdema\t1',
  ],
  'boxes': [
    BOX_HEADER + b'00000001_000.png,Infiltrate,225.1,547,86.7,79.1,,,\n',
    BOX_HEADER + b'00000001_000.png,Mass,1e-3,0,1024,.5\n',
    b'Image Index;Finding Label;Bbox [x,y,w,h];;;\n00000001_000.png;Mass;2,5;1'
    b';9,125;12%\n',
    b',h,w,y,x,finding_label,IMAGE INDEX\n0,9,9,9,9,Nodule,00000001_000.png\n',
  ],
}


def check_list(path):
  names = nih_tables.read_list(path)
  assert names and len(set(names)) == len(names)
  assert all(nih_tables.FILM_NAME.fullmatch(name) for name in names)


def check_entries(path):
  entries, left_out = nih_tables.read_entries(path)
  assert entries
  for name, entry in entries.items():
    assert nih_tables.FILM_NAME.fullmatch(name)
    assert list(entry.findings) == sorted(set(entry.findings))
    assert all(0 <= f < len(findings.FINDINGS) for f in entry.findings)
    assert math.isnan(entry.age) or 0 <= entry.age <= 120
    assert entry.view in ('', 'PA', 'AP') and entry.sex in ('', 'M', 'F')


def check_boxes(path):
  boxes, left_out = nih_tables.read_boxes(path)
  assert all(row.reason for row in left_out)
  for name, of_film in boxes.items():
    assert nih_tables.FILM_NAME.fullmatch(name)
    assert len(set(of_film)) == len(of_film)
    for _, (ymin, xmin, ymax, xmax), _ in of_film:
      assert 0 <= ymin < ymax <= 1024 and 0 <= xmin < xmax <= 1024


def check_film(path):
  try:
    assert preprocess.decode(path, 8).image.shape == (8, 8)
  except ValueError as e:
    reason, _ = e.args
    # Its detail is Pillow's, of any shape; csv quotes it.
    raise ValueError(reason) from e


def check_dicom(path):
  film = radiograph.read(path, size=8)
  assert film.image.shape == (8, 8, 1)
  assert film.image.min() >= 0 and film.image.max() <= 1


CHECKS = {
  'list': (check_list, ValueError),
  'entries': (check_entries, ValueError),
  'boxes': (check_boxes, ValueError),
  'film': (check_film, ValueError),
  'dicom': (check_dicom, radiograph.RadiographError),
}


def seeds(reader: str) -> list[bytes]:
  if reader in SEEDS:
    return SEEDS[reader]
  if reader == 'dicom':
    from tests.input_pipeline.radiograph import made_films

    return made_films.SAMPLES
  files = []
  for mode, kind in (
    ('L', 'PNG'),
    ('RGBA', 'PNG'),
    ('P', 'PNG'),
    ('L', 'JPEG'),
  ):
    out = io.BytesIO()
    Image.effect_noise((9, 9), 60).convert(mode).save(out, kind)
    files.append(out.getvalue())
  return files


def mutate(data: bytes, rng: random.Random) -> bytes:
  """A seed with a few bytes changed, put in, repeated or cut off."""
  data = bytearray(data)
  for _ in range(rng.randint(1, 6)):
    at = rng.randint(0, len(data))
    kind = rng.randrange(4)
    if kind == 0:
      data[at : at + 1] = rng.randbytes(1)
    elif kind == 1:
      data[at:at] = rng.choice((b',', b'\n', b'"', b'|', b'\0', b'-', b'nan'))
    elif kind == 2:
      data[at:at] = data[max(0, at - rng.randint(1, 40)) : at]
    elif rng.random() < 0.2:
      del data[at:]
  return bytes(data)


def main():
  options = dict(a.lstrip('-').split('=') for a in sys.argv[1:])
  reader, inputs = options['reader'], int(options.get('inputs', 10000))
  seed = int(options.get('seed', 0))
  check, refusal = CHECKS[reader]
  corpus = seeds(reader)
  folder = tempfile.mkdtemp(
    prefix='fuzz-', dir='/dev/shm' if os.path.isdir('/dev/shm') else None
  )
  path = os.path.join(folder, 'input')
  counts = {'read': 0, 'refused': 0, 'slowest': 0.0}
  warnings.simplefilter('ignore')

  def one(data: bytes):
    with open(path, 'wb') as f:
      f.write(data)
    start = time.monotonic()
    try:
      check(reader_path(path, reader))
      counts['read'] += 1
    except refusal as e:
      assert '\n' not in str(e), str(e)
      counts['refused'] += 1
    counts['slowest'] = max(counts['slowest'], time.monotonic() - start)
    done = counts['read'] + counts['refused']
    if done % (inputs // 4 or 1) == 0:
      print(reader, counts, flush=True)

  start = time.monotonic()
  if atheris:
    for k, data in enumerate(corpus):
      os.makedirs(os.path.join(folder, 'corpus'), exist_ok=True)
      with open(os.path.join(folder, 'corpus', str(k)), 'wb') as f:
        f.write(data)
    atheris.Setup(
      [
        *(sys.argv[0], os.path.join(folder, 'corpus'), f'-runs={inputs}'),
        *('-timeout=10', '-rss_limit_mb=4096', f'-seed={seed + 1}'),
        *('-max_len=2048', '-verbosity=0'),
      ],
      one,
    )
    atheris.Fuzz()  # ends the process
  else:
    draws = st.one_of(
      st.binary(max_size=400),
      st.builds(
        lambda data, seed: mutate(data, random.Random(seed)),
        st.sampled_from(corpus),
        st.integers(0, 2**62),
      ),
    )
    settings = hypothesis.settings(
      max_examples=inputs,
      deadline=None,
      database=None,
      suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.seed(seed)(settings(hypothesis.given(draws)(one)))()
  print(reader, counts, f'{time.monotonic() - start:.0f} s')


def reader_path(path: str, reader: str):
  if reader in ('film', 'dicom'):
    return path
  import pathlib

  return pathlib.Path(path)


if __name__ == '__main__':
  main()
