"""What all adversarial systems share: the networks of a game, how they are applied, and what is kept beside them.

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
from dgm_jax.nn.norm import BatchNorm, LayerNorm, VirtualBatchNorm, directions, running, spectral
from dgm_jax.views import Prior

__all__ = [
  'GENERATED',
  'REAL',
  'SHOWN',
  'Game',
  'build',
  'by_kind',
  'constrained',
  'decode',
  'fakes',
  'forward',
  'inference',
  'keep',
  'normalisation',
  'noted',
  'remember',
  'sampler',
  'start',
  'ties_examples',
  'uniform',
  'values',
  'views',
]  # fmt: skip

NORMS = ('none', 'batch', 'virtual', 'layer')
SHOWN = 128  # examples, and latents, that parameters and statistics start from
REAL, GENERATED = 'real', 'generated'  # kinds of examples, each with batch statistics of its own in a judge
BESIDE = ('generator_statistics', 'generator_spectral')  # what is averaged along with the generator
STATISTICS = 'batch_stats'  # the collection that is averaged, in the entry <network>_statistics of `State.extra`
# Constraints: those that move the weights after each step, and those that networks are applied through.
PROJECTIONS = {'clip': lambda params, bound: losses.clip_parameters(params, bound=bound)}
WEIGHT_NORMS = {'spectral': spectral}


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


class Game(NamedTuple):
  """The networks of a game and where latents come from."""

  networks: dict[str, nn.Module]  # 'generator', 'critic', and what else a system has
  constraints: dict[str, dict[str, float]]  # network -> constraint of its weights -> bound
  prior: Callable[[Key, int], jax.Array]  # (key, n) -> latents [n, Z]
  references: int  # latents that virtual batch normalisation refers to
  momentum: float  # of the averages of batch statistics


def build(config: ConfigDict) -> Game:
  """The game that `config.model` describes.

  `model.generator` and `model.critic` name a `network` and give its settings, the `norm` of its layers and the
  `constraints` of its weights, each with a bound.

  Raises:
    UserError: there is no such network, normalisation, constraint or prior, or a network has no such setting.
  """
  model = config.model
  sample = experiment.choose('config.model.prior', model.prior, PRIORS)
  references = model.references if model.generator.get('norm', 'none') == 'virtual' else 0
  experiment.require(
    model.critic.get('norm', 'none') != 'virtual',
    "config.model.critic.norm='virtual' is for generators; take batch, layer or none",
  )
  networks = {
    'generator': _network(config, 'generator', models.GENERATORS, shape=tuple(config.data.shape)),
    'critic': _network(config, 'critic', models.CRITICS),
  }
  constraints = {role: _constraints(config, role) for role in networks}
  return Game(networks, constraints, functools.partial(sample, size=model.latents), references, model.momentum)


def _network(config: ConfigDict, role: str, known: dict[str, Callable], **more) -> nn.Module:
  """The network that `config.model.<role>` describes: its name as `network`, the rest its settings."""
  settings = dict(config.model.to_dict()[role])
  name, norm = settings.pop('network'), settings.pop('norm', 'none')
  settings.pop('constraints', None)
  if role == 'critic':
    settings.pop('regularisers', None)
  network = experiment.choose(f'config.model.{role}.network', name, known)
  if norm != 'none':
    more['norm'] = normalisation(f'config.model.{role}.norm', norm, config.model)
  return models.build(f'config.model.{role}', network, settings, **more, dtype=config.dtype)


def _constraints(config: ConfigDict, role: str) -> dict[str, float]:
  constraints = dict(getattr(config.model, role).get('constraints', {}))
  for name, bound in constraints.items():
    experiment.one_of(f'a key of config.model.{role}.constraints', name, (*PROJECTIONS, *WEIGHT_NORMS))
    experiment.require(bound > 0, f'config.model.{role}.constraints.{name} must be positive, got {bound}')
  return constraints


def normalisation(path: str, name: str, model: ConfigDict) -> Callable:
  """The function that makes a layer of this name; gains start around one, as those of DCGAN do."""
  experiment.one_of(path, name, NORMS)
  gain = lambda key, shape, dtype=jnp.float32: 1 + 0.02 * jax.random.normal(key, shape, dtype)
  if name == 'batch':
    return functools.partial(BatchNorm, scale_init=gain)
  if name == 'virtual':
    return functools.partial(VirtualBatchNorm, references=model.references, scale_init=gain)
  return LayerNorm


def ties_examples(model: ConfigDict) -> bool:
  """Whether the critic's value of an example depends on the others of its batch."""
  return model.critic.get('norm', 'none') == 'batch' or model.critic.get('kernels', 0) > 0


def start(game: Game, key: Key, batch: Batch) -> tuple[Params, dict[str, Any]]:
  """Fresh generator and critic: (params, extra)."""
  for_generator, for_critic, for_reference = jax.random.split(key, 3)
  reference = game.prior(for_reference, game.references)
  z = jnp.concatenate([reference, game.prior(for_reference, SHOWN)])
  made = {
    'generator': game.networks['generator'].init(for_generator, z),
    'critic': game.networks['critic'].init(for_critic, batch['x'][:SHOWN]),
  }
  extra = {'generator_statistics': made['generator'][STATISTICS]} if STATISTICS in made['generator'] else {}
  extra |= by_kind('critic', made['critic'])
  extra |= {'reference': reference} if game.references else {}
  for name, constraints in game.constraints.items():
    for norm in constraints.keys() & WEIGHT_NORMS.keys():
      extra[f'{name}_{norm}'] = directions(jax.random.fold_in(key, 3 + len(extra)), made[name]['params'])
  return {name: tree['params'] for name, tree in made.items()}, extra


def by_kind(name: str, made: dict[str, Any]) -> dict[str, Any]:
  """The first entry of `State.extra` for a judge's statistics of each kind of examples; {} if it has none."""
  if STATISTICS not in made:
    return {}
  return {f'{name}_statistics': {kind: jax.tree.map(jnp.copy, made[STATISTICS]) for kind in (REAL, GENERATED)}}


def keep(params: Params, extra: dict[str, Any], model: ConfigDict) -> dict[str, Any]:
  """`extra` with the generator's moving average and the players' averages over time, where the model wants them."""
  extra = averages(params, extra, ('generator',), *BESIDE) if model.average else extra
  return extra | ({'history': dict(params)} if model.get('historical', 0.0) else {})


def _weights(game: Game, name: str, state: State) -> tuple[Any, dict[str, Any]]:
  """The parameters that a network is applied with, and what the norms of its weights have found: {norm: tree}."""
  params, found = state.params[name], {}
  for norm, bound in game.constraints.get(name, {}).items():
    if norm in WEIGHT_NORMS:
      params, found[norm] = WEIGHT_NORMS[norm](params, state.extra[f'{name}_{norm}'], bound)
  return params, found


def forward(game: Game, name: str, state: State, x: jax.Array, key: Key) -> tuple[Any, dict]:
  """Applies a network in training.

  Returns:
    what it gives, and what it has seen: {'batch_stats': of this batch, norm of weights: its memory}.
  """
  params, found = _weights(game, name, state)
  out, seen = game.networks[name].apply({'params': params}, x, rngs={'dropout': key}, mutable=[STATISTICS])
  return out, dict(seen) | found


def inference(game: Game, name: str, state: State, x: jax.Array, kind: str = '') -> Any:
  """Applies a network outside training: averages for statistics, no noise.

  Args:
    kind: REAL or GENERATED, of the examples that a judge is shown; '' for a generator.
  """
  variables = {'params': _weights(game, name, state)[0]}
  if (statistics := state.extra.get(f'{name}_statistics')) is not None:
    variables[STATISTICS] = statistics[kind] if kind else statistics
  return game.networks[name].apply(variables, x)


def noted(game: Game, name: str, state: State, **seen: dict) -> dict[str, Any]:
  """What `State.extra` keeps beside a network's parameters after one more batch: the entries that are new.

  Batch statistics are averaged, everything else is replaced.

  Args:
    seen: what `forward` gave, as `seen`; of a judge, as `real` and `generated`.
  """
  kinds = {kind: dict(collections) for kind, collections in seen.items()}
  batch = {kind: collections.pop(STATISTICS, None) for kind, collections in kinds.items()}
  extra = {f'{name}_{other}': tree for collections in kinds.values() for other, tree in collections.items()}
  entry = f'{name}_statistics'
  if entry in state.extra:
    extra[entry] = running(state.extra[entry], batch.get('seen', batch), game.momentum)
  return extra


def fakes(game: Game, state: State, z: jax.Array, key: Key) -> tuple[jax.Array, dict]:
  """Generated examples in training, [n, ...], and what the generator has seen."""
  x, seen = forward(game, 'generator', state, _referred(game, state, z), key)
  return x[game.references :], seen


def decode(game: Game, state: State, z: jax.Array) -> jax.Array:
  """Generated examples, [n, ...], of latents [n, Z], each a function of its own latents."""
  return inference(game, 'generator', state, _referred(game, state, z))[game.references :]


def sampler(game: Game) -> Callable[[Key, State, int], jax.Array]:
  """`System.sample` of a game."""
  return lambda key, state, n: decode(game, state, game.prior(key, n))


def views(game: Game, normal: bool = False) -> dict[str, Any]:
  """Makes `System.views` of a game; `decode` and `prior` are of images only.

  Args:
    game: whose critic takes x for real examples; `values` has it judge generated ones as such.
    normal: whether latents are standard normal.
  """
  prior = Prior(sample=lambda key, state, n: game.prior(key, n), normal=normal)
  images = {'decode': lambda key, state, z: decode(game, state, z), 'prior': prior}
  critic = lambda key, state, x: inference(game, 'critic', state, x, REAL)[0]
  return {'critic': critic} | (images if len(game.networks['generator'].shape) == 3 else {})


def values(game: Game) -> Callable[[Key, State, Batch], Metrics]:
  """The critic's value of real examples and of as many generated ones, [B] each, outside training."""

  def measure(key: Key, state: State, batch: Batch) -> Metrics:
    fake = decode(game, state, game.prior(key, batch['x'].shape[0]))
    critic = lambda x, kind: inference(game, 'critic', state, x, kind)[0]
    return {'real_value': critic(batch['x'], REAL), 'fake_value': critic(fake, GENERATED)}

  return measure


def constrained(game: Game, *names: str) -> list[Move]:
  """The moves that bring networks' weights back within their bounds, each to follow a step of its network."""
  return [
    _project(name, PROJECTIONS[constraint], bound)
    for name in names
    for constraint, bound in game.constraints[name].items()
    if constraint in PROJECTIONS
  ]


def _project(name: str, projection: Callable, bound: float) -> Move:
  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    del key, batch
    return state.replace(params=state.params | {name: projection(state.params[name], bound)}), {}

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


def _referred(game: Game, state: State, z: jax.Array) -> jax.Array:
  """Latents with those of the reference batch in front."""
  return jnp.concatenate([state.extra['reference'], z]) if game.references else z
