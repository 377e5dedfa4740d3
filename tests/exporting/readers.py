"""CheXlocalize's files, read as that tool and pycocotools do, written anew."""

import csv
import json

import numpy as np


def decode(encoded):
  """The mask of pycocotools' compressed counts, written anew."""
  height, width = encoded['size']
  runs, number, shift = [], 0, 0
  for character in encoded['counts']:
    digit = ord(character) - 48
    number |= (digit & 31) << shift
    shift += 5
    if not digit & 32:
      if digit & 16:
        number -= 1 << shift
      runs.append(number + (runs[-2] if len(runs) > 2 else 0))
      number, shift = 0, 0
  values = np.arange(len(runs)) % 2 == 1
  return np.repeat(values, runs).reshape((height, width), order='F')


def segmentations(path):
  """Film -> task -> mask."""
  with open(path) as f:
    return {
      name: {task: decode(encoded) for task, encoded in tasks.items()}
      for name, tasks in json.load(f).items()
    }


def results(path):
  """Names of the films, findings, scores (NaN where there is none)."""
  with open(path, newline='') as f:
    header, *rows = csv.reader(f)
  assert header[-1] == 'img_id'
  score = [[float(cell or 'nan') for cell in row[:-1]] for row in rows]
  return [row[-1] for row in rows], header[:-1], np.array(score)
