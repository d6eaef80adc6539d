"""The parts of a game of images that grow: networks at a fade, styles, noise, and what can be asked of them.

Axes: B batch, n generated examples, L layers, W styles, Z latents.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax.core import Batch, Key, Params, State
from dgm_jax.models import stylegan as networks
from dgm_jax.nn.style import double, halve
from dgm_jax.systems.parts import class_views, games
from dgm_jax.systems.parts.games import Game

__all__ = ['Growing', 'build', 'decay', 'initial', 'late', 'sampler', 'shown', 'views']

START = 10_000  # latents whose mean style begins the average
SMALLEST = 8  # least size of an image that fades in


class Growing(NamedTuple):
  """A game whose images grow."""

  game: Game
  rate: float  # by how much a step moves the fade; 0: there is no fade
  mirror: bool  # whether real images are mirrored with probability one half


def build(config: ConfigDict) -> Growing:
  """Builds the game that `config.model` describes, with networks of `models.stylegan`.

  The fade goes from 0 to 1 over the first `model.fade` images that a run shows the critic.

  Raises:
    UserError: the images, the batch or the latents do not fit the networks.
  """
  model, shape = config.model, tuple(config.data.shape)
  square = len(shape) == 3 and shape[0] == shape[1] and shape[0] >= 4 and not shape[0] & (shape[0] - 1)
  experiment.require(
    square,
    f'{config.system} takes square images of 4, 8, 16, ... pixels a side, these are of {shape}: set config.data.size,'
    ' or config.data.pad',
  )
  experiment.require(
    config.data.preprocess == 'scale_symmetric',
    f'config.data.preprocess={config.data.preprocess} must be scale_symmetric in {config.system}',
  )
  experiment.require(model.prior == 'normal', f"config.model.prior='{model.prior}' must be normal in {config.system}")
  for name, table in (('generator', ('style', 'traditional')), ('critic', ('style',))):
    experiment.one_of(f'config.model.{name}.network', getattr(model, name).network, table)
  experiment.require(model.fade >= 0, f'config.model.fade counts images, at least 0, got {model.fade}')
  experiment.require(
    not model.fade or shape[0] >= SMALLEST,
    f'config.model.fade={model.fade} needs images of {SMALLEST} x {SMALLEST} or more: set it to 0',
  )
  experiment.require(
    model.generator.get('layers', 1) > 0 or model.latents == model.generator.width,
    f'config.model.generator.layers=0 maps nothing: config.model.latents={model.latents} must be'
    f' config.model.generator.width={model.generator.width}',
  )
  constant = model.generator.get('constant', 'ones')
  experiment.one_of('config.model.generator.constant', constant, networks.CONSTANTS)
  mixing = model.generator.get('mixing', 0.0)
  experiment.require(0 <= mixing <= 1, f'config.model.generator.mixing must be in [0, 1], got {mixing}')
  _check_groups(config)
  for name in (model.get('quantize') or {}).get('layers', ()):
    experiment.require(
      name.removeprefix('layers_') not in _larger(shape[0]),
      f'config.model.quantize.layers has {name}, which images of {shape[0]} x {shape[0]} do not reach',
    )
  return Growing(games.build(config), config.batch_size / model.fade if model.fade else 0.0, model.mirror)


def _larger(size: int) -> tuple[str, ...]:
  """Returns the sizes up to 1024 that are larger."""
  return tuple(str(2**power) for power in range(2, 11) if 2**power > size)


def _check_groups(config: ConfigDict) -> None:
  """Refuses a batch that the critic's groups do not divide."""
  group, lazy = config.model.critic.get('group', 4), config.model.lazy
  experiment.require(isinstance(group, int) and group >= 0, f'config.model.critic.group must be 0 or more, got {group}')
  experiment.require(isinstance(lazy, int) and lazy >= 1, f'config.model.lazy must be at least 1, got {lazy}')
  devices = jax.device_count() if config.parallel == 'pmap' else 1
  parts = max(group, 1) * lazy * config.accumulate * devices
  shares = (
    f'{lazy} turns'
    + f' x {config.accumulate} slices' * (config.accumulate > 1)
    + f' x {devices} devices' * (devices > 1)
  )
  experiment.require(
    config.batch_size % parts == 0,
    f'config.batch_size={config.batch_size} must be a multiple of {parts}, {shares} x groups of {max(group, 1)}'
    f' (config.model.critic.group): try --config.batch_size={max(1, config.batch_size // parts) * parts}',
  )


def decay(config: ConfigDict) -> float:
  """Returns the decay of the average that halves old weights in `model.half_life` images; 0, no average, if that is 0.

  Raises:
    UserError: it is negative.
  """
  half_life = config.model.half_life
  experiment.require(half_life >= 0, f'config.model.half_life counts images, at least 0, got {half_life}')
  return math.pow(0.5, config.batch_size / config.model.lazy / half_life) if half_life else 0.0


def fade(growing: Growing, state: State) -> jax.Array | float:
  """Returns how far the largest layers have faded in at a state's step, in [0, 1]."""
  return jnp.minimum(1.0, state.step * growing.rate) if growing.rate else 1.0


def at_step(growing: Growing, state: State) -> Game:
  """Returns the game with its networks at the fade of a state."""
  now = fade(growing, state)
  return growing.game._replace(
    networks={name: network.clone(fade=now) for name, network in growing.game.networks.items()}
  )


def late(growing: Growing, make: Callable[[Game], Callable]) -> Callable:
  """Returns the function (key, state, ...) that `make` makes of the game at the fade of the state."""

  def call(key: Key, state: State, *args: Any) -> Any:
    return make(at_step(growing, state))(key, state, *args)

  return call


def shown(growing: Growing, state: State, x: jax.Array) -> jax.Array:
  """Returns real images as the critic sees them: they fade in, too, from images of half the size.

  Otherwise their detail would tell them from generated ones.
  """
  return networks.lerp(double(halve(x)), x, fade(growing, state)) if growing.rate else x


def trained_on(growing: Growing, key: Key, state: State, batch: Batch) -> Batch:
  """Returns a batch as the critic is trained on it: mirrored, and faded in."""
  x = batch['x']
  if growing.mirror:
    x = jnp.where(jax.random.bernoulli(key, shape=(x.shape[0], 1, 1, 1)), x[:, :, ::-1], x)
  return batch | {'x': shown(growing, state, x)}


def initial(growing: Growing, key: Key, params: Params, extra: dict[str, Any]) -> dict[str, Any]:
  """Returns `extra` with the mean style of 10,000 latents, if the generator has one.

  The released program begins at 0 and is biased towards it for a thousand steps.
  """
  if 'generator_statistics' not in extra:
    return extra
  network = growing.game.networks['generator']
  variables = {'params': params['generator'], games.STATISTICS: extra['generator_statistics']}
  w = network.apply(variables, growing.game.prior(key, START), method='map_latents')
  return extra | {'generator_statistics': extra['generator_statistics'] | {'w': w.mean(0)}}


def apply(growing: Growing, state: State, method: str, *args: Any) -> jax.Array:
  """Applies a method of the generator outside training."""
  variables = {'params': state.params['generator']}
  if 'generator_statistics' in state.extra:
    variables[games.STATISTICS] = state.extra['generator_statistics']
  return at_step(growing, state).networks['generator'].apply(variables, *args, method=method)


def in_range(x: jax.Array) -> jax.Array:
  """Clips images to [-1, 1]: the generator's output is linear."""
  return jnp.clip(x, -1.0, 1.0)


def synthesize(growing: Growing, state: State, styles: jax.Array, noise: list[jax.Array]) -> jax.Array:
  """Returns the images of styles [B, L, W], or [B, 1, W] for all layers, and of noise; their range is not bounded."""
  number = networks.num_layers(growing.game.networks['generator'].shape)
  wide = jnp.broadcast_to(styles, (styles.shape[0], number, styles.shape[2]))
  return apply(growing, state, 'synthesize', wide, noise)


def sampler(growing: Growing) -> Callable[[Key, State, int], jax.Array]:
  """Returns `System.sample`: images of latents, each with noise of its own."""

  def sample(key: Key, state: State, n: int) -> jax.Array:
    w = apply(growing, state, 'map_latents', growing.game.prior(key, n))
    return in_range(synthesize(growing, state, w[:, None], _own_noise(growing, key, n)))

  return sample


def _own_noise(growing: Growing, key: Key, n: int) -> list[jax.Array]:
  return networks.noise_maps(jax.random.fold_in(key, 1), n, growing.game.networks['generator'].shape)


def views(growing: Growing) -> dict[str, Any]:
  """Returns `System.views`, by name. Only styles by layer can be truncated and mixed."""
  shape = growing.game.networks['generator'].shape

  def decode(key, state, z):
    del key
    return in_range(games.decode(at_step(growing, state), state, z))

  def critic(key, state, x):
    del key
    return games.inference(at_step(growing, state), 'critic', state, shown(growing, state, x), games.REAL)[0]

  def map_latents(key, state, z):
    del key
    return apply(growing, state, 'map_latents', z)

  def synthesized(key, state, styles, number, strength):
    noise = networks.shared_noise(key, number, shape)
    weights = jnp.broadcast_to(strength, (len(noise),))
    return synthesize(growing, state, styles, [weight * each for weight, each in zip(weights, noise, strict=True)])

  def feature_codes(key, state, x):
    return class_views.feature_codes(at_step(growing, state))(key, state, shown(growing, state, x))

  there = games.views(growing.game, normal=True) | {
    'decode': decode, 'critic': critic, 'map_latents': map_latents, 'synthesize': synthesized
  }  # fmt: skip
  if growing.game.quantize:
    there['feature_codes'] = feature_codes
  by_layer = hasattr(growing.game.networks['generator'], 'truncate')
  return there | (_views_by_layer(growing) if by_layer else {})


def _views_by_layer(growing: Growing) -> dict[str, Any]:
  def styles(key, state, w, psi):
    del key
    return apply(growing, state, 'truncate', w, psi)

  def truncated(key, state, n, psi):
    w = apply(growing, state, 'map_latents', growing.game.prior(key, n))
    truncated_styles = apply(growing, state, 'truncate', w, jnp.full(n, psi, jnp.float32))
    return in_range(synthesize(growing, state, truncated_styles, _own_noise(growing, key, n)))

  return {'styles': styles, 'truncated': truncated}
