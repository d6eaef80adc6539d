"""The parts that adversarial systems share: the networks of a game, their application, and their statistics.

A generator maps latents [n, Z] to data; a critic maps data to a value [B] and features [B, F]. Training applies both
with the statistics of the current batch and with noise. Evaluation uses the averages in `State.extra`.

A critic is trained on batches of real examples and on batches of generated ones. Each kind has averages of its own, so
that in evaluation an example is normalised as its kind was in training.

Networks that know labels take a pair: (latents [n, Z], labels [n]), (data [B, ...], labels [B]).
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
from dgm_jax.systems.parts import quantizers
from dgm_jax.systems.parts.labels import sample_labels
from dgm_jax.systems.parts.moves import without_optimizer
from dgm_jax.systems.parts.noise import PRIORS, uniform
from dgm_jax.views import Prior

__all__ = [
  'GENERATED', 'INIT_EXAMPLES', 'REAL', 'Game', 'build', 'decode', 'examples', 'forward', 'generate', 'inference',
  'init_networks', 'latents', 'like', 'moved_by_others', 'normalisation', 'projections', 'sampler',
  'statistics_by_kind', 'ties_examples', 'uniform', 'update_history', 'update_statistics', 'values', 'variables',
  'views', 'with_averages',
]  # fmt: skip


def clip(params: Any, bound: float) -> Any:
  """Clips parameters to [-bound, bound]."""
  return losses.clip_parameters(params, bound=bound)


NORMS = ('none', 'batch', 'virtual', 'layer')
INIT_EXAMPLES = 128  # number of examples, and of latents, that initialise parameters and statistics
REAL, GENERATED = 'real', 'generated'  # kinds of examples, each with batch statistics of its own in a critic
AVERAGED_EXTRAS = ('generator_statistics', 'generator_spectral')  # entries of `State.extra` averaged with the generator
STATISTICS = 'batch_stats'  # the collection averaged in the entry <network>_statistics of `State.extra`
CODEBOOK = 'codebook'  # the collection averaged in the entry <network>_codebook
WRITTEN = (STATISTICS, CODEBOOK, 'commitment')  # collections that a network writes in training
POWER_STEPS = 5  # of the power method outside training: averaged weights have no directions of their own
# Constraints: projections of the weights after each step, and normalised weights that networks are applied with.
PROJECTIONS = {'clip': clip}
WEIGHT_NORMS = {'spectral': spectral}


class Game(NamedTuple):
  """The networks of a game and the prior of its latents."""

  networks: dict[str, nn.Module]  # 'generator', 'critic', and further ones of a system
  constraints: dict[str, dict[str, float]]  # network -> constraint of its weights -> bound
  prior: Callable[[Key, int], jax.Array]  # (key, n) -> latents [n, Z]
  references: int  # number of reference latents of virtual batch normalisation
  momentum: float  # of the averages of batch statistics
  classes: int = 0  # that the networks are told, 0: none
  shares: tuple[float, ...] = ()  # of the classes among the training examples; (): all are equally likely
  quantize: ConfigDict | None = None  # of the critic's features
  everywhere: bool = False  # whether a move also moves the directions of the other network's spectral norms
  free: tuple[str, ...] = ()  # layers without a norm of their weights


def build(config: ConfigDict, **heads: Any) -> Game:
  """Builds the game that `config.model` describes.

  `model.generator` and `model.critic` name a `network` and give its settings, the `norm` of its layers and the
  `constraints` of its weights, each with a bound. `model.quantize` describes the quantization of the critic's features
  (`quantizers`). `model.spectral` says whose moves move the directions of spectral norms (`everywhere`), and which
  layers have none (`free`).

  Args:
    config: the experiment.
    **heads: of networks that know labels: `classes`, and for the critic `head`.

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
  classes = {'classes': heads['classes']} if heads else {}
  networks = {
    'generator': _network(config, 'generator', models.GENERATORS, shape=tuple(config.data.shape), **classes),
    'critic': _network(config, 'critic', models.CRITICS, **heads),
  }
  constraints = {role: _constraints(config, role) for role in networks}
  return Game(
    networks=networks,
    constraints=constraints,
    prior=functools.partial(sample, size=model.latents),
    references=references,
    momentum=model.momentum,
    classes=heads.get('classes', 0),
    shares=tuple(config.data.class_shares),
    quantize=model.get('quantize') or None,
    everywhere=model.get('spectral', {}).get('everywhere', False),
    free=tuple(model.get('spectral', {}).get('free', ())),
  )


def _network(config: ConfigDict, role: str, table: dict[str, Callable], **more) -> nn.Module:
  """Builds the network that `config.model.<role>` describes: `network` is its name, the rest its settings."""
  settings = dict(config.model.to_dict()[role])
  name, norm = settings.pop('network'), settings.pop('norm', 'none')
  settings.pop('constraints', None)
  settings.pop('regularisers', None)
  network = experiment.choose(f'config.model.{role}.network', name, table)
  if norm != 'none':
    more['norm'] = normalisation(f'config.model.{role}.norm', norm, config.model)
  experiment.require(
    'classes' not in more or 'classes' in network.__dataclass_fields__,
    f"config.model.{role}.network='{name}' takes no labels, which {config.system} needs: take biggan or dense_classes",
  )
  built = models.build(f'config.model.{role}', network, settings, **more, dtype=config.dtype)
  quantize = config.model.get('quantize') if role == 'critic' else None
  return quantizers.quantized(built, quantize) if quantize else built


def _constraints(config: ConfigDict, role: str) -> dict[str, float]:
  constraints = dict(getattr(config.model, role).get('constraints', {}))
  for name, bound in constraints.items():
    experiment.one_of(f'a key of config.model.{role}.constraints', name, (*PROJECTIONS, *WEIGHT_NORMS))
    experiment.require(bound > 0, f'config.model.{role}.constraints.{name} must be positive, got {bound}')
  return constraints


def normalisation(path: str, name: str, model: ConfigDict) -> Callable:
  """Returns the function that creates a normalisation layer by name; gains start around one, as in DCGAN."""
  experiment.one_of(path, name, NORMS)
  gain = lambda key, shape, dtype=jnp.float32: 1 + 0.02 * jax.random.normal(key, shape, dtype)
  if name == 'batch':
    return functools.partial(BatchNorm, scale_init=gain)
  if name == 'virtual':
    return functools.partial(VirtualBatchNorm, references=model.references, scale_init=gain)
  return LayerNorm


def ties_examples(model: ConfigDict) -> bool:
  """Returns whether the critic's value of an example depends on the others of its batch."""
  return model.critic.get('norm', 'none') == 'batch' or model.critic.get('kernels', 0) > 0


def init_networks(game: Game, key: Key, batch: Batch) -> tuple[Params, dict[str, Any]]:
  """Returns initial parameters of generator and critic: (params, extra)."""
  for_generator, for_critic, for_reference = jax.random.split(key, 3)
  reference = game.prior(for_reference, game.references)
  z = jnp.concatenate([reference, game.prior(for_reference, INIT_EXAMPLES)])
  labels = [jnp.arange(INIT_EXAMPLES) % game.classes] if game.classes else []
  x = batch['x'][:INIT_EXAMPLES]
  variables = {
    'generator': game.networks['generator'].init(for_generator, z, *labels),
    'critic': game.networks['critic'].init(for_critic, x, *(y[: len(x)] for y in labels)),
  }
  extra = {'generator_statistics': variables['generator'][STATISTICS]} if STATISTICS in variables['generator'] else {}
  extra |= statistics_by_kind('critic', variables['critic'])
  extra |= {'critic_codebook': variables['critic'][CODEBOOK]} if game.quantize else {}
  extra |= {'reference': reference} if game.references else {}
  for name, constraints in game.constraints.items():
    for norm in constraints.keys() & WEIGHT_NORMS.keys():
      own = jax.random.fold_in(key, 3 + len(extra))
      extra[f'{name}_{norm}'] = directions(own, variables[name]['params'], game.free)
  return {name: tree['params'] for name, tree in variables.items()}, extra


def statistics_by_kind(name: str, variables: dict[str, Any]) -> dict[str, Any]:
  """Returns the initial entry of `State.extra` for a network's statistics of each kind of examples.

  Args:
    name: the network.
    variables: as its `init` returns them; without batch statistics the result is {}.
  """
  if STATISTICS not in variables:
    return {}
  return {f'{name}_statistics': {kind: jax.tree.map(jnp.copy, variables[STATISTICS]) for kind in (REAL, GENERATED)}}


def with_averages(extra: dict[str, Any], params: Params, model: ConfigDict) -> dict[str, Any]:
  """Returns `extra` with the averages that the model asks for: of the generator, and of all players over time."""
  extra = averages(params, extra, ('generator',), *AVERAGED_EXTRAS) if model.average else extra
  return extra | ({'history': dict(params)} if model.get('historical', 0.0) else {})


def variables(game: Game, name: str, state: State, steps: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns what a network is applied with, and {norm of weights: its updated memory}.

  A norm of weights is computed by `steps` steps from its memory.
  """
  params, memory = state.params[name], {}
  for norm, bound in game.constraints.get(name, {}).items():
    if norm in WEIGHT_NORMS:
      params, memory[norm] = WEIGHT_NORMS[norm](params, state.extra[f'{name}_{norm}'], bound, steps)
  codebook = state.extra.get(f'{name}_{CODEBOOK}')
  return {'params': params} | ({CODEBOOK: codebook} if codebook is not None else {}), memory


def forward(game: Game, name: str, state: State, x: Any, key: Key, steps: int = 1) -> tuple[Any, dict]:
  """Applies a network in training; norms of weights take so many steps.

  Returns:
    its output, and its statistics {'batch_stats': of this batch, 'codebook': counts and sums of this batch,
    'commitment': of each layer [B], norm of weights: its updated memory}.
  """
  collections, memory = variables(game, name, state, steps)
  out, statistics = game.networks[name].apply(collections, *_inputs(x), rngs={'dropout': key}, mutable=WRITTEN)
  return out, dict(statistics) | memory


def inference(game: Game, name: str, state: State, x: Any, kind: str = '') -> Any:
  """Applies a network outside training: with averaged statistics and without noise.

  Args:
    game: the game.
    name: the network.
    state: the state.
    x: its inputs, [B, ...], or a pair of them and labels [B].
    kind: REAL or GENERATED, the kind of the examples x; '' for a generator.
  """
  collections, _ = variables(game, name, state, POWER_STEPS)
  if (statistics := state.extra.get(f'{name}_statistics')) is not None:
    collections[STATISTICS] = statistics[kind] if kind else statistics
  return game.networks[name].apply(collections, *_inputs(x))


def _inputs(x: Any) -> tuple:
  return x if isinstance(x, tuple) else (x,)


def update_statistics(game: Game, name: str, state: State, **statistics: dict) -> dict[str, Any]:
  """Returns the entries of `State.extra` beside a network's parameters, updated by one more batch.

  Batch statistics and those of codebooks are averaged, the latter by each kind in turn. Everything else is replaced.

  Args:
    game: the game.
    name: the network.
    state: the state.
    **statistics: the statistics that `forward` returns, as `batch`; for a critic, as `real` and `generated`.
  """
  kinds = {kind: dict(collections) for kind, collections in statistics.items()}
  batch = {kind: collections.pop(STATISTICS, None) for kind, collections in kinds.items()}
  batches = [collections.pop(CODEBOOK, None) for collections in kinds.values()]
  extra = {f'{name}_{other}': tree for collections in kinds.values() for other, tree in collections.items()}
  entry, book = f'{name}_statistics', f'{name}_{CODEBOOK}'
  if entry in state.extra:
    extra[entry] = running(state.extra[entry], batch.get('batch', batch), game.momentum)
  if game.quantize and book in state.extra:
    extra[book] = functools.reduce(lambda old, new: running(old, new, game.quantize.decay), batches, state.extra[book])
  return extra


def moved_by_others(game: Game, name: str, state: State, statistics: dict) -> dict[str, Any]:
  """Returns the entries beside a network's parameters that the move of another player changes, too.

  There are none unless the config asks for what a program does: `model.spectral.everywhere` for the directions of
  spectral norms, `model.quantize.both` for a critic's codebooks.
  """
  entries = {f'{name}_{norm}': statistics[norm] for norm in WEIGHT_NORMS if game.everywhere and norm in statistics}
  if game.quantize and game.quantize.both and CODEBOOK in statistics:
    entry = f'{name}_{CODEBOOK}'
    entries[entry] = running(state.extra[entry], statistics[CODEBOOK], game.quantize.decay)
  return entries


def latents(game: Game, key: Key, n: int, batch: Batch | None = None) -> Any:
  """Samples n inputs of the generator: latents [n, Z], or a pair of them and labels [n].

  Args:
    game: the game.
    key: random key.
    n: the number.
    batch: labels are its own in another order, which has their shares exactly; None: labels are drawn by `game.shares`.
  """
  z = game.prior(key, n)
  if not game.classes:
    return z
  for_labels = jax.random.fold_in(key, 1)
  if batch is not None:
    return z, jnp.resize(jax.random.permutation(for_labels, batch['y']), n)
  return z, sample_labels(for_labels, n, game.classes, game.shares)


def examples(game: Game, batch: Batch) -> Any:
  """Returns the real inputs of the critic: data [B, ...], or a pair of them and labels [B]."""
  return (batch['x'], batch['y']) if game.classes else batch['x']


def like(inputs: Any, x: jax.Array) -> Any:
  """Returns the inputs of the critic that have the data x and the labels of others, or none."""
  return (x, inputs[1]) if isinstance(inputs, tuple) else x


def generate(game: Game, state: State, z: Any, key: Key, steps: int = 1) -> tuple[jax.Array, dict]:
  """Generates examples in training, [n, ...]; returns them and the generator's statistics."""
  x, statistics = forward(game, 'generator', state, _with_reference(game, state, z), key, steps)
  return x[game.references :], statistics


def decode(game: Game, state: State, z: Any) -> jax.Array:
  """Generates examples [n, ...] from latents [n, Z], each a function of its own latents alone."""
  return inference(game, 'generator', state, _with_reference(game, state, z))[game.references :]


def sampler(game: Game) -> Callable[[Key, State, int], jax.Array]:
  """Returns `System.sample` of a game."""

  def sample(key: Key, state: State, n: int) -> jax.Array:
    return decode(game, state, latents(game, key, n))

  return sample


def views(game: Game, normal: bool = False) -> dict[str, Any]:
  """Returns `System.views` of a game, by name; `decode` and `prior` are of images only.

  Args:
    game: the game; the view `critic` takes examples to be real, `values` takes generated ones to be generated.
    normal: whether latents are standard normal.
  """

  def sample_latents(key, state, n):
    del state
    return game.prior(key, n)

  def decode_latents(key, state, z):
    del key
    return decode(game, state, z)

  def critic(key, state, x):
    del key
    return inference(game, 'critic', state, x, REAL)[0]

  images = {'decode': decode_latents, 'prior': Prior(sample=sample_latents, normal=normal)}
  return {'critic': critic} | (images if len(game.networks['generator'].shape) == 3 else {})


def values(game: Game) -> Callable[[Key, State, Batch], Metrics]:
  """Returns `System.evaluate` of a game: the critic's values of real and of as many generated examples, [B] each."""

  def measure(key: Key, state: State, batch: Batch) -> Metrics:
    z = latents(game, key, batch['x'].shape[0])
    value = lambda x, kind: inference(game, 'critic', state, x, kind)[0]
    fake = like(z, decode(game, state, z))
    return {'real_value': value(examples(game, batch), REAL), 'fake_value': value(fake, GENERATED)}

  return measure


def projections(game: Game, *names: str) -> list[Move]:
  """Returns the moves that project networks' weights onto their bounds, each to follow a step of its network."""
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

  return without_optimizer(apply)


def update_history(*names: str) -> Move:
  """Returns the move that averages each network's parameters over all steps so far, in `extra['history']`.

  Reference: Salimans et al. 2016, arXiv:1606.03498, section 3.3.
  """

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    del key, batch
    rate = 1 / (state.step + 2)  # the initial parameters count as the first
    history = {
      name: jax.tree.map(lambda mean, now: mean + rate * (now - mean), state.extra['history'][name], state.params[name])
      for name in names
    }
    return state.replace(extra=state.extra | {'history': history}), {}

  return without_optimizer(apply)


def _with_reference(game: Game, state: State, z: Any) -> Any:
  """Returns the latents with the reference batch in front, if there is one."""
  return jnp.concatenate([state.extra['reference'], z]) if game.references else z
