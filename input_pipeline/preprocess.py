"""One film file -> one gray square of the wanted size, in many processes.

`decode` is the only place where a film's pixels are read and resized. A film
is gray, 8-bit and square; one of the wanted size is left
as it is, any other is resized by a triangle filter as wide as the reduction
(bilinear with anti-aliasing). A smaller one is refused: enlarged among reduced
ones it would be recognised by its blur.

`decoders` runs it in worker processes, which are this very file run as a
script: they import Pillow and nothing else, so they start in a tenth of a
second, and they never import the caller's main module, as multiprocessing's
spawn would. A worker whose caller has died finds its pipe closed and ends.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures

from PIL import Image, ImageChops, ImageOps

_GRAY_FROM = ('1', 'L', 'LA', 'P', 'RGB', 'RGBA')
_PROGRESS_FILMS = 8


def to_gray(picture: Image.Image) -> Image.Image:
  """The picture in 8-bit gray, as every viewer shows it on black.

  Turned as its EXIF orientation says, and laid on black where it is
  transparent. What a picture of a film contains is decided here alone.
  """
  picture = ImageOps.exif_transpose(picture)
  if picture.mode in ('1', 'L'):
    return picture.convert('L')
  if not picture.has_transparency_data:
    return picture.convert('RGB').convert('L')
  picture = picture.convert('RGBA')
  # Rounds to the nearest level.
  return ImageChops.multiply(picture.convert('L'), picture.getchannel('A'))


def decode(path: str, image_size: int) -> Image.Image:
  """The film at `path` as an 8-bit gray image, `image_size` pixels square.

  Raises:
    ValueError: `(reason, detail)`, for whatever is not a whole, 8-bit, square
      PNG or JPEG of at least that size.
  """
  try:
    with warnings.catch_warnings():
      # Some 90 megapixels and more: never decoded.
      warnings.simplefilter('error', Image.DecompressionBombWarning)
      with Image.open(path, formats=('PNG', 'JPEG')) as image:
        mode, (width, height) = image.mode, image.size
        if mode in _GRAY_FROM and width == height:
          gray = to_gray(image)
  except (Image.DecompressionBombWarning, Image.DecompressionBombError) as e:
    raise ValueError('too large', str(e)) from e
  # Pillow's parsers raise nearly anything on a damaged file (SyntaxError,
  # struct.error, zlib.error, ...): to us they all mean the same.
  except Exception as e:
    detail = f'{type(e).__name__}: {e}'.replace(path, os.path.basename(path))
    raise ValueError('undecodable', detail[:200]) from e
  if mode not in _GRAY_FROM:
    raise ValueError('not 8-bit gray or colour', f'mode {mode}')
  if width != height:
    raise ValueError('not square', f'{width} x {height} pixels')
  if width < image_size:
    raise ValueError('smaller than image_size', f'{width} < {image_size}')
  if gray.size != (image_size, image_size):
    gray = gray.resize((image_size, image_size), Image.Resampling.BILINEAR)
  return gray


def decode_chunk(
  films: Sequence[Sequence[str]],
  image_size: int,
  out: str,
  progress: Callable[[int], None] = lambda films: None,
) -> None:
  """Decodes a chunk of films, each in all its renditions, into two files.

  `out`.u8 holds the pixels, uint8 `(film, rendition, h, w)`, zeros for a film
  of which a rendition cannot be decoded; `out`.json a list with null for each
  film that is whole, else `[file, reason, detail]`. The second is renamed
  into place last: where it stands, the chunk is complete, whatever was killed
  when.

  Args:
    films: paths, `[film][rendition]`.
    image_size: pixels.
    out: path without its ending.
    progress: called with the number of films since its last call.
  """
  faults, pending = [], 0
  temporary = f'{out}.{os.getpid()}.tmp'
  with open(temporary, 'wb') as f:
    for renditions in films:
      pixels, fault = [], None
      for path in renditions:
        try:
          pixels.append(decode(path, image_size).tobytes())
        except ValueError as e:
          fault = [path, *e.args]
          pixels = [bytes(image_size * image_size * len(renditions))]
          break
      f.write(b''.join(pixels))
      faults.append(fault)
      pending += 1
      if pending == _PROGRESS_FILMS:
        progress(pending)
        pending = 0
    f.flush()
    # Before the rename: else a power cut can leave a complete name over
    # missing pixels.
    os.fsync(f.fileno())
  os.replace(temporary, f'{out}.u8')
  with open(temporary, 'w', encoding='utf-8') as f:
    json.dump(faults, f)
    f.flush()
    os.fsync(f.fileno())
  os.replace(temporary, f'{out}.json')
  progress(pending)


@contextlib.contextmanager
def decoders(workers: int) -> Iterator[Callable[..., futures.Future]]:
  """`workers` processes, as a function that submits to them.

  Yields:
    `submit(films, image_size, out, progress)`, which calls `decode_chunk` in
    a free worker and returns a future. `progress` is called in a thread of
    this process. The future raises OSError where the chunk cannot be written,
    RuntimeError where the worker died.
  """
  idle = queue.SimpleQueue()
  processes = []

  def run(films, image_size, out, progress):
    process = idle.get()
    task = {'films': films, 'image_size': image_size, 'out': out}
    with contextlib.suppress(BrokenPipeError):
      process.stdin.write(json.dumps(task) + '\n')
      process.stdin.flush()
    for line in process.stdout:
      message = json.loads(line)
      if 'films' not in message:
        break
      progress(message['films'])
    else:
      raise RuntimeError(
        f'A decoding process ended with status {process.wait()} amid the '
        f'{len(films)} films from {films[0][0]}; is there enough memory?'
      )
    idle.put(process)
    if message['error']:
      raise OSError(*message['error'])

  pool = futures.ThreadPoolExecutor(workers)
  try:
    for _ in range(workers):
      process = subprocess.Popen(
        [sys.executable, '-P', os.path.abspath(__file__)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding='utf-8',
        # Ctrl-C is for the caller, who then ends the workers.
        start_new_session=True,
      )
      processes.append(process)
      idle.put(process)
    yield lambda *task: pool.submit(run, *task)
  finally:
    for process in processes:
      process.kill()
    # The killed processes' pipes end, and so do the threads that read them;
    # one that still waits for a free process gets a dead one.
    for process in processes:
      idle.put(process)
    pool.shutdown(cancel_futures=True)
    for process in processes:
      process.wait()
      process.stdout.close()
      with contextlib.suppress(BrokenPipeError):
        process.stdin.close()


def main() -> None:
  """Answers tasks from standard input until it is closed."""

  def answer(**message):
    print(json.dumps(message), flush=True)

  try:
    for line in sys.stdin:
      error = None
      try:
        decode_chunk(
          **json.loads(line), progress=lambda films: answer(films=films)
        )
      except BrokenPipeError:
        raise
      except OSError as e:
        error = [e.errno, e.strerror, e.filename]
      answer(error=error)
  except BrokenPipeError:
    # The caller is gone; nothing is left to flush to.
    os._exit(0)


if __name__ == '__main__':
  main()
