"""What a trained system can be asked besides `evaluate` and `sample`, and how a question names what it needs.

Every view is a pure function of (key, state, ...); one that is not random ignores its key. B is the batch, n a number
of examples, Z the size of a code, K the number of classes.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax

from dgm_jax.errors import UserError

if TYPE_CHECKING:
  from dgm_jax.core import Batch, Key, State, System

__all__ = ['Canvases', 'Prior', 'Views', 'find', 'fits', 'needs', 'require']

Labels = jax.Array | None  # [B] int32


class Ask(Protocol):
  """Answers without data."""

  def __call__(self, key: 'Key', state: 'State') -> Any: ...


class AskExamples(Protocol):
  """Answers about examples x [B, ...] in data space."""

  def __call__(self, key: 'Key', state: 'State', x: jax.Array) -> Any: ...


class AskCodes(Protocol):
  """Answers about codes z [B, Z]."""

  def __call__(self, key: 'Key', state: 'State', z: jax.Array) -> jax.Array: ...


class AskLevels(Protocol):
  """Answers about whole-numbered codes, level -> [B, h, w]; the vectors of a level that is left out are zeros."""

  def __call__(self, key: 'Key', state: 'State', codes: dict[str, jax.Array]) -> jax.Array: ...


class AskNumber(Protocol):
  """Draws n of something; n is static under jit."""

  def __call__(self, key: 'Key', state: 'State', n: int) -> jax.Array: ...


class Density(Protocol):
  """Returns the log-density of examples x [B, ...] in nats, given their labels [B] where the system is conditional."""

  def __call__(self, key: 'Key', state: 'State', x: jax.Array, labels: Labels = None) -> jax.Array: ...


class Draw(Protocol):
  """Draws n examples of the labels [n], which are drawn from the training set's shares if None; [n, ...]."""

  def __call__(
    self, key: 'Key', state: 'State', n: int, labels: Labels = None, temperature: float = 1.0
  ) -> jax.Array: ...


class Complete(Protocol):
  """Draws the pixels of `image` [B, H, W, C] where `mask` [B, H, W] is False; [B, H, W, C]."""

  def __call__(
    self,
    key: 'Key',
    state: 'State',
    image: jax.Array,
    mask: jax.Array,
    labels: Labels = None,
    temperature: float = 1.0,
  ) -> jax.Array: ...


class Denoise(Protocol):
  """Draws examples without noise given x [B, ...], the same with noise of N(0, deviation^2), all in data space.

  The deviation is a number or [].
  """

  def __call__(self, key: 'Key', state: 'State', x: jax.Array, deviation: float | jax.Array) -> jax.Array: ...


class Causality(Protocol):
  """Returns the largest gradients of the outputs for variables 0 ... `first` [B] by 'later' and 'earlier' inputs."""

  def __call__(
    self, key: 'Key', state: 'State', x: jax.Array, first: jax.Array, labels: Labels = None
  ) -> dict[str, jax.Array]: ...


class Bits(Protocol):
  """Converts nats an example to bits per dimension."""

  def __call__(self, key: 'Key', state: 'State', nats: jax.Array) -> jax.Array: ...


class Likelihood(Protocol):
  """Returns log p(x|z) of examples x [B, ...], each given its own latents z [B, Z]; [B] nats."""

  def __call__(self, key: 'Key', state: 'State', x: jax.Array, z: jax.Array) -> jax.Array: ...


class Gradient(Protocol):
  """Estimates the loss's gradient in the encoder's parameters."""

  def __call__(self, key: 'Key', state: 'State', batch: 'Batch') -> Any: ...


class AskPaths(Protocol):
  """Draws n codes of each example x [B, ...] before and after a flow, [B, n, Z] each; n is static under jit."""

  def __call__(self, key: 'Key', state: 'State', x: jax.Array, n: int) -> tuple[jax.Array, jax.Array]: ...


class Classes(Protocol):
  """Draws `columns` examples of each class, [K columns, ...]; `columns` is static under jit.

  K may be less than all of very many classes: the first ones.
  """

  def __call__(self, key: 'Key', state: 'State', columns: int) -> jax.Array: ...


class Settle(Protocol):
  """Returns the state whose batch statistics are means over a batch more than `batches`, [] int32.

  Latents are truncated at `truncation`, [], infinite for none; so are those of samples of the state from then on.
  """

  def __call__(self, key: 'Key', state: 'State', batches: jax.Array, truncation: jax.Array) -> 'State': ...


class AskStyles(Protocol):
  """Returns a style for each layer [B, L, W], from styles w [B, W] at psi [B] times their distance from the mean."""

  def __call__(self, key: 'Key', state: 'State', w: jax.Array, psi: jax.Array) -> jax.Array: ...


class Synthesize(Protocol):
  """Returns the images of styles [B, L, W], or [B, 1, W] for all layers.

  Images of one number, of those in `number` [B] int32, have the same noise; `strength`, [] or [L], multiplies it. They
  are the generator's output, which may leave the range of the data, so that they have a slope everywhere.
  """

  def __call__(
    self, key: 'Key', state: 'State', styles: jax.Array, number: jax.Array, strength: jax.Array
  ) -> jax.Array: ...


class Truncated(Protocol):
  """Draws n examples whose latents are truncated by psi, [n, ...]; 1 truncates nothing. n is static under jit."""

  def __call__(self, key: 'Key', state: 'State', n: int, psi: float | jax.Array) -> jax.Array: ...


class Compress(Protocol):
  """Keeps the latents of x's first `steps` steps, [] or a number, and draws those of the others from the prior.

  The kept ones are the same in each `draw`, [] int32; the others are not.

  Returns means of images [B, ...], and the nats of each step [B, T], 0 for the steps that are not kept.
  """

  def __call__(
    self, key: 'Key', state: 'State', x: jax.Array, steps: int | jax.Array, draw: int | jax.Array
  ) -> tuple[jax.Array, jax.Array]: ...


class Canvases(NamedTuple):
  """What a system has painted after each of T steps.

  A window is left, top, right and bottom in pixels from 1, and the deviation of its filters.
  """

  images: jax.Array  # [T, B, ...] in data space
  read: jax.Array | None  # windows [T, B, 5]; None: whole images, or none, are read
  write: jax.Array | None  # likewise


class AskCanvases(Protocol):
  """Paints examples x [B, ...]."""

  def __call__(self, key: 'Key', state: 'State', x: jax.Array) -> Canvases: ...


class AskSampleCanvases(Protocol):
  """Paints n samples; n is static under jit."""

  def __call__(self, key: 'Key', state: 'State', n: int) -> Canvases: ...


class Prior(NamedTuple):
  """The distribution of the codes that `decode` takes."""

  sample: AskNumber  # [n, Z]
  log_prob: AskCodes | None = None  # [B] nats; None: it has no density
  normal: bool = False  # whether it is N(0, I)


class Views(NamedTuple):
  """The questions that a system answers; None: it does not."""

  encode: AskExamples | None = None  # codes [B, Z]; means, where the posterior has a mean
  decode: AskCodes | None = None  # [B, ...] in data space; means, where pixels have a distribution
  posterior: AskExamples | None = None  # (mean, logvar) of a diagonal normal q(z|x), [B, Z] each
  flow_samples: AskPaths | None = None  # of a posterior of two or more latents that a flow moves
  prior: Prior | None = None  # of codes
  reconstruct: AskExamples | None = None  # [B, ...]
  mean_sample: AskNumber | None = None  # samples without the noise of pixels, [n, ...]
  row_sample: AskNumber | None = None  # samples for a square grid, a class to each row, [n, ...]
  layers: AskExamples | None = None  # (posterior mean, divergence in nats) [B, Z_l] of each layer, from the data on;
  # the divergence is [B, 1] where the prior does not factorise
  kl_per_dim: AskExamples | None = None  # [B, Z] nats
  log_prob: Density | None = None  # [B] nats, exact, or estimated by the settings in `config.nll`
  log_prob_pixels: Density | None = None  # [B, H, W] nats, each pixel given those before it
  log_prob_classes: AskExamples | None = None  # [B, K] nats, given each label
  bits: Bits | None = None
  draw: Draw | None = None
  complete: Complete | None = None
  chains: AskExamples | None = (
    None  # [2, times, B, ...]: x with ever more noise, and below it a sample at the same times
  )
  denoise: Denoise | None = None
  causality: Causality | None = None
  prior_leak: AskExamples | None = None  # figures by name of whether the prior of x's latents is a density, [] or [B]
  classes: Classes | None = None
  critic: AskExamples | None = None  # [B], higher for examples that look real
  class_sweeps: Ask | None = None  # codes [rows, columns, Z]: a class a row
  continuous_sweeps: Ask | None = None  # codes [rows, columns, Z]: a continuous code moves along a row
  cluster: AskExamples | None = None  # logits [B, K]
  judge: AskExamples | None = None  # (logits [B, K], features [B, F])
  codes: AskExamples | None = None  # whole-numbered codes, level -> [B, h, w]
  image: AskLevels | None = None  # [B, H, W, C]
  levels: AskExamples | None = None  # [rows, B, H, W, C]: the top level alone, then with more levels below in each row
  gradient: Gradient | None = None
  decompress: AskExamples | None = None  # [B, ...]: x' ~ p(x'|z) with z ~ q(z|x)
  variations: AskNumber | None = None  # [levels, n, ...]: samples whose noise differs in one level, from the top
  log_likelihood: Likelihood | None = None  # of latents that have the density `prior.log_prob`
  settle: Settle | None = None
  normalizer: Ask | None = None  # entries of `State.extra` with the prior's log-normalizer, estimated anew, for figures
  gibbs: AskNumber | None = (
    None  # [rows, n, ...]: n images of one state of the prior's chain, sweeps apart from row to row
  )
  feature_codes: AskExamples | None = None  # whole-numbered codes of a critic's features, layer -> [B, ...]
  emit: AskCodes | None = None  # [B, ...] in data space, sampled from p(x|z)
  map_latents: AskCodes | None = None  # styles [B, W]; with synthesize: the generator in two parts
  styles: AskStyles | None = None  # of generators with a style in each layer
  synthesize: Synthesize | None = None  # [B, H, W, C]
  truncated: Truncated | None = None
  compress: Compress | None = None  # of systems that paint in steps
  canvases: AskCanvases | None = None
  sample_canvases: AskSampleCanvases | None = None


def needs(*names: str) -> Callable[[Callable], Callable]:
  """Attaches to a picture or a measurement the views that it needs: 'encode', 'prior.normal', or 'sample'.

  Raises:
    TypeError: there is no such view.
  """
  for name in names:
    if name.partition('.')[0] not in ('sample', *Views._fields):
      raise TypeError(f'there is no view {name}')

  def note(function: Callable) -> Callable:
    function.needs = names
    return function

  return note


def find(system: 'System', name: str) -> Any:
  """Returns a view by its name, which may be dotted. `System.sample` counts as one. None if the system lacks it."""
  first = system if name == 'sample' else system.views
  return functools.reduce(lambda part_of, part: getattr(part_of, part, None), name.split('.'), first)


def fits(system: 'System', function: Callable) -> bool:
  """Returns whether a system has all views that a picture or a measurement needs."""
  return all(find(system, name) for name in function.needs)


def require(system: 'System', called: str, names: Sequence[str], what: str) -> None:
  """Refuses a system that lacks a view.

  Args:
    system: the system.
    called: the system's name, `config.system`.
    names: the views.
    what: the work that needs them, in the user's words.

  Raises:
    UserError: one line that names the view.
  """
  for name in names:
    if not find(system, name):
      raise UserError(f'{called} has no view {name}, which {what} needs: leave {what} out, or take a run that has it')
