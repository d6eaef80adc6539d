"""A trained system, with what it can do as methods of NumPy arrays."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import data, systems
from dgm_jax.api.offers import offer, offered
from dgm_jax.core import System
from dgm_jax.data import preprocess
from dgm_jax.errors import UserError
from dgm_jax.evals import draws, mean, measuring
from dgm_jax.internal.files import is_folder
from dgm_jax.pages import records
from dgm_jax.pictures import gallery
from dgm_jax.runs import weights as files
from dgm_jax.runs import workdir
from dgm_jax.runs.subject import Subject

__all__ = ['Model', 'load']

UNTRUNCATED = 1.0


def load(run: str | os.PathLike, checkpoint: str | int = 'latest', weights: str = 'average') -> 'Model':
  """Opens a trained run, or a file of `dgm export`. No data need be on the disk.

  Args:
    run: the run's folder, the --workdir of its training; a file; or the name of one in the clone's folder weights/.
    checkpoint: 'latest', 'best' (by `config.best`), or a step.
    weights: 'average' for the moving averages of the networks that have one, 'raw' for the parameters as trained.

  Raises:
    UserError: there is no such run or file, or no such checkpoint of the run.
  """
  folder = Path(run)
  experiment.one_of('weights', weights, ('average', 'raw'))
  if not is_folder(folder):
    subject, card = files.open_weights(files.find(str(run)))
    return Model(subject, card.get('figures'), card)
  subject = workdir.open_subject(folder, '', str(checkpoint), weights=weights)
  return Model(subject, records.load(folder / 'evaluation_test.json').get('metrics', {}))


class Model:
  """A trained system; `load` and `fit` make it.

  A method that the system cannot answer does not exist: `hasattr(model, 'decode')` says so, and the error names those
  that do. Images are given as uint8, or as floats in [0, 1], of the shape [B, H, W, C] that the run was trained on, and
  are returned as uint8; points and data of other ranges (`config.data.preprocess='identity'`) are float32 both ways.
  Each method compiles its program when it is first called, and again for arrays of another shape.

  Axes: B examples, H height, W width, C channels, Z the size of a code.

  Attributes:
    config: the experiment.
    system: the pure functions of the system (`dgm_jax.core.System`), for all that the methods leave out.
    state: the trained state, which these functions take.
    params: the parameters by network, averages where they are asked for.
    figures: what `evaluate` measured on the run's test split, by name; {} before it has.
    card: what a file of `dgm export` says of its run; {} of other models.
  """

  def __init__(self, subject: Subject, figures: dict[str, Any] | None = None, card: dict[str, Any] | None = None):
    self._subject, self.figures, self.card = subject, dict(figures or {}), dict(card or {})
    self._programs: dict[Any, Callable] = {}

  @property
  def config(self) -> ConfigDict:
    """The experiment."""
    return self._subject.config

  @property
  def system(self) -> System:
    """The pure functions of the system."""
    return self._subject.system

  @property
  def state(self) -> Any:
    """The trained state."""
    return self._subject.state

  @property
  def params(self) -> dict[str, Any]:
    """The parameters by network."""
    return self.state.params | dict(self.state.extra.get('ema', {}))

  def __dir__(self) -> list[str]:
    return sorted({'card', 'config', 'evaluate', 'figures', 'params', 'programs', 'state', 'system', *offered(self)})

  def __repr__(self) -> str:
    step, shape = int(jax.device_get(self.state.step)), tuple(self.config.data.shape)
    return f'<Model {self.config.system} on {self.config.data.name} {shape}, step {step}: {", ".join(dir(self))}>'

  @offer('sample')
  def sample(
    self, n: int, seed: int = 0, label: int | None = None, temperature: float = 1.0, truncation: float = UNTRUNCATED
  ) -> np.ndarray:
    """Draws examples, those that `dgm_jax.sample` draws with the same settings.

    Args:
      n: how many.
      seed: of the noise.
      label: their class, for systems that are told labels; None for the shares of the training set.
      temperature: below 1, likely examples become likelier; for systems with the view `draw`.
      truncation: the factor of styles, or the greatest latent of a normal prior; 1 truncates nothing.

    Returns:
      uint8 [n, H, W, C], or float32 [n, D] points.

    Raises:
      UserError: the system cannot draw so.
    """
    bound = None if truncation == UNTRUNCATED else truncation
    settled = draws.settle(seed, self._subject, truncation=bound)
    return self._out(draws.draw(seed, settled, n, label, temperature, bound))

  @offer('log_prob')
  def log_prob(
    self, x: np.ndarray, y: np.ndarray | None = None, samples: int = 0, rows: int = 0, seed: int | None = None
  ) -> np.ndarray:
    """Computes log p(x), exactly or by importance sampling.

    Args:
      x: [B, ...] examples.
      y: [B] labels, for systems that are told them.
      samples: of an estimate; 0: `config.nll.samples`.
      rows: decoded examples that are held in memory at a time; 0: `config.nll.rows`.
      seed: of an estimate and of dequantization; None: that of the run, which `evaluate` takes.

    Returns:
      float64 [B] nats. On average an estimate is a lower bound, which rises with the number of samples.
    """
    settings = self.config.nll.copy_and_resolve_references()
    settings.samples, settings.rows = samples or settings.samples, rows or settings.rows
    views = self._once(('nll', settings.samples, settings.rows), lambda: self._with_nll(settings)).views
    size = max(1, min(self.config.eval_batch_size, settings.rows // 10))

    def ask(key, state, batch):
      labels = {'labels': batch['y']} if self.config.conditional else {}
      return {'log_prob': views.log_prob(key, state, batch['x'], **labels)}

    name = ('log_prob', settings.samples, settings.rows)
    return self._each(name, ask, x, y, seed, size)['log_prob'].astype(np.float64)

  @offer('log_prob', 'bits')
  def bits_per_dim(
    self, x: np.ndarray, y: np.ndarray | None = None, samples: int = 0, rows: int = 0, seed: int | None = None
  ) -> np.ndarray:
    """Computes -log2 p(x) for each dimension of the data, as `log_prob`.

    Returns:
      float64 [B] bits.
    """
    nats = -self.log_prob(x, y, samples, rows, seed)
    return np.asarray(self.system.views.bits(jax.random.key(0), self.state, nats), np.float64)

  @offer('encode')
  def encode(self, x: np.ndarray, seed: int | None = None) -> np.ndarray:
    """Computes codes of examples; where the posterior has a mean, it is the code.

    Returns:
      float32 [B, Z].
    """
    return self._view('encode', x, seed)

  @offer('decode')
  def decode(self, z: np.ndarray) -> np.ndarray:
    """Computes the examples of codes [B, Z]; where pixels have a distribution, their means.

    Returns:
      uint8 [B, H, W, C], or float32 [B, D] points.
    """
    view = self.system.views.decode
    program = self._once('decode', lambda: jax.jit(lambda state, z: view(jax.random.key(0), state, z)))
    return self._out(program(self.state, np.asarray(z, np.float32)))

  @offer('reconstruct')
  def reconstruct(self, x: np.ndarray, seed: int | None = None) -> np.ndarray:
    """Computes examples again from their codes.

    Returns:
      uint8 [B, H, W, C], or float32 [B, D] points.
    """
    return self._out(self._view('reconstruct', x, seed))

  @offer('complete')
  def complete(
    self, x: np.ndarray, mask: np.ndarray, label: int | None = None, temperature: float = 1.0, seed: int = 0
  ) -> np.ndarray:
    """Draws the pixels of images that a mask leaves out.

    Args:
      x: [B, H, W, C] images.
      mask: [B, H, W] or [H, W], True where a pixel is kept.
      label: the class of all, for systems that are told labels.
      temperature: of the distributions that are drawn from.
      seed: of the noise.

    Returns:
      uint8 [B, H, W, C].
    """
    images, view = self._in(x), self.system.views.complete
    mask = np.broadcast_to(np.asarray(mask, bool), images.shape[:3])
    labels = None if label is None else np.full(len(images), label, np.int32)
    run = lambda key, state, x, mask, labels: view(key, state, x, mask, labels, temperature)
    program = self._once(('complete', temperature), lambda: jax.jit(run))
    return self._out(program(jax.random.key(seed), self.state, self._prepared(images), mask, labels))

  @offer('encode', 'decode')
  def interpolate(self, a: np.ndarray, b: np.ndarray, n: int = 10) -> np.ndarray:
    """Computes images on the way from one example to another, both ends included.

    The way is an arc where the prior of codes is normal, and straight elsewhere.

    Args:
      a: an example [H, W, C].
      b: another.
      n: how many.

    Returns:
      uint8 [n, H, W, C], or float32 [n, D] points.
    """
    z, prior = self.encode(np.stack([a, b])), self.system.views.prior
    path = gallery.spherical if prior and prior.normal else gallery.linear
    return self.decode(path(z[:1], z[1:], np.linspace(0, 1, n, dtype=z.dtype))[0])

  def evaluate(self, x: np.ndarray, y: np.ndarray | None = None, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Measures the model on examples of one's own, as `dgm_jax.evaluate` does on a split.

    Args:
      x: [N, ...] examples.
      y: [N] labels, where a measurement asks for them.
      only: functions of `dgm_jax.evals`, such as 'likelihood.nll'; () for those of the experiment.

    Returns:
      figures by name.

    Raises:
      UserError: there is no such function, or the system lacks a view that it needs.
    """
    subject = self._subject._replace(split=self._split(x, y))
    return measuring.measure(subject, tuple(only) or tuple(self.config.evals))

  def programs(self, n: int) -> dict[str, tuple[Callable, jax.ShapeDtypeStruct]]:
    """Returns functions that hold the trained state, with the shape of their argument, by name.

    'sample' takes a seed, uint32 [], and returns n examples, as the method does. Where the system has it, 'log_prob'
    takes n examples as they are stored and returns nats, float32 [n], with the noise of the seed 0.

    Args:
      n: number of examples.
    """
    views, kept, prepare = self.system.views, self.state, preprocess.evaluation(self.config.data)
    raw = len(self.config.data.shape) == 1 or self.config.data.preprocess == 'identity'
    out = (lambda x: x) if raw else preprocess.pixels(self.config.data)
    like = jax.ShapeDtypeStruct((n, *self.config.data.shape), np.float32 if raw else np.uint8)

    def sample(seed):
      return out(self.system.sample(jax.random.key(seed), kept, n))

    def log_prob(x):
      for_data, for_view = jax.random.split(jax.random.key(0))
      return views.log_prob(for_view, kept, prepare(for_data, {'x': x, 'index': np.arange(n, dtype=np.int32)})['x'])

    can = {'sample': (sample, jax.ShapeDtypeStruct((), np.uint32))} if self.system.sample else {}
    return can | ({'log_prob': (log_prob, like)} if views.log_prob and not self.config.conditional else {})

  def _once(self, name: Any, make: Callable[[], Any]) -> Any:
    """Returns what `make` gives, made when it is first asked for."""
    if name not in self._programs:
      self._programs[name] = make()
    return self._programs[name]

  def _with_nll(self, settings: ConfigDict) -> System:
    """Returns the system with other settings of importance sampling."""
    config = self.config.copy_and_resolve_references()
    with config.unlocked():
      config.nll = settings
    return systems.build(config)

  def _view(self, name: str, x: np.ndarray, seed: int | None) -> np.ndarray:
    """Asks a view about each example."""
    view = getattr(self.system.views, name)
    return self._each(name, lambda key, state, batch: {name: view(key, state, batch['x'])}, x, None, seed)[name]

  def _each(self, name: Any, ask: Callable, x: Any, y: Any, seed: int | None, batch_size: int = 0) -> dict:
    """Asks about each example by one program."""
    split, mesh = self._split(x, y), self._subject.mesh
    program = self._once(('each', name), lambda: mean.program(ask, self.config, mesh))
    run = mean.per_example(ask, split, self.config, mesh, batch_size, program)
    return run(self.config.seed if seed is None else seed, self.state)

  def _split(self, x: Any, y: Any = None) -> data.Split:
    """Returns examples as a split.

    Raises:
      UserError: they have another shape, or labels of another number.
    """
    x = self._in(x)
    if y is not None and np.shape(y) != (len(x),):
      raise UserError(f'y has the shape {np.shape(y)}, and there are {len(x)} examples: give one label for each')
    arrays = {'x': x} if y is None else {'x': x, 'y': np.asarray(y, np.int32)}
    return data.Split('given', len(x), arrays, levels=self.config.data.levels)

  def _in(self, x: Any) -> np.ndarray:
    """Returns examples as they are stored: uint8 images, or float32.

    Raises:
      UserError: they have another shape or range.
    """
    x, shape = np.asarray(x), tuple(self.config.data.shape)
    if x.shape[1:] == shape[:-1] and shape[-1:] == (1,):
      x = x[..., None]
    if x.shape[1:] != shape or not len(x):
      raise UserError(f'x has the shape {x.shape}, and the model takes [B, {", ".join(map(str, shape))}]: reshape it')
    if self.config.data.preprocess == 'identity':
      return x.astype(np.float32)
    if x.dtype == np.uint8:
      return x
    if x.dtype.kind != 'f' or not np.isfinite(x).all() or x.min() < 0 or x.max() > 1:
      low, high = (x.min(), x.max()) if x.size else (math.nan, math.nan)
      raise UserError(
        f'x holds {x.dtype} from {low:.4g} to {high:.4g}: give uint8 pixels, or floats from 0 (black) to 1'
      )
    return np.round(255 * x).astype(np.uint8)

  def _prepared(self, x: np.ndarray) -> np.ndarray:
    """Returns stored examples in the model's space, as an evaluation receives them."""
    return mean.images(data.Split('given', len(x), {'x': x}), self.config, len(x))

  def _out(self, x: Any) -> np.ndarray:
    """Returns examples in the model's space as pixels; points stay as they are."""
    x = np.asarray(x)
    raw = x.ndim == 2 or self.config.data.preprocess == 'identity'
    return x if raw else np.asarray(preprocess.pixels(self.config.data)(x))
