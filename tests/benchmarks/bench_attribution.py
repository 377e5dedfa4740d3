"""What maps cost: time beside the forward pass, memory beside the chunk.

  python -m tests.benchmarks.bench_attribution [--arch=resnet18] [--size=224]

Prints the share that CAM of 14 findings adds to a forward pass, the time of
each method per film, and the peak memory of SmoothGrad and integrated gradients
by chunk (each in a process of its own, since a process's peak never falls),
with the completeness gap at 64 steps. Weights are random: cost does not depend
on them, the gap does.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import jax
from jax import numpy as jnp
from jax.tree_util import Partial

from configs import default
from cxr import platforms, sharding
from cxr.attribution import by_name, cam, saliency
from cxr.models import architectures

NUM_FINDINGS = 14


def make(arch, size, batch_size):
  config = default.get_config('nih').model
  config.arch, config.output_stride, config.dtype = arch, 16, 'float32'
  forms = platforms.of(sharding.make_mesh(1))
  model = architectures.make_model(config, NUM_FINDINGS, forms)
  image = jax.random.uniform(jax.random.key(0), (batch_size, size, size, 1))
  return model, jax.jit(model.init)(jax.random.key(1), image[:1]), image


def seconds(*fns, repeats):
  """Median of each, called in turn so that a busy machine burdens all alike."""
  for fn in fns:
    jax.block_until_ready(fn())
  times = [[] for _ in fns]
  for _ in range(repeats):
    for fn, taken in zip(fns, times, strict=True):
      start = time.perf_counter()
      jax.block_until_ready(fn())
      taken.append(time.perf_counter() - start)
  return [statistics.median(taken) for taken in times]


def bench_cam(args):
  model, variables, image = make(args.arch, args.size, args.batch_size)
  features_fn = jax.jit(lambda v, x: model.apply(v, x)[1]['features'])
  features = features_fn(variables, image)
  kernel, _ = model.head(variables['params'])
  cam_fn = jax.jit(cam.cam)
  forward, alone = seconds(
    lambda: features_fn(variables, image),
    lambda: cam_fn(features, kernel),
    repeats=args.repeats,
  )
  grid = 'x'.join(map(str, features.shape[1:3]))
  print(
    f'forward {forward:.3f} s; cam of {NUM_FINDINGS} findings on {grid}:'
    f' {alone * 1e3:.2f} ms = {100 * alone / forward:.2f} % of it'
    f' ({args.batch_size} films of {args.size} px)',
    flush=True,
  )


def bench_methods(args):
  model, variables, image = make(args.arch, args.size, args.batch_size)
  few = {
    'smooth_grad': {'num_samples': 8},
    'integrated_gradients': {'num_steps': 8},
    'rise': {'num_masks': 32},
  }
  for method in by_name.METHODS:
    options = few.get(method, {})
    fn = by_name.make_host_attribution(model, method, **options)
    (taken,) = seconds(
      lambda fn=fn: fn(variables, jax.random.key(0), image), repeats=1
    )
    print(
      f'{method} {options or ""}: {taken / args.batch_size:.3f} s a film',
      flush=True,
    )


def peak_mib():
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure_memory(args):
  model, variables, image = make(args.arch, args.size, 1)
  before = peak_mib()

  def logits_fn(variables, image):
    return model.apply(variables, image[None])[0][0]

  score_fn = Partial(logits_fn, variables)
  start = time.perf_counter()
  if args.memory_of == 'smooth_grad':
    maps = saliency.smooth_grad(
      score_fn,
      jax.random.key(0),
      image[0],
      num_samples=16,
      chunk=args.chunk,
      from_host=True,
    )
    note = '16 samples'
  else:
    maps, gap = saliency.integrated_gradients(
      score_fn, image[0], num_steps=64, chunk=args.chunk, from_host=True
    )
    change = score_fn(image[0]) - score_fn(jnp.zeros_like(image[0]))
    note = f'64 steps, gap {abs(gap).max() / abs(change).max():.1e} of change'
  jax.block_until_ready(maps)
  print(
    f'{args.memory_of}, chunk {args.chunk}: {peak_mib() - before:.0f} MiB above'
    f' {before:.0f}, {time.perf_counter() - start:.1f} s with compilation,'
    f' {note}',
    flush=True,
  )


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--arch', default='resnet18')
  parser.add_argument('--size', type=int, default=224)
  parser.add_argument('--batch_size', type=int, default=4)
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--chunks', default='1,4,16')
  parser.add_argument('--memory_of', help='set by the program, for one process')
  parser.add_argument('--chunk', type=int)
  args = parser.parse_args()
  if args.memory_of:
    return measure_memory(args)
  bench_cam(args)
  for method in ('smooth_grad', 'integrated_gradients'):
    for chunk in args.chunks.split(','):
      subprocess.run(
        [sys.executable, '-m', 'tests.benchmarks.bench_attribution',
         f'--arch={args.arch}', f'--size={args.size}',
         f'--memory_of={method}', f'--chunk={chunk}'],
        check=True,
      )  # fmt: skip
  bench_methods(args)


if __name__ == '__main__':
  main()
