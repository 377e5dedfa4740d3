"""How alike the maps of several networks are on the same film.

Of a group of runs that differ in their seed: the rank correlation of the maps
of two seeds, mean over all pairs of seeds ('within' the group). Of two groups:
of a run of either ('between' them). A value belongs to a film and finding;
means over films have intervals over patients, with the seeds taken as they are:
the lowest and the highest pair stand beside them. Beside each stands the
correlation with the other network's map of another patient's film, which maps
have in common that show the usual place of a finding.

The maps are those of coarse_maps.npz. NumPy alone.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from cxr.attribution import similarity
from cxr.measures import measure_table
from cxr.scored_maps import coarse_maps

Values = Float[np.ndarray, 'q n k']  # of q pairs of runs
ANOTHER = "another patient's film"
LESS = "own less another patient's film"


def estimates(groups: Mapping[str, Sequence[str]], **options) -> dict:
  """Of the runs of a study.

  Args:
    groups: name -> workdirs.
    **options: num_resamples and seed of the bootstrap.

  Returns:
    'estimates': [{'method', 'maps', 'finding', 'pairs', 'lowest', 'highest' and
    those of an estimate}], and 'missing': a sentence on what was not measured,
    or ''.
  """
  read = {
    workdir: coarse_maps.read(workdir)
    for workdir in itertools.chain.from_iterable(groups.values())
  }
  lacking = [workdir for workdir, coarse in read.items() if coarse is None]
  if lacking:
    return _missing(
      f'{" and ".join(lacking)} has no {coarse_maps.FILE}: it has no film with '
      'a box, or was evaluated by an older version; --mode=evaluate writes it.'
    )
  first, *others = read.values()
  names, findings = (
    [
      x
      for x in getattr(first, field).tolist()
      if all(x in getattr(o, field) for o in others)
    ]
    for field in ('name', 'finding')
  )
  methods = [m for m in first.maps if all(m in o.maps for o in others)]
  grids = {maps.shape[1:3] for c in read.values() for maps in c.maps.values()}
  if not (names and findings and methods) or len(grids) > 1:
    return _missing(
      f'the runs share no film, finding or method in {coarse_maps.FILE}, or '
      'their maps have other cells; evaluate them with the same '
      'config.evaluate.methods on one data folder.'
    )
  rows, index = _index(first.name, names), _index(first.finding, findings)
  patient = first.patient[rows]
  name = first.name[rows]
  result = []
  for method in methods:
    maps = {
      workdir: coarse.maps[method][_index(coarse.name, names)][
        ..., _index(coarse.finding, findings)
      ]
      for workdir, coarse in read.items()
    }
    for label, values in _labelled(groups, maps, patient).items():
      signed = label.startswith('difference') or label.endswith(LESS)
      m = measure_table.Measure(
        'repeatability_less' if signed else 'repeatability',
        name,
        patient,
        values.mean(0),
        method,
        label,
        tuple(first.finding[index].tolist()),
      )
      found = measure_table.estimates([m], **options)[m.measure][method][label]
      of_pairs = np.nanmean(np.nanmean(values, axis=1), axis=1)
      for finding, estimate in found.items():
        extremes = (
          {'lowest': float(of_pairs.min()), 'highest': float(of_pairs.max())}
          if finding == 'mean'
          else {}
        )
        result.append(
          {
            'method': method,
            'maps': label,
            'signed': signed,
            'finding': finding,
            'pairs': len(values),
            **extremes,
            **estimate,
          }
        )
  return {'estimates': result, 'missing': ''}


def _missing(why: str) -> dict:
  text = f'How alike the maps of two runs are was not measured: {why}'
  return {'estimates': [], 'missing': text}


def _index(values: np.ndarray, wanted: Sequence[str]) -> Int[np.ndarray, ' m']:
  place = {value: i for i, value in enumerate(values.tolist())}
  return np.array([place[value] for value in wanted], np.int64)


def _labelled(
  groups: Mapping[str, Sequence[str]],
  maps: Mapping[str, np.ndarray],
  patient: Int[np.ndarray, ' n'],
) -> dict[str, Values]:
  """What is said of the groups -> its values of each pair of runs."""
  another = _other_films(patient)
  result = {}
  within = {}

  def add(label, pairs):
    pairs = list(pairs)
    own = np.stack([_alike(maps[a], maps[b]) for a, b in pairs])
    other = np.stack([_alike(maps[a], maps[b][another]) for a, b in pairs])
    other[:, another == np.arange(len(another))] = np.nan
    result[label] = own
    result[f'{label}, {ANOTHER}'] = other
    result[f'{label}, {LESS}'] = own - other
    return own

  for name, runs in groups.items():
    if len(runs) > 1:
      within[name] = add(f'within {name}', itertools.combinations(runs, 2))
  for (a, runs_a), (b, runs_b) in itertools.combinations(groups.items(), 2):
    add(f'between {a} and {b}', itertools.product(runs_a, runs_b))
  (first, *others) = within or [None]
  for name in others:
    less = within[name].mean(0) - within[first].mean(0)
    result[f'difference: within {name} less within {first}'] = less[None]
  return result


def _alike(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, 'n k']:
  # float32: half precision has no ranks of its own.
  return similarity.correlation(
    a.astype(np.float32), b.astype(np.float32), rank=True
  )


def _other_films(patient: Int[np.ndarray, ' n']) -> Int[np.ndarray, ' n']:
  """Of each film the next one of another patient; itself where none is."""
  n = len(patient)
  order = (np.arange(n)[:, None] + np.arange(n)) % n
  other = patient[order] != patient[:, None]
  return order[np.arange(n), other.argmax(1)]
