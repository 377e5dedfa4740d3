"""Which films a network learned from, and whether the user's are of that kind.

A network of drawn films knows nothing of patients, and one of real films
nothing of drawings. A film is a drawn one where the phantom's own record stands
beside its folder; every other film is taken for a real one.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from cxr import files, run_files
from cxr.reporting import main_result, part_origin, wording
from cxr.shipped import networks
from input_pipeline.phantom import write


class Origin(NamedTuple):
  """What is said of a network beside what it says of films."""

  sentences: list[str]  # what it is, what it was trained on, how good it is
  warnings: list[str]  # why it is no network for these films


def describe(workdir: str, paths: Sequence[str]) -> Origin:
  """What the workdir's config.json, data.json and metrics.json say of it.

  Args:
    workdir: of the run; a file that is absent says nothing.
    paths: of the films that are explained.
  """
  config, data, metrics = (
    _json(workdir, f'{name}.json') for name in ('config', 'data', 'metrics')
  )
  config = run_files.of_run(config)
  if 'arch' not in config.get('model', {}):
    return Origin([], [])
  shipped = networks.name_of(workdir)
  name = ''
  if shipped:
    name = (
      f'{shipped}, which comes with the code to try it with, and never for '
      'diagnosis: '
    )
  text = f'The network is {name}{part_origin.network(config, data)}'
  train = part_origin.splits(data).get('train')
  if train:
    text += (
      f', on {wording.count(train["images"], "film")} of '
      f'{wording.count(train.get("patients"), "patient")}'
    )
  size = config['data'].get('image_size')
  text += f' at {size} × {size} pixels.' if size else '.'
  source = config['data'].get('source') or data.get('name')
  if 'weights_from' in data:  # they learned from other films than the run's
    source = (data['weights_from'].get('trained') or {}).get('source')
  sentences = [s for s in (text, main_result.in_short(metrics)) if s]
  return Origin(sentences, _warnings(source, paths))


def _warnings(source: str | None, paths: Sequence[str]) -> list[str]:
  if not source:
    return []
  drawn = sum(map(write.is_drawn, paths))
  real = len(paths) - drawn
  if source == 'phantom' and real:
    return [
      'The network learned from drawn films alone, and '
      f'{_some(real, len(paths), "real")}: what it says of a patient means '
      'nothing. Real films need a network that was trained on real films, such '
      f'as {networks.DEFAULT}. (Drawn are those beside whose folder the '
      'phantom.json of their drawing stands.)'
    ]
  if source != 'phantom' and drawn:
    films = wording.SOURCES.get(source, source)
    return [
      f'The network learned from real films ({films}), and '
      f'{_some(drawn, len(paths), "drawn")}: what it says of a drawing means '
      'nothing. Drawn films need a network that was trained on the phantom, '
      f'such as {networks.SCHEME}phantom_robust.'
    ]
  return []


def _some(count, total, kind):
  """'2 of the 3 films are real ones', 'the film is a real one', …"""
  if total == 1:
    return f'the film is a {kind} one'
  if count == total:
    return f'all {total:,} films are {kind} ones'
  are = f'is a {kind} one' if count == 1 else f'are {kind} ones'
  return f'{count:,} of the {total:,} films {are}'


def _json(workdir, name):
  path = os.path.join(workdir, name)
  return files.read_json(path) if os.path.exists(path) else {}
