"""README.md and docs/ say what is so: links, names, commands, code."""

import ast
import copy
import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest
from absl import flags
from ml_collections import config_flags

import main
from configs import default
from cxr import configuration, modes, named_attacks, run_files
from cxr.attribution import by_name
from cxr.localization import thresholds
from cxr.measures import named_measures

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
SOURCES = [
  path
  for pattern in ('*.py', '*.html', '*.md')
  for folder in ('cxr', 'input_pipeline', 'configs')
  for path in (ROOT / folder).rglob(pattern)
]
FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.DOTALL | re.MULTILINE)
LINK = re.compile(r'\]\(([^)\s]+)\)')
FILE = re.compile(
  r'`([\w./<>*{}-]+\.'
  r'(?:py|md|html|csv|jsonl?|txt|png|npz|npy|pth|safetensors|stablehlo))'
  r'(?:::([\w.]+))?`'
)
FOLDER = re.compile(r'`((?:cxr|configs|input_pipeline|tests|docs)/[\w/-]*/)`')
FIELD = re.compile(r'\bconfig\.(?!json|py)([a-z_]+(?:\.[a-z_]+)*)')

by_page = pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)


def blocks(page, language):
  return [
    code for name, code in FENCE.findall(page.read_text()) if name == language
  ]


def prose(page):
  return FENCE.sub('', page.read_text())


def anchors(page):
  """The anchors that GitHub gives to the headings of a page."""
  headings = re.findall(r'^#+ (.*)$', prose(page), re.MULTILINE)
  return {
    re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
    for heading in headings
  }


@by_page
def test_links_lead_somewhere(page):
  for link in LINK.findall(prose(page)):
    if '://' in link:
      continue
    path, _, anchor = link.partition('#')
    target = (page.parent / path).resolve() if path else page
    assert target.is_file() and target.is_relative_to(ROOT), link
    if anchor:
      assert anchor in anchors(target), link


def test_every_page_is_linked_from_the_readme():
  linked = {link.partition('#')[0] for link in LINK.findall(prose(PAGES[0]))}
  pages = {str(page.relative_to(ROOT)) for page in PAGES[1:]}
  assert pages <= linked


def defines(path, name):
  """Whether a Python file has that function, class, constant or method."""
  body = ast.parse(path.read_text()).body
  for part in name.split('.'):
    for node in body:
      names = [getattr(node, 'name', None)]
      targets = getattr(node, 'targets', [getattr(node, 'target', None)])
      names += [getattr(target, 'id', None) for target in targets]
      if part in names:
        body = getattr(node, 'body', [])
        break
    else:
      return False
  return True


@by_page
def test_files_that_are_named_exist(page):
  """A file of the checkout, or one whose name the program writes or reads."""
  source = '\n'.join(path.read_text() for path in SOURCES)
  for name, symbol in FILE.findall(prose(page)):
    path = ROOT / name
    if name.endswith('.py'):
      assert path.is_file(), name
      assert not symbol or defines(path, symbol), f'{name}::{symbol}'
    elif not path.is_file():
      assert name.rpartition('/')[2] in source, name
  for name in FOLDER.findall(prose(page)):
    assert (ROOT / name).is_dir(), name


@by_page
def test_config_fields_that_are_named_exist(page):
  config = default.get_config()
  fields = {name for name, _ in run_files.flat(config).items()}
  sections = {name.rpartition('.')[0] for name in fields}
  for name in FIELD.findall(page.read_text()):
    assert name in fields | sections, name


# Commands. A block without a language is bash's: it is run with `python` and
# `pip` replaced by functions that print what they were given, one command a
# line, so that loops and variables are bash's own affair.

RECORDER = """
set -eu
PATH=
record() { local IFS=$'\\x1f'; builtin printf '%s\\n' "$*"; }
python() { record python "$@"; }
python3() { record python "$@"; }
pip() { record pip "$@"; }
"""


def commands(block, folder):
  activate = folder / '.venv' / 'bin' / 'activate'
  activate.parent.mkdir(parents=True, exist_ok=True)
  activate.touch()
  out = subprocess.run(
    ['bash', '-c', f'{RECORDER}{block}\nwait'],
    cwd=folder,
    check=True,
    capture_output=True,
    text=True,
  ).stdout
  return [line.split('\x1f') for line in out.splitlines()]


def parse_main(arguments, monkeypatch):
  """The flags of main.py as a command gives them, its config validated."""
  values = flags.FlagValues()
  for flag in flags.FLAGS.get_flags_for_module(main.__name__):
    values[flag.name] = copy.deepcopy(flag)
  argv = ['main.py', *arguments]
  # The config flag looks for its fields' overrides there.
  monkeypatch.setattr(sys, 'argv', argv)
  config_flags.DEFINE_config_file(
    'config', 'configs/baseline.py', '', values, lock_config=True
  )
  assert values(argv) == ['main.py'], 'not a flag'
  # A config file that is absent raises only now.
  assert values.config.name
  configuration.validate(values.config)
  return values


# ml_collections loads a config by it.
old_loader = pytest.mark.filterwarnings(
  r'ignore:the load_module\(\) method:DeprecationWarning'
)


@old_loader
@by_page
def test_commands_parse(page, tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  for block in blocks(page, ''):
    for program, *arguments in commands(block, tmp_path):
      if program == 'pip':
        assert arguments[:2] == ['install', '-r']
        assert (ROOT / arguments[2]).is_file(), arguments
      elif arguments[0] == '-m':
        module = importlib.util.find_spec(arguments[1])
        assert module, arguments
        source = pathlib.Path(module.origin).read_text()
        for argument in arguments[2:]:
          name = argument.partition('=')[0].removeprefix('--')
          assert arguments[1] == 'venv' or name in source, arguments
      else:
        assert arguments[0] == 'main.py'
        values = parse_main(arguments[1:], monkeypatch)
        assert bool(values.workdirs) == (values.mode in ('compare', 'study'))
        assert bool(values.images) == (values.mode == 'explain')


@old_loader
def test_a_wrong_command_is_found(tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  for wrong in (
    '--mode=nothing',
    '--config.attack.radius=2',
    '--config=configs/nothing.py',
    '--nothing=1',
  ):
    ((_, *arguments),) = commands(f'python main.py {wrong}', tmp_path)
    with pytest.raises((flags.Error, OSError, AttributeError, KeyError)):
      parse_main(arguments[1:], monkeypatch)
  with pytest.raises(subprocess.CalledProcessError):
    commands('pyhton main.py', tmp_path)


def test_the_test_command_is_that_of_ci():
  (command,) = [b for b in blocks(PAGES[0], '') if 'pytest' in b]
  install = command[command.index('pip install') :].split(' && ')[0]
  ci = (ROOT / '.ci' / 'run').read_text()
  assert command.strip().endswith(' && python -m pytest')
  assert install.rpartition(' ')[2] in ci and '\npython -m pytest' in ci


# Tables.


def first_cells(page, header):
  """The names in backticks of the first column of the table so headed."""
  lines = (ROOT / page).read_text().splitlines()
  (start,) = [i for i, line in enumerate(lines) if line.startswith(header)]
  names = []
  for line in lines[start + 2 :]:
    if not line.startswith('|'):
      break
    names += re.findall(r'`([^`]+)`', line.split('|')[1])
  return names


@pytest.mark.parametrize(
  ('page', 'header', 'names'),
  [
    ('README.md', '| `--mode` |', modes.MODES),
    ('docs/attacks.md', '| attack |', named_attacks.ATTACKS),
    ('docs/interpretability.md', '| method |', by_name.METHODS),
    (
      'docs/interpretability.md',
      '| rule |',
      (*thresholds.RULES, *thresholds.CROSS_FITTED_RULES),
    ),
    ('docs/interpretability.md', '| measure |', named_measures.MEASURES),
    ('docs/data.md', '| preset |', default._PRESETS),
  ],
  ids=lambda value: value if isinstance(value, str) else '',
)
def test_tables_have_every_name_and_no_other(page, header, names):
  cells = first_cells(page, header)
  assert sorted(cells) == sorted(names)


def test_every_objective_config_is_in_the_table():
  text = (ROOT / 'docs' / 'training.md').read_text()
  for path in (ROOT / 'configs').glob('*.py'):
    if path.stem not in ('__init__', 'default'):
      assert f'`configs/{path.name}`' in text


def test_the_tour_names_every_room_and_every_file_outside_of_one():
  text = (ROOT / 'docs' / 'tour.md').read_text()
  for path in (ROOT / 'cxr').iterdir():
    if path.is_dir() and (path / '__init__.py').exists():
      assert f'`cxr/{path.name}/`' in text
    elif path.suffix == '.py' and path.stem != '__init__':
      assert f'`cxr/{path.name}`' in text, path.name


# Code.


@pytest.mark.parametrize('page', ['tour.md', 'extend.md'])
def test_code_runs(page, tmp_path, monkeypatch):
  """The blocks of a page, one after the other, in one namespace."""
  monkeypatch.chdir(tmp_path)
  # A page may add a name to a table; the next test finds the table as it was.
  for module, name in (
    (by_name, 'METHODS'),
    (by_name, 'SALIENCY_METHODS'),
    (named_attacks, 'ATTACKS'),
    (thresholds, 'RULES'),
  ):
    monkeypatch.setattr(module, name, dict(getattr(module, name)))
  namespace = {'__name__': page}
  found = blocks(ROOT / 'docs' / page, 'python')
  assert found
  for i, code in enumerate(found):
    exec(compile(code, f'{page}, block {i + 1}', 'exec'), namespace)
