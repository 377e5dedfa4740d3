"""Operations and bytes of a program's kernels, from a text made by hand."""

import jax
import jax.numpy as jnp
import pytest

from tests.accelerators import compiled_text, kernels

TEXT = """HloModule jit_step, is_scheduled=true

%fused (p.0: bf16[4,8], p.1: bf16[8,2]) -> f32[4,2] {
  %p.0 = bf16[4,8]{1,0} parameter(0)
  %p.1 = bf16[8,2]{1,0} parameter(1)
  ROOT %dot.1 = f32[4,2]{1,0} dot(%p.0, %p.1), CONTRACTED
}

%turn (t: SHAPE) -> SHAPE {
  %t = STATE parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %a = bf16[4,8]{1,0} get-tuple-element(%t), index=2
  %b = bf16[8,2]{1,0} get-tuple-element(%t), index=3
  %product = f32[4,2]{1,0} fusion(%a, %b), kind=kOutput, calls=%fused
  ROOT %out = STATE tuple(%i, %product, %a, %b)
}

%goes_on (t.1: SHAPE) -> pred[] {
  %t.1 = STATE parameter(0)
  ROOT %yes = pred[] constant(true)
}

ENTRY %main (x: SHAPE, film: f32[2,3,1], kept: f32[5]) -> f32[2,3,1] {
  %x = STATE parameter(0)
  %film = f32[2,3,1]{2,1,0:T(8,128)} parameter(1)
  %kept = f32[5]{0:T(128)S(1)} parameter(2)
  %loop = STATE while(%x), condition=%goes_on, body=%turn, BACKEND
  ROOT %sum = f32[2,3,1]{2,1,0:T(8,128)} add(%film, %kept), PLACE
}
"""
SHORT = {
  'SHAPE': '(s32[], f32[4,2], bf16[4,8], bf16[8,2])',
  'STATE': '(s32[], f32[4,2]{1,0}, bf16[4,8]{1,0}, bf16[8,2]{1,0})',
  'CONTRACTED': 'lhs_contracting_dims={1}, rhs_contracting_dims={0}',
  'BACKEND': (
    'backend_config={"known_trip_count":{"n":"3"}}, '
    'metadata={op_name="jit(step)/attack/while"}'
  ),
  'PLACE': 'metadata={op_name="jit(step)/update/add"}',
}


@pytest.fixture(scope='module')
def found():
  text = TEXT
  for name, long in SHORT.items():
    text = text.replace(name, long)
  return kernels.kernels(text)


def test_a_fusion_is_one_kernel_and_runs_in_every_turn(found):
  product, _ = found
  assert (product.name, product.times) == ('product', 3)
  # It does not say where it stands; its loop does.
  assert product.op_name == 'jit(step)/attack/while'
  assert product.operations == {'bf16': 2 * 4 * 8 * 2}
  assert product.num_bytes == 2 * 4 * 8 + 2 * 8 * 2 + 4 * 4 * 2


def test_bytes_are_those_of_padded_tiles_in_the_device_s_memory(found):
  _, add = found
  assert (add.operations, add.times) == ({}, 1)
  # Two arrays of 2 x 8 x 128; what lies on the chip costs nothing.
  assert add.num_bytes == 2 * 4 * 2 * 8 * 128


@pytest.mark.parametrize('name', ['forward', 'by film', 'by kernel'])
@pytest.mark.parametrize('stride, dilation', [(1, 1), (2, 1), (1, 2)])
def test_operations_of_a_convolution_are_those_that_xla_counts(
  stride, dilation, name
):
  def convolve(film, kernel):
    return jax.lax.conv_general_dilated(
      film,
      kernel,
      (stride, stride),
      [(dilation, dilation)] * 2,
      rhs_dilation=(dilation, dilation),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  film, kernel = jnp.zeros((2, 9, 8, 3)), jnp.zeros((3, 3, 3, 5))
  out, gradients = jax.vjp(convolve, film, kernel)
  function = {
    'forward': convolve,
    'by film': lambda *_: gradients(out)[0],
    'by kernel': lambda *_: gradients(out)[1],
  }[name]
  program = jax.jit(function).lower(film, kernel).compile()
  counted = compiled_text.operations(program.as_text())
  assert counted == program.cost_analysis()['flops']
  assert counted > 2 * 2 * 3 * 5 * 9 * 8 * 9 / stride**2 / 2


def test_a_product_of_each_film_is_no_product_of_all():
  """As a TPU's program has it: a convolution along the films."""
  text = """ENTRY %main (a: f32[8,50,20], b: f32[8,20,30]) -> f32[8,50,30] {
  %a = f32[8,50,20]{2,1,0} parameter(0)
  %b = f32[8,20,30]{2,1,0} parameter(1)
  ROOT %c = f32[8,50,30]{2,1,0} convolution(%a, %b), WINDOW, LABELS
}
"""
  text = text.replace('WINDOW', 'window={size=8 stride=7 lhs_dilate=8}')
  text = text.replace('LABELS', 'dim_labels=0bf_0io->0bf')
  assert compiled_text.operations(text) == 8 * 2 * 50 * 20 * 30
