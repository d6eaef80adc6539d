"""The interface every system implements, and the moves its step is built from.

B is the batch, the leading axis of every array of a Batch. Losses and metrics
are in nats unless their name says otherwise.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from dgm_jax.views import Views

__all__ = [
  'Batch', 'Key', 'Metrics', 'Move', 'Params', 'Player', 'State', 'System', 'average', 'averages', 'chain',
  'descend', 'repeat', 'system', 'turns', 'unaveraged',
]  # fmt: skip

Key = jax.Array
Batch = dict[str, jax.Array]
Params = dict[str, Any]
Metrics = dict[str, jax.Array]


@flax.struct.dataclass
class State:
  """All that training changes, and all that a checkpoint holds."""

  step: jax.Array  # [] int32, completed steps
  params: Params  # network name -> parameters
  opt: dict[str, Any]  # player name -> optimizer state
  extra: dict[str, Any]  # the rest: batch statistics, averages, codebook statistics, chains

  if TYPE_CHECKING:  # the decorator defines it

    def replace(self, **changes: Any) -> 'State': ...


class System(NamedTuple):
  """A trainable generative model as pure functions of (key, state, ...)."""

  init: Callable[[Key, Batch], State]
  step: Callable[[Key, State, Batch], tuple[State, Metrics]]
  evaluate: Callable[[Key, State, Batch], Metrics]  # each metric [B]
  sample: Callable[[Key, State, int], jax.Array] | None  # [n, ...] in data space; None: it generates nothing
  views: Views = Views()


class Move(NamedTuple):
  """One transition of the state, with the optimizer memory that it needs."""

  init: Callable[[Params], dict[str, Any]]
  apply: Callable[[Key, State, Batch], tuple[State, Metrics]]


class Player(NamedTuple):
  """Minimises `loss` over the networks it owns; all others are constants to it.

  `loss(key, state, batch) -> (scalar, (extra, metrics))`, where `extra` holds the
  entries of `State.extra` that the loss has brought up to date. A `tx` that has a number
  `accumulate` (`optim.make`) wants the gradients of so many slices of the batch, averaged. One that has a function
  `norms(gradients, parameters) -> metrics` wants these logged.
  """

  loss: Callable[[Key, State, Batch], tuple[jax.Array, tuple[dict[str, Any], Metrics]]]
  tx: optax.GradientTransformation
  owns: tuple[str, ...]


def descend(**players: Player) -> Move:
  """Moves all players at once: every gradient is computed at the same old state.

  All players get the same key. Hence a computation that their losses share, such as an encoder's forward pass, runs
  once under jit. Metrics are prefixed by the player's name.

  Raises:
    ValueError: two players own one network.
  """
  owned = [name for player in players.values() for name in player.owns]
  if len(set(owned)) < len(owned):
    raise ValueError(f'players that move at once must own different networks, got {owned}')

  def init(params: Params) -> dict[str, Any]:
    return {name: player.tx.init(_pick(params, player.owns)) for name, player in players.items()}

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    new, metrics = state, {}
    for name, player in players.items():
      mine, opt, extra, out = _descend_one(player, state.opt[name], key, state, batch)
      new = new.replace(params=new.params | mine, opt=new.opt | {name: opt}, extra=new.extra | extra)
      metrics |= {f'{name}/{k}': v for k, v in out.items()}
    return new, metrics

  return Move(init, apply)


def _descend_one(player: Player, opt, key: Key, state: State, batch: Batch):
  """Computes one player's new networks, optimizer state, extras and metrics, from the old state."""
  mine = _pick(state.params, player.owns)

  def loss(own, key, batch):
    return player.loss(key, state.replace(params=state.params | own), batch)

  gradient = accumulated(jax.value_and_grad(loss, has_aux=True), getattr(player.tx, 'accumulate', 1))
  (value, (extra, metrics)), grads = gradient(mine, key, batch)
  updates, opt = player.tx.update(grads, opt, mine)
  metrics = {'loss': value} | metrics
  new: Any = optax.apply_updates(mine, updates)
  if norms := getattr(player.tx, 'norms', None):
    metrics |= norms(grads, new)
  return new, opt, extra, metrics


def accumulated(function: Callable, n: int) -> Callable:
  """Calls `function(params, key, batch) -> tree` on n slices of the batch in turn, and averages the results.

  It needs the memory of one slice. For a loss that is a mean over examples, the gradient is that of the whole batch.
  Entries of `State.extra` that a loss returns are averaged, too. Whole numbers are those of the last slice.

  Raises:
    ValueError: at trace time, if n does not divide the batch.
  """
  if n == 1:
    return function

  def add(total: jax.Array, one: jax.Array) -> jax.Array:
    return total + one / n if jnp.issubdtype(one.dtype, jnp.inexact) else one

  def call(params: Params, key: Key, batch: Batch):
    slices = jax.random.split(key, n), _slices(batch, n, f'config.accumulate={n}')
    like = jax.eval_shape(function, params, *jax.tree.map(lambda x: x[0], slices))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
    turn = lambda total, one: (jax.tree.map(add, total, function(params, *one)), None)
    return jax.lax.scan(turn, zeros, slices)[0]

  return call


def _slices(batch: Batch, n: int, who: str) -> Batch:
  """Reshapes [B, ...] to [n, B / n, ...] with a stride. A batch that is sharded over devices stays where it is."""

  def one(x: jax.Array) -> jax.Array:
    if x.shape[0] % n:
      raise ValueError(f'{who} needs a batch that {n} divides, got {x.shape[0]}')
    return x.reshape(-1, n, *x.shape[1:]).swapaxes(0, 1)

  return jax.tree.map(one, batch)


def chain(*moves: Move) -> Move:
  """Makes the moves one after another, each on the state after the one before.

  Raises:
    ValueError: two moves have a player of the same name.
  """

  def init(params: Params) -> dict[str, Any]:
    slots = [item for move in moves for item in move.init(params).items()]
    if len(dict(slots)) < len(slots):
      raise ValueError(f'players of a chain must have different names, got {[name for name, _ in slots]}')
    return dict(slots)

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    metrics = {}
    for i, move in enumerate(moves):
      state, out = move.apply(jax.random.fold_in(key, i), state, batch)
      metrics |= out
    return state, metrics

  return Move(init, apply)


def repeat(n: int, move: Move, unroll: int = 1) -> Move:
  """Makes `move` n times, each on its own n-th of the batch. Metrics are means over the n.

  With unroll = n the program has no loop. In a loop, convolutions on a CPU would be twenty times slower.

  Raises:
    ValueError: at trace time, if n does not divide the batch.
  """

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    def body(state, key_and_slice):
      return move.apply(key_and_slice[0], state, key_and_slice[1])

    turns = jax.random.split(key, n), _slices(batch, n, f'repeat({n})')
    state, metrics = jax.lax.scan(body, state, turns, unroll=unroll)
    return state, jax.tree.map(lambda m: m.mean(0), metrics)

  return move if n == 1 else Move(move.init, apply)


def turns(n: int, first: Move, other: Move) -> Move:
  """Makes `first` and then n - 1 times `other`, each on its own n-th of the batch.

  It is for work done once in n turns, such as a penalty of n times the weight. Both moves have the same players. A
  metric is the mean over the turns that have it. The turns are written out: a condition around convolutions would cost
  a CPU thirty times as much.

  Raises:
    ValueError: at trace time, if n does not divide the batch.
  """

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    keys, slices = jax.random.split(key, n), _slices(batch, n, f'turns({n})')
    measured: dict[str, list] = {}
    for turn in range(n):
      move = other if turn else first
      state, metrics = move.apply(keys[turn], state, jax.tree.map(lambda x, turn=turn: x[turn], slices))
      for name, value in metrics.items():
        measured.setdefault(name, []).append(value)
    return state, {name: jnp.stack(values).mean() for name, values in measured.items()}

  return first if n == 1 else Move(first.init, apply)


def average(name: str, decay: float, *statistics: str, start: int = 0) -> Move:
  """Keeps `extra['ema'][name]`: the exponential moving average of a network's parameters, for evaluation and samples.

  Args:
    name: the network.
    decay: factor of the old average in a step.
    statistics: the entries of `extra` with the network's batch statistics. Their averages, of the same decay, are kept
      in `extra['ema_statistics']`, because averaged weights fit averaged statistics only.
    start: the first step that averages; in those before it the average is the network itself.

  `averages` makes the initial averages.
  """

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    del key, batch
    extra = dict(state.extra)
    share = jnp.where(state.step < start, 1.0, 1 - decay) if start else 1 - decay  # of the new
    ema = optax.incremental_update(state.params[name], extra['ema'][name], share)
    extra['ema'] = extra['ema'] | {name: ema}
    kept = extra.get('ema_statistics', {})
    new = {entry: optax.incremental_update(extra[entry], kept[entry], share) for entry in statistics if entry in kept}
    return state.replace(extra=extra | ({'ema_statistics': kept | new} if new else {})), {}

  return Move(lambda params: {}, apply)


def averages(params: Params, extra: dict[str, Any], names: Sequence[str], *statistics: str) -> dict[str, Any]:
  """Starts the averages that `average` keeps: `extra` with 'ema' and, if there are statistics, 'ema_statistics'."""
  copied = lambda tree: jax.tree.map(jnp.copy, tree)  # the step may give its arguments' memory away
  beside = {entry: copied(extra[entry]) for entry in statistics if jax.tree.leaves(extra.get(entry))}
  kept = {'ema': {name: copied(params[name]) for name in names}}
  return extra | kept | ({'ema_statistics': beside} if beside else {})


def averaged(state: State) -> State:
  """Returns the state for evaluation and sampling.

  Averages, if there are any, replace the networks and their statistics.
  """
  extra = state.extra | state.extra.get('ema_statistics', {})
  return state.replace(params=state.params | state.extra.get('ema', {}), extra=extra)


def unaveraged(state: State) -> State:
  """Returns the state without its averages, to evaluate and sample the networks as trained."""
  extra = {name: part for name, part in state.extra.items() if name not in ('ema', 'ema_statistics')}
  return state.replace(extra=extra)


def _on_average(function: Any) -> Any:
  """Wraps a function so that its states are averaged. Returns anything but a function unchanged."""
  if not callable(function):
    return function

  @functools.wraps(function)
  def call(*args, **kwargs):
    return function(*(averaged(arg) if isinstance(arg, State) else arg for arg in args), **kwargs)

  return call


def system(networks: Callable, move: Move, evaluate: Callable, sample: Callable | None, **views: Any) -> System:
  """Closes a move into a System. `networks(key, batch) -> (params, extra)` makes the first state.

  If a network has an average, everything but the step uses it. `views` are those of `views.Views`, by name.

  Raises:
    TypeError: a name is not that of a view.
  """

  def init(key: Key, batch: Batch) -> State:
    params, extra = networks(key, batch)
    return State(jnp.zeros((), jnp.int32), params, move.init(params), extra)

  def step(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    state, metrics = move.apply(key, state, batch)
    return state.replace(step=state.step + 1), metrics

  return System(init, step, *jax.tree.map(_on_average, (evaluate, sample, Views(**views))))


def _pick(params: Params, names: tuple[str, ...]) -> Params:
  return {name: params[name] for name in names}
