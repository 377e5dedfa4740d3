"""COCO files of boxes: films with their true boxes, and detections on them.

Boxes are (ymin, xmin, ymax, xmax) in [0, 1] here and [x, y, width, height] in
the film's own pixels there. pycocotools reads the two kinds together:

  COCO('coco-truth.json').loadRes('coco-cam.json')
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from cxr import files

Images = Mapping[str, tuple[int, int]]  # file name -> (height, width) in pixels


def to_coco(
  box: Float[np.ndarray, '... 4'], height: int, width: int
) -> Float[np.ndarray, '... 4']:
  """[x, y, width, height] in pixels of a box.

  Examples:
    >>> to_coco(np.array([0.25, 0.5, 0.75, 1.0]), height=100, width=200)
    array([100.,  25., 100.,  50.])
  """
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


def write_truth(
  path: str,
  images: Images,
  findings: Sequence[str],
  boxes: Iterable[tuple[str, str, Float[np.ndarray, '4']]] = (),
) -> None:
  """Writes the films, the findings and the true boxes.

  Detections need such a file beside them, also where no truth is known.

  Args:
    path: of the JSON file.
    images: all films, with boxes or without; the i-th has id i + 1.
    findings: the categories; the i-th has id i + 1.
    boxes: (file name, finding, box) of each true box.

  Raises:
    ValueError: a box of a film or of a finding that is not listed.
  """
  annotations = [
    {
      'id': i,
      **entry,
      'area': entry['bbox'][2] * entry['bbox'][3],
      'iscrowd': 0,
    }
    for i, entry in enumerate(_entries(images, findings, boxes), start=1)
  ]
  files.write_json(
    path,
    {
      'images': [
        {'id': i, 'file_name': name, 'height': int(h), 'width': int(w)}
        for i, (name, (h, w)) in enumerate(images.items(), start=1)
      ],
      'categories': [
        {'id': i, 'name': name} for i, name in enumerate(findings, start=1)
      ],
      'annotations': annotations,
    },
  )


def write_detections(
  path: str,
  images: Images,
  findings: Sequence[str],
  boxes: Iterable[tuple[str, str, Float[np.ndarray, '4'], float]],
) -> None:
  """Writes predicted boxes as the list that pycocotools' loadRes takes.

  Args:
    path: of the JSON file.
    images: those of `write_truth`, in the same order.
    findings: those of `write_truth`, in the same order.
    boxes: (file name, finding, box, score) of each predicted box.

  Raises:
    ValueError: a box of a film or of a finding that is not listed.
  """
  files.write_json(path, list(_entries(images, findings, boxes)))


def _entries(images: Images, findings: Sequence[str], boxes: Iterable[tuple]):
  image_id = {name: i for i, name in enumerate(images, start=1)}
  category_id = {name: i for i, name in enumerate(findings, start=1)}
  for name, finding, box, *score in boxes:
    if name not in image_id or finding not in category_id:
      raise ValueError(
        f'A box of {finding!r} on {name!r}: list the film among `images` and '
        'the finding among `findings`.'
      )
    entry = {
      'image_id': image_id[name],
      'category_id': category_id[finding],
      'bbox': to_coco(box, *images[name]).tolist(),
    }
    if score:
      entry['score'] = float(score[0])
    yield entry
