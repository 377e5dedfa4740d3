"""Every config field: its default and its meaning.

Units: films are arrays in [0, 1]; epsilons and step sizes are in 1/255 of that
(write 8 for 8/255), durations in epochs unless a comment says steps.

A preset follows a colon on the command line and chooses the data:

  --config=configs/baseline.py            the phantom films, drawn on first use
  --config=configs/baseline.py:nih        NIH ChestX-ray14, at --config.data.dir
  --config=configs/baseline.py:nih_small  some thousand films of it, at 128 px
  --config=configs/baseline.py:smoke      a tiny phantom, seconds: for tests

Other configs start from `get_config` here and change what they study.
"""

from ml_collections import ConfigDict


def get_config(preset: str = 'phantom') -> ConfigDict:
  """The baseline, which trains without an attack.

  Args:
    preset: the data, and what the rest of the fields should be for them; one
      of 'phantom', 'nih', 'nih_small' and 'smoke'.

  Raises:
    ValueError: there is no such preset.
  """
  if preset not in _PRESETS:
    raise ValueError(
      f'The preset ({preset!r}) must be one of {", ".join(_PRESETS)}.'
    )
  config = ConfigDict()
  config.name = 'baseline'  # the default workdir is runs/<name>
  config.preset = preset
  # Of the weights, the order of films, augmentation and attacks.
  config.seed = 0

  config.data = ConfigDict()
  # The layout of the films' folder: 'phantom' (drawn where absent) | 'nih' |
  # 'table' (films.csv) | 'chexpert' | 'vindr' | 'rsna' | 'mimic' | 'padchest'.
  config.data.source = 'phantom'
  config.data.dir = ''  # a folder in that layout; '' is data/phantom-…
  # The findings to learn, in this order; (): all that the data set names.
  config.data.findings = ()
  # A csv with the columns name and finding, which extends the table of synonyms
  # of input_pipeline/findings.py; '': none.
  config.data.synonyms = ''
  # What an uncertain label (-1) becomes: 'unknown' (it is in no loss and no
  # score) | 'positive' | 'negative'. CheXpert's U-Ignore, U-Ones, U-Zeros.
  config.data.uncertain = 'unknown'
  # What an empty label becomes, of a finding that a report does not mention:
  # 'unknown' | 'negative', as most have it who train on CheXpert.
  config.data.unmentioned = 'unknown'
  # Where decoded, resized films are kept.
  config.data.prepared_dir = 'data/prepared'
  config.data.image_size = 64  # pixels, height and width
  config.data.validation_fraction = 0.1  # of the training patients
  # Of all patients, where the tables name no split; 1: nobody trains on them.
  config.data.test_fraction = 0.2
  config.data.split_seed = 0  # chooses the validation and the test patients
  # Where films wait for their batch: 'none' (on disk) | 'memory' | 'device' |
  # 'auto' (the devices' memory where they fit, else the host's, else the disk).
  config.data.cache = 'auto'
  config.data.workers = 0  # processes that prepare films; 0: one a core

  config.data.phantom = ConfigDict()  # used where source is 'phantom'
  config.data.phantom.num_films = 5000
  config.data.phantom.seed = 0
  config.data.phantom.shortcut_amplitude = 3.0  # in 1/255
  # The share of a finding's films that have its shortcut.
  config.data.phantom.shortcut_prevalence = 0.95

  config.model = ConfigDict()
  config.model.arch = 'resnet18'  # cxr/models/architectures.py lists them
  config.model.num_filters = 32  # of the first stage; torchvision: 64
  config.model.num_stages = 3  # torchvision: 4; fewer are cheaper
  # Side of a cell of the class activation map, in pixels.
  config.model.output_stride = 8
  # The model begins with (image - input_mean) / input_std. Weights of three
  # channels that are evaluated as they are have three numbers of each.
  config.model.input_mean = 0.5
  config.model.input_std = 0.25
  # Of the computation: 'float32' | 'bfloat16'. Parameters and the first
  # convolution stay float32. An evaluation may have another.
  config.model.dtype = 'float32'
  # Activations are computed again where the gradient needs them: less memory,
  # more time. It saves none on a CPU; train.accumulate does.
  config.model.remat = False
  # How a film's logit is pooled from those of its cells: 'mean' | 'lse'
  # (log-sum-exp, as Wang 2017 pools) | 'top' (the mean of the highest cells).
  config.model.pooling = 'mean'
  # Of 'lse': towards 0 it is the mean, towards infinity the maximum.
  config.model.pooling_sharpness = 4.0
  config.model.pooling_share = 0.1  # of the cells, which 'top' takes
  # Weights to start from, or to evaluate as they are: a file (.safetensors,
  # .pt, .pth), the folder of an export, or hf://OWNER/NAME[/FILE]; '': random.
  # {seed} in it stands for config.seed.
  config.model.init_from = ''
  # The finding of each output of the file, in their order, '-' for none; (): as
  # the file says.
  config.model.init_findings = ()
  # The pixels that those weights were trained on: 'unit' ([0, 1], normalised by
  # input_mean and input_std) | 'xrv' ([-1024, 1024], as TorchXRayVision's) |
  # 'imagenet'; '': the file says it, or has ImageNet's three channels.
  config.model.init_pixels = ''

  config.loss = ConfigDict()
  # How positives are weighted: 'none' | 'batch' (Wang's W-CEL) | 'finding' (by
  # negatives / positives of the training films, at most weight_cap).
  config.loss.weighting = 'finding'
  config.loss.weight_cap = 20.0

  config.attack = ConfigDict()  # the inner maximization
  # 'clean' (no attack) | 'adversarial' | 'trades' | 'free'
  config.attack.objective = 'clean'
  config.attack.norm = 'linf'  # 'linf' | 'l2'
  config.attack.epsilon = 2.0  # radius of the ball, in 1/255
  config.attack.num_steps = 2
  # In 1/255; 0 is 2.5 epsilon / num_steps, at most 1.25 epsilon.
  config.attack.step_size = 0.0
  config.attack.random_start = True
  config.attack.clean_weight = 0.0  # share of the clean loss, in [0, 1]
  config.attack.trades_beta = 6.0  # weight of what an attack can move
  config.attack.free_replays = 4  # updates made from a batch
  config.attack.warmup_epochs = 0.0  # epsilon rises from 0 over these
  # BatchNorm's statistics of clean and of adversarial films are kept apart.
  config.attack.separate_batch_stats = False
  # Training stops where validation AUROC under attack falls by more than this
  # below its best, which is catastrophic overfitting. 0: never.
  config.attack.collapse_tolerance = 0.15

  config.augment = ConfigDict()  # half widths of uniform draws; all 0: none
  config.augment.rotation = 5.0  # degrees
  config.augment.translation = 0.04  # share of the side
  config.augment.scale = 0.05
  config.augment.brightness = 0.05
  config.augment.contrast = 0.1
  config.augment.gamma = 0.0
  config.augment.flip = False  # it would mirror the heart

  config.train = ConfigDict()
  config.train.num_epochs = 8.0
  config.train.batch_size = 64  # films of one update, on all devices together
  # Passes that a batch is split into, to save memory. BatchNorm sees one pass.
  config.train.accumulate = 1
  config.train.optimizer = 'adamw'  # 'adamw' | 'sgd'
  config.train.learning_rate = 2e-3  # the highest, after the warm-up
  config.train.warmup_epochs = 0.5  # the learning rate rises over these
  # Decoupled from the gradient with either optimizer: an update takes
  # learning rate * weight_decay of a weight off.
  config.train.weight_decay = 1e-4
  config.train.momentum = 0.9  # used by sgd
  config.train.ema = 0.0  # decay of the averaged weights; 0: no average
  config.train.log_every = 10  # steps
  # Epochs; a checkpoint is written with each validation.
  config.train.validate_every = 1.0
  # Validation films that are attacked at each validation; 0: none.
  config.train.robust_films = 128
  # What the best checkpoint is best at: 'val/auroc' | 'val/robust_auroc'.
  config.train.best_metric = 'val/auroc'

  config.evaluate = ConfigDict()
  config.evaluate.checkpoint = 'best'  # 'best' | 'latest'
  # BatchNorm's statistics, where they are apart: 'clean' | 'adversarial'.
  config.evaluate.batch_stats = 'clean'
  config.evaluate.batch_size = 128
  # cxr/named_attacks.py lists them.
  config.evaluate.attacks = ('pgd',)
  config.evaluate.norm = 'linf'
  config.evaluate.epsilons = (0.5, 1.0, 2.0, 4.0)  # in 1/255
  config.evaluate.num_steps = 10
  config.evaluate.queries = 1000  # calls of the model by 'square'
  config.evaluate.restarts = 1
  # Test films that are attacked, evenly spread over the films (not over the
  # patients: whoever has many films has many of these); 0: all.
  config.evaluate.attack_films = 0
  # Test films of each finding that are attacked on this finding alone: half
  # that have it and half that do not, evenly spread over either; 0: none.
  config.evaluate.finding_attack_films = 256
  # Attribution methods; cxr/attribution/by_name.py lists them.
  config.evaluate.methods = ('cam', 'gradient')
  # From a map to boxes; cxr/localization/thresholds.py lists them.
  config.evaluate.rules = ('wang',)
  # The model's endpoints that the CAM methods other than 'cam' read: 'stage1',
  # ..., 'features'. The maps of several are fused.
  config.evaluate.stages = ('features',)
  # Sigma of the blur of gradient maps, as a share of the side.
  config.evaluate.smooth = 0.02
  # What gradient_x_input, integrated_gradients, occlusion and rise take for
  # "nothing to see": 'black' | 'white' | 'mean' | 'blurred'.
  config.evaluate.baseline = 'black'
  config.evaluate.integration_steps = 64  # of integrated_gradients
  config.evaluate.smooth_grad_samples = 32
  config.evaluate.smooth_grad_noise = 0.1  # standard deviation, of the range
  config.evaluate.occlusion_window = 0.25  # share of the film's side
  config.evaluate.occlusion_stride = 0.5  # share of the window
  config.evaluate.rise_masks = 512
  config.evaluate.rise_grid = 7  # cells of a mask, a side
  config.evaluate.rise_keep = 0.5  # share of the cells that a mask shows
  # Films, samples or steps of which a gradient is taken at once; it bounds the
  # memory.
  config.evaluate.chunk = 8
  # cxr/measures/named_measures.py lists them.
  config.evaluate.measures = (
    'alignment',
    'targeted',
    'under_attack',
    'maps',
    'stability',
    'randomisation',
    'faithfulness',
    'causes',
  )
  config.evaluate.measure_films = 128  # test films of the measures; 0: all
  # Test films of the measures that need many maps of each; 0: all.
  config.evaluate.sanity_films = 32
  # Of the measure 'map_attacks': its steps, and how far a logit may move while
  # the map is attacked.
  config.evaluate.map_attack_steps = 20
  config.evaluate.map_attack_tolerance = 0.1
  config.evaluate.check_films = 32  # test films that check the attacks; 0: none
  # Of patients, for intervals; compare and study take as many as the run that
  # has most.
  config.evaluate.num_resamples = 2000
  # Whether every map that is scored is kept, as evaluation/…/maps-<method>.npz,
  # or written by --mode=export: files that --mode=score reads (docs/maps.md).
  config.evaluate.save_maps = False
  # Files for other tools: 'coco' (boxes), 'chexlocalize' (masks).
  config.evaluate.export = ()

  config.explain = ConfigDict()
  config.explain.methods = ('cam', 'gradient')
  config.explain.rule = 'wang'
  config.explain.top_findings = 3  # shown of each film, the most probable
  config.explain.page_films = 50  # films on the page; the csv files have all
  config.explain.batch_size = 16
  config.explain.fit = 'pad'  # 'pad' | 'crop': how a film becomes square

  _PRESETS[preset](config)
  return config


def _phantom(config):
  # As many as sanity_films and check_films: each size is compiled for itself.
  config.evaluate.batch_size = 32
  config.evaluate.attack_films = 256  # a matter of minutes on a laptop
  config.evaluate.finding_attack_films = 18


def _nih(config):
  """At the scale of the paper: ResNet-50, 224 pixels, 28x28 cells of a map."""
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
  """For a part of the release on a CPU: a small ResNet-18 on small films.

  Epsilon is half of the default, as lesions have half as many pixels a side.
  """
  config.name = 'nih_small_baseline'
  config.data.source = 'nih'
  config.data.image_size = 128
  config.train.num_epochs = 15.0
  config.train.robust_films = 256
  config.attack.epsilon = 1.0
  config.evaluate.epsilons = (0.25, 0.5, 1.0, 2.0)
  config.evaluate.attack_films = 512
  config.evaluate.finding_attack_films = 36


def _smoke(config):
  """Every part in seconds, for tests; its estimates mean nothing."""
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
  config.evaluate.finding_attack_films = 4
  # These compile attacks of their own.
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
