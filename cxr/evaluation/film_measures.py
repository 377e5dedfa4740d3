"""The measures of config.evaluate.measures: computed, or read where stored.

Most measures are taken of each method of attribution. Each method's values are
a part of their own (parts.py), so that one method more costs that method alone.
"""

from absl import logging

from cxr.evaluation.parts import Parts, is_whole, stored
from cxr.inference import Subject
from cxr.measures import measure_table, named_measures


def measure(subject: Subject, parts: Parts) -> list[measure_table.Measure]:
  """The rows of measures.csv, in the order of the config."""
  rows = []
  for name in subject.config.evaluate.measures:
    kind = named_measures.MEASURES[name]
    methods = subject.config.evaluate.methods if kind.of_methods else ()
    methods = (*kind.before, *methods, *kind.after)
    paths = {
      method: parts.path(
        f'measures-{"-".join(filter(None, (name, method)))}.csv',
        named_measures.settings(subject, kind, method),
        splits=kind.splits,
      )
      for method in methods
    }
    missing = [
      method
      for method, path in paths.items()
      if not is_whole(path, measure_table.read)
    ]
    computed = []
    if missing:
      methods = ', '.join(filter(None, missing))
      logging.info(
        'Measuring: %s.', f'{name} of {methods}' if methods else name
      )
      with parts.timed(name):
        computed = kind.compute(subject, missing)
    for method, path in paths.items():
      rows += stored(
        path,
        lambda kind=kind, method=method, computed=computed: [
          m for m in computed if not kind.of_methods or m.method == method
        ],
        measure_table.write,
        measure_table.read,
      )
  return rows
