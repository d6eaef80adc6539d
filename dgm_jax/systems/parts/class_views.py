"""What can be asked of a game whose networks may know labels: samples by class, settled statistics, truncation, codes.

Axes: B batch, n examples, Z latents, K classes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dgm_jax.core import Key, State, unaveraged
from dgm_jax.nn.norm import running
from dgm_jax.systems.parts import games
from dgm_jax.systems.parts.games import Game
from dgm_jax.systems.parts.labels import labels_by_row
from dgm_jax.views import Prior

__all__ = ['TRUNCATION', 'build', 'draw_inputs', 'feature_codes', 'settle']

TRUNCATION = 'truncation'  # entry of `State.extra`: the bound of latents that a settled state is sampled with
STATISTICS = 'generator_statistics'
MANY = 100  # most classes of the view `classes`: ten images of each of ImageNet's fit in no memory
FARTHEST = 6.0  # bound of normal latents: an infinite one would make the least float of a draw in 2^23


def build(game: Game, examples: int, normal: bool) -> dict[str, Any]:
  """Returns the views of a game, by name; they replace those of `games.views` that labels change.

  Args:
    game: the game.
    examples: number of examples of a batch that settles statistics.
    normal: whether latents are standard normal.
  """
  views: dict[str, Any] = {'draw': _draw(game)}
  if normal and len(game.networks['generator'].shape) == 3:
    views['settle'] = lambda key, state, batches, truncation: settle(game, key, state, batches, truncation, examples)
  if game.quantize:
    views['feature_codes'] = feature_codes(game)
  return views | (_class_views(game) if game.classes else _plain_views(game, normal))


def draw_inputs(game: Game, key: Key, state: State, n: int, labels: jax.Array | None = None) -> Any:
  """Samples n inputs of the generator, latents with labels where the game has classes.

  The latents are truncated if the state was settled at a truncation.
  """
  bound = state.extra.get(TRUNCATION)
  z = games.latents(game, key, n)
  if bound is not None:
    shape = z[0].shape if game.classes else z.shape
    nearer = jnp.minimum(bound, FARTHEST)
    normal = jax.random.truncated_normal(key, -nearer, nearer, shape)
    z = (normal, z[1]) if game.classes else normal
  return z if labels is None else (z[0], labels)


def settle(game: Game, key: Key, state: State, batches: jax.Array, truncation: jax.Array, examples: int) -> State:
  """Returns the state whose generator's batch statistics are means over one more batch.

  Args:
    game: the game.
    key: random key.
    state: the state; that of the batch before, except for the first.
    batches: number of batches so far, [] int32. The statistics of the state itself do not count.
    truncation: [] bound of the latents, infinite for none; the state is sampled with it from then on.
    examples: number of examples of the batch.

  Reference: Brock et al. 2019, arXiv:1809.11096, appendix D (16 batches, as in its program).
  """
  state = unaveraged(state)
  state = state.replace(extra=state.extra | {TRUNCATION: jnp.asarray(truncation, jnp.float32)})
  inputs = draw_inputs(game, key, state, examples)
  # The weights are those of samples: their norms take as many steps.
  _, statistics = games.generate(game, state, inputs, key, games.POWER_STEPS)
  if STATISTICS not in state.extra:
    return state
  mean = running(state.extra[STATISTICS], statistics[games.STATISTICS], batches / (batches + 1.0))
  return state.replace(extra=state.extra | {STATISTICS: mean})


def _draw(game: Game):
  def draw(key, state, n, labels=None, temperature=1.0):
    inputs = draw_inputs(game, key, state, n, labels)
    return games.decode(game, state, (temperature * inputs[0], inputs[1]) if game.classes else temperature * inputs)

  return draw


def _plain_views(game: Game, normal: bool) -> dict[str, Any]:
  def sample_latents(key, state, n):
    return draw_inputs(game, key, state, n)

  return {'prior': Prior(sample=sample_latents, normal=normal)} if len(game.networks['generator'].shape) == 3 else {}


def _class_views(game: Game) -> dict[str, Any]:
  """Returns the views of a game with classes; latents alone are no code, and an example alone has no value."""
  draw = _draw(game)

  def classes(key, state, columns):
    labels = jnp.repeat(jnp.arange(min(game.classes, MANY)), columns)
    return draw(key, state, labels.size, labels)

  def row_sample(key, state, n):
    return draw(key, state, n, labels_by_row(n, game.classes))

  return {'classes': classes, 'row_sample': row_sample, 'critic': None, 'decode': None, 'prior': None}


def feature_codes(game: Game) -> Callable[[Key, State, jax.Array], dict[str, jax.Array]]:
  """Returns the view of the codes of a critic's features, layer -> [B, ...], of examples to be real."""

  def codes(key, state, x):
    del key
    variables = games.variables(game, 'critic', state, games.POWER_STEPS)[0]
    if (statistics := state.extra.get('critic_statistics')) is not None:
      variables[games.STATISTICS] = statistics[games.REAL]
    labels = [jnp.zeros(x.shape[0], jnp.int32)] if game.classes else []
    _, outputs = game.networks['critic'].apply(variables, x, *labels, mutable=['codes'])
    return {name.removeprefix('quantize_'): leaf['codes'][0] for name, leaf in outputs['codes'].items()}

  return codes
