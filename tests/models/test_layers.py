"""Each platform's form of an operation against XLA's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from cxr import platforms
from cxr.models import cpu_convolution, layers


def reference(x, kernel, stride, dilation):
  pad = dilation * (kernel.shape[0] - 1) // 2
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    ((pad, pad), (pad, pad)),
    rhs_dilation=(dilation, dilation),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision='highest',
  )


def value_and_gradients(fn, *args):
  """The output, and the gradients of a generic function of it."""

  def scalar(*args):
    y = fn(*args)
    return jnp.sum(y * jnp.cos(jnp.arange(y.size).reshape(y.shape)))

  return fn(*args), *jax.grad(scalar, tuple(range(len(args))))(*args)


FORMS = platforms.FORMS


def assert_equal(forms, expected, *args, atol):
  """One compilation for all forms of a case."""
  every = forms | {'expected': expected}
  found = jax.jit(
    lambda *args: {k: value_and_gradients(f, *args) for k, f in every.items()},
    compiler_options={'xla_backend_optimization_level': 0},
  )(*args)
  for name in forms:
    for a, b in zip(found[name], found['expected'], strict=True):
      # Relative to the largest entry: long sums round.
      most = max(1, float(jnp.abs(b).max()))
      np.testing.assert_allclose(a, b, atol=atol * most, err_msg=name)


def arrays(size, h, w, c, d):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, h, w, c)).astype(np.float32)
  kernel = rng.normal(size=(size, size, c, d)) / (size * c**0.5)
  return x, kernel.astype(np.float32)


CASES = [
  # size, height, width, channels in and out, stride, dilation
  (1, 5, 6, 3, 4, 1, 1),
  (1, 5, 6, 3, 4, 2, 1),
  (3, 6, 5, 3, 4, 1, 1),
  (3, 6, 5, 3, 4, 2, 1),
  (3, 7, 8, 3, 4, 1, 2),
  (3, 7, 8, 3, 4, 1, 4),
  (3, 2, 2, 3, 4, 1, 1),
  (3, 1, 2, 3, 4, 2, 1),
  (7, 16, 12, 1, 4, 2, 1),
  (7, 9, 11, 1, 4, 2, 1),
  (7, 8, 6, 1, 4, 2, 1),
  (7, 4, 4, 1, 4, 2, 1),
  (3, 14, 15, 32, 33, 1, 2),
  (3, 28, 28, 32, 33, 2, 1),
]


@pytest.mark.parametrize('size, h, w, c, d, stride, dilation', CASES)
def test_convolve(size, h, w, c, d, stride, dilation):
  """Every platform's choice, and every form where it is not chosen."""
  forms = {
    name: lambda x, k, name=name: layers.convolve(
      x, k, stride=stride, dilation=dilation, forms=FORMS[name]
    )
    for name in FORMS
  }
  patches, xla = cpu_convolution._convolve_patches, cpu_convolution.convolve_xla
  forms['patches'] = lambda x, k: patches(x, k, stride, dilation)
  how = {'size': size, 'stride': stride, 'dilation': dilation}
  of_kernel = {
    name: functools.partial(getattr(cpu_convolution, name), **how)
    for name in ('_by_pixels', '_by_taps')
    if name == '_by_taps' or c == 1
  }
  if stride == 1:
    of_kernel['_by_pairs'] = lambda x, g: cpu_convolution._by_pairs(
      x, g, size, dilation
    )
  for name, gradient in of_kernel.items():
    forms[name] = lambda x, k, gradient=gradient: (
      cpu_convolution._with_filter_gradient(
        lambda x, k: xla(x, k, stride, dilation), gradient
      )(x, k)
    )
  expected = lambda x, k: reference(x, k, stride, dilation)
  assert_equal(forms, expected, *arrays(size, h, w, c, d), atol=2e-5)


@pytest.mark.parametrize(
  'form, c, film',
  [
    (
      lambda *args: cpu_convolution._by_pairs(*args[:2], 3, 1, *args[2:]),
      3,
      4 * 5 * 3 * 7 * 4,
    ),
    (
      lambda *args: cpu_convolution._by_pixels(*args[:2], 3, 1, 1, *args[2:]),
      1,
      4 * 5 * 9 * 4,
    ),
  ],
)
@pytest.mark.parametrize('films, chunks', [(0, 6), (2, 3), (5, 2)])
def test_filter_gradient_in_chunks(monkeypatch, form, c, film, films, chunks):
  """As many films at a time as fit the cache and divide the batch; or one."""
  rng = np.random.default_rng(0)
  x, gradient = (
    rng.normal(size=(6, 4, 5, d)).astype(np.float32) for d in (c, 4)
  )
  trace = lambda *one_device: jax.jit(
    lambda x, g: form(x, g, *one_device)
  ).trace(x, gradient)
  whole = trace(False)
  monkeypatch.setattr(cpu_convolution, '_CACHE', films * film)
  # On several devices a film stays with its own.
  assert 'scan[' not in str(trace(False).jaxpr)
  chunked = trace(True)
  assert f'length={chunks}' in str(chunked.jaxpr)
  found, expected = (t.lower().compile()(x, gradient) for t in (chunked, whole))
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
  'x, kernel, dilation',
  [
    ((2, 2, 2, 8), (3, 3, 8, 8), 1),
    ((2, 4, 4, 512), (3, 3, 512, 512), 1),
    ((2, 28, 28, 8), (3, 3, 8, 8), 1),
    ((2, 28, 28, 8), (1, 1, 8, 8), 1),
  ],
)
def test_platform_decides(x, kernel, dilation):
  """On an accelerator every convolution is XLA's."""
  for name in ('gpu', 'tpu'):
    convolve = functools.partial(
      layers.convolve, dilation=dilation, forms=FORMS[name]
    )
    text = str(jax.make_jaxpr(convolve)(jnp.zeros(x), jnp.zeros(kernel)))
    assert 'conv_general_dilated' in text
    assert 'dot_general' not in text


@pytest.mark.parametrize('h, w', [(8, 8), (7, 9), (2, 1)])
@pytest.mark.parametrize('values', [1000, 3])
def test_max_pool(h, w, values):
  """Of equal values, as there are after a ReLU, the first has the gradient."""
  # Negative values: a padding of 0 would win.
  rng = np.random.default_rng(0)
  x = -1.0 - rng.integers(0, values, (2, h, w, 3)).astype(np.float32)
  forms = {
    name: lambda x, name=name: layers.max_pool(x, FORMS[name]) for name in FORMS
  }
  expected = lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
  assert_equal(forms, expected, x, atol=1e-6)


def test_average_pool():
  x = jnp.arange(16.0).reshape(1, 4, 4, 1)
  np.testing.assert_allclose(
    layers.average_pool(x)[0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]]
  )


def test_vmap_of_single_images():
  """An attack on one image under vmap sees what the batch sees."""
  x, kernel = arrays(3, 2, 2, 4, 4)
  for forms in FORMS.values():
    one = lambda image, f=forms: layers.convolve(image[None], kernel, forms=f)[
      0
    ]
    np.testing.assert_allclose(
      jax.vmap(one)(x), layers.convolve(x, kernel, forms=forms), atol=1e-6
    )


def test_first_stage():
  assert layers.first_stage('image', 3) == 0
  assert layers.first_stage('stage2', 3) == 2
  assert layers.first_stage('features', 3) == 3
  with pytest.raises(ValueError, match=r'start \(stage4\) must be one of'):
    layers.first_stage('stage4', 3)


@pytest.mark.parametrize('shape', [(7, 7, 1, 32), (3, 3, 4, 6), (1, 1, 8, 2)])
def test_kernels_have_the_bits_of_flax(shape):
  flax = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
  key = jax.random.key(3)
  np.testing.assert_array_equal(
    layers.draw_kernel(key, shape), flax(key, shape)
  )
