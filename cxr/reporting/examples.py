"""The example films of a run: examples.npz, with the boxes of boxes.csv.

A case is a film with a finding: {'name', 'image', 'finding', 'kind',
'probability', 'truth', 'maps', 'boxes'}, as in gallery.py, and 'another':
{method: {'name', 'map', 'boxes'}} of another patient's film, the first of the
donors that the evaluation drew; older runs have none.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from cxr import files, stored_rows
from cxr.reporting import wording


def read(workdir: str, rule: str) -> list[dict]:
  """The run's cases with the boxes of `rule`; [] without examples.npz.

  Raises:
    ValueError: it is damaged.
  """
  path = os.path.join(workdir, 'examples.npz')
  if not os.path.exists(path):
    return []
  way_out = '--mode=evaluate writes it again.'
  try:
    arrays = files.read_arrays(path)
  except ValueError as error:
    raise ValueError(f'{error} {way_out}') from error
  fields = ['name', 'finding', 'kind', 'probability', 'image', 'truth']
  fields += [name for name in arrays if name.startswith('donor')]
  if len({len(arrays.get(field, ())) for field in fields}) > 1:
    raise ValueError(f'{path} lacks films or fields. {way_out}')
  methods = [n.removeprefix('map_') for n in arrays if n.startswith('map_')]
  keys = list(
    zip(arrays['name'].tolist(), arrays['finding'].tolist(), strict=True)
  )
  boxes = _boxes(workdir, rule, set(keys))
  return [
    {
      'name': name,
      'image': arrays['image'][i],
      'finding': finding,
      'kind': str(arrays['kind'][i]),
      'probability': float(arrays['probability'][i]),
      'truth': [
        box.tolist()
        for box in arrays['truth'][i].reshape(-1, 4)
        if np.isfinite(box).all()
      ],
      'maps': {m: arrays[f'map_{m}'][i] for m in methods},
      'boxes': {
        m: boxes[name, finding, m]
        for m in methods
        if (name, finding, m) in boxes
      },
      'another': {
        m: {
          'name': str(arrays['donor'][i]),
          'map': arrays[f'donor_map_{m}'][i],
          'boxes': boxes.get((name, finding, m + wording.ANOTHER_PATIENT), []),
        }
        for m in methods
        if f'donor_map_{m}' in arrays and arrays['donor'][i]
      },
    }
    for i, (name, finding) in enumerate(keys)
  ]


def _boxes(workdir, rule, wanted):
  """(image, finding, method) -> predicted boxes, of the wanted films alone."""
  path = os.path.join(workdir, 'boxes.csv')
  if not os.path.exists(path):
    return {}
  boxes = stored_rows.read_boxes(path).where(rule=rule, draw=0)
  shown = np.isin(boxes.image, [image for image, _ in wanted])
  boxes = boxes.rows(np.flatnonzero(shown))
  keys = zip(boxes.image.tolist(), boxes.finding.tolist(), strict=True)
  return {
    (*key, method): predicted.tolist()
    for key, method, predicted in zip(
      keys, boxes.method.tolist(), boxes.boxes_of_rows(), strict=True
    )
    if key in wanted
  }


def shared(by_run: Mapping[str, Sequence[Mapping]]) -> list[dict]:
  """The cases that every run has: [{run: case}].

  'typical' cases come first: they are the same films in all runs on one data
  set, however well a run does.
  """
  keyed = {}
  for run, cases in by_run.items():
    keyed[run] = {}
    for case in cases:
      key = case['name'], case['finding']
      # A film may stand twice, as 'typical' and as 'median'.
      if key not in keyed[run] or case['kind'] == 'typical':
        keyed[run][key] = case
  first = next(iter(keyed.values()))
  of_all = [
    {run: cases[key] for run, cases in keyed.items()}
    for key in first
    if all(key in cases for cases in keyed.values())
  ]
  typical = lambda case: next(iter(case.values()))['kind'] == 'typical'
  return sorted(of_all, key=typical, reverse=True)
