"""Maps of PyTorch's tools, through --mode=score. Skipped without them."""

import pathlib
import re

import numpy as np
import pytest
import safetensors.numpy

from configs import baseline
from cxr import data
from cxr.attribution import cam
from cxr.foreign import map_files
from cxr.models import torch_weights
from input_pipeline import workers
from input_pipeline.findings import FINDINGS
from tests.foreign import test_score
from tests.models import test_resnet

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'maps.md'
SIZE = 128
# Of what those libraries import, and do with gradients of their hooks.
pytestmark = pytest.mark.filterwarnings('ignore')


def need(*names):
  return [
    pytest.importorskip(name, reason=f'{name} makes the maps of this test')
    for name in names
  ]


def densenet():
  """torchvision's DenseNet-121 with random weights and 14 outputs."""
  torch, torchvision = need('torch', 'torchvision')
  torch.manual_seed(0)
  return torchvision.models.densenet121(num_classes=len(FINDINGS)).eval()


def test_our_cam_and_captum_s_layer_grad_cam_have_equal_figures(
  tmp_path, monkeypatch
):
  """Of a head that pools and is linear, Grad-CAM is CAM over the cells."""
  torch, attr = need('torch', 'captum.attr')
  monkeypatch.setattr(workers, 'cores', lambda: 1)
  network = densenet()
  (tmp_path / 'films').mkdir()
  made = test_score.draw(tmp_path / 'films', scale=SIZE // test_score.SIZE)
  # One rule: the more levels, the likelier a pixel lies within rounding of one,
  # and a box is then a pixel wider for one of them.
  overrides = {'data.image_size': SIZE, 'evaluate.rules': ('wang',)}
  config = baseline.get_config()
  config.update_from_flattened_dict(
    {'data.source': 'table', 'data.dir': str(made),
     'data.prepared_dir': str(made / 'prepared'), 'data.image_size': SIZE,
     'data.workers': 1, 'data.test_fraction': 1.0}
  )  # fmt: skip
  test = data.load(config, ('test',))['test']
  image = np.asarray(test.image, np.float32) / 255
  columns = [FINDINGS.index(name) for name in ('Mass', 'Edema')]

  # Ours: the weights in our own network, the class weights at each cell.
  path = tmp_path / 'densenet.safetensors'
  state = {k: v.numpy() for k, v in network.state_dict().items()}
  safetensors.numpy.save_file(state, path, {'findings': ','.join(FINDINGS)})
  settings = {
    'arch': 'densenet121',
    'num_filters': 64,
    'init_pixels': 'unit',
  }
  model, variables = test_resnet.build(**settings)
  variables, report = torch_weights.init_from(
    path, variables, test_resnet.config(**settings), findings=FINDINGS
  )
  assert report['random_head'] == []
  _, endpoints = test_resnet.apply(model, variables, image)
  kernel, _ = model.head(variables['params'])
  kernel = np.asarray(kernel)[:, columns]
  ours = np.asarray(cam.cam(endpoints['features'], kernel))
  stride, offset = model.cells('features')
  assert (stride, offset) == (32, 14)  # as docs/maps.md says

  # Theirs, whose features leave a module that stands alone.
  features = torch.nn.Sequential(network.features, torch.nn.ReLU())
  pool = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
  whole = torch.nn.Sequential(features, pool, network.classifier).eval()
  pixels = (torch.from_numpy(image.transpose(0, 3, 1, 2)) - 0.5) / 0.25
  grad_cam = attr.LayerGradCam(whole, features)
  theirs = np.stack(
    [
      grad_cam.attribute(pixels.repeat(1, 3, 1, 1), target=k)[:, 0]
      .detach()
      .numpy()
      for k in columns
    ],
    axis=-1,
  )
  cells = ours.shape[1] * ours.shape[2]
  scale = np.abs(ours).max()
  np.testing.assert_allclose(cells * theirs, ours, atol=1e-4 * scale)

  figures = {}
  for name, maps in (('ours', ours), ('theirs', theirs)):
    rows = [
      (film, finding, maps[i, ..., k])
      for i, film in enumerate(test.image_name.tolist())
      for k, finding in enumerate(('Mass', 'Edema'))
    ]
    path = test_score.save(
      tmp_path / f'{name}.npz',
      *zip(*rows, strict=True),
      stride=stride,
      offset=offset,
      size=SIZE,
    )
    output = test_score.run(made, path, tmp_path / name, overrides=overrides)
    metrics = test_score.read_json(output / 'metrics.json')
    figures[name] = metrics['localization']['methods']
  values = [list(_values(figures[name])) for name in ('ours', 'theirs')]
  assert [key for key, _ in values[0]] == [key for key, _ in values[1]]
  np.testing.assert_allclose(
    *([value for _, value in of_run] for of_run in values), atol=1e-4
  )
  assert len(values[0]) > 1000


def _values(tree, path=()):
  """(path, number) of every estimate; None is NaN."""
  for key, value in tree.items():
    if isinstance(value, dict):
      yield from _values(value, (*path, key))
    elif key in ('value', 'low', 'high'):
      yield (*path, key), np.nan if value is None else value


@pytest.mark.parametrize(
  ('library', 'file'),
  [('captum.attr', 'captum.npz'), ('pytorch_grad_cam', 'grad_cam.npz')],
)
def test_the_lines_of_the_page_write_what_score_reads(
  library, file, tmp_path, monkeypatch
):
  """The very lines of docs/maps.md, on two films and two findings."""
  torch, _ = need('torch', library)
  code = {
    name: block
    for block in re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)
    for name in ('captum.npz', 'grad_cam.npz')
    if f"'{name}'" in block
  }[file]
  assert len(code.strip().splitlines()) <= 15
  monkeypatch.chdir(tmp_path)
  torch.manual_seed(0)
  films = [(name, torch.rand(1, 3, 224, 224)) for name in ('a', 'b')]
  exec(
    compile(code, PAGE.name, 'exec'),
    {'network': densenet(), 'films': films, 'FINDINGS': FINDINGS[:2]},
  )
  source = map_files.open_source(file)
  assert [entry[:2] for entry in source.entries] == [
    (film, finding) for film in 'ab' for finding in FINDINGS[:2]
  ]
  assert source.place.size == 224
  wanted = np.ones(4, bool)
  maps = [cells for _, cells in map_files.read(source, wanted)]
  if library == 'captum.attr':
    assert (source.place.stride, source.place.offset) == (32, 14)
    assert {cells.shape for cells in maps} == {(7, 7)}
  else:
    assert source.place.stride is None
    assert {cells.shape for cells in maps} == {(224, 224)}
  assert all(np.ptp(cells) > 0 for cells in maps)
