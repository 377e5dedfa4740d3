"""No pickle, no eval, no shell; what a file says never becomes a command, a
path or a patient's name in our outputs."""

import ast
import csv
import pathlib

import numpy as np
import pytest

from cxr import files, inference
from cxr.explaining import explain, interpret
from tests.explaining import test_explain
from tests.input_pipeline import made_folder as made
from tests.input_pipeline.radiograph import made_films

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = sorted(
  [
    *ROOT.glob('*.py'),
    *(
      p
      for d in ('cxr', 'configs', 'input_pipeline')
      for p in ROOT.glob(f'{d}/**/*.py')
    ),
  ]
)
# Modules that run what a file says, and calls that do.
MODULES = {
  'pickle', 'cPickle', 'dill', 'cloudpickle', 'marshal', 'shelve', 'joblib',
  'torch', 'yaml', 'pty', 'runpy', 'code', 'telnetlib', 'xmlrpc',
}  # fmt: skip
CALLS = {
  'eval', 'exec', 'compile', '__import__', 'system', 'popen', 'import_module',
  'from_string', 'mktemp',
}  # fmt: skip
# Its unpickler resolves a handful of harmless names (test_torch_files.py).
# JAX's compile() of a program of ours takes no source.
ALLOWED = {
  ('cxr/models/torch_files.py', 'pickle'),
  ('cxr/training/configured_step.py', 'compile'),
}


def found_in(path):
  """(line, what) of all that could run what a file says."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      for alias in node.names:
        if alias.name.split('.')[0] in MODULES:
          yield node.lineno, alias.name
    elif isinstance(node, ast.ImportFrom):
      if (node.module or '').split('.')[0] in MODULES:
        yield node.lineno, node.module
    elif isinstance(node, ast.Call):
      function = node.func
      name = getattr(function, 'attr', getattr(function, 'id', ''))
      owner = getattr(getattr(function, 'value', None), 'id', '')
      if name in CALLS and owner not in ('re', 'jax'):
        yield node.lineno, name
      for keyword in node.keywords:
        value = getattr(keyword.value, 'value', None)
        if keyword.arg in ('shell', 'allow_pickle') and value is not False:
          yield node.lineno, f'{keyword.arg}={value}'
      # numpy reads what it is given unless told; older ones unpickled it.
      if (owner, name) == ('np', 'load') and not node.keywords:
        yield node.lineno, 'np.load without allow_pickle=False'


@pytest.mark.parametrize(
  'path', SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_nothing_runs_what_a_file_says(path):
  name = path.relative_to(ROOT).as_posix()
  assert [(n, w) for n, w in found_in(path) if (name, w) not in ALLOWED] == []


def test_the_search_finds_what_it_is_for(tmp_path):
  bad = (
    'import pickle\nfrom torch import load\neval(x)\nnp.load(f)\n'
    'subprocess.run(c, shell=True)\nnp.load(f, allow_pickle=True)\n'
    'os.system(c)\nbuiltins.exec(x)\n'
  )
  path = tmp_path / 'bad.py'
  path.write_text(bad)
  lines = {line for line, _ in found_in(path)}
  assert lines == set(range(1, 9))


def test_templates_escape_all_that_is_not_marked():
  """No template may switch escaping off."""
  for path in (ROOT / 'cxr' / 'reporting' / 'templates').iterdir():
    text = path.read_text()
    assert '|safe' not in text.replace(' ', ''), path
    assert 'autoescapefalse' not in text.replace(' ', ''), path


def test_dependencies_have_a_lower_bound():
  for name in ('requirements.txt', 'tests/requirements.txt'):
    for line in (ROOT / name).read_text().splitlines():
      if line and not line.startswith(('#', '-r')):
        assert '>=' in line, f'{name}: {line}'


# --- paths


@pytest.mark.parametrize(
  'name',
  [
    '../00000021_000.png', '/etc/00000021_000.png', '..\\00000021_000.png',
    './00000021_000.png', '00000021_000.png/', '00000021_000.png\0',
    'images/00000021_000.png', '００００００２１_000.png', '00000021_000.PNG',
  ],
)  # fmt: skip
@pytest.mark.parametrize('table', ['train', 'test', 'boxes', 'table'])
def test_no_table_names_a_file_outside_its_folder(tmp_path, table, name):
  change = {
    'train': {'train': '\n'.join([*made.TRAIN, name])},
    'test': {'test': '\n'.join([*made.TEST, name])},
    'boxes': {'boxes': [f'{name},Mass,1,1,9,9']},
    'table': {'table': '\n'.join([made.HEADER, *made.rows(), f'{name},Mass'])},
  }[table]
  made.layout(tmp_path / 'nih', films=[], **change)
  # A folder before a name is passed by: the name is then that of a test film.
  refused = 'names|fields|training would see the test'
  with pytest.raises(ValueError, match=refused) as error:
    made.read(tmp_path / 'nih')
  assert '\n' not in str(error.value)


def test_a_link_to_another_kind_of_file_is_no_film(tmp_path):
  """Linked films are read (a data folder is often made of links); what a link
  points to must still be a PNG or JPEG, and nothing of it is shown."""
  secret = tmp_path / 'secret'
  secret.write_text('root:x:0:0')
  made.layout(tmp_path / 'nih', films=made.TRAIN + made.TEST[1:])
  (tmp_path / 'nih' / 'images' / made.TEST[0]).symlink_to(secret)
  prepared = made.prepare(tmp_path / 'nih', tmp_path / 'p')
  text = (prepared / 'left_out.csv').read_text()
  assert f'{made.TEST[0]},undecodable' in text
  assert all(b'root:x' not in p.read_bytes() for p in prepared.iterdir())


# --- DICOM text


PLANTED = 'Zzyzx'


def planted_dicom(path):
  """A film whose every text element names a patient."""
  values = np.random.default_rng(0).integers(0, 4096, (32, 32))
  film = made_films.dicom(values)
  for keyword, text in (
    ('PatientName', f'{PLANTED}^Ann'), ('PatientID', f'{PLANTED}1'),
    ('PatientBirthDate', '19010203'), ('PatientAddress', f'{PLANTED} street'),
    ('InstitutionName', PLANTED), ('ReferringPhysicianName', PLANTED),
    ('StudyDescription', PLANTED), ('SeriesDescription', PLANTED),
    ('AccessionNumber', PLANTED), ('StudyID', PLANTED),
    ('OperatorsName', PLANTED), ('StationName', PLANTED),
    ('ImageComments', PLANTED), ('ProtocolName', PLANTED),
    ('RequestedProcedureDescription', PLANTED), ('OtherPatientIDs', PLANTED),
    ('WindowCenterWidthExplanation', PLANTED), ('BodyPartExamined', PLANTED),
    ('ViewPosition', PLANTED), ('PatientOrientation', [PLANTED, 'F']),
    ('DerivationDescription', PLANTED), ('Manufacturer', PLANTED),
    ('LossyImageCompressionMethod', PLANTED), ('PatientComments', PLANTED),
  ):  # fmt: skip
    setattr(film, keyword, text)
  film.add_new(0x00091010, 'LO', PLANTED)
  film.add_new(0x00104000, 'LT', f'=cmd|{PLANTED}')
  path.write_bytes(made_films.film_bytes(film))


@pytest.mark.filterwarnings('ignore')
def test_dicom_text_never_reaches_an_output(
  tmp_path, capfd, caplog, monkeypatch
):
  films = tmp_path / 'films'
  films.mkdir()
  planted_dicom(films / 'a.dcm')
  data = (films / 'a.dcm').read_bytes()
  (films / 'cut.dcm').write_bytes(data[:-100])
  # Damage in the middle, so that pydicom has something to tell of.
  (films / 'damaged.dcm').write_bytes(data.replace(b'LO', b'Zz', 3))
  (films / 'lateral.dcm').write_bytes(data.replace(b'PYFILM', b'LATERAL'))
  monkeypatch.setattr(
    inference,
    'load_model',
    lambda workdir, config, forms: (config, None, None, 7),
  )
  monkeypatch.setattr(interpret, 'from_run', test_explain.known_interpreter)
  page = explain.explain(
    test_explain.tiny_config(), str(tmp_path / 'run'), str(films)
  )
  output = pathlib.Path(page).parent
  with open(output / 'predictions.csv') as f:
    shown = {row['image']: row['error'] for row in csv.DictReader(f)}
  assert len(shown) == 4 and shown['a.dcm'] == ''
  seen = b''.join(p.read_bytes() for p in output.rglob('*') if p.is_file())
  seen += (''.join(capfd.readouterr()) + caplog.text).encode()
  assert PLANTED.encode() in data
  for text in (PLANTED, PLANTED.lower(), PLANTED.upper(), '19010203'):
    assert text.encode() not in seen


def test_a_films_name_is_no_formula_in_a_table():
  for name in ('=cmd|x', '+1', '-1', '@a', '\ta', '\ra'):
    assert files.escape_cell(name).startswith("'")
