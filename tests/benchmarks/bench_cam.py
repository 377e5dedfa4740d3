r"""What the drawing of a class activation map has to do with what it finds.

  python -m tests.benchmarks.bench_cam \
    --workdirs='runs/study/phantom_baseline_[0-2]'

The maps of one network, drawn in several ways, and scored on the boxed test
films by the scores and controls of an evaluation. The network is the same in
all, so that only the drawing is compared:

  as it is: the class weights at every cell; boxes by Wang's levels
  without border: the outermost cells, which see the padding, are the lowest
  beyond the film: the network sees the film mirrored for 32 pixels on every
    side, so that no cell of the film is near to the padding
  body alone: cells beside the body are the lowest
  with bias: the positive part of what a cell adds to the logit, bias included
  shared range: Wang's levels, of the range of all maps of the finding

and boxes by the other rules. Prints the mean of the runs, which must be
repetitions of one training, with 95 % intervals over patients and seeds, and
each drawing less 'as it is', paired. A minute for a run on a core; the results
stand in docs/results_phantom.md and docs/results_nih.md.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from absl import app, flags
from jaxtyping import Bool, Float

from cxr import data, heatmaps, inference, run_files, stored_rows
from cxr.attribution import cam
from cxr.comparison import runs
from cxr.estimates import box_estimates
from cxr.evaluation import evaluate
from cxr.localization import thresholds
from cxr.reporting import wording
from cxr.scored_maps import map_controls, map_rows
from cxr.statistics import intervals, ratios

_WORKDIRS = flags.DEFINE_string(
  'workdirs', None, 'Runs, by commas or patterns.'
)

PLAIN = 'as it is'
SHARED = 'shared range'
RULES = ('fixed', 'percentile', 'otsu', 'tuned')
SCORES = ('iou@0.3', 'pointing', 'map_ap', 'afp_iou@0.3')
MARGIN = 32  # pixels of a mirrored film; a multiple of every stride
DARK = 0.2  # of the range: what lies beside the body is darker


def body(image: Float[np.ndarray, 'h w']) -> Bool[np.ndarray, 'h w']:
  """All pixels but the dark ones that reach the film's border."""
  dark, _ = scipy.ndimage.label(scipy.ndimage.gaussian_filter(image, 1) < DARK)
  border = (dark[0], dark[-1], dark[:, 0], dark[:, -1])
  return ~(np.isin(dark, np.unique(np.concatenate(border))) & (dark > 0))


def lower(
  cells: Float[np.ndarray, 'n u v k'], where: Bool[np.ndarray, '...']
) -> Float[np.ndarray, 'n u v k']:
  """The cells, the lowest of each map standing at the places `where`."""
  return np.where(where, cells.min((1, 2), keepdims=True), cells)


def drawings(
  subject: inference.Subject, films: data.BoxedFilms
) -> dict[str, Float[np.ndarray, 'n h w k']]:
  """The films' maps by the name of the drawing."""
  grid = heatmaps.grids(subject)['cam']
  head = subject.model.head(subject.variables['params'])
  kernel, bias = (x[..., subject.mapped_columns] for x in head)
  margin = MARGIN // int(grid.stride)

  def cells_of(beside):
    @jax.jit
    def of_batch(variables, _, image):
      sides = ((0, 0), (beside, beside), (beside, beside), (0, 0))
      image = jnp.pad(data.to_unit(image), sides, mode='symmetric')
      _, endpoints = subject.model.apply(variables, image)
      return cam.cam(endpoints['features'], kernel)

    return heatmaps.compute_maps(subject, of_batch, films.row)

  plain = cells_of(0)
  inner = slice(margin, -margin)
  image = subject.test.image[films.row][..., 0] / 255
  at = (grid.offset + grid.stride * np.arange(grid.rows)).astype(int)
  beside = ~np.stack([body(film)[np.ix_(at, at)] for film in image])
  border = np.ones(plain.shape[1:3], bool)
  border[1:-1, 1:-1] = False
  cells = {
    PLAIN: plain,
    'without border': lower(plain, border[..., None]),
    'beyond the film': cells_of(MARGIN)[:, inner, inner],
    'body alone': lower(plain, beside[..., None]),
    'with bias': np.maximum(plain + np.asarray(bias), 0),
  }
  rows, across = grid.weights(subject.config.data.image_size)
  return {
    name: np.einsum('hu,nuvk,wv->nhwk', rows, of_cells, across, optimize=True)
    for name, of_cells in cells.items()
  }


def shared_levels(maps: Float[np.ndarray, 'n h w']) -> Callable:
  """The rule that cuts all maps of a finding at the same two levels."""
  levels = thresholds.wang_levels(maps.reshape(1, -1))
  return lambda heatmap: levels


def score(
  subject: inference.Subject, films: data.BoxedFilms
) -> dict[str, dict[str, stored_rows.Boxes]]:
  """Drawing or rule -> 'own', 'another' and 'less' -> its rows."""
  beside = map_controls.unboxed_donors(subject.test, films)
  if len(beside.row):
    raise ValueError('The boxed films alone must have maps of other patients.')
  seed = subject.config.seed
  rows = {}
  for name, maps in drawings(subject, films).items():
    # A rule of its own for each finding: see `shared_levels`.
    plain = name == PLAIN
    rules = ('wang', *((*RULES, SHARED) if plain else ()))
    own, another = [], []
    for k in range(len(films.findings)):
      of_finding = np.ascontiguousarray(maps[..., k])
      thresholds.RULES[SHARED] = shared_levels(of_finding)
      seen = map_controls.of_finding(films, k)
      donors = map_controls.draw_donors(films, k, seed, beside)
      control = name + wording.ANOTHER_PATIENT
      own.append(map_rows.score(of_finding, seen, name, rules))
      another.append(
        map_rows.score_donors(of_finding, seen, control, rules, donors)
      )
    tables = [stored_rows.concatenate_boxes(t) for t in (own, another)]
    for rule in rules:
      pair = [table.where(rule=rule) for table in tables]
      rows[name if rule == 'wang' else rule] = {
        'own': pair[0],
        'another': pair[1],
        'less': box_estimates.less_another(*pair),
      }
  return rows


def sample(rows: stored_rows.Boxes) -> intervals.Sampled:
  """The mean over findings of each of SCORES."""
  of_rows = box_estimates.ratios_of(rows)
  sampled = ratios.sample(of_rows, rows.patient)
  names = box_estimates.score_names()
  chosen = [sampled[names.index(name)].take(slice(0, 1)) for name in SCORES]
  return intervals.Sampled(
    *(
      np.concatenate(x, axis=-1)
      for x in zip(*(c[:3] for c in chosen), strict=True)
    ),
    chosen[0].num_patients,
  )


def estimate(groups: Sequence[Sequence[intervals.Sampled]]) -> list[str]:
  """Of each score the group's mean, or the second's less the first's."""
  signs = (-1, 1)[-len(groups) :]
  value = sum(
    sign * np.mean([run.values for run in group], axis=0)
    for sign, group in zip(signs, groups, strict=True)
  )
  spread = intervals.over_seeds(groups, signs=signs)
  low, high = intervals.student_interval(
    value, spread, num_patients=groups[0][0].num_patients
  )
  sign = '+' if len(groups) > 1 else ''
  return [
    f'{v:{sign}.3f} ({a:{sign}.3f} to {b:{sign}.3f})'
    for v, a, b in zip(value, low, high, strict=True)
  ]


def main(argv):
  del argv
  sampled = {}
  workdirs = runs.find(_WORKDIRS.value.split(','))
  for workdir in workdirs:
    print('Reading', workdir, flush=True)
    config = run_files.read_config(workdir)
    config.evaluate.methods = ('cam',)
    subject, _ = evaluate.open_subject(config, workdir, ('test',))
    films = data.boxed_films(subject.test)
    for name, kinds in score(subject, films).items():
      for kind, rows in kinds.items():
        sampled.setdefault((name, kind), []).append(sample(rows))
  patients = len(np.unique(films.patient))
  print(f'{len(workdirs)} runs, {len(films.row)} films, {patients} patients')
  print('|', ' | '.join(('drawing or rule', '', *SCORES)), '|')
  print('|---' * (2 + len(SCORES)) + '|')
  for (name, kind), group in sampled.items():
    print('|', ' | '.join((name, kind, *estimate([group]))), '|')
    if name != PLAIN:
      pair = estimate([sampled[PLAIN, kind], group])
      print('|', ' | '.join((name, f'{kind}, minus as it is', *pair)), '|')


if __name__ == '__main__':
  flags.mark_flag_as_required('workdirs')
  app.run(main)
