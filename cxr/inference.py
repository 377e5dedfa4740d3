"""A trained model over films: predictions batch by batch, on every device."""

import collections
import concurrent.futures
import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from cxr import (
  checkpoint,
  data,
  platforms,
  run_files,
  sharding,
  train_state,
)
from cxr.attacks import batched
from cxr.models import architectures, torch_weights
from cxr.shipped import networks
from input_pipeline import pipeline


class Subject(NamedTuple):
  """A model and the films that it is shown.

  Whatever predicts, attacks or measures takes this one object.
  """

  config: ConfigDict
  model: nn.Module
  variables: Any  # replicated over `mesh`
  mesh: jax.sharding.Mesh
  splits: Mapping[str, pipeline.Split]
  # Logits and labels 'n k' of the validation films, where these themselves are
  # not among the splits.
  validated: tuple[np.ndarray, np.ndarray] | None = None
  # By method, where they were made already: the maps 'p h w' of the boxed test
  # films, for each film and finding with a true box in the order of
  # np.nonzero(data.boxed_films(test).boxed). They are of these variables.
  boxed_maps: Mapping[str, np.ndarray] = MappingProxyType({})

  @property
  def test(self) -> pipeline.Split:
    return self.splits['test']

  @property
  def findings(self) -> tuple[str, ...]:
    """The names of the logits."""
    return next(iter(self.splits.values())).findings

  @property
  def mapped(self) -> tuple[str, ...]:
    """The findings whose maps are made: those that have true boxes in this data
    set, or all findings of a set without boxes."""
    return next(iter(self.splits.values())).boxed or self.findings

  @property
  def mapped_columns(self) -> Int[np.ndarray, ' k']:
    """Of each mapped finding the column of its logit and label."""
    return data.columns_of(self.mapped, self.findings)

  def batch_size(self, num_films: int) -> int:
    """The films of a batch where there are `num_films` in all.

    config.evaluate.batch_size, or for fewer films the next power of two: a
    program is compiled for one size of batch, and the parts of an evaluation,
    which look at 15, 18 or 25 films, then share it. The mesh divides it.
    """
    enough = 1 << max(num_films - 1, 0).bit_length()
    size = min(self.config.evaluate.batch_size, enough)
    return sharding.round_up(self.mesh, size)

  def films(self, num_films: int) -> np.ndarray:
    """Indices of `num_films` test films, evenly spread; 0 asks for all."""
    return subset(self.test, num_films or len(self.test.label))

  def batches(
    self,
    index: np.ndarray,
    batch_size: int | None = None,
    split: str = 'test',
    label: np.ndarray | None = None,
  ) -> Iterator[tuple[slice, dict]]:
    """Batches of the films of an index into a split, in its order.

    `label` 'n k' stands in the place of the films' own labels, a row for each
    place of the index.

    Yields (part, batch): the batch lies on the mesh and holds the films
    index[part]; where these are too few it is filled up with the last of them.
    Of anything computed for the batch, the first part.stop - part.start belong
    to these films. (No mask has to come back from the devices for this.)
    """
    batch_size = batch_size or self.batch_size(len(index))
    batches = pipeline.eval_batches(
      self.splits[split], batch_size=batch_size, index=index, **data.share()
    )
    for k, batch in enumerate(batches):
      del batch['mask']  # it is what `part` says
      row = batch.pop('row')
      if label is not None:
        batch['label'] = label[row]
      part = slice(k * batch_size, min((k + 1) * batch_size, len(index)))
      yield part, sharding.shard(self.mesh, batch)


def validated(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
  """Logits and labels 'n k' of the films that operating points come from."""
  if subject.validated is not None:
    return subject.validated
  label = subject.splits['validation'].label
  return predict_split(subject, 'validation'), label


def subset(split: pipeline.Split, num_films: int) -> np.ndarray:
  """Indices of at most `num_films` films, evenly spread over the split."""
  return evenly_spread(len(split.label), num_films)


def evenly_spread(n: int, count: int) -> np.ndarray:
  """At most `count` of the indices 0 to n - 1, evenly spread."""
  return np.unique(np.linspace(0, n - 1, min(count, n)).astype(np.int64))


def computed(
  mesh: jax.sharding.Mesh,
  compute: Callable[[Any], Any],
  batches: Iterable[tuple[slice, Any]],
) -> Iterator[tuple[slice, Any]]:
  """Computes something of every batch and brings it to the host.

  The devices have further batches while the host waits for a result. One CPU
  works at two of them at once: there, what one thread dispatches is computed
  one program after the other, and a program alone leaves cores idle.

  Args:
    mesh: the devices.
    compute: (batch) -> arrays with a leading axis of films, on the devices.
    batches: (part, batch), as `Subject.batches` has them; a batch may have more
      films than the part.

  Yields:
    (part, its arrays), in the order of the batches.
  """
  with contextlib.ExitStack() as stack:
    threads = []
    # On several devices the programs would meet in another order on each.
    if platforms.of(mesh).host_loops and mesh.size == 1:
      threads = [
        stack.enter_context(concurrent.futures.ThreadPoolExecutor(1))
        for _ in range(_AT_ONCE)
      ]
    waiting = collections.deque()
    for i, (part, batch) in enumerate(batches):
      if threads:
        dispatched = threads[i % _AT_ONCE].submit(compute, batch)
        if i == 0:
          # Else both threads would trace and compile what is new.
          dispatched.result()
      else:
        dispatched = concurrent.futures.Future()
        dispatched.set_result(compute(batch))
      waiting.append((part, dispatched))
      if len(waiting) > max(len(threads), 1):
        yield _fetched(*waiting.popleft())
    while waiting:
      yield _fetched(*waiting.popleft())


_AT_ONCE = 2  # batches, on a CPU


def _fetched(
  part: slice, dispatched: concurrent.futures.Future
) -> tuple[slice, Any]:
  """The arrays of the part's own films, on the host."""
  count = part.stop - part.start
  arrays = dispatched.result()
  return part, jax.tree.map(lambda x: sharding.to_host(x)[:count], arrays)


# A model and a mesh have one program, whoever asks for it.
@functools.lru_cache(maxsize=8)
def make_predict(model: nn.Module, mesh: jax.sharding.Mesh) -> Callable:
  """Returns predict(variables, image 'b h w 1') -> logits 'b k'.

  The image is uint8, or float in [0, 1]; every device gets all logits.
  """

  def predict(variables, image):
    return model.apply(variables, data.to_unit(image))[0]

  return jax.jit(predict, out_shardings=sharding.replicated(mesh))


# As with `make_predict`: training and evaluation attack by one program.
@functools.lru_cache(maxsize=8)
def make_attack(
  model: nn.Module,
  mesh: jax.sharding.Mesh,
  loss_fn: batched.LossFn,
  options: batched.Options,
) -> batched.Attack:
  """The attack on a model's logits; not to be jitted."""
  return batched.make_compiled_attack(
    lambda variables, image: model.apply(variables, image)[0],
    loss_fn,
    options,
    from_host=platforms.of(mesh).host_loops,
  )


def predict_split(
  subject: Subject,
  split: str = 'test',
  *,
  index: np.ndarray | None = None,
  label: np.ndarray | None = None,
  attack: Callable | None = None,
  batch_size: int | None = None,
) -> np.ndarray:
  """Predicts the films of a split.

  Args:
    subject: the model and its splits.
    split: the name of one of them.
    index: which of its films; None for each of them once.
    label: what the attack takes for the labels 'n k' of these films; None for
      their own.
    attack: (variables, index 'b', image, label) -> image, which the model is
      shown in the place of the film; see `by_index`.
    batch_size: by default `Subject.batch_size`.

  Returns:
    Logits 'n k', float32, in the order of the index.
  """
  if index is None:
    index = np.arange(len(subject.splits[split].label))
  batches = lambda: subject.batches(np.asarray(index), batch_size, split, label)
  (logits,) = predict_each(subject, [attack], batches)
  return logits


def predict_each(
  subject: Subject,
  attacks: Sequence[Callable | None],
  batches: Callable[[], Iterable[tuple[slice, dict]]],
) -> Float[np.ndarray, 'a n k']:
  """Logits of the same films under each attack, of `None` as they are.

  Args:
    subject: the model.
    attacks: as `predict_split` takes one.
    batches: () -> the films, as `Subject.batches` has them.
  """
  predict = make_predict(subject.model, subject.mesh)

  def of_films(work):
    attack, batch = work
    image = batch['image']
    if attack is not None:
      image = attack(subject.variables, batch['index'], image, batch['label'])
    return predict(subject.variables, image)

  work = (
    (part, (attack, batch)) for attack in attacks for part, batch in batches()
  )
  logits = [of_batch for _, of_batch in computed(subject.mesh, of_films, work)]
  columns = next(iter(subject.splits.values())).label.shape[1]
  return np.reshape(
    np.concatenate([np.zeros((0, columns), np.float32), *logits]),
    (len(attacks), -1, columns),
  )


def by_index(attack: Callable, key: jax.Array, **options) -> Callable:
  """Makes an attack's random draws a function of the film's index.

  So a film is attacked alike in whatever batch and on whatever device it is.

  Returns:
    (variables, index 'b', image, label) -> image.
  """

  def attack_by_index(variables, index, image, label):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
    return attack(variables, keys, data.to_unit(image), label, **options)

  return attack_by_index


def load_model(
  workdir: str,
  config: ConfigDict | None = None,
  forms: platforms.Forms = platforms.ANY,
) -> tuple[ConfigDict, nn.Module, Any, int]:
  """Reads a trained model: (config, model, variables, step).

  Args:
    workdir: of the run, or a folder that --mode=export wrote.
    config: by default the one that is stored there. Its evaluate.checkpoint
      and evaluate.batch_stats say which weights and statistics are read.
    forms: of the model's computations, by default those that run anywhere.

  Raises:
    FileNotFoundError: the workdir has no run or no checkpoint.
    ValueError: the checkpoint is damaged or of another model.
  """
  config = config or run_files.read_config(workdir)
  findings = run_files.read_findings(workdir)
  model = architectures.make_model(config.model, len(findings), forms)
  if run_files.is_exported(workdir):
    return config, model, *_read_exported(workdir, config, model, findings)
  checkpoints = checkpoint.open_folder(workdir, config, findings)
  step = checkpoint.step_of(checkpoints, config.evaluate.checkpoint)
  if step is None:
    raise FileNotFoundError(
      f'No checkpoint in {workdir}; run --mode=train first.'
    )
  state = checkpoint.read(checkpoints, step)
  checkpoints.saver.close()
  variables = train_state.variables(
    state, batch_stats=config.evaluate.batch_stats
  )
  return config, model, variables, step


def _read_exported(
  workdir: str, config: ConfigDict, model: nn.Module, findings: Sequence[str]
) -> tuple[Any, int]:
  """(variables, step) of a folder that --mode=export wrote."""
  stored = run_files.read_config(workdir)
  for field in ('checkpoint', 'batch_stats'):
    held, asked = stored.evaluate[field], config.evaluate[field]
    if asked != held:
      raise ValueError(
        f'config.evaluate.{field} is {asked!r}, and {workdir} holds the '
        f'weights of {held!r} alone; export the run with the other.'
      )
  size = config.data.image_size
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, size, size, 1))
  )
  (device,) = jax.local_devices()[:1]
  path = os.path.join(workdir, networks.WEIGHTS)
  variables, report = torch_weights.init_from(
    path,
    # Put there as they are: jnp.zeros compiles a program for every shape.
    jax.device_put(
      jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes), device
    ),
    config.model,
    findings=findings,
  )
  if report['random_head']:
    raise ValueError(
      f'{path} has no output for {", ".join(report["random_head"])}; export '
      'the run again.'
    )
  described = run_files.read(workdir, 'config.json', 'step')
  return variables, described['step']
