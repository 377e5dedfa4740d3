"""A workdir with random but plausible content, without a model.

Used by the tests of everything that reads a workdir's files.
"""

import json
import os

import numpy as np

from cxr import stored_rows
from cxr.attribution import cam
from cxr.localization import scoring
from input_pipeline.findings import BOXED, FINDINGS
from tests import made_rows

METHODS = (
  'cam_own_less_another',
  'cam',
  'cam_another_patient',
  'cam_shuffled_weights',
  'gradient',
  'random',
  'mean_box',
)
# Control -> how well it does.
CONTROLS = {
  'cam_own_less_another': 0.1,
  'cam_another_patient': 0.4,
  'cam_shuffled_weights': 0.25,
  'random': 0.3,
  'mean_box': 0.8,
}
IOUS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
IOBBS = (0.1, 0.25, 0.5, 0.75, 0.9)


def enlarged(heatmap, size):
  """Cells as areas, each with its value in its middle."""
  rows, columns = (
    cam.interpolation(n, m, stride=m / n, offset=(m / n - 1) / 2)
    for n, m in zip(heatmap.shape, size, strict=True)
  )
  return rows @ heatmap @ columns.T


def estimate(value, *, images=160, patients=60, width=0.04):
  return {
    'value': round(value, 4),
    'low': round(value - width, 4),
    'high': round(value + width, 4),
    'images': images,
    'patients': patients,
  }


def undefined(why='no positive film'):
  return {
    'value': None,
    'low': None,
    'high': None,
    'images': 160,
    'patients': 60,
    'why': why,
  }


def film(rng, size):
  """Two dark lungs on a bright body, enough to see what lies where."""
  y, x = np.mgrid[0:size, 0:size] / size
  body = 150 - 90 * ((x - 0.5) ** 2 + 0.4 * (y - 0.6) ** 2)
  for side in (0.3, 0.7):
    body -= 80 * np.exp(-(((x - side) / 0.13) ** 4) - ((y - 0.5) / 0.3) ** 4)
  body += 14 * np.sin(y * 60) * (np.abs(x - 0.5) > 0.08)
  return np.clip(body + rng.normal(0, 6, body.shape), 0, 255).astype(np.uint8)


def blob(rng, size, box, sharpness=1.0):
  """A signed map with a peak near the box, and noise."""
  y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
  cy, cx = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
  peak = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 0.02)
  return (4 * sharpness * peak - 1 + rng.normal(0, 0.4, peak.shape)).astype(
    np.float32
  )


def auroc(level, findings=FINDINGS, *, hole='Hernia'):
  figures = {'mean': estimate(level)}
  for i, finding in enumerate(findings):
    figures[finding] = estimate(level - 0.05 + 0.007 * i, width=0.06)
  if hole in findings:
    figures[hole] = undefined()
  return figures


def calibration(findings=FINDINGS):
  """calibration.json of a run whose validation films had no Hernia."""
  row = {
    'temperature': 1.7,
    'bias': -1.2,
    'threshold': 0.4,
    'probability_at_threshold': 0.276,
    'positives': 30,
    'negatives': 90,
  }
  fitted = {finding: dict(row) for finding in findings}
  if 'Hernia' in findings:
    fitted['Hernia'] |= dict.fromkeys(list(row)[:4]) | {
      'positives': 0,
      'negatives': 120,
      'why': '0 positive and 120 negative films: needs both',
    }
  return {
    'step': 500,
    'batch_stats': 'clean',
    'split': 'validation',
    'images': 120,
    'patients': 40,
    'findings': fitted,
  }


def calibrated(findings=FINDINGS):
  """The part 'calibration' of metrics.json."""
  return {
    'fitted': calibration(findings),
    **{
      kind: {
        'brier': auroc(brier, findings),
        'excess': auroc(excess, findings),
        'calibration_error': {
          finding: figure | {'low': None, 'high': None}
          for finding, figure in auroc(abs(excess), findings).items()
        },
      }
      for kind, brier, excess in (
        ('raw', 0.2, 0.15),
        ('calibrated', 0.15, -0.01),
      )
    },
    'operating_point': {
      name: auroc(value, findings)
      for name, value in (
        ('sensitivity', 0.75),
        ('specificity', 0.8),
        ('called', 0.3),
      )
    },
  }


def localized(rng, level, boxed=BOXED):
  methods = {}
  for method in METHODS:
    strength = CONTROLS.get(method, level)
    methods[method] = {
      rule: {
        finding: {
          **{
            f'iou@{t:g}': estimate(
              strength * (1 - t) ** 2 * rng.uniform(0.8, 1)
            )
            for t in IOUS
          },
          **{f'iobb@{t:g}': estimate(strength * (1 - t / 2)) for t in IOBBS},
          **{f'afp_iou@{t:g}': estimate(1 + t) for t in IOUS},
          **{f'false_iou@{t:g}': estimate(2 + t) for t in IOUS},
          **{f'afp_iobb@{t:g}': estimate(0.8 + t) for t in IOBBS},
          **{f'false_iobb@{t:g}': estimate(1.8 + t) for t in IOBBS},
          'mean_iou': estimate(strength * 0.4),
          'pointing': estimate(strength * 0.6),
          'energy': estimate(strength * 0.3),
          'map_auroc': estimate(0.5 + strength * 0.3),
        }
        for finding in ('mean', *boxed)
      }
      for rule in ('wang', 'otsu')
    }
  if 'Nodule' in boxed:
    methods['cam']['wang']['Nodule']['iou@0.7'] = undefined('no box')
  return {
    'map_size': {'cam': [8, 8], 'gradient': [64, 64]},
    'count': {finding: 20 - i for i, finding in enumerate(boxed)},
    'methods': methods,
  }


def measured(level, boxed=BOXED):
  of = lambda value, names: {f: estimate(value) for f in ('mean', *names)}
  return {
    'alignment': {'gradient': {'': of(level, boxed)}},
    'box_iou': {
      method: {
        'clean': of(level * 0.4, boxed),
        'pgd-10 2': of(level * 0.2, boxed)
        | ({'Nodule': undefined('no box')} if 'Nodule' in boxed else {}),
      }
      for method in ('cam', 'gradient')
    },
    'a_new_measure': {'': {'': {'mean': estimate(level / 2)}}},
  }


def write(
  workdir,
  *,
  name='baseline',
  level=0.8,
  seed=0,
  size=64,
  source='phantom',
  image_name='{:08d}_000.png',
  parts=('config', 'data', 'train', 'metrics', 'boxes', 'examples'),
  findings=FINDINGS,
  boxed=BOXED,
):
  """Writes the files a run leaves, or only the `parts` named."""
  os.makedirs(workdir, exist_ok=True)
  rng = np.random.default_rng(seed)
  films = np.random.default_rng(99)  # the same in every run

  def dump(file, value):
    with open(os.path.join(workdir, file), 'w') as f:
      json.dump(value, f)

  counts = {
    split: {
      'images': images,
      'patients': images // 3,
      'positives': {f: images // (i + 3) for i, f in enumerate(findings)},
      'boxes': {
        f: 20 - i if split == 'test' else 0 for i, f in enumerate(boxed)
      },
      'sha256': f'{images:064x}',
    }
    for split, images in (
      ('train', 1200),
      ('validation', 120),
      ('test', 160),
      ('test_without_shortcut', 160),
    )
  }
  data = {
    'name': source,
    'findings': list(findings),
    'boxed': list(boxed),
    'splits': counts,
    'left_out': {'absent': 7, 'undecodable': 0},
  }
  if 'config' in parts:
    dump(
      'config.json',
      {
        'name': name,
        'seed': seed,
        'attack': {'epsilon': 2.0, 'objective': 'none'},
        'evaluate': {'epsilons': [0.5, 1.0, 2.0, 4.0]},
      },
    )
  if 'data' in parts:
    dump('data.json', data)
  if 'train' in parts:
    with open(os.path.join(workdir, 'train.jsonl'), 'w') as f:
      for step in range(0, 500, 10):
        row = {
          'step': step,
          'epoch': step / 100,
          'train/loss': 0.7 * np.exp(-step / 200) + 0.1 * rng.random(),
          'films_per_second': 300 + 20 * rng.random(),
        }
        if step % 100 == 0:
          row['val/auroc'] = level - 0.3 * np.exp(-step / 150)
          row['val/robust_auroc'] = 0.6 * level - 0.2 * np.exp(-step / 150)
        f.write(json.dumps(row) + '\n')
      f.write('{"step": 5')  # killed while writing
  if 'metrics' in parts:
    dump(
      'metrics.json',
      {
        'data': data,
        'versions': {'jax': '0.10.2', 'python': '3.11.4'},
        'step': 500,
        'classification': {
          'validation': {'auroc': auroc(level, findings)},
          'test': {
            'auroc': auroc(level, findings),
            'average_precision': auroc(level - 0.4, findings),
          },
          'test_without_shortcut': {'auroc': auroc(level - 0.1, findings)},
        },
        'robustness': [
          {
            'attack': attack,
            'norm': 'linf',
            'epsilon': epsilon,
            'auroc': auroc(level * np.exp(-epsilon / scale), findings),
            'clean': estimate(level),
            'change': estimate(level * (np.exp(-epsilon / scale) - 1)),
            'unmoved': 0,
            'audit': {
              'max_perturbation': epsilon / 255,
              'nan': 0,
              'min': 0.0,
              'max': 1.0,
            },
          }
          for attack, scale in (('pgd-10-alone', 1), ('pgd-10', 2))
          for epsilon in (0.5, 1.0, 2.0, 4.0)
        ],
        'calibration': calibrated(findings),
        'localization': localized(rng, level, boxed),
        'measures': measured(level, boxed),
        'attack_checks': [
          {
            'name': name,
            'raised': raised,
            'value': value,
            'low': None if value is None else value / 2,
            'high': None if value is None else 2 * value,
            'count': None if value is None else round(64 * value),
            'limit': 0.05,
            'why': f'{name} is why.',
            'attack': attack,
            'epsilon': 2.0 if attack else 0.0,
            'images': 64,
          }
          for name, raised, value, attack in (
            ('zero_gradient', False, 0.01, ''),
            ('black_box_wins', True, 0.25, 'pgd-100'),
            ('not_converged', False, None, 'pgd-10'),
          )
        ],
      },
    )
  cases = []
  for i, finding in enumerate(boxed):
    for j, kind in enumerate(('best', 'median', 'worst', 'typical')):
      top, left = films.uniform(0.15, 0.5, 2)
      box = np.array([top, left, top + 0.25, left + 0.2])
      cases.append((image_name.format(10 * i + j), finding, kind, box))
  pictures = [film(films, size) for _ in cases]
  maps = {
    'cam': [enlarged(blob(rng, 8, c[3], level), (size, size)) for c in cases],
    'gradient': [np.abs(blob(rng, size, c[3], level)) for c in cases],
  }
  if 'examples' in parts:
    np.savez_compressed(
      os.path.join(workdir, 'examples.npz'),
      image=np.stack(pictures),
      name=np.array([c[0] for c in cases]),
      finding=np.array([c[1] for c in cases]),
      kind=np.array([c[2] for c in cases]),
      probability=rng.random(len(cases)),
      truth=np.stack([c[3] for c in cases]),
      **{f'map_{m}': np.stack(v).astype(np.float32) for m, v in maps.items()},
      donor=np.array([c[0] for c in cases[::-1]]),
      donor_map_cam=np.stack(maps['cam'][::-1]).astype(np.float32),
    )
  if 'boxes' in parts:
    rows = [
      dict.fromkeys(scoring.SCORES, 0.5)
      | {
        'split': 'test',
        'image': image,
        'patient': 1,
        'finding': finding,
        'method': method,
        'rule': 'wang',
        'truth': box,
        'boxes': [(box + rng.normal(0, 0.05)).clip(0, 1)],
      }
      for image, finding, _, box in cases
      for method in METHODS[1:]
    ]
    stored_rows.write_boxes(
      os.path.join(workdir, 'boxes.csv'), made_rows.make_boxes(rows)
    )
  return str(workdir)


def comparison(workdirs, names):
  """The dict that paired_summary.compare makes, from the runs' own metrics."""
  metrics = []
  for workdir in workdirs:
    with open(os.path.join(workdir, 'metrics.json')) as f:
      metrics.append(json.load(f))

  def less(other, first):
    if other['value'] is None or first['value'] is None:
      return undefined() | {'p': None, 'p_holm': None}
    difference = estimate(other['value'] - first['value'], width=0.03)
    return difference | {'p': 0.0123, 'p_holm': 0.0984}

  def pair(figures):
    differences = [less(other, figures[0]) for other in figures[1:]]
    entry = {'runs': figures, 'difference': differences[0]}
    return entry | ({'differences': differences} if len(figures) > 2 else {})

  def leaves(*path):
    tables = []
    for m in metrics:
      for key in path:
        m = m[key]
      tables.append(m)
    return {f: pair([t[f] for t in tables]) for f in tables[0]}

  methods = metrics[0]['localization']['methods']
  measures = metrics[0]['measures']
  return {
    'runs': list(names),
    'classification': {
      split: {'auroc': leaves('classification', split, 'auroc')}
      for split in metrics[0]['classification']
    },
    'robustness': [
      {
        key: metrics[0]['robustness'][i][key]
        for key in ('attack', 'norm', 'epsilon')
      }
      | {'auroc': leaves('robustness', i, 'auroc')}
      for i in range(len(metrics[0]['robustness']))
    ],
    'localization': {
      method: {
        rule: {
          score: {
            finding: pair(
              [
                m['localization']['methods'][method][rule][finding][score]
                for m in metrics
              ]
            )
            for finding in findings
          }
          for score in findings['mean']
        }
        for rule, findings in rules.items()
      }
      for method, rules in methods.items()
    },
    'measures': {
      measure: {
        method: {
          condition: leaves('measures', measure, method, condition)
          for condition in conditions
        }
        for method, conditions in of_measure.items()
      }
      for measure, of_measure in measures.items()
    },
  }
