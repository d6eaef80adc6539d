"""What all adversarial systems share: the networks of a game, how they are applied, and the moves beside `descend`.

A generator maps latents [n, Z] to data; a critic maps data to a value [B] and features [B, F]. Training applies both
with the statistics of the batch at hand and with noise; whatever else sees the averages in `State.extra`. Networks that
judge are trained on batches of real examples and on batches of generated ones. Each kind has averages of its own, so
that an example is later normalised as its kind was in training.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses, models
from dgm_jax.core import Batch, Key, Metrics, Move, Params, State, averages
from dgm_jax.nn.norm import BatchNorm, LayerNorm, VirtualBatchNorm, running
from dgm_jax.views import Prior

__all__ = [
  'GENERATED', 'REAL', 'SHOWN', 'Parts', 'by_kind', 'clip', 'decode', 'fakes', 'forward', 'held', 'inference',
  'keep', 'normalisation', 'noted', 'parts', 'remember', 'sampler', 'start', 'uniform', 'values', 'views',
]  # fmt: skip

NORMS = ('none', 'batch', 'virtual', 'layer')
SHOWN = 128  # examples, and latents, that parameters and statistics start from
REAL, GENERATED = 'real', 'generated'  # kinds of examples, each with batch statistics of its own in a judge


def uniform(key: Key, n: int, size: int) -> jax.Array:
  """Latents [n, size], uniform on (-1, 1)."""
  return jax.random.uniform(key, (n, size), minval=-1.0)


def normal(key: Key, n: int, size: int) -> jax.Array:
  """Latents [n, size], standard normal."""
  return jax.random.normal(key, (n, size))


def wide_uniform(key: Key, n: int, size: int) -> jax.Array:
  """Latents [n, size], uniform with unit variance."""
  return 3**0.5 * uniform(key, n, size)


PRIORS = {'uniform': uniform, 'normal': normal, 'wide_uniform': wide_uniform}


class Parts(NamedTuple):
  """The networks of a game and where latents come from."""

  generator: nn.Module
  critic: nn.Module
  prior: Callable[[Key, int], jax.Array]  # (key, n) -> latents [n, Z]
  references: int  # latents that virtual batch normalisation refers to
  momentum: float  # of the averages of batch statistics


def parts(config: ConfigDict) -> Parts:
  """The networks that `config.model` describes.

  Raises:
    UserError: there is no such network, normalisation or prior, or a network has no such setting.
  """
  model = config.model
  experiment.one_of('config.model.prior', model.prior, PRIORS)
  prior = functools.partial(PRIORS[model.prior], size=model.latents)
  references = model.references if model.generator.get('norm', 'none') == 'virtual' else 0
  experiment.require(
    model.critic.get('norm', 'none') != 'virtual',
    "config.model.critic.norm='virtual' is for generators; take batch, layer or none",
  )
  generator = _build(config, 'generator', models.GENERATORS, shape=tuple(config.data.shape))
  critic = _build(config, 'critic', models.CRITICS)
  return Parts(generator, critic, prior, references, model.momentum)


def _build(config: ConfigDict, role: str, known: dict[str, Callable], **more) -> nn.Module:
  """The network that `config.model.<role>` describes: its name as `network`, the rest its settings."""
  settings = dict(config.model.to_dict()[role])
  name, norm = settings.pop('network'), settings.pop('norm', 'none')
  network = experiment.choose(f'config.model.{role}.network', name, known)
  if norm != 'none':
    more['norm'] = normalisation(f'config.model.{role}.norm', norm, config.model)
  return models.build(f'config.model.{role}', network, settings, **more, dtype=config.dtype)


def normalisation(path: str, name: str, model: ConfigDict) -> Callable:
  """The function that makes a layer of this name; gains start around one, as those of DCGAN do."""
  experiment.one_of(path, name, NORMS)
  gain = lambda key, shape, dtype=jnp.float32: 1 + 0.02 * jax.random.normal(key, shape, dtype)
  if name == 'batch':
    return functools.partial(BatchNorm, scale_init=gain)
  if name == 'virtual':
    return functools.partial(VirtualBatchNorm, references=model.references, scale_init=gain)
  return LayerNorm


def start(game: Parts, key: Key, batch: Batch) -> tuple[Params, dict[str, Any]]:
  """Fresh generator and critic: (params, extra)."""
  for_generator, for_critic, for_reference = jax.random.split(key, 3)
  reference = game.prior(for_reference, game.references)
  z = jnp.concatenate([reference, game.prior(for_reference, SHOWN)])
  made = {
    'generator': game.generator.init(for_generator, z),
    'critic': game.critic.init(for_critic, batch['x'][:SHOWN]),
  }
  extra = {'generator_statistics': made['generator']['batch_stats']} if 'batch_stats' in made['generator'] else {}
  extra |= by_kind('critic', made['critic'])
  extra |= {'reference': reference} if game.references else {}
  return {name: tree['params'] for name, tree in made.items()}, extra


def by_kind(name: str, made: dict[str, Any]) -> dict[str, Any]:
  """The first entry of `State.extra` for a judge's statistics of each kind of examples; {} if it has none."""
  if 'batch_stats' not in made:
    return {}
  return {f'{name}_statistics': {kind: jax.tree.map(jnp.copy, made['batch_stats']) for kind in (REAL, GENERATED)}}


def keep(params: Params, extra: dict[str, Any], model: ConfigDict) -> dict[str, Any]:
  """`extra` with the generator's moving average and the players' averages over time, where the model wants them."""
  extra = averages(params, extra, ('generator',), 'generator_statistics') if model.average else extra
  return extra | ({'history': dict(params)} if model.get('historical', 0.0) else {})


def forward(module: nn.Module, name: str, state: State, x: jax.Array, key: Key) -> tuple[Any, dict]:
  """Applies a network in training: what it gives, and the statistics of this batch."""
  variables = {'params': state.params[name]}
  out, seen = module.apply(variables, x, rngs={'dropout': key}, mutable=['batch_stats'])
  return out, seen.get('batch_stats', {})


def inference(module: nn.Module, name: str, state: State, x: jax.Array, kind: str = '') -> Any:
  """Applies a network outside training: averages for statistics, no noise.

  Args:
    kind: REAL or GENERATED, of the examples that a judge is shown; '' for a generator.
  """
  statistics = state.extra.get(f'{name}_statistics')
  if statistics is None:
    return module.apply({'params': state.params[name]}, x)
  return module.apply({'params': state.params[name], 'batch_stats': statistics[kind] if kind else statistics}, x)


def noted(game: Parts, name: str, state: State, seen: Any) -> dict[str, Any]:
  """Averages a network's statistics over one more batch: its entry of `State.extra`; {} if it has none.

  Args:
    seen: the batch's statistics; of a judge, {kind: the statistics of a batch of that kind}.
  """
  entry = f'{name}_statistics'
  return {entry: running(state.extra[entry], seen, game.momentum)} if entry in state.extra else {}


def fakes(game: Parts, state: State, z: jax.Array, key: Key) -> tuple[jax.Array, dict]:
  """Generated examples in training, [n, ...], and the statistics that the generator has seen."""
  x, seen = forward(game.generator, 'generator', state, _referred(game, state, z), key)
  return x[game.references :], seen


def decode(game: Parts, state: State, z: jax.Array) -> jax.Array:
  """Generated examples, [n, ...], of latents [n, Z], each a function of its own latents."""
  return inference(game.generator, 'generator', state, _referred(game, state, z))[game.references :]


def sampler(game: Parts) -> Callable[[Key, State, int], jax.Array]:
  """`System.sample` of a game."""
  return lambda key, state, n: decode(game, state, game.prior(key, n))


def views(game: Parts, normal: bool = False) -> dict[str, Any]:
  """Makes `System.views` of a game; `decode` and `prior` are of images only.

  Args:
    game: whose critic takes x for real examples; `values` has it judge generated ones as such.
    normal: whether latents are standard normal.
  """
  prior = Prior(sample=lambda key, state, n: game.prior(key, n), normal=normal)
  images = {'decode': lambda key, state, z: decode(game, state, z), 'prior': prior}
  critic = lambda key, state, x: inference(game.critic, 'critic', state, x, REAL)[0]
  return {'critic': critic} | (images if len(game.generator.shape) == 3 else {})


def values(game: Parts) -> Callable[[Key, State, Batch], Metrics]:
  """The critic's value of real examples and of as many generated ones, [B] each, outside training."""

  def measure(key: Key, state: State, batch: Batch) -> Metrics:
    fake = decode(game, state, game.prior(key, batch['x'].shape[0]))
    critic = lambda x, kind: inference(game.critic, 'critic', state, x, kind)[0]
    return {'real_value': critic(batch['x'], REAL), 'fake_value': critic(fake, GENERATED)}

  return measure


def clip(name: str, bound: float) -> Move:
  """Holds every parameter of a network in [-bound, bound].

  Reference: Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1.
  """

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    del key, batch
    return state.replace(params=state.params | {name: losses.clip_parameters(state.params[name], bound=bound)}), {}

  return Move(lambda params: {}, apply)


def remember(*names: str) -> Move:
  """Keeps `extra['history']`, the mean over all steps so far of each network's parameters.

  Reference: Salimans et al. 2016, arXiv:1606.03498, section 3.3.
  """

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    del key, batch
    rate = 1 / (state.step + 2)  # the start counts as the first
    history = {
      name: jax.tree.map(lambda mean, now: mean + rate * (now - mean), state.extra['history'][name], state.params[name])
      for name in names
    }
    return state.replace(extra=state.extra | {'history': history}), {}

  return Move(lambda params: {}, apply)


def held(name: str, weight: float, loss: Callable) -> Callable:
  """A player's loss with `weight` times the squared distance of its network from the mean over time."""
  if not weight:
    return loss

  def total(key: Key, state: State, batch: Batch):
    value, aux = loss(key, state, batch)
    return value + weight * losses.historical_averaging(state.params[name], state.extra['history'][name]), aux

  return total


def _referred(game: Parts, state: State, z: jax.Array) -> jax.Array:
  """Latents with those of the reference batch in front."""
  return jnp.concatenate([state.extra['reference'], z]) if game.references else z
