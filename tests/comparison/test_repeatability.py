"""How alike maps of several runs are, where it is known."""

import numpy as np
import pytest

from cxr.comparison import repeatability
from cxr.reporting import part_study
from cxr.scored_maps import coarse_maps

RNG = np.random.default_rng(0)
SHAPE = (12, 8, 8, 2)  # films, cells, findings
OPTIONS = {'num_resamples': 50, 'seed': 0}
OF_FILM = RNG.normal(size=SHAPE)  # what a film alone shows
OF_FINDING = RNG.normal(size=(1, *SHAPE[1:]))  # its usual place


def run(tmp_path, name, maps, *, keep=slice(None), finding=('Mass', 'Nodule')):
  """A workdir with maps of 12 films of 6 patients."""
  folder = tmp_path / name
  folder.mkdir()
  films = np.array([f'{i:02d}.png' for i in range(12)])
  coarse_maps.write(
    str(folder / coarse_maps.FILE),
    coarse_maps.CoarseMaps(
      films[keep],
      (np.arange(12) // 2)[keep],
      np.array(finding),
      {'cam': maps[keep].astype(np.float16)},
    ),
  )
  return str(folder)


@pytest.fixture
def groups(tmp_path):
  """'same' draws one map of a film whatever its seed; 'place' the usual place
  of the finding; 'noise' anything."""
  make = {
    'same': lambda: OF_FILM,
    'place': lambda: np.broadcast_to(OF_FINDING, SHAPE),
    'noise': lambda: RNG.normal(size=SHAPE),
  }
  return {
    name: [run(tmp_path, f'{name}_{seed}', fn()) for seed in range(2)]
    for name, fn in make.items()
  }


def means(groups):
  found = repeatability.estimates(groups, **OPTIONS)
  assert not found['missing']
  return {e['maps']: e for e in found['estimates'] if e['finding'] == 'mean'}


def test_maps_of_films_of_places_and_of_noise(groups):
  found = means(groups)
  value = lambda label: found[label]['value']
  another, less = repeatability.ANOTHER, repeatability.LESS
  assert value('within same') == pytest.approx(1)
  assert abs(value(f'within same, {another}')) < 0.1
  assert value(f'within same, {less}') > 0.9
  # The usual place repeats itself, and says nothing of the film.
  assert value('within place') == pytest.approx(1)
  assert value(f'within place, {less}') == pytest.approx(0, abs=1e-9)
  assert abs(value('within noise')) < 0.1
  assert abs(value('between same and noise')) < 0.1
  difference = found['difference: within noise less within same']
  assert difference['value'] == pytest.approx(
    value('within noise') - value('within same')
  )
  assert difference['signed'] and difference['high'] < 0
  entry = found['between same and noise']
  assert entry['pairs'] == 4
  assert entry['lowest'] <= entry['value'] <= entry['highest']
  assert (entry['images'], entry['patients']) == (12, 6)


def test_films_and_findings_that_all_runs_have_are_compared(tmp_path, groups):
  turned = OF_FILM[..., ::-1]
  other = run(
    tmp_path, 'other', turned, keep=slice(2, 8), finding=('Nodule', 'Mass')
  )
  found = means({'same': groups['same'][:1], 'other': [other]})
  assert found['between same and other']['value'] == pytest.approx(1)
  assert found['between same and other']['images'] == 6


def test_what_is_missing_is_said(tmp_path, groups):
  bare = tmp_path / 'bare'
  bare.mkdir()
  found = repeatability.estimates(
    {'same': groups['same'], 'bare': [str(bare)]}, **OPTIONS
  )
  assert found['estimates'] == []
  assert f'{bare} has no coarse_maps.npz' in found['missing']
  assert '--mode=evaluate' in found['missing']
  lines = part_study._repeatability(found)
  assert lines[-1] == found['missing']


def test_the_table_of_a_study(groups):
  found = repeatability.estimates(groups, **OPTIONS)
  text = '\n'.join(part_study._repeatability(found))
  assert '## Repeatability of maps' in text
  assert '| cam | within same |' in text.replace('  ', ' ')
  assert part_study._repeatability({}) == []
