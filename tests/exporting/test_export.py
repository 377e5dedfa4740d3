"""What is exported gives the same numbers back, here and without this code."""

import functools
import json
import os
import pathlib
import re
import stat
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import default
from cxr import platforms
from cxr.attribution import cam
from cxr.exporting import export
from cxr.models import architectures, layers, torch_weights
from input_pipeline.findings import FINDINGS
from input_pipeline.radiograph import radiograph

SIZE = 32
# Compiled once to be run once.
jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


def config_of(**fields):
  config = default.get_config('smoke')
  config.data.image_size = SIZE
  config.model.update(fields)
  return config


def variables_of(model, seed=0):
  """Drawn by shape: statistics and a head that no newborn network has."""
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 1))
  )
  rng = np.random.default_rng(seed)

  def draw(path, x):
    if x.ndim > 1:
      kernel = rng.normal(0, (x.size / x.shape[-1]) ** -0.5, x.shape)
      return jnp.float32(kernel)
    noise = rng.uniform(0.5, 1.5, x.shape)
    is_scale = path[-1].key in ('var', 'scale')
    return jnp.float32(noise if is_scale else noise - 1)

  return jax.tree.map_with_path(draw, shapes)


def films(n=3):
  return np.random.default_rng(5).random((n, SIZE, SIZE, 1), np.float32)


def exported(folder, monkeypatch, config, stored=None):
  """The export of a run that was never trained."""
  model = architectures.make_model(config.model, 14)
  variables = variables_of(model)
  monkeypatch.setattr(
    export.inference,
    'load_model',
    lambda workdir, config: (config, model, variables, 7),
  )
  if stored is not None:
    (folder / 'calibration.json').write_text(json.dumps(stored))
  path = export.export(config, str(folder), str(folder / 'out'))
  return model, variables, path


def calibration_rows():
  row = {'temperature': 2.0, 'bias': -1.0, 'threshold': 0.25}
  rows = {finding: dict(row) for finding in FINDINGS}
  rows['Hernia'] = dict.fromkeys(row) | {'why': 'no positive film'}
  return {
    'step': 7,
    'batch_stats': 'clean',
    'split': 'validation',
    'images': 9,
    'patients': 4,
    'findings': rows,
  }


def code(path, language_section):
  text = pathlib.Path(path, 'README.md').read_text()
  section = text.partition(f'## With {language_section}')[2]
  found = re.search(r'```python\n(.*?)```', section.split('\n## ')[0], re.S)
  return found and found.group(1)


@pytest.fixture(scope='module')
def resnet(tmp_path_factory):
  folder = tmp_path_factory.mktemp('export')
  with pytest.MonkeyPatch.context() as patch:
    return exported(folder, patch, config_of(), calibration_rows())


def test_export_and_import_give_the_same_logits(resnet, tmp_path):
  model, variables, path = resnet
  weights = os.path.join(path, 'model.safetensors')
  assert stat.S_IMODE(os.stat(weights).st_mode) & 0o044 == 0o044
  again, report = torch_weights.init_from(
    weights,
    variables_of(model, seed=1),
    config_of().model,
    findings=FINDINGS,
  )
  assert report['random_head'] == []
  apply = jit(model.apply)
  np.testing.assert_allclose(
    apply(again, films())[0], apply(variables, films())[0], atol=1e-5
  )


def test_the_program_gives_the_same_in_a_process_without_this_code(
  resnet, tmp_path
):
  """The lines of the exported README, outside of the checkout."""
  model, variables, path = resnet
  np.save(tmp_path / 'films.npy', films())
  script = (
    'import importlib.util as u\n'
    "assert not u.find_spec('cxr') and not u.find_spec('input_pipeline')\n"
    + code(path, 'JAX')
    + f'film = np.load({str(tmp_path / "films.npy")!r})\n'
    'both = jax.jit(program.call)(film), jax.jit(program.call)(film[:1])\n'
    'for name, out in zip(("many", "one"), both):\n'
    f"  np.savez({str(tmp_path)!r} + '/' + name, **out)\n"
  )
  environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  done = subprocess.run(
    [sys.executable, '-I', '-c', script],
    cwd=path,
    env=environment | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  logits, endpoints = jit(model.apply)(variables, films())
  kernel, _ = model.head(variables['params'])
  expected = {
    'logit': logits,
    'probability': jax.nn.sigmoid(logits),
    'cam': cam.cam(endpoints['features'], kernel),
    'calibrated': jax.nn.sigmoid(logits / 2 - 1).at[:, 13].set(jnp.nan),
  }
  for name in ('many', 'one'):
    with np.load(tmp_path / f'{name}.npz') as out:
      assert set(out) == set(export.OUTPUTS)
      for key, value in out.items():
        np.testing.assert_allclose(
          value, expected[key][: len(value)], atol=1e-5
        )


def test_config_json_says_what_the_program_takes_and_gives(resnet):
  _, _, path = resnet
  with open(os.path.join(path, 'config.json')) as f:
    described = json.load(f)
  assert described['findings'] == list(FINDINGS)
  assert described['input']['mean'] == 0.5 and described['step'] == 7
  assert described['outputs']['cam']['shape'] == ['b', '4', '4', '14']
  assert described['cells'] == {'stride': 8, 'offset': 0}
  assert described['platforms'] == ['cpu', 'cuda', 'tpu']
  assert described['calibration']['findings']['Mass']['threshold'] == 0.25
  assert 'dir' not in json.dumps(list(described))
  readme = pathlib.Path(path, 'README.md').read_text()
  assert '| Hernia | – | – | none: no positive film |' in readme


@pytest.fixture(scope='module')
def torchvision():
  """torchvision, also one whose compiled operators do not fit the torch: only
  its networks are wanted, and these are plain torch."""
  torch = pytest.importorskip('torch', reason='the oracle of this test')
  try:
    import torchvision
  except RuntimeError:
    library = torch.library.Library('torchvision', 'DEF')
    for name in ('nms', 'qnms'):
      library.define(f'{name}(Tensor a, Tensor b, float c) -> Tensor')
    import torchvision
  except ImportError:
    pytest.skip('torchvision is the oracle of this test')
  return torchvision


@pytest.mark.parametrize(
  'fields',
  [
    {'arch': 'resnet18', 'num_stages': 4, 'output_stride': 32},
    {'arch': 'resnet50', 'num_stages': 2, 'output_stride': 4},
    {'arch': 'resnet18', 'num_stages': 3, 'output_stride': 8},
    {
      'arch': 'resnet18',
      'num_filters': 8,
      'num_stages': 4,
      'output_stride': 8,
    },
    {
      'arch': 'resnet50',
      'num_filters': 16,
      'num_stages': 3,
      'output_stride': 4,
    },
    {'arch': 'resnet18', 'num_filters': 8, 'num_stages': 2, 'output_stride': 8},
    {'arch': 'densenet121', 'num_stages': 2, 'output_stride': 8},
    {
      'arch': 'densenet121',
      'num_stages': 1,
      'output_stride': 4,
      'pooling': 'lse',
    },
    {'arch': 'resnet18', 'num_stages': 2, 'pooling': 'top'},
  ],
  ids=lambda fields: '-'.join(map(str, fields.values())),
)
def test_torchvision_takes_the_weights(
  fields, tmp_path, monkeypatch, torchvision
):
  """The README's lines for PyTorch, run as they stand."""
  import torch

  config = config_of(**{'num_filters': 64} | fields)
  model, variables, path = exported(tmp_path, monkeypatch, config)
  lines = code(path, 'PyTorch')
  film, _, rest = lines.partition('film = ')[2].partition('\n')
  assert film.startswith('torch.zeros(1, 1, 32, 32)')
  monkeypatch.chdir(path)
  x = torch.from_numpy(films().transpose(0, 3, 1, 2).copy())
  scope = {'x': x}
  exec(lines.partition('film = ')[0] + 'film = x\n' + rest, scope)
  logits, _ = jit(model.apply)(variables, films())
  np.testing.assert_allclose(
    scope['logits'].numpy(), logits, rtol=1e-4, atol=1e-4
  )


def test_a_network_that_torchvision_lacks_is_said_to_be_one(resnet):
  text = pathlib.Path(resnet[2], 'README.md').read_text()
  assert 'no resnet18 of 8 filters' in text


@pytest.mark.parametrize('shape', [(80, 100), (32, 32), (20, 9)])
def test_the_lines_for_a_film_make_what_we_read(
  resnet, tmp_path, monkeypatch, shape
):
  values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  Image.fromarray(values).save(tmp_path / 'film.png')
  text = pathlib.Path(resnet[2], 'README.md').read_text()
  section = text.partition('## The film')[2]
  lines = re.search(r'```python\n(.*?)```', section, re.S).group(1)
  monkeypatch.chdir(tmp_path)
  scope = {}
  exec(lines, scope)
  film = radiograph.read(str(tmp_path / 'film.png'), size=SIZE)
  np.testing.assert_array_equal(scope['pixels'], film.image[..., 0])


def test_without_a_calibration_there_is_no_calibrated_output(
  tmp_path, monkeypatch, caplog
):
  stale = calibration_rows() | {'step': 3}
  _, _, path = exported(tmp_path, monkeypatch, config_of(), stale)
  with open(os.path.join(path, 'config.json')) as f:
    described = json.load(f)
  assert described['calibration'] is None
  assert set(described['outputs']) == {'logit', 'probability', 'cam'}
  assert 'had not been evaluated' in pathlib.Path(path, 'README.md').read_text()


def test_forms_of_any_platform_are_xla_s():
  x, kernel = jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 1, 3, 5))
  convolve = lambda forms: str(
    jax.make_jaxpr(lambda x: layers.convolve(x, kernel, forms=forms))(x)
  )
  assert 'conv_general_dilated' in convolve(platforms.ANY)
  assert 'conv_general_dilated' not in convolve(platforms.FORMS['cpu'])
