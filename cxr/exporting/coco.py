"""COCO files of boxes.

Boxes are (ymin, xmin, ymax, xmax) in [0, 1] here and [x, y, w, h] in the
original film's pixels there. What is read back equals what was written.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from cxr import files


def to_coco(
  box: Float[np.ndarray, '... 4'], height: int, width: int
) -> Float[np.ndarray, '... 4']:
  """[x, y, w, h] in pixels, from (ymin, xmin, ymax, xmax) in [0, 1]."""
  ymin, xmin, ymax, xmax = np.moveaxis(np.asarray(box, np.float64), -1, 0)
  return np.stack(
    [
      xmin * width,
      ymin * height,
      (xmax - xmin) * width,
      (ymax - ymin) * height,
    ],
    axis=-1,
  )


def from_coco(
  box: Float[np.ndarray, '... 4'], height: int, width: int
) -> Float[np.ndarray, '... 4']:
  """(ymin, xmin, ymax, xmax) in [0, 1], from [x, y, w, h] in pixels."""
  x, y, w, h = np.moveaxis(np.asarray(box, np.float64), -1, 0)
  return np.stack(
    [y / height, x / width, (y + h) / height, (x + w) / width], axis=-1
  )


def write_coco(
  path: str,
  images: Mapping[str, tuple[int, int]],
  boxes: Iterable[tuple],
  findings: Sequence[str],
) -> None:
  """Writes a COCO detection file.

  Args:
    path: of the JSON file.
    images: file name -> (height, width) in pixels; films without a box stay.
    boxes: rows of (file name, finding, box) or (…, score).
    findings: category i + 1 is the i-th.

  Raises:
    ValueError: a box of a film or a finding that is not listed.
  """
  image_id = {name: i + 1 for i, name in enumerate(images)}
  category_id = {name: i + 1 for i, name in enumerate(findings)}
  annotations = []
  for name, finding, box, *score in boxes:
    if name not in image_id or finding not in category_id:
      raise ValueError(
        f'A box of {finding!r} on {name!r}: list the film among `images` and '
        'the finding among `findings`.'
      )
    pixels = [float(v) for v in to_coco(box, *images[name])]
    annotations.append(
      {
        'id': len(annotations) + 1,
        'image_id': image_id[name],
        'category_id': category_id[finding],
        'bbox': pixels,
        'area': pixels[2] * pixels[3],
        'iscrowd': 0,
      }
      | ({'score': float(score[0])} if score else {})
    )
  files.write_json(
    path,
    {
      'images': [
        {
          'id': image_id[name],
          'file_name': name,
          'height': int(height),
          'width': int(width),
        }
        for name, (height, width) in images.items()
      ],
      'categories': [{'id': i, 'name': n} for n, i in category_id.items()],
      'annotations': annotations,
    },
  )


def read_coco(path: str) -> tuple[dict[str, tuple[int, int]], list[tuple]]:
  """(images, boxes) as `write_coco` takes them.

  Raises:
    ValueError: not a COCO detection file, or a box of an unknown film.
  """
  content = files.read_json(path)
  try:
    by_id = {image['id']: image for image in content['images']}
    finding = {c['id']: c['name'] for c in content['categories']}
    images = {
      image['file_name']: (image['height'], image['width'])
      for image in content['images']
    }
    boxes = []
    for a in content['annotations']:
      image = by_id[a['image_id']]
      box = from_coco(a['bbox'], image['height'], image['width'])
      score = (a['score'],) if 'score' in a else ()
      boxes.append((image['file_name'], finding[a['category_id']], box, *score))
  except (KeyError, TypeError) as error:
    raise ValueError(
      f'{path} is not a COCO detection file: {error!r} is missing.'
    ) from error
  return images, boxes
