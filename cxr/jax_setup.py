"""Sets up the process for JAX; imported before JAX is.

The allocator and XLA's flags are of use on a CPU, and are left alone where JAX
will take another device. That is told by JAX_PLATFORMS or, where it is unset,
by an installed plugin (jax[cuda13], jax[tpu]): to ask JAX itself would start
it, and then it is too late.
"""

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import MutableMapping


def is_cpu(environ: MutableMapping[str, str]) -> bool:
  """Whether JAX will compute on a CPU, as far as can be told without it."""
  platforms = environ.get('JAX_PLATFORMS', '').lower().split(',')
  if platforms[0]:
    return platforms[0] == 'cpu'
  plugins = importlib.metadata.entry_points(group='jax_plugins')
  modules = map(importlib.util.find_spec, ('jax_plugins', 'libtpu'))
  return not plugins and not any(modules)


def set_up_cpu(environ: MutableMapping[str, str], *, onednn: bool) -> None:
  """Sets up allocator and XLA where the platform is a CPU.

  Args:
    environ: os.environ; XLA_FLAGS is added to, and what it holds already has
      the last word.
    onednn: convolutions by oneDNN.

  Raises:
    ValueError: `onednn`, and there is none.
  """
  cpu = is_cpu(environ)
  if onednn and not (cpu and has_onednn()):
    raise ValueError(
      '--onednn needs a CPU and jaxlib 0.12 (Python 3.12 or later) on x86_64, '
      f'not {_jaxlib()} on {platform.machine()}{"" if cpu else " with a GPU"}; '
      'leave it out.'
    )
  if cpu:
    keep_freed_memory()
    _set_xla_flags(environ, onednn)


def keep_freed_memory() -> None:
  """Has glibc reuse large blocks instead of handing each back to Linux.

  XLA asks for all of a program's scratch memory at every call; to be given it
  page by page took a fifth of an evaluation's time on a CPU.
  """
  if not sys.platform.startswith('linux'):
    return
  libc = ctypes.CDLL(None)
  if not hasattr(libc, 'gnu_get_libc_version'):
    return
  # Of malloc.h: M_ARENA_MAX 1 (only the main arena grows without end),
  # M_MMAP_MAX 0, M_TRIM_THRESHOLD the largest.
  for parameter, value in ((-8, 1), (-4, 0), (-1, 2**31 - 1)):
    libc.mallopt(parameter, value)


def has_onednn() -> bool:
  """Whether XLA's calls of oneDNN were tried with this jaxlib."""
  return _jaxlib().startswith('0.12.') and platform.machine() == 'x86_64'


def _jaxlib() -> str:
  return importlib.metadata.version('jaxlib')


def _set_xla_flags(environ: MutableMapping[str, str], onednn: bool) -> None:
  # XLA ends the process at a flag that it does not know, so none is given to a
  # jaxlib that it was not tried with.
  if not _jaxlib().startswith('0.12.'):
    return
  # An order for the sake of concurrency keeps more arrays alive: a PGD-3 step
  # of ResNet-18 took 2.0 GiB for 1.4, and was 0 to 5 % faster.
  flags = ['--xla_cpu_enable_concurrency_optimized_scheduler=false']
  if onednn:
    flags += [
      '--xla_cpu_experimental_onednn_custom_call=true',
      # Else YNNPACK has the convolutions first.
      '--xla_cpu_experimental_ynn_fusion_type='
      '-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION',
    ]
  environ['XLA_FLAGS'] = ' '.join([*flags, environ.get('XLA_FLAGS', '')])


def set_deterministic(environ: MutableMapping[str, str]) -> None:
  """Has a GPU give the same bits from run to run.

  XLA then takes kernels alone whose sums come in one order, and chooses among
  cuDNN's by rule, not by timing them, which may end otherwise on every start. A
  CPU and a TPU give the same bits anyway.

  Args:
    environ: os.environ; what its XLA_FLAGS hold already has the last word.
  """
  ours = '--xla_gpu_deterministic_ops=true'
  environ['XLA_FLAGS'] = f'{ours} {environ.get("XLA_FLAGS", "")}'


def set_precision() -> None:
  """Has every product of float32 numbers computed in float32.

  By default a GPU rounds them to TF32 (11 bits) and a TPU to bfloat16 (8 bits)
  first: interpolation of a map, masks of RISE and what completeness is held
  against would carry that error. Networks in bfloat16 are as fast as before.
  """
  import jax

  jax.config.update('jax_default_matmul_precision', 'highest')


def keep_programs() -> None:
  """Keeps compiled programs on disk: a second start compiles nothing."""
  import jax

  folder = os.environ.get('JAX_COMPILATION_CACHE_DIR')
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  jax.config.update(
    'jax_compilation_cache_dir', folder or os.path.join(cache, 'cxr', 'jax')
  )
  # Small programs too (the default leaves out what compiles in a second):
  # there are hundreds.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


def find_devices() -> str:
  """Starts JAX; returns how many devices it has and of which kind, in words.

  Raises:
    RuntimeError: it has none of the platform that JAX_PLATFORMS (or the older
      JAX_PLATFORM_NAME) names.
  """
  import jax

  # A shell may export it for other programs; here all is made for 32 bits.
  jax.config.update('jax_enable_x64', False)
  try:
    kind = jax.devices()[0].device_kind
  # JAX's own assertion is what fails for 'cuda' without its plugin.
  except (RuntimeError, AssertionError) as e:
    names = 'JAX_PLATFORMS', 'JAX_PLATFORM_NAME'
    name = next((name for name in names if os.environ.get(name)), None)
    if name is None:
      raise
    raise RuntimeError(
      f'JAX finds no device of {name} ({os.environ[name]}) on this machine; '
      f'unset {name} or install the plugin: jax[cuda13] for cuda, jax[tpu] for '
      'tpu.'
    ) from e
  return f'{jax.device_count()} device(s): {kind}'
