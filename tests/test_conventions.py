"""The house rules that a machine can check."""

import ast
import importlib.util
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from cxr.statistics import metrics
from input_pipeline import findings

ROOT = pathlib.Path(__file__).parents[1]
# Rooms that somebody else's project could take as they are.
PURE = ('attacks', 'attribution', 'localization', 'statistics')
# Rooms that read stored rows alone.
WITHOUT_JAX = ('comparison', 'estimates')
MODULES = sorted(
  path
  for folder in ('cxr', 'input_pipeline', 'configs')
  for path in (ROOT / folder).rglob('*.py')
)
# Rooms, and files that stand in none, in the order of their imports: each may
# import those of later lines alone.
ORDER = (
  ('main',),
  ('cxr.modes',),
  ('cxr.configuration', 'cxr.comparison', 'cxr.foreign'),
  ('cxr.evaluation', 'cxr.explaining', 'cxr.training'),
  ('cxr.estimates',),
  ('cxr.measures',),
  ('cxr.scored_maps',),
  ('cxr.exporting',),
  ('cxr.reporting',),
  ('cxr.heatmaps', 'cxr.named_attacks'),
  ('cxr.inference',),
  ('cxr.checkpoint', 'cxr.data', 'cxr.stored_rows', 'cxr.command_line'),
  ('cxr.models', 'cxr.run_files'),
  ('cxr.attribution', 'cxr.attacks', 'cxr.localization', 'cxr.statistics'),
  (
    'cxr.caches',
    'cxr.losses',
    'cxr.train_state',
    'cxr.film_hashes',
    'cxr.sharding',
    'cxr.jax_setup',
    'cxr.usage',
  ),
  ('cxr.platforms',),
  ('cxr.files', 'cxr.shipped'),
  ('input_pipeline',),
  ('configs',),
)
LONGEST = 500  # lines


def dotted(path):
  return '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix(
    '.__init__'
  )


def imports(path):
  """Dotted names of the project's own modules that a file imports."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      found |= {node.module} | {
        f'{node.module}.{alias.name}' for alias in node.names
      }
  return found


def graph():
  names = {dotted(path): path for path in MODULES}
  return {name: imports(p) & names.keys() for name, p in names.items()}


def folder(name):
  """The room of a module: cxr.attacks.pgd stands in cxr.attacks."""
  parts = name.split('.')
  is_room = (ROOT / parts[0] / parts[1]).is_dir() if parts[1:] else False
  return '.'.join(parts[:2]) if is_room else name


def rooms():
  """Imports between rooms; a file that stands in none is a room by itself."""
  edges = {}
  for name, others in graph().items():
    edges.setdefault(folder(name), set()).update(
      folder(other) for other in others if folder(other) != folder(name)
    )
  return edges


@pytest.mark.parametrize('edges', [graph, rooms], ids=['files', 'folders'])
def test_imports_run_one_way(edges):
  edges = edges()
  done, open_ = set(), []

  def visit(name):
    assert name not in open_, f'a circle: {open_[open_.index(name) :] + [name]}'
    if name in done:
      return
    open_.append(name)
    # A module that is run by itself may import itself, for its workers.
    for other in sorted(edges[name] - {name}):
      visit(other)
    open_.pop()
    done.add(name)

  for name in edges:
    visit(name)


def test_rooms_import_only_rooms_of_later_lines():
  rank = {room: i for i, rooms in enumerate(ORDER) for room in rooms}
  edges = rooms() | {'main': {folder(n) for n in imports(ROOT / 'main.py')}}
  for room, others in edges.items():
    if room.startswith('cxr.') or room == 'main':
      assert room in rank, f'{room} has no place in ORDER.'
      for other in others:
        # The package of the configs knows no code; cxr itself is empty.
        other = other if other.startswith('cxr.') else other.split('.')[0]
        if other in rank:
          assert rank[room] < rank[other], f'{room} imports {other}'
  for room in rank.keys() - {'main', 'input_pipeline', 'configs'}:
    assert room in edges, f'ORDER names {room}, which is not there.'


@pytest.mark.parametrize('path', MODULES, ids=dotted)
def test_a_long_file_says_why(path):
  text = path.read_text()
  if len(text.splitlines()) > LONGEST:
    head = ' '.join(ast.get_docstring(ast.parse(text)).split())
    assert 'in one file because' in head, f'{path} is long.'


def test_input_pipeline_knows_nothing_of_cxr():
  for name, others in graph().items():
    if name.startswith('input_pipeline.'):
      assert not [o for o in others if o.startswith('cxr.')], name


def test_tensorflow_lives_in_input_pipeline_alone():
  for path in [*MODULES, ROOT / 'main.py']:
    if path.parent.name != 'input_pipeline':
      found = {name.split('.')[0] for name in imports(path) if name}
      assert not found & {'tensorflow', 'tensorflow_datasets'}, path


@pytest.mark.parametrize('room', PURE)
def test_pure_rooms_know_no_model_and_no_config(room):
  for path in (ROOT / 'cxr' / room).glob('*.py'):
    found = imports(path)
    outside = {n.split('.')[0] for n in found}
    assert not outside & {'flax', 'ml_collections', 'optax', 'orbax'}, path
    ours = {n.split('.')[1] for n in found if n.startswith('cxr.')}
    assert ours <= set(PURE), path


def test_rooms_of_stored_rows_import_no_jax():
  rooms = ', '.join(
    dotted(path)
    for room in WITHOUT_JAX
    for path in sorted((ROOT / 'cxr' / room).glob('*.py'))
  )
  found = subprocess.run(
    [
      sys.executable,
      '-c',
      f'import sys, {rooms}; '
      "print(sorted({'jax', 'tensorflow', 'flax'} & sys.modules.keys()))",
    ],
    capture_output=True,
    text=True,
    check=True,
    cwd=ROOT,
  )
  assert found.stdout.strip() == '[]', found.stderr


@pytest.mark.parametrize('path', MODULES, ids=lambda p: p.stem)
def test_modules_have_docstrings_and_no_old_ways(path):
  tree = ast.parse(path.read_text())
  assert ast.get_docstring(tree)
  names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
  assert not names & {'PRNGKey', 'pmap', 'pmean', 'axis_name'}
  calls = {
    n.func.id
    for n in ast.walk(tree)
    if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
  }
  assert not calls & {'eval', 'exec'}


def scripts():
  """Programs that no test imports: of documents, benchmarks, faults."""
  folders = 'docs', 'tests/benchmarks', 'tests/faults', 'tests/accelerators'
  return sorted(p for f in folders for p in (ROOT / f).glob('*.py'))


@pytest.mark.parametrize('path', scripts(), ids=dotted)
def test_a_script_uses_names_that_are_there(path):
  """Of our modules, those that it imports and what it takes of them."""
  tree = ast.parse(path.read_text())
  modules, ours = {}, ('cxr', 'input_pipeline', 'configs')
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom) and node.module.split('.')[0] in ours:
      for alias in node.names:
        name = f'{node.module}.{alias.name}'
        if importlib.util.find_spec(node.module).submodule_search_locations:
          module = importlib.import_module(name)
          modules[alias.asname or alias.name] = module
        else:
          assert hasattr(importlib.import_module(node.module), alias.name), name
  rebound = {
    n.id
    for n in ast.walk(tree)
    if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
  } | {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
      name = node.value.id
      if name in modules and name not in rebound:
        assert hasattr(modules[name], node.attr), f'{name}.{node.attr}'


@pytest.mark.parametrize(
  'call',
  [
    lambda: findings.tidy(1),  # no shape
    lambda: metrics.roc_curve(np.zeros(2), np.zeros(3)),  # two sizes
  ],
)
def test_annotations_are_checked(call):
  with pytest.raises(TypeError, match='name|Type-check'):
    call()
