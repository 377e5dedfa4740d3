"""The films of a config: their folder, their splits, and batches of them."""

import collections
import contextlib
import hashlib
import json
import os
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Bool, Float, Int
from ml_collections import ConfigDict

from cxr import files, run_files, sharding
from cxr.localization import overlap, regions, scoring
from input_pipeline import findings as findings_lib
from input_pipeline import pipeline, prepared, records
from input_pipeline.phantom import write
from input_pipeline.sources import film_table


def folder(config: ConfigDict) -> str:
  """The folder of the films; a phantom is drawn if absent.

  Raises:
    ValueError: config.data.dir is empty, and the films are not drawn ones.
    FileNotFoundError: there is no such folder.
  """
  source = config.data.source
  path = config.data.dir
  if source == 'phantom':
    spec = config.data.phantom.to_dict() | {
      'image_size': config.data.image_size
    }
    if not path:
      digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode())
      path = files.find(
        os.path.join('data', f'phantom-{digest.hexdigest()[:8]}')
      )
    if not os.path.isdir(path) and jax.process_index() == 0:
      logging.info('Drawing %d phantom films into %s', spec['num_films'], path)
      write.write_phantom(path, workers=config.data.workers, **spec)
    sharding.wait_for_all('phantom')
  if not path:
    raise ValueError(
      'config.data.dir is empty; give the folder of the films: '
      '--config.data.dir=/path/to/ChestX-ray14 (or of another layout, with '
      '--config.data.source).'
    )
  if not os.path.isdir(path):
    raise FileNotFoundError(
      f'config.data.dir ({path}) is not a folder; give the one that holds '
      'the tables and the images.'
    )
  return path


def load(
  config: ConfigDict, needed: Sequence[str] = film_table.SPLITS
) -> Mapping[str, pipeline.Split]:
  """Loads every split of the films; they are decoded and stored at first use.

  Raises:
    FileNotFoundError: there is no such folder, or a table is absent.
    ValueError: a table cannot be understood, or one of the splits `needed` has
      no film.
  """
  source = config.data.source
  splits = pipeline.load(
    folder(config),
    image_size=config.data.image_size,
    prepared_dir=config.data.prepared_dir,
    validation_fraction=config.data.validation_fraction,
    seed=config.data.split_seed,
    workers=config.data.workers,
    cache='memory' if config.data.cache == 'device' else config.data.cache,
    source=source,
    findings=config.data.findings,
    synonyms=config.data.synonyms,
    uncertain=config.data.uncertain,
    unmentioned=config.data.unmentioned,
    test_fraction=config.data.test_fraction,
  )
  _check_names(next(iter(splits.values())).findings)
  ways = {
    'train': 'lower config.data.validation_fraction'
    if source in ('nih', 'phantom')
    else 'lower config.data.validation_fraction, or config.data.test_fraction '
    'where the tables name no split',
    'validation': 'raise config.data.validation_fraction',
    'test': 'see test_list.txt'
    if source in ('nih', 'phantom')
    else 'raise config.data.test_fraction where the tables name no split',
  }
  for name in needed:
    if name not in splits:
      counts = ', '.join(f'{n} {len(s.label)}' for n, s in splits.items())
      left_out = sum(splits.left_out.values())
      raise ValueError(
        f'No {name} film is there (films: {counts}; left out: {left_out}); '
        f'{ways[name]}, change config.data.split_seed '
        f'({config.data.split_seed}) or '
        'add films.'
      )
  return splits


def without(
  split: pipeline.Split, left_out: Bool[np.ndarray, ' n']
) -> pipeline.Split:
  """The split without the films that are marked."""
  kept = np.flatnonzero(~left_out)
  new_of = np.full(len(left_out), -1)
  new_of[kept] = np.arange(len(kept))
  box, mask = new_of[split.box_image] >= 0, new_of[split.mask_image] >= 0
  by_film = {
    field: getattr(split, field)[kept]
    for field in ('label', 'image_name', 'patient', 'view', 'age')
  }
  by_film |= {
    field: getattr(split, field)[kept]
    for field in ('sex', 'patient_name', 'frame')
    if len(getattr(split, field))
  }
  text = f'{split.content} {kept.tolist()}'
  on_disk = isinstance(split.image, records.Films)
  return split._replace(
    **by_film,
    image=split.image.take(kept) if on_disk else split.image[kept],
    content=hashlib.sha256(text.encode()).hexdigest(),
    reader=split.reader[:, kept] if split.reader_names else split.reader,
    box=split.box[box],
    box_image=new_of[split.box_image[box]],
    box_finding=split.box_finding[box],
    mask=split.mask[mask],
    mask_image=new_of[split.mask_image[mask]],
    mask_finding=split.mask_finding[mask],
  )


def _check_names(findings: Sequence[str]) -> None:
  """Refuses a name that the tables of results give to something else."""
  for name in findings:
    if name in ('mean', '*') or not name.isprintable() or not name.strip():
      raise ValueError(
        f'A finding cannot be called {name!r}, which stands for something else '
        'in the tables of results; give it another name in the data set.'
      )


def check_same_films(
  workdir: str, splits: Mapping[str, pipeline.Split]
) -> None:
  """Raises ValueError where the workdir's run was trained on other films.

  The folder of the films may have moved, so config.data.dir is not compared.
  """
  path = os.path.join(workdir, 'data.json')
  if not os.path.exists(path):
    return
  known, found = run_files.read_findings(workdir), splits['train'].findings
  if known != found:
    raise ValueError(
      f'{workdir} holds a run on other findings ({", ".join(known)} there, '
      f'{", ".join(found)} here); choose another --workdir or the '
      'config.data.findings that it was trained with.'
    )
  stored = run_files.read(workdir, 'data.json', 'splits')['splits']
  for name in ('train', 'validation'):
    old, new = stored.get(name, {}), splits[name]
    if old.get('content_sha256', new.content) != new.content:
      raise ValueError(
        f'{workdir} holds a run on other {name} films ({old["images"]} '
        f'there, {len(new.label)} here); choose another --workdir or the '
        'config.data.dir that it was trained on.'
      )


def without_both_kinds(split: pipeline.Split) -> str:
  """Names the findings that lack positive or negative films; '' if none does.

  Films whose label is unknown are of neither kind.
  """
  positive, negative = ((split.label == x).any(axis=0) for x in (1, 0))
  lacking = []
  for kind, absent in (
    ('labelled', ~positive & ~negative),
    ('positive', ~positive & negative),
    ('negative', positive & ~negative),
  ):
    names = [n for n, a in zip(split.findings, absent, strict=True) if a]
    if names:
      lacking.append(f'no {kind} film of {", ".join(names)}')
  return ' and '.join(lacking)


def check_both_kinds(config: ConfigDict, split: pipeline.Split) -> None:
  """Refuses to train on a finding that all or none of the films have.

  A part of NIH's release, and a small phantom, may lack a rare one of their
  fourteen findings: there it is a warning.

  Raises:
    ValueError: such a finding was asked for.
  """
  lacking = without_both_kinds(split)
  if not lacking:
    return
  label = split.label
  both = (label == 1).any(axis=0) & (label == 0).any(axis=0)
  learnable = [n for n, b in zip(split.findings, both, strict=True) if b]
  sentence = f'The {len(label)} {split.name} films of {folder(config)} have '
  sentence += f'{lacking}, so that nothing can be learned of it'
  if config.data.source in ('nih', 'phantom'):
    logging.warning('%s.', sentence)
    return
  way = 'add films of both kinds'
  if learnable:
    names = ''.join(f'{name!r}, ' for name in learnable).strip()
    way += f' or learn the others alone: --config.data.findings="({names})"'
  raise ValueError(f'{sentence}; {way}.')


def with_findings(
  splits: Mapping[str, pipeline.Split],
  findings: Sequence[str],
  synonyms: Mapping[str, str] = findings_lib.SYNONYMS,
) -> Mapping[str, pipeline.Split]:
  """The splits with the findings of a run as their columns, in its order.

  Names are matched by their meaning. The label of a finding that the data set
  does not name is unknown on every film. Findings that the run does not know
  are left out, and their boxes with them. Both kinds are named in the log.

  Raises:
    ValueError: the run and the data set share no finding.
  """
  named = next(iter(splits.values())).findings
  if tuple(named) == tuple(findings):
    return splits
  matched = findings_lib.match(findings, named, synonyms)
  if not matched.pairs:
    raise ValueError(
      f'The run knows {", ".join(findings)}, and the films are labelled with '
      f'{", ".join(named)}: they share no finding. If a name means the same as '
      'another, say so in a csv with the columns name and finding '
      '(--config.data.synonyms).'
    )
  for names, text in (
    (matched.only_ours, 'The films have no labels of'),
    (matched.only_theirs, 'The run does not know'),
  ):
    if names:
      logging.warning('%s %s: not scored.', text, ', '.join(names))
  aligned = {
    name: _with_columns(split, findings, matched.pairs)
    for name, split in splits.items()
  }
  if isinstance(splits, pipeline.Splits):
    aligned, left_out = pipeline.Splits(aligned), splits.left_out
    aligned.left_out = left_out
  return aligned


def _with_columns(
  split: pipeline.Split,
  findings: Sequence[str],
  pairs: Sequence[tuple[int, int]],
) -> pipeline.Split:
  """The split with other columns; `pairs`: (new column, the one it was)."""
  label, reader = (
    np.full((*old.shape[:-1], len(findings)), np.nan, np.float32)
    for old in (split.label, split.reader)
  )
  new_of = np.full(len(split.findings), -1)
  for new, old in pairs:
    label[:, new] = split.label[:, old]
    if split.reader_names:
      reader[..., new] = split.reader[..., old]
    new_of[old] = new
  box_finding = new_of[split.box_finding]
  mask_finding = new_of[split.mask_finding]
  box, mask = box_finding >= 0, mask_finding >= 0
  boxed = {new for new, old in pairs if split.findings[old] in split.boxed}
  # The labels are others, and what is stored of them must be made anew.
  text = f'{split.content} {tuple(findings)} {tuple(pairs)}'
  return split._replace(
    content=hashlib.sha256(text.encode()).hexdigest(),
    label=label,
    reader=reader,
    box=split.box[box],
    box_image=split.box_image[box],
    box_finding=box_finding[box],
    mask=split.mask[mask],
    mask_image=split.mask_image[mask],
    mask_finding=mask_finding[mask],
    findings=tuple(findings),
    boxed=tuple(findings[k] for k in sorted(boxed)),
  )


def summary(config: ConfigDict, splits: Mapping[str, pipeline.Split]) -> dict:
  """Findings, counts and hashes of the splits, and the name of their source."""
  split = next(iter(splits.values()))
  return {
    'name': config.data.source,
    'findings': list(split.findings),
    'boxed': list(split.boxed),
    **pipeline.summary(splits),
  }


def write_summary(
  workdir: str, config: ConfigDict, splits: Mapping[str, pipeline.Split]
) -> None:
  """Writes data.json, the record of what the weights learn from."""
  if jax.process_index() == 0:
    described = summary(config, splits)
    files.write_json(os.path.join(workdir, 'data.json'), described, indent=2)


def share() -> dict[str, int]:
  """Says which part of each batch this process reads: arguments of the
  pipeline's batches."""
  return {
    'process_index': jax.process_index(),
    'process_count': jax.process_count(),
  }


def to_unit(image):
  """An image as float32 in [0, 1]: uint8 is divided by 255, floats stay."""
  if image.dtype == jnp.uint8:
    return image.astype(jnp.float32) / 255
  return image


def on_device(
  split: pipeline.Split, mesh: jax.sharding.Mesh
) -> dict[str, jax.Array]:
  """Lays the films and labels of a split over the devices' memory; see
  `take`."""
  # The last film is repeated so that the devices' shares are equal.
  n = len(split.label)
  index = list(range(n)) + [n - 1] * (-n % mesh.size)

  def put(array):
    return jax.make_array_from_callback(
      (len(index), *array.shape[1:]),
      sharding.over_data(mesh),
      lambda slices: array[index[slices[0]]],
    )

  return {'image': put(split.image), 'label': put(split.label)}


def take(batch: dict, films: dict) -> dict:
  """The batch with its films: those of batch['index'] out of `films`.

  Args:
    batch: has 'index', or 'image' and 'label' already.
    films: of `on_device`; {} where the batch has its films.
  """
  if not films:
    return batch
  index = batch['index']
  return {'image': films['image'][index], 'label': films['label'][index]}


def train_batches(
  config: ConfigDict,
  split: pipeline.Split,
  mesh: jax.sharding.Mesh,
  *,
  start_step: int,
) -> Iterator[dict[str, jax.Array]]:
  """Yields the training batches from `start_step` on, without end.

  They lie over the devices, and are the same whatever config.data.cache is;
  with 'device' they hold indices, for `take`. ('auto' is none of its values
  here; see caches.py.)
  """
  options = {
    'batch_size': config.train.batch_size,
    'seed': config.seed,
    'start_step': start_step,
  }
  if config.data.cache == 'device':
    for index in pipeline.index_batches(len(split.label), **options):
      part = index.reshape(jax.process_count(), -1)[jax.process_index()]
      yield sharding.shard(mesh, {'index': part})
  else:
    batches = pipeline.train_batches(split, **options, **share())
    with contextlib.closing(batches):
      for batch in batches:
        yield sharding.shard(
          mesh, {'image': batch['image'], 'label': batch['label']}
        )


class BoxedFilms(NamedTuple):
  """The films of a split that have a true region of at least one finding.

  A region is a box or a mask. Each mask is here as boxes as well: one around
  every 8-connected part of it, where no box of the finding was drawn on the
  film. They are the true boxes of scores of boxes.
  """

  findings: tuple[str, ...]  # the k findings that have boxes
  row: Int[np.ndarray, ' n']  # index in the split
  name: np.ndarray
  patient: Int[np.ndarray, ' n']
  label: Float[np.ndarray, 'n k']  # 0, 1 or NaN
  # t: the most true boxes that a film has of one finding; the rest is NaN.
  truth: Float[np.ndarray, 'n k t 4']
  frame: Int[np.ndarray, 'n 5']  # as that of a split; of every film
  # (film, finding) -> the union of the masks drawn there.
  masks: Mapping[tuple[int, int], scoring.Mask] = types.MappingProxyType({})

  @property
  def boxed(self) -> Bool[np.ndarray, 'n k']:
    """Whether the film has a true box of the finding."""
    return overlap.has_box(self.truth).any(axis=-1)

  def true_region(self, film: int, finding: int) -> scoring.Truth:
    """Its mask, or its true boxes where no mask was drawn."""
    mask = self.masks.get((film, finding))
    return self.truth[film, finding] if mask is None else mask


def boxed_films(
  split: pipeline.Split, rows: Int[np.ndarray, ' n'] | None = None
) -> BoxedFilms:
  """The split's films with a true region, in its order, with all of these.

  `rows`: of other films instead, in increasing order.
  """
  if rows is None:
    rows = np.union1d(split.box_image, split.mask_image)
  true_boxes = collections.defaultdict(list)  # by film and finding
  for m in np.flatnonzero(np.isin(split.box_image, rows)):
    film = int(np.searchsorted(rows, split.box_image[m]))
    true_boxes[film, int(split.box_finding[m])].append(split.box[m])
  masks = _masks_by_pair(split, rows)
  for pair, of_pair in masks.items():
    if pair not in true_boxes:
      true_boxes[pair] = list(regions.masks_to_boxes(of_pair))
  most = max([1, *map(len, true_boxes.values())])
  truth = np.full((len(rows), len(split.findings), most, 4), np.nan)
  for (film, finding), boxes in true_boxes.items():
    truth[film, finding, : len(boxes)] = boxes
  column = columns_of(split.boxed, split.findings)
  place = {k: i for i, k in enumerate(column.tolist())}
  return BoxedFilms(
    tuple(split.boxed),
    rows,
    split.image_name[rows],
    split.patient[rows],
    split.label[rows][:, column],
    truth[:, column],
    split.frame[rows]
    if len(split.frame)
    else np.tile(prepared.NIH_FRAME, (len(rows), 1)),
    {
      (i, place[k]): np.logical_or.reduce(of_pair)
      for (i, k), of_pair in masks.items()
    },
  )


def _masks_by_pair(split, rows) -> dict[tuple[int, int], list[scoring.Mask]]:
  """The masks of each film of `rows` and each finding, by their indices."""
  masks = {}
  for q in np.flatnonzero(np.isin(split.mask_image, rows)):
    film = int(np.searchsorted(rows, split.mask_image[q]))
    pair = film, int(split.mask_finding[q])
    masks.setdefault(pair, []).append(split.mask[q])
  return masks


def columns_of(
  names: Sequence[str], findings: Sequence[str]
) -> Int[np.ndarray, ' k']:
  """The column of each named finding, where `findings` names the columns."""
  return np.array([findings.index(name) for name in names], np.int64)
