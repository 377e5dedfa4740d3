"""Attacks on batches of films: a method, a model and a loss of its logits.

    options = batched.Options(epsilon=2/255, num_steps=7)
    attack = jax.jit(batched.make_attack(apply_fn, loss_fn, options))
    adversarial = attack(variables, key, image, label)

`apply_fn(variables, image 'b h w 1') -> logits 'b k'` is the model and
`loss_fn(logits 'k', label) -> scalar` is what the attack maximises, film by
film. An attack takes and returns images 'b h w 1'. The variables are frozen:
BatchNorm stands on its running statistics.

`key` is one typed key, split over the batch, or an array of b keys, one per
image: then an image's result does not depend on its batch. `label` is any
pytree with leading axis b; an image's entry goes to loss_fn. The last argument,
`epsilon`, is one number or one per image and may be traced: it replaces the
radius of the options and scales the step size with it.

`make_attack` makes a pure function, to be jitted by the caller.
`make_host_attack` makes one for callers outside of `jit` that drives the steps
from the host; `make_compiled_attack` makes either; `compile_steps` does of any
attack on a film.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cxr.attacks import apgd, ascent, pgd, square

METHODS = ('fgsm', 'pgd', 'apgd', 'square')
# (variables, key, image, label, epsilon=None) -> image
Attack = Callable[..., Float[Array, 'b h w 1']]
ApplyFn = Callable[
  [Any, Float[Array | np.ndarray, 'b h w 1']], Float[Array, 'b k']
]
LossFn = Callable[[Float[Array, ' k'], Any], ascent.Scalar]
# (variables, film 'h w', label, epsilon) -> the attack on this film
MakeSteps = Callable[[Any, Array, Any, Array], ascent.Steps]


@dataclasses.dataclass(frozen=True)
class Options:
  """A method and its strength.

  'fgsm' reads epsilon and norm; 'pgd' reads every option; 'apgd' num_steps,
  random_start and restarts beside them; 'square' num_steps (its queries) and
  restarts. What a method does not read has no effect.

  Attributes:
    epsilon: radius in [0, 1] pixels.
    method: a name of `METHODS`.
    norm: 'linf' or 'l2'.
    step_size: None for 2.5 epsilon / num_steps (Madry et al. 2018).
    num_steps, random_start, momentum, restarts, keep_best: see `pgd.pgd`.

  Raises:
    ValueError: for an unknown method or norm or a value out of its range.

  Examples:
    >>> Options(epsilon=0.1, num_steps=5).relative_step
    0.5
  """

  epsilon: float
  method: str = 'pgd'
  norm: str = 'linf'
  step_size: float | None = None
  num_steps: int = 10
  random_start: bool = True
  momentum: float = 0.0
  restarts: int = 1
  keep_best: bool = False

  def __post_init__(self):
    ascent.ball(self.norm)
    if self.method not in METHODS:
      raise ValueError(
        f'Unknown attack {self.method!r}; choose one of {", ".join(METHODS)}.'
      )
    for name, least in (
      ('epsilon', 0),
      ('step_size', 0),
      ('momentum', 0),
      ('num_steps', 1),
      ('restarts', 1),
    ):
      value = getattr(self, name)
      if value is not None and not value >= least:
        raise ValueError(f'{name} ({value}) of an attack must be >= {least}.')

  @property
  def relative_step(self) -> float:
    """The length of a step of PGD over the radius."""
    if self.step_size is None or not self.epsilon:
      return 2.5 / self.num_steps
    return self.step_size / self.epsilon

  @property
  def counts(self) -> dict[str, int]:
    """The steps per restart and the restarts that the method takes."""
    if self.method == 'fgsm':
      return {'num_steps': 1, 'restarts': 1}
    return {'num_steps': self.num_steps, 'restarts': self.restarts}


def make_attack(
  apply_fn: ApplyFn,
  loss_fn: LossFn,
  options: Options,
  *,
  unroll: bool = False,
) -> Attack:
  """Returns the attack as a pure function, to be jitted by the caller.

  `unroll`: few steps are written out, which is quicker on a CPU.

  Examples:
    >>> apply_fn = lambda variables, image: image.sum((1, 2))
    >>> loss_fn = lambda logits, label: label * logits.sum()
    >>> attack = jax.jit(make_attack(apply_fn, loss_fn, Options(epsilon=0.25)))
    >>> image, label = jnp.full((2, 1, 1, 1), 0.5), jnp.array([1.0, -1.0])
    >>> attack(None, jax.random.key(0), image, label).ravel().tolist()
    [0.75, 0.25]
  """
  make_steps = _make_steps(apply_fn, loss_fn, options)
  return _pure(make_steps, options.epsilon, unroll=unroll, **options.counts)


def make_host_attack(
  apply_fn: ApplyFn, loss_fn: LossFn, options: Options
) -> Attack:
  """Returns the same attack, its loop over the steps driven from the host.

  It is not to be jitted: the start, one step and the result are, and are
  compiled once. That is the quickest form on a CPU, where loops of convolutions
  are slow and unrolled ones take minutes to compile (see `ascent`).
  """
  make_steps = _make_steps(apply_fn, loss_fn, options)
  return _from_host(make_steps, options.epsilon, **options.counts)


def make_compiled_attack(
  apply_fn: ApplyFn, loss_fn: LossFn, options: Options, *, from_host: bool
) -> Attack:
  """Returns the attack for callers outside of `jit`.

  Driven from the host, which is quicker on a CPU, or one compiled program.
  Either compiles once for all values of epsilon.
  """
  return compile_steps(
    _make_steps(apply_fn, loss_fn, options),
    options.epsilon,
    from_host=from_host,
    **options.counts,
  )


def compile_steps(
  make_steps: MakeSteps,
  epsilon: float,
  *,
  num_steps: int,
  restarts: int = 1,
  from_host: bool,
  make_program: Callable[[Callable], Callable] = jax.jit,
) -> Attack:
  """As `make_compiled_attack`, of any attack on a film.

  Args:
    make_steps: (variables, film 'h w', label, epsilon) -> its `ascent.Steps`.
    epsilon: the radius that is taken where the call gives none.
    num_steps: of each restart.
    restarts: of which the best by loss is returned.
    from_host: the steps are driven from the host.
    make_program: compiles a function of (whole, *of_films): a pytree that is
      one for all films, and others with a leading axis of films. Films that lie
      on several devices may be needed together by what a step computes (such
      as systems of equations); a caller who knows the devices can keep each
      device to its own films.

  Examples:
    >>> def make_steps(variables, film, label, epsilon):
    ...   loss_fn = lambda film: label * film.sum()
    ...   return pgd.make_steps(loss_fn, film, epsilon=epsilon, step_size=1.0)
    >>> attack = compile_steps(make_steps, 0.25, num_steps=2, from_host=True)
    >>> image, label = jnp.full((2, 1, 1, 1), 0.5), jnp.array([1.0, -1.0])
    >>> attack(None, jax.random.key(0), image, label).ravel().tolist()
    [0.75, 0.25]
  """
  counts = {'num_steps': num_steps, 'restarts': restarts}
  if from_host:
    return _from_host(make_steps, epsilon, make_program, **counts)
  attack = jax.jit(
    _pure(
      make_steps, epsilon, unroll=False, make_program=make_program, **counts
    )
  )
  default = epsilon

  def with_epsilon(variables, key, image, label, epsilon=None):
    epsilon = default if epsilon is None else epsilon
    return attack(variables, key, image, label, epsilon)

  return with_epsilon


def _pure(
  make_steps: MakeSteps,
  default: float,
  *,
  unroll: bool,
  make_program: Callable = lambda function: function,
  **counts: int,
) -> Attack:
  best_of = make_program(
    _over_films(
      make_steps,
      lambda steps, _, key: ascent.run(steps, key, unroll=unroll, **counts),
    )
  )

  def attack(variables, key, image, label, epsilon=None):
    epsilon = default if epsilon is None else epsilon
    key, variables, films = _inputs(variables, key, image, label, epsilon)
    return best_of((variables, None), *films, key)[..., None]

  return attack


def _from_host(
  make_steps: MakeSteps,
  default: float,
  make_program: Callable = jax.jit,
  *,
  num_steps: int,
  restarts: int,
) -> Attack:
  over_films = lambda function: make_program(_over_films(make_steps, function))
  start = over_films(
    lambda steps, restart, key: steps.init(jax.random.fold_in(key, restart))
  )
  # Not donated: without a random start the state holds the caller's image.
  step = over_films(lambda steps, i, state: steps.step(i, state))
  result = over_films(lambda steps, _, state: steps.result(state))
  # Apart, so that a loss which nobody asks for is not computed.
  image_alone = over_films(lambda steps, _, state: steps.result(state)[0])
  better = jax.jit(jax.vmap(ascent.better))

  def attempt(restart, key, variables, films):
    state = start((variables, restart), *films, key)
    for i in range(num_steps):
      state = step((variables, i), *films, state)
    return state

  def attack(variables, key, image, label, epsilon=None):
    epsilon = default if epsilon is None else epsilon
    key, variables, films = _inputs(variables, key, image, label, epsilon)
    whole = variables, None
    state = attempt(0, key, variables, films)
    if restarts == 1:
      return image_alone(whole, *films, state)[..., None]
    best = result(whole, *films, state)
    for restart in range(1, restarts):
      state = attempt(restart, key, variables, films)
      best = better(best, result(whole, *films, state))
    return best[0][..., None]

  return attack


def _steps(options, loss_fn, image, epsilon) -> ascent.Steps:
  """The attack on one film; a step keeps its share of the radius."""
  common = {'epsilon': epsilon, 'norm': options.norm}
  num_steps, random_start = options.num_steps, options.random_start
  if options.method == 'apgd':
    return apgd.make_steps(
      loss_fn, image, num_steps=num_steps, random_start=random_start, **common
    )
  if options.method == 'square':
    return square.make_steps(loss_fn, image, num_steps=num_steps, **common)
  if options.method == 'fgsm':
    return pgd.make_steps(
      loss_fn, image, step_size=epsilon, random_start=False, **common
    )
  return pgd.make_steps(
    loss_fn,
    image,
    step_size=options.relative_step * epsilon,
    random_start=random_start,
    momentum=options.momentum,
    keep_best=options.keep_best,
    **common,
  )


def _make_steps(apply_fn, loss_fn, options) -> MakeSteps:
  def make_steps(variables, film, label, epsilon):
    def film_loss(film):
      return loss_fn(apply_fn(variables, film[None, ..., None])[0], label)

    return _steps(options, film_loss, film, epsilon)

  return make_steps


def _over_films(make_steps: MakeSteps, function: Callable) -> Callable:
  """function(steps, shared, own) of each film of a batch.

  What it returns takes ((variables, shared), image, label, epsilon, own); the
  variables and `shared` are one for all films, the rest has a batch axis.
  """

  def on_film(whole, image, label, epsilon, own):
    variables, shared = whole
    # What a loop carries has no axis of one channel: a TPU would lay it in
    # the 128 lanes of its memory, 127 of them empty.
    steps = make_steps(variables, image[..., 0], label, epsilon)
    return function(steps, shared, own)

  return jax.vmap(on_film, in_axes=(None, 0, 0, 0, 0))


def _inputs(variables, key, image, label, epsilon) -> tuple[Array, Any, tuple]:
  """One key per film, the variables, and (image, label, radius per film)."""
  key = _keys(key, image.shape[0])
  radius = jnp.asarray(epsilon, image.dtype)
  radius = jnp.broadcast_to(radius, image.shape[:1])
  variables, *films = jax.lax.stop_gradient((variables, image, label, radius))
  return key, variables, tuple(films)


def _keys(key: Array, batch_size: int) -> Key[Array, ' b']:
  if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
    raise ValueError('An attack takes typed keys; make them by jax.random.key.')
  if key.ndim == 0:
    return jax.random.split(key, batch_size)
  if key.shape != (batch_size,):
    raise ValueError(
      f'An attack on {batch_size} images takes one key or {batch_size}, '
      f'not keys of shape {key.shape}.'
    )
  return key
