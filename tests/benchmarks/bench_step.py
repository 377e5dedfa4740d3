r"""Images a second of forward, training and adversarial steps, JAX : PyTorch.

  python -m tests.benchmarks.bench_step --arch=resnet18 --image_size=224

The same network on both sides: one channel, 14 outputs, multi-label
cross-entropy, SGD. 'pgd-k' is k attack steps on running statistics, then one
training step on what they give. PyTorch runs channels_last, eager and
compiled, its parameters without gradient during the attack.

Every contender has a process of its own, so that its peak memory is its own,
and they run in turns, so that another load on the machine strikes all; the
ratio is taken within a turn, and its median stands with the quartiles. Times
of a shared machine still scatter: no test reads them. Where PyTorch is not
installed, JAX is measured alone; 'onednn' is JAX under main.py's --onednn.

  python -m tests.benchmarks.bench_step --what=cost --num_steps=0 \
    --num_steps=3 --num_steps=7

prints what a PGD-k step costs in plain ones, its steps and the plain step in
turns, beside the bound of 1.15 (2k + 3) / 3: a gradient of the weights and the
film is three forward passes' work, one of the film alone two.
"""

import importlib.util
import multiprocessing
import os
import resource
import time
import traceback
import types

import numpy as np
from absl import app, flags

from cxr import jax_setup
from tests.benchmarks import bare

_ARCH = flags.DEFINE_enum(
  'arch', 'resnet18', ['resnet18', 'resnet50'], 'Network.'
)
_FILTERS = flags.DEFINE_integer('num_filters', 64, "64 is torchvision's.")
_SIZE = flags.DEFINE_integer('image_size', 64, 'Pixels.')
_BATCH = flags.DEFINE_integer('batch_size', 32, 'Images.')
_STEPS = flags.DEFINE_multi_integer(
  'num_steps', [0, 3, 7], 'Attack steps; 0 is plain training.'
)
_FORWARD = flags.DEFINE_bool('forward', True, 'Measure inference, too.')
_ROUNDS = flags.DEFINE_integer('rounds', 7, 'Turns.')
_DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16'], 'Of the computation.'
)
_TORCH = flags.DEFINE_multi_enum(
  'torch_mode', ['eager', 'compiled'], ['eager', 'compiled'], 'Modes.'
)
_WHAT = flags.DEFINE_enum(
  'what', 'both', ['speed', 'cost', 'both'], 'Against PyTorch; against plain.'
)
_OURS = 'jax', 'onednn'
_EPSILON = 2 / 255
_SLACK = 1.15
_RATE = 1e-3


def _inputs(o):
  rng = np.random.default_rng(0)
  image = rng.uniform(0, 1, (o.batch, o.size, o.size, 1)).astype(np.float32)
  label = (rng.uniform(size=(o.batch, 14)) < 0.1).astype(np.float32)
  return image, label


def _jax_step(o):
  """A function that does one step and waits for it; and bytes on the device."""
  # Not beside PyTorch: its compiler uses tqdm where it finds one.
  bare.install()
  import jax
  import jax.numpy as jnp

  from configs import default
  from cxr import losses, platforms, sharding
  from cxr.attacks import batched
  from cxr.models import architectures

  jax_setup.set_precision()
  config = default.get_config('nih').model
  config.arch, config.num_filters, config.dtype = o.arch, o.filters, o.dtype
  config.output_stride = 32
  model = architectures.make_model(
    config,
    num_findings=14,
    forms=platforms.of(sharding.make_mesh(1)),
  )
  image, label = map(jnp.asarray, _inputs(o))
  variables = jax.jit(model.init)(jax.random.key(0), image[:1])
  logits = lambda variables, image: model.apply(variables, image)[0]
  attack = None
  if o.steps:
    attack = batched.make_attack(
      logits,
      losses.sigmoid_cross_entropy,
      batched.Options(epsilon=_EPSILON, num_steps=o.steps),
      unroll=model.forms.unrolled,
    )

  def train(variables, key):
    x = image
    if attack:
      x = jax.lax.stop_gradient(attack(variables, key, image, label))

    def loss(params):
      (z, _), updates = model.apply(
        variables | {'params': params}, x, train=True, mutable=['batch_stats']
      )
      return losses.sigmoid_cross_entropy(z, label).mean(), updates

    gradient, updates = jax.grad(loss, has_aux=True)(variables['params'])
    params = jax.tree.map(
      lambda p, g: p - _RATE * g, variables['params'], gradient
    )
    return {'params': params, **updates}

  forward, train = jax.jit(logits), jax.jit(train, donate_argnums=0)
  key = jax.random.key(1)

  def run():
    nonlocal variables
    if o.steps is None:
      jax.block_until_ready(forward(variables, image))
    else:
      variables = jax.block_until_ready(train(variables, key))

  stats = jax.local_devices()[0].memory_stats
  return run, lambda: (stats() or {}).get('peak_bytes_in_use', 0)


def _torch_step(o):
  import torch
  from torch.nn import functional

  from tests.models import torch_nets

  # Float32 is float32 on both sides; by default PyTorch takes TF32.
  torch.backends.cudnn.allow_tf32 = False
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  model = torch_nets.resnet(torch, o.arch, o.filters)
  model = model.to(device, memory_format=torch.channels_last)
  # Compiled in whole, so that inference and training are told apart by it.
  call = torch.compile(model) if o.mode == 'compiled' else model
  image, label = (torch.from_numpy(a).to(device) for a in _inputs(o))
  image = image.permute(0, 3, 1, 2).contiguous(
    memory_format=torch.channels_last
  )
  optimizer = torch.optim.SGD(model.parameters(), lr=_RATE)

  def loss(x):
    with torch.autocast(device, torch.bfloat16, enabled=o.dtype == 'bfloat16'):
      z = call((x - 0.5) / 0.25)
    return functional.binary_cross_entropy_with_logits(z.float(), label)

  def attacked():
    model.eval().requires_grad_(False)
    noise = torch.empty_like(image).uniform_(-_EPSILON, _EPSILON)
    low, high = (image - _EPSILON).clamp(0), (image + _EPSILON).clamp(max=1)
    x = torch.clamp(image + noise, low, high)
    for _ in range(o.steps):
      x = x.detach().requires_grad_()
      (gradient,) = torch.autograd.grad(loss(x), x)
      step = 2.5 * _EPSILON / o.steps * gradient.sign()
      x = torch.clamp(x.detach() + step, low, high)
    model.train().requires_grad_(True)
    return x.detach()

  def run():
    if o.steps is None:
      with torch.inference_mode():
        loss(image)
    else:
      x = attacked() if o.steps else image
      optimizer.zero_grad()
      loss(x).backward()
      optimizer.step()
    if device == 'cuda':
      torch.cuda.synchronize()

  model.train(o.steps is not None)
  on_device = torch.cuda.max_memory_allocated if device == 'cuda' else int
  return run, on_device


def _work(pipe, o):
  """Builds a step, then does as many as it is asked for, and says how long."""
  # As the program does; PyTorch gains by the first, too.
  jax_setup.set_up_cpu(os.environ, onednn=o.mode == 'onednn')
  try:
    run, on_device = (_jax_step if o.mode in _OURS else _torch_step)(o)
    start = time.perf_counter()
    run()
    pipe.send(time.perf_counter() - start)
    run()
    while count := pipe.recv():
      start = time.perf_counter()
      for _ in range(count):
        run()
      pipe.send((time.perf_counter() - start) / count)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pipe.send((peak, on_device()))
  except Exception:
    pipe.send(traceback.format_exc(limit=-1))


def _measure(options):
  """Seconds a step 'mode round', and peak bytes, of what works.

  `options`: a contender by its name.
  """
  context = multiprocessing.get_context('spawn')
  workers = {}
  for name, o in options.items():
    pipe, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, o), daemon=True)
    process.start()
    theirs.close()
    # One after the other, so that the compilers do not meet.
    answer = pipe.recv()
    if isinstance(answer, str):
      print(f'{name} does not run here: {answer.strip().splitlines()[-1]}')
      continue
    print(f'  {name}: first step after {answer:.1f} s', flush=True)
    workers[name] = pipe, process
  seconds = {mode: [] for mode in workers}
  counts = {}
  for i in range(-1, _ROUNDS.value):
    for mode, (pipe, _) in workers.items():
      pipe.send(counts.get(mode, 1))
      taken = pipe.recv()
      if i < 0:  # a turn takes about a second
        counts[mode] = max(1, round(1 / taken))
      else:
        seconds[mode].append(taken)
  peaks = {}
  for mode, (pipe, process) in workers.items():
    pipe.send(0)
    peaks[mode] = pipe.recv()
    process.join()
  return {mode: np.array(s) for mode, s in seconds.items()}, peaks


def _spread(values):
  low, middle, high = np.percentile(values, (25, 50, 75))
  return f'{middle:8.2f} [{low:.2f}, {high:.2f}]'


def _options(mode, steps):
  return types.SimpleNamespace(
    mode=mode,
    arch=_ARCH.value,
    filters=_FILTERS.value,
    size=_SIZE.value,
    batch=_BATCH.value,
    dtype=_DTYPE.value,
    steps=steps,
  )


def _name(steps):
  return {None: 'forward', 0: 'train'}.get(steps, f'pgd-{steps}')


def _print_speed():
  modes = ['jax'] + ['onednn'] * jax_setup.has_onednn()
  if importlib.util.find_spec('torch'):
    modes += _TORCH.value
  for steps in [None] * _FORWARD.value + _STEPS.value:
    print(_name(steps))
    seconds, peaks = _measure({mode: _options(mode, steps) for mode in modes})
    for mode, taken in seconds.items():
      host, device = (peak / 2**30 for peak in peaks[mode])
      line = f'  {mode:9}{_spread(_BATCH.value / taken)} images/s'
      line += f', peak {host:.2f} GiB' + f' + {device:.2f}' * (device > 0)
      for ours in (m for m in _OURS if mode not in _OURS and m in seconds):
        line += f', {ours} : {mode} {_spread(taken / seconds[ours])}'
      print(line, flush=True)


def _print_cost():
  print('cost in plain steps')
  steps = sorted({0, *_STEPS.value})
  seconds, _ = _measure({k: _options('jax', k) for k in steps})
  for k in steps[1:]:
    ratio = seconds[k] / seconds[0]
    bound = _SLACK * (2 * k + 3) / 3
    word = 'within' if np.median(ratio) <= bound else 'ABOVE'
    print(
      f'  {_name(k):9}{_spread(ratio)}, {word} {_SLACK} x {(2 * k + 3) / 3:.2f}'
      f' = {bound:.2f}',
      flush=True,
    )


def main(argv):
  del argv
  print(
    f'{_ARCH.value}, {_FILTERS.value} filters, {_SIZE.value} px, batch '
    f'{_BATCH.value}, {_DTYPE.value}'
  )
  if _WHAT.value != 'cost':
    _print_speed()
  if _WHAT.value != 'speed':
    _print_cost()


if __name__ == '__main__':
  app.run(main)
