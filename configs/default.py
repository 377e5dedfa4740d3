"""Every field, its default and its meaning.

A preset follows a colon on the command line and chooses the data:

  --config=configs/baseline.py            the phantom films, drawn on first use
  --config=configs/baseline.py:nih        NIH ChestX-ray14, at --config.data.dir
  --config=configs/baseline.py:nih_small  some thousand films of it, at 128 px
  --config=configs/baseline.py:smoke      a tiny phantom, seconds: for tests

Other configs start from `get_config` here and change what they study.
"""

from ml_collections import ConfigDict


def get_config(preset: str = 'phantom') -> ConfigDict:
  """The baseline: no attack. `preset` is one of `_PRESETS`."""
  if preset not in _PRESETS:
    raise ValueError(
      f'The preset ({preset!r}) must be one of {", ".join(_PRESETS)}.'
    )
  config = ConfigDict()
  config.name = 'baseline'  # the default workdir is runs/<name>
  config.preset = preset
  config.seed = 0  # weights, order of films, augmentation, attacks

  config.data = ConfigDict()
  config.data.source = 'phantom'  # 'phantom' (drawn if absent) | 'nih'
  config.data.dir = ''  # a folder in NIH's layout; '': data/phantom-…
  config.data.prepared_dir = 'data/prepared'  # decoded, resized films go here
  config.data.image_size = 64  # pixels, height and width
  config.data.validation_fraction = 0.1  # of the train_val patients
  config.data.split_seed = 0  # which patients validate
  config.data.cache = 'memory'  # 'none' | 'memory' (host) | 'device'
  config.data.workers = 0  # processes that prepare; 0: all cores

  config.data.phantom = ConfigDict()  # read where source is 'phantom'
  config.data.phantom.num_films = 5000
  config.data.phantom.seed = 0
  config.data.phantom.shortcut_amplitude = 3.0  # in 1/255
  config.data.phantom.shortcut_prevalence = 0.95  # of a finding's films

  config.model = ConfigDict()
  config.model.arch = 'resnet18'  # cxr/models/architectures.py lists them
  config.model.num_filters = 32  # 64 is torchvision's
  config.model.num_stages = 3  # 4 is torchvision's; fewer: finer, cheaper
  config.model.output_stride = 8  # pixels to a cell of the class activation map
  config.model.input_mean = 0.5  # the model's first line: (film - mean) / std
  config.model.input_std = 0.25
  config.model.dtype = 'float32'  # compute; parameters stay float32
  # Recompute activations: less memory, more time. A CPU's schedule saves no
  # memory by it; train.accumulate does there, too.
  config.model.remat = False
  config.model.init_from = ''  # .safetensors or .pt file of weights

  config.loss = ConfigDict()
  # 'none' | 'batch' (Wang's W-CEL) | 'finding' (negatives / positives of the
  # training films, at most weight_cap)
  config.loss.weighting = 'finding'
  config.loss.weight_cap = 20.0

  config.attack = ConfigDict()  # the inner maximization
  config.attack.objective = 'clean'  # or 'adversarial' | 'trades' | 'free'
  config.attack.norm = 'linf'  # 'linf' | 'l2'
  config.attack.epsilon = 2.0  # in 1/255 of the [0, 1] film
  config.attack.num_steps = 2
  config.attack.step_size = 0.0  # in 1/255; 0: 2.5 epsilon / num_steps
  config.attack.random_start = True
  config.attack.clean_weight = (
    0.0  # the clean loss's share (0: adversarial only)
  )
  config.attack.trades_beta = 6.0
  config.attack.free_replays = 4
  config.attack.warmup_epochs = 0.0  # epsilon rises from 0 over these
  config.attack.separate_batch_stats = False  # clean and adversarial apart
  # AUROC under attack that falls by more than this below its best stops the
  # run: catastrophic overfitting. 0: never.
  config.attack.collapse_tolerance = 0.15

  config.augment = ConfigDict()  # ranges; all 0: none
  config.augment.rotation = 5.0  # degrees
  config.augment.translation = 0.04  # of the side
  config.augment.scale = 0.05
  config.augment.brightness = 0.05
  config.augment.contrast = 0.1
  config.augment.gamma = 0.0
  config.augment.flip = False  # mirrors the heart

  config.train = ConfigDict()
  config.train.num_epochs = 8.0
  config.train.batch_size = 64  # films in one update, over all devices
  # Passes that a batch is split into: less memory. BatchNorm sees one pass.
  config.train.accumulate = 1
  config.train.optimizer = 'adamw'  # 'adamw' | 'sgd'
  config.train.learning_rate = 2e-3  # its peak
  config.train.warmup_epochs = 0.5
  config.train.weight_decay = 1e-4
  config.train.momentum = 0.9  # sgd's
  config.train.ema = 0.0  # decay of averaged weights; 0: none
  config.train.log_every = 10  # steps
  config.train.validate_every = 1.0  # epochs; a checkpoint is written with each
  config.train.robust_films = 128  # validation films attacked at each; 0: none
  config.train.best_metric = 'val/auroc'  # what 'best' checkpoint means

  config.evaluate = ConfigDict()
  config.evaluate.checkpoint = 'best'  # 'best' | 'latest'
  config.evaluate.batch_stats = 'clean'  # 'clean' | 'adversarial', where apart
  config.evaluate.batch_size = 128
  config.evaluate.attacks = (
    'pgd',
  )  # cxr/evaluation/named_attacks.py lists them
  config.evaluate.norm = 'linf'
  config.evaluate.epsilons = (0.5, 1.0, 2.0, 4.0)  # in 1/255
  config.evaluate.num_steps = 10
  config.evaluate.queries = 1000  # steps of 'square', which has no gradients
  config.evaluate.restarts = 1
  config.evaluate.attack_films = 0  # test films attacked, spread; 0: all
  config.evaluate.methods = (
    'cam',
    'gradient',
  )  # cxr/attribution/by_name.py lists them
  config.evaluate.rules = ('wang',)  # cxr/localization/thresholds.py lists them
  # Endpoints whose maps the CAM methods but 'cam' take ('stage1', ...,
  # 'features'); of several the maps are fused.
  config.evaluate.stages = ('features',)
  config.evaluate.smooth = 0.02  # blur of |gradient|, sigma / side
  config.evaluate.integration_steps = 64  # of integrated gradients
  # Films, samples or steps in one pass of a gradient: what bounds its memory.
  config.evaluate.chunk = 8
  config.evaluate.measures = (  # cxr/evaluation/film_measures.py lists them
    'alignment',
    'targeted',
    'under_attack',
    'maps',
    'stability',
    'randomisation',
    'faithfulness',
    'causes',
  )
  config.evaluate.measure_films = 128  # test films measured; 0: all
  config.evaluate.sanity_films = 32  # where each is mapped many times; 0: all
  config.evaluate.check_films = 16  # test films that check the attacks; 0: none
  config.evaluate.num_resamples = 2000  # bootstrap over patients
  # Kept in evaluation/: every map that is scored, as maps-<method>.npz, ...
  config.evaluate.save_maps = False
  config.evaluate.export = ()  # ... 'coco' (boxes), 'chexlocalize' (masks)

  config.explain = ConfigDict()
  config.explain.methods = ('cam', 'gradient')
  config.explain.rule = 'wang'
  config.explain.top_findings = 3  # most probable ones shown per film
  config.explain.page_films = 50  # films on the page; the csv has all
  config.explain.batch_size = 16
  config.explain.fit = 'pad'  # 'pad' | 'crop': how a film becomes square

  _PRESETS[preset](config)
  return config


def _phantom(config):
  config.evaluate.attack_films = 256  # minutes on a laptop


def _nih(config):
  """Paper scale: 224 px films, ResNet-50, 28x28 map cells of 8 pixels."""
  config.name = 'nih_baseline'
  config.data.source = 'nih'
  config.data.image_size = 224
  config.model.arch = 'resnet50'
  config.model.num_filters = 64
  config.model.num_stages = 4
  config.model.output_stride = 8
  config.model.input_mean = 0.5  # the model's first line: (film - mean) / std
  config.model.input_std = 0.25
  config.model.dtype = 'bfloat16'
  config.loss.weighting = 'batch'
  config.attack.num_steps = 3
  config.train.num_epochs = 30.0
  config.train.warmup_epochs = 1.0
  config.train.learning_rate = 1e-3
  config.train.robust_films = 1024


def _nih_small(config):
  """A part of the release on a CPU: small films, a small ResNet-18, epsilon
  halved with the lesions' size."""
  config.name = 'nih_small_baseline'
  config.data.source = 'nih'
  config.data.image_size = 128
  config.train.num_epochs = 15.0
  config.train.robust_films = 256
  config.attack.epsilon = 1.0
  config.evaluate.epsilons = (0.25, 0.5, 1.0, 2.0)
  config.evaluate.attack_films = 512


def _smoke(config):
  """Every part in seconds; its figures mean nothing."""
  config.name = 'smoke_baseline'
  config.data.phantom.num_films = 160
  config.model.num_filters = 8
  config.model.num_stages = 2
  config.train.num_epochs = 2.0
  config.train.batch_size = 16
  config.train.log_every = 2
  config.train.robust_films = 16
  config.evaluate.batch_size = 32
  config.evaluate.epsilons = (1.0,)
  config.evaluate.num_steps = 2
  # They compile attacks of their own.
  costly = ('targeted', 'under_attack')
  config.evaluate.measures = tuple(
    name for name in config.evaluate.measures if name not in costly
  )
  config.evaluate.check_films = 0
  config.evaluate.num_resamples = 50
  config.evaluate.measure_films = 16
  config.evaluate.sanity_films = 8


_PRESETS = {
  'phantom': _phantom,
  'nih': _nih,
  'nih_small': _nih_small,
  'smoke': _smoke,
}
