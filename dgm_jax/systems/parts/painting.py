"""A model that paints images in steps (`dgm_jax.models.painter`), each of which has latents of its own.

The network is 'model'. The bounds have the latents of all steps side by side as one level, so that their program does
not grow with the number of steps. With `config.model.groups` = T, `free_bits` has a floor for each step. The view
`layers` has a level for each step, step 1 first.

As a code, the latents of all steps stand one after the other, each in deviations from the mean of its prior. The prior
of codes is then N(0, I), also if that of a step depends on the steps before.

Axes: T steps, B batch, k samples, Z latents of a step, [...] is [B] or [B, k].
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import distributions, views
from dgm_jax.core import Batch, Key, State
from dgm_jax.internal.noise import standard_normal
from dgm_jax.models.painter import Painter, Step
from dgm_jax.systems.parts import priors
from dgm_jax.systems.parts.bounds import Latent, Model, Terms
from dgm_jax.systems.parts.likelihoods import LIKELIHOODS, Likelihood

__all__ = ['build', 'image_of']

SHOWN = {'bernoulli': jax.nn.sigmoid}  # the image that a canvas shows; of other likelihoods it is the canvas


def image_of(config: ConfigDict) -> Callable:
  """Returns the function canvas -> the image that it shows, which the cell subtracts from its input."""
  return SHOWN.get(config.model.likelihood, lambda canvas: canvas)


def build(config: ConfigDict, cell: Any) -> Model:
  """Builds the model of `config.model.steps` steps of a cell.

  Raises:
    UserError: there is no step, or no such likelihood.
  """
  model, shape = config.model, tuple(config.data.shape)
  experiment.require(model.steps >= 1, f'config.model.steps must be at least 1, got {model.steps}')
  likelihood = experiment.choose('config.model.likelihood', model.likelihood, LIKELIHOODS)(config.data.levels)
  ways = {way: model.get(way, False) for way in ('unroll', 'remat')}
  painter = Painter(cell, model.steps, shape, likelihood.num_parameters, **ways)
  noise = (model.steps, cell.size)

  def networks(key: Key, batch: Batch):
    x = batch['x']
    single = painter.clone(steps=1)  # whose parameters are those of any number of steps
    params = single.init(key, x[:1], jnp.zeros((1, 1, cell.size)), jnp.ones(1, bool))['params']
    params['cell']['canvas'] = likelihood.init_bias(x.mean(0))[0]
    if likelihood.num_parameters > 1:
      params['spread'] = likelihood.init_bias(x.mean((0, 1, 2)))[1:]
    return {'model': params}, {}

  def draw(key: Key, state: State, x: jax.Array, k: int | None = None, training: bool = False) -> Terms:
    del training
    axes = (x.shape[0],) if k is None else (x.shape[0], k)
    rows = x if k is None else jnp.repeat(x, k, 0)
    canvas, steps = _paint(painter, state, rows, _noise(key, noise, rows.shape[0]))
    params = tuple(part.reshape(*axes, -1) for part in _pixels(painter, state, canvas))
    flat = x.reshape(x.shape[0], -1)
    log_px_z = likelihood.log_prob(flat if k is None else flat[:, None], params)
    return _terms(log_px_z, steps, axes)

  def sample(key: Key, state: State, n: int) -> jax.Array:
    for_noise, for_data = jax.random.split(key)
    canvas, _ = _generate(painter, state, _noise(for_noise, noise, n))
    return likelihood.sample(for_data, _pixels(painter, state, canvas)).reshape(n, *shape)

  def means(key: Key, state: State, x: jax.Array) -> list[jax.Array]:
    del key
    mean, _ = _paint(painter, state, x, jnp.zeros((noise[0], x.shape[0], noise[1])))[1].posterior
    return [_beside(mean, (x.shape[0],))]

  own = _views(painter, likelihood, noise)
  return Model(networks=networks, draw=draw, sample=sample, owns=('model',), views=own, means=means)


def _noise(key: Key, noise: tuple[int, int], n: int) -> jax.Array:
  """Samples N(0, 1), independently for each step, [T, n, Z]."""
  steps, size = noise
  return jax.vmap(lambda own: standard_normal(own, (n, size)))(jax.random.split(key, steps))


def _beside(leaf: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  """Puts what is of each step, [T, n, Z], side by side, [..., T Z]."""
  return jnp.moveaxis(leaf, 0, 1).reshape(*axes, -1)


def _paint(painter: Painter, state: State, x, noise, kept=None, trace: bool = False) -> tuple[jax.Array, Step]:
  kept = jnp.ones(painter.steps, bool) if kept is None else kept
  return painter.apply({'params': state.params['model']}, x, noise, kept, trace)


def _generate(painter: Painter, state: State, noise: jax.Array, trace: bool = False) -> tuple[jax.Array, Step]:
  return painter.apply({'params': state.params['model']}, noise, trace, method='generate')


def _pixels(painter: Painter, state: State, canvas: jax.Array) -> tuple[jax.Array, ...]:
  return painter.apply({'params': state.params['model']}, canvas, method='pixels')


def _image(painter: Painter, likelihood: Likelihood, state: State, canvas: jax.Array) -> jax.Array:
  """Computes the means of the pixels, in the shape of the canvas."""
  return likelihood.mean(_pixels(painter, state, canvas)).reshape(canvas.shape)


def _terms(log_px_z: jax.Array, steps: Step, axes: tuple[int, ...]) -> Terms:
  """Computes the terms; the divergence of each step, in closed form, is given the samples of the steps before."""
  z, posterior, prior = jax.tree.map(lambda leaf: _beside(leaf, axes), (steps.z, steps.posterior, steps.prior))
  log_q, log_p = (distributions.normal_log_prob(z, *params) for params in (posterior, prior))
  kls = [distributions.gaussian_kl_per_dim(*posterior, *prior)]
  return Terms(log_px_z=log_px_z, log_q=log_q, log_p=log_p, kls=kls, latents=[Latent(z, posterior)])


def _check_steps(steps: int | jax.Array, count: int) -> None:
  """Refuses a number of steps that the painter does not have. An argument of a jitted function has no number yet."""
  experiment.require(
    isinstance(steps, jax.core.Tracer) or 0 <= int(steps) <= count,
    f'compress keeps 0 to config.model.steps={count} steps, got {steps}: give a number of these',
  )


def _views(painter: Painter, likelihood: Likelihood, noise: tuple[int, int]) -> dict[str, Any]:
  """Returns the views by name."""
  count, size = noise

  def image(state, canvas):
    return _image(painter, likelihood, state, canvas)

  def mean_path(state, x):
    return _paint(painter, state, x, jnp.zeros((count, x.shape[0], size)))

  def encode(key, state, x):
    del key
    steps = mean_path(state, x)[1]
    mean, logvar = steps.prior
    return _beside((steps.z - mean) * jnp.exp(-0.5 * logvar), (x.shape[0],))

  def decode(key, state, z):
    del key
    return image(state, _generate(painter, state, jnp.moveaxis(z.reshape(-1, count, size), 1, 0))[0])

  def reconstruct(key, state, x):
    del key
    return image(state, mean_path(state, x)[0])

  def mean_sample(key, state, n):
    return image(state, _generate(painter, state, _noise(key, noise, n))[0])

  def layers(key, state, x):
    # A mean given one sample of the steps before would vary with that sample.
    means = mean_path(state, x)[1].posterior[0]
    steps = _paint(painter, state, x, _noise(key, noise, x.shape[0]))[1]
    return list(zip(means, distributions.gaussian_kl_per_dim(*steps.posterior, *steps.prior), strict=True))

  def kl_per_dim(key, state, x):
    return jnp.concatenate([kl for _, kl in layers(key, state, x)], -1)

  def bits(key, state, nats):
    del key, state
    return likelihood.bits(nats, math.prod(painter.shape))

  prior: views.Prior = priors.standard(count * size).view
  return {
    'encode': encode, 'decode': decode, 'posterior': None, 'prior': prior, 'reconstruct': reconstruct,
    'mean_sample': mean_sample, 'layers': layers, 'kl_per_dim': kl_per_dim, 'bits': bits,
  } | _step_views(painter, likelihood, noise)  # fmt: skip


def _step_views(painter: Painter, likelihood: Likelihood, noise: tuple[int, int]) -> dict[str, Any]:
  """Returns the views of single steps, by name."""
  count, size = noise

  def compress(key, state, x, steps, draw):
    _check_steps(steps, count)
    kept, n = jnp.arange(count) < steps, x.shape[0]
    own, rest = _noise(key, noise, n), _noise(jax.random.fold_in(key, draw), noise, n)
    canvas, every = _paint(painter, state, x, jnp.where(kept[:, None, None], own, rest), kept)
    nats = distributions.gaussian_kl_per_dim(*every.posterior, *every.prior).sum(-1)
    return _image(painter, likelihood, state, canvas), jnp.where(kept[None], nats.T, 0)

  def traced(state, canvas, steps):
    del canvas
    images = _image(painter, likelihood, state, steps.canvas.reshape(-1, *painter.shape))
    return views.Canvases(images=images.reshape(steps.canvas.shape), read=steps.read, write=steps.write)

  def canvases(key, state, x):
    del key
    return traced(state, *_paint(painter, state, x, jnp.zeros((count, x.shape[0], size)), trace=True))

  def sample_canvases(key, state, n):
    return traced(state, *_generate(painter, state, _noise(key, noise, n), True))

  return {'compress': compress, 'canvases': canvases, 'sample_canvases': sample_canvases}
