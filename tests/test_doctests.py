"""The examples in docstrings are right, and public functions have some."""

import ast
import doctest
import importlib
import inspect
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

CXR = pathlib.Path(__file__).parents[1] / 'cxr'


def modules(*rooms):
  return [
    f'cxr.{room}.{path.stem}'
    for room in rooms
    for path in sorted((CXR / room).glob('*.py'))
    if path.stem != '__init__'
  ]


@pytest.mark.parametrize(
  'name',
  [
    *modules('attacks', 'attribution', 'localization', 'statistics'),
    *modules('shipped'),
    'cxr.files',
    'cxr.run_files',
    'cxr.command_line',
  ],
)
def test_examples_are_right(name):
  # What an example need not import.
  known = {'np': np, 'jnp': jnp, 'jax': jax}
  module = importlib.import_module(name)
  assert not doctest.testmod(module, extraglobs=known).failed


@pytest.mark.parametrize('name', modules('localization', 'statistics'))
def test_public_functions_have_examples(name):
  tree = ast.parse(inspect.getsource(importlib.import_module(name)))
  without = [
    node.name
    for node in tree.body
    if isinstance(node, ast.FunctionDef)
    and not node.name.startswith('_')
    and '>>>' not in (ast.get_docstring(node) or '')
  ]
  assert not without
